"""What each door asks the head for: a command, or a look. Who may is said by the guard of that, in its domain.

A door that is not here is refused when the application is built, so that none can be forgotten; a test tries each of
them as everybody. The doors that follow from domains by themselves (shown.py) carry their own guards.
"""

from __future__ import annotations

from collections.abc import Iterator

from mycelium.accounts.rules import AddAccount, ReplaceToken
from mycelium.base.subject import ANYBODY, Guard
from mycelium.head.mount import Mounted
from mycelium.inference.commands import AddModel, CancelBatch, CreateKey, Deploy, RemoveModel, RevokeKey, Undeploy
from mycelium.jobs.commands import Cancel, Submit
from mycelium.nodes.rules import Approve, Ask, Drain, Remove, Return

ANYONE = "anyone"  # no token is asked for, because nothing of the site is told
MODELS = "models, deployments and their replicas"
OBJECTS = "objects, by their names"
GATEWAYS = "what gateways are told"

ASKS: dict[str, type | str] = {
    "GET /health": ANYONE,
    "GET /docs": ANYONE,
    "GET /status": "the site at a glance",
    "GET /events": "every event",
    "GET /audit": "whether the log is as it was written",
    "GET /log/verify": "whether the log is as it was written",
    "GET /log/export": "export and prune the log",
    "POST /log/prune": "export and prune the log",
    "POST /down": "stop the site",
    "GET /accounts": "accounts",
    "GET /accounts/me": "accounts",
    "POST /accounts": AddAccount,
    "POST /accounts/{name}/token": ReplaceToken,
    "GET /nodes": "nodes",
    "GET /nodes/{node}": "nodes",
    "POST /nodes/{node}/drain": Drain,
    "POST /nodes/{node}/return": Return,
    "POST /nodes/{node}/approve": Approve,
    "DELETE /nodes/{node}": Remove,
    "POST /machines": Ask,
    "POST /machines/drain": Drain,
    "POST /machines/leave": Remove,
    "POST /machines/invite": "invite a machine",
    "POST /jobs": Submit,
    "POST /jobs/dry-run": "what would happen to a job",
    "GET /jobs": "jobs",
    "GET /jobs/{job}": "jobs",
    "POST /jobs/{job}/cancel": Cancel,
    "GET /jobs/{job}/why": "why a job waits",
    "GET /jobs/{job}/story": "a job's story",
    "GET /jobs/{job}/outputs": "a job's outputs",
    "GET /jobs/{job}/logs": "a job's logs",
    "GET /jobs/batch_{rest}": "a batch",
    "POST /jobs/batch_{rest}/cancel": CancelBatch,
    "GET /jobs/batch_{rest}/why": "a batch",
    "GET /jobs/batch_{rest}/story": "a batch",
    "GET /jobs/batch_{rest}/logs": "a batch",
    "GET /jobs/batch_{rest}/outputs": "a batch",
    "POST /objects/missing": OBJECTS,
    "POST /objects": OBJECTS,
    "PUT /objects/{digest}": OBJECTS,
    "GET /objects/{digest}": OBJECTS,
    "GET /models": MODELS,
    "GET /models/{name:path}": MODELS,
    "POST /models": AddModel,
    "DELETE /models/{name:path}": RemoveModel,
    "GET /deployments": MODELS,
    "GET /deployments/{name:path}": MODELS,
    "POST /deployments": Deploy,
    "DELETE /deployments/{name:path}": Undeploy,
    "GET /keys": "keys and what was used, one's own",
    "POST /keys": CreateKey,
    "DELETE /keys/{key}": RevokeKey,
    "GET /usage": "keys and what was used, one's own",
    "GET /gateway/table": GATEWAYS,
    "POST /gateway/do": GATEWAYS,
    "GET /gateway/files": GATEWAYS,
    "GET /gateway/batches": GATEWAYS,
}


def guard_of(house: Mounted, asked: type | str) -> Guard:
    if isinstance(asked, str):
        return ANYBODY if asked == ANYONE else house.looks[asked]
    return house.rules[asked].guard


def guards(house: Mounted) -> Iterator[tuple[str, str, Guard]]:
    """Every door, what it asks for, and who may: also those that follow from the domains."""
    for door, asked in ASKS.items():
        yield door, asked if isinstance(asked, str) else asked.__name__, guard_of(house, asked)
    for path, show in house.shows.items():
        yield f"GET /{path}", path, show.guard
    for command, rule in house.rules.items():
        if rule.door:
            yield f"POST /{rule.door}", command.__name__, rule.guard
