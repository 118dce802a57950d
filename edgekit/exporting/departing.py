"""Where a wrong graph first departs from torch: inner values of both, in the graph's order.

The graph is run with its inner values as further outputs; torch's own values come from interpreting
the program that the graph was made of. Only values that both have are compared: a torch operator may
become several nodes, of which the last is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ExportFailed
from edgekit.exporting.onnx import Traced
from edgekit.exporting.reference import reference_outputs
from edgekit_runtime.agreement import INCOMPARABLE
from edgekit_runtime.values import DTYPES, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

    from edgekit.exporting.subject import Case
    from edgekit_runtime.session import Array

OBSERVED_FILE = "observed.onnx"
#: Inner values are compared in portions of this size, so that no model's are all in memory.
PORTION_BYTES = 256 * 1024 * 1024
#: Least `relative_error` that is a departure: honest graphs stay below it at every inner value.
LEAST_DEPARTURE = 2e-5
#: Additive masks hold the lowest float; such values say nothing of a tensor's size.
_MASKED = 1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """The first node whose output departs. error: the `relative_error` of its output.

    value: its output's name in the graph; nodes: operators since the last value that agreed, the
    node itself last; module and torch_operator: where it stands in the torch model; case: the inputs.
    """

    value: str
    operator: str
    nodes: tuple[str, ...]
    module: str
    torch_operator: str
    error: float
    case: str

    def shown(self) -> str:
        """For an error message."""
        where = f" in {self.module}" if self.module else ""
        others = f", which torch computes as one with {', '.join(self.nodes[:-1])}" if self.nodes[:-1] else ""
        far = f"by {self.error:.1e} of its size" if self.error < 1 else "beyond its own size"
        return (
            f"the first node whose output departs is {self.operator} {self.value!r}"
            f" ({self.torch_operator}{where}), {far}{others}"
        )


def first_departure(
    graph: Path,
    signature: Signature,
    traced: Traced,
    case: Case,
    limit: float = LEAST_DEPARTURE,
    tell: Callable[[str], None] = lambda what: None,
) -> Departure | None:
    """Compare the ONNX file at `graph` with torch's program on one case; None when no value departs.

    Writes OBSERVED_FILE beside the graph, and removes it. Raises ExportFailed when torch's program
    cannot be interpreted, and what running the graph raises.
    """
    import onnx

    proto = onnx.load(graph, load_external_data=False)
    order = [name for node in proto.graph.node for name in node.output if name in traced.places]
    tell("a check failed: running the source operator by operator")
    sizes = _interpret(traced, case.feeds, order, keep=False)
    before = compared = 0
    for portion in _portions([name for name in order if name in sizes], sizes):
        tell(f"a check failed: comparing inner values, {compared} of {len(sizes)} agree")
        compared += len(portion)
        values = _interpret(traced, case.feeds, portion, keep=True)
        observed = _observe(graph, proto, signature, values, case.feeds)
        for name, expected in values.items():
            error = relative_error(expected, observed[name])
            at = _position(proto, name)
            if error > limit:
                place = traced.places[name]
                nodes = [node for node in proto.graph.node[before : at + 1] if _feeds(node, proto, at, name)]
                return Departure(
                    value=name,
                    operator=proto.graph.node[at].op_type,
                    nodes=tuple(node.op_type for node in nodes),
                    module=place.module,
                    torch_operator=place.operator,
                    error=error,
                    case=case.name,
                )
            before = max(before, at + 1)
    return None


def program_outputs(traced: Traced, feeds: Mapping[str, Array]) -> list[Array]:
    """What torch's program itself gives, in the order of its outputs."""
    import torch

    with torch.no_grad():
        results = torch.fx.Interpreter(traced.program.graph_module).run(*_arguments(traced.program, feeds))
    return [result.detach().numpy() for result in results if isinstance(result, torch.Tensor)]


def relative_error(expected: Array, got: Array) -> float:
    """Root mean square of the differences, each as a share of its element or of the array's own RMS.

    INCOMPARABLE for another shape, another kind of number, or NaN on one side only.
    """
    if expected.shape != got.shape or expected.dtype.kind != got.dtype.kind:
        return INCOMPARABLE
    if not expected.size:
        return 0.0
    if expected.dtype.kind != "f":
        return 0.0 if np.array_equal(expected, got) else INCOMPARABLE
    a, b = expected.astype(np.float64), got.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    if same.all():
        return 0.0
    sane = np.abs(a[np.isfinite(a) & (np.abs(a) < _MASKED)])
    size = float(np.sqrt(np.mean(sane**2))) if sane.size else 0.0
    with np.errstate(invalid="ignore"):
        shares = np.abs(a - b)[~same] / np.maximum(np.abs(a)[~same], max(size, 1e-30))
        error = float(np.sqrt(np.sum(shares**2) / a.size))
    return error if np.isfinite(error) else INCOMPARABLE


def _interpret(
    traced: Traced, feeds: Mapping[str, Array], names: Sequence[str], *, keep: bool
) -> dict[str, Array]:
    """Torch's values by their names in the graph, in the order of `names`; unless `keep`, empty stand-ins.

    A stand-in has the value's shape and no memory of its own.
    """
    import torch

    wanted = {traced.places[name].node for name in names}
    found: dict[str, Array] = {}

    class Keeping(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> object:
            result: object = super().run_node(n)
            if n.name in wanted and isinstance(result, torch.Tensor):
                array = result.detach().numpy()
                blank: Array = np.broadcast_to(np.zeros((), array.dtype), array.shape)
                found[n.name] = array.copy() if keep else blank
            return result

    with torch.no_grad():
        Keeping(traced.program.graph_module).run(*_arguments(traced.program, feeds))
    values = {name: found[traced.places[name].node] for name in names if traced.places[name].node in found}
    return {name: value for name, value in values.items() if value.dtype.name in DTYPES}


def _arguments(program: torch.export.ExportedProgram, feeds: Mapping[str, Array]) -> list[torch.Tensor]:
    """Arguments of the program's own graph: weights, constants and feeds in the order of its signature."""
    import torch

    held = {**program.constants, **program.state_dict}
    given = iter(feeds.values())
    arguments = []
    for spec in program.graph_signature.input_specs:
        value = next(given, None) if spec.kind.name == "USER_INPUT" else held.get(spec.target or "")
        if value is None:
            raise ExportFailed(f"torch's program needs {spec.target or spec.kind.name!r}, which is not held")
        tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        arguments.append(tensor)
    return arguments


def _portions(names: Sequence[str], sizes: Mapping[str, Array]) -> Iterator[list[str]]:
    portion: list[str] = []
    held = 0
    for name in names:
        if portion and held + sizes[name].nbytes > PORTION_BYTES:
            yield portion
            portion, held = [], 0
        portion.append(name)
        held += sizes[name].nbytes
    if portion:
        yield portion


def _observe(
    graph: Path,
    proto: onnx.ModelProto,
    signature: Signature,
    values: Mapping[str, Array],
    feeds: Mapping[str, Array],
) -> Mapping[str, Array]:
    """The graph's own values of these names."""
    import onnx

    observed = onnx.ModelProto()
    observed.CopyFrom(proto)
    outputs = {spec.name: spec for spec in signature.outputs}
    for name, value in values.items():
        if name not in outputs:
            kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
            observed.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, [None] * value.ndim))
            shape = tuple(f"{name}_{axis}" for axis in range(value.ndim))
            outputs[name] = TensorSpec(name=name, dtype=value.dtype.name, shape=shape)
    path = graph.with_name(OBSERVED_FILE)
    try:
        onnx.save(observed, path)
        del observed
        wanted = Signature(inputs=signature.inputs, outputs=tuple(outputs.values()))
        return reference_outputs(path, wanted, [feeds])[0]
    finally:
        path.unlink(missing_ok=True)


def _position(proto: onnx.ModelProto, name: str) -> int:
    return next(at for at, node in enumerate(proto.graph.node) if name in node.output)


def _feeds(node: onnx.NodeProto, proto: onnx.ModelProto, at: int, name: str) -> bool:
    """Whether `node` is the one that gives `name`, or gives it an input directly."""
    return name in node.output or bool(set(node.output) & set(proto.graph.node[at].input))
