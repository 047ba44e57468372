"""A small process that forks shims: a millisecond each, where starting an interpreter takes fifteen.

It speaks over one SOCK_SEQPACKET socket on its standard input: a message is the directory of a step, with a descriptor
for the word that the payload runs, and perhaps one that the shim shall keep open for life (the lease of a user id).
The answer is the shim's pid, or 0 and why not. It ends when the agent's end of the socket closes. Its shims do not:
they are sessions of their own. A descriptor that it is started with stays open in all of them (see `life`).

Standard library, msgspec and rules only. Single-threaded.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import traceback

from mycelium.agent.shim import shim

MESSAGE_BYTES_MAX = 8192


def serve(door: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, _reap)
    # An order to stop may reach a shim before it listens: it waits until the shim unblocks it.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    # Shims share these pages for as long as nobody writes to them, and a collection writes to all.
    gc.collect()
    gc.freeze()
    gc.disable()
    while True:
        message, fds, _, _ = socket.recv_fds(door, MESSAGE_BYTES_MAX, 2)
        for fd in fds:
            os.set_inheritable(fd, False)  # by hand: Python's recv_fds passes no flags on to the system
        if not message:
            return
        try:
            pid = os.fork()
        except OSError as error:
            door.send(f"0 {error}".encode())
        else:
            if pid == 0:
                _be_shim(door, os.fsdecode(message), fds[0] if fds else -1)
            door.send(str(pid).encode())
        for fd in fds:
            os.close(fd)


def _be_shim(door: socket.socket, directory: str, ready_fd: int) -> None:
    code = 1
    try:
        os.setsid()
        door.close()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
        shim.main(directory, ready_fd)
        code = 0
    except SystemExit as ended:
        print(ended, file=sys.stderr)
    except BaseException:  # the top of this process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    if (life_fd := int(sys.argv[-1])) >= 0:
        os.set_inheritable(life_fd, False)  # forks keep it, payloads do not
    serve(socket.socket(fileno=os.dup(0)))
