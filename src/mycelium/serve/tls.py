"""The site's own certificate authority: it signs the head's certificate and those of the machines that are let in.

Everything lies in `$MYC_HOME/tls`, 0600. Certificates name IP addresses, because that is how machines reach each other.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mycelium.base import files
from mycelium.base.errors import Refused
from mycelium.base.home import TlsFiles

CA_DAYS, CERTIFICATE_DAYS = 3650, 365  # a certificate is made anew at every start
BEFORE = datetime.timedelta(days=1)  # machines' clocks differ


class Authority:
    """The CA in these files, which is made when it is not there."""

    def __init__(self, tls: TlsFiles) -> None:
        self.files = tls
        tls.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not tls.ca.exists():
            _make_ca(tls)
        self._ca = x509.load_pem_x509_certificate(tls.ca.read_bytes())
        key = serialization.load_pem_private_key(tls.ca_key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self._key = key

    @property
    def pem(self) -> str:
        return self.files.ca.read_text()

    def sign(self, request: str, address: str) -> str:
        """A certificate for who has the key of this request, at this address. Errors: `Refused`."""
        public = check_request(request, address)
        names = [x509.IPAddress(ipaddress.ip_address(each)) for each in dict.fromkeys((address, "127.0.0.1"))]
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(address))
            .issuer_name(self._ca.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BEFORE)
            .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )

    def own(self, address: str) -> tuple[Path, Path]:
        """The head's certificate and key, for this address."""
        certificate, key = self.files.site, self.files.site_key
        files.write(certificate, self.sign(request(key, address), address))
        return certificate, key

    def for_uvicorn(self, address: str) -> dict[str, Any]:
        certificate, key = self.own(address)
        return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def check_request(request: str, address: str) -> Any:
    """The public key that a certificate at this address is asked for. Errors: `Refused`."""
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        if not asked.is_signature_valid:
            raise Refused("the certificate request is not signed by its key")
        ipaddress.ip_address(address)
        return asked.public_key()
    except (ValueError, InvalidSignature) as error:
        raise Refused(f"the certificate request cannot be used: {error}") from None


def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def request(key_path: Path, name: str) -> str:
    """A certificate request for the key in `key_path`, which is made when it is not there."""
    if key_path.exists():
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
    else:
        key = _new_key(key_path)
    made = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _make_ca(tls: TlsFiles) -> None:
    key = _new_key(tls.ca_key)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name("Mycelium site"))
        .issuer_name(_name("Mycelium site"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + datetime.timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files.write(tls.ca, made.public_bytes(serialization.Encoding.PEM), durable=True)


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    # PKCS#8, because Ray's gRPC reads no other form.
    form = serialization.PrivateFormat.PKCS8
    files.write(path, key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()), durable=True)
    return key


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
