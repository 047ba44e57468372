"""A real model, real replicas, and the official client: what people ask, and what they may get wrong."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from tests.live.models import MODEL, gateway_url, key, pull, serve
from tests.live.site import LiveSite, site_at, wait_for

HELLO: Any = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSite]:
    """A site that serves the small model once for chat and once for embeddings."""
    with site_at(tmp_path_factory.mktemp("models") / "home") as site:
        site.up()
        pull(site)
        serve(site)
        yield site


@pytest.fixture(scope="module")
def client(models: LiveSite) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=key(models), max_retries=0) as client:
        yield client


def test_the_models_are_listed_and_shown(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "admin"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("another")


def test_a_chat_is_answered_and_its_tokens_counted(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=6, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert 1 <= answer.usage.completion_tokens <= 6
    assert answer.usage.prompt_tokens > 5
    assert answer.model == MODEL


def test_a_streamed_chat_says_the_same_as_one_that_is_not(client: OpenAI) -> None:
    asked: Any = {"model": MODEL, "messages": HELLO, "max_tokens": 8, "temperature": 0, "seed": 1}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(client.chat.completions.create(stream=True, **asked))
    assert all(chunk.choices for chunk in chunks), "the usage chunk comes only to whoever asked for it"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **asked))
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None


def test_several_choices_each_count(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=3, n=2, seed=7, temperature=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 3 or any(choice.finish_reason == "stop" for choice in answer.choices)


def test_completions_stop_where_they_are_told_to(client: OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt="1, 2, 3, 4,", max_tokens=12, temperature=0, stop=["7"])
    assert "7" not in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"


def test_a_model_that_knows_no_tools_refuses_them_by_name(client: OpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2, tools=[tool], stream=stream)
        assert refused.value.param == "tools"


def test_logprobs_come_with_the_tokens(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=2, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content[0].top_logprobs) == 2


def test_an_answer_in_json_is_json(client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=HELLO,
        max_tokens=40,
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
    )
    assert set(json.loads(answer.choices[0].message.content or "")) == {"a"}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"temperature": 9}, "temperature"),
        ({"n": 1000}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"frobnicate": 1}, "frobnicate"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"model": 7}, "model"),
        ({"model": None}, "model"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(models: LiveSite, client: OpenAI, change: Any, param: str) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 1, **change}
    reply = post(client, "/chat/completions", json=body)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b"\xff\xfe\x00", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"model": "x"', 400),
        (b"[" * 100_000, 400),
        (b'{"model":"another","messages":[]}', 404),
        (b'{"model":"' + b"x" * (10 << 20) + b'"}', 413),
    ],
)
def test_a_malformed_body_is_refused_in_the_one_form(client: OpenAI, content: bytes, status: int) -> None:
    reply = post(client, "/chat/completions", content=content)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_a_prompt_beyond_the_context_is_refused(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x " * 5000}])
    assert refused.value.code == "context_length_exceeded"


def test_who_shows_no_key_or_a_wrong_one_learns_nothing(models: LiveSite) -> None:
    for shown in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic x"}, {"authorization": "Bearer"}):
        for path in ("/v1/models", "/v1/files", "/v1/batches", "/v1/files/file-1"):
            reply = httpx.get(gateway_url(models) + path, headers=shown)
            assert reply.status_code == 401
            assert reply.json()["error"]["code"] == "invalid_api_key"


def test_an_unknown_path_and_a_wrong_method_are_told(client: OpenAI) -> None:
    assert post(client, "/nothing", json={}).status_code == 404
    assert httpx.get(str(client.base_url) + "chat/completions").status_code == 405


def test_a_key_sees_only_the_models_it_was_made_for(models: LiveSite) -> None:
    secret = models.post("/keys", {"name": "narrow", "models": ["llama*"]})["key"]
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=secret, max_retries=0) as narrow:
        wait_for(lambda: not raises_unknown(narrow), "the key to be known")
        assert list(narrow.models.list()) == []
        with pytest.raises(openai.NotFoundError):
            narrow.chat.completions.create(model=MODEL, messages=HELLO)


def test_a_key_beyond_its_requests_is_told_when_to_come_again(models: LiveSite) -> None:
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=key(models, rpm=2), max_retries=0) as few:
        for _ in range(2):
            few.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as refused:
            few.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
    assert refused.value.code == "rate_limit_exceeded"


def test_a_key_beyond_its_tokens_waits_too(models: LiveSite) -> None:
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=key(models, tpm=60), max_retries=0) as few:
        few.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8)
        with pytest.raises(openai.RateLimitError):
            few.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=40)


def test_a_revoked_key_is_no_key(models: LiveSite) -> None:
    made = models.post("/keys", {"name": "short"})
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=made["key"], max_retries=0) as gone:
        wait_for(lambda: not raises_unknown(gone), "the key to be known")
        models.http.delete(f"/keys/{made['id']}")
        wait_for(lambda: raises_unknown(gone), "the key to be void")


def test_what_was_used_is_charged_to_the_key_once(models: LiveSite) -> None:
    made = models.post("/keys", {"name": "metered"})
    with OpenAI(base_url=f"{gateway_url(models)}/v1", api_key=made["key"], max_retries=0) as metered:
        wait_for(lambda: not raises_unknown(metered), "the key to be known")
        first = metered.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=4).usage
        chunks = list(
            metered.chat.completions.create(
                model=MODEL, messages=HELLO, max_tokens=4, stream=True, stream_options={"include_usage": True}
            )
        )
    second = chunks[-1].usage
    assert first is not None and second is not None
    wait_for(lambda: used(models, made["id"])["requests"] == 2, "the usage to be in the log")
    assert used(models, made["id"])["tokens"] == first.total_tokens + second.total_tokens


def test_a_client_that_leaves_frees_the_replica(models: LiveSite, client: OpenAI) -> None:
    """Two hundred tokens would keep the place for many seconds; nobody waits for them."""
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 400, "stream": True, "temperature": 1.5, "seed": 3}
    headers = {"authorization": f"Bearer {client.api_key}"}
    with httpx.stream("POST", f"{client.base_url}chat/completions", json=body, headers=headers, timeout=60) as reply:
        next(reply.iter_lines())
    wait_for(lambda: models.get(f"/deployments/{MODEL}")["active"] == 0, "the place to be free")
    begun = time.monotonic()
    client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=1)
    assert time.monotonic() - begun < 60


def test_embeddings_come_as_numbers_and_as_base64(models: LiveSite, client: OpenAI) -> None:
    """The same weights under another name: what llama.cpp gives for their mean is an embedding, if no good one."""
    model = models.get(f"/models/{MODEL}")
    models.post("/models", {"name": "embedder", "digest": model["digest"], "kind": "embedding", "source": "test"})
    serve(models, "embedder", model="embedder")
    raw = client.embeddings.with_raw_response.create(model="embedder", input=["one", "two"], encoding_format="float")
    numbers = [item["embedding"] for item in json.loads(raw.text)["data"]]
    raw = client.embeddings.with_raw_response.create(model="embedder", input=["one", "two"], encoding_format="base64")
    packed = [base64.b64decode(item["embedding"]) for item in json.loads(raw.text)["data"]]
    assert [struct.unpack(f"<{len(one) // 4}f", one) for one in packed] == [
        pytest.approx(tuple(one), rel=1e-3, abs=1e-5) for one in numbers
    ]
    found = client.embeddings.create(model="embedder", input="one")
    assert len(found.data[0].embedding) == len(numbers[0])
    assert found.usage.prompt_tokens >= 1
    assert post(client, "/embeddings", json={"model": MODEL, "input": "x"}).status_code == 400
    assert post(client, "/chat/completions", json={"model": "embedder", "messages": HELLO}).status_code == 400
    models.http.delete("/deployments/embedder")
    wait_for(lambda: all(one["name"] != "embedder" for one in models.get("/deployments")["deployments"]), "it to go")


def test_an_upstream_is_served_like_a_model_of_the_site(models: LiveSite, client: OpenAI) -> None:
    """The gateway itself is an OpenAI-compatible server: here it is its own upstream, with no key to show."""
    models.post("/deployments", {"name": "elsewhere", "upstream": f"{gateway_url(models)}/v1"})
    wait_for(lambda: "elsewhere" in [model.id for model in client.models.list()], "the deployment to be known")
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model="elsewhere", messages=HELLO)
    assert refused.value.status_code == 401, "what the upstream answers is what the client gets"
    models.http.delete("/deployments/elsewhere")


def post(client: OpenAI, path: str, **what: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {client.api_key}", "content-type": "application/json"}
    return httpx.post(str(client.base_url).rstrip("/") + path, headers=headers, timeout=120, **what)


def raises_unknown(client: OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return True
    return False


def used(site: LiveSite, key: str) -> dict[str, Any]:
    return next(known["used"] for known in site.get("/keys")["keys"] if known["id"] == key)
