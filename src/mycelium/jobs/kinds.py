"""The kinds of value that keys of a job have: how each is read from what people write, and its shape in an HTTP body.

What is read is text from an option, or a number, text, list or table of a job file or a JSON body. Errors: `Refused`.
Never: looks at the site, or at other keys of the same job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from msgspec import Struct

from mycelium.base.errors import Fault, Refused, refuse
from mycelium.base.ids import Digest, JobId, parse_digest, parse_job
from mycelium.base.limits import (
    AFTER_MAX,
    ARRAY_TASKS_MAX,
    COMMAND_BYTES_MAX,
    COMMAND_WORDS_MAX,
    ENV_BYTES_MAX,
    ENV_ENTRIES_MAX,
    NAME_LENGTH_MAX,
    OUTPUT_GLOBS_MAX,
    TIME_MS_MAX,
)
from mycelium.base.units import MIB, TIB, format_size, format_time_ms, parse_cpus_m, parse_size, parse_time_ms
from mycelium.jobs.model import Array, Priority, Sandbox
from mycelium.nodes.select import parse_terms

_ARRAY = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?(?::(\d{1,9}))?(?:%(\d{1,9}))?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RESERVED_ENV = re.compile(r"MYC_|LD_")  # MYC_ is the site's; LD_ would reach the sandbox's own programs
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")

_TEXT: dict[str, Any] = {"type": "string"}
_TEXTS: dict[str, Any] = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]}
_NUMBER_OR_TEXT: dict[str, Any] = {"oneOf": [{"type": "number"}, _TEXT]}


class KeyKind(Struct, frozen=True):
    """`shape` is the JSON schema of what an HTTP body may hold."""

    read: Callable[[Any], Any]
    shape: dict[str, Any]


def plain(key: Any) -> str:
    """A key as a message names it: as it is written, unless that cannot be printed."""
    text = key[:64] if isinstance(key, str) else type(key).__name__
    return text if text.isprintable() else ascii(text)


def shown(value: Any) -> str:
    """A wrong value as a message shows it: short, and fit to be sent whatever it is."""
    if isinstance(value, str):
        return ascii(value[:40]) if _surrogate(value[:40]) else repr(value[:40])
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a number of more than 40 digits"
    return str(value) if isinstance(value, int | float) or value is None else f"a {type(value).__name__}"


def _command(value: Any) -> tuple[str, ...]:
    words = ("sh", "-c", value) if isinstance(value, str) else tuple(_strings(value, COMMAND_WORDS_MAX))
    if not words or not words[0].strip():
        raise Refused("is empty", hint="say what to run")
    if any(_surrogate(word) for word in words):
        raise Refused("holds text that is not valid unicode")
    if any("\0" in word for word in words):
        raise Refused("holds a zero byte")
    size_bytes = sum(len(word.encode("utf-8", "surrogateescape")) + 1 for word in words)
    if size_bytes > COMMAND_BYTES_MAX:
        raise Refused(f"has {size_bytes} bytes; at most {COMMAND_BYTES_MAX} are allowed", hint="put it into a file")
    return words


def _strings(value: Any, most: int) -> list[str]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in cast("list[Any]", value)):
        raise Refused("must be a text or a list of texts")
    items = list(cast("list[str]", value))
    if len(items) > most:
        raise Refused(f"has {len(items)} entries; at most {most} are allowed")
    if any(_surrogate(item) for item in items):
        raise Refused("holds text that is not valid unicode")
    return items


def _surrogate(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _name(value: Any) -> str:
    name = _text(value)
    if not name.strip() or len(name) > NAME_LENGTH_MAX or UNPRINTABLE.search(name):
        raise Refused(f"must be 1 to {NAME_LENGTH_MAX} printable characters")
    return name


def _text(value: Any) -> str:
    if not isinstance(value, str) or _surrogate(value):
        raise Refused("must be a text")
    return value


def _cpus(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Refused("must be a number of cpus", hint="write 1, 4 or 0.5")
    if isinstance(value, float):
        value = f"{value:.3f}"
    if isinstance(value, int) and not 0 <= value <= 4096:
        raise Refused(f"is {shown(value)}; it must be from 0.01 to 4096")
    cpu_m = parse_cpus_m(str(value))
    if not 10 <= cpu_m <= 4_096_000:
        raise Refused(f"is {value}; it must be from 0.01 to 4096")
    return cpu_m


def _memory(value: Any) -> int:
    size_bytes = _number_or(value, parse_size, "a size", "write 512M or 4G")
    if not 4 * MIB <= size_bytes <= 64 * TIB:
        raise Refused(f"is {format_size(size_bytes)}; it must be from 4M to 64T")
    return size_bytes


def _time(value: Any) -> int:
    time_ms = _number_or(value, parse_time_ms, "a time", "write 90s, 15m or 1h30m", scale=1000)
    if not 1 <= time_ms <= TIME_MS_MAX:
        raise Refused(f"is {format_time_ms(time_ms)}; it must be above 0 and at most {format_time_ms(TIME_MS_MAX)}")
    return time_ms


def _number_or(value: Any, parse: Callable[[str], int], what: str, hint: str, scale: int = 1) -> int:
    if isinstance(value, str):
        return parse(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        raise Refused(f"must be {what}", hint=hint)
    return value * scale


def _array(value: Any) -> Array:
    text = str(value) if isinstance(value, int) and 0 <= value < 10**9 and value is not True else value
    match = _ARRAY.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise Refused(
            f"{shown(value)} is not a range", hint="write 0-99, 0-99:2 (every second) or 0-99%10 (ten at once)"
        )
    start, stop, step, throttle = (None if part is None else int(part) for part in match.groups())
    array = Array(start or 0, start or 0 if stop is None else stop, 1 if step is None else step, throttle or 0)
    if array.step < 1 or array.stop < array.start:
        raise Refused(f"{value!r} holds no index", hint="write the smaller number first and a step of at least 1")
    if throttle == 0:
        raise Refused("lets 0 tasks run at once", hint="write %1 or more, or leave it out")
    if len(array.indices) > ARRAY_TASKS_MAX:
        raise Refused(f"has {len(array.indices)} tasks; at most {ARRAY_TASKS_MAX} are allowed")
    return array


def _jobs(value: Any) -> tuple[JobId, ...]:
    items = _strings(value, AFTER_MAX)
    return tuple(dict.fromkeys(parse_job(part) for item in items for part in item.split(",") if part.strip()))


def _priority(value: Any) -> Priority:
    names = {priority.name.lower(): priority for priority in Priority}
    if not isinstance(value, str) or value.lower() not in names:
        raise Refused(f"{shown(value)} is not a priority", hint=f"one of: {', '.join(names)}")
    return names[value.lower()]


def _on(value: Any) -> tuple[str, ...]:
    return parse_terms(",".join(_strings(value, 64)))


def _env(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise Refused("must be a table of names and texts")
    env = cast("Mapping[Any, Any]", value)
    if len(env) > ENV_ENTRIES_MAX:
        raise Refused(f"has {len(env)} entries; at most {ENV_ENTRIES_MAX} are allowed")
    refuse([fault for name, text in env.items() if (fault := _env_fault(name, text)) is not None])
    size_bytes = sum(len(name) + len(text.encode()) for name, text in env.items())
    if size_bytes > ENV_BYTES_MAX:
        raise Refused(f"has {size_bytes} bytes; at most {ENV_BYTES_MAX} are allowed", hint="put it into a file")
    return {str(name): str(text) for name, text in env.items()}


def _env_fault(name: Any, text: Any) -> Fault | None:
    where = plain(name)
    if not isinstance(name, str) or _ENV_NAME.fullmatch(name) is None:
        return Fault(where, "is not a name of a variable", hint="letters, digits and _, no digit first")
    if _RESERVED_ENV.match(name):
        return Fault(where, "is reserved", hint="names that begin with MYC_ or LD_ are set by the site")
    if not isinstance(text, str):
        return Fault(where, "must be a text", hint=f'write {name} = "…"')
    if "\0" in text or _surrogate(text):
        return Fault(where, "must be a text without zero bytes, in valid unicode")
    return None


def _yes(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused("must be true or false")
    return value


def _globs(value: Any) -> tuple[str, ...]:
    globs = tuple(_strings(value, OUTPUT_GLOBS_MAX))
    for glob in globs:
        if not glob or len(glob) > 1024 or glob.startswith("/") or ".." in glob.split("/") or "\0" in glob:
            raise Refused(
                f"{glob[:64]!r} does not stay in the job's directory", hint="write a path such as results/*.json"
            )
    return globs


def _sandbox(value: Any) -> Sandbox:
    names = [level.value for level in Sandbox]
    if not isinstance(value, str) or value not in names:
        raise Refused(f"{shown(value)} is not a level of the sandbox", hint=f"one of: {', '.join(names)}")
    return Sandbox(value)


def _digest(value: Any) -> Digest:
    return parse_digest(_text(value))


def whole(low: int, high: int) -> KeyKind:
    """A whole number within these bounds."""

    def read_whole(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\d{1,12}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refused("must be a whole number")
        if not low <= value <= high:
            raise Refused(f"is {shown(value)}; it must be from {low} to {high}")
        return value

    return KeyKind(read_whole, {"type": "integer", "minimum": low, "maximum": high})


COMMAND = KeyKind(_command, _TEXTS)
NAME = KeyKind(_name, {"type": "string", "minLength": 1, "maxLength": NAME_LENGTH_MAX})
CPUS = KeyKind(_cpus, _NUMBER_OR_TEXT)
MEMORY = KeyKind(_memory, _NUMBER_OR_TEXT)
TIME = KeyKind(_time, _NUMBER_OR_TEXT)
ARRAY = KeyKind(_array, _TEXT)
JOBS = KeyKind(_jobs, _TEXTS)
PRIORITY = KeyKind(_priority, {"type": "string", "enum": [priority.name.lower() for priority in Priority]})
TERMS = KeyKind(_on, _TEXTS)
ENV = KeyKind(_env, {"type": "object", "additionalProperties": _TEXT, "maxProperties": ENV_ENTRIES_MAX})
YES = KeyKind(_yes, {"type": "boolean"})
GLOBS = KeyKind(_globs, _TEXTS)
SANDBOX = KeyKind(_sandbox, {"type": "string", "enum": [level.value for level in Sandbox]})
DIGEST = KeyKind(_digest, {"type": "string", "pattern": "^[0-9a-f]{64}$"})
