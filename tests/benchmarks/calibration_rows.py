"""Time and memory that int8 takes with few and with many calibration rows, through the command line.

    python -m tests.benchmarks.calibration_rows [--rows 10 1000] [--runs 3]

Rows of about 128 tokens, sentences of the demo's training file put together (`make demo` first), for its
model: MiniLM, 6 layers of 384. `edgekit compile --precision int8`, whole: reading rows, fp32 beside it,
calibration, goldens; without timing both in pairs (`--max-seconds 0`). Memory is that of all its processes
together. The runs of all variants are taken in turn; shown are the median, the least and the most.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.process_tree import Taken, run_command

DEMO = Path(__file__).resolve().parents[2] / "build" / "demo"
#: About 128 tokens.
WORDS = 98
BACKENDS = ("openvino", "onnxruntime")


def long_rows(path: Path, count: int) -> Path:
    """`count` different rows of at least `WORDS` words, without labels."""
    lines = (DEMO / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    words = itertools.chain.from_iterable(json.loads(line)["text"].split() for line in itertools.cycle(lines))
    texts = (" ".join(itertools.islice(words, WORDS)) for _ in range(count))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def compiled(folder: Path, backend: str, rows: int) -> Taken:
    """One compile on `rows` rows."""
    output = Path(tempfile.mkdtemp(dir=folder))
    words = [
        "compile",
        str(DEMO / "model"),
        "--backend",
        backend,
        "--precision",
        "int8",
        "-o",
        str(output / "a"),
    ]
    words += ["--calibration", str(folder / f"{rows}.jsonl"), "--calibration-rows", str(rows)]
    words += ["--max-seconds", "0", "--threads", "2"]
    return run_command([sys.executable, "-m", "edgekit", *words])


def spread(values: Iterator[float]) -> str:
    """Median and ends."""
    found = sorted(values)
    return f"{statistics.median(found):.0f} ({found[0]:.0f} to {found[-1]:.0f})"


def main() -> None:
    """Print a line for each backend and number of rows."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.calibration_rows", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    taken: dict[tuple[str, int], list[Taken]] = {}
    with tempfile.TemporaryDirectory(prefix="calibration-rows-") as name:
        folder = Path(name)
        for rows in options.rows:
            long_rows(folder / f"{rows}.jsonl", rows)
        for _, backend, rows in itertools.product(range(options.runs), BACKENDS, options.rows):
            taken.setdefault((backend, rows), []).append(compiled(folder, backend, rows))
    print("| backend | rows | seconds | CPU seconds | peak memory, MiB |\n|---|---|---|---|---|")
    for (backend, rows), runs in taken.items():
        cells = (
            spread(run.wall for run in runs),
            spread(run.cpu for run in runs),
            spread(run.peak_mib for run in runs),
        )
        print(f"| {backend} | {rows:,} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
