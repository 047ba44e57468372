"""The Python form: source text with everything that it needs, made from a live function and made into one again.

Functions and classes of the author's own modules are written into the source; what is installed is imported by name.
Never: contains a pickle.
"""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import re
import sys
import sysconfig
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mycelium.base.errors import Refused
from mycelium.polymer.kernel import PythonForm
from mycelium.polymer.schema.records import bridged, names_of
from mycelium.polymer.schema.types import Signature
from mycelium.polymer.shipping import WRITTEN

_PLAIN = (bool, int, float, str, bytes, type(None), complex)
_CONSTANT_TEXT_MAX = 64 * 1024


def define(form: PythonForm, signature: Signature | None = None) -> Callable[..., Any]:
    """The function that the source defines. Runs the source: only for authors who are trusted, or inside a sandbox.

    With the kernel's signature, records of classes come as those that the source defines, and go without their class.
    """
    module = types.ModuleType(f"{WRITTEN}{form.entry}")  # dataclasses look for the module of their class
    sys.modules[module.__name__] = module
    scope = vars(module)
    scope["__builtins__"] = builtins
    exec(compile(form.source, f"<kernel {form.entry}>", "exec", dont_inherit=True), scope)
    _remember(form)
    found = scope.get(form.entry)
    if not callable(found):
        raise Refused(f"the source of kernel {form.entry} defines no function of that name")
    return found if signature is None else bridged(found, signature, scope)


def _remember(form: PythonForm) -> None:
    """So that tracebacks show the kernel's lines."""
    import linecache

    lines = form.source.splitlines(keepends=True)
    linecache.cache[f"<kernel {form.entry}>"] = (len(form.source), None, lines, f"<kernel {form.entry}>")


def capture(function: Callable[..., Any], name: str) -> PythonForm:
    """The source of a function and of all that it reads.

    Errors: `Refused` for what has no source or no text: closures over live objects, builtins, open files.
    """
    capturing = _Capture(name)
    entry = capturing.function(function)
    return PythonForm(capturing.text(), entry)


class _Capture:
    """Collects definitions, each once, those that others need first."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel
        self.imports: dict[str, None] = {}
        self.pieces: dict[str, str] = {}  # name: definition
        self.busy: set[str] = set()

    def text(self) -> str:
        head = ["from __future__ import annotations", *sorted(self.imports)]
        return "\n".join(head) + "\n\n" + "\n\n".join(self.pieces.values()) + "\n"

    def refuse(self, what: str, hint: str = "") -> Refused:
        return Refused(f"kernel {self.kernel} cannot be written down: {what}", hint=hint)

    def function(self, function: Any, name: str = "") -> str:
        target = _undecorated(getattr(function, "function", function))  # without what `@kernel` left
        if hasattr(target, "__wrapped__"):
            raise self.refuse(
                f"{target.__qualname__} is decorated, and what its decorators do would be left out",
                "do it inside the function",
            )
        if not isinstance(target, types.FunctionType):
            raise self.refuse(f"{target!r:.60} is not a Python function", "wrap it in one")
        name = name or (target.__name__ if target.__name__ != "<lambda>" else "anonymous")
        if name in self.pieces or name in self.busy:
            return name
        self.busy.add(name)
        closed = inspect.getclosurevars(target)
        for free, value in sorted(closed.nonlocals.items()):
            self.need(free, value)
        scope = target.__globals__
        for used in sorted(_names(target.__code__)):
            if used in scope and used not in closed.nonlocals and used.isidentifier():  # else a tool put it in
                self.need(used, scope[used])
        self.records(target)
        self.pieces[name] = self.source(target, name)
        return name

    def records(self, target: types.FunctionType) -> None:
        """The classes that its annotations name: what comes to it from elsewhere is made into them."""
        scope = {**target.__globals__, **inspect.getclosurevars(target).nonlocals}
        for hint in target.__annotations__.values():
            if isinstance(hint, str):
                found = [
                    (node.id, scope.get(node.id)) for node in ast.walk(_parsed(hint)) if isinstance(node, ast.Name)
                ]
            else:
                found = [(one.__name__, one) for one in _classes(hint)]
            for name, value in found:
                if isinstance(value, type) and names_of(value) is not None:
                    self.need(name, value)

    def need(self, name: str, value: Any) -> None:
        """Write down what the name `name` stands for."""
        if name in self.pieces or name in self.busy or name == "__builtins__":
            return
        value = _undecorated(value)
        if isinstance(value, types.ModuleType):
            self.module(name, value)
        elif isinstance(value, types.FunctionType | type) or hasattr(value, "function"):
            self.definition(name, value)
        elif (offered := _offered(name, value)) is not None:
            module, known = offered
            self.imports[f"from {module} import {known}" + ("" if known == name else f" as {name}")] = None
        else:
            self.pieces[name] = f"{name} = {self.constant(name, value)}"

    def module(self, name: str, value: types.ModuleType) -> None:
        if not _installed(value.__name__):
            raise self.refuse(
                f"it uses the module {value.__name__}, which is not installed",
                f"import names from {value.__name__} instead",
            )
        self.imports[f"import {value.__name__}" + ("" if value.__name__ == name else f" as {name}")] = None

    def definition(self, name: str, value: Any) -> None:
        inner = getattr(value, "function", value)
        module = getattr(inner, "__module__", None) or "builtins"
        if module != "builtins" and _installed(module) and "<locals>" not in inner.__qualname__:
            known = inner.__qualname__
            if "." in known:
                raise self.refuse(f"{name} is {module}.{known}, which has no name of its own")
            self.imports[f"from {module} import {known}" + ("" if known == name else f" as {name}")] = None
        elif isinstance(inner, type):
            if module == "builtins":
                self.pieces[name] = f"{name} = {inner.__name__}"
            else:
                self.klass(name, inner)
        else:
            made = self.function(value)
            if made != name:
                self.pieces[name] = f"{name} = {made}"

    def klass(self, name: str, value: type) -> None:
        self.busy.add(name)
        for base in value.__bases__:
            if getattr(builtins, base.__name__, None) is not base:
                self.need(base.__name__, base)
        scope = vars(sys.modules[value.__module__]) if value.__module__ in sys.modules else {}
        text = self.text_of(value)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Name) and node.id in scope and node.id != name and not hasattr(builtins, node.id):
                self.need(node.id, scope[node.id])
        self.pieces[name] = text

    def constant(self, name: str, value: Any) -> str:
        text = ""
        if isinstance(value, _PLAIN) or (isinstance(value, tuple | list | dict | set | frozenset) and _literal(value)):
            text = repr(value)
        elif isinstance(value, re.Pattern):
            self.imports["import re"] = None
            text = f"re.compile({value.pattern!r}, {value.flags})"
        elif array := _array(value):
            self.imports["import numpy"] = None
            text = array
        if not text:
            raise self.refuse(
                f"{name} is {type(value).__name__} {value!r:.60}, which has no source",
                "pass it as an argument, or make it inside the kernel",
            )
        if len(text) > _CONSTANT_TEXT_MAX:
            raise self.refuse(f"{name} is a constant of {len(text)} bytes", "pass it as an argument")
        return text

    def text_of(self, target: Any) -> str:
        try:
            return textwrap.dedent(inspect.getsource(target)).strip()
        except (OSError, TypeError) as error:
            raise self.refuse(f"{target.__qualname__} has no source: {error}", "define it in a file") from None

    def source(self, target: types.FunctionType, name: str) -> str:
        """The definition without decorators, or the lambda given a name."""
        text = self.text_of(target)
        try:
            tree = ast.parse(text)
        except SyntaxError:
            tree = (
                ast.parse(f"_ = ({text.strip().rstrip(',').lstrip('.')}\n)") if target.__name__ == "<lambda>" else None
            )
        if tree is None:
            raise self.refuse(f"the source of {name} cannot be read alone")
        if target.__name__ == "<lambda>":
            found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
            if len(found) != 1:
                raise self.refuse(f"{len(found)} lambdas on its line", "give it a name with def")
            return f"{name} = {ast.unparse(found[0])}"
        node = tree.body[0]
        if not isinstance(node, ast.FunctionDef):
            raise self.refuse(f"{name} is not a plain function", "async functions and generators cannot be kernels")
        node.decorator_list = []
        node.returns = None if node.returns is None else node.returns
        lines = text.splitlines()[node.lineno - 1 :]
        return "\n".join(lines).strip() if lines and lines[0].lstrip().startswith("def") else ast.unparse(node)


def _undecorated(value: Any) -> Any:
    """Without `functools.cache`, which changes nothing of what a pure function gives."""
    return value.__wrapped__ if isinstance(value, functools._lru_cache_wrapper) else value


def _parsed(hint: str) -> ast.AST:
    try:
        return ast.parse(hint, mode="eval")
    except SyntaxError:
        return ast.Constant(None)


def _classes(hint: Any) -> Iterator[type]:
    """Every class that an annotation names."""
    if isinstance(hint, type):
        yield hint
    for inner in typing.get_args(hint):
        yield from _classes(inner)


def _names(code: types.CodeType) -> set[str]:
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= _names(const)
    return names


def _array(value: Any) -> str:
    """The text of a small array; empty for everything else."""
    if type(value).__name__ != "ndarray" or value.dtype.hasobject or value.nbytes > _CONSTANT_TEXT_MAX:
        return ""
    return f"numpy.frombuffer({value.tobytes()!r}, {value.dtype.str!r}).reshape({value.shape})"


def _literal(value: Any) -> bool:
    try:
        return ast.literal_eval(repr(value)) == value
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return False


def _offered(name: str, value: Any) -> tuple[str, str] | None:
    """The installed module that has this very value, and its name there: builtin functions, ufuncs, typing's forms."""
    known = str(getattr(value, "__name__", None) or getattr(value, "_name", None) or name)
    for module in (getattr(value, "__module__", None), type(value).__module__.partition(".")[0]):
        if not isinstance(module, str) or module == "builtins" or not _installed(module):
            continue
        if getattr(sys.modules.get(module), known, None) is value:
            return module, known
    return None


def _installed(module: str) -> bool:
    """Whether every machine with the same libraries can import it: the standard library and site-packages."""
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names:
        return root not in ("__main__",)
    if root == "mycelium":
        return True
    where = getattr(sys.modules.get(root), "__file__", None)
    if where is None:
        return False
    homes = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return any(home and Path(where).is_relative_to(home) for home in homes)
