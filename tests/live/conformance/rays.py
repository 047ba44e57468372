"""One Ray for all the engines of a test run: each has its own bridge and relays on it, and no other difference."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from mycelium.engine.ray.engine import HEAD, RayEngine
from mycelium.engine.ray.raylet import Raylet, RayletPlace, free_port

PREFIX = "myc-shared-ray-"
SHARED = "MYC_TEST_SHARED_RAY"  # for the processes of a test that make an engine of their own


@cache
def shared() -> Raylet:
    if SHARED in os.environ:
        directory, _, port = os.environ[SHARED].rpartition(":")
        return Raylet(RayletPlace(Path(directory), HEAD, port=int(port), cpus=2))
    sweep()
    directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    place = RayletPlace(directory, HEAD, port=free_port("127.0.0.1"), cpus=2)
    raylet = Raylet(place)
    raylet.start()
    os.environ[SHARED] = f"{directory}:{place.port}"
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(raylet.kill)
    return raylet


def sweep() -> None:
    """End what a test run left that was killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = directory.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            Raylet(RayletPlace(directory, HEAD)).kill()
            shutil.rmtree(directory, ignore_errors=True)


def make(home: Path, nodes: int) -> RayEngine:
    return RayEngine(home, nodes, ray=shared())


# What an engine itself can get wrong: the rest of the suite tries the agent, which is the same below every engine.
# All of it runs on Ray with MYC_CONFORMANCE=all, at three seconds a test.
OF_THE_SEAM = (
    "followed_log_comes_as_it_is_written",
    "untail_ends_a_tail",
    "a_flood_is_bounded",
    "starts_and_exits_with_its_code",
    "same_order_to_start_runs_a_step_once",
    "repeated_until_it_is_forgotten",
    "stop_gives_a_step_its_grace",
    "a_hundred_steps_at_once",
    "every_node_says_hello",
    "survives_its_agent_and_is_adopted",
    "steps_go_on_while_the_head_is_down",
    "outlives_a_head_that_is_killed",
    "that_is_stopped_blocks_no_other",
    "stops_them_gracefully",
)


def wanted(test: str) -> bool:
    """Whether a test of the suite is to run on Ray. Sandboxes are the agent's affair, tried on the default engine."""
    if "process" in test:
        return False
    return os.environ.get("MYC_CONFORMANCE") == "all" or any(name in test for name in OF_THE_SEAM)
