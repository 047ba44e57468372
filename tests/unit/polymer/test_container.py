"""The container: deterministic, checked to the last byte, and signed."""

from __future__ import annotations

import datetime as dt
import itertools

import blake3
import pytest

from mycelium.base.errors import Denied, Problem, Refused
from mycelium.polymer import verbs as my
from mycelium.polymer.container import authority, pmr, signing
from mycelium.polymer.define import program
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.function import kernel, wasm
from mycelium.polymer.runtime.interpreter import interpret

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@kernel
def double(x: int) -> int:
    return 2 * x


@kernel
def add(a: int, b: int) -> int:
    return a + b


@program
def total(xs: list[int]) -> int:
    return my.reduce(add, my.map(double, xs))


@pytest.fixture(scope="module")
def packed() -> bytes:
    return pmr.pack(seal(total.module))


@pytest.fixture(scope="module")
def packed_wasm() -> bytes:
    """A container whose kernel is a module beside the text; its bytes are never looked at by the reader."""

    @kernel(wasm=wasm(b"\0asm not looked at", "negate"))
    def negate(x: int) -> int: ...  # type: ignore[empty-body]

    @program
    def negated(xs: list[int]) -> list[int]:
        return my.map(negate, xs)

    return pmr.pack(seal(negated.module))


@pytest.fixture(scope="module")
def ca() -> authority.Issued:
    return authority.create("the site", NOW)


def issued(ca: authority.Issued, kind: str = "p256", name: str = "ada", now: dt.datetime = NOW) -> authority.Issued:
    return authority.issue(ca.key_pem, ca.certificate_pem, name, now, days=30, kind=kind)


def test_the_same_source_gives_the_same_bytes(packed: bytes) -> None:
    assert pmr.pack(seal(total.module)) == packed
    assert b"pickle" not in packed


def test_a_container_runs_without_its_source(packed: bytes) -> None:
    held = pmr.read(packed)
    assert interpret(held.module, {"xs": [1, 2, 3]}) == 12
    assert held.manifest.inputs == "xs: list[int]"
    assert held.manifest.forms == ("python",)
    assert held.manifest.frames == ((1,), (2,))


def test_a_live_program_is_refused() -> None:
    with pytest.raises(Refused, match="still is a live function"):
        pmr.pack(total.module)


@pytest.mark.parametrize("kind", authority.KINDS)
def test_a_signature_of_either_kind_counts(packed: bytes, ca: authority.Issued, kind: str) -> None:
    signer = issued(ca, kind)
    signed = signing.sign(packed, signer.key_pem, signer.certificate_pem)
    (found,) = signing.verify(pmr.read(signed), [ca.certificate_pem], [], NOW)
    assert found.subject == "CN=ada"
    assert found.serial == signer.serial


def test_expired_foreign_revoked_and_unsigned_are_denied_with_the_reason(packed: bytes, ca: authority.Issued) -> None:
    signer = issued(ca)
    signed = pmr.read(signing.sign(packed, signer.key_pem, signer.certificate_pem))
    other = authority.create("another site", NOW)
    revoked = authority.revoke(ca.key_pem, ca.certificate_pem, None, [signer.serial], NOW)
    again = authority.revoke(ca.key_pem, ca.certificate_pem, revoked, ["abc"], NOW)
    forged = authority.revoke(other.key_pem, other.certificate_pem, None, [signer.serial], NOW)
    trusted = [ca.certificate_pem]
    for container, authorities, lists, now, said in (
        (pmr.read(packed), trusted, [], NOW, "not signed"),
        (signed, [], [], NOW, "no authority is given"),
        (signed, [other.certificate_pem], [], NOW, "issued by CN=the site, which is not trusted here"),
        (signed, [signer.certificate_pem], [], NOW, "which is not trusted here"),
        (signed, trusted, [], NOW + 31 * DAY, "expired on 2030-01-31"),
        (signed, trusted, [], NOW - 2 * DAY, "not valid before"),
        (signed, trusted, [revoked], NOW, "was revoked on 2030-01-01"),
        (signed, trusted, [again], NOW, "was revoked on 2030-01-01"),
    ):
        with pytest.raises(Denied, match=said):
            signing.verify(container, authorities, lists, now)
    assert signing.verify(signed, trusted, [forged], NOW), "a list of another authority says nothing"


def test_a_signature_of_other_bytes_does_not_count(packed: bytes, ca: authority.Issued) -> None:
    @program
    def other(xs: list[int]) -> list[int]:
        return my.map(double, xs)

    signer = issued(ca)
    signed = pmr.read(signing.sign(packed, signer.key_pem, signer.certificate_pem))
    moved = pmr.with_signature(pmr.pack(seal(other.module)), signed.signatures[0])
    with pytest.raises(Denied, match="the container was altered"):
        signing.verify(pmr.read(moved), [ca.certificate_pem], [], NOW)


def test_an_authority_or_a_strange_key_cannot_sign(packed: bytes, ca: authority.Issued) -> None:
    signed = pmr.read(signing.sign(packed, ca.key_pem, ca.certificate_pem))
    with pytest.raises(Denied, match=r"not for signing programs|does not say"):
        signing.verify(signed, [ca.certificate_pem], [], NOW)
    with pytest.raises(Refused, match="of another key"):
        signing.sign(packed, ca.key_pem, issued(ca).certificate_pem)
    with pytest.raises(Refused, match="cannot be read"):
        signing.sign(packed, b"no key", ca.certificate_pem)


def test_one_altered_byte_anywhere_is_refused(packed: bytes, packed_wasm: bytes) -> None:
    for original in (packed, packed_wasm):
        for at in range(len(original)):
            altered = bytearray(original)
            altered[at] ^= 1 << (at % 8)
            with pytest.raises(Refused):
                pmr.read(bytes(altered))


def sealed_again(body: bytearray) -> bytes:
    """What a forger does: the checksum is made to fit."""
    return bytes(body) + blake3.blake3(body).digest()


@pytest.mark.parametrize("kind", ["packed", "packed_wasm"])
def test_one_altered_byte_under_a_forged_checksum_is_refused_or_denied(
    kind: str, ca: authority.Issued, request: pytest.FixtureRequest
) -> None:
    signer = issued(ca)
    signed = signing.sign(request.getfixturevalue(kind), signer.key_pem, signer.certificate_pem)
    original = pmr.read(signed)
    for at, bit in itertools.product(range(len(signed) - 32), (0, 3, 7)):  # the last: no UTF-8 any more
        body = bytearray(signed[:-32])
        body[at] ^= 1 << bit
        try:
            held = pmr.read(sealed_again(body))
            signing.verify(held, [ca.certificate_pem], [], NOW)
        except Problem:
            continue
        assert held.module == original.module


@pytest.mark.parametrize("size", [0, 5, 8, 12, 40, 200])
def test_a_container_that_is_cut_short_is_refused(packed: bytes, size: int) -> None:
    with pytest.raises(Refused):
        pmr.read(packed[:size])
    with pytest.raises(Refused):
        pmr.read(sealed_again(bytearray(packed[:size])))


def test_hostile_lengths_are_refused(packed: bytes) -> None:
    for size in (0, 1, 1 << 31, (1 << 32) - 1):
        body = bytearray(packed[:-32])
        body[8:12] = size.to_bytes(4, "big")
        with pytest.raises(Refused, match="the container"):
            pmr.read(sealed_again(body))


def test_names_and_lifetimes_of_certificates_are_bounded(ca: authority.Issued) -> None:
    with pytest.raises(Refused, match="1 to 64 characters"):
        authority.create("x" * 65, NOW)
    with pytest.raises(Refused, match="for 0 days"):
        authority.issue(ca.key_pem, ca.certificate_pem, "ada", NOW, days=0)
    with pytest.raises(Refused, match="is not a serial number"):
        authority.revoke(ca.key_pem, ca.certificate_pem, None, ["zz"], NOW)
