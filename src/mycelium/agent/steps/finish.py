"""After a step's end: what it left on disk becomes objects, and its status becomes the report."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import msgspec

from mycelium.agent.shim import pump
from mycelium.base import files
from mycelium.base.errors import Problem
from mycelium.base.ids import Digest
from mycelium.base.limits import LOG_BYTES_MAX, OUTPUT_BYTES_MAX
from mycelium.engine import step_files
from mycelium.engine.orders import Ended, Reason, Step
from mycelium.store.collect import collect
from mycelium.store.objects import Objects
from mycelium.store.survey import Skipped

EXIT_LOST = 128 + signal.SIGKILL
SKIPPED_NAMED = 3  # in the message of a step; a person reads no more


def lost(started_ns: int, now_ns: int, message: str) -> Ended:
    return Ended(Reason.LOST, EXIT_LOST, message, started_ns=started_ns, ended_ns=now_ns)


def from_status(status: dict[str, Any]) -> Ended:
    """Errors: msgspec.ValidationError when this is no status."""
    return msgspec.convert(status, Ended)


def has_leavings(step: Step, ended: Ended, directory: Path) -> bool:
    """Whether there is anything for `keep` to do: a step without logs and outputs costs no thread."""
    wants_outputs = bool(step.outputs) and ended.reason is Reason.EXIT and ended.exit_code == 0
    return wants_outputs or any(_log_bytes(directory, stream) for stream in ("stdout", "stderr"))


def _log_bytes(directory: Path, stream: str) -> int:
    return sum(Path(path).stat().st_size for _, path in pump.segments(str(directory), stream))


def keep(step: Step, ended: Ended, directory: Path, objects: Objects, uid: int | None = None) -> Ended:
    """Put logs and, after a good end, outputs into the object store. With `uid`, only files that belong to it.

    A step whose outputs could not be kept has not succeeded, whatever its exit code was; one that left something
    unfit among them has, and its message names it.
    """
    try:
        (stdout, stdout_from), (stderr, stderr_from) = (
            _keep_log(directory, stream, objects) for stream in ("stdout", "stderr")
        )
        ended = msgspec.structs.replace(
            ended, stdout=stdout, stderr=stderr, stdout_from=stdout_from, stderr_from=stderr_from
        )
    except (Problem, OSError) as error:
        ended = msgspec.structs.replace(ended, message=_and(ended.message, f"log not kept: {error}"))
    if not step.outputs or ended.reason is not Reason.EXIT or ended.exit_code != 0:
        return ended
    skipped: list[Skipped] = []
    try:
        outputs = collect(
            directory / step_files.WORK,
            step.outputs,
            objects,
            bytes_max=OUTPUT_BYTES_MAX,
            uid=uid,
            tell=skipped.append,
            links_out=False,
        )
    except (Problem, OSError) as error:
        message = _and(ended.message, f"outputs not kept: {error}")
        return msgspec.structs.replace(ended, reason=Reason.DISK, exit_code=1, message=message)
    message = _and(ended.message, _left_out(skipped)) if skipped else ended.message
    return msgspec.structs.replace(ended, outputs=outputs, message=message)


def _left_out(skipped: list[Skipped]) -> str:
    named = ", ".join(str(one)[:200] for one in skipped[:SKIPPED_NAMED])
    more = f" and {len(skipped) - SKIPPED_NAMED:,} more" if len(skipped) > SKIPPED_NAMED else ""
    return f"left out of the outputs: {named}{more}"


def _and(said: str, more: str) -> str:
    return f"{said}; {more}" if said else more


def _keep_log(directory: Path, stream: str, objects: Objects) -> tuple[Digest | None, int]:
    """The kept segments as one object, and how many bytes were dropped: before them, or (the disk was full) among them.

    None when there is nothing.
    """
    if not _log_bytes(directory, stream):
        return None, 0
    left_bytes, kept_bytes, dropped_bytes = LOG_BYTES_MAX, 0, 0
    with objects.begin() as writing:
        for start, path in pump.segments(str(directory), stream):
            dropped_bytes = max(dropped_bytes, start - kept_bytes)
            with open(path, "rb") as file:
                while left_bytes > 0 and (data := file.read(min(left_bytes, 1 << 18))):
                    left_bytes -= len(data)
                    kept_bytes += len(data)
                    writing.write(data)
        return writing.commit(), dropped_bytes


def write_ended(ended: Ended, directory: Path) -> None:
    files.write(str(directory / step_files.ENDED), msgspec.json.encode(ended))


def read_ended(directory: Path) -> Ended | None:
    found = step_files.read_json(str(directory / step_files.ENDED))
    if found is None:
        return None
    try:
        return from_status(found)
    except msgspec.ValidationError:
        return None
