"""A site over three hosts with addresses of their own: joining, work, objects, gangs; and what all of it survives."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import mycelium as my
from mycelium.engine.ray.doubt import REFUSED_S
from tests.live.disk import small_disk
from tests.live.rig.net import needs_rig
from tests.live.rig.site import RigSite, rig_site
from tests.live.site import wait_for

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [needs_rig, pytest.mark.timeout(600)]

LONG = os.environ.get("MYC_TEST_LONG") == "1"  # the whole length of what CI runs in short


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RigSite]:
    with rig_site(tmp_path_factory.mktemp("rig") / "s", 3) as site:
        site.up()
        site.join_up(1, 2)
        yield site


@pytest.fixture(autouse=True)
def whole(site: RigSite) -> None:
    """Every test begins with all three hosts up, whatever the one before did."""
    wait_for(lambda: all(site.state(name) == "up" for name in ("node-1", "host1", "host2")), "all hosts to be up")


# Joining.


def test_nodes_have_the_addresses_of_their_hosts(site: RigSite) -> None:
    nodes = site.nodes()
    assert [nodes[name]["address"] for name in ("node-1", "host1", "host2")] == [site.net.address(n) for n in range(3)]


def test_a_machine_that_asked_is_nobody_until_it_is_approved(site: RigSite) -> None:
    key = "k" * 40
    asked = ask(site, key, token=Path(site.token_file).read_text().strip())
    assert (asked["state"], asked["waits"], asked["engine"]) == ("joining", True, None)
    assert site.myc("node", "remove", asked["node"]).returncode == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"token": "mycjoin_wrong"}, "the token does not let machines into this site"),
        ({"versions": {"python": "3.9"}}, "this machine has python 3.9; the site has 3."),
        ({"versions": {"mycelium": "0.0.1"}}, "this machine has mycelium 0.0.1; the site has "),
        ({"versions": {"ray": "2.1.0"}}, "pip install 'ray=="),
        ({"time_ns": time.time_ns() - 3600 * 10**9}, "behind the site's; at most 300s are allowed"),
        ({"time_ns": time.time_ns() + 3600 * 10**9}, "ahead of the site's; at most 300s are allowed"),
        ({"name": "host1"}, "another node is called 'host1'"),
    ],
)
def test_a_machine_that_cannot_join_is_told_why_and_what_to_do(site: RigSite, wrong: dict, says: str) -> None:
    token = Path(site.token_file).read_text().strip()
    with pytest.raises(AssertionError) as refused:
        ask(site, "x" * 40, **({"token": token} | wrong))
    assert re.search(re.escape(says), str(refused.value)), refused.value


def ask(site: RigSite, key: str, **more: object) -> dict:
    from mycelium.base.version import __version__
    from mycelium.engine.orders import WIRE_VERSION
    from mycelium.engine.ray.host import versions

    ours = {"mycelium": __version__, "wire": str(WIRE_VERSION), **versions()} | more.pop("versions", {})  # type: ignore[operator]
    document = {"name": "stranger", "versions": ours, "time_ns": time.time_ns(), **more}
    return site.call("POST", "/machines", document, token=key)


def test_a_token_that_is_wrong_ends_myc_join_with_the_answer(site: RigSite, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("mycjoin_wrong\n")
    address = f"{site.net.address(0)}:8700"
    joined = site.myc("join", address, f"--token-file={tmp_path / 'wrong'}", f"--home={tmp_path / 'h'}", check=False)
    assert (joined.returncode, "does not let machines into" in joined.stderr) == (4, True)


def test_a_machine_that_was_never_let_in_needs_a_token_whatever_it_tried_before(site: RigSite, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("mycjoin_wrong\n")
    words = ("join", f"{site.net.address(0)}:8700", f"--home={tmp_path / 'h'}")
    for more in ("", f"--token-file={tmp_path / 'wrong'}", ""):
        joined = site.myc(*words, *([more] if more else []), check=False)
        said = "does not let machines into" if more else "a token is needed"
        assert said in joined.stderr, (more, joined.stderr)


def test_a_place_where_no_site_is_has_a_hint_for_who_joins(site: RigSite, tmp_path: Path) -> None:
    joined = site.myc(
        "join", f"{site.net.address(0)}:8701", "--token-file", site.token_file, f"--home={tmp_path}/h", check=False
    )
    assert "no site answers" in joined.stderr
    assert "myc up --engine ray" in joined.stderr


def test_a_machine_that_waits_cannot_take_the_name_of_another_either(site: RigSite) -> None:
    asked = ask(site, "n" * 40, token=Path(site.token_file).read_text().strip(), name="waits")
    with pytest.raises(AssertionError, match="another node is called 'host1'"):
        ask(site, "n" * 40, name="host1")
    site.myc("node", "remove", asked["node"])


def test_a_machine_with_a_full_disk_is_told_so(site: RigSite, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        joined = site.myc("join", f"{site.net.address(0)}:8700", f"--home={disk}", host=1, check=False)
    assert (joined.returncode, "needs" in joined.stderr or "left" in joined.stderr) == (6, True), joined.stderr


def test_a_one_time_token_lets_one_machine_in_and_no_other(site: RigSite) -> None:
    token = site.myc("node", "invite").stdout.strip()
    first = ask(site, "a" * 40, token=token, name="guest")
    assert (first["waits"], first["state"]) == (False, "joining")
    with pytest.raises(AssertionError, match=f"this one-time token has let in {first['node']}"):
        ask(site, "b" * 40, token=token, name="second guest")
    site.myc("node", "remove", first["node"])


# Work.


def test_an_array_runs_on_all_hosts_and_its_logs_come_to_the_head(site: RigSite) -> None:
    job = site.submit("sh", "-c", "echo $MYC_NODE_NAME; sleep 0.3", array="0-11", cpus=1)
    assert site.wait(job)["state"] == "done"
    shown = site.myc("logs", job).stdout
    assert {"host1", "host2"} <= set(shown.split())


def test_a_directory_goes_to_every_host_of_a_gang_and_its_outputs_come_back(site: RigSite, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "large").write_bytes(os.urandom(5 << 20))
    for number in range(30):
        (work / f"small{number}").write_text("x" * number)
    words = ("--nodes=3", "--sandbox=none", "--outputs=sum-*", "--", "sh", "-c", "cat * | sha256sum > sum-$RANK")
    site.myc("run", *words, cwd=str(work))
    job = site.get("/jobs?all=true&limit=1")["jobs"][0]["id"]
    site.myc("outputs", job, str(tmp_path / "out"))
    sums = [path.read_text() for path in sorted((tmp_path / "out").rglob("sum-*"))]
    assert (len(sums), len(set(sums))) == (3, 1)


def test_a_gang_finds_itself_and_sums_over_the_network(site: RigSite) -> None:
    """What torch.distributed does at its start: rank 0 listens at MASTER_ADDR, the others connect, all reduce."""
    job = site.submit("python3", "-c", ALL_REDUCE, nodes=3, net=True)
    assert site.wait(job)["state"] == "done", site.story(job)
    shown = site.myc("logs", job).stdout
    addresses = ",".join(sorted(site.net.address(host) for host in range(3)))
    assert shown.count(f"sum 6 of {addresses}") == 3, shown
    port = re.search(r"at (\d+)", shown)
    first = site.job(job)["nodes"][0]
    host = 0 if first == "node-1" else int(site.nodes()[first]["name"].removeprefix("host"))
    held = json.loads((site.home(host) / "nodes" / first / "ports.json").read_text())
    assert port is not None
    assert int(port[1]) in held


ALL_REDUCE = """
import json, os, socket, time
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
mine = os.environ["MYC_NODE_ADDRESSES"].split(",")[rank]
if rank == 0:
    server = socket.create_server(place)
    peers = [server.accept() for _ in range(size - 1)]
    files = [peer.makefile("rw") for peer, _ in peers]
    said = [json.loads(file.readline()) for file in files] + [[1, mine]]
    assert sorted(a for _, a in said[:-1]) == sorted(address[0] for _, address in peers), (said, peers)
    total = [sum(n for n, _ in said), ",".join(sorted(a for _, a in said))]
    for file in files:
        print(json.dumps(total), file=file, flush=True)
else:
    for _ in range(300):
        try:
            peer = socket.create_connection(place, source_address=(mine, 0))
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
    file = peer.makefile("rw")
    print(json.dumps([rank + 1, mine]), file=file, flush=True)
    total = json.loads(file.readline())
print("sum", total[0], "of", total[1], "at", place[1])
"""


@pytest.mark.skipif(shutil.which("mpirun.openmpi") is None, reason="Open MPI is not installed: Debian's openmpi-bin")
def test_an_mpi_program_starts_over_the_gang_and_sums_over_the_network(site: RigSite) -> None:
    """Two processes of Open MPI a host, in sandboxes, where there is no ssh."""
    words = ("myc:mpi", "mpirun.openmpi", "python3", "-c", MPI_ALL_REDUCE)
    job = site.submit(*words, nodes=3, net=True, cpus=2, memory="1G", sandbox="process")
    assert site.wait(job)["state"] == "done", (site.story(job), site.myc("logs", job).stderr)
    hosts = [site.nodes()[node]["name"] for node in site.job(job)["nodes"]]
    assert "reach:" not in site.myc("logs", job).stderr
    said = sorted(line for line in site.output(job).splitlines() if line.startswith("rank "))
    assert said == [f"rank {rank} of 6 on {hosts[rank // 2]}: 21" for rank in range(6)]


MPI_ALL_REDUCE = """
import ctypes, socket
mpi = ctypes.CDLL("libmpi.so.40", mode=ctypes.RTLD_GLOBAL)
world, kind, total = (
    ctypes.byref(ctypes.c_char.in_dll(mpi, name)) for name in ("ompi_mpi_comm_world", "ompi_mpi_int", "ompi_mpi_op_sum")
)
assert mpi.MPI_Init(None, None) == 0
rank, size, summed = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
mpi.MPI_Comm_rank(world, ctypes.byref(rank))
mpi.MPI_Comm_size(world, ctypes.byref(size))
mine = ctypes.c_int(rank.value + 1)
assert mpi.MPI_Allreduce(ctypes.byref(mine), ctypes.byref(summed), 1, kind, total, world) == 0
print(f"rank {rank.value} of {size.value} on {socket.gethostname()}: {summed.value}", flush=True)
mpi.MPI_Finalize()
"""


# Kills, each in the middle of an array.


def end(victims: list[psutil.Process]) -> None:
    assert victims
    for victim in victims:
        victim.kill()


def kill_agent(site: RigSite) -> None:
    assert site.agent(1).signal(signal.SIGKILL)


def kill_relay(site: RigSite) -> None:
    end(site.find(1, "Relay"))


def kill_raylet(site: RigSite) -> None:
    end(site.find(1, "/raylet/raylet"))


def kill_bridge(site: RigSite) -> None:
    end(site.find(0, "ray.bridge"))


def kill_gcs(site: RigSite) -> None:
    end(site.find(0, "gcs_server"))


def kill_join(site: RigSite) -> None:
    site.kill(1)
    site.join(1)


def kill_head(site: RigSite) -> None:
    site.kill(0)
    site.up()


@pytest.mark.parametrize(
    "strike",
    [kill_agent, kill_relay, kill_raylet, kill_bridge, kill_join, kill_head, kill_gcs],
    ids=lambda f: f.__name__,
)
def test_an_array_ends_whole_and_each_task_is_committed_once(
    site: RigSite, strike: Callable[[RigSite], None], tmp_path: Path
) -> None:
    job = site.submit("sh", "-c", f"sleep 1; echo $MYC_ARRAY_INDEX >> {tmp_path}/ran", array="0-17", cpus=1)
    wait_for((tmp_path / "ran").exists, "the first task to end")
    strike(site)
    assert site.wait(job)["state"] == "done", site.story(job)
    committed = [said for said in site.story(job) if "was committed" in said]
    assert len(committed) == 18
    assert {int(line) for line in (tmp_path / "ran").read_text().split()} == set(range(18))


@my.kernel
def slow_square(x: int) -> int:
    time.sleep(0.05)
    return x * x


@my.program
def squares(xs: list[int]) -> list[int]:
    return my.map(slow_square, xs)


def kill_host(site: RigSite) -> None:
    site.kill_all(1)
    site.join(1)


@pytest.mark.parametrize("strike", [kill_relay, kill_raylet, kill_gcs, kill_head, kill_host], ids=lambda f: f.__name__)
def test_a_program_over_all_hosts_gives_its_result_in_its_first_attempt(
    site: RigSite, strike: Callable[[RigSite], None], tmp_path: Path
) -> None:
    numbers = list(range(200))
    job = site.submit_program(squares.module, {"xs": numbers}, nodes=3, memory="256M")
    site.wait(job, "running")
    wait_for(lambda: all(site.nodes()[name]["steps"] for name in ("node-1", "host1", "host2")), "all ranks to begin")
    strike(site)
    assert site.wait(job)["state"] == "done", site.story(job)
    assert site.job(job)["attempt"] == 1, site.story(job)
    assert site.result(job, tmp_path / "out") == [number * number for number in numbers]


def test_a_slow_and_lossy_cable_evicts_nobody_and_what_crosses_it_arrives_whole(site: RigSite, tmp_path: Path) -> None:
    before = {name: site.nodes()[name]["lost_count"] for name in ("host1", "host2")}
    work = tmp_path / "work"
    work.mkdir()
    (work / "large").write_bytes(os.urandom(400_000))
    for host in (1, 2):
        site.net.spoil(host, delay_ms=25, loss=0.025)  # there and back: 50 ms, and 5 % are lost
    try:
        words = (
            "--nodes=2",
            "--on=edge",
            "--sandbox=none",
            "--outputs=large*",
            "--",
            "sh",
            "-c",
            "cp large large-$RANK",
        )
        site.myc("run", *words, cwd=str(work))
        gang = site.get("/jobs?all=true&limit=1")["jobs"][0]["id"]
        array = site.submit("sh", "-c", "sleep 0.5; echo $MYC_ARRAY_INDEX", on="edge", array="0-11", cpus=1)
        assert site.wait(array)["state"] == "done"
        assert sorted(map(int, site.output(array).split())) == list(range(12))
        site.myc("outputs", gang, str(tmp_path / "out"))
    finally:
        for host in (1, 2):
            site.net.mend(host)
    there = [path.read_bytes() for path in (tmp_path / "out").rglob("large*")]
    assert there == [(work / "large").read_bytes()] * 4
    assert {name: site.nodes()[name]["lost_count"] for name in before} == before
    assert not any("attempt 2" in said for said in [*site.story(array), *site.story(gang)])


def test_a_host_on_which_all_was_killed_is_dead_for_certain_and_its_job_does_not_wait_for_patience(
    site: RigSite,
) -> None:
    job = site.submit("sh", "-c", "test $MYC_ATTEMPT != 1 || exec sleep 600", on="edge")
    node = site.wait(job, "running")["nodes"][0]
    host = int(site.nodes()[node]["name"].removeprefix("host"))
    site.kill_all(host)
    assert site.wait(job)["attempt"] == 2
    assert any("nothing of it runs on its machine any more" in said for said in site.story(job)), site.story(job)
    site.join(host)


def test_a_step_whose_shim_alone_is_left_is_no_dead_node_and_the_next_join_finds_it(site: RigSite) -> None:
    job = site.submit("sh", "-c", "while ! test -e go; do sleep 0.1; done", on="edge")
    node = site.wait(job, "running")["nodes"][0]
    host = int(site.nodes()[node]["name"].removeprefix("host"))
    step = next((site.home(host) / "nodes" / node / "steps").glob("*"))
    kept = {int(json.loads((step / "pid").read_text())["pid"])}
    kept |= {child.pid for pid in kept for child in psutil.Process(pid).children(recursive=True)}
    end([each for each in site.find(host, "") if each.pid not in kept])
    site.running[host].wait()
    wait_for(lambda: site.state(node) == "suspect", "the node to be suspect")
    time.sleep(REFUSED_S + 1)  # so long that a dead one would have been found dead
    site.join(host)
    (step / "work" / "go").touch()
    assert site.wait(job)["state"] == "done"
    assert not any("nothing of it runs" in said for said in site.story(job)), site.story(job)


def test_a_host_cut_off_for_longer_than_patience_loses_its_job_and_its_old_attempt_commits_nothing(
    site: RigSite,
) -> None:
    job = site.submit("sh", "-c", "test $MYC_ATTEMPT != 1 && exec sleep 1; sleep 600; exit 9", on="edge")
    node = site.wait(job, "running")["nodes"][0]
    host = int(site.nodes()[node]["name"].removeprefix("host"))
    site.net.pull(host)
    try:
        wait_for(lambda: site.state(node) == "lost", "the node to be lost")
        assert site.wait(job)["attempt"] == 2
    finally:
        site.net.plug(host)
    wait_for(lambda: site.state(node) == "up", "the node to be back")
    ended = site.job(job)
    assert (ended["state"], ended["exit_code"], ended["attempt"]) == ("done", 0, 2)
    assert sum("was committed" in said for said in site.story(job)) == 1
    wait_for(lambda: not site.nodes()[node]["steps"], "the old attempt to be stopped")


@pytest.mark.parametrize("times", [20 if LONG else 2])
def test_a_flapping_link_evicts_nobody_and_loses_no_job(site: RigSite, times: int) -> None:
    before = site.nodes()["host1"]["lost_count"]
    job = site.submit("sleep", str(times * 7), on="edge", array="0-1", cpus=1)
    site.wait(job, "running")
    for _ in range(times):
        site.net.pull(1)
        time.sleep(2)
        site.net.plug(1)
        time.sleep(5)
    assert site.wait(job)["state"] == "done"
    assert site.nodes()["host1"]["lost_count"] == before
    assert not any("attempt 2" in said for said in site.story(job))


def test_joins_and_leaves_in_a_row_leave_no_trace_in_the_head(site: RigSite) -> None:
    """The same machine again and again: one node, and no memory that grows with it."""
    rounds = 10 if LONG else 2

    def held() -> int:
        return sum(
            each.memory_info().rss
            for mark in ("cli.main up", "ray.bridge", "gcs_server")
            for each in site.find(0, mark)
        )

    node, before = site.nodes()["host2"]["id"], 0
    for number in range(rounds):
        site.stop(2)
        assert site.state("host2") == ""
        site.join(2)
        wait_for(lambda: site.state("host2") == "up", "host 2 to be up again")
        before = before or held()
        assert site.nodes()["host2"]["id"] == node, number
    assert held() < before + rounds * 3 * (1 << 20)


@pytest.mark.parametrize("joined", [True, False], ids=["as it runs", "whose myc join was killed"])
def test_a_node_that_is_removed_ends_and_does_not_come_again_by_itself(site: RigSite, *, joined: bool) -> None:
    node = site.nodes()["host2"]["id"]
    if not joined:
        site.kill(2)
    agent = site.agent(2)
    site.post("/nodes/host2/drain")
    wait_for(lambda: site.state(node) == "drained", "the node to be drained")
    site.call("DELETE", f"/nodes/{node}")
    wait_for(lambda: not agent.lives(), "its agent to end")
    if joined:
        site.running[2].wait(60)
        assert "was taken out of the site" in site.said(2)
        assert site.left().get(2, []) == []
    assert site.state(node) == ""
    site.join_up(2)
    assert site.nodes()["host2"]["id"] == node


def test_who_leaves_where_myc_join_was_killed_is_told_that_the_node_goes_on(site: RigSite) -> None:
    site.kill(1)
    left = site.myc("leave", host=1, check=False)
    assert (left.returncode, "the node goes on without it" in left.stderr) == (5, True), left.stderr
    site.join(1)


def test_nothing_is_left_on_a_host_that_has_left_or_gone_down(site: RigSite) -> None:
    site.stop(2)
    assert "this machine has left the site" in site.said(2)
    assert site.left().get(2, []) == []
    assert json.loads(site.myc("nodes", "--json").stdout)["nodes"]
    site.stop(1)
    site.stop(0)
    assert site.left() == {}
