"""The bodies that the doors read, for the OpenAPI document. The keys of a job come from the table that reads them."""

from __future__ import annotations

from typing import Any

from mycelium.base.limits import JOBS_PER_SUBMIT_MAX
from mycelium.jobs.keys import KEYS
from mycelium.jobs.program import DECIDED

JOB: dict[str, Any] = {
    "type": "object",
    "oneOf": [
        {"required": ["command"], "not": {"anyOf": [{"required": ["program"]}, {"required": ["input"]}]}},
        {"required": ["program", "input"], "not": {"anyOf": [{"required": [key]} for key in DECIDED]}},
    ],
    "additionalProperties": False,
    "properties": {name: {**key.kind.shape, "description": key.says} for name, key in KEYS.items()},
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
