"""Requests of OpenAI's API: which parameters there are, what they may be, and which the embedded backend can serve.

What cannot be served is refused by name, never ignored. An upstream of its own is asked with whatever was sent: it
knows what it can.
Never: opens a file, or knows how requests arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from msgspec import Struct

TOKENS_GUESSED = 256  # of an answer whose length was not bounded, for limits and routing
CHOICES_MAX = 16


class Bad(Exception):
    """A request that cannot be served as written: which parameter, and why."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status


Check = Callable[[Any], str]  # what is wrong with a value, or nothing


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        return "" if low <= value <= high else f"must be from {low:g} to {high:g}"

    return check


def _whole(low: int, high: int) -> Check:
    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be a whole number"
        return "" if low <= value <= high else f"must be from {low} to {high}"

    return check


def _is(kind: type | tuple[type, ...], said: str) -> Check:
    return lambda value: "" if isinstance(value, kind) else f"must be {said}"


def _only(*allowed: Any) -> Check:
    said = f"can only be {' or '.join(repr(one) for one in allowed)} here" if allowed else "cannot be served here"
    return lambda value: "" if value in allowed else said


def _stop(value: Any) -> str:
    texts = [value] if isinstance(value, str) else _list(value)
    good = isinstance(value, str | list) and len(texts) <= 4 and all(isinstance(text, str) and text for text in texts)
    return "" if good else "must be a text, or a list of at most 4 texts, and none of them empty"


def _format(value: Any) -> str:
    kind = cast("dict[str, Any]", value).get("type") if isinstance(value, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        return "must have the type text, json_object or json_schema"
    if kind == "json_schema" and not isinstance(_inside(value, "json_schema", "schema"), dict):
        return "must hold the schema, as an object, in json_schema.schema"
    return ""


def _inside(value: Any, *names: str) -> Any:
    """What lies there in objects within objects; None where there is nothing."""
    for name in names:
        value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
    return value


def _bias(value: Any) -> str:
    good = isinstance(value, dict) and all(
        name.isdecimal() and not _number(-100, 100)(bias) for name, bias in cast("dict[str, Any]", value).items()
    )
    return "" if good else "must be an object of numbers from -100 to 100 by the number of their token"


def _tools(value: Any) -> str:
    if not isinstance(value, list):
        return "must be a list"
    for position, tool in enumerate(cast("list[Any]", value)):
        name, parameters = _inside(tool, "function", "name"), _inside(tool, "function", "parameters")
        if _inside(tool, "type") != "function" or not isinstance(name, str) or not name:
            return f"holds no function with a name at position {position}"
        if not isinstance(parameters, dict | None):
            return f"has parameters that are not an object at position {position}"
    return ""


def _choice(value: Any) -> str:
    named = _inside(value, "type") == "function" and isinstance(_inside(value, "function", "name"), str)
    good = value in ("none", "auto", "required") or named
    return "" if good else "must be none, auto, required, or a function by its name"


def _messages(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return "must be a list of at least one message"
    for position, message in enumerate(cast("list[Any]", value)):
        if not isinstance(message, dict):
            return f"holds no object at position {position}"
        said = cast("dict[str, Any]", message)
        if said.get("role") not in ("system", "developer", "user", "assistant", "tool"):
            return f"has no role that is known at position {position}"
        calls = said.get("tool_calls")
        fault = _calls(calls) or _content(said.get("content"), required=said["role"] != "assistant" or not calls)
        if not fault and not isinstance(said.get("name"), str | None):
            fault = "a name that is not a text"
        if fault:
            return f"has {fault} at position {position}"
    return ""


def _calls(calls: Any) -> str:
    """Of tools, that the model has made before."""
    for call in _list(calls):
        if not all(isinstance(_inside(call, "function", name), str) for name in ("name", "arguments")):
            return "a call of a tool without name and arguments"
        if _inside(call, "type") != "function":
            return "a call of a tool that is not a function"
    return "" if isinstance(calls, list | None) else "calls of tools that are not a list"


def _content(content: Any, *, required: bool) -> str:
    if content is None:
        return "no content" if required else ""
    if isinstance(content, str):
        return ""
    if not isinstance(content, list):
        return "content that is neither a text nor a list of parts"
    for part in cast("list[Any]", content):
        kind = cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None
        if kind != "text" or not isinstance(cast("dict[str, Any]", part).get("text"), str):
            return f"a part of the type {str(kind)[:32]!r}, which this model cannot read"
    return ""


def _prompt(value: Any) -> str:
    return "" if isinstance(value, str) and value else "must be a text; lists and tokens cannot be served here"


def _input(value: Any) -> str:
    items = [value] if isinstance(value, str) else _list(value)
    if not 1 <= len(items) <= 2048:
        return "must be a text, or a list of 1 to 2048 texts"
    if not all(isinstance(item, str) and item for item in items):
        return "must hold texts that are not empty; tokens cannot be served here"
    return ""


_BOOL = _is(bool, "true or false")
_TEXT = _is(str, "a text")
_TABLE = _is(dict, "an object")
_SAMPLING: dict[str, Check] = {
    "model": _TEXT,
    "stream": _BOOL,
    "stream_options": _TABLE,
    "max_tokens": _whole(1, 1 << 20),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "n": _whole(1, CHOICES_MAX),
    "stop": _stop,
    "seed": _whole(-(1 << 63), (1 << 63) - 1),
    "presence_penalty": _number(-2, 2),
    "frequency_penalty": _number(-2, 2),
    "logit_bias": _bias,
    "user": _TEXT,
    "top_k": _whole(0, 1 << 20),  # this and the next three are llama.cpp's and vLLM's own
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0, 10),
    "chat_template_kwargs": _TABLE,
}
CHAT: dict[str, Check] = {
    **_SAMPLING,
    "messages": _messages,
    "max_completion_tokens": _whole(1, 1 << 20),
    "logprobs": _BOOL,
    "top_logprobs": _whole(0, 20),
    "response_format": _format,
    "tools": _tools,
    "tool_choice": _choice,
    "parallel_tool_calls": _BOOL,
    "modalities": _only(["text"]),
    "service_tier": _only("auto", "default"),
    "store": _only(False),
    "metadata": _TABLE,
    "safety_identifier": _TEXT,
    "prompt_cache_key": _TEXT,
}
COMPLETION: dict[str, Check] = {
    **_SAMPLING,
    "prompt": _prompt,
    "logprobs": _only(),  # llama.cpp tells them in the form of chats only
    "echo": _only(False),
    "best_of": _only(1),
    "suffix": _only(""),
}
EMBEDDING: dict[str, Check] = {
    "model": _TEXT,
    "input": _input,
    "encoding_format": _only("float", "base64"),
    "user": _TEXT,
}
TABLES: dict[str, tuple[dict[str, Check], str]] = {
    "/v1/chat/completions": (CHAT, "messages"),
    "/v1/completions": (COMPLETION, "prompt"),
    "/v1/embeddings": (EMBEDDING, "input"),
}
PATHS = tuple(TABLES)


class CheckedRequest(Struct, frozen=True):
    """A request that was found good."""

    path: str
    body: Mapping[str, Any]
    model: str
    stream: bool
    include_usage: bool
    choices: int
    text: str  # the prompt, as far as it tells requests apart
    prompt_tokens: int  # guessed
    answer_tokens: int  # guessed, or as bounded

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.answer_tokens


def read(path: str, document: Any) -> CheckedRequest:
    """What every deployment needs to know of a request. Errors: `Bad`."""
    if not isinstance(document, dict):
        raise Bad("the body must be a JSON object")
    body = cast("dict[str, Any]", document)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise Bad("you must provide a model parameter", "model")
    stream = body.get("stream") or False
    if not isinstance(stream, bool):
        raise Bad("stream must be true or false", "stream")
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or not stream):
        raise Bad("stream_options is an object, and only goes with stream", "stream_options")
    n = body.get("n")
    choices = n if isinstance(n, int) and not isinstance(n, bool) and n > 0 else 1
    most = body.get("max_completion_tokens", body.get("max_tokens"))
    bounded = most if isinstance(most, int) and not isinstance(most, bool) and most > 0 else TOKENS_GUESSED
    text = _text_of(path, body)
    return CheckedRequest(
        path,
        body,
        model,
        stream,
        bool(cast("dict[str, Any]", options or {}).get("include_usage")),
        choices,
        text,
        len(text) // 4 + 8,
        0 if path == "/v1/embeddings" else bounded * choices,
    )


def check(asked: CheckedRequest) -> None:
    """Whether the embedded backend can serve every parameter. Errors: `Bad`, which names the first that it cannot."""
    table, needed = TABLES[asked.path]
    if asked.body.get(needed) is None:
        raise Bad(f"missing required parameter: {needed!r}", needed, "missing_required_parameter")
    for name, value in asked.body.items():
        found = table.get(name)
        if found is None:
            raise Bad(f"{name[:64]!r} is not supported by this model", name[:64], "unsupported_parameter")
        fault = "" if value is None else found(value)
        if fault:
            raise Bad(f"{name} {fault}", name, "invalid_value")
    for name, with_name in (("tool_choice", "tools"), ("top_logprobs", "logprobs")):
        if asked.body.get(name) not in (None, "none", "auto", 0) and not asked.body.get(with_name):
            raise Bad(f"{name} only goes with {with_name}", name, "invalid_value")


def _text_of(path: str, body: Mapping[str, Any]) -> str:
    """The prompt as one text. Of whatever shape it is: whether that is right is for `check`, or for the upstream."""
    if path != "/v1/chat/completions":
        value = body.get("prompt", body.get("input"))
        return value if isinstance(value, str) else "\n".join(str(one) for one in _list(value))
    parts: list[str] = []
    for message in _list(body.get("messages")):
        if not isinstance(message, dict):
            continue
        said = cast("dict[str, Any]", message)
        content = said.get("content")
        parts.append(str(said.get("role")))
        if isinstance(content, str):
            parts.append(content)
        else:
            parts += [str(cast("dict[str, Any]", p).get("text", "")) for p in _list(content) if isinstance(p, dict)]
    return "\n".join(parts)


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
