"""Fine-tune the encoder on the movie snippets and judge it on the held-out rows.

Writes a complete transformers folder with a training.json beside the weights, or, where the
accuracy asked for is missed, nothing.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

from common import (
    EXIT_FAILED,
    EXIT_OK,
    LABELS,
    RecipeError,
    Row,
    Settings,
    differing,
    run,
    sha256_of,
    whole_directory,
)

RECORD = "training.json"
# What a model made by this recipe depends on; the paths are shown in errors, the names recorded.
ENCODER_INPUTS = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
DATA_INPUTS = ("train.jsonl", "test.jsonl")


class AccuracyMissed(Exception):
    """Leaves the output block, so that a model below the requirement is not kept."""


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{number} is not between 0 and 1")
    return number


def cpu_count() -> int:
    # The affinity mask knows of taskset and containers; not every platform has it.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--encoder", type=Path, default=Path("build/demo/encoder"), help="default: %(default)s"
    )
    parser.add_argument("--data", type=Path, default=Path("build/demo/data"), help="default: %(default)s")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="default: build/demo/model-src, with --frozen build/demo/model-frozen",
    )
    parser.add_argument(
        "--frozen",
        action="store_true",
        help="freeze all but the last layer and the head: seconds instead of minutes",
    )
    parser.add_argument("--rows", type=positive, help="training rows used (default: all; with --frozen 2000)")
    parser.add_argument("--epochs", type=positive, help="default: 1; with --frozen 3")
    parser.add_argument("--require", type=share, help="accuracy required (default: 0.84; with --frozen 0.75)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--threads", type=positive, default=cpu_count(), help="default: the CPUs at hand")
    parser.add_argument("--force", action="store_true", help="train again even if the output is there")
    args = parser.parse_args()
    args.output = args.output or Path("build/demo/model-frozen" if args.frozen else "build/demo/model-src")
    args.require = args.require if args.require is not None else (0.75 if args.frozen else 0.84)
    return args


def settings_from(args: argparse.Namespace) -> Settings:
    if args.frozen:
        return Settings(True, args.seed, args.rows or 2000, args.epochs or 3, learning_rate=1e-3)
    return Settings(False, args.seed, args.rows, args.epochs or 1, learning_rate=5e-5)


def digest_inputs(encoder: Path, data: Path) -> dict[str, str]:
    paths = [encoder / name for name in ENCODER_INPUTS] + [data / name for name in DATA_INPUTS]
    for path in paths:
        if not path.is_file():
            raise RecipeError(f"{path} is missing", "run fetch.py first, or give --encoder and --data")
    return {path.name: sha256_of(path) for path in paths}


def read_rows(path: Path) -> list[Row]:
    rows = []
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                value = json.loads(line)
                row = Row(value["text"], value["label"])
            except (ValueError, KeyError, TypeError):
                row = Row("", "")
            if not isinstance(row.text, str) or row.label not in LABELS:
                raise RecipeError(
                    f'{path}, line {number}: not {{"text": …, "label": {" or ".join(LABELS)}}}',
                    "fetch the data again with fetch.py, or correct the line",
                )
            rows.append(row)
    if not rows:
        raise RecipeError(f"{path} has no rows", "fetch the data again with fetch.py")
    return rows


def report(right: int, total: int, require: float) -> int:
    accuracy = right / total
    error = (accuracy * (1 - accuracy) / total) ** 0.5
    met = accuracy >= require
    print(
        f"held-out accuracy {accuracy:.4f} ({right} of {total} rows, standard error {error:.4f}), "
        f"required {require:g}: {'met' if met else 'MISSED'}"
    )
    return EXIT_OK if met else EXIT_FAILED


def earlier_record(output: Path) -> dict[str, object] | None:
    """The training.json of an earlier run, None where there is nothing yet."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        record = json.loads((output / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"{output} is there but is not a model of this recipe ({RECORD}: {error}), and is left alone",
            "choose another --output, or move it away",
        ) from error
    if not isinstance(record, dict):
        raise RecipeError(f"{output / RECORD} is not a record of this recipe", "choose another --output")
    return record


def reuse(output: Path, settings: Settings, inputs: dict[str, str], require: float) -> int | None:
    """The exit code of an earlier run with the same settings, None where there was none."""
    record = earlier_record(output)
    if record is None:
        return None
    if record.get("settings") != asdict(settings) or record.get("inputs") != inputs:
        raise RecipeError(
            f"{output} was made with other settings or inputs",
            "--force replaces it, another --output leaves it",
        )
    files, right, total = record.get("files"), record.get("right"), record.get("test_rows")
    if not (isinstance(files, dict) and isinstance(right, int) and isinstance(total, int)) or total < 1:
        raise RecipeError(f"{output / RECORD} is damaged", "--force trains again")
    changed = differing(output, files)
    if changed:
        raise RecipeError(
            f"{output} was changed since it was made: {', '.join(changed)}", "--force trains again"
        )
    print(f"{output}: up to date, nothing to do (--force trains again)")
    return report(right, total, require)


def write_record(folder: Path, record: dict[str, object]) -> None:
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        # safetensors writes files that only their owner can read; a server or a container's user must, too.
        (folder / name).chmod((folder / "config.json").stat().st_mode)
    full = {**record, "files": {name: sha256_of(folder / name) for name in names}}
    (folder / RECORD).write_text(json.dumps(full, indent=2) + "\n", encoding="utf-8")


def produce(args: argparse.Namespace, settings: Settings, inputs: dict[str, str]) -> int:
    started, started_cpu = time.monotonic(), time.process_time()
    train_rows, test_rows = read_rows(args.data / "train.jsonl"), read_rows(args.data / "test.jsonl")
    chosen = train_rows[: settings.rows]
    if settings.rows and len(chosen) < settings.rows:
        raise RecipeError(f"--rows {settings.rows}: train.jsonl has {len(chosen)}", "ask for fewer rows")
    try:
        import training
    except ModuleNotFoundError as error:
        raise RecipeError(f"{error.name} is not installed", "pip install torch transformers") from error
    training.prepare(args.threads)
    print(f"training on {len(chosen)} rows, {settings.epochs} epoch(s), {args.threads} thread(s)", flush=True)
    with whole_directory(args.output) as partial:
        training.train(args.encoder, chosen, settings, partial)
        right = training.count_right(partial, test_rows, settings)
        seconds, cpu = time.monotonic() - started, time.process_time() - started_cpu
        code = report(right, len(test_rows), args.require)
        if code != EXIT_OK:
            raise AccuracyMissed
        packages = ("torch", "transformers", "tokenizers", "safetensors")
        record: dict[str, object] = {
            "seed": settings.seed,
            "train_rows": len(chosen),
            "test_rows": len(test_rows),
            "right": right,
            "accuracy": right / len(test_rows),
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "threads": args.threads,
            "machine": platform.machine(),
            "versions": {"python": platform.python_version()}
            | {p: importlib.metadata.version(p) for p in packages},
            "settings": asdict(settings),
            "inputs": inputs,
        }
        write_record(partial, record)
    print(f"{args.output}: written after {seconds:.0f} s ({cpu:.0f} CPU s)")
    return code


def main() -> int:
    # Read by torch's thread pool and by transformers when they are imported, so set before:
    # waiting threads must not spin on a shared machine, and nothing is looked up in a hub.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["HF_HUB_OFFLINE"] = "1"
    args = arguments()
    settings = settings_from(args)
    inputs = digest_inputs(args.encoder, args.data)
    if args.force:
        earlier_record(args.output)
    else:
        code = reuse(args.output, settings, inputs, args.require)
        if code is not None:
            return code
    try:
        return produce(args, settings, inputs)
    except AccuracyMissed:
        kept = "the earlier model is kept" if args.output.exists() else "no model was written"
        print(f"error: the accuracy is below --require; {kept}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(run(main))
