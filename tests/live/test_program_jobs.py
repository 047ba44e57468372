"""Polymer programs as jobs on a real site: results, accidents, failures, and what the door refuses."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Annotated, Any

import numpy
import pytest

import mycelium as my
from demo.kill import kill_node
from mycelium.base.errors import Denied, Exhausted, Problem, Refused
from mycelium.client import program
from mycelium.client.site import Client
from mycelium.polymer.container import pmr, values
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.schema.types import Tensor
from mycelium.programs.report import PROGRESS
from tests.live.site import LiveSite, site_at, wait_for


@my.kernel
def count_words(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in text.split():
        counts[word] = counts.get(word, 0) + 1
    return counts


@my.kernel
def merge(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {word: a.get(word, 0) + b.get(word, 0) for word in sorted({*a, *b})}


@my.program
def index(texts: list[str]) -> dict[str, int]:
    return my.reduce(merge, my.map(count_words, texts), associative=True)


@my.kernel
def slow_square(x: int) -> int:
    time.sleep(0.05)
    return x * x


@my.program
def squares(xs: list[int]) -> list[int]:
    return my.map(slow_square, xs)


@my.kernel
def tenth(x: int) -> float:
    return 10 / x


@my.program
def tenths(xs: list[int]) -> list[float]:
    return my.map(tenth, xs)


@my.kernel
def reach(path: str) -> str:
    return f"{os.getuid()} {os.path.exists(path)}"  # noqa: PTH110


@my.program
def reaches(paths: list[str]) -> list[str]:
    return my.map(reach, paths)


@my.kernel(cache=True)
def stamped(x: int) -> str:
    """Not pure, so that a result that was computed anew can be told from a kept one."""
    return f"{x} {time.time_ns()}"


@my.program
def stamps(xs: list[int]) -> list[str]:
    return my.map(stamped, xs)


@dataclass(frozen=True)
class Point:
    x: int
    names: tuple[str, ...]


@my.kernel
def moved(point: Point, by: int) -> Point:
    assert isinstance(point.names, tuple)
    return Point(point.x + by, (*point.names, "moved"))


@my.program
def moves(points: list[Point], by: int) -> list[Point]:
    return my.map(moved, my.map(moved, points, my.ref(by)), my.ref(by))


Matrix = Annotated[numpy.ndarray, Tensor("float32", ("n", "d"))]
TEXTS = [f"the {word} and the hare" for word in ("tortoise", "fox", "hound")] * 40


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with site_at(tmp_path_factory.mktemp("programs") / "home", 3) as site:
        yield site.up()


def url(site: LiveSite) -> str:
    return str(site.http.base_url).rstrip("/")


def token(site: LiveSite) -> str:
    return (site.home / "tokens" / "admin").read_text().strip()


def client(site: LiveSite) -> Client:
    return Client(url(site), token(site))


def packed(of: Any) -> bytes:
    return pmr.pack(seal(of.module))


class Running(Thread):
    """A program that runs on the site while the test does something to it."""

    def __init__(self, site: LiveSite, of: Any, *inputs: Any, **asked: Any) -> None:
        super().__init__()
        self.client = client(site)
        given = of.named(list(inputs))
        self.job = program.submit(self.client, packed(of), values.pack(given), asked)
        self.value: Any = None
        self.start()

    def run(self) -> None:
        self.value = program.result(self.client, self.job)

    def ended(self) -> Any:
        self.join()
        return self.value


def wait_under_way(site: LiveSite, job: str) -> dict[str, Any]:
    """Until the job has told of its progress."""

    def said() -> bool:
        tried = site.http.get(f"/jobs/{job}/logs", params={"stream": "stderr"}).text
        return any(PROGRESS in decoded for decoded in decoded_pieces(tried))

    wait_for(said, f"{job} to be under way")
    return site.get(f"/jobs/{job}")


def decoded_pieces(stream: str) -> list[str]:
    import base64
    import json

    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    documents = [json.loads(one) for one in data]
    return [base64.b64decode(one["data"]).decode() for one in documents if "data" in one and "rank" in one]


def test_the_result_is_the_one_computed_here(site: LiveSite) -> None:
    assert index.run(TEXTS, site=url(site), token=token(site), cpus=1) == index(TEXTS)


def test_the_command_line_runs_a_container_on_the_site(site: LiveSite, tmp_path: Path) -> None:
    (tmp_path / "x.pmr").write_bytes(packed(index))
    words = ["polymer", "run", str(tmp_path / "x.pmr"), "--site", "--cpus", "1", "--verbose"]
    words += ["--input", 'texts=["a b", "b"]']
    done = subprocess.run(
        [sys.executable, "-m", "mycelium.cli.main", *words], env=site.env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, '{"a": 1, "b": 2}\n'), done.stderr
    assert "reduce merge count_words: 2 calls, " in done.stderr


def test_a_node_killed_in_the_middle_changes_nothing_but_the_attempt(site: LiveSite) -> None:
    numbers = list(range(60))
    running = Running(site, squares, numbers)
    (node,) = wait_under_way(site, running.job["id"])["nodes"]
    assert kill_node(site.home, node)
    assert running.ended() == [number * number for number in numbers]
    assert site.get(f"/jobs/{running.job['id']}")["attempt"] == 2


def test_on_three_nodes_a_worker_nodes_death_costs_not_even_the_attempt(site: LiveSite) -> None:
    wait_for(lambda: site.get("/status")["nodes"].get("up") == 3, "the nodes to be up")
    numbers = list(range(150))
    running = Running(site, squares, numbers, nodes=3)
    name = running.job["id"]
    _, _, last = wait_under_way(site, name)["tasks"][0]["nodes"]
    assert kill_node(site.home, last)
    assert running.ended() == [number * number for number in numbers]
    assert site.get(f"/jobs/{name}")["attempt"] == 1


def test_on_several_nodes_the_death_of_rank_0_is_another_attempt(site: LiveSite) -> None:
    wait_for(lambda: site.get("/status")["nodes"].get("up") == 3, "the nodes to be up")
    numbers = list(range(150))
    running = Running(site, squares, numbers, nodes=2)
    name = running.job["id"]
    first, _ = wait_under_way(site, name)["tasks"][0]["nodes"]
    assert kill_node(site.home, first)
    assert running.ended() == [number * number for number in numbers]
    assert site.get(f"/jobs/{name}")["attempt"] == 2


def test_a_failing_kernel_raises_in_the_caller_as_it_does_here(site: LiveSite) -> None:
    with pytest.raises(ZeroDivisionError) as here:
        tenths([1, 2, 0, 4])
    with pytest.raises(ZeroDivisionError) as there:
        tenths.run([1, 2, 0, 4], site=url(site), token=token(site))
    assert str(there.value) == str(here.value)
    assert "return 10 / x" in str(there.value.__cause__)
    (told_here,), (told_there,) = here.value.__notes__, there.value.__notes__
    assert told_there.split(", ")[:3] == told_here.split(", ")[:3]  # kernel, call and the input's hash


def test_kernels_of_an_account_without_trust_run_in_the_sandbox(site: LiveSite) -> None:
    ann = site.post("/accounts", {"name": "ann"})["token"]
    secret = site.home / "tokens" / "admin"
    (said,) = reaches.run([str(secret)], site=url(site), token=ann)
    assert said == "1000 False"


def test_kept_results_serve_later_jobs_of_the_same_account_and_nobody_else(site: LiveSite) -> None:
    bob = site.post("/accounts", {"name": "bob"})["token"]

    def run(xs: list[int], who: str) -> list[str]:
        return stamps.run(xs, site=url(site), token=who)

    first = run([1, 2, 3], token(site))
    again = run([2, 3, 4], token(site))
    assert again[:2] == first[1:]
    assert run([4, 1], token(site)) == [again[2], first[0]]
    assert not set(run([1, 2, 3], bob)) & {*first, *again}


def test_records_go_to_a_site_and_come_back_as_their_own_class(site: LiveSite) -> None:
    points = [Point(1, ("a",)), Point(2, ())]
    assert moves.run(points, 5, site=url(site), token=token(site)) == moves(points, 5)


def test_a_hostile_container_is_refused_with_the_reason(site: LiveSite) -> None:
    good = packed(index)
    at = good.index(b"def count_words")
    altered = good[:at] + b"x" + good[at + 1 :]
    given = values.pack({"texts": TEXTS})
    for bad, why in ((altered, "altered"), (good[:-40], "altered"), (b"\x00" * 500, "not a Polymer container")):
        with pytest.raises(Refused, match=why):
            program.submit(client(site), bad, given, {})


def test_inputs_that_the_program_does_not_take_are_refused(site: LiveSite) -> None:
    for given, why in (({"texts": [1]}, "expected str"), ({}, "needs input"), ([], "not a table")):
        with pytest.raises(Refused, match=why):
            program.submit(client(site), packed(index), values.pack(given), {})
    with pytest.raises(Refused, match="not a file of values"):
        program.submit(client(site), packed(index), b"\x80\x04N.", {})


def test_python_without_a_sandbox_is_refused_even_to_admins(site: LiveSite) -> None:
    with pytest.raises(Denied, match="only in a sandbox"):
        program.submit(client(site), packed(index), values.pack({"texts": []}), {"sandbox": "none"})


def test_signatures_that_do_not_count_are_refused_where_the_site_has_an_authority(tmp_path: Path) -> None:
    import datetime as dt

    from mycelium.polymer.container import authority, signing

    now = dt.datetime.now(dt.UTC)
    ours, theirs = authority.create("ours", now), authority.create("theirs", now)
    given = values.pack({"texts": ["a"]})
    with site_at(tmp_path / "home", 1) as site:
        site.up()
        (site.home / "ca").mkdir()
        (site.home / "ca" / "authority.pem").write_bytes(ours.certificate_pem)
        for whose, welcome in ((ours, True), (theirs, False)):
            signer = authority.issue(whose.key_pem, whose.certificate_pem, "ann", now, days=1)
            signed = signing.sign(packed(index), signer.key_pem, signer.certificate_pem)
            if welcome:
                job = program.submit(client(site), signed, given, {})
                assert program.result(client(site), job) == {"a": 1}
            else:
                with pytest.raises(Denied):
                    program.submit(client(site), signed, given, {})


SPIN = """(module
  (func (export "twice") (param i64) (result i64) (i64.mul (local.get 0) (i64.const 2)))
  (func (export "spin") (param i64) (result i64) (loop (br 0)) (unreachable)))"""


def test_webassembly_is_checked_and_runs_on_its_fuel(site: LiveSite) -> None:
    pytest.importorskip("wasmtime", reason="the extra `wasm` is not installed")

    @my.kernel(wasm=my.wasm(SPIN, "twice"))
    def twice(x: int) -> int: ...

    @my.kernel(wasm=my.wasm(SPIN, "spin", fuel=1_000_000))
    def spin(x: int) -> int: ...

    @my.program
    def doubled(xs: list[int]) -> list[int]:
        return my.map(twice, xs)

    @my.program
    def spun(xs: list[int]) -> list[int]:
        return my.map(spin, xs)

    assert doubled.run([1, 2, 3], site=url(site), token=token(site)) == [2, 4, 6]
    with pytest.raises(Exhausted, match="fuel"):
        spun.run([1], site=url(site), token=token(site))


def test_tensors_come_back_as_they_are_computed_here(site: LiveSite) -> None:
    pytest.importorskip("jax", reason="the extra `xla` is not installed")

    @my.kernel(forms=["xla"])
    def halved(x: Matrix) -> Matrix:
        return x / 2

    @my.program
    def halves(x: Matrix) -> Matrix:
        return halved(x)

    given = numpy.arange(6, dtype="float32").reshape(2, 3)
    found = halves.run(given, site=url(site), token=token(site), memory="1G")
    assert found.dtype == "float32" and (found == given / 2).all()


def test_what_goes_with_no_program_is_refused_at_once(site: LiveSite) -> None:
    digests = program.send(client(site), [packed(index), values.pack({"texts": []})])
    for extra in ({"command": ["true"]}, {"array": "0-3"}, {"outputs": ["*"]}):
        with pytest.raises(Problem, match="does not go with program"):
            client(site).post("/jobs", {"program": digests[0], "input": digests[1], **extra})
