"""The ports that an agent keeps free: nobody else gets them, and they are the same in its next life."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mycelium.agent.ports import Ports
from mycelium.base.limits import GANG_PORTS_HELD


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    ports = Ports(tmp_path / "ports.json")
    ports.open(())
    yield ports
    for port in ports.numbers:
        ports.lend(port)


def listens(port: int) -> socket.socket:
    """As servers do: with SO_REUSEADDR, which would take a port from who binds it with the same option."""
    return socket.create_server(("127.0.0.1", port))


def test_a_held_port_is_refused_to_others_and_a_lent_one_is_free_at_once(ports: Ports) -> None:
    port = ports.numbers[0]
    with pytest.raises(OSError, match="in use"):
        listens(port)
    ports.lend(port)
    listens(port).close()


def test_a_port_that_came_back_is_held_again(ports: Ports) -> None:
    port = ports.numbers[0]
    ports.lend(port)
    with listens(port):
        ports.take_back(port)  # while the step's server still closes
    ports.hold()
    with pytest.raises(OSError, match="in use"):
        listens(port)


def test_the_next_life_holds_the_same_ones_but_for_what_others_took(ports: Ports, tmp_path: Path) -> None:
    assert len(ports.numbers) == GANG_PORTS_HELD
    for port in ports.numbers:
        ports.lend(port)  # as the kernel does when an agent dies
    taken, lent, *rest = ports.numbers
    again = Ports(tmp_path / "ports.json")
    with listens(taken), listens(lent):
        again.open({lent})
    assert set(again.numbers) >= {lent, *rest}
    assert taken not in again.numbers
    assert len(again.numbers) == GANG_PORTS_HELD
    for port in again.numbers:
        again.lend(port)


def test_what_is_no_port_of_its_own_is_let_be(ports: Ports) -> None:
    ports.lend(0)
    ports.take_back(0)
    assert len(ports.numbers) == GANG_PORTS_HELD
