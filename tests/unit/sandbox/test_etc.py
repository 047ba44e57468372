from __future__ import annotations

from pathlib import Path

from mycelium.sandbox import etc


def test_only_what_programs_need_is_shown_and_nothing_that_is_private(tmp_path: Path) -> None:
    host = tmp_path / "host"
    (host / "ssl" / "private").mkdir(parents=True)
    (host / "ssl" / "private" / "key").write_text("secret")
    (host / "ssl" / "openssl.cnf").write_text("shown")
    (host / "ssl" / "hidden.pem").write_text("secret")
    (host / "ssl" / "hidden.pem").chmod(0o600)
    (host / "shadow").write_text("secret")
    (host / "passwd").write_text("alice:x:1000")
    (host / "services").write_text("shown")
    etc.make(tmp_path / "etc", host)
    found = {str(path.relative_to(tmp_path / "etc")): path for path in (tmp_path / "etc").rglob("*") if path.is_file()}
    assert not any(path.read_text() == "secret" for path in found.values())
    assert found["services"].read_text() == found["ssl/openssl.cnf"].read_text() == "shown"
    assert "alice" not in found["passwd"].read_text()
    assert set(found) == {"services", "ssl/openssl.cnf", *etc.WRITTEN}


def test_everybody_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    import os

    before = os.umask(0o077)
    try:
        etc.make(tmp_path / "etc", tmp_path / "no-host")
    finally:
        os.umask(before)
    assert (tmp_path / "etc").stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o004 for path in (tmp_path / "etc").iterdir())


def test_it_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "old").touch()
    etc.make(tmp_path / "etc", tmp_path / "no-host")
    assert not (tmp_path / "etc" / "old").exists()
