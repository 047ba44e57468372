"""Two gateways of one site: each serves everything, a key's limits hold over both, and either may die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

import httpx
import openai
import pytest
from openai import OpenAI

from tests.live.site import LiveSite, site_at, wait_for
from tests.live.test_inference_survival import lines, results, submit, wait_ended

NAME = "fake"
TOKENS = 40  # that every answer costs
HELLO: Any = [{"role": "user", "content": "hello"}]
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": NAME,
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 20, "total_tokens": TOKENS},
}


class Fake(BaseHTTPRequestHandler):
    """A model that says the same to everybody, after as many seconds as the user is called."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[str]] = []  # what it was asked to answer, once each time

    def do_GET(self) -> None:
        self._say({"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body["messages"][-1]["content"])
        time.sleep(float(body.get("user", "0.05")))
        self._say(ANSWER)

    def _say(self, document: Any) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):  # a gateway that was killed does not read it
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fake)
    Thread(target=server.serve_forever, daemon=True).start()
    with site_at(tmp_path_factory.mktemp("gateways") / "home", nodes=1) as site:
        site.up("--gateways=2")
        upstream = f"http://127.0.0.1:{server.server_port}/v1"
        site.post("/deployments", {"name": NAME, "upstream": upstream, "parallel": 8})
        wait_for(lambda: len(urls(site)) == 2, "both gateways to answer")
        yield site
    server.shutdown()


def urls(site: LiveSite) -> list[str]:
    """Where gateways answer."""
    found = site.get("/deployments")["gateways"]
    return [url for url in found if _healthy(url)]


def _healthy(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health").is_success
    return False


@contextlib.contextmanager
def both(site: LiveSite, **limits: Any) -> Iterator[tuple[str, list[OpenAI]]]:
    """A key, and a client of each gateway that shows it."""
    made = site.post("/keys", {"name": "test", **limits})
    clients = [OpenAI(base_url=f"{url}/v1", api_key=made["key"], max_retries=0, timeout=60) for url in urls(site)]
    for client in clients:
        wait_for(lambda client=client: _knows(client), "the key to be known")
    yield made["id"], clients
    for client in clients:
        client.close()


def _knows(client: OpenAI) -> bool:
    with contextlib.suppress(openai.AuthenticationError):
        return [model.id for model in client.models.list()] == [NAME]
    return False


def say(client: OpenAI, wait_s: float = 0.0) -> Any:
    return client.chat.completions.create(model=NAME, messages=HELLO, max_tokens=20, user=str(wait_s))


def used(site: LiveSite, key: str) -> dict[str, Any]:
    return next(known["used"] for known in site.get("/keys")["keys"] if known["id"] == key)


def pid_of(site: LiveSite, file: str) -> int:
    return json.loads((site.home / file).read_text())["pid"]


def batch_of(count: int) -> bytes:
    return lines(count).replace(b"smollm2-135m", NAME.encode())


def test_each_gateway_serves_what_came_to_the_other(site: LiveSite) -> None:
    count = 60
    with both(site) as (key, (one, other)):
        assert say(one).choices == say(other).choices
        file = one.files.create(file=("requests.jsonl", batch_of(count)), purpose="batch")
        assert other.files.content(file.id).read() == batch_of(count)
        Fake.asked.clear()
        batch = other.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        found = wait_ended(one, batch.id)
        assert (found.status, found.request_counts.completed) == ("completed", count)
        assert results(one, found.output_file_id) == results(other, found.output_file_id)
        assert sorted(Fake.asked) == sorted(str(number) for number in range(count)), "one gateway alone runs its lines"
        wait_for(lambda: used(site, key)["requests"] >= count + 2, "the usage of both to be in the log")
    assert (used(site, key)["requests"], used(site, key)["tokens"]) == (count + 2, (count + 2) * TOKENS)


def test_what_a_key_spends_at_one_gateway_it_has_not_at_the_other(site: LiveSite) -> None:
    """Alone, the other would answer as often as the one did before it refuses."""
    rpm = 20
    with both(site, rpm=rpm) as (_, (one, other)):
        with pytest.raises(openai.RateLimitError):
            while True:
                say(one)
        answered = 0
        with pytest.raises(openai.RateLimitError):
            while True:
                say(other)
                answered += 1
                time.sleep(1)  # so that it hears of the one long before it has answered so often
        assert answered < rpm


def test_who_is_at_the_other_gateway_does_not_notice_that_one_is_killed(site: LiveSite) -> None:
    with both(site) as (_, (one, other)):
        broken: list[Exception] = []

        def ask() -> None:
            try:
                say(one, wait_s=20)
            except openai.APIError as error:
                broken.append(error)

        def asked() -> bool:
            return site.get(f"/deployments/{NAME}")["active"] > 0

        thread = Thread(target=ask)
        thread.start()
        wait_for(asked, "the request to be under way")
        os.kill(pid_of(site, "gateway.pid"), signal.SIGKILL)
        for _ in range(20):
            assert say(other).choices
        thread.join()
        assert isinstance(broken[0], openai.APIConnectionError)
        wait_for(lambda: _answers(one), "it to be there again, at the same address")


def _answers(client: OpenAI) -> bool:
    with contextlib.suppress(openai.APIError):
        return bool(say(client).choices)
    return False


def test_a_batch_goes_on_at_another_gateway_when_the_one_that_runs_it_is_killed(site: LiveSite) -> None:
    count = 120
    with both(site) as (key, clients):
        batch = submit(clients[0], batch_of(count))
        for share in (0.1, 0.4):
            wait_for(lambda share=share: _done(clients, batch) >= share * count, f"{share:.0%} of the batch")
            runner = pid_of(site, "gateway.batches")
            os.kill(runner, signal.SIGKILL)
            wait_for(lambda runner=runner: _runs_other(site, runner), "another to run it")
        wait_for(lambda: _done(clients, batch) == count, "all of the batch")
        wait_for(lambda: len(urls(site)) == 2, "both gateways to answer")
        found = wait_ended(clients[0], batch)
        ids = [line["custom_id"] for line in results(clients[1], found.output_file_id)]
    assert (len(ids), set(ids)) == (count, {f"line-{number}" for number in range(count)})
    assert (used(site, key)["requests"], used(site, key)["tokens"]) == (count, count * TOKENS), "each is charged once"


def _runs_other(site: LiveSite, runner: int) -> bool:
    with contextlib.suppress(json.JSONDecodeError):  # it is being written
        return pid_of(site, "gateway.batches") != runner
    return False


def _done(clients: list[OpenAI], batch: str) -> int:
    """As whichever gateway lives says."""
    for client in clients:
        with contextlib.suppress(openai.APIError):
            counts = client.batches.retrieve(batch).request_counts
            return counts.completed + counts.failed if counts else 0
    return 0


def test_a_site_that_is_started_again_has_as_many_gateways_as_before_or_as_it_is_told(site: LiveSite) -> None:
    before = urls(site)
    site.kill()
    assert _healthy(before[0]) and _healthy(before[1]), "they outlive their head"
    site.up()
    assert urls(site) == before
    site.down()
    assert not _healthy(before[0]) and not _healthy(before[1])
    site.up()
    wait_for(lambda: urls(site) == before, "both at the same addresses")
    site.kill()
    site.up("--gateways=1")
    wait_for(lambda: urls(site) == before[:1], "the second to be ended")
