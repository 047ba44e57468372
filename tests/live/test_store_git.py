"""What stays behind is what Git itself ignores: random repositories, compared with `git ls-files`."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from mycelium.store.scan import scan
from mycelium.store.tree import EntryKind

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

WORDS = "a b build data x.log y.log keep.log main.c main.o .env öl #x !x [z] a-b a9 Z"
NAMES = [*WORDS.split(), "a b", "ab\\c"]
RULES = r"""
*.log !keep.log build build/ /build /a a/ /a/b a/b **/b a/** a/**/b **/data/ data/* !data/keep.log * !*/ !*.c main.?
main.[oc] main.[!o] main.[^c] [ab] [a-c] [b-a] [ab [!] []a] [a-] [[:alpha:]] [[:upper:]]* [[:nonsense:]] *[[:digit:]]
!a !/a/ !a/b/ \#x \!x #x !x / ! // ? /* !/data x.log/ .env \[z\] [z] /*/b a/*/ ** **/ /** a** **a a/**b !**/ \ a\
/**/b **/**/b ***/b a*b a?b ab\\c /./a a//b !build/** [\a]
"""
PATTERNS = [*RULES.split(), "a\\ b", "a b", "b   ", "b\\  ", "", " a", "# comment", "build\r"]
HERMETIC = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


def grow(at: Path, chance: random.Random, depth: int) -> None:
    at.mkdir(exist_ok=True)
    for name in chance.sample(NAMES, chance.randint(2, 6)):
        if depth and chance.random() < 0.5:
            grow(at / name, chance, depth - 1)
        else:
            (at / name).write_text("")
    if chance.random() < 0.5:
        patterns = chance.choices(PATTERNS, k=chance.randint(1, 5))
        (at / ".gitignore").write_text("\n".join(patterns) + chance.choice(["", "\n"]))


def git_takes(repository: Path, below: Path) -> set[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=below,
        env={"PATH": os.environ["PATH"], "HOME": str(repository), **HERMETIC},
        capture_output=True,
        check=True,
    )
    return {path for path in listed.stdout.decode().split("\0") if path}


@pytest.mark.parametrize("seed", range(8))
def test_a_scan_takes_what_git_would_take(tmp_path: Path, seed: int):
    for number in range(8):
        chance = random.Random(seed * 1000 + number)
        root = tmp_path / str(number)
        grow(root, chance, 3)
        subprocess.run(["git", "init", "-q"], cwd=root, env={"PATH": os.environ["PATH"], **HERMETIC}, check=True)
        taken = {entry.path for entry in scan(root).tree.entries if entry.kind is not EntryKind.DIR}
        assert taken == git_takes(root, root), f"seed {seed}, repository {number}"
