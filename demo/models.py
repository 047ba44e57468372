"""Language models: two replicas of a small one, a batch over real input, a node that dies half-way, and the bill.

Left out, with the reason, where the model cannot be had (no network, or no extra `llm`).
"""

from __future__ import annotations

import ast
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from openai import OpenAI, OpenAIError
from rich.console import Console
from rich.table import Table

from demo import library
from demo.claims import Claims
from demo.site import Failed, Site

MODEL = "smollm2-135m"
LINES = 48
TOKENS = 16
DOC_CHARACTERS = 160
PATIENCE_S = 240.0
SHOWN = 4


def show(site: Site, claims: Claims, console: Console) -> None:
    """The whole step. Errors: `Failed`."""
    console.print(f"\n[bold]A language model, served by two of the nodes   myc serve {MODEL} --replicas 2[/]")
    why_not = _pull(site)
    if why_not:
        console.print(f"  left out: {why_not}", style="dim")
        return
    begun = time.monotonic()
    served = site.ask("serve", MODEL, "--replicas", "2", "--context", "512")
    said = f"{served['gateway']}/v1 answers after {time.monotonic() - begun:.1f}s"
    console.print(f"  {said}; OpenAI's client and a key are all it takes", style="dim")
    secret = site.ask("key", "create", "--name", "demo")["key"]
    with OpenAI(base_url=f"{served['gateway']}/v1", api_key=secret, max_retries=5) as client:
        _wait_known(client)
        try:
            _run(site, client, claims, console)
        except OpenAIError as error:
            raise Failed(f"the gateway did not do as it was asked: {error}") from None
    site.myc("serve", MODEL, "--stop")


def _pull(site: Site) -> str:
    """Why there is no model, or nothing."""
    if find_spec("xllamacpp") is None:
        return "the extra 'llm' is not installed"
    try:
        site.myc("model", "pull", MODEL)
    except Failed as failed:
        return f"the model could not be fetched: {str(failed).splitlines()[-1].strip()}"
    return ""


def _wait_known(client: OpenAI) -> None:
    until = time.monotonic() + 10
    while True:
        try:
            client.models.list()
        except OpenAIError as error:
            if time.monotonic() > until:
                raise Failed(f"the gateway does not know its key: {error}") from None
            time.sleep(0.05)
        else:
            return


def _run(site: Site, client: OpenAI, claims: Claims, console: Console) -> None:
    asked = _requests()
    console.print(f"\n[bold]A batch: a line about each of {len(asked)} modules, from what their authors wrote[/]")
    file = client.files.create(file=("modules.jsonl", "\n".join(map(json.dumps, asked)).encode()), purpose="batch")
    begun = time.monotonic()
    batch: Any = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = _wait(client, batch.id, lambda found: found.request_counts.completed >= len(asked) // 3)
    node = next(r["node"] for r in site.client().get(f"/deployments/{MODEL}")["replicas"] if r["node"])
    killed = site.kill(node)
    console.print(f"  {node} was killed with {', '.join(killed) or 'nothing'} on it, a third of the way", style="dim")
    batch = _wait(client, batch.id, lambda found: found.status in ("completed", "failed", "expired"))
    took_s = time.monotonic() - begun
    results = [json.loads(line) for line in client.files.content(batch.output_file_id or "").text.splitlines()]
    _table(results, console)
    _bill(site, batch, took_s, console)
    wanted = sorted(request["custom_id"] for request in asked)
    found = sorted(line["custom_id"] for line in results)
    claims.hold(
        f"each of the {len(asked)} lines came back, and none twice", found == wanted, (batch.status, len(found))
    )
    used = next(key["used"] for key in site.ask("key", "list")["keys"] if key["name"] == "demo")
    claims.hold("the key was charged for each line once", used["requests"] == len(asked), used)


def _requests() -> list[dict[str, Any]]:
    """A request for each of the first modules of the standard library that says what it is for."""
    found: list[dict[str, Any]] = []
    for path in sorted(Path(library.HERE).glob("*.py")):
        doc = ast.get_docstring(ast.parse(path.read_text(errors="replace"))) or ""
        if len(doc) < 40 or len(found) == LINES:
            continue
        prompt = f"Say in one short sentence what this Python module is for.\n\n{doc[:DOC_CHARACTERS]}"
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": TOKENS,
            "temperature": 0,
        }
        found.append({"custom_id": path.stem, "method": "POST", "url": "/v1/chat/completions", "body": body})
    return found


def _wait(client: OpenAI, name: str, enough: Any) -> Any:
    until = time.monotonic() + PATIENCE_S
    while True:
        found = client.batches.retrieve(name)
        if enough(found) or found.status in ("completed", "failed", "expired", "cancelled"):
            return found
        if time.monotonic() > until:
            raise Failed(f"{name} is {found.status} after {PATIENCE_S:.0f}s: {found.request_counts}")
        if sys.stdout.isatty() and found.request_counts is not None:
            sys.stdout.write(f"\r  {found.request_counts.completed} of {found.request_counts.total} lines \r")
            sys.stdout.flush()
        time.sleep(0.2)


def _table(results: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("module", no_wrap=True)
    table.add_column("what a model of 135 million parameters makes of it")
    for line in sorted(results, key=lambda line: line["custom_id"])[:SHOWN]:
        said = line["response"]["body"]["choices"][0]["message"]["content"]
        table.add_row(line["custom_id"], " ".join(said.split()))
    console.print(table, soft_wrap=False)


def _bill(site: Site, batch: Any, took_s: float, console: Console) -> None:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("account", "tokens in", "tokens out", "tokens/s", "lines", "time"):
        table.add_column(column, justify="left" if column == "account" else "right")
    accounts = site.client().get("/usage")["accounts"]
    for account in accounts:
        used = batch.usage
        rate = f"{(used.input_tokens + used.output_tokens) / took_s:.0f}"
        lines = str(batch.request_counts.completed)
        table.add_row(account, f"{used.input_tokens:,}", f"{used.output_tokens:,}", rate, lines, f"{took_s:.0f}s")
    console.print(table, soft_wrap=False)
