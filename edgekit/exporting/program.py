"""A torch.export program, in memory or in a .pt2 file: it brings its inputs' names, shapes and ranges."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import SourceError, UnsafeSource, UsageError
from edgekit.exporting.options import ExportOptions
from edgekit.files.digests import file_digest, value_digest

if TYPE_CHECKING:
    import torch
    from torch.export import ExportedProgram

    from edgekit.exporting.subject import Subject

#: What torch.export.load raises for files that it cannot read.
_LOAD_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    EOFError,
    pickle.UnpicklingError,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProgramSource:
    """A program in memory. It holds its example inputs and which axes may vary."""

    program: Any
    label: str = "the exported program"
    path: None = None

    def digest(self) -> str:
        """Digest of its weights and its graph."""
        from edgekit.exporting.module import weights_digest

        return value_digest([weights_digest(_held(self.program)), str(self.program.graph)])

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject:
        """Plan its trace and checks. It has no processor."""
        return program_subject(self.program, self.label, {"kind": "exported program"}, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFile:
    """A .pt2 file that the user trusts."""

    path: Path

    @property
    def label(self) -> str:
        """Its path."""
        return str(self.path)

    def digest(self) -> str:
        """Digest of the file."""
        return file_digest(self.path)

    def load(self, options: ExportOptions, processor_dir: Path) -> Subject:
        """Read the program, which may run code that the file brings."""
        from edgekit.exporting.loading import require
        from edgekit.exporting.quiet import kept_environment, quiet_libraries

        require("torch", "onnxscript")
        import torch

        with quiet_libraries(), kept_environment():
            try:
                program = torch.export.load(self.path)
            except _LOAD_ERRORS as problem:
                reason = " ".join(str(problem).split())[:300]
                raise SourceError(
                    f"{self.path}: torch cannot load it: {type(problem).__name__}: {reason}",
                    hint="was it saved by torch.export.save, by a torch no newer than this one?",
                ) from problem
        facts = {"kind": "exported program", "name": self.path.name}
        return program_subject(program, self.label, facts, options)


def inspect_program(path: Path, options: ExportOptions) -> ProgramFile:
    """Check a .pt2 file without torch. Raises SourceError, or UnsafeSource without consent.

    torch.export.load unpickles constants and some weights with no limit on what they may hold, and
    evaluates shape expressions as Python: reading a .pt2 file can run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as problem:
        raise SourceError(
            f"{path}: damaged or truncated, or not written by torch.export.save: {problem}",
            hint="save the program again",
        ) from None
    if not any(name.endswith(".json") and "/models/" in f"/{name}" for name in names):
        raise SourceError(
            f"{path}: holds no exported program",
            hint="save one with torch.export.save(program, path); compiled packages cannot be exported",
        )
    if not options.trust_remote_code:
        raise UnsafeSource(
            f"{path}: reading a .pt2 file can run Python code that it brings (pickles, expressions)",
            hint="if you made it or trust who did, give --trust-remote-code",
        )
    return ProgramFile(path=path)


def program_subject(
    program: ExportedProgram, label: str, source: Mapping[str, str], options: ExportOptions
) -> Subject:
    """The program as a module with its own names, axes and ranges."""
    from edgekit.exporting.module import load_module

    names = _names(program, label)
    axes, ranges = _axes(program, names, label)
    if options.dynamic_axes or options.axis_ranges:
        raise UsageError(
            "dynamic_axes and axis_ranges are for torch modules",
            hint="an exported program holds its own: give dynamic_shapes to torch.export.export",
        )
    given = options.example_inputs or _examples(program, names, label)
    told = replace(options, example_inputs=given, dynamic_axes=axes, axis_ranges={})
    subject = load_module(_held(program), told, ranges)
    return replace(subject, facts=replace(subject.facts, source=dict(source)))


def _names(program: ExportedProgram, label: str) -> tuple[str, ...]:
    names = program.graph_signature.user_inputs
    constants = [name for name in names if not isinstance(name, str)]
    if constants:
        raise SourceError(
            f"{label}: takes an input that is no tensor: {constants[0]!r}",
            hint="export a program whose inputs are tensors only",
        )
    return tuple(map(str, names))


def _axes(
    program: ExportedProgram, names: tuple[str, ...], label: str
) -> tuple[dict[str, dict[int, str]], dict[str, tuple[int, int | None]]]:
    """Names of the axes that vary, by input, and how far each goes.

    A program forgets what its axes were called: the first that varies at place 0 is `batch`, another
    is called by where it is first met.
    """
    import torch

    placed = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    words: dict[Any, str] = {}
    axes: dict[str, dict[int, str]] = {name: {} for name in names}
    for name in names:
        for axis, size in enumerate(placed[name].shape):
            if not isinstance(size, torch.SymInt):
                continue
            symbol = size.node.expr
            if not symbol.is_Symbol:
                raise SourceError(
                    f"{label}: axis {axis} of {name!r} is {symbol}, which depends on another axis",
                    hint="export the program with an independent Dim for each axis",
                )
            free = axis == 0 and "batch" not in words.values()
            word = words.setdefault(symbol, "batch" if free else f"{name}_{axis}")
            axes[name][axis] = word
    limits = {symbol: program.range_constraints.get(symbol) for symbol in words}
    return axes, {words[symbol]: _range(found) for symbol, found in limits.items()}


def _range(found: Any) -> tuple[int, int | None]:
    if found is None:
        return 1, None
    high = int(found.upper) if getattr(found.upper, "is_Integer", False) else None
    return max(1, int(found.lower)), high


def _examples(program: ExportedProgram, names: tuple[str, ...], label: str) -> dict[str, torch.Tensor]:
    from torch.utils import _pytree

    if program.example_inputs is None:
        raise UsageError(
            f"{label}: holds no example inputs", hint="give example_inputs, by the program's input names"
        )
    return dict(zip(names, _pytree.tree_leaves(program.example_inputs), strict=True))


def _held(program: ExportedProgram) -> torch.nn.Module:
    """The program as a module of positional tensors. A program has no mode to switch."""
    import torch
    from torch.utils import _pytree

    inner = program.module(check_guards=False)

    class Program(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.training = False

        def forward(self, *tensors: torch.Tensor) -> object:
            arguments, named = _pytree.tree_unflatten(list(tensors), program.call_spec.in_spec)
            return self.inner(*arguments, **named)

        def train(self, mode: bool = True) -> Program:
            return self

    return Program()
