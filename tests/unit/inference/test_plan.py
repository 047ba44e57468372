"""Replicas come, go, and are replaced."""

from __future__ import annotations

from msgspec.structs import replace

from mycelium.accounts.model import Role
from mycelium.base.ids import JobId
from mycelium.inference.commands import Deploy, SeenReplica, Undeploy
from mycelium.inference.events import ReplicaDraining
from mycelium.inference.model import ReplicaState, Serving
from mycelium.inference.plan import BACKOFF_S, PACE, Aim, DrainReplica, StartReplica, StopReplica
from mycelium.jobs.events import JobEnded, StepEnded, TaskEnded
from mycelium.jobs.model import Ended, JobState, Reason, TaskState
from mycelium.nodes.model import NodeState
from tests.unit.inference.scene import Scene, report


def fail(scene: Scene, job: JobId) -> None:
    """The replica's process ends by itself."""
    record = scene.play.job(job)
    task = record.tasks[0]
    scene.play._apply(StepEnded(record.id, 0, task.attempt, 0, Ended(Reason.EXIT, 3)))
    scene.play._apply(TaskEnded(record.id, 0, task.attempt, TaskState.FAILED, 3, "exited with 3"))
    scene.play._apply(JobEnded(record.id, JobState.FAILED, 3, "exited with 3"))


def test_a_deployment_gets_its_replicas_at_once_and_no_more():
    scene = Scene()
    scene.deploy(2)
    assert scene.step() == [StartReplica("m"), StartReplica("m")]
    assert scene.step() == []
    assert [replica.state for replica in scene.replicas()] == [ReplicaState.STARTING] * 2
    assert all(scene.play.job(replica.job).request.service for replica in scene.replicas())


def test_a_replica_is_ready_when_a_gateway_says_so_of_its_current_attempt():
    scene = Scene()
    scene.deploy()
    scene.step()
    (replica,) = scene.replicas()
    scene.play.start(scene.play.job(replica.job))
    scene.ask(report([SeenReplica(replica.job, 7, True)]))
    assert scene.replicas()[0].ready_ns == 0
    scene.ask(report([SeenReplica(replica.job, 1, True)]))
    assert scene.replicas()[0].state is ReplicaState.READY


def test_a_replica_that_ends_is_replaced_ever_more_slowly():
    scene = Scene()
    scene.deploy()
    scene.step()
    for failures in range(1, 5):
        fail(scene, scene.replicas()[0].job)
        scene.step()
        assert scene.tables.deployments["m"].failures == failures
        assert scene.tables.deployments["m"].message == "exited with 3"
        assert scene.step() == []
        scene.later(BACKOFF_S[failures])
        assert scene.step() == [StartReplica("m")]


def test_one_that_lived_well_is_replaced_as_if_it_were_the_first_to_fail():
    scene = Scene()
    scene.deploy()
    for _ in range(3):
        scene.step()
        scene.starts(scene.replicas()[0])
        scene.later(100)
        fail(scene, scene.replicas()[0].job)
        scene.step()
        assert scene.tables.deployments["m"].failures == 1
        scene.later(BACKOFF_S[1])


def test_a_replica_that_is_silent_for_long_is_stopped_and_replaced():
    scene = Scene()
    scene.deploy()
    scene.step()
    (replica,) = scene.replicas()
    scene.starts(replica)
    scene.seen[replica.job] = SeenReplica(replica.job, 1, False, silent_ms=30_000)
    assert [type(action) for action in scene.step()] == [StopReplica, StartReplica]
    assert scene.play.job(replica.job).cancelled


def test_replicas_on_a_node_that_is_drained_serve_until_another_one_can():
    scene = Scene()
    scene.deploy()
    scene.step()
    (old,) = scene.replicas()
    scene.starts(old)
    node = scene.play.job(old.job).tasks[0].nodes[0]
    scene.play.set_node(replace(scene.state.nodes.by_id[node], state=NodeState.DRAINING))
    assert scene.step() == [StartReplica("m")]
    assert scene.step() == []
    new = next(replica for replica in scene.replicas() if replica.job != old.job)
    scene.starts(new)
    assert scene.step() == [DrainReplica(old.job, "its node is to be empty")]


def test_a_drained_replica_is_stopped_only_when_every_gateway_could_say_that_it_has_nothing_there():
    scene = Scene()
    scene.deploy(least=0, most=2)
    scene.load(waiting=1)
    scene.step()
    (replica,) = scene.replicas()
    scene.starts(replica)
    scene.happened(ReplicaDraining("m", replica.job, "fewer are enough"))
    scene.later(5)
    scene.whole = False
    assert StopReplica(replica.job, "fewer are enough") not in scene.step()
    scene.whole = True
    assert StopReplica(replica.job, "fewer are enough") in scene.step()


def test_a_deployment_that_is_changed_gets_new_replicas_and_the_former_ones_serve_until_then():
    scene = Scene(nodes=4)
    scene.deploy(least=2)
    scene.step()
    old = scene.replicas()
    for replica in old:
        scene.starts(replica)
    scene.deploy(least=2, parallel=8)
    assert scene.step() == [StartReplica("m"), StartReplica("m")]
    assert scene.step() == []
    new = [replica for replica in scene.replicas() if replica.job not in {one.job for one in old}]
    scene.starts(new[0])
    (drain,) = scene.step()
    assert isinstance(drain, DrainReplica)
    assert drain.job in {replica.job for replica in old}
    scene.starts(new[1])
    drains = [drain, *scene.step()]
    assert {one.job for one in drains if isinstance(one, DrainReplica)} == {replica.job for replica in old}
    assert scene.step() == []


def test_a_former_replica_makes_room_when_the_new_ones_find_no_node():
    scene = Scene(nodes=1)
    cpus = scene.state.nodes.by_id[next(iter(scene.state.nodes.by_id))].devices.cpu_m // 1000
    scene.deploy(least=cpus)
    scene.step()
    for replica in scene.replicas():
        scene.starts(replica)
    scene.deploy(least=cpus, parallel=8)
    assert scene.step() == [StartReplica("m")] * cpus
    scene.later(4)
    assert scene.step() == []
    scene.later(2)
    assert [type(action) for action in scene.step()] == [DrainReplica]
    assert scene.step() == [], "one at a time"


def test_replicas_end_when_their_deployment_becomes_an_upstream():
    scene = Scene()
    scene.deploy()
    scene.step()
    (replica,) = scene.replicas()
    scene.starts(replica)
    accounts = scene.state.accounts.by_id
    accounts[scene.account] = replace(accounts[scene.account], role=Role.ADMIN)
    scene.ask(Deploy(scene.account, "m", Serving(upstream="http://host/v1", replicas_min=0)))
    assert scene.step() == [DrainReplica(replica.job, "fewer replicas are wanted")]
    scene.ask(Undeploy(scene.account, "m"))
    scene.step()
    assert "m" in scene.tables.deployments, "it goes with its last replica"


def test_a_draining_replica_is_stopped_when_nothing_runs_on_it():
    scene = Scene()
    scene.deploy()
    scene.step()
    (replica,) = scene.replicas()
    scene.starts(replica)
    scene.seen[replica.job] = SeenReplica(replica.job, 1, True, active=1)
    scene.ask(Undeploy(scene.account, "m"))
    assert [type(action) for action in scene.step()] == [DrainReplica]
    scene.later(10)
    assert scene.step() == []
    scene.seen[replica.job] = SeenReplica(replica.job, 1, True, active=0)
    assert [type(action) for action in scene.step()] == [StopReplica]


def test_a_deployment_that_leaves_is_gone_with_its_last_replica():
    scene = Scene()
    scene.deploy()
    scene.ask(Undeploy(scene.account, "m"))
    scene.step()
    assert scene.tables.deployments == {}


def test_load_brings_replicas_at_once_and_rest_takes_them_away_slowly():
    scene = Scene(4)
    scene.deploy(1, 4, parallel=4)
    scene.step()
    scene.load(waiting=5, active=4)
    assert Aim("m", 3, "5 requests wait, 4 run") in scene.step()
    scene.load(active=1)
    scene.step()
    scene.later(PACE.down_ns / 1e9 / 2)
    assert scene.step() == []
    scene.later(PACE.down_ns / 1e9)
    assert Aim("m", 1, "fewer have been enough") in scene.step()


def test_nobody_asking_puts_it_to_sleep_and_one_request_wakes_it():
    scene = Scene()
    scene.deploy(0, 2)
    assert scene.step() == []
    scene.load(waiting=1)
    assert StartReplica("m") in scene.step()
    scene.load()
    for _ in range(2):
        scene.later(PACE.zero_ns / 1e9)
        scene.step()
    scene.later(PACE.down_ns / 1e9)
    scene.step()
    assert scene.tables.deployments["m"].target == 0


def test_lines_of_batches_are_load_too():
    scene = Scene()
    scene.deploy(0, 2)
    scene.step()
    scene.load(lines=100)
    assert [action for action in scene.step() if isinstance(action, StartReplica)] == [
        StartReplica("m"),
        StartReplica("m"),
    ]
