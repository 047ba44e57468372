"""`myc nodes` and `myc node …`: the machines of the site, and taking one out and in again while work goes on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mycelium.base.errors import Missing
from mycelium.base.ids import number_of
from mycelium.base.units import format_size
from mycelium.cli.options import Json, Node
from mycelium.client import show
from mycelium.client.site import connect

COMMON = ("os", "kernel", "python", "limits", "sandbox")  # labels that a listing leaves to `myc node show`


def nodes(json: Json = False) -> None:
    """List the nodes: their state, what they offer, what of it is free."""
    found = connect().get("/nodes")
    if json:
        show.document(found)
        return
    if not found["nodes"]:
        show.note("the site has no nodes yet")
        return
    head = ("NODE", "NAME", "STATE", "CPUS FREE", "MEMORY FREE", "GPUS FREE", "STEPS", "SINCE", "LABELS")
    listed = sorted(found["nodes"], key=lambda node: number_of(node["id"]))
    show.table(head, [_row(node) for node in listed], right=head[3:8])


def path(node: str, verb: str = "") -> str:
    """Where the site answers for a node. Errors: `Missing` for what can be no node's name."""
    if not node or "/" in node:
        raise Missing(f"no node is called {node!r}", hint="`myc nodes` lists them")
    return f"/nodes/{node}/{verb}" if verb else f"/nodes/{node}"


def _row(node: dict[str, Any]) -> tuple[str, ...]:
    free, all_ = node["free"], node["devices"]
    return (
        node["id"],
        show.clean(node["name"]),
        show.state(node["state"]),
        f"{free['cpus']:g}/{all_['cpus']:g}",
        f"{format_size(free['memory'])}/{format_size(all_['memory'])}",
        f"{free['gpus']}/{all_['gpus']}" if all_["gpus"] else "-",
        str(len(node["steps"])),
        show.ago(node["since"]),
        show.clean(labels({name: value for name, value in node["labels"].items() if name not in COMMON})),
    )


def labels(found: dict[str, str]) -> str:
    """As `--on` takes them."""
    return ",".join(name if value in ("", "true") else f"{name}={value}" for name, value in sorted(found.items()))


def show_node(node: Node, json: Json = False) -> None:
    """Everything about one node."""
    found = connect().get(path(node))
    if json:
        show.document(found)
        return
    _facts(found)


def _facts(node: dict[str, Any]) -> None:
    show.facts(
        (
            ("node", f"{node['id']}  {show.clean(node['name'])}"),
            ("state", f"{show.state(node['state'])} for {show.ago(node['since'])}"),
            ("drained by", show.clean(node.get("drained_by") or "")),
            ("offers", show.devices(node["devices"])),
            ("free", show.devices(node["free"])),
            ("address", show.clean(node.get("address") or "")),
            ("times lost", node.get("lost_count") or ""),
            ("labels", show.clean(labels(node["labels"]))),
            ("steps", ", ".join(node["steps"]) or "none"),
        )
    )


def drain(
    node: Node,
    now: Annotated[bool, typer.Option("--now", help="Stop its steps; their tasks run again elsewhere.")] = False,
    json: Json = False,
) -> None:
    """Give a node no more work. It is drained, and may be switched off, when its last step has ended."""
    found = connect().post(path(node, "drain"), {"now": now})
    if json:
        show.document(found)
        return
    left = len(found["steps"])
    show.say(f"{found['id']} is {show.state(found['state'])}")
    if left and not now:
        show.note(f"{show.counted(left, 'step')} still run there; `myc node drain {found['id']} --now` stops them")


def resume(node: Node, json: Json = False) -> None:
    """Take a drained node back: it gets work again."""
    found = connect().post(path(node, "return"))
    if json:
        show.document(found)
        return
    show.say(f"{found['id']} is {show.state(found['state'])}")


def approve(node: Node, json: Json = False) -> None:
    """Let a machine in that asks to join: it becomes a node and gets work."""
    found = connect().post(path(node, "approve"))
    if json:
        show.document(found)
        return
    show.say(f"{found['id']} ({show.clean(found['name'])}) is approved")


def invite(json: Json = False) -> None:
    """Print a token that lets one machine in, within a day and without approval. Give it to `myc join --token-file`."""
    found = connect().post("/machines/invite")
    if json:
        show.document(found)
        return
    show.say(found["token"])
    if found["ca"]:
        show.say(found["ca"])


def remove(node: Node, json: Json = False) -> None:
    """Take a node out of the site. Drain it first; what still runs there is queued again."""
    found = connect().delete(path(node))
    if json:
        show.document(found)
        return
    show.say(f"{node} has left the site")
