"""Starting a payload: fork, put on every limit, and exec it, naked or through bubblewrap.

Single-threaded callers only (the shim), because the child runs Python between fork and exec.
"""


# Paths are strings here, because this runs at the start of every step.
# ruff: noqa: PTH114, PTH115, PTH208

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from mycelium.sandbox import linux, rlimits, seccomp, stage
from mycelium.sandbox.box import SYSTEM, Box, arguments

SIGNALS_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
OOM_SCORE = "500"  # the kernel, short of memory, ends steps before agents and the head


class Payload(NamedTuple):
    """What to start. Without a `box` it runs naked in `cwd`, with `env`."""

    command: Sequence[str]
    cwd: str
    env: Mapping[str, str]
    limits: rlimits.Rlimits
    box: Box | None = None
    bwrap: str = "bwrap"
    uid: int | None = None
    cores: Sequence[int] = ()
    join: Callable[[], None] | None = None  # enters the step's cgroup


class Spawned(NamedTuple):
    pid: int
    failure_fd: int  # says why the exec failed; empty when it did not
    status_fd: int  # bubblewrap's account of itself, as lines of JSON; -1 without a sandbox


def spawn(payload: Payload, stdout_fd: int, stderr_fd: int) -> Spawned:
    failure_read, failure_write = os.pipe2(os.O_CLOEXEC)
    status_read, status_write = os.pipe2(os.O_CLOEXEC) if payload.box else (-1, -1)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _become(payload, parent, (stdout_fd, stderr_fd), status_write)
        except BaseException as error:  # the child must end here, whatever happened
            os.write(failure_write, str(error).encode(errors="replace")[:4000])
        os._exit(127)
    os.close(failure_write)
    if status_write >= 0:
        os.close(status_write)
    return Spawned(pid, failure_read, status_read)


def _become(payload: Payload, parent: int, outputs: tuple[int, int], status_fd: int) -> None:
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in ((null, 0), (outputs[0], 1), (outputs[1], 2)):
        os.dup2(fd, target)
    _keep_the_rest()
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(OOM_SCORE)
    if payload.join is not None:
        payload.join()
    rlimits.bind_to(payload.cores)
    words = _words(payload, status_fd)
    payload.limits.apply()
    if payload.uid is not None:
        stage.drop(payload.uid)
    # After the change of user, which would clear it; if the parent died before this line, nobody would tell us.
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise ProcessLookupError("the shim died")
    for number in SIGNALS_IGNORED_BY_PYTHON:
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if payload.box is None:
        os.chdir(payload.cwd)
        os.execvpe(payload.command[0], list(payload.command), dict(payload.env))
    os.execve(payload.bwrap, words, {})


def _keep_the_rest() -> None:
    """No descriptor of ours goes along but the three: whatever was left inheritable by mistake is not any more."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them is closed by now
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _words(payload: Payload, status_fd: int) -> list[str]:
    """Bubblewrap's command line. Arguments travel in a memory file: they hold the environment, which may be secret."""
    if payload.box is None:
        return []
    os.set_inheritable(status_fd, True)
    placed = stage.stage(payload.box.staged) if payload.uid is not None else {}
    links = {path: os.readlink(path) for path in SYSTEM if os.path.islink(path)}
    words = arguments(payload.box, links=links, source=lambda path: placed.get(path, path), status_fd=status_fd)
    program = seccomp.program()
    if program:
        words += ["--seccomp", str(_memory_file("seccomp", program))]
    if any("\0" in word for word in words):
        raise ValueError("a zero byte would begin an argument of its own")
    text = b"\0".join(os.fsencode(word) for word in words) + b"\0"
    return [payload.bwrap, "--args", str(_memory_file("arguments", text)), "--", *payload.command]


def _memory_file(name: str, data: bytes) -> int:
    fd = os.memfd_create(name, 0)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
