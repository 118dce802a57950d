"""Repeated `edgekit validate` runs of one artifact against limits around its true percentiles.

    python -m tests.benchmarks.verdict_trial ARTIFACT --truth          # 200 launches on a quiet machine
    python -m tests.benchmarks.verdict_trial ARTIFACT --runs quiet     # p90 limits 10 % above and below it
    python -m tests.benchmarks.verdict_trial ARTIFACT --runs loaded    # the same beside busy processes
    python -m tests.benchmarks.verdict_trial ARTIFACT --runs power     # p50 and p90, 25 % above and below
    python -m tests.benchmarks.verdict_trial ARTIFACT --table

Every run is the command line as a user types it. Rows are kept in build/trial.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from tests.benchmarks.record_traces import load, record

#: This machine, with no limit but the one of the run.
TARGET = """name = "trial"
extends = "this-machine"

[workload]
sequence = 32
"""
EDGEKIT = Path(sys.executable).with_name("edgekit")
KEYS = {0.5: "latency_p50_ms", 0.9: "latency_p90_ms"}
PLANS: Mapping[str, tuple[tuple[float, float], ...]] = {
    "quiet": ((0.9, 1.1), (0.9, 0.9)),
    "loaded": ((0.9, 1.1), (0.9, 0.9)),
    "power": ((0.5, 1.25), (0.5, 0.75), (0.9, 1.25), (0.9, 0.75)),
}


def truth(artifact: Path, out: Path, launches: int) -> Mapping[str, float]:
    """p50 and p90 of the artifact's runs, every launch weighing the same; measured once."""
    file = out / "truth.json"
    if not file.exists():
        values = np.concatenate([record_.latency_ms for record_ in record(artifact, launches)])
        found = {KEYS[share]: float(np.quantile(values, share)) for share in KEYS}
        file.write_text(json.dumps(found), encoding="utf-8")
    table: Mapping[str, float] = json.loads(file.read_text("utf-8"))
    return table


def validate(artifact: Path, out: Path, budget: str) -> dict[str, object]:
    """One `edgekit validate`: verdict, reason, exit code, launches and seconds."""
    report, target = out / "one.report", out / "trial.toml"
    target.write_text(TARGET, encoding="utf-8")
    command = [
        str(EDGEKIT),
        "validate",
        str(artifact),
        "-o",
        str(report),
        "--target",
        str(target),
        "--budget",
        budget,
        "--force",
        "--json",
    ]
    begin = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begin
    if ended.returncode not in (0, 1, 5):
        told = ended.stdout + ended.stderr
        raise RuntimeError(f"{' '.join(command)} ended with {ended.returncode}:\n{told}")
    found = json.loads(ended.stdout)["report"]
    (check,) = found["checks"]
    launches = found["launches"]
    return {
        "outcome": check["outcome"],
        "reason": check["reason"],
        "observed": check["observed"],
        "exit": ended.returncode,
        "launches": len(launches),
        "disturbed": float(np.mean([mark for launch in launches for mark in launch["disturbed"]])),
        "latency_ms": [launch["latency_ms"] for launch in launches],
        "seconds": seconds,
    }


def run(artifact: Path, kind: str, out: Path, repeats: int) -> None:
    """Append `repeats` runs of the kind, turning over its limits, to OUT/KIND.jsonl."""
    true = truth(artifact, out, 200)
    plans = PLANS[kind]
    with (out / f"{kind}.jsonl").open("a", encoding="utf-8") as file:
        for number in range(repeats):
            share, factor = plans[number % len(plans)]
            limit = factor * true[KEYS[share]]
            with load() if kind == "loaded" else nullcontext():
                found = validate(artifact, out, f"{KEYS[share]}={limit:.6g}")
            row = {"key": KEYS[share], "factor": factor, "limit": limit, **found}
            file.write(json.dumps(row) + "\n")
            file.flush()
            shown = [row[key] for key in ("key", "factor", "outcome", "launches", "reason")]
            print(*shown, f"{found['seconds']:.0f} s", file=sys.stderr)


def table(out: Path) -> Iterator[str]:
    """The verdicts counted, and the truth again from all quiet launches together."""
    yield "| machine | limit | runs | PASS | FAIL | INCONCLUSIVE | launches | seconds | disturbed runs |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for kind, plans in PLANS.items():
        rows = _rows(out / f"{kind}.jsonl")
        for share, factor in plans:
            mine = [row for row in rows if row["key"] == KEYS[share] and row["factor"] == factor]
            if mine:
                yield _line(kind, f"{factor:g} x true p{share * 100:.0f}", mine)


def _rows(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def _line(kind: str, limit: str, rows: Sequence[Mapping[str, object]]) -> str:
    counts = [sum(row["outcome"] == word for row in rows) for word in ("PASS", "FAIL", "INCONCLUSIVE")]
    spans = [
        f"{np.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"
        for values in ([float(str(row[key])) for row in rows] for key in ("launches", "seconds"))
    ]
    disturbed = np.mean([float(str(row["disturbed"])) for row in rows])
    machine = "beside busy processes" if kind == "loaded" else "quiet"
    return f"| {machine} | {limit} | {len(rows)} | " + " | ".join(
        [*map(str, counts), *spans, f"{disturbed:.1%} |"]
    )


def again(out: Path) -> str:
    """p50 and p90 of all quiet launches of the trial, beside the truth that set the limits."""
    values = [
        value
        for kind in ("quiet", "power")
        for row in _rows(out / f"{kind}.jsonl")
        for launch in row["latency_ms"]  # type: ignore[attr-defined]
        for value in launch
    ]
    first = json.loads((out / "truth.json").read_text("utf-8"))
    pairs = [
        f"{key} {first[key]:.3f} at first, {np.quantile(values, share):.3f} over all"
        for share, key in KEYS.items()
    ]
    return "; ".join(pairs) if values else ""


def main() -> None:
    """Run a part of the trial, or print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--runs", choices=sorted(PLANS))
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--truth", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/trial"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.truth:
        print(truth(given.artifact, given.out, 200))
    if given.runs:
        run(given.artifact, given.runs, given.out, given.repeats)
    if given.table:
        print("\n".join(table(given.out)))
        print(again(given.out))


if __name__ == "__main__":
    main()
