"""What a world file says: how much work of which kinds there is, and what goes wrong how often.

`worlds/*.toml` are read into these. Rates are for the number of nodes that the file names; with more nodes there is
more of everything, in proportion. A mean time of 0 means never.
"""

from __future__ import annotations

from importlib import resources

import msgspec
from msgspec import Struct

from mycelium.base.errors import Missing, Refused


class Workload(Struct, frozen=True, forbid_unknown_fields=True):
    """What people ask for. Times are means; the rest are chances and bounds."""

    submit_ms: int = 1000  # between two submits
    jobs_max: int = 3  # in one submit
    run_ms: int = 4000
    fails_permille: int = 30
    stubborn_permille: int = 50  # of steps: do not end on SIGTERM
    retries_max: int = 2
    array_permille: int = 150
    array_tasks_max: int = 12
    throttle_permille: int = 400  # of arrays
    gang_permille: int = 100
    gang_nodes_max: int = 3
    elastic_permille: int = 0  # of gangs
    after_permille: int = 150
    select_permille: int = 150
    gpu_permille: int = 50
    impossible_permille: int = 10  # asks for more than any node has
    short_limit_permille: int = 20  # its time limit is below what it needs
    cancel_s: int = 15
    drain_s: int = 0
    drain_now_permille: int = 500
    remove_permille: int = 250  # of drains end with the node taken out


class Net(Struct, frozen=True, forbid_unknown_fields=True):
    """Messages between head and agents. A late one is overtaken by those after it."""

    delay_us: int = 600
    lost_permille: int = 0
    repeated_permille: int = 0
    late_permille: int = 0
    late_ms: int = 2500


class FaultRates(Struct, frozen=True, forbid_unknown_fields=True):
    """Mean times between faults of each kind, and how long they last."""

    machine_s: int = 0
    machine_down_ms: int = 12_000
    disk_lost_permille: int = 300
    silence_s: int = 0
    silence_ms: int = 8_000
    silence_nodes_permille: int = 200  # how many nodes fall silent together
    cut_permille: int = 500  # of silences: the connection ends, the rest only swallow messages
    agent_s: int = 0
    agent_down_ms: int = 1_500
    step_s: int = 0
    head_s: int = 0
    head_down_ms: int = 1_500
    commit_dies_permille: int = 0  # of commits: the head dies before the events are durable, or after
    append_fails_permille: int = 0
    slow_s: int = 0
    slow_ms: int = 5_000
    slow_commit_ms: int = 1_500
    clock_s: int = 0
    clock_jump_s: int = 3_600


class Models(Struct, frozen=True, forbid_unknown_fields=True):
    """A model that is served, and who asks it: some, then many, then nobody, again and again. None when `most` is 0."""

    least: int = 0
    most: int = 0
    parallel: int = 4
    load_ms: int = 3_000  # from the start of a replica until it answers, at most
    run_ms: int = 1_200  # mean, of one request
    some_ms: int = 400  # mean, between two requests
    many_ms: int = 90
    phase_s: int = 12  # of some, and of many
    nobody_s: int = 26
    down_s: int = 5  # how soon replicas become fewer: shorter than on a real site
    zero_s: int = 10
    first_token_ms: int = 0  # the longest that who comes when all sleep may wait; 0: nothing is promised


class SimWorld(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    says: str
    nodes: int = 6
    horizon_s: int = 32  # work and faults come until then
    lost_s: int = 7  # shorter than a real site's patience, so that short runs see evictions
    settle_s: int = 900  # and then everything must have ended after so long
    commit_us: int = 3_000
    snapshot_events: int = 150
    retain_s: int = 120
    work: Workload = Workload()
    net: Net = Net()
    faults: FaultRates = FaultRates()
    models: Models = Models()


_FOLDER = resources.files("mycelium.sim") / "worlds"


def names() -> list[str]:
    return sorted(file.name.removesuffix(".toml") for file in _FOLDER.iterdir() if file.name.endswith(".toml"))


def load(name: str) -> SimWorld:
    """The world of that name. Errors: `Missing`, and `Refused` for a file that says something unknown."""
    if name not in names():
        raise Missing(f"no world is called {name[:64]!r}", hint=f"the worlds are: {', '.join(names())}")
    return read(name, (_FOLDER / f"{name}.toml").read_bytes())


def read(name: str, text: bytes) -> SimWorld:
    try:
        return msgspec.convert({"name": name, **msgspec.toml.decode(text)}, SimWorld)
    except msgspec.DecodeError as error:
        raise Refused(f"world {name}: {error}") from None
