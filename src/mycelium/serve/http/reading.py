"""The API as a page that people read: made from the OpenAPI document, whole in itself, so that it works offline."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem 1rem; border-radius: 6px; overflow-x: auto; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .4rem 0; }
summary { padding: .5rem .8rem; cursor: pointer; display: flex; gap: .8rem; align-items: baseline; flex-wrap: wrap; }
details > div { padding: 0 1rem .6rem; border-top: 1px solid var(--line); }
.method { font: 700 12px ui-monospace, monospace; min-width: 4em; }
.get { color: #2878c8; } .post { color: #2a8a4a; } .put { color: #b07010; } .delete { color: #c03a3a; }
.about { opacity: .75; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .25rem .6rem .25rem 0;
vertical-align: top; border-bottom: 1px solid var(--line); }
"""


@router.get("/docs")
async def read(request: Request) -> Response:
    return HTMLResponse(page(request.app.openapi()))


def page(document: dict[str, Any]) -> str:
    """The whole page for an OpenAPI document."""
    info = document["info"]
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    sections = "".join(f"<h2>{escape(tag)}</h2>{''.join(found)}" for tag, found in tags.items())
    description = "".join(f"<p>{escape(part)}</p>" for part in info["description"].split("\n\n"))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(info['title'])} API</title><style>{STYLE}</style>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>{description}"
        f"<p>The same for programs: <a href=/openapi.json>/openapi.json</a></p>"
        f'<pre>curl -H "Authorization: Bearer $TOKEN" $URL/jobs -d \'{{"command": ["echo", "hello"]}}\'</pre>'
        f"{sections}</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    about = operation.get("description", "")
    parts = [f"<p>{escape(about)}</p>"] if about else []
    if operation.get("parameters"):
        parts.append(_table("parameter", [_parameter(parameter) for parameter in operation["parameters"]]))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_body(kind, content["schema"]))
    return (
        f"<details id='{method}-{escape(path)}'><summary><span class='method {method}'>{method.upper()}</span>"
        f"<code>{escape(path)}</code><span class=about>{escape(operation['summary'])}</span></summary>"
        f"<div>{''.join(parts) or '<p>Takes nothing.</p>'}</div></details>"
    )


def _parameter(parameter: dict[str, Any]) -> tuple[str, str, str]:
    need = ", required" if parameter.get("required") else ""
    return parameter["name"], f"in {parameter['in']}{need}", _kind(parameter["schema"])


def _body(kind: str, schema: dict[str, Any]) -> str:
    shape = schema["oneOf"][0] if "oneOf" in schema else schema
    if "properties" not in shape:
        return f"<p>Body: <code>{escape(kind)}</code></p>"
    rows = [(key, _kind(value), value.get("description", "")) for key, value in shape["properties"].items()]
    many = '<p>Or many at once: <code>{"jobs": [...]}</code></p>' if "oneOf" in schema else ""
    return f"<p>Body: <code>{escape(kind)}</code></p>{_table('key', rows)}{many}"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(choice) for choice in schema["enum"])
    for union in ("oneOf", "anyOf"):
        if union in schema:
            return " or ".join(_kind(part) for part in schema[union])
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        return f"list of {_kind(schema['items'])}"
    bounds = [f"{word} {schema[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join((kind, *bounds))


def _table(first: str, rows: list[tuple[str, str, str]]) -> str:
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}<td>{escape(says)}" for name, kind, says in rows
    )
    return f"<table><tr><th>{first}<th>kind<th>{cells}</table>"
