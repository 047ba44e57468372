"""The documents are held against the code: what they show can be typed, what they link to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from mycelium.cli.main import build
from mycelium.cli.reference import VARIABLES, page

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
SHELL = re.compile(r"```(?:console|sh)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)?(?:#([^)\s]+))?\)")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def commands() -> list[tuple[str, str]]:
    """Every line of a shell block that calls `myc`."""
    found: list[tuple[str, str]] = []
    for path in PAGES:
        for block in SHELL.findall(path.read_text()):
            lines = [line.removeprefix("$ ") for line in block.splitlines()]
            found += [(name(path), line) for line in lines if line.startswith("myc ") and "completion" not in line]
    return found


def test_the_reference_is_what_the_code_says():
    written = (ROOT / "docs/reference.md").read_text()
    assert written == page(), "python -m mycelium.cli.reference > docs/reference.md"


def test_the_variables_are_those_that_a_step_gets():
    code = (ROOT / "src/mycelium/head/steps.py").read_text()
    assert set(re.findall(r'"(MYC_[A-Z_]+)"', code)) == set(VARIABLES)


def words_of(line: str) -> list[str]:
    """The words of the first command of a line."""
    reader = shlex.shlex(line.replace('"$job"', "job-1"), posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    words = list(reader)[1:]
    return words[: next((at for at, word in enumerate(words) if word in ("|", "&&")), None)]


@pytest.mark.parametrize(("where", "line"), commands())
def test_what_the_documents_show_can_be_typed(where: str, line: str):
    words = words_of(line)
    context = build().make_context("myc", words)
    while rest := [*context._protected_args, *context.args] if hasattr(context.command, "resolve_command") else []:
        word, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(word, rest, parent=context)
    assert context.command.name != "myc" or words == ["--help"], where


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_what_the_documents_link_to_is_there(path: Path):
    for target, anchor in LINK.findall(path.read_text()):
        if target.startswith(("http:", "https:")):
            continue
        goal = (path.parent / target).resolve() if target else path
        assert goal.exists(), target
        if anchor:
            assert anchor in anchors(goal), f"{target}#{anchor}"


def anchors(path: Path) -> set[str]:
    """How forges name headings."""
    heads = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
