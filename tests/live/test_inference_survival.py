"""Replicas, gateways and heads are killed while models are asked: who waits gets an answer, and no line comes twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from threading import Thread
from typing import Any

import openai
import pytest
from openai import OpenAI

from mycelium.store.objects import digest_of
from tests.live.models import MODEL, busy_replica, deployment, gateway_url, key, kill_replica, pull, ready, serve
from tests.live.site import LiveSite, site_at, wait_for

HELLO: Any = [{"role": "user", "content": "Tell me a long story about a fox."}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """A site that serves the small model from two replicas."""
    with site_at(tmp_path_factory.mktemp("survival") / "home") as site:
        site.up()
        pull(site)
        serve(site, replicas_min=2, replicas_max=2, parallel=4, cpus="0.5")
        yield site


def client_of(site: LiveSite, **limits: Any) -> OpenAI:
    return OpenAI(base_url=f"{gateway_url(site)}/v1", api_key=key(site, **limits), max_retries=0, timeout=150)


def lines(count: int, tokens: int = 1) -> bytes:
    asked = [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "max_tokens": tokens, "messages": [{"role": "user", "content": f"{number}"}]},
        }
        for number in range(count)
    ]
    return "\n".join(json.dumps(line) for line in asked).encode()


def submit_lines(client: OpenAI, bodies: list[Any], endpoint: Any) -> str:
    rows = [
        {"custom_id": f"line-{number}", "method": "POST", "url": endpoint, "body": body}
        for number, body in enumerate(bodies)
    ]
    content = "\n".join(json.dumps(row) for row in rows).encode()
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h").id


def submit(client: OpenAI, content: bytes, window: Any = "24h") -> str:
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window=window).id


def wait_ended(client: OpenAI, batch: str) -> Any:
    found: list[Any] = []

    def ended() -> bool:
        with contextlib.suppress(openai.InternalServerError):
            found[:] = [client.batches.retrieve(batch)]
        return bool(found) and found[0].status in ("completed", "failed", "expired", "cancelled")

    until = time.monotonic() + 150
    while not ended():
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found[0]


def results(client: OpenAI, file: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.files.content(file).text.splitlines()] if file else []


def test_a_replica_that_dies_in_the_middle_of_a_stream_ends_it_with_an_error_that_is_charged(models: LiveSite) -> None:
    made = models.post("/keys", {"name": "cut"})
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=made["key"], max_retries=0) as client:
        wait_for(lambda: _knows(client), "the key to be known")
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=400, stream=True)
        got = 0
        with pytest.raises(openai.APIError) as broken:
            for chunk in stream:
                got += bool(chunk.choices[0].delta.content)
                if got == 3:
                    kill_replica(models, busy_replica(models))
        assert "gone" in str(broken.value)
    wait_for(lambda: _used(models, made["id"])["requests"] == 1, "the usage to be in the log")
    used = _used(models, made["id"])
    assert used["failed"] == 1
    assert used["completion_tokens"] >= got - 2 > 0
    wait_for(lambda: ready(models) == 2, "another replica")


def test_a_replica_that_dies_before_the_first_token_is_not_noticed(models: LiveSite) -> None:
    """A prompt of hundreds of tokens takes long enough to be hit before its first token."""
    long: Any = [{"role": "user", "content": "a fox and a hen " * 90}]
    with client_of(models) as client:
        asked: Any = {"model": MODEL, "messages": long, "max_tokens": 2}
        client.chat.completions.create(**asked)
        killed: list[str] = []

        def kill() -> None:
            killed.append(busy_replica(models))
            kill_replica(models, killed[0])

        thread = Thread(target=kill)
        thread.start()
        long[0]["content"] = "the other tale: " + long[0]["content"]
        chunks = list(client.chat.completions.create(stream=True, **asked))
        thread.join()
    assert killed
    assert any(chunk.choices and chunk.choices[0].finish_reason for chunk in chunks)
    wait_for(lambda: ready(models) == 2, "another replica")


def test_every_line_of_a_batch_comes_once_though_the_head_is_killed_three_times(models: LiveSite) -> None:
    count = 500
    with client_of(models) as client:
        batch = submit(client, lines(count))
        for share in (0.1, 0.3, 0.5):
            wait_for(lambda share=share: _done(client, batch) >= share * count, f"{share:.0%} of the batch")
            models.kill()
            models.up()
        found = wait_ended(client, batch)
        assert (found.status, found.request_counts.completed) == ("completed", count)
        ids = [line["custom_id"] for line in results(client, found.output_file_id)]
    assert len(ids) == count
    assert set(ids) == {f"line-{number}" for number in range(count)}


def test_every_line_comes_once_though_gateway_and_replica_are_killed(models: LiveSite) -> None:
    count = 60
    with client_of(models) as client:
        made = models.get("/keys")["keys"][-1]["id"]
        batch = submit(client, lines(count))
        wait_for(lambda: _done(client, batch) >= 10, "some of the batch")
        os.kill(json.loads((models.home / "gateway.pid").read_text())["pid"], signal.SIGKILL)
        wait_for(lambda: gateway_url(models), "another gateway")
        wait_for(lambda: _done(client, batch) >= 25, "more of the batch")
        kill_replica(models, deployment(models)["replicas"][0]["job"])
        found = wait_ended(client, batch)
        ids = [line["custom_id"] for line in results(client, found.output_file_id)]
    assert (len(ids), len(set(ids)), found.status) == (count, count, "completed")
    assert _used(models, made)["requests"] == count, "each line is charged once"
    wait_for(lambda: ready(models) == 2, "another replica")


def test_a_batch_is_listed_explained_and_cancelled_like_the_job_that_it_is(models: LiveSite) -> None:
    with client_of(models) as client:
        batch = submit(client, lines(300, tokens=4))
        wait_for(lambda: _done(client, batch) >= 3, "some of the batch")
        listed = {job["id"]: job for job in models.get("/jobs")["jobs"]}[batch]
        assert (listed["state"], listed["counts"]["size"], listed["request"]["array"]) == ("running", 300, "0-299")
        assert listed["counts"]["done"] >= 3
        assert "of its 300 lines are done" in " ".join(models.get(f"/jobs/{batch}/why")["says"])
        assert models.post(f"/jobs/{batch}/cancel")["state"] in ("stopping", "cancelled")
        assert wait_ended(client, batch).status == "cancelled"
    assert batch not in {job["id"] for job in models.get("/jobs")["jobs"]}
    assert models.get("/jobs", all=True)["jobs"][0]["state"] == "cancelled"
    told = models.story(batch)
    assert "submitted" in told[0] and told[-1] == f"{batch} is cancelled"
    stranger = models.post("/accounts", {"name": "curious"})["token"]
    headers = {"authorization": f"Bearer {stranger}"}
    for path in ("", "/why", "/story"):
        assert models.http.get(f"/jobs/{batch}{path}", headers=headers).status_code == 404
    assert models.http.post(f"/jobs/{batch}/cancel", headers=headers).status_code == 404


def test_what_was_used_is_in_the_log_within_seconds_and_outlives_the_gateway(models: LiveSite) -> None:
    made = models.post("/keys", {"name": "lasting"})
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=made["key"], max_retries=0) as client:
        wait_for(lambda: _knows(client), "the key to be known")
        asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 1}
        for _ in range(3):
            client.chat.completions.create(**asked)
        wait_for(lambda: _used(models, made["id"])["requests"] == 3, "the usage to be in the log")
        os.kill(json.loads((models.home / "gateway.pid").read_text())["pid"], signal.SIGKILL)
        models.kill()
        models.up()
        wait_for(lambda: _answers(client, asked), "another gateway")
    assert _used(models, made["id"])["requests"] >= 3
    wait_for(lambda: _used(models, made["id"])["requests"] == 4, "what the new gateway answered")


def test_a_cancelled_batch_keeps_what_was_finished(models: LiveSite) -> None:
    with client_of(models) as client:
        batch = submit(client, lines(300, tokens=4))
        wait_for(lambda: _done(client, batch) >= 3, "some of the batch")
        assert client.batches.cancel(batch).status in ("cancelling", "cancelled")
        found = wait_ended(client, batch)
        assert found.status == "cancelled"
        done, rest = results(client, found.output_file_id), results(client, found.error_file_id)
    assert len(done) >= 3
    assert len({line["custom_id"] for line in done + rest}) == 300 == len(done) + len(rest)
    assert {line["error"]["code"] for line in rest} == {"batch_cancelled"}


def test_a_batch_that_is_not_through_in_time_expires(models: LiveSite) -> None:
    with client_of(models) as client:
        found = wait_ended(client, submit(client, lines(400, tokens=8), window="4s"))
        assert found.status == "expired"
        rest = results(client, found.error_file_id)
        assert found.request_counts.completed + len(rest) == 400
    assert {line["error"]["code"] for line in rest} == {"batch_expired"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\x00\x01\xff\xfe" * 50, "invalid_json_line"),
        (b"[1]\n", "invalid_json_line"),
        (lines(2) + b"\n" + lines(1), "duplicate_custom_id"),
        (lines(1).replace(b"/v1/chat/completions", b"/v1/embeddings"), "url_mismatch"),
        (lines(1) + b"\n" + lines(2).split(b"\n")[1].replace(MODEL.encode(), b"other"), "model_mismatch"),
        (lines(1).replace(MODEL.encode(), b"other"), "model_not_found"),
    ],
)
def test_a_bad_file_gives_a_batch_that_failed_and_says_where(models: LiveSite, content: bytes, code: str) -> None:
    with client_of(models) as client:
        found = wait_ended(client, submit(client, content))
    assert found.status == "failed"
    assert code in [error.code for error in found.errors.data]


def test_lines_that_a_model_refuses_go_to_the_error_file(models: LiveSite) -> None:
    content = lines(3).replace(b'"max_tokens": 1, "messages": [{"role": "user", "content": "1"}]', b'"messages": []')
    with client_of(models) as client:
        found = wait_ended(client, submit(client, content))
        assert (found.status, found.request_counts.completed, found.request_counts.failed) == ("completed", 2, 1)
        errors = results(client, found.error_file_id)
    assert [(line["custom_id"], line["response"]["status_code"]) for line in errors] == [("line-1", 400)]


def test_files_and_batches_are_their_accounts_own(models: LiveSite) -> None:
    token = models.post("/accounts", {"name": "stranger"})["token"]
    with client_of(models) as client, OpenAI(base_url=client.base_url, api_key=token, max_retries=0) as other:
        file = client.files.create(file=("a.jsonl", lines(1)), purpose="batch")
        wait_for(lambda: _knows(other), "the account to be known")
        assert list(other.files.list()) == []
        for attempt in (other.files.retrieve, other.files.content, other.files.delete):
            with pytest.raises(openai.NotFoundError):
                attempt(file.id)
        with pytest.raises(openai.NotFoundError):
            other.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        assert client.files.content(file.id).read() == lines(1)
        assert client.files.delete(file.id).deleted


def test_a_node_that_is_drained_loses_no_stream(models: LiveSite) -> None:
    with client_of(models) as client:
        stream = client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=60, stream=True, extra_body={"min_p": 0.0}, temperature=1.5
        )
        next(iter(stream))
        job = busy_replica(models)
        node = next(one["node"] for one in deployment(models)["replicas"] if one["job"] == job)
        models.post(f"/nodes/{node}/drain")
        assert any(chunk.choices and chunk.choices[0].finish_reason for chunk in stream), "it came to its end"
    models.post(f"/nodes/{node}/return")
    wait_for(lambda: ready(models) == 2, "two replicas")


def test_a_deployment_that_sleeps_wakes_for_the_first_request(models: LiveSite) -> None:
    serve(models, "sleeper", model=MODEL, replicas_min=0, replicas_max=1, cpus="0.5")
    assert deployment(models, "sleeper")["state"] == "asleep"
    with client_of(models) as client:
        answer = client.chat.completions.create(model="sleeper", messages=HELLO, max_tokens=1)
    assert answer.choices
    assert ready(models, "sleeper") == 1
    models.http.delete("/deployments/sleeper")
    wait_for(lambda: models.http.get("/deployments/sleeper").status_code == 404, "it to be gone")


def test_a_replica_that_cannot_run_is_tried_again_ever_more_seldom_and_says_why(models: LiveSite) -> None:
    junk = b"no weights at all"
    models.http.put(f"/objects/{digest_of(junk)}", content=junk)
    models.post("/models", {"name": "broken", "digest": digest_of(junk)})
    models.post("/deployments", {"name": "broken", "model": "broken", "memory": "300M", "cpus": "0.5"})
    wait_for(lambda: deployment(models, "broken")["failures"] >= 2, "it to fail twice")
    found = deployment(models, "broken")
    assert found["state"] == "failing"
    assert found["message"]
    assert len(found["replicas"]) <= 1
    models.http.delete("/deployments/broken")


def _done(client: OpenAI, batch: str) -> int:
    with contextlib.suppress(openai.APIError):
        counts = client.batches.retrieve(batch).request_counts
        return counts.completed + counts.failed if counts else 0
    return 0


def _knows(client: OpenAI) -> bool:
    with contextlib.suppress(openai.AuthenticationError):
        client.models.list()
        return True
    return False


def _answers(client: OpenAI, asked: Any) -> bool:
    with contextlib.suppress(openai.APIError):
        return bool(client.chat.completions.create(**asked).choices)
    return False


def _used(site: LiveSite, key: str) -> dict[str, Any]:
    return next(known["used"] for known in site.get("/keys")["keys"] if known["id"] == key)
