from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from mycelium.cli.commands import ALIASES, COMMANDS, GROUPS, HEADINGS, Command
from mycelium.cli.lazy import load
from mycelium.cli.main import build, run
from mycelium.jobs.keys import KEYS

WITHOUT_RESULT = {"join", "leave"}  # they are a node's stay at a site, and its end
NOT_IN_A_JOB = {"detach", "dry_run", "json", "help"}  # options of `myc run` that say how to run it, not what


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there_and_explains_itself(name: str):
    command = load(COMMANDS[name])
    assert command.help
    assert all(param.help for param in command.params if param.name != "help" and param.param_type_name == "option")


def leaves(command: Any) -> list[Any]:
    below = getattr(command, "commands", None)
    return [leaf for one in below.values() for leaf in leaves(one)] if below else [command]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT_RESULT])
def test_every_command_that_prints_takes_json(name: str):
    for leaf in leaves(load(COMMANDS[name])):
        assert "json" in {param.name for param in leaf.params}, leaf.name


def test_an_app_of_its_own_is_mounted_like_a_command(monkeypatch: pytest.MonkeyPatch):
    app = typer.Typer(help="Things of another kind.")
    seen: list[int] = []

    @app.command()
    def one(number: int) -> None:
        seen.append(number)

    @app.command()
    def two() -> None: ...

    monkeypatch.setitem(sys.modules, "mycelium.cli.trial", SimpleNamespace(app=app))  # type: ignore[arg-type]
    monkeypatch.setitem(COMMANDS, "trial", Command("mycelium.cli.trial:app", "Trials", "things of another kind"))
    assert run(["trial", "one", "7"]) == 0
    assert seen == [7]
    assert run(["trial", "one", "seven"]) == 2


def test_the_table_is_sound():
    assert {command.heading for command in COMMANDS.values()} == set(HEADINGS)
    assert {name.split()[0] for name in COMMANDS if " " in name} == set(GROUPS)


@pytest.mark.parametrize("old", ALIASES)
def test_an_old_word_leads_to_the_new_one_and_is_not_shown(old: str, capsys: pytest.CaptureFixture[str]):
    *inside, word = old.split()
    assert run([*inside, word, "--help"]) == 0
    assert f"Usage: myc {ALIASES[old]}" in capsys.readouterr().out
    assert run([*inside, "--help"]) == 0
    assert not re.search(rf"^ +{word} ", capsys.readouterr().out, re.MULTILINE)
    assert old not in {*COMMANDS, *GROUPS}


def test_what_is_below_an_old_word_is_reached_too(capsys: pytest.CaptureFixture[str]):
    assert run(["models", "top", "--help"]) == 0
    assert "Usage: myc deployment top" in capsys.readouterr().out


def test_an_alias_stays_in_its_group():
    assert all(old.split()[:-1] == new.split()[:-1] for old, new in ALIASES.items())


def test_the_options_of_run_are_the_keys_of_a_job():
    options = {param.name for param in load(COMMANDS["run"]).params}
    assert options - NOT_IN_A_JOB == set(KEYS) - {"program", "input"}  # those are for `myc polymer run --site`


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]):
    assert run([*name.split(), "--help"]) == 0
    assert f"Usage: myc {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["joobs"], "Did you mean 'jobs'"),
        (["node", "drian"], "Did you mean 'drain'"),
        (["jobs", "--al"], "no such option: --al"),
        (["run"], "missing argument 'COMMAND...'"),
        (["why"], "missing argument 'JOB'"),
        (["why", "banana"], "'banana' is not a job or a task"),
        (["up", "--nodes", "x"], "invalid value for '--nodes'"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_a_hint(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert run(words) == 2
    caught = capsys.readouterr()
    assert said in caught.err
    assert caught.out == ""
    assert "Traceback" not in caught.err


def test_with_json_an_error_is_exactly_one_document(capsys: pytest.CaptureFixture[str]):
    assert run(["jobs", "--json"]) == 7
    assert json.loads(capsys.readouterr().out)["error"]["kind"] == "unavailable"


def test_the_words_after_the_command_are_its_own():
    command = load(COMMANDS["run"])
    context = command.make_context("run", ["--cpus", "2", "echo", "--json", "--cpus"])
    assert context.params["command"] == ["echo", "--json", "--cpus"]
    assert not context.params["json"]


def test_the_tree_can_be_built_without_loading_a_command():
    assert set(build().list_commands(None)) == {name.split()[0] for name in COMMANDS}
