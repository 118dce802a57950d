"""The one door to the engine. Importing openvino elsewhere would import it with its telemetry on.

`import openvino` reports the import to Google Analytics, and writes a client id below the home
directory, whenever the package `openvino_telemetry` can be imported; environment variables stop
that only by claiming to be a CI job. It and nncf take their own silent stubs when it cannot.
"""

from __future__ import annotations

import sys

# None makes `import openvino_telemetry` an ImportError, for this process only.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402 - only now that its telemetry is off
from openvino import opset13 as ops  # noqa: E402

from edgekit_runtime.errors import OpenFailed  # noqa: E402

__all__ = ["DEVICE", "HINTS", "WEIGHTS_ONLY", "compile_for", "missing_capability", "ops", "ov", "version"]

DEVICE = "CPU"

#: Precision words of edgekit to those of OpenVINO. int8 and compressed weights live in the graph; this is
#: what is computed in beside them, unless the artifact names bf16.
HINTS = {
    "fp32": "f32",
    "int8": "f32",
    "bf16": "bf16",
    "fp16": "f16",
    "int8-weights": "f32",
    "int4-weights": "f32",
}
#: Of which the weights alone are compressed.
WEIGHTS_ONLY = ("int8-weights", "int4-weights")
#: What the CPU must be capable of, in OpenVINO's words.
_CAPABILITIES = {"bf16": "BF16", "fp16": "FP16", "int8": "INT8"}


def version() -> str:
    """The engine's version: "2026.4.1"."""
    return str(ov.__version__).split("-")[0]


def missing_capability(core: ov.Core, precision: str) -> str:
    """Why this CPU cannot execute `precision`; "" when it can."""
    wanted = _CAPABILITIES.get(precision)
    present = [str(word) for word in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")]
    if wanted is None or wanted in present:
        return ""
    name = core.get_property(DEVICE, "FULL_DEVICE_NAME")
    return f"OpenVINO does not execute {precision} on this CPU ({name}); it offers {', '.join(present)}"


def compile_for(
    core: ov.Core, model: ov.Model, precision: str, threads: int, *, profiled: bool, rest: str = "fp32"
) -> ov.CompiledModel:
    """Compile for the CPU in exactly this precision. rest: what int8 or compressed weights leave high.

    Left alone, the CPU plugin picks bf16 or f16 by itself where the CPU has them. So the precision
    is always given, and read back.
    """
    hint = HINTS[precision if rest == "fp32" else rest]
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Otherwise compressed weights may be multiplied in int8 though f32 was asked for.
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "PERF_COUNT": profiled,
    }
    compiled = core.compile_model(model, DEVICE, settings)
    given = compiled.get_property("INFERENCE_PRECISION_HINT")
    if given != getattr(ov.Type, hint):
        raise OpenFailed(
            f"OpenVINO was asked for {hint} and compiled for {given.to_string()}",
            hint="this CPU does not have the precision: choose another",
        )
    return compiled
