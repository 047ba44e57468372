"""Laws of the text form: parse(write(p)) == p for any program, and no text, however broken, does more than refuse."""

from __future__ import annotations

import os
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mycelium.base.errors import Problem
from mycelium.polymer.compiler.check import check
from mycelium.polymer.compiler.compile import names, optimise
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.program.text import parse, write
from tests.property.polymer_programs import random_program

PROGRAMS = int(os.environ.get("POLYMER_PROGRAMS", "40"))
MANY = settings(max_examples=PROGRAMS, deadline=None)


@MANY
@given(seed=st.integers(0, 1 << 30), off=st.sets(st.sampled_from(names())))
def test_what_is_written_reads_back(seed: int, off: set[str]) -> None:
    module = optimise(seal(random_program(seed)), off)
    shown = write(module)
    back = parse(shown.text, shown.bodies)
    assert back == module
    assert write(back).text == shown.text


@MANY
@given(seed=st.integers(0, 1 << 30), chance=st.randoms(use_true_random=False))
def test_broken_text_is_refused_or_still_a_program(seed: int, chance: random.Random) -> None:
    shown = write(seal(random_program(seed, 4)))
    text = list(shown.text)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(text))
        match chance.randrange(3):
            case 0:
                del text[at : at + chance.randrange(1, 20)]
            case 1:
                text[at] = chr(chance.choice([0, 10, 34, 37, 40, 58, 91, 125, 233, 0x1F600]))
            case _:
                text.insert(at, chance.choice(["[", "(", "%9", "list", "9" * 20, "\n", "}", "\\", '"']))
    try:
        check(parse("".join(text), shown.bodies))
    except Problem:
        return
