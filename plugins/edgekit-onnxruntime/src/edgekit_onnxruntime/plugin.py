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
        name="method",
        type="str",
        default="auto",
        choices=("auto", "dynamic", "static"),
        help="int8 only. dynamic: activations are rounded while running; static: with ranges learnt from "
        "calibration rows. auto: static for models of convolutions, else dynamic",
        tunable=True,
    ),
    OptionSpec(
        name="ranges",
        type="str",
        default="auto",
        choices=("auto", "mse", "minmax", "percentile", "entropy"),
        help="static int8 only: how ranges are learnt. mse: with the least squared error; auto: mse for "
        "models of convolutions, else minmax",
        tunable=True,
    ),
    OptionSpec(
        name="smooth",
        type="bool",
        default=True,
        help="dynamic int8 only: even out channels of activations that stick out, where there are "
        "calibration rows",
        tunable=True,
    ),
    OptionSpec(
        name="block_size",
        type="int",
        default=0,
        choices=(0, 16, 32, 64, 128, 256),
        help="int8-weights and int4-weights: weights that share a scale; 0: 128 of 8 bits, 32 of 4 bits",
        tunable=True,
    ),
    OptionSpec(
        name="symmetric",
        type="bool",
        default=True,
        help="int8-weights and int4-weights: no zero point, which is smaller; of rtn only",
        tunable=True,
    ),
    OptionSpec(
        name="algorithm",
        type="str",
        default="rtn",
        choices=("rtn", "hqq"),
        help="int4-weights: round to nearest, or half-quadratic quantization, which needs torch",
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
        help="lower precisions: store embedding tables as int8, a scale per column",
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
        summary="ONNX Runtime on the CPU: fp32 as exported, int8 dynamic or calibrated, 8 or 4 bit weights",
        api_version=API_VERSION,
        compiler="edgekit_onnxruntime.compiler:Compiler",
        arches=("x86_64", "AMD64", "aarch64", "arm64"),
        precisions=("fp32", "int8", "int8-weights", "int4-weights"),
        capabilities=("dynamic-shapes", "reference", "placement", "profile", "keep-high"),
        builds_on="anywhere",
        engine_modules=("onnxruntime",),
        options=OPTIONS,
    )
