"""Has a lower precision earned its place? Both artifacts are launched in turn, at the target's workload.

Only a machine that is the target can tell which is faster; elsewhere the sizes decide alone, and it says so.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgekit.host.places import Place, here
from edgekit.measuring.footprint import tree_bytes
from edgekit.measuring.inputs import feeds_count, mixed_feeds
from edgekit.measuring.launches import LaunchSetup
from edgekit.measuring.pairs import (
    LATENCY,
    decider,
    measure_pairs,
    paired_figures,
    unmeasured_figures,
)
from edgekit.measuring.plan import MeasurementPlan
from edgekit.stages.common import OnProgress
from edgekit.targets import match_machine, usable_threads
from edgekit.values import Change, DiffFigure, Earned, Interval, RunSettings, Target
from edgekit_runtime.errors import HardwareMissing
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.session import Feeds
from edgekit_runtime.values import Machine, Signature

#: Asked for to save memory, whatever the speed.
WEIGHTS_ALONE = ("int8-weights", "int4-weights")
#: Of each bound of the ratio.
CONFIDENCE = 0.99
#: Medians that are no further apart are the same; the pairs end when that is proven, or a difference.
MARGIN = 0.03
_FEEDS, _FEED_BYTES = 16, 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A built artifact that no manifest describes yet."""

    directory: Path
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """Where and on what candidates are run. shapes: of the workload; golden: the model's; seconds: 0 runs
    nothing."""

    backend: str
    run: RunSettings
    target: Target
    signature: Signature
    shapes: tuple[Mapping[str, int], ...]
    golden: Path
    seconds: float
    seed: int
    place: Place = field(default_factory=here)


def earned(low: Candidate, high: Candidate, track: Track, on_progress: OnProgress) -> Earned:
    """Whether `low` is worth having beside `high`, by speed and size."""
    size = tree_bytes(low.directory) / max(1, tree_bytes(high.directory))
    latency = compare_speed(low, high, track, on_progress)
    return Earned(
        against=high.precision, size=size, latency=latency, refusal=refusal(low.precision, size, latency)
    )


def refusal(precision: str, size: float, latency: DiffFigure) -> str:
    """Why a lower precision is not worth its risk, "" when it is: unless faster it must be smaller, and
    slower it must not be, except where smaller weights are all that was asked for."""
    if latency.change is Change.SLOWER and not (precision in WEIGHTS_ALONE and size < 1):
        return f"{precision} is slower here: it takes {_estimate(latency):.2f}x as long"
    if latency.change is not Change.FASTER and size >= 1:
        speed = "speed was not measured" if latency.change is Change.NOT_MEASURED else "not proven faster"
        return f"{precision} is not smaller ({size:.2f}x), and {speed}"
    return ""


def ratio_text(ratio: Interval, against: str) -> str:
    """How long it takes beside `against`, with what is proven of it."""
    times = f"{ratio.estimate:.2f}x as long as {against}"
    if ratio.low is None and ratio.high is None:
        return f"{times} (launches too few or too disturbed for bounds)"
    low, high = ("?" if bound is None else f"{bound:.2f}" for bound in (ratio.low, ratio.high))
    return f"{times} ({low} to {high})"


def _estimate(latency: DiffFigure) -> float:
    return latency.ratio.estimate if latency.ratio is not None else 1.0


def compare_speed(low: Candidate, high: Candidate, track: Track, on_progress: OnProgress) -> DiffFigure:
    """Median latencies of both and their ratio, launched in pairs; NOT_MEASURED with the reason where
    that says nothing about the target."""
    machine = track.place.machine
    reason = _not_here(track, machine)
    if reason:
        return unmeasured_figures(reason)[0]
    examples = [golden.feeds for golden in read_goldens(track.golden)]
    inputs = functools.partial(_inputs, track, examples)
    old, new = (_setup(one, track, inputs, machine) for one in (high, low))
    plan = MeasurementPlan(max_seconds=track.seconds)
    try:
        pairs = measure_pairs(old, new, plan, decider(CONFIDENCE, MARGIN, gate=False), on_progress)
    except HardwareMissing as missing:
        return unmeasured_figures(missing.message)[0]
    return next(one for one in paired_figures(pairs, CONFIDENCE, MARGIN) if one.key == LATENCY.key)


def _not_here(track: Track, machine: Machine) -> str:
    """Why times taken here would say nothing about the target."""
    if track.seconds <= 0:
        return "no time was given for it"
    match = match_machine(track.target, machine)
    if not match.ok:
        return f"this machine is not {track.target.name!r}: {'; '.join(match.reasons)}"
    if track.run.threads > usable_threads(machine):
        return f"{track.run.threads} threads are asked for, and {usable_threads(machine)} can be used here"
    return ""


def _inputs(track: Track, examples: Sequence[Feeds], number: int) -> Sequence[Feeds]:
    signature, shapes = track.signature, track.shapes
    count = feeds_count(signature, shapes, most=_FEEDS, limit=_FEED_BYTES)
    return mixed_feeds(signature, shapes, examples, count=count, seed=track.seed * 1_000_003 + number)


def _setup(
    candidate: Candidate,
    track: Track,
    inputs: functools.partial[Sequence[Feeds]],
    machine: Machine,
) -> LaunchSetup:
    return LaunchSetup(
        start_worker=lambda: track.place.worker(track.run.threads),
        directory=candidate.directory,
        backend=track.backend,
        precision=candidate.precision,
        run=track.run,
        inputs=inputs,
        mix=len(track.shapes),
        batch=max(shape.get("batch", 1) for shape in track.shapes),
        cores=machine.usable_cores,
    )
