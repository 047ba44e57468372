from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mycelium.base.errors import Conflict, Denied
from mycelium.engine.local import door


def test_a_short_home_has_its_socket_inside() -> None:
    assert door.place(Path("/srv/site")) == Path("/srv/site/engine.sock")


def test_a_long_home_has_a_short_place_that_is_always_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    home = Path("/" + "long/" * 40)
    place = door.place(home)
    assert place == door.place(home) != door.place(home / "other")
    assert place.is_relative_to(tmp_path)
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_a_short_place_that_somebody_else_prepared_is_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    home = Path("/" + "long/" * 40)
    door.place(home).parent.chmod(0o777)
    with pytest.raises(Denied):
        door.place(home)
    door.place(home.parent).parent.rmdir()
    (tmp_path / f"elsewhere-{os.getpid()}").mkdir(mode=0o700)
    door_directory = next(path for path in tmp_path.iterdir() if path.name.startswith("mycelium-"))
    door_directory.rmdir()
    door_directory.symlink_to(tmp_path / f"elsewhere-{os.getpid()}")
    with pytest.raises(Denied):
        door.place(home)


def test_a_home_is_held_by_one(tmp_path: Path) -> None:
    held = door.hold(tmp_path)
    with pytest.raises(Conflict, match="another head"):
        door.hold(tmp_path)
    os.close(held)
    os.close(door.hold(tmp_path))
