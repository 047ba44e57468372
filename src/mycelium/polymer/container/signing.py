"""Signatures of containers: X.509 certificates, ECDSA P-256 or Ed25519 over the manifest, which names all digests.

A signature counts when it is of these bytes, by a certificate that the given authority issued for signing code, that
is valid now and that is not revoked. Never: reads a clock or a file; now and the authority come in as arguments.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from msgspec import Struct

from mycelium.base.errors import Denied, Refused
from mycelium.polymer.container.pmr import Container, ManifestSignature, read, with_signature

_DOMAIN = b"polymer container manifest 1\n"  # so that a signature can never stand for another kind of document
CHAIN_MAX = 4


class Signer(Struct, frozen=True):
    """Whose valid signature a container carries."""

    subject: str
    serial: str
    issuer: str
    not_after: str


def sign(data: bytes, key_pem: bytes, chain_pem: bytes) -> bytes:
    """The container with a signature by this key. Errors: `Refused` when key and certificate do not belong together."""
    held = read(data)
    try:
        key = serialization.load_pem_private_key(key_pem, None)
        chain = x509.load_pem_x509_certificates(chain_pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Refused(
            f"the key or certificate cannot be read: {error!s:.200}", hint="give unencrypted PEM files"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise Refused(
            f"keys of kind {type(key).__name__} do not sign", hint="use ECDSA P-256 or Ed25519: `myc ca issue`"
        )
    if _public(key) != _public(chain[0]):
        raise Refused("the certificate is of another key")
    message = _DOMAIN + held.manifest_bytes
    if isinstance(key, ed25519.Ed25519PrivateKey):
        value = key.sign(message)
    else:
        _curve(key.curve)
        value = key.sign(message, ec.ECDSA(hashes.SHA256()))
    pems = tuple(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain[:CHAIN_MAX])
    return with_signature(data, ManifestSignature(pems, base64.b64encode(value).decode()))


def _public(of: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | x509.Certificate) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return of.public_key().public_bytes(serialization.Encoding.DER, form)


def _curve(curve: ec.EllipticCurve) -> None:
    if not isinstance(curve, ec.SECP256R1):
        raise Refused(f"keys on curve {curve.name} do not sign", hint="use P-256 or Ed25519")


def verify(
    container: Container, authorities_pem: Sequence[bytes], revoked_pem: Sequence[bytes], now: dt.datetime
) -> tuple[Signer, ...]:
    """Everybody whose signature counts. Errors: `Denied` with the reason of each signature, when none counts."""
    if not container.signatures:
        raise Denied("the container is not signed", hint="sign it with `myc polymer sign`")
    authorities = [authority for pem in authorities_pem for authority in _certificates(pem)]
    if not authorities:
        raise Denied("no authority is given to check the signatures against", hint="make one with `myc ca init`")
    revoked = [_revocations(pem) for pem in revoked_pem]
    signers: list[Signer] = []
    reasons: list[str] = []
    for number, signature in enumerate(container.signatures, 1):
        try:
            signers.append(_signer(container, signature, authorities, revoked, now))
        except Denied as denied:
            reasons.append(f"signature {number}: {denied.message}")
        except (ValueError, TypeError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm):
            reasons.append(f"signature {number}: its certificate is malformed")
    if not signers:
        raise Denied("; ".join(reasons))
    return tuple(signers)


def _certificates(pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise Refused(f"the authority's certificate cannot be read: {error!s:.200}") from None


def _revocations(pem: bytes) -> x509.CertificateRevocationList:
    try:
        return x509.load_pem_x509_crl(pem)
    except ValueError as error:
        raise Refused(f"the list of revoked certificates cannot be read: {error!s:.200}") from None


def _signer(
    container: Container,
    signature: ManifestSignature,
    authorities: list[x509.Certificate],
    revoked: list[x509.CertificateRevocationList],
    now: dt.datetime,
) -> Signer:
    if not 1 <= len(signature.chain) <= CHAIN_MAX:
        raise Denied(f"it carries {len(signature.chain)} certificates")
    try:
        leaf = x509.load_pem_x509_certificate(signature.chain[0].encode())
        value = base64.b64decode(signature.value, validate=True)
    except ValueError:
        raise Denied("its certificate or its value cannot be read") from None
    subject = leaf.subject.rfc4514_string()
    issuer = _issuer(leaf, authorities, subject)
    for certificate, whose in ((issuer, "its authority's certificate"), (leaf, f"the certificate of {subject}")):
        if now < certificate.not_valid_before_utc:
            raise Denied(f"{whose} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}")
        if now > certificate.not_valid_after_utc:
            raise Denied(f"{whose} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M}")
    _may_sign(leaf, subject)
    _not_revoked(leaf, issuer, revoked, now, subject)
    if not _fits(leaf, value, _DOMAIN + container.manifest_bytes):
        raise Denied(f"it is not {subject}'s signature of this container: the container was altered")
    not_after = f"{leaf.not_valid_after_utc:%Y-%m-%d}"
    return Signer(subject, f"{leaf.serial_number:x}", issuer.subject.rfc4514_string(), not_after)


def _issuer(leaf: x509.Certificate, authorities: list[x509.Certificate], subject: str) -> x509.Certificate:
    for authority in authorities:
        try:
            limits = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
            leaf.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
            continue
        if limits.ca:
            return authority
    raise Denied(
        f"the certificate of {subject} was issued by {leaf.issuer.rfc4514_string()}, which is not trusted here"
    )


def _may_sign(leaf: x509.Certificate, subject: str) -> None:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        limits = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise Denied(f"the certificate of {subject} does not say that it is for signing programs") from None
    if x509.oid.ExtendedKeyUsageOID.CODE_SIGNING not in usage or limits.ca:
        raise Denied(f"the certificate of {subject} is not for signing programs")


def _not_revoked(
    leaf: x509.Certificate,
    issuer: x509.Certificate,
    revoked: list[x509.CertificateRevocationList],
    now: dt.datetime,
    subject: str,
) -> None:
    key = issuer.public_key()
    for listed in revoked:
        if listed.issuer != issuer.subject:
            continue
        if not isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) or not listed.is_signature_valid(
            key
        ):
            raise Denied("the list of revoked certificates is not signed by its authority")
        if listed.next_update_utc is not None and now > listed.next_update_utc:
            raise Denied(
                f"the list of revoked certificates is out of date since {listed.next_update_utc:%Y-%m-%d %H:%M}"
            )
        entry = listed.get_revoked_certificate_by_serial_number(leaf.serial_number)
        if entry is not None:
            raise Denied(f"the certificate of {subject} was revoked on {entry.revocation_date_utc:%Y-%m-%d %H:%M}")


def _fits(leaf: x509.Certificate, value: bytes, message: bytes) -> bool:
    key = leaf.public_key()
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(value, message)
        elif isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            key.verify(value, message, ec.ECDSA(hashes.SHA256()))
        else:
            raise Denied("its key is of a kind that does not sign here")
    except InvalidSignature:
        return False
    return True
