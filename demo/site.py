"""A site of the demo's own: a home in a fresh temporary directory, and nothing of it left when it is over.

Its nodes are shares of this machine; `hosts` has one whose nodes are hosts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.kill import kill_node
from mycelium.client.site import Client

END_S = 20.0


class Failed(Exception):
    """Something that the demo needs did not work."""


class Site:
    """Used as a context: whatever happens inside, the site and its directory are gone afterwards."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.about = f"A site of {nodes} virtual nodes   myc up --nodes {nodes} --detach"
        self.root = Path(tempfile.mkdtemp(prefix="myc-demo-"))
        self.home = self.root / "home"
        self.work = self.root / "work"
        self.work.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MYC_")}
        own = {"MYC_HOME": self.home, "XDG_CONFIG_HOME": self.root / "config", "XDG_CACHE_HOME": self.root / "cache"}
        self.environment = {**kept, **{name: str(path) for name, path in own.items()}, "NO_COLOR": "1"}

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        with _undisturbed():
            self.end()
            shutil.rmtree(self.root, ignore_errors=True)

    def up(self) -> str:
        """Start it. Its URL, when its nodes are there."""
        return self.ask("up", "--nodes", str(self.nodes), "--port", "0", "--detach")["url"]

    # Accidents.

    def mortal(self, node: str) -> bool:
        """Whether this node may die without the head."""
        return True

    def kill(self, node: str) -> list[str]:
        """SIGKILL to a node; the steps that died with it, none when nothing ran there and it was left alone."""
        return kill_node(self.home, node)

    def strike(self, node: str) -> tuple[str, list[str]]:
        """Take a node away in the way that is worst for it: what was done, and the steps that were there."""
        return f"{node} was killed", self.kill(node)

    def heal(self) -> None:
        """Undo what `strike` did, as far as the site does not mend it by itself."""

    def end(self) -> None:
        """Leave no process."""
        if self.home.exists():
            self._run("down", "--now")
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + END_S
        while self.processes() and time.monotonic() < until:
            time.sleep(0.05)

    def myc(self, *words: str) -> str:
        """What `myc WORDS` prints on stdout. Errors: `Failed` with what it printed on stderr."""
        done = self._run(*words)
        if done.returncode != 0:
            raise Failed(f"`myc {' '.join(words)}` exited with {done.returncode}:\n{done.stderr.strip()}")
        return done.stdout

    def ask(self, *words: str) -> Any:
        """The document that `myc WORDS --json` prints."""
        end = words.index("--") if "--" in words else len(words)
        return json.loads(self.myc(*words[:end], "--json", *words[end:]))

    def client(self) -> Client:
        """A connection of our own, for looking many times a second."""
        url = json.loads((self.home / "site.json").read_text())["url"]
        return Client(url, (self.home / "tokens" / "admin").read_text().strip())

    def processes(self) -> list[int]:
        """Every process that has to do with this site: its directory is in its arguments or its environment."""
        mark = os.fsencode(self.root)
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mark in (entry / "cmdline").read_bytes() or mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return found

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mycelium.cli.main", *words],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Nobody who presses Ctrl-C twice is left with half a site."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
