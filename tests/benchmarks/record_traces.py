"""Records launches of an artifact on this machine, as machines for the verdict study.

    python -m tests.benchmarks.record_traces ARTIFACT --launches 300 --kind quiet
    python -m tests.benchmarks.record_traces ARTIFACT --launches 150 --kind loaded   # beside busy processes

Writes tests/benchmarks/traces/NAME.KIND.json: microseconds of every run, and which runs were disturbed.
Loaded: as many busy processes as there are cores, for 20 s in every 30 s.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from edgekit.measuring.plan import Decision
from edgekit.stages.validate import ValidateOptions, launches_of
from edgekit.values import LaunchRecord
from tests.benchmarks.verdict_machines import TRACES

BUSY_SECONDS, PERIOD_SECONDS = 20.0, 30.0


def _spin(until: float) -> None:
    begin = time.monotonic()
    while time.monotonic() < until:
        if (time.monotonic() - begin) % PERIOD_SECONDS > BUSY_SECONDS:
            time.sleep(0.1)


@contextmanager
def load(seconds: float = 3600.0) -> Iterator[None]:
    """Busy processes, one for each core, in spells."""
    until = time.monotonic() + seconds
    workers = [
        multiprocessing.Process(target=_spin, args=(until,), daemon=True) for _ in range(os.cpu_count() or 1)
    ]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def record(artifact: Path, launches: int) -> tuple[LaunchRecord, ...]:
    """That many launches, one after the other."""

    def decide(seen: Sequence[LaunchRecord]) -> Decision:
        return Decision(done=len(seen) >= launches)

    options = ValidateOptions(no_budget=True, max_seconds=86400.0)
    return launches_of(artifact, options, decide)


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--launches", type=int, default=300)
    parser.add_argument("--kind", choices=("quiet", "loaded"), default="quiet")
    given = parser.parse_args()
    with load() if given.kind == "loaded" else nullcontext():
        found = record(given.artifact, given.launches)
    rows = [
        {
            "latency_us": [round(1000 * value) for value in launch.latency_ms],
            "disturbed": [index for index, mark in enumerate(launch.disturbed) if mark],
        }
        for launch in found
    ]
    TRACES.mkdir(exist_ok=True)
    file = TRACES / f"{given.artifact.resolve().name}.{given.kind}.json"
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    file.write_text(f'{{"launches": [\n{lines}\n]}}\n', encoding="utf-8")
    print(file)


if __name__ == "__main__":
    main()
