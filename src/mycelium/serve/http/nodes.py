"""The doors to nodes: list, show, drain, return, remove."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from mycelium.base.subject import Subject
from mycelium.head import views
from mycelium.head.loop import Head
from mycelium.nodes.model import NodeState
from mycelium.nodes.rules import Drain, NodeCommand, Remove, Return, find
from mycelium.serve.http.auth import TheSubject
from mycelium.serve.http.ground import TheGround, TheHead
from mycelium.serve.http.schema import flat
from mycelium.serve.http.wire import ERRORS, answer, fields, read_document

router = APIRouter(tags=["nodes"], responses=ERRORS)


@router.get("/nodes", summary="List the nodes")
async def list_nodes(head: TheHead, subject: TheSubject) -> Response:
    nodes = head.core.site.nodes.by_id.values()
    return answer({"nodes": [views.node_view(head.core, node) for node in nodes if node.state is not NodeState.LEFT]})


@router.get("/nodes/{node}", summary="Show a node")
async def show_node(node: str, head: TheHead, subject: TheSubject) -> Response:
    return answer(views.node_view(head.core, find(head.core.site.nodes, node)))


@router.post(
    "/nodes/{node}/drain",
    summary="Give a node no more work",
    openapi_extra={"requestBody": flat([], now={"type": "boolean"})},
)
async def drain(node: str, request: Request, head: TheHead, subject: TheSubject) -> Response:
    """With `now` what runs there is stopped, with the grace period, and queued again."""
    now = bool(fields(await read_document(request), now=bool)["now"])
    return await _changed(head, Drain(node, now=now), subject)


@router.post("/nodes/{node}/return", summary="Give a drained node work again")
async def return_node(node: str, head: TheHead, subject: TheSubject) -> Response:
    return await _changed(head, Return(node), subject)


@router.delete("/nodes/{node}", summary="Take a drained or lost node out of the site")
async def remove(node: str, ground: TheGround, head: TheHead, subject: TheSubject) -> Response:
    answered = await _changed(head, Remove(node), subject)
    machine = find(head.core.site.nodes, node).machine
    if machine and ground.opened is not None:
        ground.opened.entrance.dismiss(machine)
    return answered


async def _changed(head: Head, command: NodeCommand, subject: Subject) -> Response:
    node = await head.ask(command, subject)
    return answer(views.node_view(head.core, head.core.site.nodes.by_id[node]))
