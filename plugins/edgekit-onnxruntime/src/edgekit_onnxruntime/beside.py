"""Writing a model with its weights in a file beside it.

protobuf takes up to three times the size of a model while it writes the model's own weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx.external_data_helper import uses_external_data

#: Smaller tensors stay in the model: shapes, scales, biases.
SMALL = 1024


def save_beside(model: onnx.ModelProto, outputs: Sequence[onnx.ValueInfoProto], path: Path) -> bool:
    """Write `model`, which stays as it is, to `path`, with these outputs and its large weights in PATH.data.

    Weights of a model that has some in a file of its own stay where they are. Returns whether it has.
    """
    there = any(uses_external_data(tensor) for tensor in model.graph.initializer)
    source = model.graph
    graph = onnx.GraphProto(
        name=source.name, node=source.node, input=source.input, sparse_initializer=source.sparse_initializer
    )
    graph.output.extend(outputs)
    beside = path.with_name(f"{path.name}.data")
    with beside.open("wb") as stream:
        for tensor in source.initializer:
            if there or len(tensor.raw_data) <= SMALL:
                graph.initializer.append(tensor)
                continue
            entries = {"location": beside.name, "offset": stream.tell(), "length": len(tensor.raw_data)}
            stream.write(tensor.raw_data)
            graph.initializer.append(
                onnx.TensorProto(
                    name=tensor.name,
                    data_type=tensor.data_type,
                    dims=tensor.dims,
                    data_location=onnx.TensorProto.EXTERNAL,
                    external_data=[
                        onnx.StringStringEntryProto(key=key, value=str(value))
                        for key, value in entries.items()
                    ],
                )
            )
    small = onnx.ModelProto(
        ir_version=model.ir_version,
        opset_import=model.opset_import,
        functions=model.functions,
        graph=graph,
    )
    path.write_bytes(small.SerializeToString())
    return there
