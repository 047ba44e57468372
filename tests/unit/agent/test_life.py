"""The port of a node's life: taken for as long as anybody holds it, in whichever life it was opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from mycelium.agent.life import Life

HERE = "127.0.0.1"


def test_a_step_of_an_earlier_life_keeps_the_port_answering(tmp_path: Path) -> None:
    first = Life(tmp_path / "port", HERE)
    held_by_a_step = os.dup(first.fd)
    first.close()
    second = Life(tmp_path / "port", HERE)
    assert second.port == first.port
    second.close()
    socket.create_connection((HERE, first.port)).close()
    os.close(held_by_a_step)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HERE, first.port))


def test_a_life_whose_port_somebody_took_has_another(tmp_path: Path) -> None:
    with socket.create_server((HERE, 0)) as other:
        (tmp_path / "port").write_text(str(other.getsockname()[1]))
        life = Life(tmp_path / "port", HERE)
        assert life.port not in (0, other.getsockname()[1])
        assert (tmp_path / "port").read_text() == str(life.port)
        life.close()
