"""`myc polymer` and `myc ca`, from a file of source to a signed program, without a pool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mycelium.agent import boxed as cli_boxed
from mycelium.agent import probes
from mycelium.base.errors import Conflict, Denied, Missing, Problem, Refused
from mycelium.base.limits import LOCAL_RUN_MS
from mycelium.base.units import GIB
from mycelium.cli.programs import ca, polymer
from mycelium.polymer import here
from mycelium.polymer.runtime.interpreter import interpret

SOURCE = """
import mycelium as my

@my.kernel
def double(x: int) -> int:
    return 2 * x

@my.kernel
def add(a: int, b: int) -> int:
    return a + b

@my.program
def total(xs: list[int]) -> int:
    return my.reduce(add, my.map(double, my.map(double, xs)), associative=True)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MYC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(here, "execute", lambda module, inputs, **_: interpret(module, inputs))
    (tmp_path / "sums_of_doubles.py").write_text(SOURCE)
    return tmp_path


def call(app: object, *words: str) -> Result:
    return CliRunner().invoke(app, list(words))  # type: ignore[arg-type]


def myc(*words: str) -> str:
    """The standard output of a command that goes well."""
    done = call(ca.app if words[0] == "ca" else polymer.app, *words[1:])
    assert done.exit_code == 0, done.exception
    return done.stdout


def refused(kind: type[Problem], *words: str) -> str:
    done = call(ca.app if words[0] == "ca" else polymer.app, *words[1:])
    assert isinstance(done.exception, kind), done.exception
    return str(done.exception)


def compiled() -> None:
    myc("polymer", "compile", "sums_of_doubles.py:total", "-o", "x.pmr")


def test_a_program_is_compiled_shown_checked_and_run() -> None:
    compiled()
    assert "%2 = map double(%1) : list[int]" in myc("polymer", "show", "x.pmr")
    assert json.loads(myc("polymer", "show", "x.pmr", "--json"))["result"] == "int"
    assert "needs trust in its author, for the Python of double, add" in myc("polymer", "check", "x.pmr")
    assert myc("polymer", "run", "x.pmr", "--trust", "--input", "xs=[1, 2, 3]") == "24\n"
    Path("xs.json").write_text("[5]")
    assert myc("polymer", "run", "x.pmr", "--trust", "--input", "xs=@xs.json") == "20\n"


def test_every_pass_is_shown() -> None:
    shown = myc("polymer", "passes", "sums_of_doubles.py:total")
    assert "-- fuse_maps: 3 kernels\n" in shown
    assert "-- merge_equal: 2 kernels, nothing changed\n" in shown
    assert "%1 = reduce add(%0) each double__double associative : int" in shown
    assert "each" not in myc("polymer", "passes", "sums_of_doubles.py:total", "--off", "fuse_reduces")


def test_unsigned_programs_run_in_the_box_and_signed_ones_outside_until_they_are_revoked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    boxed: list[tuple[bool, cli_boxed.Bounds]] = []

    def run(program: bytes, inputs: bytes, bounds: cli_boxed.Bounds, *_: object, boxed_: bool = False) -> int:
        boxed.append((boxed_, bounds))
        return -1

    monkeypatch.setattr(probes, "memory_bytes", lambda: 2 * GIB)
    monkeypatch.setattr(cli_boxed, "run", lambda *args, boxed, verbose: run(*args, boxed_=boxed))
    compiled()
    assert myc("polymer", "run", "x.pmr", "--input", "xs=[1]") == "-1\n"
    assert myc("polymer", "run", "x.pmr", "--input", "xs=[1]", "--memory", "1G", "--time", "5s") == "-1\n"
    assert myc("polymer", "run", "x.pmr", "--input", "xs=[1]", "--trust", "--time-limit", "5s") == "-1\n"
    assert boxed == [(True, (2 * GIB, LOCAL_RUN_MS)), (True, (GIB, 5_000)), (False, (2 * GIB, 5_000))]
    assert "no authority" in refused(Missing, "ca", "issue", "ada", "-o", "ada")
    myc("ca", "init")
    assert "already" in refused(Conflict, "ca", "init")
    serial = myc("ca", "issue", "ada", "-o", "ada", "--kind", "ed25519").strip()
    assert Path("ada/signer.key").stat().st_mode & 0o777 == 0o600
    myc("polymer", "sign", "x.pmr", "--key", "ada/signer.key", "--cert", "ada/signer.pem")
    assert "signed by CN=ada" in myc("polymer", "verify", "x.pmr")
    assert myc("polymer", "run", "x.pmr", "--input", "xs=[1]") == "4\n"
    assert "no certificate 17 was issued" in refused(Missing, "ca", "revoke", "17")
    assert "revoked" not in myc("ca", "list")
    myc("ca", "revoke", serial)
    assert serial in myc("ca", "list")
    assert "revoked" in myc("ca", "list")
    assert "was revoked" in refused(Denied, "polymer", "verify", "x.pmr")
    assert "was revoked" in refused(Denied, "polymer", "run", "x.pmr", "--input", "xs=[1]")
    assert myc("polymer", "run", "x.pmr", "--input", "xs=[1]", "--trust") == "4\n"


def test_what_cannot_be_is_refused_by_name() -> None:
    assert "no file" in refused(Missing, "polymer", "compile", "gone.py:total", "-o", "x.pmr")
    assert "has no program sum" in refused(Missing, "polymer", "compile", "sums_of_doubles.py:sum", "-o", "x.pmr")
    assert "does not name a program" in refused(Refused, "polymer", "compile", "sums_of_doubles.py", "-o", "x.pmr")
    assert "no directory gone" in refused(Missing, "polymer", "compile", "sums_of_doubles.py:total", "-o", "gone/x.pmr")
    assert "is a directory" in refused(Refused, "polymer", "show", ".")
    Path("broken.py").write_text("1 / 0")
    assert "ZeroDivisionError" in refused(Refused, "polymer", "compile", "broken.py:total", "-o", "x.pmr")
    Path("x.pmr").write_bytes(b"something else")
    assert "not a Polymer container" in refused(Refused, "polymer", "check", "x.pmr")
    compiled()
    assert "is not JSON" in refused(Refused, "polymer", "run", "x.pmr", "--trust", "--input", "xs=[")
    assert "is not an input" in refused(Refused, "polymer", "run", "x.pmr", "--trust", "--input", "xs")
    assert "no time to run" in refused(Refused, "polymer", "run", "x.pmr", "--input", "xs=[1]", "--time", "0s")


def test_text_that_is_no_utf8_is_shown_escaped() -> None:
    kernel = "import mycelium as my\n\n@my.kernel\ndef same(x: str) -> str:\n    return x\n"
    Path("echoes.py").write_text(kernel + "\n@my.program\ndef echo(x: str) -> str:\n    return same(x)\n")
    myc("polymer", "compile", "echoes.py:echo", "-o", "e.pmr")
    for text in ('"a\\ud800"', '"é"'):
        assert myc("polymer", "run", "e.pmr", "--trust", "--input", f"x={text}") == text + "\n"


def test_a_signers_key_is_not_written_over() -> None:
    myc("ca", "init")
    myc("ca", "issue", "ann", "-o", "keys")
    key = Path("keys/signer.key").read_bytes()
    assert "already" in refused(Conflict, "ca", "issue", "bob", "-o", "keys")
    assert Path("keys/signer.key").read_bytes() == key
