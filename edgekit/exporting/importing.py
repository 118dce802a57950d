"""From an ONNX file to a graph of ours: opset raised, ports cleaned, proven against the file itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ExportFailed, SourceError
from edgekit.exporting.checks import Expected
from edgekit.exporting.choosing import LABELLED
from edgekit.exporting.imported import PROCESSOR, OnnxSource
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.subject import Case, Facts, Range
from edgekit.tasks import load_task
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.values import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from edgekit_runtime.session import Array

Answer = Expected | EdgekitError
#: An IR that every engine reads and that every opset from 18 to 23 may be written in.
_IR_VERSION = 10
#: Rows tried on axes at place 0, and sizes tried on the others until one runs.
_ROWS = (1, 2, 7)
_INNER = (7, 16, 32, 64, 224, 1)
_FIXED_CASES = 3
_LABELS = "edgekit.labels"
#: Kinds of answers whose first output has the classes on its last axis.
_COUNTED = ("classification", "multi-label", "zero-shot", "tags")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Imported:
    """The graph to be written. limits: of integer inputs, how many rows the table they index has."""

    graph: ir.Model
    facts: Facts
    limits: Mapping[str, int]


def read_onnx(source: OnnxSource, options: ExportOptions, work: Path) -> Imported:
    """Read the file, raise its opset to `options.opset` when it is below, clean its ports.

    Its processor goes to `work`. Raises SourceError.
    """
    import onnx_ir as ir

    model = ir.serde.deserialize_model(_proto(source, options.opset))
    ir.external_data.set_base_dir(model.graph, source.path.parent)
    model.ir_version = max(model.ir_version, _IR_VERSION)
    _clean_ports(source.path, model)
    _refuse_bad_weights(source.path, model)
    if source.processor is not None:
        _refuse_other_processor(source, source.processor, model)
        shutil.copytree(source.processor, work / PROCESSOR)
    return Imported(graph=model, facts=_facts(source, model, options.opset), limits=_limits(model.graph))


def original_answers(
    source: OnnxSource, imported: Imported, signature: Signature, options: ExportOptions
) -> list[Expected]:
    """What the file itself answers to seeded inputs at several sizes: these are the goldens.

    Sizes at which the file does not run are left out. Raises SourceError when none is left.
    """
    from edgekit.host.reference import open_reference

    maker = _Feeds(signature, imported.limits, options.seed)
    with open_reference(source.path, signature) as session:

        def answer(case: Case) -> Answer:
            try:
                return Expected(case=case, outputs=session.run(case.feeds))
            except EdgekitError as problem:
                if problem.code not in ("run-failed", "bad-input"):
                    raise
                return problem

        expected, problem = _try_all(maker, answer, options.axis_ranges)
    if not expected:
        reason = problem.message if problem is not None else "no size was tried"
        raise SourceError(
            f"{source.path}: does not run at any size that was tried: {reason}",
            hint="say how far its axes go: axis_ranges={NAME: (lowest, highest)}",
        )
    for item in expected:
        _refuse_bad_answers(source.path, item)
    return expected


# --- the graph ----------------------------------------------------------------------------------------


def _proto(source: OnnxSource, opset: int) -> onnx.ModelProto:
    import onnx

    raised = source.opset < opset
    proto = onnx.load(source.path, load_external_data=raised)
    if proto.functions:
        from onnx.inliner import inline_local_functions

        proto = inline_local_functions(proto)
    return _raise_opset(source.path, proto, opset) if raised else proto


def _raise_opset(path: Path, proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    from onnx import version_converter

    try:
        return version_converter.convert_version(proto, opset)
    except (version_converter.ConvertError, RuntimeError, ValueError) as problem:
        reason = " ".join(str(problem).split())[:300]
        operators = sorted({node.op_type for node in proto.graph.node}, key=len, reverse=True)
        named = next((word for word in operators if word in reason), "one of " + ", ".join(operators[:8]))
        raise SourceError(
            f"{path}: the operator {named} cannot be raised to opset {opset}: {reason}",
            hint=f"write the file with opset {opset} or a little lower, or give --opset",
        ) from problem


def _clean_ports(path: Path, model: ir.Model) -> None:
    """Weights are no inputs (old files list them as such); every axis has a name or a size."""
    import onnx_ir as ir

    graph = model.graph
    for value in [value for value in graph.inputs if value.name in graph.initializers]:
        graph.inputs.remove(value)
    _infer_outputs(path, model)
    for value in (*graph.inputs, *graph.outputs):
        if value.shape is None:
            raise SourceError(f"{path}: {value.name!r} has no shape", hint="write the file with shapes")
        dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape]
        named = [dim if dim not in (None, "") else f"{value.name}_{at}" for at, dim in enumerate(dims)]
        value.shape = ir.Shape(named)


def _infer_outputs(path: Path, model: ir.Model) -> None:
    """Shapes of outputs that the file does not declare, where ONNX can infer them."""
    import onnx
    import onnx_ir as ir

    lacking = {value.name: value for value in model.graph.outputs if value.shape is None}
    if not lacking:
        return
    try:
        proto = onnx.shape_inference.infer_shapes(ir.serde.serialize_model(model), data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as problem:
        raise SourceError(f"{path}: shapes do not fit: {problem}", hint="write the file again") from problem
    for found in ir.serde.deserialize_model(proto).graph.outputs:
        if found.name in lacking:
            lacking[found.name].shape = found.shape


def _refuse_bad_weights(path: Path, model: ir.Model) -> None:
    for name, value in model.graph.initializers.items():
        array = value.const_value.numpy() if value.const_value is not None else None
        if array is None or array.dtype.kind != "f":
            continue
        bad = int(np.isnan(array).sum())  # infinity is allowed: it is how masks are written
        if bad:
            raise SourceError(
                f"{path}: the weight {name!r} holds {bad} values that are NaN",
                hint="the training diverged; export an earlier checkpoint",
            )


def _refuse_other_processor(source: OnnxSource, folder: Path, model: ir.Model) -> None:
    from edgekit_runtime.processors import load_processor

    given, wanted = load_processor(folder).input_names, tuple(str(value.name) for value in model.graph.inputs)
    if set(given) != set(wanted):
        raise SourceError(
            f"{folder}: makes {', '.join(given)}, and {source.path.name} takes {', '.join(wanted)}",
            hint="is it the processor of another model?",
        )


def _facts(source: OnnxSource, model: ir.Model, opset: int) -> Facts:
    axes = {
        str(value.name): {
            at: dim.value for at, dim in enumerate(value.shape or ()) if not isinstance(dim, int)
        }
        for value in model.graph.inputs
    }
    raised = f"{source.opset}, raised to {opset}" if source.opset < opset else str(source.opset)
    table = {
        "kind": "ONNX file",
        "name": source.path.name,
        "opset": raised,
        "goldens": "from the file itself",
    }
    if model.producer_name:
        table["producer"] = f"{model.producer_name} {model.producer_version or ''}".strip()
    return Facts(
        task=source.task,
        answers=load_task(source.task).answers,
        axes={name: {at: str(word) for at, word in named.items()} for name, named in axes.items()},
        source=table,
        labels=_labels(source, model),
    )


def _labels(source: OnnxSource, model: ir.Model) -> tuple[str, ...]:
    """The labels that the file records, else LABEL_0 and on where its first output has one score a class."""
    answers = load_task(source.task).answers
    if answers not in LABELLED:
        return ()
    try:
        found = json.loads(model.metadata_props.get(_LABELS, "[]"))
    except ValueError:
        found = []
    if isinstance(found, list) and found:
        return tuple(map(str, found))
    shape = model.graph.outputs[0].shape
    last = shape[-1] if shape is not None and len(shape) and answers in _COUNTED else None
    if not isinstance(last, int):
        raise SourceError(
            f"{source.path}: does not say how many classes it has, and records no labels",
            hint=f"write them into its metadata as a JSON list under {_LABELS!r}",
        )
    return tuple(f"LABEL_{index}" for index in range(last))


def _limits(graph: ir.Graph) -> dict[str, int]:
    """Of each integer input that indexes a table of weights: the table's rows."""
    limits: dict[str, int] = {}
    for value in graph.inputs:
        seen, stack = set(), [value]
        while stack:
            at = stack.pop()
            for node, place in at.uses():
                if node.op_type in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten"):
                    stack += [out for out in node.outputs if id(out) not in seen]
                    seen |= {id(out) for out in node.outputs}
                table = node.inputs[0] if node.op_type == "Gather" and place == 1 else None
                axis = node.attributes.get_int("axis", 0) if table is not None else 0
                if table is not None and table.const_value is not None:
                    rows = int(table.const_value.numpy().shape[axis])
                    limits[str(value.name)] = min(rows, limits.get(str(value.name), rows))
    return limits


# --- inputs -------------------------------------------------------------------------------------------


class _Feeds:
    """Seeded inputs of any size: legal indices, masks that begin with a one, normal numbers."""

    def __init__(self, signature: Signature, limits: Mapping[str, int], seed: int) -> None:
        self.signature = signature
        self._limits = limits
        self._rng = np.random.default_rng(seed)
        places = [(at, dim) for spec in signature.inputs for at, dim in enumerate(spec.shape)]
        self.rows = list(dict.fromkeys(dim for at, dim in places if isinstance(dim, str) and at == 0))
        names = [dim for _, dim in places if isinstance(dim, str) and dim not in self.rows]
        self.inner = list(dict.fromkeys(names))

    def case(self, sizes: Mapping[str, int]) -> Case:
        shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
        feeds = {spec.name: self._array(spec, sizes) for spec in self.signature.inputs}
        return Case(name=f"random values, {shown}" if shown else "random values", feeds=feeds, golden=True)

    def _array(self, spec: TensorSpec, sizes: Mapping[str, int]) -> Array:
        shape = [dim if isinstance(dim, int) else sizes[dim] for dim in spec.shape]
        dtype = np.dtype(spec.dtype)
        if dtype.kind == "f":
            return self._rng.standard_normal(shape).astype(dtype)
        if spec.name in self._limits:
            return self._rng.integers(0, self._limits[spec.name], shape).astype(dtype)
        if not shape:
            return np.ones(shape, dtype=dtype)
        if dtype.kind == "u":
            return self._rng.integers(0, 256, shape).astype(dtype)
        mask = np.sort(self._rng.integers(0, 2, shape), axis=-1)[..., ::-1].copy()
        mask[..., :1] = 1
        return mask.astype(dtype)


def _sizes(maker: _Feeds, rows: int, inner: int, ranges: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    wanted = {**dict.fromkeys(maker.rows, rows), **dict.fromkeys(maker.inner, inner)}
    return {name: _within(size, ranges.get(name, (1, None))) for name, size in wanted.items()}


def _within(size: int, limits: Range) -> int:
    low, high = limits
    return max(low or 1, min(size, high or size))


def _plans(
    maker: _Feeds, base: Mapping[str, int], ranges: Mapping[str, tuple[int, int]]
) -> Iterator[dict[str, int]]:
    """Batches at the sizes that are known to run; then each other axis by itself, smaller and larger."""
    for rows in _ROWS:
        yield {**base, **{name: _within(rows, ranges.get(name, (1, None))) for name in maker.rows}}
    for name in maker.inner:
        low, high = ranges.get(name, (1, None))
        for size in (1, 13, 2 * base[name], low, high or 2 * base[name]):
            yield {**base, name: _within(size, (low, high))}
    yield _sizes(maker, 2, 2 * max(base.values(), default=1), ranges)


def _try_all(
    maker: _Feeds, answer: Callable[[Case], Answer], ranges: Mapping[str, tuple[int, int]]
) -> tuple[list[Expected], EdgekitError | None]:
    """The cases that run, and the last reason of one that did not."""
    if not maker.rows and not maker.inner:
        cases = (replace(maker.case({}), name=f"random values {at + 1}") for at in range(_FIXED_CASES))
        return _sorted([answer(case) for case in cases])
    problem: EdgekitError | None = None
    for sizes in (_sizes(maker, rows, inner, ranges) for rows in (2, 1) for inner in _INNER):
        first = answer(maker.case(sizes))
        if isinstance(first, Expected):
            plans = [plan for plan in _plans(maker, sizes, ranges) if plan != sizes]
            unique = {tuple(plan.items()): plan for plan in plans}.values()
            return _sorted([first, *(answer(maker.case(plan)) for plan in unique)])
        problem = first
    return [], problem


def _sorted(found: Sequence[Answer]) -> tuple[list[Expected], EdgekitError | None]:
    problems = [each for each in found if isinstance(each, EdgekitError)]
    return [each for each in found if isinstance(each, Expected)], problems[-1] if problems else None


def _refuse_bad_answers(path: Path, item: Expected) -> None:
    for name, array in item.outputs.items():
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise ExportFailed(
                f"{path}: the file itself gives NaN: output {name!r}, case {item.case.name!r}",
                hint="nothing can be proven about such a model; look at its weights and its inputs",
            )
