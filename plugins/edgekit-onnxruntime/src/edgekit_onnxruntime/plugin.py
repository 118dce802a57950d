"""What the backend is. Imports no engine, so that listing backends stays quick."""

from __future__ import annotations

from edgekit.api import API_VERSION, BackendSpec, OptionSpec, hookimpl

OPTIONS = (
    OptionSpec(
        name="weight_type",
        type="str",
        default="auto",
        choices=("auto", "int8", "uint8"),
        help="int8 only: type of the quantized weights. auto: int8, but uint8 for x86 CPUs without "
        "VNNI, where signed weights saturate and give wrong answers",
        tunable=True,
    ),
    OptionSpec(
        name="per_channel",
        type="bool",
        default=True,
        help="int8 only: one scale per output channel instead of one per weight",
        tunable=True,
    ),
    OptionSpec(
        name="embeddings",
        type="bool",
        default=True,
        help="int8 only: store embedding tables as int8 too; smaller, about as quick",
        tunable=True,
    ),
    OptionSpec(
        name="spinning",
        type="bool",
        default=False,
        stage="run",
        help="let idle threads spin; quicker alone, slower and unsteady beside other work",
        tunable=True,
    ),
    OptionSpec(
        name="optimization",
        type="str",
        default="all",
        choices=("all", "extended", "basic", "off"),
        stage="run",
        help="graph optimizations that onnxruntime makes when it opens the model",
        tunable=True,
    ),
)


@hookimpl
def edgekit_backend() -> BackendSpec:
    """Describe the backend."""
    return BackendSpec(
        name="onnxruntime",
        summary="ONNX Runtime on the CPU: fp32 as exported, int8 by dynamic quantization",
        api_version=API_VERSION,
        compiler="edgekit_onnxruntime.compiler:Compiler",
        arches=("x86_64", "AMD64", "aarch64", "arm64"),
        precisions=("fp32", "int8"),
        capabilities=("dynamic-shapes", "reference", "placement", "profile", "keep-high"),
        builds_on="anywhere",
        engine_modules=("onnxruntime",),
        options=OPTIONS,
    )
