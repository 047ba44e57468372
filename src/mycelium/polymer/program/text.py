"""The text form of a program: what people read, what signatures cover, what `parse` reads back. Its grammar is one page
in docs/polymer.md.

Bodies that are no text (modules, arrays) are named by their digest and kept beside it.
"""

from __future__ import annotations

from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.base.limits import PROGRAM_KERNELS_MAX
from mycelium.polymer.kernel import (
    Form,
    FusedCall,
    FusedForm,
    Kernel,
    LivePython,
    LiveXla,
    PythonForm,
    WasmForm,
    XlaForm,
)
from mycelium.polymer.program import words
from mycelium.polymer.program.graph import VERBS, Graph, Module, Op
from mycelium.polymer.program.words import LineReader
from mycelium.polymer.schema.types import Param, Signature, Type

VERSION = 1
_FUSED_DEPTH_MAX = 8


class Text(Struct, frozen=True):
    text: str
    bodies: dict[str, bytes]


def write(module: Module) -> Text:
    """Errors: `Refused` for constants that have no text. Live forms are shown, and cannot be read back."""
    bodies: dict[str, bytes] = {}
    lines = [f"polymer {VERSION}"]
    for kernel in module.kernels.values():
        lines += ["", *_kernel(kernel, bodies, "")]
    for graph in module.graphs.values():
        lines += ["", *_graph(graph, bodies)]
    return Text("\n".join(lines) + "\n", bodies)


def _kernel(kernel: Kernel, bodies: dict[str, bytes], indent: str) -> list[str]:
    shown = ", ".join(words.param(param) for param in kernel.signature.params)
    extras = (f" optional {kernel.optional}" if kernel.optional else "") + (" cache" if kernel.cache else "")
    extras += f" retries {kernel.retries}" if kernel.retries else ""
    lines = [f"{indent}kernel {words.name(kernel.name)}({shown}) -> {words.kind(kernel.signature.result)}{extras} {{"]
    for form in kernel.forms:
        lines += [f"{indent}  {line}" for line in _form(form, bodies)]
    return [*lines, f"{indent}}}"]


def _form(form: Form, bodies: dict[str, bytes]) -> list[str]:
    match form:
        case PythonForm(source, entry):
            return [f"python {words.name(entry)}", *(f"| {line}" if line else "|" for line in source.split("\n"))]
        case XlaForm(exported, platforms):
            return [f"xla {', '.join(map(words.name, platforms))} {words.store(exported, bodies)}"]
        case WasmForm(module, entry, fuel, memory_bytes):
            return [f"wasm {words.name(entry)} fuel {fuel} memory {memory_bytes} {words.store(module, bodies)}"]
        case FusedForm(members, steps):
            inner = [line for member in members for line in _kernel(member, bodies, "  ")]
            calls = [f"  {step.member}({', '.join(f'%{at}' for at in step.arguments)})" for step in steps]
            return ["fused {", *inner, *calls, "}"]
        case LivePython():
            return ["python live"]
        case LiveXla():
            return ["xla live"]


def _graph(graph: Graph, bodies: dict[str, bytes]) -> list[str]:
    lines = [f"program {words.name(graph.name)} {{"]
    for at, op in enumerate(graph.ops):
        lines.append(f"  %{at} = {_op(op, bodies)} : {words.kind(op.type)}")
    return [*lines, f"  output %{graph.output}", "}"]


def _op(op: Op, bodies: dict[str, bytes]) -> str:
    if op.verb == "input":
        return f"input {words.name(op.name)}"
    if op.verb == "const":
        return f"const {words.literal(op.value, bodies)}"
    reads = ", ".join(("ref " if at in op.shared else "") + f"%{read}" for at, read in enumerate(op.reads))
    callee = f" {words.name(op.kernel)}" if op.kernel else ""
    tail = (
        (f" at {op.index}" if op.verb == "item" else "")
        + (f" while {words.name(op.test)}" if op.test else "")
        + (f" each {words.name(op.each)}" if op.each else "")
        + (" associative" if op.associative else "")
    )
    return f"{op.verb}{callee}({reads}){tail}"


def parse(text: str, bodies: dict[str, bytes]) -> Module:
    """The module that `write` wrote. Errors: `Refused` that names the line.

    Only the form is checked here; `compiler.check` says whether the module holds together.
    """
    return _Parser(text, bodies).module()


class _Parser:
    def __init__(self, text: str, bodies: dict[str, bytes]) -> None:
        self.lines = text.split("\n")
        self.at = 0
        self.bodies = bodies

    def reader(self) -> LineReader:
        """The next line that is not empty."""
        while self.at < len(self.lines) and not self.lines[self.at].strip():
            self.at += 1
        if self.at >= len(self.lines):
            raise Refused(f"line {self.at}: the text ends too early")
        self.at += 1
        return LineReader(self.lines[self.at - 1], self.at, self.bodies)

    def module(self) -> Module:
        head = self.reader()
        head.need("polymer")
        version = head.integer()
        if version != VERSION:
            raise Refused(f"the text is of version {version}; this release reads version {VERSION}")
        head.end()
        kernels: dict[str, Kernel] = {}
        graphs: dict[str, Graph] = {}
        while any(line.strip() for line in self.lines[self.at :]):
            reader = self.reader()
            if reader.has("kernel"):
                kernel = self.kernel(reader, 0)
                if kernel.name in kernels or len(kernels) >= PROGRAM_KERNELS_MAX:
                    raise Refused(f"line {reader.number}: kernel {kernel.name} is there twice, or one too many")
                kernels[kernel.name] = kernel
            else:
                reader.need("program")
                graph = self.graph(reader)
                if graph.name in graphs:
                    raise Refused(f"line {reader.number}: program {graph.name} is there twice")
                graphs[graph.name] = graph
        if not graphs:
            raise Refused("the text holds no program")
        return Module(graphs, kernels)

    def kernel(self, reader: LineReader, depth: int) -> Kernel:
        if depth > _FUSED_DEPTH_MAX:
            raise Refused(f"line {reader.number}: fused kernels are nested more than {_FUSED_DEPTH_MAX} deep")
        title = reader.name()
        params: tuple[Param, ...] = reader.params()
        reader.need("->")
        result = reader.kind()
        optional = reader.integer() if reader.has("optional") else 0
        cache = reader.has("cache")
        retries = reader.integer() if reader.has("retries") else 0
        reader.need("{")
        reader.end()
        forms: list[Form] = []
        while not (line := self.reader()).has("}"):
            forms.append(self.form(line, title, depth))
        line.end()
        return Kernel(title, Signature(params, result), tuple(forms), optional, cache, retries)

    def form(self, reader: LineReader, kernel: str, depth: int) -> Form:
        word = reader.take("name", "a form")
        if word == "python":
            entry = reader.name()
            reader.end()
            return PythonForm(self.source(entry), entry)
        if word == "xla":
            platforms = [reader.name()]
            while reader.has(","):
                platforms.append(reader.name())
            form: Form = XlaForm(reader.body(), tuple(platforms))
        elif word == "wasm":
            entry = reader.name()
            reader.need("fuel")
            fuel = reader.integer()
            reader.need("memory")
            memory_bytes = reader.integer()
            form = WasmForm(reader.body(), entry, fuel, memory_bytes)
        elif word == "fused":
            return self.fused(reader, depth)
        else:
            raise Refused(f"line {reader.number}: kernel {kernel}: there is no form {word!r}")
        reader.end()
        return form

    def source(self, entry: str) -> str:
        if entry == "live":
            raise Refused(f"line {self.at}: a live function cannot be read back", hint="compile the program first")
        lines: list[str] = []
        while self.at < len(self.lines) and self.lines[self.at].lstrip().startswith("|"):
            lines.append(self.lines[self.at].lstrip()[2:])
            self.at += 1
        return "\n".join(lines)

    def fused(self, reader: LineReader, depth: int) -> FusedForm:
        reader.need("{")
        reader.end()
        members: list[Kernel] = []
        steps: list[FusedCall] = []
        while not (line := self.reader()).has("}"):
            if line.has("kernel"):
                members.append(self.kernel(line, depth + 1))
                continue
            member = line.integer()
            if not 0 <= member < len(members):
                raise Refused(f"line {line.number}: there is no member {member}")
            steps.append(FusedCall(member, tuple(self.values(line))))
            line.end()
        line.end()
        if not steps:
            raise Refused(f"line {line.number}: a fused kernel without steps")
        return FusedForm(tuple(members), tuple(steps))

    def values(self, reader: LineReader, shared: list[int] | None = None) -> list[int]:
        reader.need("(")
        found: list[int] = []
        while not reader.has(")"):
            if found:
                reader.need(",")
            if shared is not None and reader.has("ref"):
                shared.append(len(found))
            found.append(reader.value())
        return found

    def graph(self, reader: LineReader) -> Graph:
        title = reader.name()
        reader.need("{")
        reader.end()
        ops: list[Op] = []
        while not (line := self.reader()).has("output"):
            if line.value() != len(ops):
                raise Refused(f"line {line.number}: operations are numbered in their order; this is %{len(ops)}")
            line.need("=")
            ops.append(self.op(line))
        output = line.value()
        line.end()
        last = self.reader()
        last.need("}")
        last.end()
        if not 0 <= output < len(ops):
            raise Refused(f"line {line.number}: there is no %{output}")
        return Graph(title, tuple(ops), output)

    def op(self, reader: LineReader) -> Op:
        verb = reader.take("name", "a verb")
        if verb not in VERBS:
            raise Refused(f"line {reader.number}: there is no verb {verb!r}", hint=f"the verbs are {', '.join(VERBS)}")
        if verb == "input":
            title = reader.name()
            return Op(verb, (), self.typed(reader), name=title)
        if verb == "const":
            value = reader.literal()
            return Op(verb, (), self.typed(reader), value=value)
        callee = reader.name() if reader.text != "(" else ""
        shared: list[int] = []
        reads = self.values(reader, shared)
        index = reader.integer() if reader.has("at") else 0
        test = reader.name() if reader.has("while") else ""
        each = reader.name() if reader.has("each") else ""
        associative = reader.has("associative")
        return Op(
            verb,
            tuple(reads),
            self.typed(reader),
            kernel=callee,
            test=test,
            each=each,
            associative=associative,
            shared=tuple(shared),
            index=index,
        )

    def typed(self, reader: LineReader) -> Type:
        reader.need(":")
        found = reader.kind()
        reader.end()
        return found
