"""The shape at which latency is promised: a size for every symbolic axis of the model."""

from __future__ import annotations

from edgekit.errors import TargetFileError
from edgekit.files.tables import nearest
from edgekit.targets.rules import KNOWN_AXES
from edgekit.values import Workload
from edgekit_runtime.values import Signature


def workload_shape(workload: Workload, signature: Signature) -> dict[str, int]:
    """The size of each symbolic axis of the model's inputs, in the order the model names them.

    Raises TargetFileError for a size of an axis that the model lacks, and for an axis without one.
    """
    axes = _symbolic_axes(signature)
    for axis in workload.axes:
        if axis not in axes:
            hint = nearest(axis, axes) if axes else "the model has no symbolic axis; take the key out"
            raise TargetFileError(f"[workload.axes] gives `{axis}`, an axis that the model lacks", hint=hint)
    sizes = {axis: getattr(workload, axis) for axis in KNOWN_AXES} | dict(workload.axes)
    for axis, tensor in axes.items():
        if not axis.strip(" ?"):
            raise TargetFileError(
                f"input `{tensor}` of the model has a symbolic axis without a name",
                hint="export the model again with named axes: the workload gives sizes by name",
            )
        if axis not in sizes:
            raise TargetFileError(
                f"the workload has no size for axis `{axis}` of the model's input `{tensor}`",
                hint=f"add `{_key(axis)} = ...` to [workload.axes] of the target",
            )
    return {axis: sizes[axis] for axis in axes}


def _symbolic_axes(signature: Signature) -> dict[str, str]:
    """Each symbolic axis with the first input that has it."""
    axes: dict[str, str] = {}
    for tensor in signature.inputs:
        for axis in tensor.shape:
            if isinstance(axis, str):
                axes.setdefault(axis, tensor.name)
    return axes


def _key(axis: str) -> str:
    bare = axis.isascii() and axis.replace("-", "_").isidentifier()
    return axis if bare else f'"{axis}"'
