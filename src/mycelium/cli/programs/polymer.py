"""`myc polymer …`: programs as files: compile, show, check, sign, verify, run, and watch the passes.

Needs no site but for `run --site`. Never: runs a stranger's Python outside the sandbox without `--trust`.
"""

# The values of a program may be of any type.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
from __future__ import annotations

import datetime as dt
import importlib.util
import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from mycelium.base.errors import Denied, Missing, Problem, Refused
from mycelium.base.units import format_size
from mycelium.cli.files import read_bytes, write_bytes
from mycelium.cli.options import Json
from mycelium.client import show

app = typer.Typer(help="Programs of typed kernels: compile, check, sign and run them.", no_args_is_help=True)

Source = Annotated[str, typer.Argument(metavar="FILE:PROGRAM", help="A Python file and the program in it.")]
Packed = Annotated[Path, typer.Argument(metavar="FILE.pmr", help="A compiled program.")]
Authorities = Annotated[
    list[Path], typer.Option("--ca", metavar="PEM", help="An authority that is trusted; repeatable.")
]
Revoked = Annotated[
    list[Path], typer.Option("--crl", metavar="PEM", help="A list of revoked certificates; repeatable.")
]


def load(source: str) -> Any:
    """The program `FILE:PROGRAM`. Errors: `Missing`, and `Refused` with what the file itself raised."""
    name, _, wanted = source.rpartition(":")
    path = Path(name)
    if not name:
        raise Refused(f"{source} does not name a program", hint="name a program as FILE.py:PROGRAM")
    if not path.is_file():
        raise Missing(f"there is no file {path}", hint="name a program as FILE.py:PROGRAM")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise Refused(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody's file raises
        raise Refused(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    from mycelium.polymer.define import ProgramFunction

    found = getattr(module, wanted, None)
    if not isinstance(found, ProgramFunction):
        known = [title for title, value in vars(module).items() if isinstance(value, ProgramFunction)]
        raise Missing(f"{path} has no program {wanted}", hint=f"it has {', '.join(known) or 'none'}")
    return found


@app.command("compile")
def compile_(
    source: Source,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE.pmr", help="Where to write it.")],
    json: Json = False,
) -> None:
    """Write a program with all its kernels into one portable file."""
    from mycelium.polymer.container import pmr
    from mycelium.polymer.forms.seal import seal

    data = pmr.pack(seal(load(source).module))
    write_bytes(output, data)
    forms = pmr.read(data).manifest.forms
    show.note(f"wrote {output}: {format_size(len(data))}, forms {', '.join(forms) or 'none'}")
    if json:
        show.document({"path": str(output), "size_bytes": len(data), "forms": list(forms)})


@app.command("show")
def show_(file: Packed, json: Json = False) -> None:
    """Print a compiled program as text: its kernels, its operations, its frames."""
    from mycelium.polymer.container import pmr
    from mycelium.polymer.program.text import write

    held = pmr.read(read_bytes(file))
    if json:
        import msgspec

        show.document(msgspec.to_builtins(held.manifest))
        return
    for line in write(held.module).text.split("\n"):
        show.say(show.clean(line) if sys.stdout.isatty() else line)
    for number, frame in enumerate(held.manifest.frames, 1):
        show.say(f"frame {number}: " + " ".join(f"%{at}" for at in frame))


@app.command()
def check(file: Packed, json: Json = False) -> None:
    """Check a compiled program to the last byte, and say whether it needs trust in its author."""
    from mycelium.polymer.container import pmr
    from mycelium.polymer.forms.verify import needs_trust, verify

    held = pmr.read(read_bytes(file))
    faults = [fault for kernel in held.module.kernels.values() for fault in verify(kernel)]
    if faults:
        raise Refused("; ".join(map(str, faults)))
    trusted = [kernel.name for kernel in held.module.kernels.values() if needs_trust(kernel)]
    if json:
        show.document({"ok": True, "needs_trust": trusted, "forms": list(held.manifest.forms)})
        return
    show.say(f"{file} is whole: program {held.manifest.name}({held.manifest.inputs}) -> {held.manifest.result}")
    if trusted:
        show.say(f"needs trust in its author, for the Python of {', '.join(trusted)}")


@app.command()
def sign(
    file: Packed,
    key: Annotated[Path, typer.Option(metavar="PEM", help="The signer's key.")],
    cert: Annotated[Path, typer.Option(metavar="PEM", help="The signer's certificate.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where to write it; default: in place.")] = None,
    json: Json = False,
) -> None:
    """Sign a compiled program."""
    from mycelium.polymer.container import signing

    write_bytes(output or file, signing.sign(read_bytes(file), read_bytes(key), read_bytes(cert)))
    show.note(f"signed {output or file}")
    if json:
        show.document({"path": str(output or file)})


@app.command()
def verify(file: Packed, ca: Authorities = [], crl: Revoked = [], json: Json = False) -> None:
    """Say who signed a compiled program, or why no signature counts."""
    from mycelium.polymer.container import pmr

    signers = _signers(pmr.read(read_bytes(file)), ca, crl)
    if json:
        import msgspec

        show.document({"signers": msgspec.to_builtins(signers)})
        return
    for signer in signers:
        show.say(f"signed by {show.clean(signer.subject)}, serial {signer.serial}, until {signer.not_after}")


def _signers(container: Any, ca: list[Path], crl: list[Path]) -> Any:
    from mycelium.cli.programs.ca import here
    from mycelium.polymer.container import signing

    if not ca and here().certificate.exists():
        ca = [here().certificate]
        crl = [*crl, *([here().revoked] if here().revoked.exists() else [])]
    authorities, revoked = [read_bytes(path) for path in ca], [read_bytes(path) for path in crl]
    return signing.verify(container, authorities, revoked, dt.datetime.now(dt.UTC))


@app.command()
def run(
    file: Packed,
    inputs: Annotated[
        list[str], typer.Option("--input", metavar="NAME=VALUE", help="JSON, or @FILE with JSON, text or .npy.")
    ] = [],
    trust: Annotated[bool, typer.Option("--trust", help="Run it as your own, though nobody vouches for it.")] = False,
    ca: Authorities = [],
    crl: Revoked = [],
    site: Annotated[bool, typer.Option("--site", help="Run it on the site, as a job.")] = False,
    cpus: Annotated[str, typer.Option(metavar="N", help="With --site: cpus on each node. [1]")] = "",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="The most memory, on each node. [4G; --site: 512M]")] = "",
    nodes: Annotated[str, typer.Option(metavar="N", help="With --site: nodes that work on it. [1]")] = "",
    time: Annotated[
        str, typer.Option("--time", "--time-limit", metavar="TIME", help="The longest it may run. [1h]")
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", help="Say what calls took, and in which form.")] = False,
    json: Json = False,
) -> None:
    """Run a compiled program, on this machine or on the site, and print its result as JSON.

    One whose author is not known runs in the sandbox and within bounds; --trust, or a signature that counts, runs it as
    your own.
    """
    from mycelium.polymer.container import pmr

    data = read_bytes(file)
    held = pmr.read(data)
    given = dict(_input(one, held.module) for one in inputs)
    asked = {"cpus": cpus, "memory": memory, "nodes": nodes, "time": time}
    if site:
        from mycelium.client.program import run_container
        from mycelium.client.site import connect
        from mycelium.programs.report import VERBOSE

        asked["name"] = held.manifest.name[:128]
        wanted: dict[str, Any] = {key: value for key, value in asked.items() if value}
        wanted |= {"env": {VERBOSE: "1"}} if verbose else {}
        with _failures_told():
            result = run_container(connect(), data, given, wanted)
        _say_result(result, document=json)
        return
    if cpus or nodes:
        raise Refused("--cpus and --nodes are for --site", hint="here, all cores are used")
    from mycelium.polymer.forms.verify import verify as verify_kernel
    from mycelium.polymer.program.inputs import check_inputs

    faults = [fault for kernel in held.module.kernels.values() for fault in verify_kernel(kernel)]
    if faults:
        raise Refused("; ".join(map(str, faults)))
    check_inputs(held.module, given)
    trusted = trust or _vouched(held, ca, crl)
    with _failures_told():
        if trusted and not (memory or time):
            result = _run_here(held.module, given, verbose=verbose)
        else:
            result = _run_bounded(data, held, given, memory, time, trusted=trusted, verbose=verbose)
    _say_result(result, document=json)


@contextmanager
def _failures_told() -> Generator[None]:
    """What a kernel raised is shown as its worker told it, with the call that raised it; the exit code is 1."""
    from mycelium.polymer.runtime.failure import RemoteTraceback

    try:
        yield
    except Exception as error:  # whatever somebody's kernel raises
        notes = [f"  {show.clean(note)}" for note in getattr(error, "__notes__", ())]
        if isinstance(error, Problem) or not isinstance(error.__cause__, RemoteTraceback):
            for note in notes:
                show.line(note)
            raise
        for line in (*map(show.clean, error.__cause__.text.rstrip().split("\n")), *notes):
            show.line(line)
        raise typer.Exit(1) from None


def _vouched(held: Any, ca: list[Path], crl: list[Path]) -> bool:
    """Whether somebody whom an authority here knows signed it. Errors: `Denied` when none of its signatures counts."""
    from mycelium.cli.programs.ca import here

    if not held.signatures or not (ca or here().certificate.exists()):
        return False
    try:
        _signers(held, ca, crl)
    except Denied as denied:
        raise Denied(denied.message, hint="have it signed again, or say --trust if you know who wrote it") from None
    return True


def _run_here(module: Any, given: dict[str, Any], *, verbose: bool) -> Any:
    from mycelium.polymer.here import execute
    from mycelium.programs.report import cost_lines

    costs: dict[str, Any] = {}
    result = execute(module, given, costs=costs)
    for line in cost_lines(costs) if verbose else ():
        show.note(line)
    return result


def _run_bounded(
    data: bytes, held: Any, given: dict[str, Any], memory: str, time: str, *, trusted: bool, verbose: bool
) -> Any:
    """In a process of its own within bounds; in the sandbox unless it is trusted."""
    from mycelium.agent import boxed, probes
    from mycelium.base.limits import LOCAL_RUN_MEMORY_BYTES, LOCAL_RUN_MS
    from mycelium.base.units import parse_size, parse_time_ms
    from mycelium.client.program import Listener
    from mycelium.polymer.container import values
    from mycelium.polymer.runtime.failure import RemoteTraceback

    if time and parse_time_ms(time) <= 0:
        raise Refused(f"--time {time} leaves no time to run")
    memory_bytes = parse_size(memory) if memory else min(LOCAL_RUN_MEMORY_BYTES, probes.memory_bytes())
    bounds = boxed.Bounds(memory_bytes, parse_time_ms(time) if time else LOCAL_RUN_MS)
    listener = Listener(held.manifest.name)
    try:
        return boxed.run(data, values.pack(given), bounds, listener, boxed=not trusted, verbose=verbose)
    except OSError as error:
        if not trusted and isinstance(error.__cause__, RemoteTraceback):
            error.add_note("it ran in the sandbox, without your files and the network; --trust runs it as your own")
        raise
    finally:
        listener.close()


def _say_result(result: Any, *, document: bool) -> None:
    if document:
        show.document({"result": _shown(result)})
        return
    text = json.dumps(_shown(result), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair is a str to Python, and no UTF-8: it is shown escaped
        text = json.dumps(_shown(result))
    show.say(text)


def _input(text: str, module: Any) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise Refused(f"{text!r:.60} is not an input", hint="write --input NAME=VALUE or --input NAME=@FILE")
    kind = next((param.type for param in module.main.inputs() if param.name == name), None)
    if value.startswith("@"):
        path = Path(value[1:])
        data = read_bytes(path)
        if path.suffix == ".npy":
            import numpy

            return name, numpy.load(path, allow_pickle=False)
        if path.suffix != ".json":
            return name, data if str(kind) == "bytes" else data.decode()
        value = data.decode()
    from mycelium.polymer.schema.convert import from_json

    if str(kind) == "str" and not value.startswith('"'):
        return name, value
    try:
        return name, from_json(kind, json.loads(value), name)
    except (ValueError, RecursionError) as error:
        raise Refused(f"input {name} is not JSON: {error}", hint="quote strings inside lists") from None


def _shown(value: Any) -> Any:
    """A result as JSON can hold it."""
    import msgspec

    from mycelium.polymer.schema.records import fields_of

    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    value = fields_of(value) or value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _shown(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(one) for one in value]
    if isinstance(value, bytes):
        import base64

        return base64.b64encode(value).decode()
    return value if isinstance(value, int | float | str | None) else msgspec.to_builtins(value, enc_hook=str)


@app.command()
def passes(
    source: Annotated[str, typer.Argument(metavar="FILE.pmr|FILE:PROGRAM", help="A program.")],
    off: Annotated[list[str], typer.Option("--off", metavar="PASS", help="Leave this pass out; repeatable.")] = [],
    json: Json = False,
) -> None:
    """Print the program after each pass of the compiler."""
    from mycelium.polymer.compiler.compile import steps
    from mycelium.polymer.container import pmr
    from mycelium.polymer.program.graph import Module
    from mycelium.polymer.program.text import write

    module = pmr.read(read_bytes(Path(source))).module if source.endswith(".pmr") else load(source).module
    after_each = [("as written", module), *steps(module, off)]
    if json:
        show.document(
            [{"pass": name, "kernels": len(after.kernels), "text": write(after).text} for name, after in after_each]
        )
        return
    before = ""
    for name, after in after_each:
        body = write(Module(after.graphs, {})).text.partition("\n")[2]
        show.say(f"-- {name}: {len(after.kernels)} kernels" + (", nothing changed" if body == before else f"\n{body}"))
        before = body
