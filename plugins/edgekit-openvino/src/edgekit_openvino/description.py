"""What an artifact says of itself, kept in the model file: OpenVINO's format has no place for it.

Written by the compiler, read when a session opens. Runs where edgekit is not installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from edgekit_openvino.engine import HINTS, ov
from edgekit_runtime.codec import signature_from_json, to_json
from edgekit_runtime.errors import OpenFailed, ProtocolError
from edgekit_runtime.values import Signature, TensorSpec

_SIGNATURE = ["edgekit", "signature"]
_PRECISION = ["edgekit", "precision"]
_REST = ["edgekit", "rest"]

_DTYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u8": "uint8",
    "boolean": "bool",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Of an artifact. rest: precision of what stays high (fp32 or bf16)."""

    signature: Signature
    precision: str
    rest: str = "fp32"

    def write(self, model: ov.Model) -> None:
        """Put it into the model, which is to be saved."""
        model.set_rt_info(json.dumps(to_json(self.signature), sort_keys=True), _SIGNATURE)
        model.set_rt_info(self.precision, _PRECISION)
        model.set_rt_info(self.rest, _REST)


def read_description(model: ov.Model, path: Path) -> Description:
    """What the compiler wrote, checked against the tensors that are really there. Raises `OpenFailed`."""
    if not model.has_rt_info(_SIGNATURE) or not model.has_rt_info(_PRECISION):
        raise OpenFailed(f"{path} was not made by edgekit-openvino", hint="compile the model with edgekit")
    try:
        found = Description(
            signature=signature_from_json(json.loads(_text(model, _SIGNATURE))),
            precision=_text(model, _PRECISION),
            rest=_text(model, _REST, "fp32"),
        )
    except (json.JSONDecodeError, ProtocolError) as error:
        raise OpenFailed(f"{path} describes itself wrongly: {error}", hint="compile it again") from error
    if found.rest not in HINTS:
        raise OpenFailed(f"{path} describes itself wrongly: rest {found.rest!r}", hint="compile it again")
    mismatch = signature_mismatch(model, found.signature)
    if mismatch:
        raise OpenFailed(f"{path}: {mismatch}", hint="compile it again")
    return found


def signature_mismatch(model: ov.Model, signature: Signature) -> str:
    """In what the model's tensors differ from `signature`; "" when they fit."""
    for ports, specs in ((model.inputs, signature.inputs), (model.outputs, signature.outputs)):
        if len(ports) != len(specs):
            return f"it has {len(ports)} tensors where its signature has {len(specs)}"
        for spec in specs:
            place = place_of(ports, spec)
            if place < 0:
                return f"it has no tensor {spec.name!r}"
            found = _DTYPES.get(ports[place].element_type.to_string(), "?")
            if found != spec.dtype or not _fits(ports[place].partial_shape, spec):
                wanted = f"{spec.dtype}{list(spec.shape)}"
                return f"tensor {spec.name!r} is {found}{ports[place].partial_shape}, not {wanted}"
    return ""


def place_of(ports: list[ov.Output], spec: TensorSpec) -> int:
    """Which of the ports carries the tensor's name; -1 when none does."""
    return next((place for place, port in enumerate(ports) if spec.name in port.get_names()), -1)


def _fits(shape: ov.PartialShape, spec: TensorSpec) -> bool:
    if shape.rank.is_dynamic:
        return True
    if len(shape) != len(spec.shape):
        return False
    return all(
        dimension.is_dynamic or isinstance(size, str) or dimension.get_length() == size
        for dimension, size in zip(shape, spec.shape, strict=True)
    )


def _text(model: ov.Model, key: list[str], otherwise: str = "") -> str:
    return str(model.get_rt_info(key).value) if model.has_rt_info(key) else otherwise
