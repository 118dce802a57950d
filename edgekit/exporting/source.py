"""Reading a transformers folder's own account of itself, before torch is imported.

Everything that can be refused is refused here, in milliseconds: a folder that is no model, an
unknown task, missing or damaged weights, code that would run.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError, UnsafeSource
from edgekit.exporting.options import AUTO, ExportOptions
from edgekit.exporting.weights import Weights, find_weights
from edgekit.files.digests import file_digest, value_digest
from edgekit.files.manifests import manifest_kind
from edgekit.files.tables import read_json
from edgekit.tasks import ExportRecipe, Task, load_task, task_names

if TYPE_CHECKING:
    from edgekit.exporting.subject import Subject

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
#: Any of these lets transformers build a tokenizer.
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_NONE = ExportRecipe(architectures=(), auto_class="", outputs=())
_AS_MODULE = "Any torch module exports as 'custom': edgekit.export(module, ...) in Python"
_READ_BY_LOADING = (".json", ".txt", ".model", ".py", ".jinja")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSource:
    """A transformers folder that looks loadable. labels: in class order."""

    folder: Path
    architecture: str
    task: Task
    labels: tuple[str, ...]
    weights: Weights
    dtype: str

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.folder)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder

    def digest(self) -> str:
        """Digest of every file that loading reads."""
        return folder_digest(self.folder, self.weights.files)

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject:
        """Load the model and its tokenizer."""
        from edgekit.exporting.folder import load_folder

        return load_folder(self, options, processor_dir)


def folder_digest(folder: Path, weights: tuple[Path, ...]) -> str:
    """Digest of the weights and of the small files that loading may read. Links are followed."""
    small = {path for path in folder.iterdir() if path.is_file() and path.suffix in _READ_BY_LOADING}
    paths = sorted(small | set(weights))
    return value_digest({path.name: file_digest(path) for path in paths})


def inspect_folder(folder: Path, options: ExportOptions) -> FolderSource:
    """Check a folder as far as possible without torch.

    Raises SourceError, or UnsafeSource for pickles and remote code without consent.
    """
    config = read_config(folder, options)
    task, _ = _find_task(folder, config, options)
    labels = read_labels(folder, config)
    if task.name == "text-classification":
        _check_single_label(folder, config, labels)
    source = describe(folder, config, task, labels, options)
    check_tokenizer(folder)
    return source


def read_config(folder: Path, options: ExportOptions) -> Mapping[str, object]:
    """The config of a transformers folder that is one, runs no code and is not quantized."""
    _refuse_what_is_no_folder(folder)
    config = read_table(folder / CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise SourceError(f"{folder / CONFIG}: has no model_type", hint="is this a transformers model?")
    _refuse_code(folder, config, options)
    _refuse_quantized(folder, config)
    return config


def describe(
    folder: Path,
    config: Mapping[str, object],
    task: Task,
    labels: tuple[str, ...],
    options: ExportOptions,
) -> FolderSource:
    """The folder as a source for `task`; its weights are checked for being whole."""
    dtype = config.get("dtype", config.get("torch_dtype"))
    return FolderSource(
        folder=folder,
        architecture=find_architecture(folder, config),
        task=task,
        labels=labels,
        weights=find_weights(folder, options.allow_pickle),
        dtype=dtype if isinstance(dtype, str) else "float32",
    )


# --- is it a model folder at all ----------------------------------------------------------------------


def _refuse_what_is_no_folder(folder: Path) -> None:
    if not folder.exists():
        raise SourceError(f"{folder}: no such folder", hint="check the path")
    if not folder.is_dir():
        raise SourceError(
            f"{folder}: is a file; models are exported from a folder with {CONFIG} and weights",
            hint="give the folder, or call edgekit.export(module, ...) from Python",
        )
    if not (folder / CONFIG).is_file():
        raise SourceError(
            f"{folder}: not a transformers model (no {CONFIG})", hint=_other_folder_hint(folder)
        )


def _other_folder_hint(folder: Path) -> str:
    if manifest_kind(folder):
        return f"this is already an edgekit {manifest_kind(folder)} directory"
    files = sorted(path.name for ending in ("onnx", "pt2", "gguf") for path in folder.glob(f"*.{ending}"))
    if files:
        return f"to export {files[0]}, give that file: {folder / files[0]}"
    inner = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if inner:
        return f"did you mean {inner[-1]}?"
    return "save a model there with `model.save_pretrained(folder)` and `tokenizer.save_pretrained(folder)`"


def read_table(path: Path) -> Mapping[str, object]:
    table = read_json(path, SourceError)
    if not isinstance(table, dict):
        raise SourceError(f"{path}: is a JSON {type(table).__name__}, not a table", hint="get the file again")
    return table


# --- what must not be loaded -------------------------------------------------------------------------


def _refuse_code(folder: Path, config: Mapping[str, object], options: ExportOptions) -> None:
    if options.trust_remote_code:
        return
    tables = {CONFIG: config}
    if (folder / TOKENIZER_CONFIG).is_file():
        tables[TOKENIZER_CONFIG] = read_table(folder / TOKENIZER_CONFIG)
    for name, table in tables.items():
        if table.get("auto_map"):
            raise UnsafeSource(
                f"{folder / name}: loading this model runs Python code of its own (auto_map)",
                hint="read that code, then give --trust-remote-code",
            )


def _refuse_quantized(folder: Path, config: Mapping[str, object]) -> None:
    if config.get("quantization_config"):
        raise SourceError(
            f"{folder / CONFIG}: the weights are already quantized (quantization_config)",
            hint="export the original; `edgekit compile --precision int8` quantizes it for the target",
        )


# --- what it is for ------------------------------------------------------------------------------------


def _find_task(folder: Path, config: Mapping[str, object], options: ExportOptions) -> tuple[Task, str]:
    architecture = find_architecture(folder, config)
    known = {name: task for name in task_names() if (task := load_task(name)).export is not None}
    if options.task != AUTO:
        return _forced_task(folder, architecture, options.task, known), architecture
    fitting = [
        task for task in known.values() if task.export and architecture.endswith(task.export.architectures)
    ]
    if len(fitting) == 1:
        return fitting[0], architecture
    if fitting:
        names = ", ".join(task.name for task in fitting)
        raise SourceError(
            f"{folder / CONFIG}: {architecture} fits several tasks", hint=f"give --task: {names}"
        )
    gap = _known_gap(architecture)
    raise SourceError(
        f"{folder / CONFIG}: {architecture} serves no task that this edgekit exports{gap}",
        hint=f"nearest: {_nearest(architecture, known)}. Supported tasks: {', '.join(known)}. {_AS_MODULE}",
    )


def _forced_task(folder: Path, architecture: str, name: str, known: Mapping[str, Task]) -> Task:
    task = load_task(name)
    if task.export is None or not task.export.architectures:
        where = "comes from a sentence-transformers folder (modules.json)" if task.export else ""
        raise SourceError(
            f"a transformers folder cannot be exported as {name!r}" + f": it {where}" * bool(where),
            hint=f"tasks of folders: {', '.join(_of_folders(known))}. {_AS_MODULE}",
        )
    if not architecture.endswith(task.export.architectures):
        raise SourceError(
            f"{folder / CONFIG}: a {architecture} has no head for the task {name!r}",
            hint=f"that takes a class that ends in {' or '.join(task.export.architectures)}",
        )
    return task


def _of_folders(known: Mapping[str, Task]) -> list[str]:
    return [name for name, task in known.items() if task.export and task.export.architectures]


def _known_gap(architecture: str) -> str:
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        return ": text-generation is not exported yet"
    return ""


def _nearest(architecture: str, known: Mapping[str, Task]) -> str:
    """The task whose class names look most like this one."""
    _, separator, head = architecture.rpartition("For")
    endings = {ending: name for name in known for ending in (known[name].export or _NONE).architectures}
    close = difflib.get_close_matches(separator + head, endings, n=1, cutoff=0.0)
    return f"{endings[close[0]]} (classes that end in {close[0]})" if close else "none"


def find_architecture(folder: Path, config: Mapping[str, object]) -> str:
    found = config.get("architectures")
    names = [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    if not names:
        raise SourceError(
            f"{folder / CONFIG}: names no architectures, so the model's head is unknown",
            hint='add "architectures": ["BertForSequenceClassification"], or whatever class saved it',
        )
    if len(names) > 1:
        raise SourceError(
            f"{folder / CONFIG}: names several architectures: {', '.join(names)}",
            hint="keep the one to export",
        )
    return names[0]


def read_labels(folder: Path, config: Mapping[str, object]) -> tuple[str, ...]:
    table = config.get("id2label")
    if table is None:
        count = config.get("num_labels", 2)
        return tuple(f"LABEL_{index}" for index in range(count)) if isinstance(count, int) else ()
    where = f"{folder / CONFIG}: id2label"
    if not isinstance(table, dict):
        raise SourceError(f"{where} is not a table", hint='such as {"0": "negative", "1": "positive"}')
    try:
        labels = tuple(str(table[str(index)]) for index in range(len(table)))
    except KeyError as missing:
        raise SourceError(
            f"{where} lacks class {missing.args[0]}", hint="number the classes from 0"
        ) from None
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise SourceError(f"{where} gives {twice[0]!r} to two classes", hint="each class needs its own word")
    return labels


def _check_single_label(folder: Path, config: Mapping[str, object], labels: tuple[str, ...]) -> None:
    problem = config.get("problem_type")
    if problem not in (None, "single_label_classification") or len(labels) < 2:
        what = problem if isinstance(problem, str) else "regression"
        raise SourceError(
            f"{folder / CONFIG}: a classifier of kind {what!r} with {len(labels)} label(s) is not supported",
            hint=f"this edgekit exports classifiers of one label in two or more. {_AS_MODULE}",
        )


def check_tokenizer(folder: Path) -> None:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise SourceError(
            f"{folder}: no tokenizer (tokenizer.json)",
            hint="save it beside the weights: `tokenizer.save_pretrained(folder)`",
        )
