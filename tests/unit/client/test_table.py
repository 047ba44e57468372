"""Every setting means the same in config.toml, as a variable and as a flag, and is refused in the same words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import fields

from mycelium.base.errors import Refused
from mycelium.cli.commands import COMMANDS
from mycelium.cli.flags import takes_settings
from mycelium.cli.lazy import load
from mycelium.cli.main import build, run
from mycelium.cli.reference import VARIABLES, page
from mycelium.client import settings
from mycelium.client.table import SETTINGS, TEXT, TRUTHS, Setting, of_command
from mycelium.head.settings import SiteSettings
from tests.unit.client.test_settings import configure

GOOD = [(one, word) for one in SETTINGS.values() for word in (TRUTHS if one.kind.switch else ("2",))]
WRONG = [
    (one, word)
    for one in SETTINGS.values()
    for word in (("maybe", "2", "truee") if one.kind.switch else ("many", "1.5", "-1", "9" * 30))
    if one.kind is not TEXT
]


def names(value: Any) -> str | None:
    return value.name if isinstance(value, Setting) else None


def as_flag(setting: Setting, *words: str) -> dict[str, Any]:
    """What each command that has the setting as a flag makes of these words."""
    read: dict[str, Any] = {}
    for command in setting.flag_of:
        found = load(COMMANDS[command]) if command else build()
        rest = ["HOST:1"] if command == "join" else [] if command else ["status"]
        read[command] = found.make_context(command or "myc", [*words, *rest]).params[setting.name]
    return read


def refusal(ask: Any) -> str:
    with pytest.raises((Refused, typer.BadParameter)) as caught:
        ask()
    return getattr(caught.value, "message", str(caught.value))


@pytest.mark.parametrize(("setting", "word"), GOOD, ids=names)
def test_a_word_means_the_same_wherever_it_is_said(
    setting: Setting, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meant = setting.kind.read(word)
    assert settings.get(setting.name) is None
    if setting.file:
        native = setting.kind is not TEXT and word in ("true", "false", "0", "1", "2")
        for written in (f'"{word}"', *((word,) if native else ())):
            configure(f"{setting.name} = {written}\n")
            assert settings.get(setting.name) == meant
    monkeypatch.setenv(setting.variable, word)
    assert settings.get(setting.name) == meant
    assert set(as_flag(setting, *setting.words(meant)).values()) <= {meant}


@pytest.mark.parametrize(("setting", "word"), WRONG, ids=names)
def test_a_wrong_word_is_refused_in_the_same_words_wherever_it_is_said(
    setting: Setting, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=re.escape(word[:40])) as wrong:
        setting.kind.read(word)
    said = str(wrong.value)
    if setting.file:
        configure(f'\n{setting.name} = "{word}"\n')
        path = settings.config_dir() / "config.toml"
        assert refusal(lambda: settings.get(setting.name)) == f"{path}:2: {setting.name}: {said}"
    monkeypatch.setenv(setting.variable, word)
    assert refusal(lambda: settings.get(setting.name)) == f"{setting.variable}: {said}"
    if not setting.kind.switch:  # --tls takes no word at all
        assert said in refusal(lambda: as_flag(setting, setting.flag, word))


@pytest.mark.parametrize("setting", [one for one in SETTINGS.values() if one.file], ids=names)
@pytest.mark.parametrize("written", ["[1]", "{a = 1}", "1.5", "2020-01-01"])
def test_what_is_no_word_is_refused_in_the_file(setting: Setting, written: str) -> None:
    configure(f"{setting.name} = {written}\n")
    assert "is not a text" in refusal(lambda: settings.get(setting.name))


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=names)
def test_a_flag_outweighs_the_variable_which_outweighs_the_file(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = ("no", "yes", "no") if setting.kind.switch else ("1", "2", "3")
    file, variable, flag = (setting.kind.read(word) for word in three)
    if setting.file:
        configure(f'{setting.name} = "{three[0]}"\n')
        assert settings.get(setting.name) == file
    monkeypatch.setenv(setting.variable, three[1])
    assert settings.get(setting.name) == variable
    settings.told(**{setting.name: flag})
    assert settings.get(setting.name) == flag


def test_what_is_empty_was_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    configure("".join(f'{name} = ""\n' for name, setting in SETTINGS.items() if setting.file))
    for setting in SETTINGS.values():
        monkeypatch.setenv(setting.variable, "")
        settings.told(**{setting.name: ""})
        assert settings.get(setting.name) is None


def test_a_setting_of_the_environment_alone_is_no_key_of_the_file() -> None:
    configure("traceback = true\n")
    assert "traceback: unknown key" in refusal(lambda: settings.get("url"))


def test_the_reference_lists_exactly_these() -> None:
    section = page().partition("## Settings")[2].partition("\n## ")[0]
    keys, variables = re.findall(r"\| `([a-z_]+)` \|", section), re.findall(r"\| `(MYC_[A-Z_]+)` \|", section)
    assert keys == [name for name, setting in SETTINGS.items() if setting.file]
    assert variables == [setting.variable for setting in SETTINGS.values()]
    flags = set(re.findall(r"`myc ([a-z ]*--[a-z-]+)", section))
    assert flags == {f"{c} {one.flag}".strip() for one in SETTINGS.values() for c in one.flag_of}


def test_the_code_reads_no_other_variable_of_ours_and_gives_steps_none_of_these() -> None:
    source = Path(settings.__file__).parents[1]
    read = re.compile(r"environ(?:\.get\(|\[)\s*\"(MYC_[A-Z_]+)\"")
    found = {name for path in source.rglob("*.py") for name in read.findall(path.read_text())}
    variables = {setting.variable for setting in SETTINGS.values()}
    # MYC_POOL is set for programs of the site alone; kept results lie in MYC_HOME where no site is asked.
    assert found - {"MYC_POOL", "MYC_HOME"} <= set(VARIABLES)
    assert not variables & set(VARIABLES)


def test_a_flag_that_is_said_is_what_the_command_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    @takes_settings("up")
    def up(detach: bool = False) -> None:
        seen.update(settings.of_command("up"), detach=detach)

    monkeypatch.setattr("mycelium.cli.site.up.up", up)
    monkeypatch.setenv("MYC_TLS", "yes")
    monkeypatch.setenv("MYC_GATEWAYS", "4")
    assert run(["up", "--no-tls", "--nodes", "3", "--detach", "--port", "0"]) == 0
    assert (seen["tls"], seen["nodes"], seen["gateways"], seen["port"]) == (False, 3, 4, 0)
    assert (seen["host"], seen["detach"]) == (None, True)


def test_what_up_says_to_the_site_is_what_the_site_takes_and_starts_from() -> None:
    taken = {field.name: field.default for field in fields(SiteSettings)}
    for setting in of_command("up"):
        assert setting.name in taken
        if setting.default is not None:
            assert taken[setting.name] == setting.default


@pytest.mark.parametrize("word", ["0", "off", "maybe", "yes"])
def test_a_fault_of_myc_shows_where_it_is_only_when_that_was_asked_for(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("mycelium.cli.site.status.status", broken)
    monkeypatch.setenv("MYC_TRACEBACK", word)
    if word == "yes":
        with pytest.raises(ZeroDivisionError):
            run(["status"])
    else:
        assert run(["status"]) == 70
