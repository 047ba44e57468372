"""A site's own certificate authority: makes itself, issues certificates for signing programs, takes them back.

Never: reads a clock or a file; now comes in as an argument, keys and certificates go in and out as PEM.
"""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.base.limits import NAME_LENGTH_MAX

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

KINDS = ("p256", "ed25519")
AUTHORITY_DAYS = 3_650
SIGNER_DAYS = 365
SIGNER_DAYS_MAX = 3_650
LIST_DAYS = 3_650  # the list is a local file that every revocation writes anew, so that its age says nothing
_SKEW = dt.timedelta(minutes=5)  # clocks of a small site are not set to the second


class Issued(Struct, frozen=True):
    key_pem: bytes
    certificate_pem: bytes
    serial: str


def _new_key(kind: str) -> Key:
    if kind not in KINDS:
        raise Refused(f"there is no kind of key {kind!r}", hint=f"the kinds are {', '.join(KINDS)}")
    return ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else ed25519.Ed25519PrivateKey.generate()


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _hash(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _name(text: str) -> x509.Name:
    if not text.strip() or len(text) > min(64, NAME_LENGTH_MAX):  # X.509 bounds a common name at 64
        raise Refused(f"a name has 1 to 64 characters, this one {len(text)}")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _usage(*, signs: bool, issues: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=issues,
        crl_sign=issues,
        encipher_only=False,
        decipher_only=False,
    )


def create(name: str, now: dt.datetime, kind: str = "p256") -> Issued:
    """A new authority."""
    key = _new_key(kind)
    serial = x509.random_serial_number()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(name))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + dt.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=False, issues=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _hash(key))
    )
    return Issued(_key_pem(key), certificate.public_bytes(serialization.Encoding.PEM), f"{serial:x}")


def _authority(key_pem: bytes, certificate_pem: bytes) -> tuple[Key, x509.Certificate]:
    try:
        key = serialization.load_pem_private_key(key_pem, None)
        certificate = x509.load_pem_x509_certificate(certificate_pem)
    except (ValueError, TypeError) as error:
        raise Refused(f"the authority's key or certificate cannot be read: {error!s:.200}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise Refused("the authority's key is of a kind that does not sign")
    return key, certificate


def issue(
    key_pem: bytes, certificate_pem: bytes, name: str, now: dt.datetime, *, days: int = SIGNER_DAYS, kind: str = "p256"
) -> Issued:
    """A key and a certificate for one who signs programs."""
    if not 1 <= days <= SIGNER_DAYS_MAX:
        raise Refused(f"a certificate for {days} days; 1 to {SIGNER_DAYS_MAX}")
    authority, own = _authority(key_pem, certificate_pem)
    key = _new_key(kind)
    serial = x509.random_serial_number()
    until = min(now + dt.timedelta(days=days), own.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(own.subject)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(now - _SKEW)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=True, issues=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=True)
        .sign(authority, _hash(authority))
    )
    return Issued(_key_pem(key), certificate.public_bytes(serialization.Encoding.PEM), f"{serial:x}")


def revoke(
    key_pem: bytes, certificate_pem: bytes, listed_pem: bytes | None, serials: list[str], now: dt.datetime
) -> bytes:
    """The list of revoked certificates with these added, as PEM. Errors: `Refused` for what is no serial number."""
    authority, own = _authority(key_pem, certificate_pem)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(own.subject)
        .last_update(now)
        .next_update(now + dt.timedelta(days=LIST_DAYS))
    )
    known: dict[int, dt.datetime] = {}
    if listed_pem is not None:
        for entry in x509.load_pem_x509_crl(listed_pem):
            known[entry.serial_number] = entry.revocation_date_utc
    for serial in serials:
        try:
            number = int(serial, 16)
        except ValueError:
            raise Refused(f"{serial:.40} is not a serial number", hint="`myc ca issue` printed it") from None
        if not 0 < number < 1 << 160:
            raise Refused(f"{serial:.40} is not a serial number")
        known.setdefault(number, now)
    for number, when in sorted(known.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority, _hash(authority)).public_bytes(serialization.Encoding.PEM)


def revoked(listed_pem: bytes) -> set[str]:
    """The serial numbers on a list of revoked certificates."""
    return {f"{entry.serial_number:x}" for entry in x509.load_pem_x509_crl(listed_pem)}


def described(certificate_pem: bytes) -> dict[str, str]:
    """Serial number, whose it is and until when."""
    held = x509.load_pem_x509_certificate(certificate_pem)
    return {
        "serial": f"{held.serial_number:x}",
        "name": held.subject.rfc4514_string(),
        "until": held.not_valid_after_utc.isoformat(timespec="seconds"),
    }
