"""Numbers of 8 bits that products are computed with: int8, and float8 with 4 bits of exponent (e4m3)."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx

from edgekit_runtime.session import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Eight:
    """An 8-bit number format. largest: the last number used, as many below zero as above.

    whole: its numbers are equally far apart, so that a few large ones cost all others their bits;
    operators: the products that are put in it.
    """

    word: str
    code: int
    largest: float
    whole: bool
    operators: tuple[str, ...]

    def stored(self, array: Array) -> Array:
        """The numbers of an fp32 array in this format: to the nearest, the even one of two, no larger."""
        inside = np.clip(np.rint(array) if self.whole else array, -self.largest, self.largest)
        return inside.astype(np.int8 if self.whole else ml_dtypes.float8_e4m3fn)


INT8 = Eight(
    word="int8",
    code=onnx.TensorProto.INT8,
    largest=127.0,
    whole=True,
    operators=("Conv", "MatMul", "Gemm"),
)
#: "FP8 is only supported for matrix multiplications": TensorRT for RTX, "Working with Quantized Types".
#: Convolutions with such weights are built as well; what they are computed in is not said.
FP8 = Eight(
    word="fp8",
    code=onnx.TensorProto.FLOAT8E4M3FN,
    largest=448.0,
    whole=False,
    operators=("MatMul", "Gemm"),
)
EIGHTS = {eight.word: eight for eight in (INT8, FP8)}
