from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mycelium.base.errors import Refused, Unavailable, Unknown
from mycelium.client import settings
from mycelium.serve.last_word import LastWord


def configure(text: str) -> None:
    settings.config_dir().mkdir(parents=True, exist_ok=True)
    (settings.config_dir() / "config.toml").write_text(text)


def site_runs(url: str, token: str = "secret", pid: int | None = None) -> None:
    home = settings.home()
    (home / "tokens").mkdir(parents=True)
    (home / "tokens/admin").write_text(f"{token}\n")
    (home / "site.json").write_text(json.dumps({"url": url, "pid": os.getpid() if pid is None else pid}))


def test_a_flag_outweighs_the_environment_which_outweighs_the_file(monkeypatch: pytest.MonkeyPatch):
    configure('url = "http://file:1"\n')
    assert settings.get("url") == "http://file:1"
    monkeypatch.setenv("MYC_URL", "http://environment:1")
    assert settings.get("url") == "http://environment:1"
    settings.told(url="http://flag:1")
    assert settings.get("url") == "http://flag:1"


@pytest.mark.parametrize(
    ("text", "said"),
    [("url = ", "is not TOML"), ("uri = 'x'", r"config\.toml:1: uri: unknown key")],
)
def test_a_configuration_file_that_makes_no_sense_is_refused(text: str, said: str):
    configure(text)
    with pytest.raises(Refused, match=said):
        settings.get("url")


def test_every_mistake_of_the_configuration_file_is_told_with_its_line():
    configure('port = "many"\nhome = "/tmp"\nuri = 1\nname = ["a"]\n')
    with pytest.raises(Refused) as caught:
        settings.get("url")
    path = settings.config_dir() / "config.toml"
    assert [fault.where for fault in caught.value.faults] == [f"{path}:1: port", f"{path}:3: uri", f"{path}:4: name"]


def test_a_configuration_file_that_is_no_text_is_refused():
    configure("")
    (settings.config_dir() / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="it is not text"):
        settings.get("url")


def test_a_number_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MYC_NODES", "many")
    with pytest.raises(Refused, match="MYC_NODES: 'many' is not a whole number"):
        settings.get("nodes")
    settings.told(nodes=3)
    assert settings.get("nodes") == 3


def test_the_site_of_this_machine_is_found_with_its_token():
    site_runs("http://127.0.0.1:8700")
    assert settings.place() == ("http://127.0.0.1:8700", "secret")


def test_without_any_site_the_hint_says_how_to_have_one():
    with pytest.raises(Unavailable) as caught:
        settings.place()
    assert "myc up --detach" in caught.value.hint


def test_a_site_that_was_killed_is_told_from_one_that_never_was():
    site_runs("http://127.0.0.1:8700", pid=2**22 + 1)  # above Linux's highest pid
    with pytest.raises(Unavailable, match="ended without a word"):
        settings.place()


def test_the_last_word_of_a_site_is_passed_on_with_what_its_disk_lacks(monkeypatch: pytest.MonkeyPatch):
    site_runs("http://127.0.0.1:8700", pid=2**22 + 1)
    LastWord(settings.home()).say(Unavailable("the disk of the log is full"))
    monkeypatch.setattr(settings, "DISK_RESERVE_BYTES", 1 << 62)
    with pytest.raises(Unavailable, match="it ended because the disk of the log is full") as caught:
        settings.place()
    assert "left, and it needs" in caught.value.hint


def test_a_new_head_takes_back_the_last_word_of_the_one_before():
    site_runs("http://127.0.0.1:8700", pid=2**22 + 1)
    LastWord(settings.home()).say(Unavailable("old"))
    LastWord(settings.home()).close()
    with pytest.raises(Unavailable, match="it ended without a word"):
        settings.place()


def test_the_last_login_is_the_site_to_talk_to():
    settings.keep_login("http://one:1", "first")
    settings.keep_login("http://two:2", "second")
    assert settings.place() == ("http://two:2", "second")


def test_a_url_of_an_earlier_login_still_knows_its_token():
    settings.keep_login("http://one:1", "first")
    settings.keep_login("http://two:2", "second")
    settings.told(url="http://one:1/")
    assert settings.place() == ("http://one:1", "first")


def test_who_names_a_home_means_the_site_that_lives_there():
    settings.keep_login("http://one:1", "first")
    settings.told(home=str(settings.default_home()))
    site_runs("http://127.0.0.1:8700")
    assert settings.place() == ("http://127.0.0.1:8700", "secret")


def test_the_admins_token_is_shown_to_no_other_site():
    site_runs("http://127.0.0.1:8700")
    settings.told(url="http://elsewhere:1")
    with pytest.raises(Unknown, match="no token for http://elsewhere:1"):
        settings.place()


def test_tokens_are_kept_where_only_their_owner_can_read_them():
    settings.keep_login("http://one:1", "first")
    settings.logins_path().chmod(0o644)
    settings.keep_login("http://two:2", "second")
    assert settings.logins_path().stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.config_dir().iterdir()] == ["logins.json"]


@pytest.mark.parametrize("token", ["b\udcc3", "two words", "new\nline", "ünicode"])
def test_what_no_header_can_carry_is_no_token(token: str, monkeypatch: pytest.MonkeyPatch):
    settings.told(url="http://one:1", token=token)
    with pytest.raises(Refused, match="is not a token"):
        settings.place()


def test_broken_logins_are_named_and_not_overwritten():
    settings.config_dir().mkdir(parents=True)
    settings.logins_path().write_text("{")
    with pytest.raises(Refused, match=r"logins\.json cannot be read"):
        settings.keep_login("http://one:1", "first")
    assert settings.logins_path().read_text() == "{"


@pytest.mark.parametrize(
    "url", ["", "localhost:8700", "ftp://x", "http://", "http://x:banana", "http://x:99999", "file:///x"]
)
def test_what_is_no_url_is_refused(url: str):
    with pytest.raises(Refused, match="is not the URL"):
        settings.check_url(url)


def test_a_process_lives_until_it_is_gone(tmp_path: Path):
    assert settings.lives(os.getpid())
    assert not settings.lives(2**22 + 1)
