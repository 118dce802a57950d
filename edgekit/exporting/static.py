"""A subject at one shape: for a model whose code allows no other, or a device that takes no other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.exporting.subject import Assembly, Case, Subject, shape_of
from edgekit_runtime.processors import TextProcessor, load_processor

if TYPE_CHECKING:
    from edgekit.exporting.options import ExportOptions
    from edgekit.exporting.origin import TorchOrigin
    from edgekit_runtime.session import Array


def load_subject(origin: TorchOrigin, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    """The source in memory, at one shape where the options ask for it (an Assembly refuses that)."""
    found = origin.load(options, processor_dir)
    if isinstance(found, Assembly) or not options.static:
        return found
    return at_one_shape(found, processor_dir)


def at_one_shape(subject: Subject, processor_dir: Path) -> Subject:
    """`subject` with every axis fixed at a batch of one: of texts the longest row, else the first golden.

    The source facts say at which shape. Cases are the same inputs at that shape.
    """
    axes = subject.facts.axes
    if not any(axes.values()):
        return subject
    processor = load_processor(processor_dir) if processor_dir.is_dir() else None
    if isinstance(processor, TextProcessor):
        cases = list(_padded(subject, processor))
    else:
        cases = list(_single(subject))
    shape = shape_of(cases[0].feeds, axes)
    shown = ", ".join(f"{name} {size}" for name, size in shape.items())
    source = {**subject.facts.source, "shape": f"fixed: {shown}"}
    return dataclasses.replace(
        subject,
        facts=dataclasses.replace(subject.facts, axes={name: {} for name in axes}, source=source),
        trace=cases[0].feeds,
        ranges={},
        cases=cases,
    )


def _padded(subject: Subject, processor: TextProcessor) -> Iterator[Case]:
    """Each row of the cases by itself, padded to the most tokens that a row may have."""
    goldens = {case.rows[0]: case.name for case in subject.cases if case.golden and len(case.rows) == 1}
    others = [row for case in subject.cases for row in case.rows if row not in goldens]
    for row in (*goldens, *dict.fromkeys(others)):
        yield Case(
            name=goldens.get(row, f"{str(row)[:30]!r}"),
            feeds=processor.feeds([row], pad_to=processor.settings.max_length),
            rows=(row,),
            golden=row in goldens,
        )


def _single(subject: Subject) -> Iterator[Case]:
    """Each row of each case that can have the first golden's shape; the first golden first."""
    first = next(case for case in subject.cases if case.golden)
    wanted = {name: array.shape[1:] for name, array in first.feeds.items()}
    for case in (first, *(case for case in subject.cases if case is not first)):
        cut = _cut(case.feeds, wanted)
        rows = len(next(iter(cut.values()), ()))
        for number in range(rows):
            feeds = {name: array[number : number + 1] for name, array in cut.items()}
            name = case.name if rows == 1 else f"{case.name}: row {number + 1}"
            yield Case(name=name, feeds=feeds, golden=case.golden)


def _cut(feeds: Mapping[str, Array], wanted: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Each tensor at the wanted shape, of any batch: its first part, or repeated where it is smaller.

    {} where a mask is smaller, which would have holes.
    """
    found = {}
    for name, array in feeds.items():
        short = [max(0, want - have) for have, want in zip(array.shape[1:], wanted[name], strict=True)]
        if any(short) and array.dtype.kind != "f":
            return {}
        repeated = np.pad(array, [(0, 0), *((0, more) for more in short)], mode="wrap")
        found[name] = repeated[:, *map(slice, wanted[name])]
    return found
