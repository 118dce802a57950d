"""Why torch could not export a model: which operator, in which module, or which axis and constraint.

torch wraps the reason in pages about how to report it. What is said here comes from its exceptions:
their texts, and the stack frames in which they were raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from edgekit.errors import ExportFailed
from edgekit.exporting.choosing import nearest_task

if TYPE_CHECKING:
    import torch

    from edgekit_runtime.values import Signature

#: The name of the exported module inside the one that is traced.
WRAPPED = "model"
#: One shape, for a model whose code does not allow more.
_STATIC = "or export it at one shape: --static (static=True in Python)"
_OPERATOR = re.compile(r"translating node .*?target=(?:torch\.ops\.)?([\w.]+)\]", re.DOTALL)
_UNKNOWN_OPERATOR = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)', overload='(\w+)'\)>")
_FIXED = ("specialized", "Constraints violated", "was inferred to be", "inconsistencies were found")
#: Where a size comes from, which torch repeats behind the name of each axis.
_SOURCE_OF_SIZE = re.compile(r" = L\[.*?\]\.(?:size\(\)|shape)\[\d+\]")
_MOST_CHARACTERS = 600


def explain(problem: Exception, module: torch.nn.Module) -> ExportFailed:
    """The error that says what stopped torch. `module`: what was traced."""
    chain = list(_chain(problem))
    text = "\n".join(map(str, chain))
    operator = _OPERATOR.search(text)
    if operator is not None:
        return _no_operator(operator[1], chain, text, module)
    reason = _innermost(chain)
    if "data-dependent" in text:
        return ExportFailed(
            f"torch cannot export the model: its code decides by the values of a tensor"
            f"{_code(chain, module)}: {reason}",
            hint="a graph has no such branches: compute both sides and choose with torch.where, or decide"
            " before forward",
        )
    if any(word in text for word in _FIXED) or ("not in" in reason and "Dim" in reason):
        return fixed_axis(constraints(str(chain[-1])) or reason)
    return ExportFailed(
        f"torch cannot export the model: {reason}{_code(chain, module)}",
        hint="the reason is in the module's code; `torch.export.export` shows it with its stack",
    )


def fixed_axis(reason: str) -> ExportFailed:
    """An axis was to vary and cannot. reason: the constraint that torch found, or what came out."""
    return ExportFailed(
        f"torch cannot export the model: an axis cannot vary: {reason}",
        hint=f"mend the code that needs this size, leave the axis out of dynamic_axes, {_STATIC}",
    )


def constraints(text: str) -> str:
    """The constraints that torch lists in an error, without where each size comes from."""
    found = re.findall(r"^\s*- (.+(?:\n(?!\s*-|Suggested|\s*$).+)*)", text, re.MULTILINE)
    words = (_SOURCE_OF_SIZE.sub("", " ".join(item.split())) for item in found)
    said = dict.fromkeys(item.partition(" If you're using")[0].rstrip(".") for item in words)
    return "; ".join(said)[:_MOST_CHARACTERS]


def found_fixed(found: Signature, axes: Mapping[str, Mapping[int, str]]) -> str:
    """Which axis that was to vary came out fixed; "" when none did. It would break at the next shape."""
    for spec in found.inputs:
        for axis, name in axes.get(spec.name, {}).items():
            if spec.shape[axis] != name:
                return f"{name!r} of {spec.name!r} was fixed at {spec.shape[axis]}"
    return ""


def why_fixed(module: torch.nn.Module, feeds: Sequence[torch.Tensor], shapes: Any) -> str:
    """The constraint for which torch fixed an axis without a word; "" when it does not say.

    The exporter tries again with torch's own suggestion when a constraint is violated.
    """
    import torch

    try:
        torch.export.export(module, tuple(feeds), dynamic_shapes=shapes, strict=False)
    except (RuntimeError, ValueError, TypeError) as problem:
        return constraints("\n".join(map(str, _chain(problem))))
    return ""


def _no_operator(
    operator: str, chain: Sequence[BaseException], text: str, module: torch.nn.Module
) -> ExportFailed:
    unknown = _UNKNOWN_OPERATOR.search(text)
    where = _module_of_node(chain)
    inside = f" in {where}" if where else ""
    what = "has no ONNX form" if unknown else f"cannot be written as ONNX here: {_innermost(chain)}"
    near = nearest_task(type(module).__name__)
    return ExportFailed(
        f"torch cannot export the model: the operator {operator}{inside} {what}",
        hint="write that step with operators that ONNX has, or keep it outside the model"
        + (f"; nearest task that is exported: {near}" if near else ""),
    )


def _chain(problem: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, outermost first."""
    seen: set[int] = set()
    at: BaseException | None = problem
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _innermost(chain: Sequence[BaseException]) -> str:
    """The first paragraph of the cause."""
    paragraph = str(chain[-1]).strip().partition("\n\n")[0]
    shown = " ".join(paragraph.split())[:_MOST_CHARACTERS]
    return f"{type(chain[-1]).__name__}: {shown}" if shown else type(chain[-1]).__name__


def _frames(chain: Sequence[BaseException]) -> Iterator[tuple[FrameType, int]]:
    """The frames of every error and their lines, the innermost of the innermost error last."""
    for problem in chain:
        trace = problem.__traceback__
        while trace is not None:
            yield trace.tb_frame, trace.tb_lineno
            trace = trace.tb_next


def _module_of_node(chain: Sequence[BaseException]) -> str:
    """The path of the module that holds the node which the exporter was at."""
    import torch

    found = ""
    for frame, _ in _frames(chain):
        node = frame.f_locals.get("node")
        if isinstance(node, torch.fx.Node):
            stack = list(node.meta.get("nn_module_stack", {}).values())
            path, kind = stack[-1][:2] if stack else ("", "")
            name = kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]
            found = f"{inner_path(str(path))} ({name})" if inner_path(str(path)) else name
    return found


def inner_path(path: str) -> str:
    """The path of a module inside the one that is exported, without the wrapper's name."""
    return path.removeprefix("L['self'].").removeprefix(WRAPPED).removeprefix(".")


def _code(chain: Sequence[BaseException], module: torch.nn.Module) -> str:
    """ " in MODULE (FILE:LINE)": the innermost module of the model that was at work; "" when unknown."""
    import torch

    names = {id(part): name for name, part in module.named_modules()}
    found = ""
    for frame, line in _frames(chain):
        part = frame.f_locals.get("self")
        if isinstance(part, torch.nn.Module) and id(part) in names:
            name = names[id(part)] or type(part).__name__
            found = f" in {name} ({Path(frame.f_code.co_filename).name}:{line})"
    return found
