"""What the backend is. Imports no engine, so that listing backends stays quick."""

from __future__ import annotations

from edgekit.api import API_VERSION, BackendSpec, OptionSpec, hookimpl

OPTIONS = (
    OptionSpec(
        name="model_type",
        type="str",
        default="auto",
        choices=("auto", "transformer", "none"),
        help="int8 only: which layers NNCF quantizes. auto: transformer when the graph has attention",
    ),
    OptionSpec(
        name="preset",
        type="str",
        default="auto",
        choices=("auto", "performance", "mixed"),
        help="int8 only: performance quantizes activations symmetrically, mixed does not; auto: performance",
        tunable=True,
    ),
    OptionSpec(
        name="range",
        type="str",
        default="minmax",
        choices=("minmax", "mean_minmax"),
        help="int8 only: range of activations. minmax: the extremes of all rows; mean_minmax: the mean of "
        "each row's extremes, which clips what lies beyond",
        tunable=True,
    ),
    OptionSpec(
        name="weights",
        type="str",
        default="auto",
        choices=("auto", "symmetric", "asymmetric"),
        help="int8-weights and int4-weights: with zero points or without; auto: int8 with, int4 without",
        tunable=True,
    ),
    OptionSpec(
        name="group_size",
        type="int",
        default=64,
        help="int4-weights only: how many weights share a scale",
        tunable=True,
    ),
    OptionSpec(
        name="rest",
        type="str",
        default="fp32",
        choices=("fp32", "bf16"),
        help="int8-weights and int4-weights: what is computed in beside the weights; bf16 only where the "
        "CPU has it",
        tunable=True,
    ),
)


@hookimpl
def edgekit_backend() -> BackendSpec:
    """Describe the backend."""
    return BackendSpec(
        name="openvino",
        summary="OpenVINO on the CPU: fp32; bf16 and fp16 where it has them; int8, int8 and int4 weights",
        api_version=API_VERSION,
        compiler="edgekit_openvino.compiler:Compiler",
        arches=("x86_64", "AMD64", "aarch64", "arm64"),
        precisions=("fp32", "fp16", "bf16", "int8", "int8-weights", "int4-weights"),
        capabilities=("dynamic-shapes", "reference", "placement", "profile", "keep-high"),
        builds_on="anywhere",
        engine_modules=("openvino",),
        options=OPTIONS,
    )
