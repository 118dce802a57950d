"""edgekit takes a fine-tuned model to an edge device and proves that it meets its budget.

The four stages, each from frozen values to one new directory:

    import edgekit

    model = edgekit.export("./my-model", "build/model")
    artifact = edgekit.compile("build/model", "build/kiosk", edgekit.CompileOptions(target="./kiosk.toml"))
    report = edgekit.validate("build/kiosk", options=edgekit.ValidateOptions(data="test.jsonl"))
    package = edgekit.package("build/kiosk", "my-model.edgekit")

Importing this module imports no engine, no torch and no numpy; a stage imports what it needs when
it is first called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgekit.exporting.options import ExportOptions
    from edgekit.stages.compile import CompileOptions
    from edgekit.stages.compile import compile_model as compile
    from edgekit.stages.diff import DiffOptions, diff
    from edgekit.stages.export import export
    from edgekit.stages.package import PackageOptions, package
    from edgekit.stages.validate import ValidateOptions, validate

__all__ = [
    "CompileOptions",
    "DiffOptions",
    "ExportOptions",
    "PackageOptions",
    "ValidateOptions",
    "__version__",
    "compile",
    "diff",
    "export",
    "package",
    "validate",
]

_HOMES = {
    "export": ("edgekit.stages.export", "export"),
    "ExportOptions": ("edgekit.exporting.options", "ExportOptions"),
    "compile": ("edgekit.stages.compile", "compile_model"),
    "CompileOptions": ("edgekit.stages.compile", "CompileOptions"),
    "validate": ("edgekit.stages.validate", "validate"),
    "ValidateOptions": ("edgekit.stages.validate", "ValidateOptions"),
    "diff": ("edgekit.stages.diff", "diff"),
    "DiffOptions": ("edgekit.stages.diff", "DiffOptions"),
    "package": ("edgekit.stages.package", "package"),
    "PackageOptions": ("edgekit.stages.package", "PackageOptions"),
}


def __getattr__(name: str) -> object:
    """Import a stage, or read the version, on first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("edgekit")
    if name in _HOMES:
        from importlib import import_module

        module, attribute = _HOMES[name]
        return getattr(import_module(module), attribute)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
