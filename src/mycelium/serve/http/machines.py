"""The doors for machines that join: ask to be a node, drain, leave; and for admins: approve, invite.

A machine is known by a key that it makes itself and shows as its bearer token; the site keeps the key's hash. It asks
again and again: to learn that it was approved, and later that the site has changed. What the engine needs for it to
take part is passed on unread.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from mycelium.base.errors import Denied, Refused, Unknown
from mycelium.base.limits import CLOCK_AHEAD_S, NAME_LENGTH_MAX
from mycelium.base.subject import MACHINE, Subject
from mycelium.base.units import S_NS, format_time_ms
from mycelium.base.version import __version__
from mycelium.engine.orders import WIRE_VERSION
from mycelium.engine.passage import key_of
from mycelium.head import views
from mycelium.head.loop import Head
from mycelium.nodes.model import Devices, Node, NodeState
from mycelium.nodes.rules import Approve, Ask, Drain, Remove, check_name, of_machine
from mycelium.serve.http import invites
from mycelium.serve.http.auth import TheSubject, hash_token
from mycelium.serve.http.ground import Opened, TheGround, TheHead
from mycelium.serve.http.schema import flat
from mycelium.serve.http.wire import ERRORS, answer, fields, read_document
from mycelium.serve.tls import check_request

router = APIRouter(tags=["machines"], responses=ERRORS)

LABELS_MAX = 64
_key = HTTPBearer(auto_error=False, description="the key of a machine: `myc join` makes it")
TEXT: dict[str, Any] = {"type": "string", "maxLength": NAME_LENGTH_MAX}
TEXTS: dict[str, Any] = {"type": "object", "additionalProperties": TEXT, "maxProperties": LABELS_MAX}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0, "maximum": 1 << 53}
MENDS = {
    "mycelium": "on this machine, `pip install mycelium=={}`",
    "python": "on this machine, `uv python install {}` and install mycelium with it",
    "ray": "on this machine, `pip install 'ray=={}'`",
}


def the_entrance(ground: TheGround) -> Opened:
    if ground.opened is None:
        raise Refused("this site runs on one machine alone", hint="start it with `myc up --engine ray --address IP`")
    return ground.opened


def the_machine(head: TheHead, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_key)]) -> Subject:
    """The machine that shows this key: its node's id is its name, once it has one."""
    if credentials is None or len(credentials.credentials) < 32:
        raise Unknown("no key was shown", hint="machines join with `myc join`")
    key = hash_token(credentials.credentials)
    node = of_machine(head.core.site.nodes, key)
    return Subject(node.id if node else "a machine", frozenset({MACHINE}), key=key, door="machines")


TheEntrance = Annotated[Opened, Depends(the_entrance)]
TheMachine = Annotated[Subject, Depends(the_machine)]


@router.post(
    "/machines",
    summary="Ask to be a node, or whether anything has changed",
    openapi_extra={
        "requestBody": flat(
            ["name", "versions", "time_ns"],
            name={**TEXT, "minLength": 1},
            versions=TEXTS,
            time_ns=COUNT,
            address=TEXT,
            socket={"type": "string", "maxLength": 107},
            objects=TEXT,
            passage=TEXT,
            devices={"type": "object", "additionalProperties": COUNT, "maxProperties": 3},
            labels=TEXTS,
            token={"type": "string", "maxLength": 256},
            request={"type": "string", "maxLength": 8192},
        )
    },
)
async def ask(request: Request, ground: TheGround, head: TheHead, opened: TheEntrance, machine: TheMachine) -> Response:
    """The `token` is looked at only when the site does not know the machine's key yet."""
    asked = fields(
        await read_document(request),
        name=str,
        versions=dict,
        time_ns=int,
        address=str,
        socket=str,
        objects=str,
        passage=str,
        devices=dict,
        labels=dict,
        token=str,
        request=str,
    )
    _check_versions(asked["versions"] or {}, _versions(opened))
    _check_clock(asked["time_ns"] or 0, head.clock.now_ns())
    if asked["request"] and opened.authority is not None:  # before the head has taken anything
        check_request(asked["request"], asked["address"] or "")
    node = of_machine(head.core.site.nodes, machine.key)
    if node is None or node.state is NodeState.LEFT:
        node = await _let_in(head, opened, machine, asked)
    elif (asked["name"] or "") != node.name:  # its agent would be refused, and nobody told
        check_name(head.core.site.nodes, asked["name"] or "", node.id)
    elif node.waiting:
        await head.ask(_asking(opened, machine, asked, ""), machine)  # nothing new: the head hears that it still asks
    waits = not node.approved
    engine = None
    if not waits and node.state is not NodeState.LEFT:
        engine = opened.entrance.admit(node.id, machine.key, asked["address"] or "", asked["socket"] or "")
    if engine is not None:
        engine["passage_key"] = key_of(ground.gateway.token, machine.key)
        if asked["passage"]:
            opened.passages[node.id] = asked["passage"]
    certificate = None
    if engine is not None and asked["request"] and opened.authority is not None:
        certificate = opened.authority.sign(asked["request"], asked["address"] or "")
    said = {"node": node.id, "name": node.name, "state": node.state.value, "waits": waits}
    return answer({**said, "engine": engine, "certificate": certificate})


async def _let_in(head: Head, opened: Opened, machine: Subject, asked: dict[str, Any]) -> Node:
    known = of_machine(head.core.site.nodes, machine.key)
    invite = ""
    if known is None or not known.approved:
        invite = invites.check(opened.site_token, asked["token"] or "", head.clock.now_ns())
    return head.core.site.nodes.by_id[await head.ask(_asking(opened, machine, asked, invite), machine)]


def _asking(opened: Opened, machine: Subject, asked: dict[str, Any], invite: str) -> Ask:
    return Ask(
        machine.key,
        asked["name"] or "",
        _devices(asked["devices"] or {}),
        _labels(asked["labels"] or {}),
        asked["address"] or "",
        approved=bool(invite),
        invite=invite,
        reserved=opened.entrance.own_nodes,
    )


def _devices(said: dict[str, Any]) -> Devices:
    counts = {key: said.get(key, 0) for key in ("cpu_m", "memory_bytes", "gpus")}
    if not all(isinstance(count, int) and 0 <= count <= 1 << 53 for count in counts.values()):
        raise Refused("devices must be counts of cpu_m, memory_bytes and gpus")
    return Devices(**counts)


def _labels(said: dict[str, Any]) -> dict[str, str]:
    texts = all(isinstance(value, str) and len(value) <= NAME_LENGTH_MAX for value in said.values())
    if not texts or len(said) > LABELS_MAX:
        raise Refused(f"labels must be at most {LABELS_MAX} texts of at most {NAME_LENGTH_MAX} characters")
    return said


def _versions(opened: Opened) -> dict[str, str]:
    return {"mycelium": __version__, "wire": str(WIRE_VERSION), **opened.entrance.versions}


def _check_versions(theirs: dict[str, Any], ours: dict[str, str]) -> None:
    for what, version in ours.items():
        if theirs.get(what) != version:
            said = str(theirs.get(what) or "none")[:64]
            mend = MENDS.get(what, MENDS["mycelium"]).format(version if what in MENDS else __version__)
            raise Refused(f"this machine has {what} {said}; the site has {version}", hint=mend)


def _check_clock(theirs_ns: int, ours_ns: int) -> None:
    apart_ns = theirs_ns - ours_ns
    if abs(apart_ns) > CLOCK_AHEAD_S * S_NS:
        way = "ahead of" if apart_ns > 0 else "behind"
        raise Refused(
            f"this machine's clock is {format_time_ms(abs(apart_ns) // 1_000_000)} {way} the site's;"
            f" at most {CLOCK_AHEAD_S}s are allowed",
            hint="set it, for example with `timedatectl set-ntp true`",
        )


@router.post(
    "/machines/drain",
    summary="This machine wants no more work",
    openapi_extra={"requestBody": flat([], now={"type": "boolean"})},
)
async def drain(request: Request, head: TheHead, opened: TheEntrance, machine: TheMachine) -> Response:
    now = bool(fields(await read_document(request), now=bool)["now"])
    node = _known(head, machine)
    await head.ask(Drain(node.id, now=now), machine)
    return answer(views.node_view(head.core, _known(head, machine)))


@router.post("/machines/leave", summary="This machine leaves the site")
async def leave(head: TheHead, opened: TheEntrance, machine: TheMachine) -> Response:
    """It must be drained. Its place is kept: it may come again without being approved."""
    node = _known(head, machine)
    await head.ask(Remove(node.id), machine)
    opened.entrance.dismiss(machine.key)
    opened.passages.pop(node.id, None)
    return answer({"node": node.id, "state": "left"})


def _known(head: Head, machine: Subject) -> Node:
    node = of_machine(head.core.site.nodes, machine.key)
    if node is None:
        raise Unknown("the site does not know this machine", hint="`myc join` asks to join")
    if not node.approved:
        raise Denied(f"{node.id} is not approved")
    return node


@router.post("/nodes/{node}/approve", summary="Let a machine in that asks to join")
async def approve(node: str, head: TheHead, subject: TheSubject) -> Response:
    found = await head.ask(Approve(node), subject)
    return answer(views.node_view(head.core, head.core.site.nodes.by_id[found]))


@router.post("/machines/invite", status_code=201, summary="A token that lets one machine in, without approval")
async def invite(head: TheHead, opened: TheEntrance, subject: TheSubject) -> Response:
    head.core.look("invite a machine", subject)
    token = invites.new_invite(opened.site_token, head.clock.now_ns())
    return answer({"token": token, "ca": opened.authority.pem if opened.authority else None}, 201)
