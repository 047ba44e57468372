"""Where the time of a directory that goes to another machine is spent: received, verified, kept, unpacked.

`python -m bench.ray_objects` makes two hosts of network namespaces and moves one large object from the head's to the
other, each time with one more of the stages; all of it on the cpus that both hosts share.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.ray import MIB, stream
from bench.row import Row, show
from tests.live.rig.site import RigSite, rig_site


def run(small: bool) -> list[Row]:
    root = Path(tempfile.mkdtemp(prefix="myc-bench-"))
    try:
        with rig_site(root / "rig", 2) as site:
            site.up()
            site.join_up(1)
            return stages(site, root, (16 if small else 256) * MIB)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def stages(site: RigSite, root: Path, size_bytes: int) -> list[Row]:
    """MiB/s of one object to one host, with each stage added to those before."""
    work = root / "stages"
    work.mkdir()
    (work / "large").write_bytes(os.urandom(size_bytes))
    one_stream = stream(site, size_bytes)
    site.myc("run", "--sandbox=none", "--on=!edge", "--", "true", cwd=str(work))  # uploads it
    uploaded = site.get("/jobs?all=true&limit=1")["jobs"][0]["id"]
    tree = site.job(uploaded)["request"]["workdir"]
    words = [sys.executable, "-c", STAGES, str(site.home(1) / "way.json"), str(root / "there"), tree]
    done = subprocess.run(site.net.inside(1, *words), capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    said = {
        "received": "one object from the head's porter, received",
        "verified": "... and its hash compared",
        "kept": "... and kept in the store (`Carried`)",
        "unpacked": "... and unpacked: verified again and copied",
        "alone": "hashing and copying it once, with no network",
    }
    rows = [Row(said[stage], size_bytes / MIB / passed_s, "MiB/s") for stage, passed_s in found.items()]
    return [Row("one TCP stream between two hosts, nothing done with it", one_stream, "MiB/s"), *rows]


STAGES = r"""
import json, sys, time
from pathlib import Path
import blake3
from mycelium.base import framing
from mycelium.base.ids import Digest
from mycelium.carry import wire
from mycelium.carry.carried import Carried
from mycelium.store.directory import DirectoryObjects
from mycelium.store.tree import read_tree
from mycelium.store.unpack import unpack

way_file, there, tree = Path(sys.argv[1]), Path(sys.argv[2]), Digest(sys.argv[3])
way = wire.read_way(way_file)

def receive(digest, tell):
    line = wire.knock(way.head, way)
    wire.write(line, wire.Want([(digest, 0)]))
    (left,) = wire.SIZE.unpack(framing.exactly(line, wire.SIZE.size))
    buffer = memoryview(bytearray(wire.PIECE_BYTES))
    while left:
        got = line.recv_into(buffer[: min(left, len(buffer))])
        tell(buffer[:got])
        left -= got

def timed(what):
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun

store = DirectoryObjects(there / "a", durable=False)
carried = Carried(store, way_file, "")
(large,) = [entry.digest for entry in read_tree(carried, tree).entries if entry.digest]
found = {"received": timed(lambda: receive(large, len))}
found["verified"] = timed(lambda: receive(large, blake3.blake3().update))
found["kept"] = timed(lambda: carried.missing([large]))
again = Carried(DirectoryObjects(there / "b", durable=False), way_file, "")
found["unpacked"] = timed(lambda: unpack(again, tree, there / "work"))
found["alone"] = timed(lambda: unpack(store, tree, there / "alone"))
print(json.dumps(found))
"""


if __name__ == "__main__":
    show("objects between machines", run(small="--small" in sys.argv))
