"""What should happen next to replicas: which are started, drained and stopped, and how many there should be.

`plan` reads the tables and what gateways see, and returns actions. `scale` is the autoscaler: one function of the load
and of how long it has been so.
Never: reads a clock, or changes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from mycelium.base.ids import JobId, number_of
from mycelium.base.units import S_NS
from mycelium.inference import launch
from mycelium.inference.commands import DeploymentQueue, SeenReplica
from mycelium.inference.model import Deployment, Inference, Replica, ReplicaState
from mycelium.inference.rules import current_attempt
from mycelium.jobs.model import ENDED, JobState, Site
from mycelium.nodes.model import NodeState

BACKOFF_S = (0, 1, 2, 5, 10, 30, 60)  # before the next replica, by failures since one lived well
DRAIN_NS = 120 * S_NS  # a draining replica that still has streams then is stopped all the same
SILENT_NS = 20 * S_NS  # a ready replica that answers no gateway for so long is stopped, and another one started
ROOM_NS = 5 * S_NS  # a replica that finds no node for so long needs the place of one that was asked for otherwise
START_NS = 900 * S_NS  # one that has not become ready so long after it began to run is taken for broken
USE_SHARE = 0.75  # of its places that a replica should have taken: beyond it, one more is wanted


class Pace(Struct, frozen=True):
    """How slowly replicas become fewer; more there are at once."""

    down_ns: int = 60 * S_NS  # fewer only when fewer were enough for so long
    zero_ns: int = 300 * S_NS  # and none only when nobody asked for so long


PACE = Pace()


class StartReplica(Struct, frozen=True):
    deployment: str


class DrainReplica(Struct, frozen=True):
    job: JobId
    why: str


class StopReplica(Struct, frozen=True):
    """Cancel the job of a replica. `failed`: it does not work."""

    job: JobId
    why: str


class Bury(Struct, frozen=True):
    """The job of a replica has ended."""

    job: JobId
    failed: bool
    message: str


class Aim(Struct, frozen=True):
    """There should be so many replicas from now on."""

    deployment: str
    target: int
    why: str


class Leave(Struct, frozen=True):
    """The last replica of a deployment that leaves is gone."""

    deployment: str


Action = StartReplica | DrainReplica | StopReplica | Bury | Aim | Leave


class Load(Struct, frozen=True):
    """What all gateways see of the site together: by deployment, and by replica."""

    queues: Mapping[str, DeploymentQueue] = {}
    seen: Mapping[JobId, SeenReplica] = {}
    whole: bool = True  # every gateway that lives has had the time to say what it sees


class Scale(Struct, frozen=True):
    """What an autoscaler remembers of one deployment: since when fewer would have been enough, and how many."""

    below_ns: int = 0  # 0: not now
    peak: int = 0  # the most that were wanted since then
    asked_ns: int = 0  # when anybody asked last


def wanted(queue: DeploymentQueue, parallel: int) -> int:
    """How many replicas the load of now would fill to `USE_SHARE`, with the lines of batches as load too."""
    demand = queue.waiting + queue.active + queue.batch_lines
    return -(-demand * 100 // (round(USE_SHARE * 100) * parallel)) if demand else 0


def scale(
    deployment: Deployment, memory: Scale, queue: DeploymentQueue, now_ns: int, pace: Pace = PACE
) -> tuple[int, Scale]:
    """How many replicas there should be, and what to remember. Up at once, down only after `down_ns` of less load.

    From none to one as soon as somebody asks; to none after `zero_ns` without anybody.
    """
    serving = deployment.serving
    busy = queue.waiting + queue.active + queue.batch_lines > 0
    asked_ns = now_ns if busy or not memory.asked_ns else memory.asked_ns
    want = wanted(queue, serving.parallel)
    if busy or now_ns - asked_ns < pace.zero_ns:
        want = max(want, 1 if busy or deployment.target else 0)
    want = min(max(want, serving.replicas_min), serving.replicas_max)
    if want >= deployment.target:
        return want, Scale(0, 0, asked_ns)
    below_ns = memory.below_ns or now_ns
    peak = max(memory.peak, want)
    if now_ns - below_ns >= pace.down_ns:
        return peak, Scale(now_ns, want, asked_ns)
    return deployment.target, Scale(below_ns, peak, asked_ns)


def plan(
    site: Site, state: Inference, load: Load, memories: Mapping[str, Scale], now_ns: int, pace: Pace = PACE
) -> tuple[list[Action], dict[str, Scale]]:
    """The actions that are due, and what the autoscaler remembers from now on."""
    actions: list[Action] = []
    kept: dict[str, Scale] = {}
    mine: dict[str, list[Replica]] = {}
    for replica in state.replicas.values():
        mine.setdefault(replica.deployment, []).append(replica)
    for name, deployment in state.deployments.items():
        # One that is an upstream now can have replicas from the time when it was none; its target is 0.
        if not deployment.leaving and not deployment.serving.upstream and deployment.serving.scales:
            queue = load.queues.get(name) or DeploymentQueue(name)
            target, kept[name] = scale(deployment, memories.get(name, Scale()), queue, now_ns, pace)
            if target != deployment.target:
                actions.append(Aim(name, target, _why(queue, target, deployment.target)))
                deployment = replace(deployment, target=target)
        actions += _tend(site, deployment, mine.get(name, []), load, now_ns)
    return actions, kept


def _why(queue: DeploymentQueue, target: int, was: int) -> str:
    if target > was:
        lines = f" and {queue.batch_lines} lines of batches" if queue.batch_lines else ""
        return f"{queue.waiting} requests wait, {queue.active} run{lines}"
    return "fewer have been enough" if target else "nobody asked"


def _tend(site: Site, deployment: Deployment, replicas: Sequence[Replica], load: Load, now_ns: int) -> list[Action]:
    """The replicas of one deployment: bury the ended, stop the drained and the silent, start more or fewer."""
    actions: list[Action] = []
    staying: list[Replica] = []
    leaving: list[Replica] = []  # on a node that is wanted empty: they serve until another one can
    former: list[Replica] = []  # of what the deployment was before it was changed: so do they
    for replica in replicas:
        job = site.jobs.by_id.get(replica.job)
        if job is None or job.state in ENDED:
            failed = replica.state is not ReplicaState.DRAINING
            message = "" if job is None else job.message or _ended_as(job.state, job.exit_code)
            actions.append(Bury(replica.job, failed, message))
        elif job.cancelled:
            continue  # on its way out
        elif replica.state is ReplicaState.DRAINING:
            if _is_drained(replica, load, now_ns):
                actions.append(StopReplica(replica.job, replica.why or "drained"))
        elif fault := _fault(site, replica, load, now_ns):
            actions.append(StopReplica(replica.job, fault))
        elif _on_leaving_node(site, replica):
            leaving.append(replica)
        elif deployment.target and _is_former(site, deployment, replica):
            former.append(replica)
        else:
            staying.append(replica)
    if deployment.leaving and not replicas:
        return [Leave(deployment.name)]
    ready = sum(1 for replica in staying if replica.state is ReplicaState.READY)
    for replica in leaving:
        if ready >= min(deployment.target, len(staying)) > 0 or deployment.target == 0:
            actions.append(DrainReplica(replica.job, "its node is to be empty"))
    if former:
        unplaced = [one for one in staying if not current_attempt(site, one)]
        stuck = any(now_ns - one.started_ns >= ROOM_NS for one in unplaced)
        # One at a time makes room; and where the new ones fail, the former ones are better than nothing.
        room = stuck and not deployment.failures and len(staying) + len(former) == len(replicas)
        spare = max(int(room), len(former) - max(0, deployment.target - ready))
        least = sorted(former, key=lambda replica: _worth(replica, load))
        actions += [DrainReplica(replica.job, "the deployment was changed") for replica in least[:spare]]
    surplus = len(staying) - deployment.target
    if surplus > 0:
        least = sorted(staying, key=lambda replica: _worth(replica, load))
        why = "the deployment leaves" if deployment.leaving else "fewer replicas are wanted"
        actions += [DrainReplica(replica.job, why) for replica in least[:surplus]]
    elif surplus < 0 and _may_start(deployment, now_ns) and not _fails(actions):
        # After a failure one at a time, so that a model that cannot run does not fill the site with attempts.
        actions += [StartReplica(deployment.name)] * (-surplus if not deployment.failures else min(1, -surplus))
    return actions


def _is_former(site: Site, deployment: Deployment, replica: Replica) -> bool:
    """Whether it runs something else than its deployment asks for now."""
    runs = site.jobs.by_id[replica.job].request
    wanted = launch.request(deployment.name, deployment.serving)
    return (runs.command, runs.needs, runs.workdir, runs.on) != (
        wanted.command,
        wanted.needs,
        wanted.workdir,
        wanted.on,
    )


def _fails(actions: Sequence[Action]) -> bool:
    """Whether a failure is about to be counted: how long to wait is known only then."""
    return any(isinstance(action, Bury) and action.failed for action in actions)


def _ended_as(state: JobState, exit_code: int | None) -> str:
    return f"{state.value}, exit code {exit_code}"


def _may_start(deployment: Deployment, now_ns: int) -> bool:
    wait_s = BACKOFF_S[min(deployment.failures, len(BACKOFF_S) - 1)]
    return now_ns - deployment.failed_ns >= wait_s * S_NS


def _is_drained(replica: Replica, load: Load, now_ns: int) -> bool:
    seen = load.seen.get(replica.job)
    free = load.whole and seen is not None and seen.active == 0
    idle = free and now_ns - replica.drained_ns >= 2 * S_NS
    never_served = replica.ready_ns == 0
    return idle or never_served or now_ns - replica.drained_ns >= DRAIN_NS


def _fault(site: Site, replica: Replica, load: Load, now_ns: int) -> str:
    """Why a replica that runs is given up, or nothing."""
    attempt = current_attempt(site, replica)
    job = site.jobs.by_id[replica.job]
    task = job.tasks.get(0)
    if not attempt or task is None or not task.started_ns:
        return ""
    seen = load.seen.get(replica.job)
    if replica.attempt == attempt:
        if seen is not None and seen.attempt == attempt and seen.silent_ms * 1_000_000 >= SILENT_NS:
            return f"it has not answered for {seen.silent_ms // 1000}s"
        return ""
    if seen is not None and now_ns - task.placed_ns >= START_NS:
        return f"it was not ready {START_NS // S_NS}s after its start"
    return ""


def _on_leaving_node(site: Site, replica: Replica) -> bool:
    task = site.jobs.by_id[replica.job].tasks.get(0)
    if task is None or not task.live_ranks():
        return False
    node = site.nodes.by_id.get(task.nodes[0])
    return node is not None and node.state is NodeState.DRAINING


def _worth(replica: Replica, load: Load) -> tuple[int, int, int]:
    """The least worth keeping first: not ready, then idle, then young."""
    seen = load.seen.get(replica.job)
    active = seen.active if seen else 0
    return (replica.state is ReplicaState.READY, active, -number_of(replica.job))
