"""Makes the steps of an attempt: everything that a node must be told about one rank of one task."""

from __future__ import annotations

import hmac

from mycelium.base.ids import Digest, NodeId, StepId, number_of
from mycelium.base.limits import GANG_PORT_FIRST, GANG_PORTS, GRACE_MS
from mycelium.engine.orders import Step
from mycelium.jobs.model import TASK_ENDED, Job, Site, Task
from mycelium.nodes.model import Node


def step_name(job: Job, task: Task, rank: int) -> StepId:
    return job.step_name(task.index, task.attempt, rank)


def build_step(site: Site, job: Job, task: Task, rank: int) -> Step:
    """The order's content. Equal for equal state, so an order that is sent again says the same."""
    request = job.request
    return Step(
        id=step_name(job, task, rank),
        command=request.command,
        devices=request.needs,
        time_ms=0 if request.service else request.time_ms,
        grace_ms=GRACE_MS,
        sandbox=request.sandbox,
        service=request.service,
        net=request.net,
        env={**request.env, **_environment(site, job, task, rank)},
        workdir=request.workdir,
        inputs=tuple(_inputs(site, job)),
        outputs=request.outputs,
        port=task.port if rank == 0 else 0,
    )


def _environment(site: Site, job: Job, task: Task, rank: int) -> dict[str, str]:
    nodes = [_node(site, node) for node in task.nodes]
    needs = job.request.needs
    env = {
        "MYC_JOB_ID": job.id,
        "MYC_TASK_ID": job.task_name(task.index),
        "MYC_JOB_NAME": job.request.name,
        "MYC_ATTEMPT": str(task.attempt),
        "MYC_CPUS": f"{needs.cpu_m / 1000:g}",
        "MYC_MEMORY_BYTES": str(needs.memory_bytes),
        "MYC_GPUS": str(needs.gpus),
        "MYC_NODE_RANK": str(rank),
        "MYC_NODE_COUNT": str(len(nodes)),
        "MYC_NODE_NAME": nodes[rank].name,
        "MYC_NODE_ADDRESSES": ",".join(node.address for node in nodes),
    }
    if len(nodes) > 1:
        # The names that torch.distributed and its like look for, so that a gang finds itself without a word.
        port = gang_port(job, task)
        env["MYC_GANG_SECRET"] = gang_secret(site, job, task)
        env |= {"MYC_GANG_PORT": port, "MASTER_ADDR": nodes[0].address, "MASTER_PORT": port}
        env |= {"NODE_RANK": str(rank), "NNODES": str(len(nodes))}
        # These two count processes. A step that starts more than one a node (`torchrun` does) sets them for each.
        env |= {"RANK": str(rank), "WORLD_SIZE": str(len(nodes))}
    array = job.request.array
    if array is not None:
        env["MYC_ARRAY_INDEX"] = str(task.index)
        env["MYC_ARRAY_FIRST"] = str(array.start)
        env["MYC_ARRAY_LAST"] = str(array.indices[-1])
        env["MYC_ARRAY_COUNT"] = str(len(array.indices))
    return env


def gang_secret(site: Site, job: Job, task: Task) -> str:
    """What the ranks of one attempt know each other by, and nobody else on the network has.

    Made of what only the site knows (the hash of the account's token is never shown), so that an order that is sent
    again says the same.
    """
    key = site.accounts.by_id[job.account].token_hash.encode()
    about = f"gang {job.id} {job.submitted_ns} {task.index} {task.attempt}"
    return hmac.new(key, about.encode(), "sha256").hexdigest()


def gang_port(job: Job, task: Task) -> str:
    """The port where rank 0 of a gang listens. Where its node held none: one below those that systems hand out by
    themselves, so likely to be free, and another one for each attempt.
    """
    if task.port:
        return str(task.port)
    number = number_of(job.id) * 101 + task.index * 11 + task.attempt
    return str(GANG_PORT_FIRST + number % GANG_PORTS)


def _node(site: Site, node: NodeId) -> Node:
    return site.nodes.by_id[node]


def _inputs(site: Site, job: Job) -> list[tuple[str, Digest]]:
    """The outputs of the jobs it takes in: `inputs/job-7/3` for task 3, `inputs/job-7` for a job that is no array."""
    found: list[tuple[str, Digest]] = []
    for name in job.request.inputs:
        source = site.jobs.by_id.get(name)
        for path, tree in outputs_of(source) if source else ():
            found.append((f"inputs/{name}{path}", tree))
    return found


def outputs_of(job: Job) -> list[tuple[str, Digest]]:
    """What the winning attempts committed, as (path, tree): `/INDEX` in an array, `/rank-R` in a gang."""
    found: list[tuple[str, Digest]] = []
    for index in sorted(job.tasks):
        task = job.tasks[index]
        if task.state not in TASK_ENDED:
            continue
        for rank, end in enumerate(task.ends):
            if end is not None and end.outputs is not None:
                path = (f"/{index}" if job.request.array else "") + (f"/rank-{rank}" if len(task.ends) > 1 else "")
                found.append((path, end.outputs))
    return found
