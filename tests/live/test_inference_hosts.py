"""A model served from three hosts with addresses of their own: the gateway reaches each replica, and one host dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.models import MODEL, weights
from tests.live.rig.net import needs_rig
from tests.live.rig.site import RigSite, rig_site
from tests.live.site import wait_for

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [needs_rig, pytest.mark.timeout(300)]

FILES = ("site.json", "gateway.json")

# What the official client does beside the head: so many chats, a few at once, and how each ended.
CHATS = r"""
import asyncio, json, ssl, sys
import httpx
from openai import AsyncOpenAI
url, key, model, count, at_once, tokens, ca = json.loads(sys.argv[1])
async def main():
    trust = ssl.create_default_context(cafile=ca) if url.startswith("https:") else True
    http = httpx.AsyncClient(verify=trust, timeout=120)
    client = AsyncOpenAI(base_url=url, api_key=key, max_retries=0, http_client=http)
    room = asyncio.Semaphore(at_once)
    async def chat(number):
        async with room:
            asked = [{"role": "user", "content": f"Say {number}."}]
            try:
                answer = await client.chat.completions.create(model=model, messages=asked, max_tokens=tokens)
                said = bool(answer.choices[0].message.content)
            except Exception as error:
                said = repr(error)
            print(json.dumps(said), flush=True)
    await asyncio.gather(*(chat(number) for number in range(count)))
asyncio.run(main())
"""


LONG = os.environ.get("MYC_TEST_LONG") == "1"


@pytest.fixture(scope="module", params=[("--tls",), ()] if LONG else [("--tls",)], ids=" ".join)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RigSite]:
    path = weights()
    with rig_site(tmp_path_factory.mktemp("rig") / "s", 3) as site:
        site.up(*request.param)
        site.join_up(1, 2)
        site.myc("model", "pull", f"file:{path}", "--name", MODEL)
        asked = {"name": MODEL, "replicas_min": 3, "context": 512, "parallel": 2, "memory": "700M", "cpus": "1.1"}
        site.post("/deployments", asked)
        wait_for(lambda: len(ready(site)) == 3, "three replicas to be ready")
        yield site


def ready(site: RigSite) -> dict[str, dict[str, Any]]:
    """The replicas that answer, by the name of their node."""
    names = {node["id"]: node["name"] for node in site.get("/nodes")["nodes"]}
    replicas = site.get(f"/deployments/{MODEL}")["replicas"]
    return {names[one["node"]]: one for one in replicas if one["state"] == "ready" and one["node"]}


def chats(site: RigSite, count: int, at_once: int, tokens: int = 2) -> subprocess.Popen[str]:
    url = json.loads((site.home(0) / "gateway.json").read_text())["url"]
    token = (site.home(0) / "tokens" / "admin").read_text().strip()
    ca = str(site.home(0) / "tls" / "ca.pem")
    asked = json.dumps([f"{url}/v1", token, MODEL, count, at_once, tokens, ca])
    words = site.net.inside(0, sys.executable, "-c", CHATS, asked)
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(not LONG, reason="MYC_TEST_LONG=1: a cable that was pulled is given up after half a minute")
def test_a_cable_that_is_pulled_costs_nobody_an_answer(site: RigSite) -> None:
    """Nothing says that the host is gone: what it was asked is asked again elsewhere when the kernel gives it up."""
    wait_for(lambda: len(ready(site)) == 3, "three replicas to be ready")
    asking = chats(site, 24, 6, tokens=12)
    assert asking.stdout is not None
    first = [asking.stdout.readline().strip() for _ in range(4)]
    site.net.pull(2)
    rest, _ = asking.communicate(timeout=150)
    site.net.plug(2)
    assert first + rest.split() == ["true"] * 24


def test_each_host_answers_and_the_death_of_one_is_not_noticed_by_who_asks(site: RigSite) -> None:
    wait_for(lambda: len(ready(site)) == 3, "three replicas to be ready")
    said, _ = chats(site, 9, 6).communicate(timeout=150)
    assert said.split() == ["true"] * 9
    wait_for(lambda: all(one["requests"] for one in ready(site).values()), "each host to have answered")
    asking = chats(site, 15, 6, tokens=8)
    assert asking.stdout is not None
    first = [asking.stdout.readline().strip() for _ in range(3)]
    site.kill_all(1)
    rest, _ = asking.communicate(timeout=150)
    assert first + rest.split() == ["true"] * 15


def test_the_gateway_speaks_as_safely_as_the_site(site: RigSite) -> None:
    schemes = [json.loads((site.home(0) / name).read_text())["url"].partition(":")[0] for name in FILES]
    assert schemes[0] == schemes[1]
    assert site.myc("chat", MODEL, "-m", "Say hello.", "--max-tokens", "3").stdout.strip()


def test_the_replica_of_another_host_listens_on_no_port(site: RigSite) -> None:
    """Nothing but the passage and the porter of `myc join`, and Ray, is there to be spoken to."""
    words = site.net.inside(2, "ss", "-Hltnp")
    listening = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    for process in site.find(2, "replica.py"):
        assert f"pid={process.pid}," not in listening
    assert site.find(2, "replica.py")
