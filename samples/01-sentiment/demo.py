"""The whole way: data, fine-tuning, export, two runtimes in two precisions, verdicts, one package.

Every step is a command that a user could type; it is printed before it runs. Steps whose result is
up to date are skipped by the commands themselves.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
BACKENDS = ("onnxruntime", "openvino")
PRECISIONS = ("fp32", "int8")
#: Exit codes of `edgekit validate` after which the demo goes on: proven, budget failed, inconclusive.
VERDICTS = (0, 1, 5)
COLUMNS = (
    "backend",
    "precision",
    "accuracy",
    "drop (<=)",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "MiB",
    "memory",
    "verdict",
)


@dataclass(frozen=True)
class Judged:
    artifact: Path
    report: dict


def edgekit(*arguments: object, allowed: tuple[int, ...] = (0,)) -> None:
    """Run one edgekit command, shown as it would be typed."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ edgekit {' '.join(words)}", flush=True)
    command = [sys.executable, "-m", "edgekit", *words]
    code = subprocess.run(command, check=False).returncode
    if code not in allowed:
        sys.exit(f"demo: `edgekit {words[0]}` ended with exit code {code}")


def recipe(script: str, output: Path) -> None:
    """Run one script of the fine-tuning recipe."""
    print(f"\n$ python samples/01-sentiment/{script} -o {output}", flush=True)
    if subprocess.run([sys.executable, HERE / script, "-o", output], check=False).returncode:
        sys.exit(f"demo: {script} failed")


def judge(build: Path, backend: str, precision: str, seconds: int) -> Judged:
    """Compile and validate one artifact."""
    artifact = build / f"{backend}-{precision}"
    target, data = os.path.relpath(HERE / "target.toml"), build / "data"
    choice = ("--backend", backend, "--precision", precision)
    rows = ("--calibration", data / "calibration.jsonl") if precision == "int8" else ()
    edgekit("compile", build / "model", "--target", target, *choice, *rows, "-o", artifact)
    judging = ("--target", target, "--data", data / "test.jsonl", "--max-seconds", seconds)
    edgekit("validate", artifact, *judging, allowed=VERDICTS)
    report = json.loads((artifact.with_name(artifact.name + ".report") / "report.json").read_text())
    return Judged(artifact=artifact, report=report["report"])


def row(judged: Judged) -> tuple[str, ...]:
    """One line of the closing table; `<=` marks a bound proven at the report's confidence."""
    report = judged.report
    accuracy = report["accuracy"]
    drop = next(check["observed"] for check in report["checks"] if check["key"] == "accuracy_drop")
    return (
        report["backend"],
        report["precision"],
        f"{accuracy['artifact']:.1%}",
        f"{drop['estimate']:+.2f} (<= {drop['high']:.2f})",
        *(interval(report[f"latency_{key}_ms"]) for key in ("p50", "p90", "p99")),
        f"{report['artifact_mib']:.1f}",
        f"{report['peak_memory_mib']['estimate']:.0f} MiB" if report["peak_memory_mib"] else "-",
        report["verdict"],
    )


def interval(value: dict | None) -> str:
    """A percentile with what is proven about it."""
    if value is None:
        return "-"
    high = "?" if value["high"] is None else f"{value['high']:.1f}"
    return f"{value['estimate']:.1f} (<= {high})"


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Left-aligned columns."""
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for line in (COLUMNS, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def best(judged: list[Judged]) -> Judged:
    """The quickest among those with the best verdict."""
    order = ("PASS", "NOT_MEASURED", "INCONCLUSIVE", "FAIL")
    return min(
        judged, key=lambda one: (order.index(one.report["verdict"]), one.report["latency_p50_ms"]["estimate"])
    )


def main() -> int:
    """Run the demo below the given directory; exit code 0 unless a budget failed everywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "build", type=Path, nargs="?", default=Path("build/demo"), help="where everything goes"
    )
    parser.add_argument("--source", type=Path, help="a fine-tuned folder to use instead of training one")
    parser.add_argument("--max-seconds", type=int, default=90, help="measuring time for each artifact")
    options = parser.parse_args()
    started, build = time.monotonic(), options.build
    recipe("fetch.py", build)
    source = options.source or build / "model-src"
    if options.source is None:
        recipe("finetune.py", source)
    edgekit("export", source, "-o", build / "model")
    judged = [
        judge(build, name, precision, options.max_seconds) for name in BACKENDS for precision in PRECISIONS
    ]
    chosen = best(judged)
    verdict = chosen.report["verdict"]
    package = build / "sentiment.edgekit"
    allow = () if verdict in ("PASS", "NOT_MEASURED") else ("--allow-failed",)
    edgekit("package", chosen.artifact, "-o", package, *allow)
    edgekit("run", package, "a film to remember", "two hours I will never get back")
    print(
        f"\nAt {chosen.report['confidence']:.0%} confidence, batch 1, 32 tokens, 1 thread; `<=` is proven:\n"
    )
    print_table([row(one) for one in judged])
    print(f"\npackage  {package} ({verdict}: {chosen.report['backend']} {chosen.report['precision']})")
    print(f"report   {chosen.artifact.with_name(chosen.artifact.name + '.report')}/report.html")
    print(f"took     {time.monotonic() - started:.0f} s")
    return 1 if verdict == "FAIL" else 0


if __name__ == "__main__":
    sys.exit(main())
