"""A PEFT adapter folder and the base it was trained on, before torch is imported."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError, UnsafeSource
from edgekit.exporting.choosing import LABELLED
from edgekit.exporting.hub import download, looks_like_id, provenance
from edgekit.exporting.options import AUTO, ExportOptions
from edgekit.exporting.source import (
    CONFIG,
    TOKENIZER_FILES,
    FolderSource,
    check_tokenizer,
    describe,
    folder_digest,
    inspect_folder,
    read_config,
    read_labels,
    read_table,
)
from edgekit.exporting.weights import check_safetensors
from edgekit.files.digests import value_digest
from edgekit.tasks import Task, load_task, task_names

if TYPE_CHECKING:
    from edgekit.exporting.subject import Assembly, Subject

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS, ADAPTER_PICKLE = "adapter_model.safetensors", "adapter_model.bin"
#: Before every name in an adapter's file.
PREFIX = "base_model.model."
#: Kinds whose change to a weight can be added to the weight. Prompts and prefixes cannot.
MERGEABLE = ("LORA", "IA3", "LOHA", "LOKR")
#: peft's word for what an adapter is for -> the tasks that it may mean; the labels decide.
_TASKS = {
    "SEQ_CLS": ("text-classification", "multi-label-classification", "regression"),
    "TOKEN_CLS": ("token-classification",),
    "QUESTION_ANS": ("question-answering",),
    "FEATURE_EXTRACTION": ("feature-extraction",),
    "CAUSAL_LM": ("text-generation",),
    "SEQ_2_SEQ_LM": ("text2text-generation",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSource:
    """An adapter and its base.

    head: classes of the head that the adapter brings, or None; targets: names of the modules that it
    adapts; tensors: its weights' shapes, {} when they are a pickle.
    """

    folder: Path
    base: FolderSource
    weights: Path
    kind: str
    head: int | None
    targets: str
    tensors: Mapping[str, tuple[int, ...]]

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.folder)

    @property
    def path(self) -> Path:
        """The adapter's folder."""
        return self.folder

    def digest(self) -> str:
        """Digest of the adapter and of the base."""
        return value_digest([folder_digest(self.folder, (self.weights,)), self.base.digest()])

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies: beside the adapter, or with the base."""
        return self.folder if _has_tokenizer(self.folder) else self.base.folder

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
        """Load the base, merge the adapter into it, and compare before and after."""
        from edgekit.exporting.merging import load_adapter

        return load_adapter(self, options, processor_dir)


def inspect_adapter(folder: Path, options: ExportOptions) -> AdapterSource:
    """Check an adapter and find its base, without torch. Raises SourceError or UnsafeSource."""
    table = read_table(folder / ADAPTER_CONFIG)
    kind = _kind(folder, table)
    weights = _weights(folder, options)
    tensors = _shapes(weights)
    base_folder = _base(folder, table, options)
    _refuse_other_base(folder, table, base_folder)
    head = _head(table, tensors)
    base = _base_source(folder, table, base_folder, head, options)
    if not _has_tokenizer(folder):
        check_tokenizer(base_folder)
    targets = table.get("target_modules")
    return AdapterSource(
        folder=folder,
        base=base,
        weights=weights,
        kind=kind,
        head=head,
        targets=", ".join(map(str, targets)) if isinstance(targets, list) else str(targets),
        tensors=tensors,
    )


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def _kind(folder: Path, table: Mapping[str, object]) -> str:
    kind = str(table.get("peft_type"))
    where = folder / ADAPTER_CONFIG
    if kind not in MERGEABLE:
        raise SourceError(
            f"{where}: an adapter of kind {kind} cannot be merged into its base",
            hint=f"these can: {', '.join(MERGEABLE)}",
        )
    if table.get("megatron_config"):
        raise UnsafeSource(
            f"{where}: names a Python module to import (megatron_core)",
            hint="set megatron_config to null: merging does not need it",
        )
    return kind


def _weights(folder: Path, options: ExportOptions) -> Path:
    path = folder / ADAPTER_WEIGHTS
    if path.is_file():
        check_safetensors(path)
        return path
    if not (folder / ADAPTER_PICKLE).is_file():
        raise SourceError(
            f"{folder}: no {ADAPTER_WEIGHTS}", hint="save it with `model.save_pretrained(folder)`"
        )
    if not options.allow_pickle:
        raise UnsafeSource(
            f"{folder / ADAPTER_PICKLE}: these weights are a pickle, which can run code when it is read",
            hint="save the adapter as safetensors, or give --allow-pickle: tensors only are then read",
        )
    return folder / ADAPTER_PICKLE


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the adapter's tensors; {} of a pickle, which is not opened here."""
    if path.name != ADAPTER_WEIGHTS:
        return {}
    with path.open("rb") as stream:
        header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
    return {name: tuple(entry.get("shape", ())) for name, entry in header.items() if name != "__metadata__"}


# --- the base -----------------------------------------------------------------------------------------


def _base(folder: Path, table: Mapping[str, object], options: ExportOptions) -> Path:
    if options.base is not None:
        if not options.base.is_dir():
            raise SourceError(f"--base {options.base}: no such folder", hint="give the base model's folder")
        return options.base
    name = table.get("base_model_name_or_path")
    where = folder / ADAPTER_CONFIG
    if not isinstance(name, str) or not name:
        raise SourceError(f"{where}: names no base model", hint="give its folder by --base")
    for candidate in (Path(name), folder / name):
        if candidate.is_dir():
            return candidate
    if not looks_like_id(name):
        raise SourceError(f"{where}: its base {name!r} is no folder here", hint="give its folder by --base")
    revision = table.get("revision")
    try:
        return download(name, revision if isinstance(revision, str) else None)
    except SourceError as problem:
        raise SourceError(
            f"{where}: its base is not here: {problem.message}",
            hint=f"give the base's folder by --base; {problem.hint}",
        ) from problem


def _refuse_other_base(folder: Path, table: Mapping[str, object], base: Path) -> None:
    """What the adapter says of its base against what the base's place in a hub cache says."""
    known = provenance(base)
    name, revision = table.get("base_model_name_or_path"), table.get("revision")
    pairs = []
    if isinstance(name, str) and looks_like_id(name) and not Path(name).exists():
        pairs.append(("model", name, known["name"]))
    if isinstance(revision, str) and _is_commit(revision):
        pairs.append(("revision", revision, known.get("revision", "")))
    for word, wanted, found in pairs:
        if "revision" in known and not found.startswith(wanted):
            raise SourceError(
                f"{folder}: was trained on the {word} {wanted}, and the base {base} is {found}",
                hint="give the base it was trained on by --base",
            )


def _is_commit(revision: str) -> bool:
    return len(revision) >= 7 and all(char in "0123456789abcdef" for char in revision)


def _base_source(
    folder: Path,
    table: Mapping[str, object],
    base: Path,
    head: int | None,
    options: ExportOptions,
) -> FolderSource:
    names = _tasks(folder, table, options)
    if not names:  # the adapter does not say: the base's own head does
        return inspect_folder(base, options)
    config = read_config(base, options)
    own = read_table(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    labels = _labels(folder, base, config, head)
    merged = {**config, **own, "id2label": {str(at): label for at, label in enumerate(labels)}}
    task = _fitting(folder, names, merged)
    return describe(base, config, task, labels if task.answers in LABELLED else (), options)


def _tasks(folder: Path, table: Mapping[str, object], options: ExportOptions) -> tuple[str, ...]:
    """Names of the tasks that the adapter may be for; () when it does not say."""
    named = table.get("task_type")
    if options.task != AUTO:
        return (load_task(options.task).name,)
    if named is None:
        return ()
    names = _TASKS.get(str(named), (str(named),))
    known = [name for name in task_names() if load_task(name).exports]
    if names[0] not in known:
        raise SourceError(
            f"{folder / ADAPTER_CONFIG}: an adapter for {named}: {names[0]} is not exported yet",
            hint=f"supported tasks: {', '.join(known)}",
        )
    return names


def _fitting(folder: Path, names: Sequence[str], config: Mapping[str, object]) -> Task:
    """The first of these tasks that a model of this config is of."""
    reasons = []
    for name in names:
        task = load_task(name)
        why = task.exports[0].misfit(config) if task.exports else "models of it are not exported from folders"
        if not why:
            return task
        reasons.append(f"not {name}: {why}")
    raise SourceError(
        f"{folder}: on its base it serves no task of this edgekit: {'; '.join(reasons)}",
        hint=f"{CONFIG} beside the adapter may say its problem_type and labels",
    )


def _head(table: Mapping[str, object], tensors: Mapping[str, tuple[int, ...]]) -> int | None:
    """Classes of the head among the adapter's tensors: the rows of its smallest matrix."""
    saved = table.get("modules_to_save")
    names = {f"{PREFIX}{name}." for name in saved} if isinstance(saved, list) else set()
    matrices = [shape for name, shape in tensors.items() if len(shape) == 2 and name.startswith(tuple(names))]
    return min((shape[0] for shape in matrices), default=None)


def _labels(folder: Path, base: Path, config: Mapping[str, object], head: int | None) -> tuple[str, ...]:
    """Labels beside the adapter, else the base's when they are as many as the head's classes."""
    own = read_table(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    for place, table in ((folder, own), (base, config)):
        labels = read_labels(place, table) if table.get("id2label") else ()
        if labels and head in (None, len(labels)):
            return labels
    return tuple(f"LABEL_{index}" for index in range(head or 2))
