"""How a batch stands is said as of a job."""

from __future__ import annotations

from msgspec.structs import replace

from mycelium.base.units import S_NS
from mycelium.inference.commands import DeploymentQueue
from mycelium.inference.model import Batch, BatchState, Mistake
from mycelium.inference.plan import Load
from mycelium.inference.progress import progress
from tests.unit.inference.scene import Scene

NOW_NS = 1_000_000 * S_NS
BATCH = Batch(
    "batch_a",
    "account-1",  # type: ignore[arg-type]
    "key-1",
    "/v1/chat/completions",
    "file-1",
    BatchState.IN_PROGRESS,
    NOW_NS - 20 * S_NS,
    NOW_NS + 100 * S_NS,
    model="m",
    total=100,
    completed=20,
    done=((0, 20),),
    times_ns={"in_progress": NOW_NS - 10 * S_NS},
)


def scene(ready: bool = True) -> Scene:
    made = Scene()
    made.deploy()
    made.step()
    if ready:
        made.starts(made.replicas()[0])
    return made


def says(batch: Batch, of: Scene | None = None, load: Load | None = None) -> str:
    of = of or scene()
    of.tables.batches[batch.id] = batch
    return " ".join(progress(batch, of.tables, load or Load(), NOW_NS).says)


def test_a_batch_that_runs_says_how_far_it_is_and_when_it_should_be_done():
    found = progress(BATCH, scene().tables, Load({"m": DeploymentQueue("m", batch_lines=4)}), NOW_NS)
    assert (found.state, found.left_ms, found.running) == ("running", 40_000, 4)
    assert "20 of its 100 lines are done. It is expected to be done in about 40s" in " ".join(found.says)


def test_a_batch_that_cannot_be_done_in_its_window_says_so():
    assert "Its window ends before that" in says(replace(BATCH, total=1000))


def test_requests_of_people_go_first_and_are_named():
    assert "3 requests of people run and 2 wait; they go first." in says(
        BATCH, load=Load({"m": DeploymentQueue("m", 2, 3)})
    )


def test_what_holds_a_batch_up_is_said_first():
    assert says(BATCH, scene(ready=False)).startswith("No replica of m is ready; job-1 is about to be.")
    nobody = Scene()
    assert says(BATCH, nobody).startswith("m is not served any more")
    failing = scene(ready=False)
    failing.tables.deployments["m"] = replace(failing.tables.deployments["m"], failures=2, message="no memory")
    assert "the last one failed: no memory." in says(BATCH, failing)


def test_batches_that_share_replicas_name_each_other():
    both = scene()
    both.tables.batches["batch_b"] = replace(BATCH, id="batch_b")
    assert "It shares the replicas of m with batch_b." in says(BATCH, both)


def test_a_batch_has_the_states_of_a_job():
    states = {
        BatchState.VALIDATING: "queued",
        BatchState.IN_PROGRESS: "running",
        BatchState.FINALIZING: "running",
        BatchState.COMPLETED: "done",
        BatchState.FAILED: "failed",
        BatchState.EXPIRED: "failed",
        BatchState.CANCELLING: "stopping",
        BatchState.CANCELLED: "cancelled",
    }
    for state, word in states.items():
        batch = replace(BATCH, state=state, done=() if state is BatchState.VALIDATING else BATCH.done)
        assert progress(batch, scene().tables, Load(), NOW_NS).state == word
    assert progress(replace(BATCH, done=(), completed=0), scene().tables, Load(), NOW_NS).state == "queued"


def test_a_batch_that_failed_says_where_its_file_is_wrong():
    mistakes = (Mistake("invalid_json_line", 3, "no JSON"), Mistake("empty_file", 0, "nothing in it"))
    failed = says(replace(BATCH, state=BatchState.FAILED, mistakes=mistakes))
    assert "its file has 2 mistakes. line 3: no JSON nothing in it" in failed
    failed = says(replace(BATCH, state=BatchState.FAILED, mistakes=mistakes[:1]))
    assert "its file has a mistake. line 3" in failed


def test_a_batch_that_was_cut_short_says_what_failed_and_what_was_not_run():
    cut = replace(BATCH, state=BatchState.CANCELLED, failed=80, unrun=75)
    assert says(cut) == "batch_a has ended: it is cancelled, 20 of 100 lines were answered, 5 failed, 75 were not run."
    assert says(replace(BATCH, state=BatchState.COMPLETED, completed=100)).endswith("100 of 100 lines were answered.")
