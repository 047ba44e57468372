"""A BERT as it is published becomes a file that llama.cpp reads; what is none is refused."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from mycelium.base.errors import Refused
from mycelium.inference.gguf import ALIGNMENT_BYTES, of_bert, read_safetensors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "##es"]
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "num_hidden_layers": 1,
    "max_position_embeddings": 4,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}
LAYER = "encoder.layer.0."


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(WORDS), 8),
        "embeddings.position_embeddings.weight": (4, 8),
        "embeddings.token_type_embeddings.weight": (2, 8),
    }
    for name, rows, columns in (
        ("attention.self.query", 8, 8),
        ("attention.self.key", 8, 8),
        ("attention.self.value", 8, 8),
        ("attention.output.dense", 8, 8),
        ("intermediate.dense", 16, 8),
        ("output.dense", 8, 16),
    ):
        found |= {f"{LAYER}{name}.weight": (rows, columns), f"{LAYER}{name}.bias": (rows,)}
    for name in ("embeddings.LayerNorm", f"{LAYER}attention.output.LayerNorm", f"{LAYER}output.LayerNorm"):
        found |= {f"{name}.weight": (8,), f"{name}.bias": (8,)}
    return found


def safetensors(**more: Any) -> bytes:
    """A small model with a tensor that llama.cpp has no use for."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for number, (name, shape) in enumerate({**shapes(), "embeddings.position_ids": (4,)}.items()):
        data = (np.arange(np.prod(shape), dtype="<f4") + number).tobytes()
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps({**header, **more}).encode()
    return struct.pack("<Q", len(text)) + text + body


def read_back(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of a GGUF file, found only by what its header says."""
    magic, version, count, values = struct.unpack_from("<4sIQQ", data)
    assert (magic, version) == (b"GGUF", 3)
    at = 24

    def text() -> str:
        nonlocal at
        (length,) = struct.unpack_from("<Q", data, at)
        at += 8 + length
        return data[at - length : at].decode()

    def skip(kind: int) -> None:
        nonlocal at
        if kind == 8:
            text()
        elif kind == 9:
            inner, length = struct.unpack_from("<IQ", data, at)
            at += 12
            for _ in range(length):
                skip(inner)
        else:
            at += {4: 4, 5: 4, 6: 4, 7: 1}[kind]

    for _ in range(values):
        text()
        at += 4
        skip(struct.unpack_from("<I", data, at - 4)[0])
    infos = []
    for _ in range(count):
        name = text()
        (dimensions,) = struct.unpack_from("<I", data, at)
        *shape, kind, offset = struct.unpack_from(f"<{dimensions}QIQ", data, at + 4)
        at += 4 + 8 * dimensions + 12
        infos.append((name, tuple(reversed(shape)), np.dtype("<f4" if kind == 0 else "<f2"), offset))
    begin = at + -at % ALIGNMENT_BYTES
    assert all(offset % ALIGNMENT_BYTES == 0 for *_, offset in infos)
    return {
        name: np.frombuffer(data, dtype, int(np.prod(shape)), begin + offset).reshape(shape)
        for name, shape, dtype, offset in infos
    }


def test_every_tensor_is_found_again_under_its_new_name():
    tensors = read_safetensors(safetensors())
    found = read_back(b"".join(of_bert("small", CONFIG, WORDS, tensors)))
    assert len(found) == 21
    for new, old in {
        "token_embd.weight": "embeddings.word_embeddings.weight",
        "blk.0.attn_q.bias": f"{LAYER}attention.self.query.bias",
        "blk.0.ffn_down.weight": f"{LAYER}output.dense.weight",
        "blk.0.layer_output_norm.weight": f"{LAYER}output.LayerNorm.weight",
        "position_embd.weight": "embeddings.position_embeddings.weight",
    }.items():
        np.testing.assert_array_equal(found[new].astype("<f4"), tensors[old])
    assert found["token_embd.weight"].dtype == np.dtype("<f2")
    assert found["position_embd.weight"].dtype == np.dtype("<f4")


def test_the_same_model_gives_the_same_bytes():
    one, other = (b"".join(of_bert("a", CONFIG, WORDS, read_safetensors(safetensors()))) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 100,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 5) + b"nojsn",
        safetensors()[:200],
        safetensors(x={"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}),
        safetensors(x={"dtype": "Q"}),
    ],
)
def test_what_are_no_safetensors_is_refused(data: bytes):
    with pytest.raises(Refused):
        read_safetensors(data)


def test_what_is_no_bert_is_refused():
    tensors = read_safetensors(safetensors())
    with pytest.raises(Refused, match="only a BERT"):
        list(of_bert("a", {**CONFIG, "model_type": "gpt2"}, WORDS, tensors))
    with pytest.raises(Refused, match="whole word list"):
        list(of_bert("a", CONFIG, WORDS[:-1], tensors))
    tensors.pop("embeddings.LayerNorm.bias")
    with pytest.raises(Refused, match="21 tensors; here are 20"):
        list(of_bert("a", CONFIG, WORDS, tensors))
