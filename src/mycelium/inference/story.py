"""Says in words what an event of inference means to the people of a site: one sentence an event.

Never: looks anything up: what a sentence needs is in the event.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mycelium.base.units import format_size
from mycelium.inference import events as happened
from mycelium.inference.events import InferenceEvent
from mycelium.inference.spans import count


def say(event: InferenceEvent) -> str:
    return SENTENCES[type(event)](event)


def _say_set(event: happened.DeploymentSet) -> str:
    serving = event.serving
    if serving.upstream:
        return f"{event.by} serves {event.deployment} from {serving.upstream}"
    least, most = serving.replicas_min, serving.replicas_max
    some = str(least) if least == most else f"{least} to {most}"
    return f"{event.by} serves {serving.model} as {event.deployment}, replicas: {some}"


def _say_gone(event: happened.ReplicaGone) -> str:
    how = f"failed: {event.message}" if event.failed else "is gone"
    return f"a replica of {event.deployment} {how}"


def _say_usage(event: happened.UsageRecorded) -> str:
    tokens = sum(row.used.prompt_tokens + row.used.completion_tokens for row in event.rows)
    requests = sum(row.used.requests for row in event.rows)
    return f"{requests} requests used {tokens:,} tokens"


def _say_checked(event: happened.BatchChecked) -> str:
    if event.mistakes:
        return f"{event.batch} has {len(event.mistakes)} mistakes, the first: {event.mistakes[0].message}"
    return f"{event.batch} has {event.total:,} lines"


def _say_lines(event: happened.LinesDone) -> str:
    lines = count(event.done)
    are = "1 line of {} is" if lines == 1 else f"{lines:,} lines of {{}} are"
    if event.unrun == lines:
        return f"{are.format(event.batch)} not run"
    unrun = f", {event.unrun} were not run" if event.unrun else ""
    failed = f", {event.failed - event.unrun} failed" if event.failed > event.unrun else ""
    return f"{are.format(event.batch)} done{failed}{unrun}"


def _say_key(event: happened.KeyCreated) -> str:
    return f"{event.by} made the key {event.name!r} ({event.key})"


SENTENCES: dict[type, Callable[[Any], str]] = {
    happened.ModelAdded: lambda e: f"{e.by} added the model {e.model} ({format_size(e.size_bytes)}) from {e.source}",
    happened.ModelRemoved: lambda e: f"{e.by} removed the model {e.model}",
    happened.DeploymentSet: _say_set,
    happened.DeploymentLeaving: lambda e: f"{e.by} stops serving {e.deployment}",
    happened.DeploymentGone: lambda e: f"{e.deployment} is served no more",
    happened.TargetChanged: lambda e: f"{e.deployment} shall have {e.target} replicas: {e.why}",
    happened.ReplicaStarted: lambda e: f"{e.job} is a replica of {e.deployment}",
    happened.ReplicaReady: lambda e: f"attempt {e.attempt} is ready to serve {e.deployment}",
    happened.ReplicaDraining: lambda e: f"gets no new requests for {e.deployment}: {e.why}",
    happened.ReplicaGone: _say_gone,
    happened.KeyCreated: _say_key,
    happened.KeyRevoked: lambda e: f"{e.by} revoked {e.key}",
    happened.UsageRecorded: _say_usage,
    happened.FileAdded: lambda e: f"{e.account} stored {e.file} ({e.name}, {format_size(e.size_bytes)})",
    happened.FileRemoved: lambda e: f"{e.account} deleted {e.file}",
    happened.BatchCreated: lambda e: f"{e.account} submitted {e.batch} from {e.input_file}",
    happened.BatchClaimed: lambda e: f"a gateway works on {e.batch}",
    happened.BatchChecked: _say_checked,
    happened.LinesDone: _say_lines,
    happened.BatchTurned: lambda e: f"{e.batch} is {e.state.value}",
}
