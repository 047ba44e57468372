"""What a node is told about one rank of one task."""

from __future__ import annotations

from msgspec.structs import replace

from mycelium.base.ids import Digest, JobId
from mycelium.engine.orders import Start, Step
from mycelium.head.steps import build_step, outputs_of
from mycelium.jobs.model import Array
from tests.unit.head.played import GOOD, Played, request

TREE = Digest("ab" * 32)


def ordered(site: Played) -> list[Step]:
    return [order.step for _, order in site.orders if isinstance(order, Start)]


def test_a_step_knows_its_job_and_its_place_in_the_array() -> None:
    site = Played()
    site.submit(request(array=Array(4, 10, 3), env={"COLOR": "blue"}, retries=1))
    env = ordered(site)[1].env
    assert env["MYC_JOB_ID"] == "job-1"
    assert env["MYC_TASK_ID"] == "job-1.7"
    assert env["MYC_ATTEMPT"] == "1"
    told = [env[f"MYC_ARRAY_{name}"] for name in ("INDEX", "FIRST", "LAST", "COUNT")]
    assert told == ["7", "4", "10", "3"]
    assert env["COLOR"] == "blue"
    assert env["MYC_CPUS"] == "1"


def test_the_ranks_of_a_gang_know_each_other() -> None:
    site = Played()
    site.submit(request(nodes=2))
    one, other = (step.env for step in ordered(site))
    assert (one["MYC_NODE_RANK"], other["MYC_NODE_RANK"]) == ("0", "1")
    assert one["MYC_NODE_COUNT"] == "2"
    assert one["MYC_NODE_ADDRESSES"] == other["MYC_NODE_ADDRESSES"] == "::1,::1"
    assert "MYC_ARRAY_INDEX" not in one


def test_a_gang_is_told_in_torchs_words_and_a_job_on_one_node_is_not() -> None:
    site = Played()
    site.submit(request(nodes=2), request())
    gang, alone = [step.env for step in ordered(site)][:2], ordered(site)[2].env
    for ranks, count in (("NODE_RANK", "NNODES"), ("RANK", "WORLD_SIZE")):
        assert [(env[ranks], env[count]) for env in gang] == [("0", "2"), ("1", "2")]
        assert not {ranks, count} & alone.keys()


def test_a_gang_is_given_a_port_that_its_first_node_holds_and_no_other_gang_has() -> None:
    site = Played()
    for node in ("node-1", "node-2"):
        site.hello(node, "b2", ports=(21_000, 21_001))
    site.submit(*[request(nodes=2, cpus=0.5)] * 3)
    firsts, others = ordered(site)[::2], ordered(site)[1::2]
    ports = [step.port for step in firsts]
    assert ({*ports[:2]}, ports[2]) == ({21_000, 21_001}, 0)
    assert [step.port for step in others] == [0, 0, 0]
    told = [(step.env["MYC_GANG_PORT"], step.env["MASTER_PORT"]) for step in firsts]
    assert told[:2] == [(str(port), str(port)) for port in ports[:2]]
    assert told[2][0] not in ("21000", "21001")


def test_nobody_can_set_what_the_site_sets() -> None:
    site = Played()
    site.submit(request(env={"MYC_JOB_ID": "job-99"}))
    assert ordered(site)[0].env["MYC_JOB_ID"] == "job-1"


def test_an_order_that_is_sent_again_says_the_same() -> None:
    site = Played()
    site.submit(request(array=Array(0, 3)))
    job, task = site.job(), site.task(index=2)
    assert build_step(site.core.site, job, task, 0) == build_step(site.core.site, job, task, 0) == ordered(site)[2]


def test_outputs_are_given_to_who_takes_them_in() -> None:
    site = Played()
    site.submit(request(array=Array(0, 1)), request(), request(nodes=2))
    kept = replace(GOOD, outputs=TREE)
    for node, step in [(task.nodes[rank], job.step_name(task.index, 1, rank))
                       for job in list(site.core.site.jobs.by_id.values())
                       for task in list(job.tasks.values()) for rank in task.live_ranks()]:  # fmt: skip
        site.exited(node, step, kept)
    sources = tuple(JobId(f"job-{number}") for number in (1, 2, 3))
    site.submit(request(after=sources, inputs=sources))
    assert [path for path, tree in ordered(site)[0].inputs if tree == TREE] == [
        "inputs/job-1/0",
        "inputs/job-1/1",
        "inputs/job-2",
        "inputs/job-3/rank-0",
        "inputs/job-3/rank-1",
    ]


def test_only_the_attempt_that_committed_has_outputs() -> None:
    site = Played()
    site.submit(request(retries=1))
    site.exited("node-1", "job-1-a1-r0", replace(GOOD, exit_code=1, outputs=TREE))
    assert outputs_of(site.job()) == []
    site.exited("node-1", "job-1-a2-r0", GOOD)
    assert outputs_of(site.job()) == []


def test_a_step_of_a_service_says_so_and_has_no_time_limit() -> None:
    site = Played()
    site.submit(request(), request(service=True))
    assert [(step.service, step.time_ms == 0) for step in ordered(site)] == [(False, False), (True, True)]
