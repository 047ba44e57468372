"""Carrying functions and values between processes of the same Python on behalf of the same person.

A function or class that the other side can import goes by name; one that it cannot (of `__main__`, a lambda, a
closure) goes by value: its code and the globals that it uses. Never used for containers, which hold source text and
no pickles.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import io
import marshal
import pickle
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

WRITTEN = "polymer_kernel_"  # how modules are called that a kernel's source makes: nobody can import them
_SKIPPED = {"__dict__", "__weakref__", "__module__", "__doc__"}
_made: dict[str, type] = {}
_pending: dict[str, list[Callable[[Any], Any]]] = {}
_writing: set[type] = set()
_class_bytes: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()


class Pickler(pickle.Pickler):
    """`pickle` with functions and classes of `__main__` by value."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            found = _found(obj)
            if found is obj:
                return NotImplemented
            if getattr(found, "function", None) is obj:  # what `@kernel` left under the function's name
                return _function_of, (obj.__module__, obj.__qualname__)
            return _reduce_function(obj)
        if kind is types.ModuleType:
            return importlib.import_module, (obj.__name__,)
        if isinstance(obj, type):
            return NotImplemented if _found(obj) is obj or obj in _BUILTIN_TYPES else _reduce_class(obj)
        return NotImplemented


_BUILTIN_TYPES = {type(None), type(NotImplemented), type(Ellipsis)}


def dumps(value: Any, buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol=5, buffer_callback=buffer_callback).dump(value)
    return stream.getvalue()


def _found(obj: Any) -> Any:
    """What the other side finds under the object's module and name, if it can import that module."""
    if obj.__module__ in (None, "__main__", "__mp_main__") or obj.__module__.startswith(WRITTEN):
        return None
    return _lookup(sys.modules.get(obj.__module__), obj.__qualname__)


def _lookup(found: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _function_of(module: str, qualname: str) -> Any:
    return _lookup(importlib.import_module(module), qualname).function


def _names(code: types.CodeType) -> set[str]:
    """Every global name that the code, or code inside it, may read."""
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= _names(const)
    return names


def _reduce_function(function: types.FunctionType) -> Any:
    scope = function.__globals__
    used = {name: scope[name] for name in sorted(_names(function.__code__)) if name in scope}
    cells = function.__closure__ or ()
    state = {
        "globals": used,
        "cells": tuple(_cell(cell) for cell in cells),
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "dict": dict(function.__dict__),
        "doc": function.__doc__,
        "annotations": {},
    }
    head = (marshal.dumps(function.__code__), function.__name__, function.__qualname__, function.__module__, len(cells))
    return _make_function, head, state, None, None, _fill_function


class _Empty:
    """A cell that was never filled."""


def _cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _Empty


def _make_function(code: bytes, name: str, qualname: str, module: str, cells: int) -> types.FunctionType:
    scope: dict[str, Any] = {"__builtins__": builtins, "__name__": module}
    function = types.FunctionType(marshal.loads(code), scope, name, None, tuple(types.CellType() for _ in range(cells)))
    function.__qualname__, function.__module__ = qualname, module
    return function


def _fill_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    function.__globals__.update(state["globals"])
    for cell, value in zip(function.__closure__ or (), state["cells"], strict=True):
        if isinstance(value, _Late):
            _pending.setdefault(value.token, []).append(functools.partial(setattr, cell, "cell_contents"))
        elif value is not _Empty:
            cell.cell_contents = value
    for name, value in state["globals"].items():
        if isinstance(value, _Late):
            _pending.setdefault(value.token, []).append(functools.partial(function.__globals__.__setitem__, name))
    function.__defaults__, function.__kwdefaults__ = state["defaults"], state["kwdefaults"]
    function.__dict__.update(state["dict"])
    function.__doc__ = state["doc"]


def _reduce_class(kind: type) -> Any:
    """A class by value, as bytes made once: the other side makes it once and then knows it by its token."""
    token = f"{id(kind)}"
    if kind in _writing:
        return _Late, (token,)
    blob = _class_bytes.get(kind)
    if blob is None:
        body = {name: value for name, value in vars(kind).items() if name not in _SKIPPED and not _is_slot(value)}
        _writing.add(kind)
        try:
            blob = _class_bytes[kind] = dumps((type(kind), kind.__bases__, body, kind.__doc__))
        finally:
            _writing.discard(kind)
    return _make_class, (token, kind.__module__, kind.__qualname__, blob)


class _Late:
    """Inside the body of a class by value: the class itself, filled in once it is made."""

    def __init__(self, token: str) -> None:
        self.token = token


def _is_slot(value: Any) -> bool:
    return isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)


def _make_class(token: str, module: str, qualname: str, blob: bytes) -> type:
    here = getattr(sys.modules.get(module), qualname, None) if module != "__main__" or token not in _made else None
    if isinstance(here, type):
        return here
    if token in _made:
        return _made[token]
    meta, bases, body, doc = pickle.loads(blob)
    name = qualname.rpartition(".")[2]
    made = meta(name, bases, {**body, "__module__": module, "__qualname__": qualname, "__doc__": doc})
    _made[token] = made
    for fill in _pending.pop(token, ()):
        fill(made)
    if module in sys.modules and "." not in qualname:
        # What comes back names the class by module and name, and the caller's own class is found there.
        setattr(sys.modules[module], qualname, made)
    return made
