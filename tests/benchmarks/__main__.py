"""`make bench`: whole commands timed in pairs, one after the other in one run; ratios, not bare times.

CPU seconds are user + system of the command and of all it started. Each pair is run `ROUNDS` times,
A B A B, and the ratio is taken pair by pair: these figures hold on a noisy machine, single times do not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "build" / "tests" / "model-frozen"
PLAIN_EXPORT = Path(__file__).with_name("plain_export.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one run took: CPU and wall seconds, and the largest process's peak memory."""

    cpu: float
    wall: float
    peak_mib: float


def measure(command: Sequence[str]) -> Cost:
    """Run `command` to its end. Raises RuntimeError when it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        said = child.stderr.read() if child.stderr is not None else b""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}:\n{said.decode()}")
    wall = time.perf_counter() - start
    return Cost(cpu=usage.ru_utime + usage.ru_stime, wall=wall, peak_mib=usage.ru_maxrss / 1024)


def spread(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Median, and from least to most."""
    low, middle, high = (
        form.format(value) for value in (min(values), statistics.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"


def pair(title: str, one: Sequence[str], other: Sequence[str], rounds: int) -> None:
    """Time two commands in turn and print both and their ratio."""
    measure(one), measure(other)
    costs = [(measure(one), measure(other)) for _ in range(rounds)]
    print(f"{title}  [{rounds} pairs]")
    for name, side in (("A", 0), ("B", 1)):
        command = " ".join(Path(word).name if "/" in word else word for word in (one, other)[side])
        cpu, peak = ([getattr(cost[side], key) for cost in costs] for key in ("cpu", "peak_mib"))
        print(f"  {name}  {spread(cpu)} CPU s  {spread(peak, '{:.0f}')} MiB peak   {command[:90]}")
    print(f"  A/B {spread([a.cpu / b.cpu for a, b in costs])} of the CPU time")


def start_up(rounds: int) -> None:
    """`edgekit --help` beside an import of typer, and beside a peer when it is installed."""
    ours = [sys.executable, "-m", "edgekit", "--help"]
    pair("start-up", ours, [sys.executable, "-c", "import typer"], rounds)
    peer = shutil.which("optimum-cli", path=os.environ.get("EDGEKIT_BENCH_PEERS", os.environ.get("PATH")))
    if peer:
        pair("start-up beside optimum-cli", ours, [peer, "--help"], rounds)
    else:
        print("start-up beside optimum-cli: not installed; put its folder in EDGEKIT_BENCH_PEERS")
    code = "import edgekit_runtime.worker"
    pair(
        "import edgekit_runtime", [sys.executable, "-c", code], [sys.executable, "-c", "import numpy"], rounds
    )


def export(rounds: int) -> None:
    """The whole export with its checks, and the export alone, beside plain torch.onnx.export."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = [sys.executable, str(PLAIN_EXPORT), str(SOURCE), f"{scratch}/plain.onnx"]
        checked = [
            sys.executable,
            "-m",
            "edgekit",
            "export",
            str(SOURCE),
            "-o",
            f"{scratch}/model",
            "--force",
        ]
        pair("export with its checks", checked, plain, rounds)
        alone = [sys.executable, str(PLAIN_EXPORT), str(SOURCE), f"{scratch}/alone", "--edgekit"]
        pair("export without its checks", alone, plain, rounds)
        size = (Path(scratch) / "model" / "model.onnx").stat().st_size / 1024**2
        print(f"  weights {size:.0f} MiB")


def no_op(rounds: int) -> None:
    """An export and a compile that have nothing to do."""
    with tempfile.TemporaryDirectory() as scratch:
        model, artifact = f"{scratch}/model", f"{scratch}/artifact"
        commands = {
            "export": [sys.executable, "-m", "edgekit", "export", str(SOURCE), "-o", model],
            "compile": [
                sys.executable,
                "-m",
                "edgekit",
                "compile",
                model,
                "--backend",
                "onnxruntime",
                "-o",
                artifact,
            ],
        }
        for name, command in commands.items():
            measure(command)
            costs = [measure(command) for _ in range(rounds)]
            wall, cpu = (spread([getattr(cost, key) for cost in costs]) for key in ("wall", "cpu"))
            print(f"no-op {name}: {wall} s wall, {cpu} CPU s")


def main() -> int:
    """Run the benchmarks that were named, or all."""
    benchmarks = {"start-up": start_up, "no-op": no_op, "export": export}
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*benchmarks, []], help="which; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each")
    options = parser.parse_args()
    if not SOURCE.is_dir():
        parser.error(
            f"{SOURCE} is missing: run `make test` once, or samples/01-sentiment/finetune.py --frozen"
        )
    for name in options.names or benchmarks:
        rounds = max(1, options.rounds // 2) if name == "export" else options.rounds
        benchmarks[name](rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
