"""One worker process: reads batches, runs them one after the other, answers with results.

It ends when its pool ends, however that happens. What is imported here is what every worker waits for at its start,
so it is little: the rest is imported where it is needed first. Never: decides what to run, or talks to anybody but its
pool.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from mycelium.polymer.runtime import work
from mycelium.polymer.runtime.costs import BATCH_NS
from mycelium.polymer.shipping import dumps
from mycelium.pools.local import wire

REPLY_NS = 1_000_000  # results are sent together until this much time has passed
_PR_SET_PDEATHSIG = 1


def main(fd: int, mark_fd: int, parent: int) -> None:
    """Serve the pool at the other end of `fd` until it closes; `mark_fd` is where it sees what this worker is at."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be watched
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=fd)
    mark = mmap.mmap(mark_fd, mmap.PAGESIZE)
    os.close(mark_fd)
    sys.argv = [""]
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        # A worker is ended as it is: what it has printed must be out, and whole lines are not torn apart.
        reconfigure(line_buffering=True, write_through=False)
    Worker(sock, mark).serve()


class Worker:
    def __init__(self, sock: socket.socket, mark: mmap.mmap) -> None:
        self.sock, self.mark = sock, mark
        self.inbox = wire.Inbox(sock)
        self.kernels: dict[int, tuple[str, Any]] = {}  # name, and a function or a kernel to be resolved
        self.callables: dict[int, Callable[..., Any]] = {}
        self.choices: dict[int, list[Any]] = {}  # by kernel, what chooses among several forms
        self.shared: dict[int, Any] = {}
        self.replies: list[tuple[int, Any]] = []
        self.sent_ns = 0

    def serve(self) -> None:
        self._send(wire.READY, os.getpid())
        while (message := self.inbox.read()) is not None:
            match message.kind:
                case wire.WORK:
                    self._work(message)
                case wire.KERNEL:
                    self.kernels[message.first] = self._load(message)
                case wire.SHARED:
                    self.shared[message.first] = self._load(message)
                case wire.FORGET:
                    for number in message.load():
                        self.kernels.pop(number, None)
                        self.callables.pop(number, None)
                        self.choices.pop(number, None)
                        self.shared.pop(number, None)
                case _:
                    raise AssertionError(f"message of kind {message.kind}")

    def _load(self, message: wire.Message) -> Any:
        """What cannot be read here is kept as the error, and told when it is used."""
        try:
            return message.load()
        except Exception as error:  # whatever unpickling somebody's value raises
            return _Unreadable(error, _trace(error))

    def _work(self, message: wire.Message) -> None:
        first, count = message.first, message.count
        self.sent_ns = time.monotonic_ns()
        try:
            batch = message.load()
        except Exception as error:  # the same; the pool is told
            told = _told(_Unreadable(error, _trace(error)), "")
            self.replies = [(first + at, told) for at in range(count)]
            self._reply()
            return
        for at, (how, kernel, values, each, test) in enumerate(batch):
            wire.MARK.pack_into(self.mark, 0, 1, first + at)
            begun_ns = time.perf_counter_ns()
            try:
                value = self._run(how, kernel, values, each, test)
                told = (value, time.perf_counter_ns() - begun_ns)
                self.replies.append((first + at, (*told, self._chosen()) if self.choices else told))
            except BaseException as error:
                held = self.kernels.get(kernel)
                self.replies.append((first + at, _told(error, held[0] if isinstance(held, tuple) else "")))
            if at + 1 < count and time.monotonic_ns() - self.sent_ns > REPLY_NS:
                self._reply()
        del batch
        self._reply()
        wire.MARK.pack_into(self.mark, 0, 0, 0)

    def _callable(self, number: int) -> Callable[..., Any]:
        known = self.callables.get(number)
        if known is None:
            held = self.kernels[number]
            if isinstance(held, _Unreadable):
                raise held
            known = self.callables[number] = held[1] if callable(held[1]) else self._resolved(number, held[1])
        return known

    def _resolved(self, number: int, kernel: Any) -> Callable[..., Any]:
        from mycelium.polymer.forms.choose import choose

        choices: list[Any] = []
        found = choose(kernel, choices)
        if choices:
            self.choices[number] = choices
        return found

    def _chosen(self) -> list[tuple[str, str, str, int, int]]:
        return [told for choices in self.choices.values() for choice in choices for told in choice.news()]

    def _shared(self, number: int) -> Any:
        value = self.shared[number]
        if isinstance(value, _Unreadable):
            raise value
        return value

    def _run(self, how: str, number: int, values: Any, each: int, test: int) -> Any:
        kernel = self._callable(number)
        if how == "call":
            return work.call(kernel, values)
        if how == "each":
            columns, shared = values
            return work.each(kernel, columns, [(at, self._shared(one)) for at, one in shared])
        if how == "some":
            columns, shared = values
            return work.some(
                kernel, columns, [(at, self._shared(one)) for at, one in shared], BATCH_NS, time.perf_counter_ns
            )
        if how == "loop":
            return work.loop(self._callable(test), kernel, values[0])
        xs, extra = values
        if each:
            xs = work.each(self._callable(each), [work.elements(xs)], ())
        return work.FOLDS[how](kernel, xs, extra)

    def _reply(self) -> None:
        replies, self.replies = self.replies, []
        self.sent_ns = time.monotonic_ns()
        try:
            packet = wire.encode(wire.RESULT, replies, replies[0][0], len(replies))
        except Exception:  # one result cannot be carried: find it, and answer for it with the error
            packet = wire.encode(wire.RESULT, [(ticket, carried(told)) for ticket, told in replies])
        packet.send(self.sock)

    def _send(self, kind: int, value: Any) -> None:
        wire.encode(kind, value).send(self.sock)


class _Unreadable(Exception):
    """A kernel or a value that this process could not read."""

    def __init__(self, error: BaseException, trace: str) -> None:
        super().__init__(str(error))
        self.error, self.trace = error, trace


class Told:
    """A call that raised, as it travels."""

    __slots__ = ("error", "index", "input_hash", "kernel", "shown", "trace", "where")

    def __init__(self, error: bytes, shown: str, trace: str, index: int, input_hash: str, kernel: str) -> None:
        self.error, self.shown, self.trace, self.index = error, shown, trace, index
        self.input_hash, self.kernel = input_hash, kernel
        self.where = f"worker {os.getpid()}"


def _told(error: BaseException, kernel: str) -> Told:
    index, inputs = 0, None
    if isinstance(error, work.CallFailed):
        index, inputs = error.index, error.inputs
        error = error.__cause__ or error
    trace = error.trace if isinstance(error, _Unreadable) else _trace(error)
    if isinstance(error, _Unreadable):
        error = error.error
    return Told(_error_bytes(error), f"{type(error).__name__}: {error}", trace, index, _hash(inputs), kernel)


def _trace(error: BaseException) -> str:
    """The traceback from the kernel's own code on: our frames above it say nothing."""
    import traceback

    frames = error.__traceback__
    while frames is not None and f"{os.sep}mycelium{os.sep}" in frames.tb_frame.f_code.co_filename and frames.tb_next:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _error_bytes(error: BaseException) -> bytes:
    try:
        held = dumps(error.with_traceback(None))
        import pickle

        pickle.loads(held)
    except Exception:  # an error that cannot be carried is told as text
        return b""
    return held


def _hash(inputs: tuple[Any, ...] | None) -> str:
    if inputs is None:
        return ""
    try:
        import blake3

        return blake3.blake3(dumps(inputs)).hexdigest()[:16]
    except Exception:  # inputs that cannot be written down have no hash; the error itself matters more
        return ""


def carried(told: Any) -> Any:
    if isinstance(told, Told):
        return told
    try:
        dumps(told)
    except Exception as error:
        return _told(error, "")
    return told
