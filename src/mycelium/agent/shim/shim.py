"""The keeper of one step: it starts the payload, writes its log, ends it in time and writes down how it ended.

It is detached from the agent and needs nothing but its directory. If it dies, the payload dies with it, so a step
without a living shim and without a status is lost for certain.

Signals: SIGTERM is the order to stop, with the grace that the file `stop` gives; it may be repeated with a shorter one.
Standard library, msgspec and rules only. Single-threaded: it is forked from a small server in a millisecond (see
`forkserver`).
"""


# Paths are strings here, because this runs at the start of every step.

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from mycelium.agent.shim import record
from mycelium.agent.shim.plan import payload_of
from mycelium.agent.shim.pump import READ_BYTES, StreamLog
from mycelium.agent.shim.watch import Watch, sandboxed
from mycelium.engine.spec import Spec, read
from mycelium.sandbox import linux, rlimits
from mycelium.sandbox.cgroup import Group
from mycelium.sandbox.spawn import Spawned, spawn
from mycelium.sandbox.usage import descendants

TICK_MS_MAX = 1_000
STATUS_RETRY_S = 1.0
SPOKEN_BYTES_MAX = 1_000  # of what bubblewrap says before it gives up
BWRAP_SAYS = b"bwrap: "


def boot_ms() -> int:
    """Time that goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Shim:
    def __init__(self, directory: str, spec: Spec, ready_fd: int = -1) -> None:
        self.directory = directory
        self.spec = spec
        self.step = spec.step
        self.group = Group(Path(spec.cgroup)) if spec.cgroup else None
        self.logs: dict[int, StreamLog] = {}  # by the pipe that feeds it, until that ends
        self.written: list[StreamLog] = []
        self.poll = select.poll()
        self.wake_fd = -1
        self.main: Spawned | None = None
        self.init_pid = 0  # process 1 of the sandbox, in our numbering
        self.main_status: int | None = None
        self.alone = False  # no child is left
        self.reason = "exit"
        self.message = ""
        self.ready_fd = ready_fd  # where the agent waits for the word that the payload runs
        self.failure = b""  # why the exec failed
        self.spoken = b""  # the first words of stderr
        self.stop_asked = False
        self.kill_at_ms: int | None = None
        self.started_ns = time.time_ns()
        self.began_ms = boot_ms()
        self.watch: Watch | None = None

    # -- life ---------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self._listen()
        try:
            self._start()
        except OSError as error:
            self.reason, self.message, self.alone = "failed-start", str(error), True
        while not self.alone:
            for fd, _ in self.poll.poll(self._patience_ms()):
                self._read(fd)
            self._look()
        for fd in list(self.logs):
            while self._read(fd):
                pass
        if self.ready_fd >= 0 and self.main is not None:
            self._read(self.main.failure_fd)
        self._write_down()

    def _listen(self) -> None:
        self.wake_fd, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, self._asked_to_stop)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN)
        self.poll.register(self.wake_fd, select.POLLIN)

    def _start(self) -> None:
        if self.group is not None:
            devices = self.step.devices
            self.group.make(devices.memory_bytes, devices.cpu_m)
        ends: list[int] = []
        for stream in ("stdout", "stderr"):
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(read_fd, False)
            self.logs[read_fd] = StreamLog(self.directory, stream)
            self.written.append(self.logs[read_fd])
            self.poll.register(read_fd, select.POLLIN)
            if self.spec.uid is not None:  # or the step could not open its own /dev/stdout and /dev/stderr
                os.fchown(write_fd, self.spec.uid, self.spec.uid)
            ends.append(write_fd)
        payload = payload_of(self.spec, self.directory, self.group.join if self.group else None)
        self.main = spawn(payload, *ends)
        for fd in ends:
            os.close(fd)
        self.poll.register(self.main.failure_fd, select.POLLIN)
        self.watch = Watch(self.spec, self.directory, self.group)

    def _patience_ms(self) -> int:
        now_ms = boot_ms()
        moments = [now_ms + TICK_MS_MAX]
        if self.watch is not None:
            moments.append(self.watch.next_ms)
        if self.kill_at_ms is not None:
            moments.append(self.kill_at_ms)
        if self.step.time_ms:
            moments.append(self.began_ms + self.step.time_ms)
        if self.main_status is not None:
            moments.append(now_ms + 10)  # the rest is being killed, and not all of it may be our child yet
        return max(0, min(moments) - now_ms)

    def _read(self, fd: int) -> bool:
        """Take what has arrived there; False when nothing has, or nothing ever will."""
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return False
        if fd == self.wake_fd:
            return True
        if self.main is not None and fd == self.main.failure_fd:
            self._hear_exec(data)
            return True
        log = self.logs[fd]
        if not data:
            self.poll.unregister(fd)
            del self.logs[fd]
            os.close(fd)
            log.close()
            return False
        if log.stream == "stderr" and len(self.spoken) < SPOKEN_BYTES_MAX:
            self.spoken += data[:SPOKEN_BYTES_MAX]
        log.write(data)
        return True

    def _hear_exec(self, failure: bytes) -> None:
        """The exec worked if its pipe closes without a word; then the agent may say that the step runs."""
        assert self.main is not None
        self.poll.unregister(self.main.failure_fd)
        self.failure = failure
        if not failure and self.ready_fd >= 0:
            with contextlib.suppress(OSError):  # an agent that died meanwhile finds out by itself
                os.write(self.ready_fd, str(self.started_ns).encode())
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1

    def _look(self) -> None:
        """Everything that is not the log: children, deadlines, orders, what the step uses."""
        self._reap()
        if self.alone:
            return
        now_ms = boot_ms()
        if self.main_status is not None:
            self._kill_all()
            return
        if self.stop_asked:
            self.stop_asked = False
            self._begin_end("stopped", record.grace_ms(self.directory, self.step.grace_ms))
        limit_ms = self.step.time_ms
        if limit_ms and self.kill_at_ms is None and now_ms >= self.began_ms + limit_ms:
            self._begin_end("time", self.step.grace_ms)
        if self.kill_at_ms is not None and now_ms >= self.kill_at_ms:
            self._kill_all()
            self.kill_at_ms = now_ms + 100
        if self.watch is not None and now_ms >= self.watch.next_ms:
            try:
                excess = self.watch.look(now_ms, self._init(), self._below)
            except FileNotFoundError:
                excess = ("lost", "its directory was taken away")
            if excess is not None:
                self.reason, self.message = excess
                self._kill_all()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.alone = True
                return
            if pid == 0:
                return
            if self.main is not None and pid == self.main.pid:
                self.main_status = status

    # -- ending -------------------------------------------------------------------------------------------------------

    def _asked_to_stop(self, *_: object) -> None:
        self.stop_asked = True

    def _begin_end(self, reason: str, grace_ms: int) -> None:
        """SIGTERM now, SIGKILL after the grace. A second order can only shorten it."""
        deadline_ms = boot_ms() + grace_ms
        if self.kill_at_ms is None:
            self.reason, self.kill_at_ms = reason, deadline_ms
            if grace_ms == 0 or not self._terminate():
                self.kill_at_ms = boot_ms()
        else:
            self.kill_at_ms = min(self.kill_at_ms, deadline_ms)

    def _terminate(self) -> bool:
        """SIGTERM to the payload's process group; False when it has not come that far."""
        if self.main is None:
            return False
        group = self._init() if self.spec.boxed else self.main.pid
        if self.spec.boxed and not (group and len(sandboxed(group)) > 1):
            return False  # bubblewrap is alone, and its process 1 would not hear the signal
        try:
            os.killpg(group, signal.SIGTERM)
        except OSError:
            return False
        return True

    def _init(self) -> int:
        """Process 1 of the sandbox, once bubblewrap has told it; it leads the payload's process group."""
        if not self.init_pid and self.main is not None and self.main.status_fd >= 0:
            os.set_blocking(self.main.status_fd, False)
            with contextlib.suppress(BlockingIOError, ValueError, KeyError, IndexError):
                self.init_pid = int(json.loads(os.read(self.main.status_fd, 4096).splitlines()[0])["child-pid"])
        return self.init_pid

    def _below(self) -> list[int]:
        return descendants(os.getpid())

    def _kill_all(self) -> None:
        """Once is enough for a sandbox, whose process 1 takes all with it; the naked are hunted until none is left."""
        if self.group is not None:
            self.group.kill()
        if self.main is not None and self.main_status is None:
            with contextlib.suppress(OSError):
                os.kill(self.main.pid, signal.SIGKILL)
        for pid in [self._init()] if self.spec.boxed and self._init() else self._below():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def end_now(self) -> None:
        while not self.alone:
            self._kill_all()
            self._reap()
            time.sleep(0.01)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _exit_code(self) -> int:
        if self.main_status is None:
            return 127
        code = os.waitstatus_to_exitcode(self.main_status)
        return 128 - code if code < 0 else code

    def _why_not_started(self) -> str:
        """What the exec, or bubblewrap, said when the payload never ran."""
        if self.main is None:
            return ""
        failure = self.failure.decode(errors="replace")
        lines = self.spoken.splitlines()
        if not failure and self.spec.boxed and self._exit_code() == 1 and lines and lines[-1].startswith(BWRAP_SAYS):
            failure = lines[-1].removeprefix(BWRAP_SAYS).decode(errors="replace")
        return failure

    def _status(self) -> dict[str, Any]:
        exit_code = self._exit_code()
        if self.reason == "exit":
            why_not = self._why_not_started()
            if why_not:
                self.reason, self.message, exit_code = "failed-start", why_not, 127
            elif self.group is not None and self.group.killed_for_memory():
                self.reason, self.message = "memory", "the kernel ended it: more memory than it asked for"
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_ms = round((used.ru_utime + used.ru_stime) * 1000)
        peak_bytes = self.watch.peak_bytes if self.watch else 0
        if used.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss:  # else it is our own, before the exec
            peak_bytes = max(peak_bytes, used.ru_maxrss * 1024)
        if self.group is not None:
            cpu_ms = max(cpu_ms, self.group.cpu_ms())
            peak_bytes = max(peak_bytes, self.group.memory_peak_bytes())
        return {
            "reason": self.reason,
            "exit_code": exit_code,
            "message": self.message,
            "started_ns": self.started_ns,
            "ended_ns": self.started_ns + (boot_ms() - self.began_ms) * 1_000_000,
            "cpu_ms": cpu_ms,
            "memory_peak_bytes": peak_bytes,
        }

    def _write_down(self) -> None:
        """Write the status, however long it takes: until then the step counts as running, never as lost."""
        status = self._status()
        if self.group is not None:
            self.group.remove()
        while True:
            try:
                record.write_status(self.directory, status)
                return
            except FileNotFoundError:
                return  # the directory was taken away: nobody waits for this step any more
            except OSError:
                if not any(log.give_up_oldest() for log in self.written):
                    time.sleep(STATUS_RETRY_S)


def main(directory: str, ready_fd: int = -1) -> None:
    os.chdir("/")
    spec = read(directory)
    if spec is None:
        sys.exit(f"shim: {directory} holds no step")
    shim = Shim(directory, spec, ready_fd)
    if not record.claim(directory, shim.started_ns):
        sys.exit(f"shim: {directory} has been started before")
    with contextlib.suppress(OSError):
        record.reserve_status(directory)
    linux.prctl(linux.PR_SET_CHILD_SUBREAPER, 1)
    rlimits.bind_to(spec.cores)  # what it costs to keep a step is charged to the step's cpus
    try:
        shim.run()
    except BaseException:
        shim.end_now()  # a naked payload's children would outlive us
        raise
