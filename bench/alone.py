"""A benchmark as a command: the flags that all of them take, and a line that says what is measured now."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from bench.row import JSON_VARIABLE, Row, show

DOING = "… "  # begins a line on standard error that says what is measured now


def alone(title: str, run: Callable[[bool], list[Row]]) -> None:
    """Run one benchmark as the arguments of the process say, and show its rows."""
    parser = argparse.ArgumentParser(description=f"Measures {title}.")
    parser.add_argument("--small", action="store_true", help="a few seconds, to see that it works")
    parser.add_argument("--peers", action="store_true", help="measure the peers in the same run, where they can be had")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows to this file as well")
    arguments = parser.parse_args()
    if arguments.json:
        os.environ[JSON_VARIABLE] = str(arguments.json.resolve())
    rows = run(arguments.small)
    if sys.stderr.isatty():
        print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
    show(title, rows)


def doing(what: str) -> None:
    """Say what is measured now."""
    if sys.stderr.isatty():
        print(f"\r\x1b[2K{DOING}{what}", end="", file=sys.stderr, flush=True)
    else:
        print(f"{DOING}{what}", file=sys.stderr, flush=True)
