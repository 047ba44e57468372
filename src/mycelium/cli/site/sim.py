"""`myc sim`: the real head with pretend machines and every fault of a world, from a seed. Needs no site."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mycelium.base.errors import Refused
from mycelium.base.units import format_time_ms
from mycelium.cli.options import Json
from mycelium.client import show

if TYPE_CHECKING:
    from mycelium.sim.run import SimOutcome, Simulation

NODES_MAX = 10_000
SEEDS_MAX = 100_000
BROKEN = 1
PROGRESS_S = 0.5
COLUMNS = (
    "seed", "submitted", "done", "failed", "cancelled", "refused", "steps", "requeued", "lost nodes", "head lives",
    "turns", "events", "p50 wait", "p99 wait", "simulated", "wall",
)  # fmt: skip


def worlds() -> list[str]:
    from mycelium.sim.world import names

    return names()


def sim(
    world: Annotated[
        str, typer.Argument(metavar="WORLD", help="Which world; `list` names them.", autocompletion=worlds)
    ],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same log, byte for byte.")] = 1,
    nodes: Annotated[
        int, typer.Option(min=0, max=NODES_MAX, help="How many machines; 0: as many as the world names.")
    ] = 0,
    seeds: Annotated[str, typer.Option(metavar="A-B", help="Run every seed from A to B.")] = "",
    json: Json = False,
) -> int:
    """Run the real head over pretend machines, with the faults of a world, and check every promise.

    A run with a world's own machines takes a second or two; one with --nodes 1000 takes a minute or two.
    Exits with 1 when a promise was broken, and prints what led to it and the command that repeats it.
    """
    from mycelium.sim.run import Simulation
    from mycelium.sim.world import load

    if world == "list":
        return _list(as_json=json)
    chosen = load(world)
    outcomes: list[SimOutcome] = []
    for number in _seeds(seeds) if seeds else range(seed, seed + 1):
        simulation = Simulation(chosen, number, nodes or None)
        with _progress(simulation):
            outcomes.append(simulation.run())
        if not outcomes[-1].ok and not json:
            _show_broken(outcomes[-1])
    if json:
        show.document({"world": world, "runs": [document(outcome) for outcome in outcomes]})
    else:
        show.table(COLUMNS, [_row(outcome) for outcome in outcomes], right=COLUMNS)
        _show_sum(outcomes)
    return 0 if all(outcome.ok for outcome in outcomes) else BROKEN


@contextlib.contextmanager
def _progress(simulation: Simulation) -> Generator[None]:
    """A line on a terminal that says how far a run is, once it takes long enough to ask."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(PROGRESS_S):
            sys.stderr.write(f"\r\x1b[K{progress(simulation)}")
            sys.stderr.flush()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def progress(simulation: Simulation) -> str:
    """How far a run is. After the horizon come no more faults, and it goes on until every job has ended."""
    from mycelium.sim.timeline import S_NS, START_NS

    passed_s = (simulation.timeline.now_ns - START_NS) // S_NS
    horizon_s = simulation.world.horizon_s
    of = f"{passed_s:,} of {horizon_s:,} simulated seconds" if passed_s < horizon_s else "the last jobs end"
    return f"seed {simulation.outcome.seed}: {of}, {simulation.log.last_seq:,} events"


def _list(*, as_json: bool) -> int:
    from mycelium.sim.world import load

    found = [load(name) for name in worlds()]
    if as_json:
        show.document({"worlds": [{"name": world.name, "says": world.says, "nodes": world.nodes} for world in found]})
    else:
        show.table(
            ("world", "nodes", "what happens in it"), [(w.name, w.nodes, w.says) for w in found], right=("nodes",)
        )
    return 0


def _seeds(text: str) -> range:
    match = re.fullmatch(r"(\d{1,9})-(\d{1,9})", text)
    if match is None or int(match[1]) > int(match[2]):
        raise Refused(f"{text[:40]!r} is not a range of seeds", hint="write 1-300")
    chosen = range(int(match[1]), int(match[2]) + 1)
    if len(chosen) > SEEDS_MAX:
        raise Refused(f"that is {len(chosen)} seeds; at most {SEEDS_MAX} are run at once")
    return chosen


def document(outcome: SimOutcome) -> dict[str, Any]:
    """The outcome as one document of `--json`."""
    return {
        "seed": outcome.seed,
        "nodes": outcome.nodes,
        "ok": outcome.ok,
        "broken": outcome.broken,
        "what": outcome.what,
        "trace": outcome.trace,
        "repeat": outcome.repeat,
        "counts": outcome.counts,
        "head_lives": outcome.head_lives,
        "turns": outcome.turns,
        "events": outcome.events,
        "wait_p50_ms": outcome.wait_ms(50),
        "wait_p99_ms": outcome.wait_ms(99),
        "simulated_s": outcome.simulated_s,
        "wall_s": outcome.wall_s,
        "log_hash": outcome.log_hash,
    }


def _row(outcome: SimOutcome) -> list[Any]:
    count = outcome.counts.get
    return [
        outcome.seed,
        *(count(name, 0) for name in ("submitted", "done", "failed", "cancelled", "refused", "steps")),
        count("TaskRequeued", 0),
        count("NodeLost", 0),
        outcome.head_lives,
        outcome.turns,
        outcome.events,
        format_time_ms(outcome.wait_ms(50)),
        format_time_ms(outcome.wait_ms(99)),
        format_time_ms(round(outcome.simulated_s * 1000)),
        format_time_ms(round(outcome.wall_s * 1000)),
    ]


def _show_broken(outcome: SimOutcome) -> None:
    for line in outcome.trace:
        show.line(show.clean(line))
    show.line(show.paint(f"broken: {outcome.broken}", "31"))
    show.line(f"  {outcome.what}")
    show.line(f"  again: {outcome.repeat}")


def _show_sum(outcomes: list[SimOutcome]) -> None:
    broken = sum(not outcome.ok for outcome in outcomes)
    if broken:
        show.say(show.paint(f"{broken} of {show.counted(len(outcomes), 'run')} broke a promise", "31"))
    else:
        show.say(show.paint(f"{show.counted(len(outcomes), 'run')}, every promise held", "32"))
    if len(outcomes) == 1:
        show.note(f"the hash of the last event is {outcomes[0].log_hash}")
