"""int8-weights and int4-weights: blocks of a weight share a scale; activations and products stay fp32."""

from __future__ import annotations

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import HQQWeightOnlyQuantConfig, MatMulNBitsQuantizer

from edgekit.api import BackendUnavailable, CompileFailed, CompileRequest, NothingLowered, all_nodes
from edgekit_onnxruntime.embeddings import quantize_embeddings
from edgekit_onnxruntime.plan import Plan
from edgekit_onnxruntime.rewrite import (
    fold_transposes,
    forget_shapes_of_weights,
    split_gemms,
    split_shared_weights,
)
from edgekit_onnxruntime.settings import LIBRARY_ERRORS, Settings, is_large, library, mark, written

BITS = {"int8-weights": 8, "int4-weights": 4}
OPERATOR = "MatMulNBits"
#: MatMulNBits' accuracy level that leaves activations in fp32; 4 would round them to int8.
_FP32_ACTIVATIONS = 1


def build(
    request: CompileRequest, planned: Plan, settings: Settings
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Write the model with smaller weights; return its files and what is to be noted."""
    model = onnx.load(request.model)
    forget_shapes_of_weights(model.graph)
    fold_transposes(model)
    split_shared_weights(model.graph)
    split_gemms(model.graph, settings.keep_high)
    tables = quantize_embeddings(model, settings.keep_high) if settings.embeddings else 0
    mark(model, request.precision)
    made = _quantized(model, request.precision, settings)
    built = sum(node.op_type == OPERATOR for node in all_nodes(made.graph))
    if not built:
        raise NothingLowered(
            f"onnxruntime quantized none of {len(planned.multiplied)} multiplications",
            hint="compile for fp32",
        )
    large = is_large(made)
    location = f"{settings.output.name}.data" if large else None
    onnx.save_model(made, settings.output, save_as_external_data=large, location=location)
    notes = (
        f"{built} of {len(planned.multiplied)} multiplications read {BITS[request.precision]}-bit weights "
        f"in blocks of {settings.block_size}, by {settings.algorithm}; activations and products are fp32",
        f"{tables} embedding tables are int8",
    )
    return written(settings.output), notes


def _quantized(model: onnx.ModelProto, precision: str, settings: Settings) -> onnx.ModelProto:
    bits = BITS[precision]
    hqq = HQQWeightOnlyQuantConfig(block_size=settings.block_size, bits=bits)
    try:
        with library():
            quantizer = MatMulNBitsQuantizer(
                model,
                bits=bits,
                block_size=settings.block_size,
                is_symmetric=settings.symmetric,
                accuracy_level=_FP32_ACTIVATIONS,
                nodes_to_exclude=list(settings.keep_high),
                algo_config=hqq if settings.algorithm == "hqq" else None,
            )
            quantizer.process()
    except ImportError as error:
        raise BackendUnavailable(
            f"algorithm hqq needs what is not installed: {error}", hint="pip install torch, or take rtn"
        ) from error
    except LIBRARY_ERRORS as error:
        raise CompileFailed(
            f"onnxruntime could not make the weights smaller: {type(error).__name__}: {error}",
            hint="name the troubled nodes in keep_high, or compile for fp32",
        ) from error
    made: onnx.ModelProto = quantizer.model.model
    for node in all_nodes(made.graph):
        if node.op_type == OPERATOR and not any(a.name == "accuracy_level" for a in node.attribute):
            node.attribute.append(onnx.helper.make_attribute("accuracy_level", _FP32_ACTIVATIONS))
    return made
