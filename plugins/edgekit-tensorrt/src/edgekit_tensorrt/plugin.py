"""What the backend is. Imports no engine, so that listing backends stays quick."""

from __future__ import annotations

from edgekit.api import API_VERSION, BackendSpec, OptionSpec, hookimpl
from edgekit_tensorrt.library import RTX, STANDARD, installed

OPTIONS = (
    OptionSpec(
        name="library",
        type="str",
        default="auto",
        choices=("auto", RTX, STANDARD),
        help="which TensorRT builds and runs the engine; auto: TensorRT for RTX where it is installed and "
        "builds for the target's GPU, else standard TensorRT",
    ),
    OptionSpec(
        name="architectures",
        type="str",
        default="",
        help="GPU architectures of one artifact, as sm_86,sm_89 (several: TensorRT for RTX only); "
        "empty: the target's gpu_arch",
    ),
    OptionSpec(
        name="profiles",
        type="str",
        default="auto",
        help="sizes that the engine takes. auto: from 1 to the usual most, best at the workload's; workload: "
        "the workload's sizes alone; or AXIS=MIN:BEST:MAX,... and further profiles after a semicolon",
    ),
    OptionSpec(
        name="workspace_mib",
        type="int",
        default=0,
        help="most GPU memory that a layer may use while it runs; 0: no limit of our own",
    ),
    OptionSpec(
        name="optimization_level",
        type="int",
        default=3,
        choices=(0, 1, 2, 3, 4, 5),
        help="how long standard TensorRT looks for faster kernels",
    ),
    OptionSpec(
        name="timing_cache",
        type="str",
        default="",
        help="standard TensorRT only: timing.cache of an earlier artifact, a path on the machine that "
        "builds, so that the same kernels are chosen again",
    ),
    OptionSpec(
        name="ranges",
        type="str",
        default="minmax",
        choices=("minmax", "percentile", "entropy"),
        help="int8 and fp8: range of activations. minmax: the extremes of all rows; percentile, entropy: "
        "those of ONNX Runtime's histograms",
        tunable=True,
    ),
)


@hookimpl
def edgekit_backend() -> BackendSpec:
    """Describe the backend."""
    return BackendSpec(
        name="tensorrt",
        summary="TensorRT on NVIDIA GPUs: fp32 to int8 and fp8; engines for RTX GPUs are built without one",
        api_version=API_VERSION,
        compiler="edgekit_tensorrt.compiler:Compiler",
        arches=("x86_64", "AMD64", "aarch64"),
        precisions=("fp32", "fp16", "bf16", "fp8", "int8", "int8-weights", "int4-weights"),
        capabilities=("dynamic-shapes", "placement", "profile", "keep-high"),
        # Where a target's engines are built on its own machine, the target says so.
        builds_on="anywhere",
        device="gpu",
        engine_modules=installed(),
        options=OPTIONS,
    )
