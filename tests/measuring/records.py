"""Launch records for tests."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.values import LaunchRecord


def launch(
    *latency_ms: float,
    disturbed: Sequence[int] = (),
    cold: float = 500.0,
    control: float = 2.0,
    memory: float | None = 50.0,
    settled: bool | None = True,
    wait: float = 0.0,
    cold_disturbed: bool = False,
) -> LaunchRecord:
    """One launch. disturbed: indices of marked runs; wait: run-queue wait of every run."""
    latency = latency_ms or (10.0,) * 20
    return LaunchRecord(
        cold_start_ms=cold,
        latency_ms=latency,
        cpu_ms=latency,
        wait_ms=(wait,) * len(latency),
        disturbed=tuple(index in disturbed for index in range(len(latency))),
        control_ms=control,
        baseline_mib=None if memory is None else 40.0,
        peak_mib=None if memory is None else 40.0 + memory,
        settled=settled,
        cold_disturbed=cold_disturbed,
        seconds=1.5,
    )
