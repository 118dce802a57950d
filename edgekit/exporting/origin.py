"""What is exported, before torch is imported. `inspect_source` tells its kind by looking at the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from edgekit.errors import SourceError, UsageError
from edgekit.exporting.options import AUTO, CUSTOM, ExportOptions
from edgekit.exporting.source import CONFIG, inspect_folder

if TYPE_CHECKING:
    import torch

    from edgekit.exporting.subject import Assembly, Subject

ONNX_SUFFIX, PROGRAM_SUFFIX, GGUF_SUFFIX = ".onnx", ".pt2", ".gguf"
_GGUF_MAGIC = b"GGUF"


@runtime_checkable
class Origin(Protocol):
    """A source that looks exportable. label: its name in messages; path: None for an object in memory."""

    @property
    def label(self) -> str:
        """How messages call it."""

    @property
    def path(self) -> Path | None:
        """The file or folder it lies in."""

    def digest(self) -> str:
        """Digest of everything that loading reads."""


@runtime_checkable
class TorchOrigin(Origin, Protocol):
    """A source that torch loads and traces. An ONNX file is none: it is read and checked as it is."""

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
        """Load it, write its processor, plan its checks."""


@dataclass(frozen=True, slots=True, eq=False)
class ModuleSource:
    """A torch module in memory."""

    module: torch.nn.Module
    label: str = "the module"
    path: None = None

    def digest(self) -> str:
        """Its class name and weights: its code cannot be hashed."""
        from edgekit.exporting.module import weights_digest

        return weights_digest(self.module)

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
        """Check it on its example inputs, or for a task on what its processor makes."""
        if options.task not in (AUTO, CUSTOM):
            from edgekit.exporting.tasked import load_tasked

            return load_tasked(self.module, options, processor_dir)
        from edgekit.exporting.module import load_module

        _refuse_options(options, "processor", "labels")
        return load_module(self.module, options)


def inspect_source(source: str | Path | object, options: ExportOptions) -> Origin:
    """Find out what `source` is and refuse what can be refused now. Runs no code of the source.

    Raises SourceError, UnsafeSource, or UsageError for options that are for another kind of source.
    """
    if not isinstance(source, str | Path):
        return _inspect_object(source, options)
    _refuse_options(options, "processor", "labels")
    path = _find(source, options)
    if path.is_file():
        return _inspect_file(path, options)
    _refuse_options(options, "example_inputs", "dynamic_axes", "axis_ranges", "output_names")
    return _inspect_directory(path, options)


def _inspect_object(source: object, options: ExportOptions) -> Origin:
    _refuse_options(options, "base", "revision")
    if hasattr(source, "graph_module") and hasattr(source, "range_constraints"):
        from edgekit.exporting.program import ProgramSource

        _refuse_options(options, "processor", "labels")
        return ProgramSource(program=source)
    return ModuleSource(source)  # type: ignore[arg-type]  # its digest refuses what is no module


def _find(source: str | Path, options: ExportOptions) -> Path:
    """A path that exists, or the local copy of a hub model."""
    from edgekit.exporting.hub import download, looks_like_id

    path = Path(source)
    if path.exists():
        _refuse_options(options, "revision")
        return path
    if looks_like_id(str(source)):
        return download(str(source), options.revision)
    raise SourceError(f"{path}: no such file or folder", hint="check the path")


def _inspect_file(path: Path, options: ExportOptions) -> Origin:
    _refuse_options(options, "base")
    if path.suffix == ONNX_SUFFIX:
        from edgekit.exporting.imported import inspect_onnx

        _refuse_options(options, "example_inputs", "dynamic_axes", "output_names", "static")
        return inspect_onnx(path, options)
    if path.suffix == PROGRAM_SUFFIX:
        from edgekit.exporting.program import inspect_program

        return inspect_program(path, options)
    if path.suffix == GGUF_SUFFIX or _starts_with(path, _GGUF_MAGIC):
        from edgekit.exporting.gguf import inspect_gguf

        _refuse_options(options, "example_inputs", "dynamic_axes", "axis_ranges", "output_names")
        return inspect_gguf(path, options)
    raise SourceError(
        f"{path}: is a file of no kind that is exported",
        hint=f"files end in {ONNX_SUFFIX}, {PROGRAM_SUFFIX} or {GGUF_SUFFIX}; of a transformers or "
        "sentence-transformers model or an adapter, give the folder; a torch module is exported from Python",
    )


def _starts_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(magic)) == magic


def _inspect_directory(folder: Path, options: ExportOptions) -> Origin:
    from edgekit.exporting.adapter import ADAPTER_CONFIG, inspect_adapter
    from edgekit.exporting.sentence import MODULES, TASK, inspect_sentence

    if (folder / ADAPTER_CONFIG).is_file():
        if (folder / CONFIG).is_file() and options.base is None and _has_weights(folder):
            raise SourceError(
                f"{folder}: holds a whole model ({CONFIG}) and an adapter ({ADAPTER_CONFIG})",
                hint=f"to export the adapter, give --base; to export the model, move {ADAPTER_CONFIG} away",
            )
        return inspect_adapter(folder, options)
    _refuse_options(options, "base")
    if (folder / MODULES).is_file() and options.task in (AUTO, TASK):
        return inspect_sentence(folder, options)
    return inspect_folder(folder, options)


def _has_weights(folder: Path) -> bool:
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return any((folder / name).is_file() for name in names)


_FOR = {
    "base": "--base is for adapters",
    "revision": "--revision is for models from the hub",
    "example_inputs": "example_inputs are for torch modules and exported programs",
    "dynamic_axes": "dynamic_axes are for torch modules",
    "axis_ranges": "axis ranges (--axis) are for ONNX files and torch modules",
    "output_names": "output_names are for torch modules and exported programs",
    "processor": "processor is for torch modules that serve a task",
    "labels": "labels are for torch modules that serve a task",
    "static": "--static is for what torch traces; the axes of an ONNX file are what they are",
}


def _refuse_options(options: ExportOptions, *names: str) -> None:
    for name in names:
        if getattr(options, name):
            raise UsageError(_FOR[name], hint="leave it out: this source says it itself")
