"""reproduce.sh: the command that made a model, versions of its tools, digests of source and output."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.exporting.options import ExportOptions
from edgekit_runtime.manifests import list_files

REPRODUCE_FILE = "reproduce.sh"
#: Recorded outputs hold the rounding of the machine that made them, so they may differ elsewhere.
_MACHINE_BOUND = "golden/"
#: Options of one value each that are flags of the same name.
_SINGLE = ("task", "opset", "max_length", "max_new_tokens", "language", "base", "revision", "seed")
_SOURCE_OF_MANIFEST = (
    'import json, sys; print(next(entry["path"] for entry in json.load(open(sys.argv[1]))["inputs"]'
    ' if entry["role"] == "source"))'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a model is made. digest: of the source; versions: of the tools.

    source: a path relative to the model directory, or a hub id; "" for an object in memory.
    """

    source: str
    digest: str
    options: ExportOptions
    versions: Mapping[str, str]

    def flags(self) -> str:
        """What differs from the defaults, quoted for a shell."""
        return shlex.join(_words(self.options))


def write_script(directory: Path, recipe: Recipe) -> None:
    """Write reproduce.sh into a finished model directory, before its manifest.

    It holds no path: the manifest has the source's, so that a model's digest does not depend on
    where it was made.
    """
    files = [entry for entry in list_files(directory) if not entry.path.startswith(_MACHINE_BOUND)]
    digests = [f"{entry.sha256}  {entry.path}" for entry in files]
    lines = [
        *_head(recipe),
        *(_command(recipe, _given_or_recorded(recipe)) if recipe.source else _advice(recipe)),
    ]
    if recipe.source:
        lines += ['cd "$output"', "sha256sum --check <<'DIGESTS'", *digests, "DIGESTS"]
    else:
        lines += ["# the files that were made:", *(f"#   {line}" for line in digests)]
    _write(directory, lines)


def write_failed_script(directory: Path, recipe: Recipe) -> None:
    """Write reproduce.sh into the evidence of a failed export, which lies beside its output's place."""
    given = [f"source=${{1:-{_beside(recipe.source)}}}"]
    _write(directory, [*_head(recipe), *(_command(recipe, given) if recipe.source else _advice(recipe))])


def _write(directory: Path, lines: list[str]) -> None:
    (directory / REPRODUCE_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _head(recipe: Recipe) -> list[str]:
    versions = " ".join(f"{name}=={version}" for name, version in recipe.versions.items())
    return [
        "#!/usr/bin/env bash",
        "# Makes this model again: bash reproduce.sh [SOURCE [OUTPUT]]",
        f"# digest of the source: {recipe.digest}",
        f"# versions of the tools: {versions}",
        "set -euo pipefail",
    ]


def _command(recipe: Recipe, source: list[str]) -> list[str]:
    return [
        'here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)',
        *source,
        "output=${2:-$here.reproduced}",
        f'edgekit export "$source" --output "$output" {recipe.flags()}'.rstrip(),
    ]


def _given_or_recorded(recipe: Recipe) -> list[str]:
    if not _is_path(recipe.source):
        return [f"source=${{1:-{shlex.quote(recipe.source)}}}"]
    return [
        f'recorded=$(python3 -c {shlex.quote(_SOURCE_OF_MANIFEST)} "$here/manifest.json")',
        "case $recorded in /*) ;; *) recorded=$here/$recorded ;; esac",
        "source=${1:-$recorded}",
    ]


def _beside(source: str) -> str:
    return f'"$here"/{shlex.quote(source)}' if _is_path(source) and source[:1] != "/" else shlex.quote(source)


def _is_path(source: str) -> bool:
    return source.startswith(("./", "../", "/")) or source[1:2] == ":"


def _advice(recipe: Recipe) -> list[str]:
    """A module has no command: its code is the user's."""
    options = recipe.options
    inputs = ", ".join(
        f'"{name}": {tuple(tensor.shape)} {tensor.dtype}'
        for name, tensor in (options.example_inputs or {}).items()
    )
    said = {
        **_of_task(options),
        "opset": options.opset,
        "tolerance": f"Tolerance(atol={options.tolerance.atol!r}, rtol={options.tolerance.rtol!r})",
        "dynamic_axes": {name: dict(axes) for name, axes in options.dynamic_axes.items()},
        "axis_ranges": dict(options.axis_ranges),
        "output_names": options.output_names,
        "static": options.static,
        "seed": options.seed,
    }
    return [
        "# It was made of an object in memory, which no command can name. In Python:",
        "#   edgekit.export(module, OUTPUT, options=edgekit.ExportOptions(",
        *(_commented(f"    example_inputs={{{inputs}}},  # shape and dtype of each") if inputs else ()),
        *(line for name, value in said.items() for line in _commented(f"    {name}={value},")),
        "#   ))",
        "echo 'made by edgekit.export() of an object in memory; the call is in this script' >&2",
        "exit 2",
    ]


def _of_task(options: ExportOptions) -> dict[str, object]:
    """What a module of a task was exported with; its processor is the one that lies here."""
    if options.processor is None:
        return {}
    return {"task": repr(options.task), "processor": repr("processor"), "labels": list(options.labels)}


def _commented(text: str) -> list[str]:
    return [f"#   {line}" for line in text.splitlines()]


def _words(options: ExportOptions) -> Iterator[str]:
    standard = ExportOptions()
    for name in _SINGLE:
        value = getattr(options, name)
        if value != getattr(standard, name):
            yield from (f"--{name.replace('_', '-')}", str(value))
    yield from ("--tolerance", f"{options.tolerance.atol!r},{options.tolerance.rtol!r}")
    for name, (low, high) in options.axis_ranges.items():
        yield from ("--axis", f"{name}={low}:{high}")
    for name in ("allow_pickle", "trust_remote_code", "static"):
        if getattr(options, name):
            yield f"--{name.replace('_', '-')}"
