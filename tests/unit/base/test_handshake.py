"""Who knows the key is let in, and shown that the door knows it; whatever else is tried, nobody is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mycelium.base import handshake, limits
from mycelium.base.errors import Denied, Problem, Refused
from mycelium.base.handshake import FRESH_BYTES, PROOF_BYTES, Handshake, Session, answer, knock

KEY = b"k" * 64
DOOR = b"door"
ONE, TWO, THREE = (bytes([number]) * FRESH_BYTES for number in (1, 2, 3))


class End:
    """One side, as a script moves it: what it says, and what it is given to read."""

    def __init__(self, steps: Handshake) -> None:
        self._steps = steps
        self.said = b""
        self.session: Session | None = None
        self.reads_bytes = 0
        self._waiting = b""
        self._go(lambda: next(steps))

    def _go(self, move: Callable[[], bytes | int]) -> None:
        try:
            step = move()
            while isinstance(step, bytes):
                self.said += step
                step = next(self._steps)
            self.reads_bytes = step
        except StopIteration as done:
            self.session = done.value
            self.reads_bytes = 0

    def hear(self, data: bytes) -> None:
        self._waiting += data
        while 0 < self.reads_bytes <= len(self._waiting):
            piece, self._waiting = self._waiting[: self.reads_bytes], self._waiting[self.reads_bytes :]
            self._go(lambda piece=piece: self._steps.send(piece))


def talk(first: End, second: End, *, change: Callable[[bytes], bytes] = bytes) -> list[bytes]:
    """Until neither says anything; what was said, in turns. `change` alters what the second is told."""
    turns: list[bytes] = []
    heard = {first: 0, second: 0}
    speaker, listener = first, second
    while len(speaker.said) > heard[speaker]:
        turns.append(speaker.said[heard[speaker] :])
        heard[speaker] = len(speaker.said)
        listener.hear(change(turns[-1]) if listener is second else turns[-1])
        speaker, listener = listener, speaker
    return turns


def test_the_right_key_lets_in_and_both_ends_have_the_same_session() -> None:
    guest, door = End(knock(KEY, DOOR, ONE, b"a step")), End(answer(KEY, DOOR, TWO))
    turns = talk(guest, door)
    assert guest.session is not None
    assert door.session is not None
    assert door.session.asked == b"a step"
    assert (guest.session.key_out, guest.session.key_in) == (door.session.key_in, door.session.key_out)
    assert guest.session.key_out != guest.session.key_in
    assert len(turns) == 3
    said = b"".join(turns)
    assert KEY not in said
    assert guest.session.key_out not in said
    assert guest.session.key_in not in said


def test_another_connection_has_other_keys() -> None:
    keys: set[bytes] = set()
    for fresh in (TWO, THREE):
        guest = End(knock(KEY, DOOR, ONE))
        talk(guest, End(answer(KEY, DOOR, fresh)))
        assert guest.session is not None
        keys |= {guest.session.key_out, guest.session.key_in}
    assert len(keys) == 4


@pytest.mark.parametrize(
    ("key", "purpose"),
    [(b"k" * 63 + b"l", DOOR), (b"", DOOR), (KEY, b"another door"), (KEY, b"")],
    ids=["another key", "no key", "another purpose", "no purpose"],
)
def test_another_key_or_purpose_is_seen_by_who_knocks(key: bytes, purpose: bytes) -> None:
    with pytest.raises(Denied):
        talk(End(knock(key, purpose, ONE)), End(answer(KEY, DOOR, TWO)))


@pytest.mark.parametrize(
    ("key", "purpose", "asked"),
    [(b"another machine's", DOOR, b"x"), (KEY, b"another door", b"x"), (KEY, DOOR, b"y"), (KEY, DOOR, b"")],
    ids=["another machine's key", "another purpose", "another thing asked for", "nothing asked for"],
)
def test_a_proof_that_was_made_for_something_else_is_seen_by_the_door(key: bytes, purpose: bytes, asked: bytes) -> None:
    elsewhere = End(knock(key, purpose, ONE, asked))
    talk(elsewhere, End(answer(key, purpose, TWO)))
    here = End(answer(KEY, DOOR, TWO))  # even if it should use the same number again
    here.hear(End(knock(KEY, DOOR, ONE, b"x")).said)
    with pytest.raises(Denied):
        here.hear(elsewhere.said[-PROOF_BYTES:])


def test_a_door_without_a_key_lets_nobody_in() -> None:
    with pytest.raises(Denied, match="no key is known"):
        talk(End(knock(KEY, DOOR, ONE)), End(answer(b"", DOOR, TWO)))


def test_a_recorded_dialogue_is_worth_nothing_at_either_end() -> None:
    guest = End(knock(KEY, DOOR, ONE))
    hello, said, proof = talk(guest, End(answer(KEY, DOOR, TWO)))
    door = End(answer(KEY, DOOR, THREE))
    door.hear(hello)
    with pytest.raises(Denied):
        door.hear(proof)
    with pytest.raises(Denied):
        End(knock(KEY, DOOR, THREE)).hear(said)


def test_what_an_end_has_said_does_not_convince_it_when_it_comes_back() -> None:
    door = End(answer(KEY, DOOR, TWO))
    door.hear(End(knock(b"unknown", DOOR, TWO)).said)  # with the door's own number
    with pytest.raises(Denied):
        door.hear(door.said[FRESH_BYTES:])
    guest = End(knock(KEY, DOOR, ONE))
    with pytest.raises(Denied):
        guest.hear(guest.said[4 : 4 + FRESH_BYTES] + bytes(PROOF_BYTES))


def test_the_answer_of_another_door_with_the_key_is_not_a_proof_of_who_knocks() -> None:
    """Somebody in the middle has the door's challenge answered by another door."""
    door = End(answer(KEY, DOOR, TWO))
    door.hear(End(knock(b"unknown", DOOR, ONE)).said)
    other = End(answer(KEY, DOOR, ONE))
    other.hear(End(knock(b"unknown", DOOR, TWO)).said)
    with pytest.raises(Denied):
        door.hear(other.said[FRESH_BYTES:])


@pytest.mark.parametrize("at", range(38 + 6))
def test_a_hello_of_which_one_byte_was_altered_leads_to_no_session(at: int) -> None:
    guest, door = End(knock(KEY, DOOR, ONE, b"a step")), End(answer(KEY, DOOR, TWO))

    def change(data: bytes) -> bytes:
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] if len(data) > PROOF_BYTES else data

    try:
        talk(guest, door, change=change)
    except Problem:
        return
    assert door.session is None, "it waits for more"
    assert guest.session is None


def test_a_dialogue_that_is_cut_off_anywhere_lets_nobody_in() -> None:
    turns = talk(End(knock(KEY, DOOR, ONE, b"x")), End(answer(KEY, DOOR, TWO)))
    whole = turns[0] + turns[2]
    for size in range(len(whole)):
        door = End(answer(KEY, DOOR, TWO))
        door.hear(whole[:size])
        assert door.session is None
    door = End(answer(KEY, DOOR, TWO))
    door.hear(whole)
    assert door.session is not None


def test_what_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(Refused, match="1025 bytes"):
        End(knock(KEY, DOOR, ONE, b"x" * 1025))
    with pytest.raises(Refused, match="65535 bytes"):
        End(answer(KEY, DOOR, TWO)).hear(b"myc\x01" + ONE + b"\xff\xff")


def test_another_version_and_another_protocol_are_refused_by_name() -> None:
    hello = End(knock(KEY, DOOR, ONE)).said
    with pytest.raises(Refused, match=f"version 9 of the handshake; here it is {handshake.VERSION}"):
        End(answer(KEY, DOOR, TWO)).hear(hello[:3] + b"\x09" + hello[4:])
    with pytest.raises(Refused, match="not the hello"):
        End(answer(KEY, DOOR, TWO)).hear(b"GET / HTTP/1.1\r\nhost: somewhere.example\r\n\r\n")


def test_a_stranger_is_read_no_more_than_4_kib() -> None:
    most = End(knock(KEY, DOOR, ONE, b"x" * limits.HANDSHAKE_ASKED_BYTES_MAX))
    talk(most, End(answer(KEY, DOOR, TWO)))
    assert len(most.said) <= 4096
