"""A folder of half-precision weights is exported in fp32, exactly, and says what they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

import edgekit


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("config_knows", [True, False])
def test_its_weights_are_raised_exactly_and_its_answers_are_those_in_fp32(
    tiny: Path, tmp_path: Path, dtype: str, config_knows: bool
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "half"))
    weights = {
        name: tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = dtype if config_knows else "float32"
    (folder / "config.json").write_text(json.dumps(config))

    made = edgekit.export(folder, tmp_path / "model")
    table = made.manifest.model
    assert table is not None
    assert table.source["dtype"] == dtype
    assert {spec.dtype for spec in table.signature.outputs} == {"float32"}
    assert max(check.max_abs_error for check in table.checks) < table.tolerance.atol
    stored = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load(made.path / "model.onnx").graph.initializer
    }
    name = "bert.embeddings.word_embeddings.weight"
    assert stored[name].dtype == np.float32
    assert np.array_equal(stored[name], weights[name].float().numpy())
