"""Makes GGUF, which llama.cpp reads, from a BERT as it is published: safetensors, a configuration and a word list.

The same input gives the same bytes, so that what comes out has a name by its hash. Matrices become halves; the rest
stays as it is.
Source: docs/gguf.md of ggml; the names are those of llama.cpp's own converter.
Never: opens a file, or reads a pickle.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mycelium.base.errors import Refused

VERSION, ALIGNMENT_BYTES = 3, 32
U32, F32, BOOL, TEXT, LIST, I32 = 4, 6, 7, 8, 9, 5  # kinds of a value
TENSOR_F32, TENSOR_F16 = 0, 1
HEADER_BYTES_MAX = 16 << 20
KINDS = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}
MEAN = 1  # the embedding of a text is the mean over its words
NORMAL, CONTROL = 1, 3  # types of tokens

OUTER = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
INNER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
WHOLE = {"position_embd", "token_types"}  # matrices that llama.cpp wants as they are

Tensor = NDArray[Any]


def read_safetensors(data: bytes | memoryview) -> dict[str, Tensor]:
    """The tensors of a file, by name; they share its memory. Errors: `Refused`."""
    try:
        (size_bytes,) = struct.unpack_from("<Q", data)
        if size_bytes > HEADER_BYTES_MAX:
            raise Refused(f"the header of the safetensors has {size_bytes} bytes; at most {HEADER_BYTES_MAX} are read")
        header = json.loads(bytes(data[8 : 8 + size_bytes]))
        header.pop("__metadata__", None)
        found: dict[str, Tensor] = {}
        for name, about in header.items():
            begin, end = (8 + size_bytes + offset for offset in about["data_offsets"])
            found[name] = np.frombuffer(data[begin:end], KINDS[about["dtype"]]).reshape(about["shape"])
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f"these are not safetensors: {type(error).__name__}") from None
    return found


def of_bert(
    name: str, config: Mapping[str, Any], words: Sequence[str], tensors: Mapping[str, Tensor]
) -> Iterator[bytes]:
    """The pieces of the GGUF file. Errors: `Refused` for what is no such model."""
    if config.get("model_type") != "bert" or len(words) != config.get("vocab_size"):
        raise Refused("only a BERT with its whole word list can be made into GGUF")
    named = sorted((_renamed(key), tensor) for key, tensor in tensors.items() if _renamed(key))
    kept = {key: _converted(key, tensor) for key, tensor in named}
    layers = int(config["num_hidden_layers"])
    if len(kept) != 5 + 16 * layers:
        raise Refused(f"a BERT of {layers} layers has {5 + 16 * layers} tensors; here are {len(kept)}")
    values = _values(name, config, words)
    yield struct.pack("<4sIQQ", b"GGUF", VERSION, len(kept), len(values))
    head_bytes = 24
    for piece in (*values, *_infos(kept)):
        head_bytes += len(piece)
        yield piece
    yield bytes(-head_bytes % ALIGNMENT_BYTES)
    for tensor in kept.values():
        yield tensor.tobytes()
        yield bytes(-tensor.nbytes % ALIGNMENT_BYTES)


def _renamed(key: str) -> str:
    """What llama.cpp calls a tensor; nothing for one that it does not want."""
    stem, _, end = key.removeprefix("bert.").rpartition(".")
    if stem in OUTER:
        return f"{OUTER[stem]}.{end}"
    parts = stem.split(".", 3)
    if parts[:2] == ["encoder", "layer"] and len(parts) == 4 and parts[3] in INNER:
        return f"blk.{int(parts[2])}.{INNER[parts[3]]}.{end}"
    return ""


def _converted(name: str, tensor: Tensor) -> Tensor:
    half = tensor.ndim == 2 and name.split(".")[0] not in WHOLE
    return np.ascontiguousarray(tensor, np.dtype("<f2") if half else np.dtype("<f4"))


def _infos(tensors: Mapping[str, Tensor]) -> Iterator[bytes]:
    offset = 0
    for name, tensor in tensors.items():
        kind = TENSOR_F16 if tensor.dtype == np.dtype("<f2") else TENSOR_F32
        shape = struct.pack(f"<I{tensor.ndim}Q", tensor.ndim, *reversed(tensor.shape))
        yield _text(name) + shape + struct.pack("<IQ", kind, offset)
        offset += tensor.nbytes + -tensor.nbytes % ALIGNMENT_BYTES


def _values(name: str, config: Mapping[str, Any], words: Sequence[str]) -> list[bytes]:
    special = {
        word: number for number, word in enumerate(words) if word in ("[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]")
    }
    types = [CONTROL if word in special else NORMAL for word in words]
    numbers = {
        "bert.block_count": config["num_hidden_layers"],
        "bert.context_length": config["max_position_embeddings"],
        "bert.embedding_length": config["hidden_size"],
        "bert.feed_forward_length": config["intermediate_size"],
        "bert.attention.head_count": config["num_attention_heads"],
        "bert.pooling_type": MEAN,
        "general.file_type": 1,
        "tokenizer.ggml.token_type_count": config["type_vocab_size"],
        "tokenizer.ggml.bos_token_id": special["[CLS]"],
        "tokenizer.ggml.eos_token_id": special["[SEP]"],
        "tokenizer.ggml.cls_token_id": special["[CLS]"],
        "tokenizer.ggml.seperator_token_id": special["[SEP]"],  # as the format spells it
        "tokenizer.ggml.padding_token_id": special["[PAD]"],
        "tokenizer.ggml.unknown_token_id": special["[UNK]"],
        "tokenizer.ggml.mask_token_id": special["[MASK]"],
    }
    texts = {"general.architecture": "bert", "general.name": name, "tokenizer.ggml.model": "bert"}
    return [
        *(_value(key, TEXT, _text(text)) for key, text in texts.items()),
        *(_value(key, U32, struct.pack("<I", number)) for key, number in numbers.items()),
        _value("bert.attention.layer_norm_epsilon", F32, struct.pack("<f", config["layer_norm_eps"])),
        _value("bert.attention.causal", BOOL, b"\0"),
        _value("tokenizer.ggml.tokens", LIST, _list(TEXT, [_text(_spelled(word)) for word in words])),
        _value("tokenizer.ggml.token_type", LIST, _list(I32, [struct.pack("<i", kind) for kind in types])),
    ]


def _spelled(word: str) -> str:
    """A word as llama.cpp has it: what begins one is marked, instead of what goes on with it."""
    if word.startswith("[") and word.endswith("]"):
        return word
    return word[2:] if word.startswith("##") else f"\u2581{word}"


def _value(key: str, kind: int, data: bytes) -> bytes:
    return _text(key) + struct.pack("<I", kind) + data


def _list(kind: int, items: Sequence[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
