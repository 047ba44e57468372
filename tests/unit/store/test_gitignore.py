"""Rules of one `.gitignore`. That whole directories come out as Git would have them is tried in tests/live."""

from __future__ import annotations

import pytest

from mycelium.store.gitignore import Gitignore


@pytest.mark.parametrize(
    ("line", "path", "matches"),
    [
        ("*.o", "main.o", True),
        ("*.o", "deep/down/main.o", True),
        ("*.o", "main.oo", False),
        ("/a", "a", True),
        ("/a", "b/a", False),
        ("a/b", "a/b", True),
        ("a/b", "c/a/b", False),
        ("a/*", "a/b", True),
        ("a/*", "a/b/c", False),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("**/b", "b", True),
        ("**/b", "a/c/b", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**b", "a/xb", True),
        ("a/**b", "a/x/b", False),
        ("a?c", "abc", True),
        ("/a?c", "a/c", False),
        ("[a-c]", "b", True),
        ("[!a-c]", "b", False),
        ("[^a-c]", "d", True),
        ("[]]", "]", True),
        ("[a", "[a", False),
        ("/x[!b]y", "x/y", False),
        ("[[:digit:]]", "7", True),
        (r"\#x", "#x", True),
        (r"\!x", "!x", True),
        ("#x", "#x", False),
        ("x   ", "x", True),
        ("x\\ ", "x ", True),
        ("x\r", "x", True),
        ("x.y", "xzy", False),
    ],
)
def test_a_rule_matches_as_git_has_it(line: str, path: str, matches: bool):
    assert Gitignore([line]).ignores(path, is_directory=False) is (True if matches else None)


def test_the_last_rule_that_matches_decides():
    rules = Gitignore(["*.log", "!keep.log", "/keep.log"])
    assert rules.ignores("a.log", is_directory=False) is True
    assert rules.ignores("sub/keep.log", is_directory=False) is False
    assert rules.ignores("keep.log", is_directory=False) is True
    assert rules.ignores("a.txt", is_directory=False) is None


def test_a_slash_at_the_end_means_directories():
    assert Gitignore(["a/"]).ignores("a", is_directory=True) is True
    assert Gitignore(["a/"]).ignores("a", is_directory=False) is None


def test_a_rule_for_a_directory_does_not_speak_for_what_is_in_it():
    assert Gitignore(["!*/"]).ignores("a/b", is_directory=False) is None
