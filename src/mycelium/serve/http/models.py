"""The head's doors to models, deployments, keys and usage. A key is made here, answered once, and kept as a hash."""

from __future__ import annotations

import asyncio
import secrets
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from fastapi.responses import Response

from mycelium.base.errors import Missing, Refused
from mycelium.base.ids import Digest, parse_digest
from mycelium.base.limits import CONTEXT_TOKENS_MAX, PARALLEL_MAX, REPLICAS_MAX
from mycelium.base.units import parse_cpus_m, parse_size
from mycelium.head.core import Core
from mycelium.head.views import devices_view, time_view
from mycelium.inference import launch
from mycelium.inference.commands import AddModel, CreateKey, Deploy, RemoveModel, RevokeKey, SeenReplica, Undeploy
from mycelium.inference.domain import load as load_of
from mycelium.inference.model import Backend, Deployment, Model, ModelKind, Serving, Used
from mycelium.inference.rules import check_name, check_serving, find_deployment, find_model
from mycelium.jobs.admit import check_possible
from mycelium.nodes.select import parse_terms
from mycelium.serve import upstream_keys
from mycelium.serve.gateway.paths import urls
from mycelium.serve.gateway.upstreams import name_of
from mycelium.serve.http.auth import TheSubject, hash_token
from mycelium.serve.http.ground import TheGround, TheHead
from mycelium.serve.http.schema import flat
from mycelium.serve.http.wire import ERRORS, answer, fields, read_document
from mycelium.store.objects import Objects
from mycelium.store.tree import EntryKind, TreeEntry, encode_tree, tree_of

router = APIRouter(tags=["models"], responses=ERRORS)

TEXT: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 128}
NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}
MODEL_BODY = flat(
    ["name", "digest"],
    name=TEXT,
    digest={"type": "string", "pattern": "^[0-9a-f]{64}$"},
    kind={"type": "string", "enum": [kind.value for kind in ModelKind]},
    source={"type": "string", "maxLength": 512},
)
DEPLOY_BODY = flat(
    ["name"],
    name=TEXT,
    model=TEXT,
    upstream={"type": "string", "maxLength": 512},
    upstream_key={"type": "string", "maxLength": upstream_keys.LENGTH_MAX},
    kind={"type": "string", "enum": [kind.value for kind in ModelKind]},
    backend={"type": "string", "enum": [backend.value for backend in Backend]},
    replicas_min={**NUMBER, "maximum": REPLICAS_MAX},
    replicas_max={**NUMBER, "maximum": REPLICAS_MAX},
    cpus={"type": "string", "maxLength": 16},
    memory={"type": "string", "maxLength": 16},
    gpus={**NUMBER, "maximum": 1024},
    parallel={**NUMBER, "maximum": PARALLEL_MAX},
    context={**NUMBER, "maximum": CONTEXT_TOKENS_MAX},
    on={"type": "string", "maxLength": 512},
    dry_run={"type": "boolean"},
)
KEY_BODY = flat(
    ["name"],
    name=TEXT,
    rpm=NUMBER,
    tpm=NUMBER,
    models={"type": "array", "items": {"type": "string"}, "maxItems": 32},
)


def used_view(used: Used) -> dict[str, Any]:
    return {
        **msgspec.to_builtins(used),
        "tokens": used.prompt_tokens + used.completion_tokens,
        "ttft_mean_ms": round(used.ttft_ms / used.streams) if used.streams else None,
    }


def model_view(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind.value,
        "size_bytes": model.size_bytes,
        "digest": model.digest,
        "source": model.source,
        "by": model.by,
        "added": time_view(model.added_ns),
    }


@router.get("/models", summary="List the models of the catalogue")
async def list_models(head: TheHead, subject: TheSubject) -> Response:
    return answer({"models": [model_view(model) for model in head.core.site.inference.models.values()]})


@router.get("/models/{name:path}", summary="Show a model")
async def show_model(name: str, head: TheHead, subject: TheSubject) -> Response:
    return answer(model_view(find_model(head.core.site.inference, name)))


@router.post(
    "/models",
    status_code=201,
    summary="Add a model whose weights were sent to /objects",
    openapi_extra={"requestBody": MODEL_BODY},
)
async def add_model(request: Request, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    asked = fields(await read_document(request), name=str, digest=str, kind=str, source=str)
    digest = parse_digest(asked["digest"] or "")
    objects = ground.objects
    if not await asyncio.to_thread(objects.has, digest):
        raise Missing(f"object {digest[:12]} is not here", hint="send the weights to /objects first")
    kind = _one_of(ModelKind, asked["kind"] or "chat", "kind")
    command = AddModel(
        subject.account, asked["name"] or "", digest, objects.size(digest), kind, (asked["source"] or "")[:512]
    )
    name = await head.ask(command, subject)
    return answer(model_view(find_model(head.core.site.inference, name)), 201)


def _one_of(kind: Any, value: str, what: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        raise Refused(
            f"{value[:32]!r} is not a {what}", hint=f"one of: {', '.join(one.value for one in kind)}"
        ) from None


@router.delete("/models/{name:path}", summary="Remove a model")
async def remove_model(name: str, head: TheHead, subject: TheSubject) -> Response:
    await head.ask(RemoveModel(subject.account, name), subject)
    return answer({"removed": name})


# Deployments.


def deployment_view(core: Core, found: Deployment, now_ns: int) -> dict[str, Any]:
    serving = found.serving
    load = load_of(core.view, now_ns)
    queue = load.queues.get(found.name)
    replicas: list[dict[str, Any]] = []
    for replica in core.site.inference.replicas_of(found.name):
        job = core.site.jobs.by_id.get(replica.job)
        task = job.tasks.get(0) if job else None
        seen = load.seen.get(replica.job) or SeenReplica(replica.job, 0, False)
        replicas.append(
            {
                "job": replica.job,
                "state": replica.state.value if replica.ready_ns or replica.drained_ns else "starting",
                "node": task.nodes[0] if task is not None and task.live_ranks() else None,
                "started": time_view(replica.started_ns),
                "ready": time_view(replica.ready_ns),
                **_measured(seen),
                "why": replica.why,
            }
        )
    if serving.upstream and (seen := load.seen.get(name_of(found.name))):
        state = "ready" if seen.ready else "away"
        nothing = dict.fromkeys(("node", "started", "ready"))
        replicas.append({"job": "upstream", "state": state, **nothing, **_measured(seen), "why": seen.fault})
    return {
        "name": found.name,
        "model": serving.model or None,
        "upstream": serving.upstream or None,
        "upstream_model": serving.upstream_model or None,
        "kind": serving.kind.value,
        "backend": serving.backend.value,
        "by": found.by,
        "state": state_of(found, replicas),
        "target": found.target,
        "replicas_min": serving.replicas_min,
        "replicas_max": serving.replicas_max,
        "needs": devices_view(serving.needs),
        "parallel": serving.parallel,
        "context": serving.context,
        "failures": found.failures,
        "message": found.message,
        "waiting": queue.waiting if queue else 0,
        "active": queue.active if queue else 0,
        "batch_lines": queue.batch_lines if queue else 0,
        "command": None if serving.upstream else launch.shown(found.name, serving),
        "replicas": replicas,
    }


def _measured(seen: SeenReplica) -> dict[str, Any]:
    return {
        "active": seen.active,
        "tokens_s": round(seen.tokens_s, 1),
        "ttft_ms": seen.ttft_ms,
        "requests": seen.requests,
        "tokens": seen.tokens,
    }


def state_of(found: Deployment, replicas: list[dict[str, Any]]) -> str:
    if found.leaving:
        return "leaving"
    if any(replica["state"] == "ready" for replica in replicas):
        return "ready"
    if found.serving.upstream:
        return "away" if replicas else "starting"
    if found.target == 0:
        return "asleep"  # the next request wakes it
    return "failing" if found.failures else "starting"


@router.get("/deployments", summary="List what is served")
async def list_deployments(request: Request, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    now_ns = head.clock.now_ns()
    found = head.core.site.inference.deployments.values()
    shown = [deployment_view(head.core, one, now_ns) for one in found]
    return answer({**gateways_view(ground.gateway.home), "deployments": shown})


@router.get("/deployments/{name:path}", summary="Show a deployment and its replicas")
async def show_deployment(name: str, head: TheHead, subject: TheSubject) -> Response:
    found = find_deployment(head.core.site.inference, name)
    return answer(deployment_view(head.core, found, head.clock.now_ns()))


def gateways_view(home: Path) -> dict[str, Any]:
    """Where gateways answer, and one of them for who needs only one; None while there is none."""
    found = urls(home)
    return {"gateway": found[0] if found else None, "gateways": found}


@router.post(
    "/deployments", status_code=201, summary="Serve a model, or change how", openapi_extra={"requestBody": DEPLOY_BODY}
)
async def deploy(request: Request, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    """With `dry_run` nothing happens: the answer shows the command that replicas would run."""
    asked = fields(
        await read_document(request),
        **dict.fromkeys(("name", "model", "upstream", "upstream_key", "kind", "backend", "cpus", "memory", "on"), str),
        **dict.fromkeys(("replicas_min", "replicas_max", "gpus", "parallel", "context"), int),
        dry_run=bool,
    )
    name, state = asked["name"] or "", head.core.site.inference
    check_name(name, "deployment")
    serving = await asyncio.to_thread(_with_tree, ground.objects, _serving(asked, head.core), head.core)
    if asked["dry_run"]:
        check_serving(serving, state)
        shown = Deployment(name, subject.account, subject.name, serving, serving.replicas_min, 0)
        view = deployment_view(head.core, shown, head.clock.now_ns())
        return answer({**view, "state": "dry-run", "replicas": [], "message": _impossible(head.core, shown)})
    _check_possible(head.core, name, serving)
    key = upstream_keys.check(asked["upstream_key"] or "")
    await head.ask(Deploy(subject.account, name, serving), subject)
    await ground.gateway.upstream_keys.keep(name, serving.upstream, key)
    return answer(deployment_view(head.core, find_deployment(state, name), head.clock.now_ns()), 201)


def _check_possible(core: Core, name: str, serving: Serving) -> None:
    """Errors: `Refused` for what no node could ever run."""
    if serving.upstream:
        return
    backend = serving.backend
    nodes = [node for node in core.site.nodes.by_id.values() if node.present]
    if nodes and not any(backend.value in node.labels for node in nodes):
        extra = "`pip install 'mycelium[llm]'`" if backend is Backend.LLAMA else "`pip install vllm`"
        raise Refused(f"no node has {backend.value}", hint=f"{extra} on one, and start it again")
    check_possible(core.site, launch.request(name, serving))


def _impossible(core: Core, shown: Deployment) -> str:
    """Why no node could run a replica now, or nothing."""
    try:
        _check_possible(core, shown.name, shown.serving)
    except Refused as refused:
        return refused.message
    return ""


def _serving(asked: dict[str, Any], core: Core) -> Serving:
    if asked["upstream"]:
        kind = _one_of(ModelKind, asked["kind"] or "chat", "kind")
        parallel = asked["parallel"] or 64
        upstream, model = asked["upstream"].rstrip("/"), asked["model"] or ""
        if model:
            check_name(model, "model")
        return Serving(upstream=upstream, kind=kind, parallel=parallel, replicas_min=0, upstream_model=model)
    if asked["upstream_key"]:
        raise Refused("only an upstream is shown a key", hint="name it with --upstream")
    model = find_model(core.site.inference, asked["model"] or asked["name"] or "")
    least = 1 if asked["replicas_min"] is None else asked["replicas_min"]
    most = max(least, 1) if asked["replicas_max"] is None else asked["replicas_max"]
    memory_bytes = parse_size(asked["memory"]) if asked["memory"] else 0
    cpu_m = parse_cpus_m(asked["cpus"]) if asked["cpus"] else 1000
    gpus = asked["gpus"] or 0
    if not 0 <= gpus <= 1024:
        raise Refused(f"{gpus} gpus is out of range")
    serving = Serving(
        model=model.name,
        kind=model.kind,
        backend=_one_of(Backend, asked["backend"] or Backend.LLAMA.value, "backend"),
        replicas_min=least,
        replicas_max=most,
        needs=launch.needs(cpu_m, memory_bytes, gpus, model.size_bytes),
        parallel=4 if asked["parallel"] is None else asked["parallel"],
        context=2048 if asked["context"] is None else asked["context"],
        on=parse_terms(asked["on"] or ""),
    )
    check_serving(serving, core.site.inference)
    return serving


def _with_tree(objects: Objects, serving: Serving, core: Core) -> Serving:
    """The directory that a replica begins with: the weights and the program that serves them."""
    if serving.upstream:
        return serving
    model = find_model(core.site.inference, serving.model)
    program = files("mycelium.programs").joinpath(launch.PROGRAM).read_bytes()
    entries = [
        TreeEntry(launch.WEIGHTS, EntryKind.FILE, model.size_bytes, digest=model.digest),
        TreeEntry(launch.PROGRAM, EntryKind.FILE, len(program), digest=objects.put(program)),
    ]
    tree: Digest = objects.put(encode_tree(tree_of(entries)))
    return msgspec.structs.replace(serving, workdir=tree)


@router.delete("/deployments/{name:path}", summary="Serve it no more")
async def undeploy(name: str, request: Request, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    """Its replicas get no new requests, and are stopped when they have none left."""
    await head.ask(Undeploy(subject.account, name), subject)
    await ground.gateway.upstream_keys.keep(name, "", "")
    return answer({"leaving": name}, 202)


# Keys and usage.


@router.get("/keys", summary="List the keys of the account; an admin sees all")
async def list_keys(request: Request, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    site = head.core.site
    shown = [
        {
            "id": key.id,
            "name": key.name,
            "account": site.accounts.by_id[key.account].name,
            "created": time_view(key.created_ns),
            "rpm": key.rpm,
            "tpm": key.tpm,
            "models": list(key.models),
            "used": used_view(key.used),
        }
        for key in site.inference.keys.values()
        if head.core.house.looks["a key"].allows(subject, head.core.view, key)
    ]
    return answer({**gateways_view(ground.gateway.home), "keys": shown})


@router.post("/keys", status_code=201, summary="Make a key for the gateway", openapi_extra={"requestBody": KEY_BODY})
async def create_key(request: Request, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    """Answers with the key: it is shown this once and never again."""
    asked = fields(await read_document(request), name=str, rpm=int, tpm=int, models=list)
    models: list[Any] = asked["models"] or []
    if not all(isinstance(pattern, str) for pattern in models):
        raise Refused("models must be a list of texts")
    secret = f"sk-myc-{secrets.token_urlsafe(32)}"
    command = CreateKey(
        subject.account, asked["name"] or "", hash_token(secret), asked["rpm"] or 0, asked["tpm"] or 0, tuple(models)
    )
    made = await head.ask(command, subject)
    return answer({"id": made, "name": asked["name"], "key": secret}, 201)


@router.delete("/keys/{key}", summary="Revoke a key")
async def revoke_key(key: str, head: TheHead, subject: TheSubject) -> Response:
    return answer({"revoked": await head.ask(RevokeKey(subject.account, key), subject)})


@router.get("/usage", summary="What was used of the models, by account")
async def usage(head: TheHead, subject: TheSubject) -> Response:
    site = head.core.site
    may = head.core.house.looks["what an account used"]
    seen = ((name, used) for name, used in site.inference.used.items() if may.allows(subject, head.core.view, name))
    mine = {site.accounts.by_id[name].name: used_view(used) for name, used in seen}
    return answer({"accounts": mine})
