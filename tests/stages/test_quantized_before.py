"""An ONNX file that is quantized already goes the whole way in the precision that it has, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import PrecisionNotGiven
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.export import export
from edgekit.stages.parents import table_of
from tests.stages.averaging import averaging_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    folder = tmp_path_factory.mktemp("quantized")
    source = averaging_model(folder / "source") / "model.onnx"
    quantize_dynamic(source, folder / "quantized.onnx", op_types_to_quantize=["MatMul"])
    export(folder / "quantized.onnx", folder / "model")
    return folder / "model"


@pytest.mark.parametrize("precision", ["int8", "auto"])
def test_it_is_passed_through_and_said_to_be_so(model: Path, tmp_path: Path, precision: str) -> None:
    options = CompileOptions(backend="onnxruntime", precision=precision, max_seconds=0.0)
    table = table_of(compile_model(model, tmp_path / "a", options).manifest.artifact)
    assert table.precision == table.recipe.precision == "int8"
    assert any("was quantized before it came here" in note for note in table.notes)
    assert any("fp32 cannot be built" in note for note in table.notes)


def test_another_precision_is_refused_with_the_word_for_its_own(model: Path, tmp_path: Path) -> None:
    with pytest.raises(PrecisionNotGiven, match="quantized already, to int8") as caught:
        compile_model(model, tmp_path / "a", CompileOptions(backend="onnxruntime"))
    assert caught.value.hint.startswith("--precision int8 passes it through")
