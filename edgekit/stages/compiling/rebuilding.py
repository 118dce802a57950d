"""A package that carries its source, compiled again where its artifact cannot be opened."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.files.directories import new_directory, refuse_foreign
from edgekit.files.manifests import MANIFEST_NAME, read_manifest, verify
from edgekit.stages.common import OnProgress
from edgekit.stages.compiling.plan import CompileOptions
from edgekit.stages.parents import table_of
from edgekit.values import ArtifactTable, DeviceSettings
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.package_info import SOURCE, PackageInfo, has_source
from edgekit_runtime.reader import read_info, unpack_package

#: Directories of a package that are the model's own, beside what lies in its source.
_SHARED = ("golden", "processor")
_ARTIFACT = "artifact"


def model_of_package(
    package: Path, output: Path, options: CompileOptions, on_progress: OnProgress
) -> tuple[Path, CompileOptions]:
    """The model that `package` carries, as the directory OUTPUT.model, where `validate` and `package` look
    for it too; and `options`, with what they leave open as the package's own artifact was compiled.

    Raises UsageError for a package without its source, and what a damaged package raises.
    """
    on_progress(0, 0, f"reading {package.name}")
    info = read_info(package)
    if not has_source(info):
        raise UsageError(
            f"{package} carries no source to compile",
            hint="pack it with `edgekit package --with-source`, or compile the exported model",
        )
    model = output.with_name(f"{output.name}.model")
    refuse_foreign(model, "model")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        unpack_package(package, Path(name), (f"{_ARTIFACT}/{MANIFEST_NAME}",))
        table = table_of(read_manifest(Path(name) / _ARTIFACT, "artifact").artifact)
    if not _is_there(model, info):
        _write(package, model)
    return model, _as_packed(options, table)


def _is_there(model: Path, info: PackageInfo) -> bool:
    wanted = next((entry.digest for entry in info.inputs if entry.role == "model"), "")
    try:
        manifest = read_manifest(model, "model")
        verify(model, manifest)
    except EdgekitError:
        return False
    return manifest.digest == wanted


def _write(package: Path, model: Path) -> None:
    with new_directory(model, "model") as work:
        unpack_package(package, work, (SOURCE, *_SHARED))
        source = (work / SOURCE).rename(work / f".{SOURCE}")  # a part of the model may have this name too
        for path in source.iterdir():
            path.rename(work / path.name)
        source.rmdir()
        verify(work, read_manifest(work, "model"))


def _as_packed(options: CompileOptions, table: ArtifactTable) -> CompileOptions:
    """On this machine: how the packer reached the target's device says nothing here."""
    recipe, target = table.recipe, dataclasses.replace(table.target, device=DeviceSettings())
    return dataclasses.replace(
        options,
        target=options.target or target,
        backend=options.backend or table.backend,
        precision=options.precision or table.precision,
        options={**recipe.options, **options.options},
        keep_high=options.keep_high or recipe.keep_high,
    )
