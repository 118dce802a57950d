"""What the exporter leaves behind and no device needs.

* Notes on every node: Python stack traces with paths of this machine, module hierarchies, fx source. What
  people need of them becomes the node's name: "encoder.layer.0.attention.query/MatMul".
* Inferred shapes of inner values. They are no information (every engine infers its own), they would
  have to be kept right by whoever edits the graph, and engines act on them: fusions that they enable
  made a 6-layer encoder 10 % slower than the same graph without.
* The name of the wrapper in front of every weight, and names that torch gave to inner values when an
  input or output of the model already had them (such a file is not valid).
* Constants and nodes that nothing uses.
* Second copies of a table: an index or a mask that each layer made for itself.

torch's exporter has folded constants and removed common subexpressions already.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from edgekit.exporting.failing import inner_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from edgekit_runtime.session import Array

#: The exporter's note of the modules that a node comes from, the outermost first, the operator last.
SCOPES = "pkg.torch.onnx.name_scopes"
#: Numbers that two tables are told apart by before all of them are compared.
_SAMPLE = 64


def clean(model: ir.Model, *, inputs: Sequence[str], outputs: Sequence[str], prefix: str) -> None:
    """Clean the graph in place, and name its inputs and outputs. It computes the same."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass, RemoveUnusedOpsetsPass

    RemoveUnusedNodesPass()(model)
    RemoveUnusedOpsetsPass()(model)
    _merge_equal(model.graph)
    _name_nodes(model.graph)
    _forget_origins(model)
    _forget_inner_shapes(model.graph)
    _name_ports(model.graph, inputs, outputs)
    _shorten_names(model.graph, prefix)


def _merge_equal(graph: ir.Graph) -> None:
    """One of the initializers that are equal bit by bit. torch has merged those of up to 1024 numbers.

    Vectors stay: little is gained, and quantizers like a bias to have one reader.
    """
    found: dict[object, list[tuple[ir.Value, Array]]] = {}
    for name, value in list(graph.initializers.items()):
        bits = _bits(value)
        if bits is None or bits.ndim < 2:
            continue
        alike = found.setdefault((bits.dtype, bits.shape, bits.flat[:_SAMPLE].tobytes()), [])
        original = next((each for each, known in alike if np.array_equal(known, bits)), None)
        if original is None:
            alike.append((value, bits))
        else:
            value.replace_all_uses_with(original)
            graph.initializers.pop(name)


def _bits(value: ir.Value) -> Array | None:
    """The values as unsigned numbers, so that NaN and -0.0 are compared like any other; None of texts."""
    tensor = value.const_value
    if tensor is None or value.is_graph_input() or value.is_graph_output():
        return None
    array: Array = tensor.numpy()
    width = array.dtype.itemsize
    return array.view(f"u{width}") if array.dtype.kind != "O" and width in (1, 2, 4, 8) else None


def _name_nodes(graph: ir.Graph) -> None:
    """Each by the torch module that it belongs to and its operator, and a number where there are several."""
    taken: Counter[str] = Counter()
    for node in graph:
        scopes = re.findall(r"'([^']*)'", node.metadata_props.get(SCOPES, ""))
        module = inner_path(scopes[-2]) if len(scopes) > 1 else ""
        module = "" if module.startswith("_") else module  # torch's word for a node of no module
        name = f"{module}/{node.op_type}" if module else node.op_type
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"


def _forget_origins(model: ir.Model) -> None:
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            value.doc_string = None
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
        value.doc_string = None


def _forget_inner_shapes(graph: ir.Graph) -> None:
    inner = [value for node in graph for value in node.outputs if not value.is_graph_output()]
    for value in (*inner, *graph.initializers.values()):  # an initializer's tensor has its own
        value.shape = None
        value.type = None


def _name_ports(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    reserved = {*inputs, *outputs}
    ports = (*graph.inputs, *graph.outputs)
    for value in (*graph.initializers.values(), *(value for node in graph for value in node.outputs)):
        if value.name in reserved and not any(value is port for port in ports):
            value.name = f"{value.name}.inner"
    for port, name in zip(ports, (*inputs, *outputs), strict=True):
        port.name = name


def _shorten_names(graph: ir.Graph, prefix: str) -> None:
    taken = {value.name for value in graph.inputs} | {value.name for node in graph for value in node.outputs}
    for value in list(graph.initializers.values()):
        name = value.name or ""
        short = name.removeprefix(prefix)
        if short != name and short not in taken and short not in graph.initializers:
            value.name = short
