"""The shapes at which a budget is promised: a size for every symbolic axis of the model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.errors import TargetFileError, UsageError
from edgekit.files.tables import nearest
from edgekit.targets.rules import KNOWN_AXES, workload_breaches
from edgekit.values import Workload
from edgekit_runtime.values import Signature, TensorSpec

#: `Workload` as resolved comes from one shape, a mix, or the rows given as test data.
SHAPE, SHAPES, DATA = "shape", "shapes", "data"
#: Elements of one input: 128 MiB of the widest type, and some of them are sent at once.
MOST_ELEMENTS = 2**24
_SETTINGS = ("streams", "heat_seconds")
_DATA_WORDS = ("data", "from_data")
_EXAMPLES = "--workload sequence=128,batch=1, --workload data, or --workload streams=4"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadShapes:
    """A workload for one model. shapes: one, or a mix in which each has the same share of runs.

    Each holds a size for every symbolic axis, in the order the model names them. source: "shape",
    "shapes", or "data": then the rows decide, and `shapes` holds what the target's sizes give.
    """

    shapes: tuple[Mapping[str, int], ...]
    source: str = SHAPE

    @property
    def largest(self) -> Mapping[str, int]:
        """The shape with the most elements; the first of several."""
        return max(self.shapes, key=lambda shape: math.prod(shape.values()))


def workload_shapes(workload: Workload, signature: Signature) -> WorkloadShapes:
    """Every shape of the workload as the model needs it.

    Raises TargetFileError for an axis that the model lacks, one without a size, and for inputs that
    no launch could hold.
    """
    axes = _symbolic_axes(signature)
    if not workload.shapes:
        shape = _resolve(workload, axes)
        _refuse_huge(shape, signature)
        return WorkloadShapes(shapes=(shape,), source=DATA if workload.from_data else SHAPE)
    shapes: list[Mapping[str, int]] = []
    for number, sizes in enumerate(workload.shapes, start=1):
        lacking = [axis for axis in sizes if axis not in axes]
        if lacking:
            hint = nearest(lacking[0], axes) if axes else "the model has no symbolic axis; take the shape out"
            problem = f"shape {number} of the workload gives `{lacking[0]}`, an axis that the model lacks"
            raise TargetFileError(problem, hint=hint)
        shape = _resolve(workload, axes, sizes)
        _refuse_huge(shape, signature)
        if shape in shapes:
            twin = shapes.index(shape) + 1
            raise TargetFileError(
                f"shapes {twin} and {number} of the workload are both {shape_text(shape)}",
                hint="name each shape once: every one gets the same share of runs",
            )
        shapes.append(shape)
    return WorkloadShapes(shapes=tuple(shapes), source=SHAPES if len(shapes) > 1 else SHAPE)


def refuse_beyond(found: WorkloadShapes, axes: Mapping[str, tuple[int, int | None]]) -> None:
    """Raise TargetFileError for a size that the model cannot take. axes: lowest and highest, where known."""
    for shape in () if found.source == DATA else found.shapes:
        for axis, size in shape.items():
            low, high = axes.get(axis, (1, None))
            if size < low or (high is not None and size > high):
                nearest_size = low if size < low else high
                raise TargetFileError(
                    f"the workload has {axis} {size}, and the model takes {low} to {high or 'any'}",
                    hint=f"give --workload {axis}={nearest_size}, or the size in [workload] of the target",
                )


def within_ranges(
    shapes: Sequence[Mapping[str, int]], axes: Mapping[str, tuple[int, int | None]]
) -> tuple[Mapping[str, int], ...]:
    """The shapes with every size brought into what the model takes, for figures that promise nothing."""

    def size(axis: str, wanted: int) -> int:
        low, high = axes.get(axis, (1, None))
        return max(low, wanted if high is None else min(wanted, high))

    return tuple({axis: size(axis, wanted) for axis, wanted in shape.items()} for shape in shapes)


def shape_text(shape: Mapping[str, int]) -> str:
    """For people: "batch 1, sequence 16"."""
    return ", ".join(f"{axis} {size}" for axis, size in shape.items())


def apply_workload(workload: Workload, given: Sequence[str]) -> Workload:
    """The workload with those of the command line put over it; what they leave open is kept.

    given: each a shape ("sequence=128,batch=1"; several are a mix), "data", or settings
    ("streams=4", "heat_seconds=60"). Raises UsageError.
    """
    shapes: list[dict[str, int]] = []
    settings: dict[str, float] = {}
    from_data = False
    for text in given:
        sizes, found, data = _parse(text)
        for key in found:
            if key in settings:
                raise UsageError(f"--workload {key} is given twice", hint="give each setting once")
        settings |= found
        from_data = from_data or data
        if sizes:
            shapes.append(sizes)
    if from_data and shapes:
        raise UsageError(
            "--workload gives both a shape and `data`", hint="the rows of --data decide, or the shapes do"
        )
    if from_data or shapes:
        workload = dataclasses.replace(workload, shapes=tuple(shapes), from_data=from_data)
    if from_data:
        workload = dataclasses.replace(workload, batch=1)
    workload = dataclasses.replace(
        workload,
        streams=int(settings.get("streams", workload.streams)),
        heat_seconds=settings.get("heat_seconds", workload.heat_seconds),
    )
    for key, problem, hint in workload_breaches(workload):
        raise UsageError(f"--workload: `{key.removeprefix('workload.')}` {problem}", hint=hint)
    return workload


def _parse(text: str) -> tuple[dict[str, int], dict[str, float], bool]:
    """Sizes, settings, and whether the rows decide, of one --workload."""
    sizes: dict[str, int] = {}
    settings: dict[str, float] = {}
    data = False
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if part in _DATA_WORDS:
            data = True
            continue
        if not (key and equals and value):
            raise UsageError(
                f"--workload {text!r}: {part!r} is not name=number", hint=f"for example {_EXAMPLES}"
            )
        if key in sizes or key in settings:
            raise UsageError(f"--workload {text!r}: {key!r} is given twice", hint="give each name once")
        if key == "heat_seconds":
            settings[key] = _number(text, key, value)
        elif key in _SETTINGS:
            settings[key] = _integer(text, key, value)
        else:
            sizes[key] = _integer(text, key, value)
    return sizes, settings, data


def _integer(text: str, key: str, value: str) -> int:
    if not (value.isascii() and value.lstrip("+-").isdecimal() and len(value) < 1000):
        raise UsageError(
            f"--workload {text!r}: `{key}` is {value!r}, not a whole number", hint=f"for example {_EXAMPLES}"
        )
    return int(value)


def _number(text: str, key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(
            f"--workload {text!r}: `{key}` is {value!r}, not a number", hint="for example heat_seconds=60"
        ) from None


def _resolve(
    workload: Workload, axes: Mapping[str, TensorSpec], own: Mapping[str, int] | None = None
) -> Mapping[str, int]:
    """A size for each of the model's axes; own: sizes that go before the workload's."""
    for axis in workload.axes:
        if axis not in axes:
            hint = nearest(axis, axes) if axes else "the model has no symbolic axis; take the key out"
            raise TargetFileError(f"[workload.axes] gives `{axis}`, an axis that the model lacks", hint=hint)
    sizes = {axis: getattr(workload, axis) for axis in KNOWN_AXES} | dict(workload.axes) | dict(own or {})
    for axis, tensor in axes.items():
        if not axis.strip(" ?"):
            raise TargetFileError(
                f"input `{tensor.name}` of the model has a symbolic axis without a name",
                hint="export the model again with named axes: the workload gives sizes by name",
            )
        if axis not in sizes:
            raise TargetFileError(
                f"the workload has no size for axis `{axis}` of the model's input `{tensor.name}`",
                hint=f"add `{_key(axis)} = ...` to [workload.axes] of the target",
            )
    return {axis: sizes[axis] for axis in axes}


def _refuse_huge(shape: Mapping[str, int], signature: Signature) -> None:
    for tensor in signature.inputs:
        sizes = [shape[axis] if isinstance(axis, str) else axis for axis in tensor.shape]
        elements = math.prod(sizes)
        if elements > MOST_ELEMENTS:
            raise TargetFileError(
                f"with this workload input `{tensor.name}` has {' x '.join(map(str, sizes))} elements; "
                f"at most {MOST_ELEMENTS:,} can be measured",
                hint="give smaller sizes in [workload] or by --workload",
            )


def _symbolic_axes(signature: Signature) -> dict[str, TensorSpec]:
    """Each symbolic axis with the first input that has it."""
    axes: dict[str, TensorSpec] = {}
    for tensor in signature.inputs:
        for axis in tensor.shape:
            if isinstance(axis, str):
                axes.setdefault(axis, tensor)
    return axes


def _key(axis: str) -> str:
    bare = axis.isascii() and axis.replace("-", "_").isidentifier()
    return axis if bare else f'"{axis}"'
