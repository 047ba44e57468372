"""Servers elsewhere behind the gateway: llama.cpp's own HTTP server, and another gateway that wants a key."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator

import openai
import pytest
from openai import OpenAI

from tests.live.models import MODEL, deployment, gateway_url, key, pull, weights
from tests.live.site import LiveSite, site_at, wait_for
from tests.live.test_inference_survival import lines, results, submit, wait_ended

HELLO = "Say hello."

# llama.cpp's server as people start it by themselves, with nothing of ours around it.
SERVER = r"""
import sys, threading, xllamacpp
weights, port = sys.argv[1:]
settings = xllamacpp.CommonParams()
settings.model.path, settings.model_alias = weights, {"somebody/elses"}
settings.hostnames, settings.port = ["127.0.0.1"], int(port)
settings.n_parallel, settings.n_ctx, settings.cpuparams.n_threads = 2, 1024, 1
server = xllamacpp.Server(settings)
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    with site_at(tmp_path_factory.mktemp("upstream") / "home", nodes=1) as site:
        yield site.up()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the server."""
    path = weights()
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    with (tmp_path_factory.mktemp("llama") / "log").open("wb") as log:
        words = [sys.executable, "-c", SERVER, str(path), str(port)]
        server = subprocess.Popen(words, stdout=log, stderr=log)
    yield f"http://127.0.0.1:{port}/v1"
    server.kill()
    server.wait()


def pass_on(site: LiveSite, name: str, upstream: str, **keys: str) -> None:
    site.post("/deployments", {"name": name, "upstream": upstream, **keys})
    wait_for(lambda: deployment(site, name)["state"] == "ready", "the upstream to answer")


def client_of(site: LiveSite) -> OpenAI:
    return OpenAI(base_url=f"{gateway_url(site)}/v1", api_key=key(site), max_retries=0, timeout=120)


def say(client: OpenAI, model: str, tokens: int = 4) -> str:
    asked = [{"role": "user", "content": HELLO}]
    whole = client.chat.completions.create(model=model, messages=asked, max_tokens=tokens, temperature=0)  # type: ignore
    stream = client.chat.completions.create(
        model=model,
        messages=asked,  # type: ignore
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert chunks[-1].usage is not None
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    return text


def test_a_server_elsewhere_is_served_under_a_name_of_ours(site: LiveSite, llama: str) -> None:
    pass_on(site, "theirs", llama, model="somebody/elses")
    wait_for(lambda: gateway_url(site), "the gateway to answer")
    with client_of(site) as client:
        assert say(client, "theirs")
        assert [model.id for model in client.models.list()] == ["theirs"]
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="somebody/elses", messages=[])
        batch = wait_ended(client, submit(client, lines(6).replace(MODEL.encode(), b"theirs")))
        assert (batch.status, batch.request_counts.completed) == ("completed", 6)
        assert len(results(client, batch.output_file_id)) == 6
    (seen,) = deployment(site, "theirs")["replicas"]
    assert (seen["job"], seen["state"]) == ("upstream", "ready")
    wait_for(lambda: deployment(site, "theirs")["replicas"][0]["requests"] >= 8, "all requests to be counted")


def test_an_upstream_that_wants_a_key_is_shown_its_own_and_nobody_else_sees_it(site: LiveSite, llama: str) -> None:
    """The site's own gateway stands for another site's: it refuses whoever has no key."""
    pass_on(site, "theirs", llama, model="somebody/elses")
    wait_for(lambda: gateway_url(site), "the gateway to answer")
    url, secret = f"{gateway_url(site)}/v1", key(site, models=["theirs"])
    site.post("/deployments", {"name": "far", "upstream": url, "model": "theirs", "upstream_key": "wrong"})
    wait_for(lambda: deployment(site, "far")["state"] == "away", "the wrong key to be noticed")
    assert "401" in deployment(site, "far")["replicas"][0]["why"]
    pass_on(site, "far", url, model="theirs", upstream_key=secret)
    with client_of(site) as client:
        wait_for(lambda: _answers(client, "far"), "the key to be known")
        assert say(client, "far") == say(client, "theirs")
    shown = json.dumps([site.get("/deployments"), site.get("/deployments/far")])
    assert secret not in shown
    assert secret.encode() not in (site.home / "site.db").read_bytes()
    assert (site.home / "tokens" / "upstreams").stat().st_mode & 0o777 == 0o600
    site.http.delete("/deployments/far")
    assert secret not in (site.home / "tokens" / "upstreams").read_text()


def test_an_upstream_that_is_not_there_is_said_so_and_its_requests_fail_soon(site: LiveSite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    site.post("/deployments", {"name": "nowhere", "upstream": f"http://127.0.0.1:{port}/v1"})
    wait_for(lambda: deployment(site, "nowhere")["state"] == "away", "it to be noticed")
    with client_of(site) as client:
        wait_for(lambda: "nowhere" in [model.id for model in client.models.list()], "it to be listed")
        with pytest.raises(openai.InternalServerError, match="do not answer"):
            client.chat.completions.create(model="nowhere", messages=[{"role": "user", "content": HELLO}])
    site.http.delete("/deployments/nowhere")


def test_a_command_is_shown_for_a_backend_that_no_node_has(site: LiveSite) -> None:
    pull(site)
    asked = {"name": MODEL, "backend": "vllm", "gpus": 2, "dry_run": True}
    found = site.post("/deployments", asked)
    assert found["command"].startswith("vllm serve model.gguf --uds replica.sock")
    assert "--tensor-parallel-size 2" in found["command"]
    assert found["message"] == "no node has vllm"
    assert site.http.post("/deployments", json={**asked, "dry_run": False}).status_code == 400


def _answers(client: OpenAI, model: str) -> bool:
    try:
        client.chat.completions.create(model=model, messages=[{"role": "user", "content": HELLO}], max_tokens=1)
    except openai.APIStatusError:
        return False
    return True
