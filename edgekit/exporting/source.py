"""Reading a transformers folder's own account of itself, before torch is imported.

Everything that can be refused is refused here, in milliseconds: a folder that is no model, an
unknown task, missing or damaged weights, code that would run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import SourceError, UnsafeSource
from edgekit.exporting.options import AUTO, ExportOptions
from edgekit.exporting.weights import Weights, find_weights
from edgekit.files.digests import file_digest, value_digest
from edgekit.files.manifests import manifest_kind
from edgekit.files.tables import read_json
from edgekit.tasks import Task, load_task, task_names

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

    def digest(self) -> str:
        """Digest of every file that loading reads."""
        folder = self.folder
        small = {path for path in folder.iterdir() if path.is_file() and path.suffix in _READ_BY_LOADING}
        paths = sorted(small | set(self.weights.files))
        return value_digest({path.name: file_digest(path) for path in paths})


def inspect_folder(folder: Path, options: ExportOptions) -> FolderSource:
    """Check a folder as far as possible without torch.

    Raises SourceError, or UnsafeSource for pickles and remote code without consent.
    """
    _refuse_what_is_no_folder(folder)
    config = _read_table(folder / CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise SourceError(f"{folder / CONFIG}: has no model_type", hint="is this a transformers model?")
    _refuse_code(folder, config, options)
    _refuse_quantized(folder, config)
    task, architecture = _find_task(folder, config, options)
    labels = _labels(folder, config)
    if task.name == "text-classification":
        _check_single_label(folder, config, labels)
    weights = find_weights(folder, options.allow_pickle)
    _check_tokenizer(folder)
    dtype = config.get("dtype", config.get("torch_dtype"))
    return FolderSource(
        folder=folder,
        architecture=architecture,
        task=task,
        labels=labels,
        weights=weights,
        dtype=dtype if isinstance(dtype, str) else "float32",
    )


# --- is it a model folder at all ----------------------------------------------------------------------


def _refuse_what_is_no_folder(folder: Path) -> None:
    if not folder.exists():
        name = folder.as_posix()
        looks_like_id = not folder.is_absolute() and name.count("/") == 1 and not name.startswith(".")
        hint = (
            f"if it is the id of a hub model, download it first: `hf download {name} --local-dir my-model`"
            if looks_like_id
            else "check the path"
        )
        raise SourceError(f"{folder}: no such folder", hint=hint)
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
    if (folder / "adapter_config.json").is_file():
        return "this is an adapter: merge it into its base (`peft`: merge_and_unload) and save the result"
    inner = sorted(path.parent for path in folder.glob(f"*/{CONFIG}"))
    if inner:
        return f"did you mean {inner[-1]}?"
    return "save a model there with `model.save_pretrained(folder)` and `tokenizer.save_pretrained(folder)`"


def _read_table(path: Path) -> Mapping[str, object]:
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
        tables[TOKENIZER_CONFIG] = _read_table(folder / TOKENIZER_CONFIG)
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
    architecture = _architecture(folder, config)
    known = {name: task for name in task_names() if (task := load_task(name)).export is not None}
    if options.task != AUTO:
        task = load_task(options.task)
        if task.export is None:
            hint = f"tasks of folders: {', '.join(known)}. {_AS_MODULE}"
            raise SourceError(f"a transformers folder cannot be exported as {task.name!r}", hint=hint)
        if not architecture.endswith(task.export.architectures):
            raise SourceError(
                f"{folder / CONFIG}: a {architecture} has no head for the task {task.name!r}",
                hint=f"that takes a class that ends in {' or '.join(task.export.architectures)}",
            )
        return task, architecture
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
    raise SourceError(
        f"{folder / CONFIG}: {architecture} serves no task that this edgekit exports",
        hint=f"supported tasks: {', '.join(known)}. {_AS_MODULE}",
    )


def _architecture(folder: Path, config: Mapping[str, object]) -> str:
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


def _labels(folder: Path, config: Mapping[str, object]) -> tuple[str, ...]:
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


def _check_tokenizer(folder: Path) -> None:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise SourceError(
            f"{folder}: no tokenizer (tokenizer.json)",
            hint="save it beside the weights: `tokenizer.save_pretrained(folder)`",
        )
