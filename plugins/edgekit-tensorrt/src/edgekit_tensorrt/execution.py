"""What TensorRT executes: layers and their types from its engine inspector, times from its profiler.

The inspector's JSON is read as NVIDIA documents it (developer guide, "Engine Inspector"; for 11.x "Migrating
IEngineInspector Usage from TensorRT 10.x to 11.x"). It tells types only of engines that were built with
detailed profiling verbosity and, where shapes are free, only for a context whose shapes are set.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgekit_runtime.errors import RunFailed
from edgekit_runtime.values import OperatorTime, Placement, PlacementRow
from edgekit_tensorrt.driver import DEVICE

#: Types as the inspector spells them, alone ("Half", "FP8") or in a format ("Row major linear FP16 format").
_WORDS = {
    "int8": "int8",
    "fp8": "fp8",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "half": "fp16",
    "fp16": "fp16",
    "float16": "fp16",
    "float": "fp32",
    "fp32": "fp32",
    "float32": "fp32",
}
_NARROWEST_FIRST = ("int8", "fp8", "fp16", "bf16", "fp32")
#: These change a type or a layout, so the wider side says what was computed in.
_CONVERSIONS = ("Cast", "Dequantize", "NoOp", "Quantize", "Reformat")

JsonObject = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of the executed engine. told: whether the inspector gave a floating or int8 type of it."""

    name: str
    kind: str
    precision: str
    told: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """The layers that ran; milliseconds: mean time of each, by its name; source: how this is known."""

    layers: tuple[Layer, ...]
    milliseconds: Mapping[str, float]
    source: str

    def placement(self) -> Placement:
        """Layers and time by precision. There is one device: the engine has no other."""
        groups: dict[str, list[Layer]] = defaultdict(list)
        for layer in self.layers:
            groups[layer.precision].append(layer)
        total = sum(self.milliseconds.get(layer.name, 0.0) for layer in self.layers)
        rows = tuple(
            PlacementRow(
                precision=precision,
                device=DEVICE,
                nodes=len(layers),
                time_share=sum(self.milliseconds.get(item.name, 0.0) for item in layers) / total
                if total
                else None,
            )
            for precision, layers in sorted(groups.items())
        )
        silent = sum(not layer.told for layer in self.layers)
        note = f"; {silent} layers without a type are counted as fp32" if silent else ""
        return Placement(rows=rows, source=self.source + note)

    def operators(self) -> tuple[OperatorTime, ...]:
        """Each layer's share of the time, costliest first; empty when no layer was timed."""
        known = {layer.name: layer for layer in self.layers}
        total = sum(self.milliseconds.values())
        if not total:
            return ()
        return tuple(
            OperatorTime(
                name=name,
                op_type=known[name].kind if name in known else "",
                precision=known[name].precision if name in known else "fp32",
                device=DEVICE,
                share=spent / total,
            )
            for name, spent in sorted(self.milliseconds.items(), key=lambda item: item[1], reverse=True)
        )


def read_layers(text: str) -> tuple[Layer, ...]:
    """The layers in what `get_engine_information` says as JSON. Raises `RunFailed` for anything else."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise RunFailed(f"TensorRT's engine inspector did not answer in JSON: {error}") from error
    found = data.get("Layers") if isinstance(data, dict) else None
    if not isinstance(found, list):
        raise RunFailed("TensorRT's engine inspector lists no layers")
    return tuple(_layer(item) for item in found)


def _layer(item: object) -> Layer:
    if not isinstance(item, dict):  # an engine built with less verbosity: the layer's name alone
        return Layer(name=str(item), kind="", precision="fp32", told=False)
    kind = str(item.get("LayerType", ""))
    inputs, outputs = list(_types(item, "Inputs", "Weights")), list(_types(item, "Outputs"))
    if kind in _CONVERSIONS:
        precision = _first(_NARROWEST_FIRST[::-1], inputs + outputs)
    else:
        precision = _first(_NARROWEST_FIRST, inputs or outputs)
    return Layer(
        name=str(item.get("Name", "")),
        kind=kind,
        precision=precision or "fp32",
        told=bool(precision) or _moves_whole_numbers(item),
    )


def _types(item: JsonObject, *keys: str) -> Iterator[str]:
    """edgekit's words for the floating and int8 types of a layer's tensors."""
    for text in _type_texts(item, *keys):
        for token in re.findall(r"[A-Za-z]+[0-9]*", text):
            word = _WORDS.get(token.lower())
            if word:
                yield word


def _type_texts(item: JsonObject, *keys: str) -> Iterator[str]:
    """What stands under "Format/Datatype" in 10.x, "DataType" in 11.x, and "Type" of weights."""
    for key in keys:
        value = item.get(key)
        tensors = value if isinstance(value, list) else [value]
        for tensor in tensors:
            if isinstance(tensor, dict):
                yield from (str(text) for name, text in tensor.items() if name.lower().endswith("type"))


def _moves_whole_numbers(item: JsonObject) -> bool:
    """Whether types were told, all of them of whole numbers or flags: such a layer counts as fp32."""
    texts = " ".join(_type_texts(item, "Inputs", "Outputs")).lower()
    return any(word in texts for word in ("int32", "int64", "bool"))


def _first(order: tuple[str, ...], present: list[str]) -> str:
    return next((word for word in order if word in present), "")
