"""A GGUF file as a source, before torch is imported: what it is, what it may serve, and whether it is whole.

transformers reads GGUF files, and passes over in silence what it does not know: keys that scale positions,
weights that no module takes, the rule by which text is cut. So only families of models are taken whose
every key is known here, and a key or weight beyond these is refused by name.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError
from edgekit.exporting.gguf_header import Header, read_header
from edgekit.exporting.options import AUTO, ExportOptions
from edgekit.files.digests import file_digest
from edgekit.tasks import Task, load_task
from edgekit_runtime.errors import MissingDependency

if TYPE_CHECKING:
    from edgekit.exporting.subject import Assembly, Subject

DECODER, ENCODER, BOTH = "decoder", "encoder", "encoder-decoder"
FEATURES, SENTENCES, WRITING = "feature-extraction", "sentence-embedding", "text2text-generation"
_GENERATION = "text-generation"
_TASKS = {DECODER: (FEATURES, SENTENCES), ENCODER: (FEATURES, SENTENCES), BOTH: (WRITING,)}
#: `pooling_type` of the format -> its word here. 0 is none, 4 a classifier of pairs.
_POOLINGS = {1: "mean", 2: "cls", 3: "lasttoken"}
_NO_POOLING = 0
#: Where the file says no pooling: the one that needs nothing of the model's training.
_PLAIN_POOLING = "mean"
TOKENS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"
_EPSILON = "attention.layer_norm_rms_epsilon"
_SIZES = {"vocab_size", "context_length", "block_count", "embedding_length", "feed_forward_length"}
_HEADS = {"attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.value_length"}
_ROTARY = {"rope.freq_base", "rope.dimension_count", _EPSILON, "pooling_type"}
_BUCKETS = {"attention.layer_norm_epsilon", _EPSILON}
_BUCKETS |= {"attention.relative_buckets_count", "decoder_start_token_id", "decoder_block_count"}
#: Keys that say what is so anyhow when they hold this value.
_IDLE: Mapping[str, object] = {"attention.causal": True, "rope.scaling.type": "none", "expert_count": 0}
_BLOCK = re.compile(r"(?:enc\.|dec\.)?blk\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """model: the class that transformers loads; kind: DECODER, ENCODER or BOTH; keys: all that are read."""

    model: str
    kind: str
    keys: frozenset[str]


_OF_LLAMA = frozenset(_SIZES | _HEADS | _ROTARY)
_OF_T5 = frozenset(_SIZES | _HEADS | _BUCKETS | {"pooling_type"})
FAMILIES: Mapping[str, Family] = {
    "llama": Family(model="LlamaModel", kind=DECODER, keys=_OF_LLAMA),
    "qwen2": Family(model="Qwen2Model", kind=DECODER, keys=_OF_LLAMA),
    "qwen3": Family(model="Qwen3Model", kind=DECODER, keys=_OF_LLAMA),
    "t5": Family(model="T5ForConditionalGeneration", kind=BOTH, keys=_OF_T5),
    "t5encoder": Family(model="T5EncoderModel", kind=ENCODER, keys=_OF_T5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufSource:
    """A GGUF file that looks loadable. pooling: how a text's vectors become one, for sentence-embedding.

    pooling_said: whether the file says it.
    """

    header: Header
    family: Family
    task: Task
    pooling: str
    pooling_said: bool

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.header.path)

    @property
    def path(self) -> Path:
        """The file."""
        return self.header.path

    def digest(self) -> str:
        """Digest of the file."""
        return file_digest(self.header.path)

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
        """Load the weights as fp32 numbers, and the tokenizer."""
        from edgekit.exporting.gguf_loading import load_gguf

        return load_gguf(self, options, processor_dir)


def inspect_gguf(path: Path, options: ExportOptions) -> GgufSource:
    """Read the header, choose the task, and refuse what can be refused now, in this order.

    Raises SourceError, or MissingDependency without gguf or accelerate, by which transformers reads them.
    """
    header = read_header(path)
    family = _family(header, options.task)
    said = header.keys.get(f"{header.architecture}.pooling_type", _NO_POOLING)
    task = _task(header, family, options.task, pooled=said != _NO_POOLING)
    if said not in (_NO_POOLING, *_POOLINGS):
        raise SourceError(
            f"{path}: {header.architecture}.pooling_type is {said!r}: it makes no vector of a text",
            hint=f"types that do: {', '.join(f'{number} ({word})' for number, word in _POOLINGS.items())}",
        )
    _refuse_unknown_keys(header, family)
    _check_sizes(header)
    _check_heads(header, family)
    _check_tokens(header)
    _require_readers(path)
    return GgufSource(
        header=header,
        family=family,
        task=task,
        pooling=_POOLINGS.get(said, _PLAIN_POOLING) if isinstance(said, int) else _PLAIN_POOLING,
        pooling_said=said != _NO_POOLING,
    )


def _require_readers(path: Path) -> None:
    for name in ("gguf", "accelerate"):
        if importlib.util.find_spec(name) is None:
            raise MissingDependency(
                f"{path}: to read GGUF files, transformers needs {name}", hint="pip install 'edgekit[gguf]'"
            )


# --- what it is for -----------------------------------------------------------------------------------


def _family(header: Header, asked: str) -> Family:
    kind = header.text("general.type") or "model"
    if kind != "model":
        raise SourceError(
            f"{header.path}: a GGUF file of kind {kind!r}, which is no model",
            hint="give the model's own file",
        )
    family = FAMILIES.get(header.architecture)
    if family is None:
        raise SourceError(
            f"{header.path}: a GGUF file of architecture {header.architecture!r} is not exported",
            hint=f"read are {', '.join(FAMILIES)}; any other model is exported from its transformers folder,"
            " which GGUF files are made of",
        )
    if asked == _GENERATION:
        raise SourceError(
            f"{header.path}: text-generation is not offered yet", hint=_offer(header.architecture, family)
        )
    return family


def _task(header: Header, family: Family, asked: str, *, pooled: bool) -> Task:
    names = _TASKS[family.kind]
    if asked != AUTO:
        task = load_task(asked)
        if task.name not in names:
            raise SourceError(
                f"{header.path}: a GGUF file of architecture {header.architecture!r} holds no model for"
                f" {task.name!r}",
                hint=f"give --task: {', '.join(names)}",
            )
        return task
    if family.kind == DECODER and not pooled:
        raise SourceError(
            f"{header.path}: a GGUF file of architecture {header.architecture!r} is made to write text,"
            " and text-generation is not offered yet",
            hint=_offer(header.architecture, family),
        )
    return load_task(SENTENCES if pooled else names[0])


def _offer(architecture: str, family: Family) -> str:
    if family.kind == BOTH:
        return f"a {architecture} answers a text with a text: --task {WRITING}"
    return f"--task {FEATURES} exports its hidden states, --task {SENTENCES} one vector for a text"


# --- whether transformers reads all of it --------------------------------------------------------------


def _refuse_unknown_keys(header: Header, family: Family) -> None:
    own = f"{header.architecture}."  # keys of other beginnings are about the file and its tokenizer
    for key, value in header.keys.items():
        name = key.removeprefix(own)
        if not key.startswith(own) or name in family.keys or (name in _IDLE and _IDLE[name] == value):
            continue
        raise SourceError(
            f"{header.path}: says {key} = {str(value)[:60]!r}, which transformers does not read,"
            " so it would be another model",
            hint="export the transformers folder that the file was made of",
        )
    if family.kind != DECODER and "umt5" in header.text("general.name").lower():
        raise SourceError(
            f"{header.path}: is a UMT5 by its general.name, and none of these is read from GGUF files",
            hint="export the transformers folder that the file was made of",
        )
    if "rope_freqs.weight" in header.tensors:
        raise SourceError(
            f"{header.path}: scales its positions (rope_freqs.weight), which transformers does not read",
            hint="export the transformers folder that the file was made of",
        )
    parts = header.keys.get("split.count", 1)
    if parts not in (0, 1):
        raise SourceError(
            f"{header.path}: is one of {parts} files of a model",
            hint="put them together: `gguf-split --merge FIRST OUTPUT`",
        )


def _check_heads(header: Header, family: Family) -> None:
    """Sizes of which transformers knows one for all, and the one that it would make up."""
    keys, own = header.keys, header.architecture
    if not isinstance(keys.get(f"{own}.{_EPSILON}"), float):
        raise header.damaged(f"it has no {own}.{_EPSILON}")
    if family.kind != DECODER:
        return
    size = keys.get(f"{own}.attention.key_length")
    size = header.whole("embedding_length") // header.whole("attention.head_count") if size is None else size
    for name in ("rope.dimension_count", "attention.value_length"):
        if keys.get(f"{own}.{name}", size) != size:
            raise SourceError(
                f"{header.path}: {own}.{name} is {keys[f'{own}.{name}']!r}, and its heads have {size!r}"
                " numbers: transformers knows one size for both",
                hint="export the transformers folder that the file was made of",
            )


def _check_sizes(header: Header) -> None:
    """Sizes that transformers allocates by, held against the weights that are really there."""
    for key in ("context_length", "attention.head_count", "feed_forward_length"):
        header.whole(key)
    blocks = {int(found[1]) for name in header.tensors if (found := _BLOCK.match(name))}
    if blocks != set(range(len(blocks))) or len(blocks) != header.whole("block_count"):
        raise header.damaged(f"it promises {header.whole('block_count')} layers and holds {len(blocks)}")
    embedding = header.tensors.get("token_embd.weight")
    wanted = (len(header.texts(TOKENS)), header.whole("embedding_length"))
    if embedding is None or embedding.shape != wanted:
        held = "none" if embedding is None else " x ".join(map(str, embedding.shape))
        raise header.damaged(f"it promises embeddings of {wanted[0]} x {wanted[1]} and holds {held}")
    for name in ("vocab_size", "decoder_block_count"):
        said = header.keys.get(f"{header.architecture}.{name}")
        is_one = wanted[0] if name == "vocab_size" else len(blocks)
        if said not in (None, is_one):
            raise header.damaged(f"{header.architecture}.{name} is {said!r}, and {is_one} are there")
    widths = {tensor.shape for name, tensor in header.tensors.items() if name.endswith("blk.0.ffn_up.weight")}
    if widths != {(header.whole("feed_forward_length"), wanted[1])}:
        raise header.damaged("feed_forward_length is not that of its weights")


def _check_tokens(header: Header) -> None:
    """Numbers and merges of the tokenizer, of which libraries take some for granted."""
    tokens = header.texts(TOKENS)
    for name in ("bos", "eos", "unknown", "padding"):
        number = header.keys.get(f"tokenizer.ggml.{name}_token_id")
        if number is not None and not (type(number) is int and 0 <= number < len(tokens)):
            raise header.damaged(f"tokenizer.ggml.{name}_token_id is {number!r} of {len(tokens)} tokens")
    for name in ("scores", "token_type"):
        values = header.keys.get(f"tokenizer.ggml.{name}")
        if values is not None and not (isinstance(values, tuple) and len(values) == len(tokens)):
            raise header.damaged(f"tokenizer.ggml.{name} does not fit {len(tokens)} tokens")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in values or ()):
            raise header.damaged(f"tokenizer.ggml.{name} holds what is no number")
    if len(set(tokens)) != len(tokens):
        raise header.damaged("a token is there twice")
    known = set(tokens)
    for merge in header.texts(MERGES):
        left, _, right = merge.partition(" ")
        if left not in known or right not in known or left + right not in known:
            raise header.damaged(f"the merge {merge[:40]!r} is of tokens that it does not have")
