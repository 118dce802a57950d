"""Overviews for tests: many reports that differ in the figures that are compared."""

from __future__ import annotations

import dataclasses

from edgekit.files.manifests import Manifest
from edgekit.report.overview import Overview, Percentile, overview
from edgekit.report.overview_rows import Source
from edgekit.values import Budget, Interval
from tests.report.samples import ACCURACY, MACHINE, changed, launches, report

BASE = report(Budget(latency_p90_ms=12, accuracy_drop=9), launches(count=3))
PI = dataclasses.replace(MACHINE, cpu="Cortex-A76", device_tree="Example Board 5", arch="aarch64")


def one(name: str, latency: float = 10.0, score: float = 0.9, size: float = 20.0, **more: object) -> Manifest:
    """A report with the figures that the front is about."""
    drop = 100 * (ACCURACY.model - score)
    found = dataclasses.replace(
        ACCURACY, artifact=score, drop=Interval(estimate=drop, low=drop - 0.8, high=drop + 0.9)
    )
    fields: dict[str, object] = {
        "artifact_name": name,
        "latency_p50_ms": Interval(estimate=0.9 * latency, low=0.8 * latency, high=latency),
        "latency_p90_ms": Interval(estimate=latency, low=0.9 * latency),
        "accuracy": found,
        "artifact_mib": size,
    }
    return changed(BASE, **(fields | more))


def seen(*manifests: Manifest, percentile: Percentile = "p90", page: str = "") -> Overview:
    sources = [
        Source(path=f"{number}.report", manifest=manifest, verified=True, page=page)
        for number, manifest in enumerate(manifests)
    ]
    return overview(sources, percentile, "2026-01-02T03:04:05+00:00", "0.1.0")


def fronts(found: Overview) -> list[tuple[str, ...]]:
    return [contest.not_beaten for group in found.groups for contest in group.contests]
