"""Every door is tried as everybody: who may is what the one table of guards says, whichever door is knocked at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from mycelium.accounts.model import ROLES, Account, Role
from mycelium.base.clock import Clock
from mycelium.base.domain import Asked
from mycelium.base.ids import AccountId, Digest, NodeId
from mycelium.base.subject import ADMIN, GATEWAY, MACHINE, OPERATOR, USER, Subject
from mycelium.base.version import __version__
from mycelium.engine.orders import WIRE_VERSION
from mycelium.head.core import Core
from mycelium.head.domains import mounted
from mycelium.head.loop import Head
from mycelium.head.retention import LogKeeper
from mycelium.inference.commands import AddFile, AddModel, CreateBatch, CreateKey, Deploy
from mycelium.inference.model import ModelKind, Serving
from mycelium.jobs.commands import Submit
from mycelium.log.retention import parse_keep
from mycelium.nodes.rules import Approve, Ask
from mycelium.serve.http import asks
from mycelium.serve.http.app import DOORS, build_app, doors_of
from mycelium.serve.http.asks import ANYONE, ASKS, guard_of
from mycelium.serve.http.auth import hash_token
from mycelium.serve.http.ground import Ground, Opened
from mycelium.serve.http.programs import Checks
from mycelium.serve.keeper import access
from mycelium.store.memory import MemoryObjects
from tests.unit.head.played import NOW_NS, Played, request

# Who knocks: what is shown, and what it makes of one. The owner is a user whose the things are that are asked about.
TOKENS = {name: f"myc_{name:x<40}" for name in ("nobody", "user", "owner", "operator", "admin", "machine", "gateway")}
PEOPLE = {"admin": Role.ADMIN, "owner": Role.USER, "user": Role.USER, "operator": Role.OPERATOR}
OWNER = AccountId("account-2")
DIGEST = Digest("ab" * 32)
HIDDEN = 404  # what is another's is as unknown as what is not there
BATCH = "batch_0123456789abcdef"

PATHS = {
    "node": "node-1",
    "job": "job-1",
    "rest": BATCH.removeprefix("batch_"),
    "digest": DIGEST,
    "key": "key-1",
    "GET /models/{name:path}": "m",
    "GET /stories/{name:path}": "account-2",
    "DELETE /models/{name:path}": "idle",
    "POST /accounts/{name}/token": "user",
    "name": "m",
}
BODIES: dict[str, Any] = {
    "POST /jobs": {"command": "true"},
    "POST /jobs/dry-run": {"command": "true"},
    "POST /accounts": {"name": "new"},
    "POST /keys": {"name": "new"},
    "POST /models": {"name": "new", "digest": DIGEST},
    "POST /deployments": {"name": "m", "model": "m"},
    "POST /objects/missing": {"digests": []},
    "POST /machines": {
        "name": "new",
        "versions": {"mycelium": __version__, "wire": str(WIRE_VERSION)},
        "time_ns": NOW_NS,
        "token": "mycjoin_token",
    },
    "POST /gateway/do": {"type": "claim-batch", "batch": BATCH, "runner": "me"},
}
QUERIES = {
    "GET /events": "?follow=false&after=0",
    "GET /gateway/files": f"?account={OWNER}",
    "GET /gateway/batches": f"?account={OWNER}",
}


class Engine:
    """Machines that never say anything."""

    def watch(self) -> AsyncIterator[Any]:
        async def silence() -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

        return silence()

    async def start(self) -> None: ...

    async def stop(self, **_: Any) -> None: ...

    async def send(self, node: NodeId, order: Any) -> None: ...


def core() -> Core:
    """A site with everything that a door could ask for; what has an owner is the owner's."""
    site = Played(nodes=0)
    labels: dict[str, Any] = {"llama.cpp": "1"}
    site.hello("node-1", **labels)
    accounts = site.core.site.accounts
    accounts.by_id.clear()
    accounts.by_token.clear()
    for number, (name, role) in enumerate(PEOPLE.items(), start=1):
        account = AccountId(f"account-{number}")
        accounts.by_id[account] = Account(account, name, role, hash_token(TOKENS[name]), 1)
        accounts.by_token[hash_token(TOKENS[name])] = account
    site.do(
        Submit(OWNER, (request(),)),
        AddModel(OWNER, "m", DIGEST, 1, ModelKind.CHAT, "test"),
        AddModel(OWNER, "idle", DIGEST, 1, ModelKind.CHAT, "test"),
        Deploy(OWNER, "m", Serving("m")),
        CreateKey(OWNER, "ci", "h" * 64),
        AddFile(OWNER, "file-1", "in", "batch", 1, (DIGEST,)),
        CreateBatch(OWNER, BATCH, "", "/v1/chat/completions", "file-1"),
    )
    key = hash_token(TOKENS["machine"])
    machine = Subject("a machine", frozenset({MACHINE}), key=key)
    ask = Ask(key, "host", site.node().devices, {}, "::1", approved=False, reserved=1)
    site.core.turn([Asked(machine, ask)], site.now_ns)
    site.do(Approve("node-2", "root"))
    return site.core


def subject(who: str) -> Subject:
    """As the guards see it."""
    if who in PEOPLE:
        number = list(PEOPLE).index(who) + 1
        return Subject(who, ROLES[PEOPLE[who]], AccountId(f"account-{number}"))
    if who == "machine":
        return Subject("node-2", frozenset({MACHINE}), key=hash_token(TOKENS["machine"]))
    return Subject(who, frozenset({GATEWAY}) if who == "gateway" else frozenset())


def allowed(door: str, who: str) -> bool:
    """What the table says. Doors tell people, machines and gateways apart by what they show."""
    asked = ASKS[door]
    if asked == ANYONE:
        return True
    roles = guard_of(mounted(), asked).roles
    at = MACHINE if door.startswith("POST /machines") and "invite" not in door else USER
    if door == "POST /machines":
        return who != "nobody"  # whoever shows a key, and the site's token with it, is a machine
    at = GATEWAY if "/gateway/" in door else at
    if at != USER or who not in PEOPLE:
        return at in roles and who == at
    owner = guard_of(mounted(), asked).owner is not None and who == "owner"
    return owner or subject(who).has(*roles)


async def knock(door: str, who: str, home: Path) -> int:
    known = core()
    head = Head(known, cast("Any", Engine()), Clock(not_before_ns=NOW_NS))
    entrance = SimpleNamespace(versions={}, own_nodes=1, admit=lambda *_: {}, dismiss=lambda _: None)
    keeper = LogKeeper(known, lambda: NOW_NS, home / "log", parse_keep("30"))
    ground = Ground(
        head,
        MemoryObjects(),
        {},
        lambda by, grace_ms: None,
        access(home, {}),
        keeper,
        Checks(),
        Opened(cast("Any", entrance), "mycjoin_token"),
    )
    await head.start()
    try:
        method, path = door.split(" ")
        for name, value in {**PATHS, **({"name": PATHS[door]} if door in PATHS else {})}.items():
            path = path.replace(f"{{{name}:path}}", value).replace(f"{{{name}}}", value)
        token = ground.gateway.token if who == "gateway" else TOKENS[who]
        headers = {} if who == "nobody" else {"authorization": f"Bearer {token}"}
        body = json.dumps(BODIES[door]) if door in BODIES else None
        transport = httpx.ASGITransport(app=build_app(ground))
        async with httpx.AsyncClient(transport=transport, base_url="http://site", headers=headers) as client:
            answered = await client.request(method, path + QUERIES.get(door, ""), content=body)
            return answered.status_code
    finally:
        await head.stop()


ENDLESS = {"GET /gateway/table", "GET /jobs/{job}/logs"}  # they answer until somebody leaves


@pytest.mark.parametrize("door", ASKS)
def test_a_door_opens_for_whom_the_table_names_and_for_nobody_else(door: str, tmp_path: Path) -> None:
    for who in TOKENS:
        may = allowed(door, who)
        if may and door in ENDLESS:
            continue
        status = asyncio.run(knock(door, who, tmp_path))
        if may:
            assert status not in (401, 403), f"{who} at {door}: {status}"
        elif who == "nobody":
            assert status == 401, f"{who} at {door}: {status}"
        else:
            assert status in (401, 403, HIDDEN), f"{who} at {door}: {status}"
        assert status < 500


def test_every_door_is_in_the_table_and_every_line_of_it_is_a_door() -> None:
    assert doors_of(door.router for door in DOORS) == set(ASKS)


def test_every_command_is_guarded_and_every_look_has_a_door_or_a_use() -> None:
    house = mounted()
    assert all(rule.guard.roles for rule in house.rules.values())
    known = {role for guard in house.looks.values() for role in guard.roles}
    assert known <= {USER, OPERATOR, ADMIN, MACHINE, GATEWAY}
    unused = {
        "what a job runs and in which environment",
        "a key",
        "what an account used",
    }  # asked of one thing in a list
    assert set(house.looks) - {asked for asked in ASKS.values() if isinstance(asked, str)} == unused


def test_a_door_of_which_nobody_has_said_who_may_use_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asks, "ASKS", {door: asked for door, asked in ASKS.items() if door != "POST /down"})
    with pytest.raises(AssertionError, match="nobody says who may use POST /down"):
        build_app(cast("Any", None), mounted())


def test_who_asks_is_said_by_the_door_and_never_by_what_is_asked() -> None:
    site = Played()
    impostor = subject("user")
    asked = Asked(impostor, Submit(OWNER, (request(),)))
    site.core.site.accounts.by_id[impostor.account] = Account(impostor.account, "user", Role.USER, "t" * 64, 1)
    (jobs,) = site.core.turn([asked], site.now_ns).answers[0].value
    assert site.core.site.jobs.by_id[jobs].account == impostor.account
