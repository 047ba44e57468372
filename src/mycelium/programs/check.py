"""Looks at a stranger's container and inputs in a throw-away process: the door of the site starts it for each program.

Prints one document: what the program is called and the keys of the kernels whose results may be kept, or why it is
refused. Never: runs a kernel.
"""

# The inputs of a program may be of any type.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import argparse
import datetime as dt
import resource
import sys
from pathlib import Path
from typing import Any

import msgspec

from mycelium.base.errors import Denied, Problem, Refused
from mycelium.base.limits import PROGRAM_CHECK_S, VERIFY_MEMORY_BYTES
from mycelium.polymer.container import pmr, signing, values
from mycelium.polymer.forms.verify import needs_trust, verify
from mycelium.polymer.program.inputs import check_inputs
from mycelium.polymer.runtime.memo import kernel_key


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("program", type=Path)
    parser.add_argument("input", type=Path)
    parser.add_argument("--naked", action="store_true", help="the step will have no sandbox")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--crl", type=Path)
    options = parser.parse_args()
    _limit(resource.RLIMIT_AS, VERIFY_MEMORY_BYTES)
    _limit(resource.RLIMIT_CPU, PROGRAM_CHECK_S)
    try:
        held = _checked(options)
        kept = sorted({kernel_key(kernel) for kernel in held.module.kernels.values() if kernel.cache})
        answer: dict[str, Any] = {"name": held.manifest.name, "kept": kept}
    except Problem as problem:
        answer = problem.body()
    except (MemoryError, RecursionError) as error:
        answer = Refused(f"the program cannot be looked at: {type(error).__name__}").body()
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


def _limit(what: int, most: int) -> None:
    """For this process; the one that parses modules has limits of its own, and some need more address space."""
    resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def _checked(options: argparse.Namespace) -> pmr.Container:
    held = pmr.read(options.program.read_bytes())
    trusted = _signed(held, options)
    faults = [fault for kernel in held.module.kernels.values() for fault in verify(kernel)]
    if faults:
        raise Refused("; ".join(map(str, faults)))
    if options.naked and not trusted:
        python = [kernel.name for kernel in held.module.kernels.values() if needs_trust(kernel)]
        if python:
            raise Denied(
                f"the Python of {', '.join(python)} runs only in a sandbox",
                hint="leave out the sandbox level, or have the program signed by somebody the site's authority knows",
            )
    inputs = values.read(options.input.read_bytes())
    if not isinstance(inputs, dict) or not all(isinstance(name, str) for name in inputs):
        raise Refused("the inputs are not a table of names and values")
    check_inputs(held.module, inputs)
    return held


def _signed(held: pmr.Container, options: argparse.Namespace) -> bool:
    """Whether somebody whom the site's authority knows signed it. Signatures that do not count are refused."""
    if options.ca is None or not held.signatures:
        return False
    revoked = [options.crl.read_bytes()] if options.crl else []
    signing.verify(held, [options.ca.read_bytes()], revoked, dt.datetime.now(dt.UTC))
    return True


if __name__ == "__main__":
    sys.exit(main())
