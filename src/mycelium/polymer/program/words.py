"""The words of the text form: names, types and literals, as they are written and as they are read.

Writing and reading are each other's inverse. Never: evaluates anything.
"""

# A program's values may be of any type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

from mycelium.base.errors import Refused
from mycelium.base.limits import TYPE_DEPTH_MAX
from mycelium.polymer.schema.records import Loose, fields_of
from mycelium.polymer.schema.types import (
    ANY,
    DTYPES,
    NONE,
    SCALARS,
    DictOf,
    Dim,
    ListOf,
    Param,
    Record,
    Scalar,
    Tensor,
    TupleOf,
    Type,
    Union,
)

_TOKEN = re.compile(
    r"""\s+ | (?P<string>"(?:[^"\\\n]|\\.)*") | (?P<value>%\d{1,9}) | (?P<digest>@[0-9a-f]{64})
    | (?P<number>-?(?:\d+\.\d+(?:e[-+]?\d+)?|\d+e[-+]?\d+|\d+|inf\b)) | (?P<name>[A-Za-z_]\w*)
    | (?P<sign>->|//|\.\.\.|[][(){}:,=|*+-])""",
    re.VERBOSE,
)
_BARE = re.compile(r"[A-Za-z_]\w*")
INT_BITS_MAX = 13_000
INT_DIGITS_MAX = 4_000  # a little more than so many bits need; Python's own bound on reading integers is 4,300


def name(text: str) -> str:
    """A name as it is written: bare where it can be, quoted where it must be."""
    return text if _BARE.fullmatch(text) else json.dumps(text)


def kind(of: Type) -> str:
    """A type as it is written."""
    match of:
        case Record(fields, form):
            inside = ", ".join(f"{name(field)}: {kind(inner)}" for field, inner in fields)
            return ("" if form == "dict" else "object") + "{" + inside + "}"
        case ListOf(item):
            return f"list[{kind(item)}]"
        case TupleOf(items):
            return f"tuple[{', '.join(map(kind, items))}]"
        case DictOf(key, value):
            return f"dict[{kind(key)}, {kind(value)}]"
        case Union(options):
            return f"union[{', '.join(map(kind, options))}]"
        case _:
            return str(of)


def param(of: Param) -> str:
    star, plain = ("*", of.name[1:]) if of.name.startswith("*") else ("", of.name)
    return f"{star}{name(plain) if plain else ''}: {kind(of.type)}"


def literal(value: Any, bodies: dict[str, bytes], depth: int = 0) -> str:
    """A constant as it is written; the bytes of arrays go into `bodies` under their digest.

    Errors: `Refused` for values that have no text.
    """
    if depth > TYPE_DEPTH_MAX:
        raise Refused(f"a constant is nested more than {TYPE_DEPTH_MAX} deep")
    if value is None:
        return "none"
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        if value.bit_length() > INT_BITS_MAX:
            raise Refused(f"a constant has {value.bit_length()} bits; at most {INT_BITS_MAX}")
        return str(value)
    if type(value) is float:
        return "nan" if math.isnan(value) else repr(value)
    if type(value) is str:
        return json.dumps(value)
    if type(value) is bytes:
        return f'bytes "{base64.b64encode(value).decode()}"'
    if type(value) is list:
        return f"[{', '.join(literal(one, bodies, depth + 1) for one in value)}]"
    if type(value) is tuple:
        return f"({', '.join(literal(one, bodies, depth + 1) for one in value)})"
    if type(value) is dict:
        pairs = (f"{literal(key, bodies, depth + 1)}: {literal(one, bodies, depth + 1)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if hasattr(value, "dtype") and hasattr(value, "tobytes") and str(value.dtype) in DTYPES[:-1]:
        if not hasattr(value, "__setitem__"):  # one of numpy's own numbers, which is no array of no dimensions
            return f'scalar {value.dtype} "{base64.b64encode(value.tobytes()).decode()}"'
        return f"tensor {value.dtype}[{', '.join(map(str, value.shape))}] {store(value.tobytes(), bodies)}"
    fields = fields_of(value)
    if fields is not None:
        pairs = (f"{name(field)}: {literal(one, bodies, depth + 1)}" for field, one in fields.items())
        return "object{" + ", ".join(pairs) + "}"
    raise Refused(
        f"a constant of type {type(value).__name__} {value!r:.60} has no text", hint="pass it as an input instead"
    )


def store(data: bytes, bodies: dict[str, bytes]) -> str:
    import blake3

    digest = blake3.blake3(data).hexdigest()
    bodies[digest] = data
    return f"@{digest}"


class LineReader:
    """Reads one line, word by word. Errors: `Refused` that names the line."""

    def __init__(self, line: str, number: int, bodies: dict[str, bytes]) -> None:
        self.line, self.number, self.bodies = line, number, bodies
        self.at = 0
        self.group, self.text = "", ""
        self.next()

    def refuse(self, wanted: str) -> Refused:
        came = self.text or "the end of the line"
        return Refused(f"line {self.number}: expected {wanted}, got {came:.80}: {self.line.strip():.120}")

    def next(self) -> None:
        while True:
            if self.at >= len(self.line):
                self.group, self.text = "end", ""
                return
            match = _TOKEN.match(self.line, self.at)
            if match is None:
                self.text = self.line[self.at]
                raise self.refuse("a word")
            self.at = match.end()
            if match.lastgroup is not None:
                self.group, self.text = match.lastgroup, match[0]
                return

    def take(self, group: str, wanted: str = "") -> str:
        if self.group != group:
            raise self.refuse(wanted or f"a {group}")
        text = self.text
        self.next()
        return text

    def has(self, text: str) -> bool:
        """Whether this word is next; it is passed if it is."""
        if self.text != text or self.group not in ("sign", "name"):
            return False
        self.next()
        return True

    def need(self, text: str) -> None:
        if not self.has(text):
            raise self.refuse(repr(text))

    def end(self) -> None:
        if self.group != "end":
            raise self.refuse("the end of the line")

    def name(self) -> str:
        if self.group == "string":
            return self.string()
        return self.take("name")

    def string(self) -> str:
        text = self.take("string")
        try:
            return json.loads(text)
        except ValueError:
            raise Refused(f"line {self.number}: {text:.60} is not a string") from None

    def value(self) -> int:
        return int(self.take("value", "a value such as %3")[1:])

    def integer(self) -> int:
        text = self.take("number")
        if len(text) > INT_DIGITS_MAX + 1 or not text.lstrip("-").isdigit():
            raise Refused(f"line {self.number}: {text:.40} is not a whole number that can be read")
        return int(text)

    def body(self) -> bytes:
        digest = self.take("digest", "the digest of a body")[1:]
        if digest not in self.bodies:
            raise Refused(f"line {self.number}: the body {digest[:12]}... is not here")
        return self.bodies[digest]

    def param(self) -> Param:
        star = "*" if self.has("*") else ""
        title = star if star and self.text == ":" else star + self.name()
        self.need(":")
        return Param(title, self.kind())

    def params(self) -> tuple[Param, ...]:
        self.need("(")
        found: list[Param] = []
        while not self.has(")"):
            if found:
                self.need(",")
            found.append(self.param())
        return tuple(found)

    def kind(self, depth: int = 0) -> Type:
        if depth > TYPE_DEPTH_MAX:
            raise Refused(f"line {self.number}: a type is nested more than {TYPE_DEPTH_MAX} deep")
        if self.text == "{":
            return self._record("dict", depth)
        word = self.take("name", "a type")
        if word in DTYPES and self.text == "[":
            return Tensor(word, self._dims())
        if word in SCALARS:
            return NONE if word == "none" else Scalar(word)
        if word == "any":
            return ANY
        if word == "object":
            return self._record("object", depth)
        if word not in ("list", "tuple", "dict", "union"):
            raise Refused(f"line {self.number}: there is no type {word!r}")
        inner = self._kinds(depth)
        if word == "list" and len(inner) == 1:
            return ListOf(inner[0])
        if word == "dict" and len(inner) == 2:
            return DictOf(*inner)
        if word == "tuple":
            return TupleOf(inner)
        if word == "union":
            return Union(inner)
        raise Refused(f"line {self.number}: {word} of {len(inner)} types")

    def _kinds(self, depth: int) -> tuple[Type, ...]:
        self.need("[")
        found: list[Type] = []
        while not self.has("]"):
            if found:
                self.need(",")
            found.append(self.kind(depth + 1))
        return tuple(found)

    def _record(self, form: str, depth: int) -> Record:
        self.need("{")
        fields: list[tuple[str, Type]] = []
        while not self.has("}"):
            if fields:
                self.need(",")
            title = self.name()
            self.need(":")
            fields.append((title, self.kind(depth + 1)))
        return Record(tuple(fields), form)

    def _dims(self) -> tuple[Dim, ...] | None:
        self.need("[")
        if self.has("..."):
            self.need("]")
            return None
        dims: list[Dim] = []
        while not self.has("]"):
            if dims:
                self.need(",")
            dims.append(self._dim())
        return tuple(dims)

    def _dim(self) -> Dim:
        begin = stop = self.at - len(self.text)
        depth = 0
        while not (depth == 0 and self.text in (",", "]")):
            depth += {"(": 1, ")": -1}.get(self.text, 0)
            if self.group not in ("name", "number", "sign") or depth < 0:
                raise self.refuse("a dimension")
            stop = self.at
            self.next()
        text = self.line[begin:stop]
        if not text:
            raise self.refuse("a dimension")
        return int(text) if text.isdigit() and len(text) < 19 else text

    def literal(self, depth: int = 0) -> Any:
        if depth > TYPE_DEPTH_MAX:
            raise Refused(f"line {self.number}: a constant is nested more than {TYPE_DEPTH_MAX} deep")
        if self.group == "string":
            return self.string()
        if self.group == "number":
            return self._number()
        for open_, close in ("[]", "()"):
            if self.has(open_):
                items: list[Any] = []
                while not self.has(close):
                    if items:
                        self.need(",")
                    items.append(self.literal(depth + 1))
                return items if open_ == "[" else tuple(items)
        if self.has("{"):
            return self._pairs(depth)
        word = self.take("name", "a constant")
        if word in ("none", "true", "false"):
            return {"none": None, "true": True, "false": False}[word]
        if word == "nan":
            return math.nan
        if word == "inf":
            return math.inf
        if word == "bytes":
            try:
                return base64.b64decode(self.string(), validate=True)
            except ValueError:
                raise Refused(f"line {self.number}: bytes that are not base64") from None
        if word == "tensor":
            return self._tensor()
        if word == "scalar":
            return self._scalar()
        if word == "object":
            return self._object(depth)
        raise Refused(f"line {self.number}: {word!r} is not a constant")

    def _number(self) -> int | float:
        text = self.text
        if text.lstrip("-").isdigit():
            return self.integer()
        self.next()
        return float(text)

    def _pairs(self, depth: int) -> dict[Any, Any]:
        pairs: dict[Any, Any] = {}
        first = True
        while not self.has("}"):
            if not first:
                self.need(",")
            first = False
            key = self.literal(depth + 1)
            self.need(":")
            try:
                pairs[key] = self.literal(depth + 1)
            except TypeError:
                raise Refused(f"line {self.number}: {key!r:.40} cannot be a key") from None
        return pairs

    def _object(self, depth: int) -> Loose:
        self.need("{")
        fields: dict[str, Any] = {}
        while not self.has("}"):
            if fields:
                self.need(",")
            title = self.name()
            self.need(":")
            fields[title] = self.literal(depth + 1)
        return Loose(fields)

    def _scalar(self) -> Any:
        import numpy

        dtype = self.take("name", "a dtype")
        if dtype not in DTYPES[:-1] or dtype == "bfloat16":
            raise Refused(f"line {self.number}: a number cannot be of {dtype:.40}")
        try:
            data = base64.b64decode(self.string(), validate=True)
        except ValueError:
            raise Refused(f"line {self.number}: bytes that are not base64") from None
        if len(data) != numpy.dtype(dtype).itemsize:
            raise Refused(f"line {self.number}: a {dtype} does not have {len(data)} bytes")
        return numpy.frombuffer(data, dtype)[0]

    def _tensor(self) -> Any:
        import numpy

        shape = self.kind()
        data = self.body()
        if not isinstance(shape, Tensor) or shape.dims is None or not all(isinstance(dim, int) for dim in shape.dims):
            raise Refused(f"line {self.number}: a constant tensor needs a fixed shape")
        if shape.dtype not in DTYPES[:-1] or shape.dtype == "bfloat16":
            raise Refused(f"line {self.number}: a constant tensor cannot be of {shape.dtype}")
        size = numpy.dtype(shape.dtype).itemsize
        for dim in shape.dims:
            size *= int(dim)
        if size != len(data):
            raise Refused(f"line {self.number}: {shape} has {size} bytes, its body {len(data)}")
        return numpy.frombuffer(data, shape.dtype).reshape([int(dim) for dim in shape.dims])
