"""What the engine inspector and the profiler say, made sense of.

The JSON here is written after NVIDIA's documentation of the format; none of it was recorded from an engine,
for the inspector needs a loaded engine and thus a GPU.
"""

from __future__ import annotations

import json

import pytest

from edgekit_runtime.errors import RunFailed
from edgekit_tensorrt.execution import Execution, Layer, read_layers

JsonObject = dict[str, object]


def tensor(kind: str, key: str = "Format/Datatype") -> JsonObject:
    return {"Name": "t", "Location": "Device", "Dimensions": [1, 8], key: kind}


def layer(name: str, kind: str, inputs: list[JsonObject], outputs: list[JsonObject]) -> JsonObject:
    return {"Name": name, "LayerType": kind, "Inputs": inputs, "Outputs": outputs, "TacticName": ""}


def one(item: JsonObject | str) -> Layer:
    (found,) = read_layers(json.dumps({"Layers": [item], "Bindings": ["x", "y"]}))
    return found


class TestPrecisions:
    @pytest.mark.parametrize(
        ("told", "precision"),
        [
            ("Row major linear FP32 format", "fp32"),
            ("Row major linear FP16 format", "fp16"),
            ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
            ("Float", "fp32"),
            ("Half(64,1:8)", "fp16"),
            ("BFloat16", "bf16"),
            ("FP8", "fp8"),
            ("Row major linear FP8E4M3 format", "fp8"),
        ],
    )
    def test_a_layer_computes_in_what_comes_in(self, told: str, precision: str) -> None:
        found = one(layer("product", "MatrixMultiply", [tensor(told)], [tensor("Float")]))
        assert (found.precision, found.told) == (precision, True)

    def test_version_11_says_the_type_apart_from_the_format(self) -> None:
        split = tensor("Half", "DataType") | {"Format": "Row major linear FP16 format (kLINEAR)"}
        assert one(layer("product", "gemm", [split], [split])).precision == "fp16"

    def test_int8_weights_and_inputs_make_an_int8_layer_though_floats_come_out(self) -> None:
        item = layer("conv", "CaskConvolution", [tensor("Int8")], [tensor("Half")])
        item |= {"Weights": {"Type": "Int8", "Count": 64}, "Bias": {"Type": "Float", "Count": 8}}
        assert one(item).precision == "int8"

    @pytest.mark.parametrize("kind", ["Reformat", "Quantize", "Dequantize", "Cast"])
    def test_a_conversion_is_no_work_in_the_narrow_type(self, kind: str) -> None:
        assert one(layer("into", kind, [tensor("Float")], [tensor("Int8")])).precision == "fp32"
        assert one(layer("out", kind, [tensor("Int8")], [tensor("Half")])).precision == "fp16"

    @pytest.mark.parametrize("told", ["Int32", "Int64", "Bool", "Row major linear INT32 format"])
    def test_whole_numbers_count_as_fp32_and_uint8_is_no_int8(self, told: str) -> None:
        found = one(layer("shape", "kgen", [tensor(told)], [tensor(told)]))
        assert (found.precision, found.told) == ("fp32", True)
        assert one(layer("image", "kgen", [tensor("UInt8")], [tensor("Half")])).precision == "fp16"

    @pytest.mark.parametrize(
        "item", ["conv + relu", layer("x", "NoOp", [tensor("N/A due to dynamic shapes")], [])]
    )
    def test_a_layer_without_a_type_is_counted_as_fp32_and_said_so(self, item: JsonObject | str) -> None:
        found = one(item)
        assert (found.precision, found.told) == ("fp32", False)
        execution = Execution(layers=(found,), milliseconds={}, source="the inspector")
        assert "1 layers without a type are counted as fp32" in execution.placement().source


class TestAnswers:
    @pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", '{"Layers": 3}'])
    def test_an_answer_without_layers_is_an_error(self, text: str) -> None:
        with pytest.raises(RunFailed, match="engine inspector"):
            read_layers(text)

    def test_layers_and_times_are_counted_by_precision(self) -> None:
        layers = (
            Layer(name="a", kind="gemm", precision="int8", told=True),
            Layer(name="b", kind="gemm", precision="int8", told=True),
            Layer(name="c", kind="kgen", precision="fp16", told=True),
        )
        execution = Execution(
            layers=layers, milliseconds={"a": 2.0, "b": 1.0, "c": 1.0}, source="the inspector"
        )
        placement = execution.placement()
        assert [(row.precision, row.device, row.nodes, row.time_share) for row in placement.rows] == [
            ("fp16", "gpu", 1, 0.25),
            ("int8", "gpu", 2, 0.75),
        ]
        operators = execution.operators()
        assert [(item.name, item.op_type, item.share) for item in operators] == [
            ("a", "gemm", 0.5),
            ("b", "gemm", 0.25),
            ("c", "kgen", 0.25),
        ]

    def test_without_times_nothing_is_claimed_of_them(self) -> None:
        execution = Execution(
            layers=(Layer(name="a", kind="gemm", precision="fp16", told=True),),
            milliseconds={},
            source="the inspector",
        )
        assert execution.placement().rows[0].time_share is None
        assert execution.operators() == ()
