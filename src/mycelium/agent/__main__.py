"""`python -m mycelium.agent`: one agent. Engines start it; nobody else needs to."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path

import msgspec

from mycelium.agent import probes, share
from mycelium.agent.agent import Agent
from mycelium.agent.link import AgentLink
from mycelium.agent.settings import AgentSettings
from mycelium.base import lock
from mycelium.base.ids import NodeId, is_node
from mycelium.nodes.model import Devices
from mycelium.sandbox import etc, process
from mycelium.sandbox.probe import SandboxOffer, probe

ALREADY = 75  # EX_TEMPFAIL: another agent has this node


def main() -> int:
    options = _options()
    settings = _settings(options)
    settings.steps.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        lock.take(settings.files.agent_pid, process.this(time.time_ns()).encode())  # for life
    except lock.Busy:
        print(f"another agent has {settings.node}", file=sys.stderr)
        return ALREADY
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    etc_directory = settings.directory / f"etc.{os.getpid()}-{time.time_ns()}"
    offer = _offer(settings, etc_directory)
    settings = msgspec.structs.replace(settings, labels=settings.labels | offer.labels)
    asyncio.run(_run(settings, offer, etc_directory, options.socket))
    return 0


async def _run(settings: AgentSettings, offer: SandboxOffer, etc_directory: Path, socket_path: Path) -> None:
    agent = Agent(settings, offer, etc_directory, AgentLink(socket_path))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, agent.finish)
    await agent.run()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mycelium.agent", allow_abbrev=False)
    parser.add_argument("--home", type=Path, required=True, help="the site's directory")
    parser.add_argument("--node", required=True, help="this node's id")
    parser.add_argument("--socket", type=Path, required=True, help="where the head listens")
    parser.add_argument("--name", default=socket.gethostname())
    parser.add_argument("--address", default="127.0.0.1", help="where other nodes reach this one")
    parser.add_argument("--way", type=Path, help="the file that says how other machines' objects are fetched")
    parser.add_argument("--porter", default="", help="the address of this machine's own porter")
    parser.add_argument("--share", default="0/1", metavar="I/N", help="the i-th of n equal shares of this machine")
    parser.add_argument("--devices", metavar="CPU_M,BYTES,GPUS", help="say that the node has this, whatever it has")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    if not is_node(options.node):
        parser.error(f"{options.node!r} is not a node")
    return options


def _settings(options: argparse.Namespace) -> AgentSettings:
    part, parts = (int(number) for number in options.share.split("/"))
    cores, memory_bytes, gpus = share.virtual(part, parts, probes.cores(), probes.memory_bytes(), probes.nvidia_gpus())
    devices = Devices(len(cores) * 1000, memory_bytes, len(gpus))
    if options.devices:
        devices = Devices(*(int(number) for number in options.devices.split(",")))
    given = dict(label.partition("=")[::2] for label in options.label)
    return AgentSettings(
        home=options.home.absolute(),
        node=NodeId(options.node),
        name=options.name,
        devices=devices,
        cores=tuple(cores),
        gpus=tuple(gpus),
        labels=probes.labels(options.home) | given,
        address=options.address,
        way=options.way,
        porter=options.porter,
    )


def _offer(settings: AgentSettings, etc_directory: Path) -> SandboxOffer:
    """Tried before there are threads, because the trial forks."""
    empty = settings.files.empty
    try:
        etc.make(etc_directory)
        empty.mkdir(exist_ok=True)
        empty.chmod(0o755)  # whatever the umask is: the trial's user must be able to enter
        return probe(etc_directory, empty, probes.python_prefixes())
    except OSError as error:
        return SandboxOffer(why_not=f"the sandbox could not be tried: {error}")


if __name__ == "__main__":
    sys.exit(main())
