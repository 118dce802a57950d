"""Reading a transformers folder's own account of itself, before torch is imported.

Everything that can be refused is refused here, in milliseconds: a folder that is no model, an
unknown task, missing or damaged weights, code that would run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError, UnsafeSource
from edgekit.exporting.choosing import LABELLED, choose_task
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.weights import Weights, find_weights
from edgekit.files.digests import file_digest, value_digest
from edgekit.files.manifests import manifest_kind
from edgekit.files.tables import read_json
from edgekit.tasks import Task

if TYPE_CHECKING:
    from edgekit.exporting.subject import Assembly, Subject

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
#: Either holds the settings of a feature extractor or an image processor.
_PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
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

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
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
    task = choose_task(folder / CONFIG, find_architecture(folder, config), config, options.task)
    source = describe(folder, config, task, task_labels(task, folder, config), options)
    check_preprocessor(folder, task)
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
    said = config.get("dtype", config.get("torch_dtype"))
    weights = find_weights(folder, options.allow_pickle)
    return FolderSource(
        folder=folder,
        architecture=find_architecture(folder, config),
        task=task,
        labels=labels,
        weights=weights,
        dtype=", ".join(weights.dtypes) or (said if isinstance(said, str) else "float32"),
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
    for name in (TOKENIZER_CONFIG, *_PREPROCESSOR_FILES):
        if (folder / name).is_file():
            tables[name] = read_table(folder / name)
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


def task_labels(task: Task, folder: Path, config: Mapping[str, object]) -> tuple[str, ...]:
    """The labels of the model's classes in order; () where the task's answers are told without them."""
    if task.answers not in LABELLED:
        return ()
    images = any(recipe.processor == "image" for recipe in task.exports)
    return read_labels(folder, config, repeated=images)


def read_labels(folder: Path, config: Mapping[str, object], *, repeated: bool = False) -> tuple[str, ...]:
    """The labels of a config in class order. Raises SourceError.

    repeated: give classes of one label their number, as ImageNet needs it, which has two cranes;
    otherwise such labels are refused.
    """
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
    twice = {label for label in labels if labels.count(label) > 1}
    if twice and not repeated:
        raise SourceError(
            f"{where} gives {min(twice)!r} to two classes", hint="each class needs its own word"
        )
    return tuple(f"{label} ({at})" if label in twice else label for at, label in enumerate(labels))


# --- what it reads inputs with --------------------------------------------------------------------------


def check_preprocessor(folder: Path, task: Task) -> None:
    """Raise SourceError unless the folder says how the task's inputs become the model's."""
    kind = task.exports[0].processor if task.exports else ""
    if kind == "text":
        check_tokenizer(folder)
    elif not any((folder / name).is_file() for name in _PREPROCESSOR_FILES):
        word = "image_processor" if kind == "image" else "feature_extractor"
        raise SourceError(
            f"{folder}: no {_PREPROCESSOR_FILES[0]}, so how {kind} is to be read is not known",
            hint=f"save it beside the weights: `{word}.save_pretrained(folder)`",
        )


def check_tokenizer(folder: Path) -> None:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise SourceError(
            f"{folder}: no tokenizer (tokenizer.json)",
            hint="save it beside the weights: `tokenizer.save_pretrained(folder)`",
        )
