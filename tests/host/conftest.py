"""A model directory and an empty workdir, as a stage hands them to the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.values import Budget, CompileRequest, RunSettings, Target
from edgekit_runtime.values import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", 4)),),
    outputs=(TensorSpec(name="y", dtype="float32", shape=("batch", 4)),),
)


@pytest.fixture
def request_(tmp_path: Path) -> CompileRequest:
    """A model of two files with a neighbour, and an empty workdir."""
    model = tmp_path / "model"
    model.mkdir()
    for name in ("model.onnx", "model.onnx.data", "manifest.json"):
        (model / name).write_text(name)
    (tmp_path / "out").mkdir()
    return CompileRequest(
        model=model / "model.onnx",
        signature=SIGNATURE,
        workdir=tmp_path / "out",
        precision="fp32",
        target=Target(name="here", budget=Budget(latency_p50_ms=5.0), run=RunSettings(options={"a": 1})),
        options={"level": 3, "fast": True, "mode": "x", "ratio": 0.5},
    )
