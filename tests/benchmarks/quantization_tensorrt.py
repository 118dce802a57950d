"""What the graphs that TensorRT is given answer, and how large its engines are, in every precision.

    python -m tests.benchmarks.quantization_tensorrt [--rows 700]

Needs build/demo (`make demo`) and TensorRT for RTX, which builds without a GPU. The graphs are run by ONNX
Runtime, with the roundings between 16-bit nodes put in, beside the fp32 model, a row at a time: no engine is
run. The last line is onnxruntime's own quantizer with the settings that TensorRT's parser takes.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgekit.api import CompileRequest, Signature, Target, TensorSpec
from edgekit.values import Hardware
from edgekit_runtime.feeds import write_feeds
from edgekit_tensorrt import prepare, qdq
from edgekit_tensorrt.building import BuildSettings, build
from edgekit_tensorrt.description import InputRange, Profile
from edgekit_tensorrt.library import RTX, load_library
from edgekit_tensorrt.numerics import emulated
from edgekit_tensorrt.prepare import typed_graph
from edgekit_tensorrt.writing import Written
from tests.benchmarks.quantization_onnxruntime import MODEL, rows

ARCHITECTURE = "sm_89"
PRECISIONS = ("fp16", "bf16", "fp8", "int8", "int8-weights", "int4-weights")
SIGNATURE = Signature(
    inputs=tuple(
        TensorSpec(name=name, dtype="int64", shape=("batch", "sequence"))
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
)
Feeds = Mapping[str, Any]


def typed(precision: str, calibration: Path, work: Path) -> tuple[Path, Path]:
    """The graph for TensorRT, and one in fp32 that rounds as it says."""
    (work / "out").mkdir(parents=True)
    request = CompileRequest(
        model=MODEL,
        signature=SIGNATURE,
        workdir=work / "out",
        precision=precision,
        target=Target(name="benchmark", hardware=Hardware(gpu_arch=ARCHITECTURE)),
        calibration=calibration,
        threads=2,
    )
    written: list[Written] = []
    made = prepare.write_typed

    def noted(*words: Any) -> Written:
        written.append(made(*words))
        return written[-1]

    with mock.patch.object(prepare, "write_typed", noted):
        path = typed_graph(request, work, lambda *words: None).path
    imitation = path.with_name("imitation.onnx")
    imitation.write_bytes(emulated(written[-1]).SerializeToString())
    return path, imitation


def by_onnxruntime(calibration: Sequence[Feeds], path: Path) -> Path:
    """int8 by `quantize_static`, of symmetric weights and activations, without quantized biases."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left: Iterator[Feeds] = iter(calibration)

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    settings = {
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "MatMulConstBOnly": True,
        "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
    }
    quantize_static(
        str(MODEL),
        str(path),
        Reader(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options=settings,
    )
    return path


def engine_megabytes(path: Path) -> float:
    """Of the engine that TensorRT for RTX builds."""
    ranges = tuple(
        InputRange(name=spec.name, smallest=(1, 1), usual=(1, 128), largest=(8, 512))
        for spec in SIGNATURE.inputs
    )
    settings = BuildSettings(architectures=(ARCHITECTURE,), profiles=(Profile(ranges=ranges),))
    return build(load_library(RTX), path, SIGNATURE, settings, lambda *words: None).plan.nbytes / 1e6


def answers(path: Path, feeds: Sequence[Feeds]) -> np.ndarray[Any, Any]:
    """Logits [rows, 2]."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    # Products stay those of the graph; ONNX Runtime's own of 8 bits have no float8.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], dict(row))[0] for row in feeds])


def report(
    name: str, graph: Path, imitation: Path, feeds: Sequence[Feeds], exact: np.ndarray[Any, Any]
) -> None:
    """One row of the table."""
    found = answers(imitation, feeds)
    changed = int((found.argmax(axis=1) != exact.argmax(axis=1)).sum())
    margin, wanted = (logits[:, 1] - logits[:, 0] for logits in (found, exact))
    error = float(np.sqrt(np.square(margin - wanted).mean()))
    print(f"| {name} | {changed} | {error:.4f} | {engine_megabytes(graph):.1f} |", flush=True)


@contextlib.contextmanager
def no_evening_out() -> Iterator[None]:
    """int8 as it is without dividing large channels first."""
    with mock.patch.object(qdq, "factors", lambda peaks: None):
        yield


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.quantization_tensorrt", description=__doc__
    )
    parser.add_argument("--rows", type=int, default=700, help="of the demo's test rows")
    options = parser.parse_args()
    feeds, learnt = rows("test")[: options.rows], rows("calibration")
    exact = answers(MODEL, feeds)
    spread = float(np.std(exact[:, 1] - exact[:, 0]))
    print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}; spread of the margin {spread:.2f}")
    print(f"| graph | other answers of {len(feeds)} | error of the margin (RMS) | engine, MB |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="quantization-tensorrt-") as name:
        scratch = Path(name)
        (scratch / "rows").mkdir()
        write_feeds(scratch / "rows", learnt)
        for precision in PRECISIONS:
            graph, imitation = typed(precision, scratch / "rows", scratch / precision)
            report(precision, graph, imitation, feeds, exact)
        with no_evening_out():
            graph, imitation = typed("int8", scratch / "rows", scratch / "uneven")
        report("int8 without evening out", graph, imitation, feeds, exact)
        graph = by_onnxruntime(learnt, scratch / "static.onnx")
        report("onnxruntime's quantize_static", graph, graph, feeds, exact)


if __name__ == "__main__":
    main()
