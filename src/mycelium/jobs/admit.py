"""Whether jobs are taken in: what is asked for becomes events, all of it or nothing, or is refused.

Never: reads a clock, opens a file, or asks who may: guards do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from mycelium.accounts.model import Account
from mycelium.base.errors import Conflict, Exhausted, Missing, Refused
from mycelium.base.ids import JobId, job_id
from mycelium.base.limits import QUEUED_JOBS_MAX
from mycelium.jobs.events import JobEvent, JobSubmitted
from mycelium.jobs.index import Index
from mycelium.jobs.model import Job, JobState, Request, Sandbox, Site
from mycelium.nodes.model import Devices
from mycelium.nodes.select import unmet


def decide_submit(
    site: Site, index: Index, account: Account, requests: Sequence[Request], key: str = ""
) -> tuple[list[JobEvent], tuple[JobId, ...]]:
    """The events of submitting, and the jobs' ids: all of them or none.

    The same `key` with the same requests gives the ids of the first time and no events.
    Errors: `Refused`, `Missing`, `Exhausted`, `Conflict`.
    """
    fingerprint = hashlib.sha256(msgspec.json.encode(requests)).hexdigest() if key else ""
    known = site.jobs.keys.get(f"{account.id}/{key}") if key else None
    if known is not None:
        if known.print != fingerprint:
            raise Conflict(f"the idempotency key {key!r} was used for another request", hint="use a new key")
        return [], known.jobs
    alive = len(site.jobs.by_id) - len(site.jobs.ended)
    if alive + len(requests) > QUEUED_JOBS_MAX:
        raise Exhausted(
            f"the site has {alive} jobs that have not ended; at most {QUEUED_JOBS_MAX} are allowed",
            hint="use arrays (one job, many tasks), or wait",
        )
    events: list[JobEvent] = []
    for position, request in enumerate(requests):
        number = job_id(site.jobs.next_number + position)
        _check_possible_once(site, index, request)
        waits_for = _waits_for(site, request)
        events.append(JobSubmitted(number, account.id, request, waits_for, key, fingerprint))
    return events, tuple(event.job for event in events)


def _check_possible_once(site: Site, index: Index, request: Request) -> None:
    """`check_possible`, which looks at every node, once for each shape until a node changes."""
    if request.sandbox is Sandbox.NONE or not index.is_servable(site.nodes.version, request):
        check_possible(site, request)
        index.found_servable(request)


def check_possible(site: Site, request: Request) -> None:
    """Refuse what no node of the site could ever run. A site that has no node yet refuses nothing.

    Errors: `Refused`.
    """
    nodes = [node for node in site.nodes.by_id.values() if node.present]
    if not nodes:
        return
    if request.sandbox is Sandbox.PROCESS:
        nodes = [node for node in nodes if node.labels.get("sandbox") == "process"]
        if not nodes:
            raise Refused(
                "no node can sandbox a job",
                hint="install the package 'bubblewrap' on the nodes; an admin can say `--sandbox none`",
            )
    fitting = [node for node in nodes if not unmet(request.on, node.labels)]
    if not fitting:
        raise Refused(
            f"no node has the labels {','.join(request.on)!r}", hint="`myc nodes --json` shows the labels of each node"
        )
    able = [node for node in fitting if node.devices.covers(request.needs)]
    if not able:
        raise Refused(_too_large(request.needs, [node.devices for node in fitting]), hint=_smaller(request))
    if len(able) < request.nodes:
        raise Refused(f"job asks for {request.nodes} nodes; {len(able)} could ever serve it", hint="lower --nodes")


def _too_large(needs: Devices, offers: list[Devices]) -> str:
    for word, asked, most in (
        ("cpus", needs.cpu_m, max(offer.cpu_m for offer in offers)),
        ("bytes of memory", needs.memory_bytes, max(offer.memory_bytes for offer in offers)),
        ("gpus", needs.gpus, max(offer.gpus for offer in offers)),
    ):
        if asked > most:
            scale = 1000 if word == "cpus" else 1
            return f"job asks for {asked / scale:g} {word}; the largest node has {most / scale:g}"
    return f"job asks for {needs}; no one node has all of it"


def _smaller(request: Request) -> str:
    return "ask for less on each node" if request.nodes > 1 else "ask for less, or spread it with --nodes"


def _waits_for(site: Site, request: Request) -> tuple[JobId, ...]:
    waits: list[JobId] = []
    for awaited in request.after:
        job = site.jobs.by_id.get(awaited)
        if job is None:
            raise Missing(f"{awaited} is not known", hint="`myc jobs --all` lists the jobs; old ones are archived")
        if job.state in (JobState.FAILED, JobState.CANCELLED):
            raise Refused(f"{awaited} {_became(job)}: what comes after it would never start")
        if job.state is not JobState.DONE:
            waits.append(awaited)
    return tuple(dict.fromkeys(waits))


def _became(job: Job) -> str:
    return "failed" if job.state is JobState.FAILED else "was cancelled"
