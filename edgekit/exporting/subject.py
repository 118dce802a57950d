"""What is exported, whatever it came from: a module, how to trace it, and how to prove the result.

A `Subject` becomes one graph, an `Assembly` several that run as a pipeline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgekit_runtime.processors.base import TextRow, Words

if TYPE_CHECKING:
    import torch

    from edgekit_runtime.pipelines import Pipeline
    from edgekit_runtime.session import Array

#: (lowest, highest) size of an axis; None where nothing is known.
Range = tuple[int | None, int | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """Inputs at one shape. rows: the texts that made them, () for media; golden: recorded with the model."""

    name: str
    feeds: Mapping[str, Array]
    rows: tuple[TextRow | Words, ...] = ()
    golden: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of a model without holding it.

    answers: how outputs are read and compared, a word of `edgekit_runtime.answers.KINDS`; axes: the
    axes that may vary, by input; source: where it came from, for the manifest; labels: in class order;
    inner: whether the outputs are inner values of a larger model, whose errors are told and judged as
    shares of each output's own size (root mean square) where that is more than 1.
    """

    task: str
    answers: str
    axes: Mapping[str, Mapping[int, str]]
    source: Mapping[str, str]
    labels: tuple[str, ...] = ()
    inner: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A loaded model in eval mode, on the CPU, in fp32.

    call: runs the original on named tensors and gives its outputs, in the order of `outputs`;
    trace: feeds of the trace; cases: what the graph is compared on, at other shapes;
    ranges: of the named axes; tracing: a context in which the trace is made.
    """

    module: torch.nn.Module
    call: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]
    facts: Facts
    trace: Mapping[str, Array]
    ranges: Mapping[str, Range]
    outputs: tuple[str, ...]
    cases: Sequence[Case]
    tracing: Callable[[], AbstractContextManager[None]] = field(default=nullcontext)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Assembly:
    """A loaded model that becomes several graphs.

    parts: by name, in the order they run; whole: the original's own run from the first input to the last
    output, with the cases that the pipeline is compared on (it is not traced); pipeline: how they run.
    """

    parts: Mapping[str, Subject]
    whole: Subject
    pipeline: Pipeline


def shape_of(feeds: Mapping[str, Array], axes: Mapping[str, Mapping[int, str]]) -> dict[str, int]:
    """Sizes of the named axes of these feeds."""
    return {name: int(feeds[key].shape[axis]) for key, named in axes.items() for axis, name in named.items()}
