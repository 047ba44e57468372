"""`python -m mycelium.carry.porter`: gives and takes the objects of one machine, over TCP, to who has the key.

The head's porter also remembers who else has what, so that machines find a nearer one. Objects are sent as they lie on
the disk: whoever gets them checks them. On a machine that joined, the objects are copies, and those that nobody wanted
for a day are removed.

Never: sends or takes anything, or takes memory, before the other end has shown that it has the key.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections import OrderedDict
from pathlib import Path

from mycelium.base import framing
from mycelium.base.errors import Problem, Refused
from mycelium.base.ids import Digest, parse_digest
from mycelium.base.limits import HANDSHAKE_S, STRANGERS_MAX, TREE_ENTRIES_MAX
from mycelium.base.units import DAY_S, HOUR_S, S_NS
from mycelium.carry import wire
from mycelium.carry.wire import PIECE_BYTES, SIZE, Have, Lack, Take, Want, Where
from mycelium.store.directory import DirectoryObjects

CONNECTIONS_MAX = 64  # that are served at once; as many again may wait for that
ACCEPT_RETRY_S = 0.1
SAY_S = 1.0  # between two lines of the log about connections
HOLDERS_MAX = 200_000  # objects of which the head's porter remembers who has them
HOLDERS_OF_ONE_MAX = 8
PARENT_LOOK_S = 0.5
SPARE_NS = DAY_S * S_NS

log = logging.getLogger("mycelium.porter")


class Porter:
    def __init__(self, objects: DirectoryObjects, key: str) -> None:
        self._objects = objects
        self._key = key
        self._holders: OrderedDict[str, list[str]] = OrderedDict()
        self._lock = threading.Lock()
        self._strangers = threading.Semaphore(STRANGERS_MAX)
        self._room = threading.Semaphore(CONNECTIONS_MAX)
        self._say_from = 0.0

    def serve(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while True:
            self._strangers.acquire()
            try:
                connection, _ = listener.accept()
            except OSError as error:  # who knocked has gone, or too many files are open: it passes
                self._strangers.release()
                self._say(f"nobody is let in for a moment: {error}")
                time.sleep(ACCEPT_RETRY_S)
                continue
            threading.Thread(target=self._meet, args=(connection, context), daemon=True).start()

    def _meet(self, connection: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            try:
                connection.settimeout(HANDSHAKE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                wire.let_in(connection, self._key)
                self._room.acquire()  # still among the strangers, so that those who wait are bounded too
            finally:
                self._strangers.release()
            try:
                connection.settimeout(wire.SILENCE_S)
                while True:
                    self._answer(connection, wire.read_question(connection))
            finally:
                self._room.release()
        except OSError:
            pass  # the other end has gone, as ends do
        except Problem as error:
            self._say(f"connection dropped: {error}")
        finally:
            connection.close()

    def _say(self, what: str) -> None:
        """Now and then: strangers may knock as often as they like, and must not fill the disk."""
        now = time.monotonic()
        if now >= self._say_from:
            self._say_from = now + SAY_S
            log.warning("%s", what)

    def _answer(self, to: socket.socket, question: wire.Question) -> None:
        match question:
            case Want(objects=objects):
                for digest, offset in objects:
                    self._send(to, parse_digest(digest), offset)
            case Lack(digests=digests):
                wire.write(to, self._objects.missing(digests))
            case Take(count=count):
                self._take(to, count)
            case Have(address=address, digests=digests):
                self._remember(address, digests)
            case Where(digests=digests):
                with self._lock:
                    wire.write(to, [self._holders.get(digest, []) for digest in digests])

    def _send(self, to: socket.socket, digest: Digest, offset: int) -> None:
        path = self._objects.root / digest[:2] / digest[2:]
        try:
            file = path.open("rb")
        except FileNotFoundError:
            to.sendall(SIZE.pack(-1))
            return
        with file:
            size_bytes = max(0, os.fstat(file.fileno()).st_size - offset)
            to.sendall(SIZE.pack(size_bytes))
            if size_bytes:
                to.sendfile(file, offset, size_bytes)

    def _take(self, of: socket.socket, count: int) -> None:
        if not 0 <= count <= TREE_ENTRIES_MAX:
            raise Refused(f"{count} objects at once; at most {TREE_ENTRIES_MAX} are taken")
        with self._objects.batch() as batch:
            for _ in range(count):
                digest = parse_digest(framing.exactly(of, 64).decode(errors="replace"))
                (left_bytes,) = SIZE.unpack(framing.exactly(of, SIZE.size))
                with batch.begin(digest) as writing:
                    while left_bytes > 0:
                        piece = framing.exactly(of, min(left_bytes, PIECE_BYTES))
                        writing.write(piece)
                        left_bytes -= len(piece)
                    writing.commit()
        wire.write(of, [])

    def _remember(self, address: str, digests: list[Digest]) -> None:
        with self._lock:
            for digest in digests:
                holders = self._holders.setdefault(digest, [])
                if address not in holders:
                    holders.append(address)
                    del holders[:-HOLDERS_OF_ONE_MAX]
                self._holders.move_to_end(digest)
            while len(self._holders) > HOLDERS_MAX:
                self._holders.popitem(last=False)


def _end_with(parent: int) -> None:
    """End when whoever started us has: the next one starts a porter of its own."""
    while os.getppid() == parent:
        time.sleep(PARENT_LOOK_S)
    os._exit(0)


def _sweep_for_ever(objects: DirectoryObjects) -> None:
    while True:
        time.sleep(HOUR_S)
        with contextlib.suppress(Problem):
            objects.sweep(frozenset(), SPARE_NS, time.time_ns())


def main() -> int:
    parser = argparse.ArgumentParser(prog="mycelium.carry.porter", allow_abbrev=False)
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--fd", type=int, required=True, help="the listening socket")
    parser.add_argument("--copies", action="store_true", help="the objects here are copies, which may be removed")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--certificate-key", type=Path)
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.certificate_key)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    objects = DirectoryObjects(options.objects)
    if options.copies:
        threading.Thread(target=_sweep_for_ever, args=(objects,), daemon=True).start()
    Porter(objects, options.key_file.read_text().strip()).serve(socket.socket(fileno=options.fd), context)
    return 0


if __name__ == "__main__":
    sys.exit(main())
