"""The bodies that the doors read, for the OpenAPI document. The keys of a job come from the table that reads them."""

from __future__ import annotations

from typing import Any

from mycelium.base.limits import ENV_ENTRIES_MAX, GANG_NODES_MAX, JOBS_PER_SUBMIT_MAX, NAME_LENGTH_MAX, RETRIES_MAX
from mycelium.jobs.model import Priority, Sandbox
from mycelium.jobs.program import DECIDED
from mycelium.jobs.request import KEYS

TEXT: dict[str, Any] = {"type": "string"}
TEXTS: dict[str, Any] = {"oneOf": [TEXT, {"type": "array", "items": TEXT}]}
DIGEST: dict[str, Any] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
NUMBER_OR_TEXT: dict[str, Any] = {"oneOf": [{"type": "number"}, TEXT]}

KINDS: dict[str, dict[str, Any]] = {
    "command": TEXTS,
    "name": {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH_MAX},
    "cpus": NUMBER_OR_TEXT,
    "memory": NUMBER_OR_TEXT,
    "gpus": {"type": "integer", "minimum": 0, "maximum": 1024},
    "nodes": {"type": "integer", "minimum": 1, "maximum": GANG_NODES_MAX},
    "time": NUMBER_OR_TEXT,
    "array": TEXT,
    "after": TEXTS,
    "inputs": TEXTS,
    "priority": {"type": "string", "enum": [priority.name.lower() for priority in Priority]},
    "on": TEXTS,
    "retries": {"type": "integer", "minimum": 0, "maximum": RETRIES_MAX},
    "env": {"type": "object", "additionalProperties": TEXT, "maxProperties": ENV_ENTRIES_MAX},
    "net": {"type": "boolean"},
    "outputs": TEXTS,
    "sandbox": {"type": "string", "enum": [level.value for level in Sandbox]},
    "workdir": DIGEST,
    "program": DIGEST,
    "input": DIGEST,
}

JOB: dict[str, Any] = {
    "type": "object",
    "oneOf": [
        {"required": ["command"], "not": {"anyOf": [{"required": ["program"]}, {"required": ["input"]}]}},
        {"required": ["program", "input"], "not": {"anyOf": [{"required": [key]} for key in DECIDED]}},
    ],
    "additionalProperties": False,
    "properties": {key: {**KINDS[key], "description": rule.says} for key, rule in KEYS.items()},
    "example": {"command": ["python3", "-c", "print('hello')"], "cpus": 1, "memory": "512M", "time": "10m"},
}


def json_body(schema: dict[str, Any], required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def flat(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return json_body(
        {"type": "object", "required": required, "additionalProperties": False, "properties": properties},
        bool(required),
    )


SUBMIT_BODY = json_body(
    {
        "oneOf": [
            JOB,
            {
                "type": "object",
                "required": ["jobs"],
                "additionalProperties": False,
                "properties": {"jobs": {"type": "array", "items": JOB, "minItems": 1, "maxItems": JOBS_PER_SUBMIT_MAX}},
            },
        ]
    }
)
DRY_RUN_BODY = json_body(JOB)
