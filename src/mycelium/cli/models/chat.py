"""`myc chat`: talk with a model in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from mycelium.base.errors import Problem, Refused
from mycelium.cli.models.ask import GatewayClient
from mycelium.cli.options import Json
from mycelium.client import show


def chat(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is served as.")],
    say: Annotated[str, typer.Option("--say", "-m", metavar="TEXT", help="Say this, print the answer, and end.")] = "",
    system: Annotated[str, typer.Option(metavar="TEXT", help="What the model is told beforehand.")] = "",
    temperature: Annotated[float | None, typer.Option(metavar="T", help="From 0, always the same, to 2.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="The longest answer.")] = None,
    json: Json = False,
) -> None:
    """Talk with a model; an empty line or Ctrl-D ends it. What is piped in is said at once."""
    gateway = GatewayClient()
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    asked: dict[str, Any] = {"model": name, "temperature": temperature, "max_tokens": max_tokens}
    asked = {key: value for key, value in asked.items() if value is not None}
    if say or not sys.stdin.isatty():
        said = say or sys.stdin.read()
        if not said.strip():
            raise Refused("there is nothing to say", hint="say it with -m TEXT, pipe it in, or talk in a terminal")
        messages.append({"role": "user", "content": said})
        if json:
            show.document(gateway.ask("POST", "/v1/chat/completions", {**asked, "messages": messages}))
            return
        _answer(gateway, asked, messages)
        return
    show.note(f"talking with {name}; an empty line ends it")
    while text := _line():
        messages.append({"role": "user", "content": text})
        try:
            messages.append({"role": "assistant", "content": _answer(gateway, asked, messages)})
        except KeyboardInterrupt:
            show.say()
            messages.pop()  # what was cut off is as if it had not been said
        except Problem as problem:
            show.problem(problem)
            messages.pop()


def _line() -> str:
    try:
        return input(show.paint("> ", "36")).strip()
    except EOFError:
        show.say()
        return ""


def _answer(gateway: GatewayClient, asked: dict[str, Any], messages: list[dict[str, str]]) -> str:
    """Print the answer as it comes."""
    said: list[str] = []
    for event in gateway.events("/v1/chat/completions", {**asked, "messages": messages, "stream": True}):
        for choice in event["choices"]:
            text = choice["delta"].get("content") or ""
            said.append(text)
            sys.stdout.write(show.clean(text))
            sys.stdout.flush()
    show.say()
    return "".join(said)
