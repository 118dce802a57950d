"""A sentence-transformers folder: its chain of modules becomes part of the graph.

`modules.json` lists the chain. It is read here, not by sentence-transformers: a Transformer, then any
of Pooling, Dense and Normalize. Another kind of module is refused by name.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError
from edgekit.exporting.choosing import LABELLED
from edgekit.exporting.options import AUTO, ExportOptions
from edgekit.exporting.source import (
    CONFIG,
    TOKENIZER_CONFIG,
    FolderSource,
    check_tokenizer,
    describe,
    folder_digest,
    read_config,
    read_table,
)
from edgekit.exporting.weights import PICKLE, SAFETENSORS, Weights, check_safetensors, find_weights
from edgekit.files.digests import file_digest, value_digest
from edgekit.files.tables import read_json
from edgekit.tasks import load_task, recipe_for, task_names

if TYPE_CHECKING:
    from edgekit.exporting.subject import Assembly, Subject

MODULES = "modules.json"
TASK = "sentence-embedding"
OUTPUT = "sentence_embedding"
_SETTINGS = "config_sentence_transformers.json"
_LENGTHS = "sentence_bert_config.json"
_KINDS = ("Transformer", "Pooling", "Dense", "Normalize")
#: Key of a Pooling config -> its word here. Several may be set: their results are concatenated.
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
#: Activations of a Dense module.
ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "Sigmoid", "SiLU")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooling:
    """One vector of a text's token vectors. modes: in the order of concatenation."""

    modes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A linear layer and an activation. weights: safetensors, or a pickle when allowed."""

    weights: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalize:
    """Scales every vector to length 1."""


Step = Pooling | Dense | Normalize


@dataclass(frozen=True, slots=True, kw_only=True)
class SentenceSource:
    """A sentence-transformers folder. encoder: its Transformer; steps: what follows it."""

    folder: Path
    encoder: FolderSource
    steps: tuple[Step, ...]
    max_length: int | None

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.folder)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder

    def digest(self) -> str:
        """Digest of the encoder, of the files about the chain, and of its weights."""
        dense = tuple(step.weights for step in self.steps if isinstance(step, Dense))
        files = sorted({*self.folder.glob("*.json"), *self.folder.glob("*/config.json"), *dense})
        own = {path.relative_to(self.folder).as_posix(): file_digest(path) for path in files}
        return value_digest([folder_digest(self.encoder.folder, self.encoder.weights.files), own])

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
        """Load the encoder and put the rest of the chain behind it."""
        from edgekit.exporting.pooling import load_sentence

        return load_sentence(self, options, processor_dir)


def inspect_sentence(folder: Path, options: ExportOptions) -> SentenceSource:
    """Read the chain and check its files, without torch. Raises SourceError or UnsafeSource."""
    parts = _parts(folder)
    _refuse_prompts(folder)
    encoder = _encoder(folder / parts[0][1], options)
    if options.task == AUTO:
        _refuse_two_meanings(encoder)
    steps = tuple(_step(kind, folder / path, options) for kind, path in parts[1:])
    if not any(isinstance(step, Pooling) for step in steps):
        raise SourceError(
            f"{folder / MODULES}: has no Pooling, so no vector of a whole text comes out",
            hint="add the Pooling module the model was trained with",
        )
    return SentenceSource(folder=folder, encoder=encoder, steps=steps, max_length=_length(encoder.folder))


def _parts(folder: Path) -> list[tuple[str, str]]:
    """(kind, folder inside) of every module, in order."""
    path = folder / MODULES
    found = read_json(path, SourceError)
    parts = []
    for entry in found if isinstance(found, list) else []:
        name, inner = (entry.get("type"), entry.get("path", "")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(inner, str):
            raise SourceError(f"{path}: an entry has no type and path", hint="get the file again")
        if posixpath.isabs(inner) or ".." in Path(inner).parts:
            raise SourceError(f"{path}: {inner!r} is not a folder inside this one", hint="do not use it")
        parts.append((_kind(path, name), inner))
    if not parts or parts[0][0] != "Transformer" or any(kind == "Transformer" for kind, _ in parts[1:]):
        raise SourceError(
            f"{path}: must list one Transformer, first", hint=f"known modules: {', '.join(_KINDS)}"
        )
    return parts


def _kind(path: Path, name: str) -> str:
    kind = name.rpartition(".")[2]
    if not name.startswith("sentence_transformers.") or kind not in _KINDS:
        raise SourceError(
            f"{path}: the module {name} is not known here",
            hint=f"known: {', '.join(_KINDS)} of sentence_transformers; export another one as a torch module",
        )
    return kind


def _refuse_prompts(folder: Path) -> None:
    """A default prompt is put before every text by encode(), and would not be on a device."""
    path = folder / _SETTINGS
    settings = read_table(path) if path.is_file() else {}
    default = settings.get("default_prompt_name")
    if default:
        raise SourceError(
            f"{path}: puts the prompt {default!r} before every text, which no processor here does",
            hint="set default_prompt_name to null, and put the prompt before the texts where they are made",
        )


def _encoder(folder: Path, options: ExportOptions) -> FolderSource:
    if not (folder / CONFIG).is_file():
        raise SourceError(f"{folder}: the Transformer has no {CONFIG}", hint="get the whole folder again")
    source = describe(folder, read_config(folder, options), load_task(TASK), (), options)
    check_tokenizer(folder)
    _refuse_lowering(folder)
    return source


def _refuse_lowering(folder: Path) -> None:
    """Lower-casing outside the tokenizer does not travel with it."""
    path = folder / _LENGTHS
    lowered = path.is_file() and read_table(path).get("do_lower_case")
    tokenizer = folder / TOKENIZER_CONFIG
    itself = tokenizer.is_file() and read_table(tokenizer).get("do_lower_case")
    if lowered and not itself:
        raise SourceError(
            f"{path}: lower-cases texts outside the tokenizer (do_lower_case)",
            hint="build the lower-casing into tokenizer.json, and set do_lower_case to false here",
        )


def _length(folder: Path) -> int | None:
    path = folder / _LENGTHS
    length = read_table(path).get("max_seq_length") if path.is_file() else None
    return length if isinstance(length, int) and length > 0 else None


def _refuse_two_meanings(encoder: FolderSource) -> None:
    """A folder whose encoder carries a head with labels could be meant as either.

    A head for masks is what encoders are trained with; its class often stays in the config.
    """
    for name in task_names():
        task = load_task(name)
        if task.answers in LABELLED and recipe_for(task, encoder.architecture) is not None:
            raise SourceError(
                f"{encoder.folder}: could be {TASK} ({MODULES}) or {name} ({encoder.architecture})",
                hint=f"give --task: {TASK}, {name}",
            )


# --- what follows the encoder -------------------------------------------------------------------------


def _step(kind: str, folder: Path, options: ExportOptions) -> Step:
    if kind == "Normalize":
        return Normalize()
    path = folder / CONFIG
    if not path.is_file():
        raise SourceError(f"{path}: missing; the {kind} needs it", hint="get the whole folder again")
    table = read_table(path)
    return _pooling(path, table) if kind == "Pooling" else _dense(path, table, options)


def _pooling(path: Path, table: Mapping[str, object]) -> Pooling:
    unknown = [
        key for key, on in table.items() if key.startswith("pooling_mode_") and on and key not in POOLINGS
    ]
    named = table.get("pooling_mode")
    words = [named] if isinstance(named, str) else named if isinstance(named, Sequence) else []
    unknown += [str(word) for word in words if word not in POOLINGS.values()]
    modes = tuple(word for key, word in POOLINGS.items() if table.get(key) is True) or tuple(map(str, words))
    if unknown or not modes:
        what = f"pooling of an unknown kind: {unknown[0]}" if unknown else "no kind of pooling is set"
        raise SourceError(f"{path}: {what}", hint=f"known: {', '.join(POOLINGS.values())}")
    if table.get("include_prompt") is False:
        raise SourceError(
            f"{path}: leaves the prompt's tokens out of the pooling (include_prompt)",
            hint="such models need to know each text's prompt, which no graph input tells",
        )
    return Pooling(modes=modes)


def _dense(path: Path, table: Mapping[str, object], options: ExportOptions) -> Dense:
    sizes = table.get("in_features"), table.get("out_features")
    activation = str(table.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise SourceError(
            f"{path}: the activation {activation} is not known", hint=f"known: {', '.join(ACTIVATIONS)}"
        )
    inputs, outputs = sizes
    if not isinstance(inputs, int) or not isinstance(outputs, int):
        raise SourceError(f"{path}: lacks in_features or out_features", hint="get the file again")
    weights = _dense_weights(path.parent, options.allow_pickle)
    return Dense(
        weights=weights.files[0],
        inputs=inputs,
        outputs=outputs,
        bias=table.get("bias", True) is not False,
        activation=activation,
    )


def _dense_weights(folder: Path, allow_pickle: bool) -> Weights:
    if (folder / SAFETENSORS).is_file():
        check_safetensors(folder / SAFETENSORS, ("linear.weight",))
    elif not (folder / PICKLE).is_file():
        raise SourceError(f"{folder}: the Dense has no {SAFETENSORS}", hint="get the whole folder again")
    return find_weights(folder, allow_pickle)
