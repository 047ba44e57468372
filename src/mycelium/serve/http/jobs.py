"""The doors to jobs: submit, list, show, cancel, why, story, logs, outputs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import Response

from mycelium.base.documents import is_list, is_object
from mycelium.base.errors import Conflict, Fault, Missing, Problem, Refused
from mycelium.base.ids import AccountId, JobId, number_of, parse_task
from mycelium.base.limits import JOBS_PER_SUBMIT_MAX, JOBS_SHOWN_MAX, KEY_LENGTH_MAX
from mycelium.base.subject import Subject
from mycelium.head import views
from mycelium.head.codec import decode_job
from mycelium.head.core import Core
from mycelium.head.history import about, event_view, pruned_part
from mycelium.head.steps import outputs_of
from mycelium.jobs import request as job_request
from mycelium.jobs.admit import check_possible
from mycelium.jobs.commands import Cancel, Submit
from mycelium.jobs.domain import index_of
from mycelium.jobs.model import ENDED, FIRST_STATES, Job, JobState
from mycelium.jobs.model import Request as JobRequest
from mycelium.jobs.why import dry_run, why
from mycelium.jobs.why import say as say_why
from mycelium.serve.http import batches as batch_jobs
from mycelium.serve.http import programs
from mycelium.serve.http.auth import TheSubject
from mycelium.serve.http.ground import TheGround, TheHead
from mycelium.serve.http.logs import follow_job
from mycelium.serve.http.record import TheKeeper
from mycelium.serve.http.schema import DRY_RUN_BODY, SUBMIT_BODY
from mycelium.serve.http.wire import ERRORS, answer, read_document, stream_events
from mycelium.store.objects import Objects

router = APIRouter(tags=["jobs"], responses=ERRORS)

JobPath = str
STATES = tuple(dict.fromkeys([*(state.value for state in JobState), "placed", "stopping"]))
Limit = Annotated[int, Query(ge=1, le=JOBS_SHOWN_MAX)]
Offset = Annotated[int, Query(ge=0, le=1 << 50)]
Number = Annotated[int | None, Query(ge=0, le=1 << 50)]


@router.post(
    "/jobs", status_code=201, openapi_extra={"requestBody": SUBMIT_BODY}, summary="Submit one job, or many at once"
)
async def submit(
    request: Request,
    ground: TheGround,
    head: TheHead,
    subject: TheSubject,
    idempotency_key: Annotated[str, Header(max_length=KEY_LENGTH_MAX)] = "",
) -> Response:
    """All of them are accepted, or none; and once, however often it is sent with the same `Idempotency-Key`."""
    document = await read_document(request)
    written = document["jobs"] if is_object(document) and set(document) == {"jobs"} else [document]
    if not is_list(written) or not 1 <= len(written) <= JOBS_PER_SUBMIT_MAX:
        raise Refused(f"jobs must be a list of 1 to {JOBS_PER_SUBMIT_MAX} jobs")
    requests = tuple(_read_all(written))
    _check_workdirs(ground.objects, requests)
    requests = await programs.admit_all(
        ground.objects, ground.checks, requests, lambda: _own(head.core, subject.account)
    )
    jobs = await head.ask(Submit(subject.account, requests, idempotency_key), subject)
    shown = [views.job_view(head.core, _known(head.core, job), head.clock.now_ns()) for job in jobs]
    return answer({"jobs": shown}, 201)


def _own(core: Core, account: AccountId) -> Iterator[Job]:
    """The account's jobs that are still in memory, newest first."""
    return (job for job in reversed(core.site.jobs.by_id.values()) if job.account == account)


def _read_all(written: list[Any]) -> Iterator[JobRequest]:
    """The requests of a batch; when one is wrong, the message says which."""
    for position, document in enumerate(written):
        try:
            yield job_request.read(document)
        except Problem as problem:
            if len(written) == 1:
                raise
            faults = problem.faults or (Fault("", problem.message, problem.hint),)
            where = f"jobs[{position}]"
            named = tuple(Fault(f"{where}.{f.where}".rstrip("."), f.message, f.hint) for f in faults)
            raise Refused(f"{where}: {problem.message}", hint=problem.hint, faults=named) from None


def _check_workdirs(objects: Objects, requests: tuple[JobRequest, ...]) -> None:
    """A directory must have arrived before the job that begins with it. Errors: `Conflict`."""
    wanted = {wanted.workdir for wanted in requests if wanted.workdir is not None}
    for digest in objects.missing(wanted):
        raise Conflict(f"the working directory {digest[:12]}… is not here", hint="send it to /objects first")


def _known(core: Core, job: JobId) -> Job:
    """A job, from memory or from the archive. Errors: `Missing`."""
    found = core.site.jobs.by_id.get(job)
    if found is None:
        archived = core.log.archived(job)
        if archived is None:
            raise Missing(f"{job} is not known", hint="`myc jobs --all` lists the jobs")
        found = decode_job(archived)
    return found


def _shown(core: Core, job: Job, subject: Subject, now_ns: int) -> views.Document:
    """A job as this account may see it: what others run is their own affair."""
    view = views.job_view(core, job, now_ns)
    if not core.house.looks["what a job runs and in which environment"].allows(subject, core.view, job):
        view["command"] = None
        view["request"] = {**view["request"], "env": None, "workdir": None, "program": None, "input": None}
    return view


@router.post("/jobs/dry-run", openapi_extra={"requestBody": DRY_RUN_BODY}, summary="Say what would happen to a job")
async def plan_only(request: Request, head: TheHead, subject: TheSubject) -> Response:
    """Where and when the job would start if it were submitted now. Changes nothing."""
    wanted = job_request.read(await read_document(request))
    core = head.core
    core.look("what would happen to a job", subject, Submit(subject.account, (wanted,)))
    check_possible(core.site, wanted)
    found = dry_run(core.site, index_of(core.view).queue, wanted, subject.account, head.clock.now_ns())
    return answer({"why": found, "says": say_why(found)})


@router.get("/jobs", summary="List jobs, newest first")
async def list_jobs(
    head: TheHead,
    subject: TheSubject,
    state: Annotated[str, Query(max_length=32)] = "",
    all: bool = False,
    limit: Limit = 100,
    before: Number = None,
) -> Response:
    """Those that have not ended; with `all` or a `state` the ended ones too. `before`: only older than this number.

    Batches of requests to models come first: they are jobs too, and have no number.
    """
    state = FIRST_STATES.get(state, state)
    if state and state not in STATES:
        raise Refused(f"{state!r} is not a state of a job", hint=f"one of: {', '.join(STATES)}")
    now_ns = head.clock.now_ns()
    found = batch_jobs.listed(head.core, subject, ended_too=all or bool(state)) if before is None else ()
    batches = (batch_jobs.view(head.core, batch, now_ns) for batch in found)
    shown = [view for view in batches if not state or view["state"] == state][:limit]
    more = False
    for job in _newest_first(head.core, all or bool(state), before):
        if state and views.state_of(job) != state and job.state.value != state:
            continue
        if len(shown) == limit:
            more = True
            break
        shown.append(_shown(head.core, job, subject, now_ns))
    return answer({"jobs": shown, "more": more})


def _newest_first(core: Core, ended_too: bool, before: int | None) -> Iterator[Job]:
    oldest = before
    for name, job in reversed(core.site.jobs.by_id.items()):
        number = number_of(name)
        if (before is None or number < before) and (ended_too or job.state not in ENDED):
            oldest = number
            yield job
    while ended_too:
        page = core.log.archived_list(None, oldest, JOBS_SHOWN_MAX)
        if not page:
            return
        for row in page:
            oldest = number_of(row.job)
            yield decode_job(row.data)


@router.get("/jobs/{job}", summary="Show a job or an array task")
async def show_job(
    job: JobPath, head: TheHead, subject: TheSubject, tasks: Annotated[int, Query(ge=0, le=10_000)] = 1000
) -> Response:
    """The job with its tasks that have started (at most `tasks` of them)."""
    name, index = parse_task(job)
    found = _known(head.core, name)
    view = _shown(head.core, found, subject, head.clock.now_ns())
    chosen = sorted(found.tasks) if index is None else [_task_index(found, index)]
    view["tasks"] = [views.task_view(found, found.tasks[i]) for i in chosen[:tasks] if i in found.tasks]
    return answer(view)


def _task_index(job: Job, index: int) -> int:
    if job.request.array is None or index not in job.request.array.indices:
        raise Missing(f"{job.id} has no task {index}", hint=f"`myc job show {job.id}` shows its range")
    return index


@router.post("/jobs/{job}/cancel", summary="Cancel a job or an array task")
async def cancel(job: JobPath, head: TheHead, subject: TheSubject) -> Response:
    """What runs gets SIGTERM, and SIGKILL after the grace period. Cancelling what has ended changes nothing."""
    name, index = parse_task(job)
    if name not in head.core.site.jobs.by_id:
        _known(head.core, name)  # archived: ended long ago
    else:
        await head.ask(Cancel(subject.account, name, index), subject)
    return answer(_shown(head.core, _known(head.core, name), subject, head.clock.now_ns()))


@router.get("/jobs/{job}/why", summary="Why a job waits, and what would help")
async def why_job(job: JobPath, head: TheHead, subject: TheSubject) -> Response:
    """What binds it now, who is ahead, when it should start and on what that rests, and the smallest helpful change."""
    name, index = parse_task(job)
    found = _known(head.core, name)
    if found.id not in head.core.site.jobs.by_id:
        raise Missing(f"{name} ended and is in the archive", hint=f"`myc story {name}` tells what happened to it")
    if index is not None:
        _task_index(found, index)
    core = head.core
    reasons = why(core.site, index_of(core.view).queue, name, index, head.clock.now_ns())
    return answer({"why": reasons, "says": say_why(reasons)})


@router.get("/jobs/{job}/story", summary="Every event that touched a job, in words")
async def story(job: JobPath, keeper: TheKeeper, head: TheHead, subject: TheSubject) -> Response:
    """What was told so long ago that it left the log is not here: `pruned` says since when, and which files hold it."""
    name, index = parse_task(job)
    found = _known(head.core, name)
    head.core.look("a job's story", subject, found)
    array = found.request.array is not None
    told: list[views.Document] = []
    for entry, event in about(head.core, name):
        if index is not None and getattr(event, "index", index) != index:
            continue
        told.append(event_view(head.core, entry, event, array))
    last_ns = found.ended_ns if found.state in ENDED else head.clock.now_ns()
    pruned = await asyncio.to_thread(pruned_part, keeper.whole, found.submitted_ns, last_ns)
    return answer({"story": told, "pruned": pruned})


@router.get("/jobs/{job}/outputs", summary="What the winning attempts committed")
async def outputs(job: JobPath, head: TheHead, subject: TheSubject) -> Response:
    """Tree objects by the path under which they belong; fetch them from /objects."""
    name, index = parse_task(job)
    found = _known(head.core, name)
    head.core.look("a job's outputs", subject, found)
    wanted = "" if index is None else f"/{_task_index(found, index)}"
    trees = [
        {"path": path.lstrip("/"), "tree": tree}
        for path, tree in outputs_of(found)
        if path == wanted or path.startswith(f"{wanted}/")
    ]
    return answer({"job": name, "asked": list(found.request.outputs), "outputs": trees})


@router.get("/jobs/{job}/logs", summary="What a job wrote, as server-sent events")
async def logs(
    job: JobPath,
    head: TheHead,
    subject: TheSubject,
    ground: TheGround,
    follow: bool = False,
    attempt: Annotated[int | None, Query(ge=1, le=1 << 31)] = None,
    rank: Annotated[int | None, Query(ge=0, le=1 << 20)] = None,
    stream: Annotated[str, Query(pattern="^(stdout|stderr|both)$")] = "both",
    offset_stdout: Offset = 0,
    offset_stderr: Offset = 0,
) -> Response:
    """Events `stdout` and `stderr` of `{task, attempt, rank, offset, data}` (in base64), then `end` with the job."""
    name, index = parse_task(job)
    found = _known(head.core, name)
    head.core.look("a job's logs", subject, found)
    if index is not None:
        _task_index(found, index)
    streams = ("stdout", "stderr") if stream == "both" else (stream,)
    offsets = {"stdout": offset_stdout, "stderr": offset_stderr}
    told = follow_job(head, ground.objects, found, index, attempt, rank, streams, offsets, follow)
    return stream_events(told)
