"""Which modules of the standard library are most alike, by their words: a Polymer program, run on the demo's site.

Three nodes work on it, and one of them is killed in the middle. The answer is held against the one of the sequential
interpreter, which runs here, one call after the other.
"""

from __future__ import annotations

import math
import re

from rich.console import Console
from rich.table import Table

import mycelium as my
from demo import library
from demo.claims import Claims
from demo.site import Failed, Site
from mycelium.client import program
from mycelium.polymer.container import pmr, values
from mycelium.polymer.forms.seal import seal
from mycelium.polymer.runtime.interpreter import interpret

NODES = 3
BYTES_MIN = 16_000  # a shorter module says too little
LEFT_OUT = ("distutils", "encodings", "idlelib", "lib2to3", "pydoc_data", "tkinter")  # tables, near copies, programs
SHOWN = 8


@my.kernel
def count_words(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in re.findall(r"[a-z]{3,}", text.lower()):
        counts[word] = counts.get(word, 0) + 1
    return counts


@my.kernel
def once(counts: dict[str, int]) -> dict[str, int]:
    return dict.fromkeys(counts, 1)


@my.kernel
def add(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    total = dict(a)
    for word, count in b.items():
        total[word] = total.get(word, 0) + count
    return total


@my.kernel
def weigh(modules: int, spread: dict[str, int], counts: dict[str, int]) -> dict[str, float]:
    """Rare words say more: term frequency by inverse document frequency, as a vector of length one."""
    weights = {word: (1 + math.log(n)) * math.log(modules / spread[word]) for word, n in sorted(counts.items())}
    length = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
    return {word: weight / length for word, weight in weights.items()}


@my.kernel
def nearest(vectors: list[dict[str, float]], at: int) -> list[tuple[float, int, int]]:
    """The modules after this one that are most like it: the cosine of the angle between their vectors."""
    mine = vectors[at]
    found = []
    for other in range(at + 1, len(vectors)):
        theirs = vectors[other]
        few, many = (mine, theirs) if len(mine) < len(theirs) else (theirs, mine)
        found.append((sum(weight * many[word] for word, weight in few.items() if word in many), at, other))
    return sorted(found, reverse=True)[:8]


@my.kernel
def best(a: list[tuple[float, int, int]], b: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    return sorted([*a, *b], reverse=True)[:8]


@my.program
def most_alike(modules: int, texts: list[str], positions: list[int]) -> list[tuple[float, int, int]]:
    counts = my.map(count_words, texts)
    spread = my.reduce(add, my.map(once, counts), associative=True)
    vectors = my.map(weigh, my.ref(modules), my.ref(spread), counts)
    return my.reduce(best, my.map(nearest, my.ref(vectors), positions), associative=True)


def show(site: Site, claims: Claims, console: Console) -> None:
    """The whole step. Errors: `Failed`; the program's own."""
    console.print(
        f"\n[bold]Which of those modules are most alike?   myc polymer run alike.pmr --site --nodes {NODES}[/]"
    )
    names, texts = _modules()
    inputs = {"modules": len(texts), "texts": texts, "positions": list(range(len(texts)))}
    client = site.client()
    packed = pmr.pack(seal(most_alike.module))
    asked = {"name": "most_alike", "nodes": NODES, "memory": "512M"}
    job = program.submit(client, packed, values.pack(inputs), asked)
    struck: list[str] = []

    def watch(done: int, total: int) -> None:
        if not struck and done:
            nodes = site.client().get(f"/jobs/{job['id']}")["tasks"][0]["nodes"]
            what, steps = site.strike(nodes[-1])
            struck.extend(steps)
            console.print(f"  {what} with {', '.join(steps)} on it, while it ran", style="dim")

    found = program.result(client, job, tell=watch)
    site.heal()
    _table(console, names, found)
    final = client.get(f"/jobs/{job['id']}")
    claims.hold(f"{job['id']} lost a node in the middle", struck)
    claims.hold("and went on without it, in the same attempt", final["attempt"] == 1, final["attempt"])
    alone = interpret(most_alike.module, inputs)
    claims.hold(
        f"its {len(names) * (len(names) - 1) // 2:,} comparisons gave what one process alone gives", found == alone
    )


def _parts() -> list[library.Part]:
    return [part for part in library.parts() if part.name not in LEFT_OUT]


def _modules() -> tuple[list[str], list[str]]:
    names, texts = [], []
    for path in (library.HERE / file for part in _parts() for file in part.files):
        if path.stat().st_size >= BYTES_MIN and "test" not in path.parts:
            names.append(".".join(path.relative_to(library.HERE).with_suffix("").parts))
            texts.append(path.read_text(errors="replace"))
    if len(names) < 2:
        raise Failed("this Python has no source of its standard library")
    return names, texts


def _table(console: Console, names: list[str], found: list[tuple[float, int, int]]) -> None:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for title in ("module", "is most like", "by"):
        table.add_column(title)
    for cosine, one, other in found[:SHOWN]:
        table.add_row(names[one], names[other], f"{cosine:.2f}")
    console.print(table, soft_wrap=False)
