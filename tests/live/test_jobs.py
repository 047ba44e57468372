"""Jobs on a real site, through its API."""

from __future__ import annotations

import base64
import json
from typing import Any

from tests.live.site import LiveSite, wait_for


def read_log(site: LiveSite, job: str, stream: str = "stdout", **params: Any) -> str:
    text = b""
    with site.http.stream("GET", f"/jobs/{job}/logs", params={"follow": True, **params}) as response:
        name = ""
        for line in response.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: ") and name == stream:
                text += base64.b64decode(json.loads(line.removeprefix("data: "))["data"])
    return text.decode()


def test_a_job_runs_and_its_output_and_exit_code_are_kept(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "echo out; echo err >&2; exit 3")
    ended = shared_site.wait(job)
    assert (ended["state"], ended["exit_code"]) == ("failed", 3)
    assert read_log(shared_site, job) == "out\n"
    assert read_log(shared_site, job, "stderr") == "err\n"


def test_a_step_gets_three_descriptors_and_can_open_them_by_name(shared_site: LiveSite) -> None:
    script = "ls /proc/self/fd | tr '\\n' ' '; echo named > /dev/stdout; echo told > /dev/stderr"
    job = shared_site.submit("sh", "-c", script)
    shared_site.wait(job)
    assert read_log(shared_site, job) == "0 1 2 3 named\n"  # 3 is how ls reads the directory
    assert read_log(shared_site, job, "stderr") == "told\n"


def test_the_log_of_an_older_attempt_is_told_once(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "echo attempt $MYC_ATTEMPT; exit 1", retries=1)
    shared_site.wait(job)
    assert read_log(shared_site, job, attempt=1) == "attempt 1\n"
    assert read_log(shared_site, job, attempt=2) == "attempt 2\n"
    assert read_log(shared_site, job, attempt=3) == ""


def test_a_log_is_followed_while_its_job_runs(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.2; done")
    assert read_log(shared_site, job) == "1\n2\n3\n"


def test_a_dependent_job_waits_and_reads_the_outputs_of_the_array_before_it(shared_site: LiveSite) -> None:
    array = shared_site.submit("sh", "-c", "echo $MYC_ARRAY_INDEX > n.txt", array="1-5:2", outputs=["*.txt"])
    merge = shared_site.submit("sh", "-c", "cat inputs/*/*/n.txt", inputs=[array])
    assert shared_site.state(merge) in ("blocked", "queued", "placed", "running", "done")
    assert shared_site.wait(array)["counts"]["done"] == 3
    assert shared_site.wait(merge)["state"] == "done"
    assert read_log(shared_site, merge) == "1\n3\n5\n"
    assert [output["path"] for output in shared_site.get(f"/jobs/{array}/outputs")["outputs"]] == ["1", "3", "5"]


def test_what_comes_after_a_failed_job_is_cancelled_with_the_reason(shared_site: LiveSite) -> None:
    bad = shared_site.submit("sh", "-c", "sleep 0.3; false")
    after = shared_site.submit("true", after=[bad])
    last = shared_site.submit("true", after=[after])
    for job in (after, last):
        assert shared_site.wait(job)["state"] == "cancelled"
    assert any(f"{bad} failed" in said for said in shared_site.story(after))


def test_a_failing_task_is_run_again_as_often_as_it_was_told(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "test $MYC_ATTEMPT = 3", retries=2)
    ended = shared_site.wait(job)
    assert (ended["state"], ended["attempt"]) == ("done", 3)


def test_a_gang_starts_on_every_node_and_knows_its_ranks(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "echo $MYC_NODE_RANK/$MYC_NODE_COUNT $MYC_NODE_ADDRESSES", nodes=2)
    ended = shared_site.wait(job)
    assert (ended["state"], ended["nodes"]) == ("done", ["node-1", "node-2"])
    assert sorted(read_log(shared_site, job).splitlines()) == ["0/2 127.0.0.1,127.0.0.1", "1/2 127.0.0.1,127.0.0.1"]


def test_when_one_rank_of_a_gang_fails_the_others_are_stopped(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "test $MYC_NODE_RANK = 0 && sleep 60; exit 7", nodes=2)
    ended = shared_site.wait(job)
    assert (ended["state"], ended["exit_code"]) == ("failed", 7)


def test_a_time_limit_ends_a_job_with_the_reason(shared_site: LiveSite) -> None:
    job = shared_site.submit("sleep", "60", time="300ms")
    ended = shared_site.wait(job)
    assert ended["state"] == "failed"
    assert "time limit" in ended["message"]


def test_a_cancelled_job_gets_sigterm_first(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    wait_for(lambda: "up" in read_log(shared_site, job, follow=False), "the job to have begun")
    shared_site.post(f"/jobs/{job}/cancel")
    shared_site.wait(job)
    assert read_log(shared_site, job) == "up\nbye\n"


def test_one_task_of_an_array_can_be_cancelled(shared_site: LiveSite) -> None:
    array = shared_site.submit("sleep", "30", array="0-3")
    wait_for(lambda: shared_site.get(f"/jobs/{array}")["counts"]["running"] == 2, "two tasks to run")
    shared_site.post(f"/jobs/{array}.3/cancel")
    shared_site.post(f"/jobs/{array}.0/cancel")
    wait_for(lambda: shared_site.get(f"/jobs/{array}")["counts"]["cancelled"] == 2, "two tasks to be cancelled")
    shared_site.post(f"/jobs/{array}/cancel")
    assert shared_site.wait(array)["state"] == "cancelled"


def test_an_array_runs_no_more_at_once_than_its_throttle(shared_site: LiveSite) -> None:
    array = shared_site.submit("sleep", "0.2", array="0-5%1")
    most = 0
    while shared_site.state(array) not in ("done", "failed"):
        counts = shared_site.get(f"/jobs/{array}")["counts"]
        most = max(most, counts["placed"] + counts["running"] + counts["stopping"])
    assert (most, shared_site.state(array)) == (1, "done")


def test_a_hundred_thousand_tasks_are_one_record_until_they_start(shared_site: LiveSite) -> None:
    before = shared_site.get("/status")["events"]
    first = shared_site.submit("sleep", "30", nodes=2)
    array = shared_site.submit("true", array="0-99999", after=[first])
    assert shared_site.get("/status")["events"] - before < 10
    assert shared_site.get(f"/jobs/{array}")["counts"]["waiting"] == 100_000
    shared_site.post(f"/jobs/{array}/cancel")
    shared_site.post(f"/jobs/{first}/cancel")
    assert shared_site.wait(array)["state"] == "cancelled"
    shared_site.wait(first)


def test_a_drained_node_ends_its_work_and_gets_no_more(shared_site: LiveSite) -> None:
    shared_site.post("/nodes/node-1/drain")
    wait_for(lambda: shared_site.get("/nodes/node-1")["state"] == "drained", "the node to be drained")
    jobs = [shared_site.submit("true") for _ in range(4)]
    assert {node for job in jobs for node in shared_site.wait(job)["nodes"]} == {"node-2"}
    shared_site.post("/nodes/node-1/return")
    assert shared_site.get("/nodes/node-1")["state"] == "up"


def test_a_drain_with_now_moves_what_runs_to_another_node(shared_site: LiveSite) -> None:
    job = shared_site.submit("sh", "-c", "test $MYC_ATTEMPT = 2 || sleep 60")
    node = shared_site.wait(job, "running")["nodes"][0]
    shared_site.post(f"/nodes/{node}/drain", {"now": True})
    ended = shared_site.wait(job)
    assert (ended["state"], ended["attempt"]) == ("done", 2)
    assert ended["nodes"] != [node]
    wait_for(lambda: shared_site.get(f"/nodes/{node}")["state"] == "drained", "the node to be drained")
    shared_site.post(f"/nodes/{node}/return")


def test_an_idempotency_key_makes_a_retry_safe(shared_site: LiveSite) -> None:
    document = {"command": ["true"]}
    first = shared_site.post("/jobs", document, **{"Idempotency-Key": "once"})["jobs"]
    again = shared_site.post("/jobs", document, **{"Idempotency-Key": "once"})["jobs"]
    assert [job["id"] for job in first] == [job["id"] for job in again]
    other = shared_site.http.post("/jobs", json={"command": ["false"]}, headers={"Idempotency-Key": "once"})
    assert (other.status_code, other.json()["error"]["kind"]) == (409, "conflict")


def test_accounts_cannot_touch_each_others_jobs(shared_site: LiveSite) -> None:
    token = shared_site.post("/accounts", {"name": "mallory"})["token"]
    job = shared_site.submit("true", env={"SECRET": "s3cret"})
    theirs = {"authorization": f"Bearer {token}"}
    for method, path in (("POST", "cancel"), ("GET", "story"), ("GET", "logs"), ("GET", "outputs")):
        response = shared_site.http.request(method, f"/jobs/{job}/{path}", headers=theirs)
        assert response.status_code == 403, path
    assert "s3cret" not in shared_site.http.get(f"/jobs/{job}", headers=theirs).text
    taken = shared_site.http.post("/jobs", json={"command": ["true"], "inputs": [job]}, headers=theirs)
    assert taken.status_code == 403
    naked = shared_site.http.post("/jobs", json={"command": ["true"], "sandbox": "none"}, headers=theirs)
    assert naked.status_code == 403
    for path in ("/accounts", "/nodes/node-1/drain", "/down"):
        assert shared_site.http.post(path, json={}, headers=theirs).status_code == 403


def test_nobody_is_let_in_without_a_valid_token(shared_site: LiveSite) -> None:
    for headers in ({"authorization": ""}, {"authorization": "Bearer wrong"}, {"authorization": "Basic eDp5"}):
        answered = shared_site.http.get("/jobs", headers=headers)
        assert (answered.status_code, answered.json()["error"]["kind"]) == (401, "denied")
    assert shared_site.http.get("/health", headers={"authorization": ""}).status_code == 200


def test_all_mistakes_of_a_job_are_told_at_once(shared_site: LiveSite) -> None:
    answered = shared_site.http.post("/jobs", json={"comand": "x", "cpus": "many", "time": "-1"})
    assert answered.status_code == 400
    assert {fault["where"] for fault in answered.json()["error"]["faults"]} == {"comand", "cpus", "time", "command"}


def test_what_no_node_can_ever_serve_is_refused_with_the_bound(shared_site: LiveSite) -> None:
    answered = shared_site.http.post("/jobs", json={"command": ["true"], "cpus": 9})
    assert "job asks for 9 cpus; the largest node has" in answered.json()["error"]["message"]


def test_the_hash_chain_of_the_log_verifies(shared_site: LiveSite) -> None:
    found = shared_site.get("/audit")
    assert found["ok"]
    assert found["events"] > 0


def test_a_job_that_waits_for_others_is_blocked_and_found_by_the_word_of_0_1_too(shared_site: LiveSite) -> None:
    first = shared_site.submit("sleep", "600")
    later = shared_site.submit("true", after=[first])
    assert shared_site.state(later) == "blocked"
    for word in ("blocked", "held"):
        assert later in {job["id"] for job in shared_site.get("/jobs", state=word)["jobs"]}
    shared_site.post(f"/jobs/{first}/cancel")
    assert shared_site.wait(later)["state"] == "cancelled"
