"""What the backend is. It imports no engine: listing backends must stay quick."""

from __future__ import annotations

from edgekit.api import API_VERSION, BackendSpec, hookimpl


@hookimpl
def edgekit_backend() -> BackendSpec:
    return BackendSpec(
        name="example",
        summary="The tutorial backend: ONNX's own reference implementation, exact and slow",
        api_version=API_VERSION,
        compiler="edgekit_example.compiler:Compiler",
        arches=("x86_64", "AMD64", "aarch64", "arm64"),
        precisions=("fp32",),
        capabilities=("reference", "dynamic-shapes", "placement"),
        engine_modules=("onnx",),
    )
