"""int8 and smaller weights of the onnxruntime backend beside plain onnxruntime, in paired runs.

    python -m tests.benchmarks.quantization_onnxruntime [--rounds 15]

Needs build/demo (`make demo`). optimum's settings are its AVX512-VNNI dynamic configuration, per channel,
made by the same call of onnxruntime that optimum makes. Each round runs every variant in turn, forwards and
then backwards; a ratio is taken round by round against optimum's settings. CPU time holds on a busy machine,
wall time does not.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgekit.api import CompileRequest, OpenRequest, Signature, Target
from edgekit_onnxruntime.compiler import Compiler
from edgekit_onnxruntime.session import open_session
from edgekit_runtime.feeds import write_feeds

DEMO = Path(__file__).resolve().parents[2] / "build" / "demo"
MODEL = DEMO / "model" / "model.onnx"
BASE = "optimum's settings"
Feeds = Mapping[str, Any]


def rows(name: str) -> list[dict[str, Any]]:
    """The texts of a file as feeds of one row, unpadded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(DEMO / "model" / "processor" / "tokenizer.json"))
    tokenizer.enable_truncation(128)
    tokenizer.no_padding()
    lines = (DEMO / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    encoded = [tokenizer.encode(json.loads(line)["text"]) for line in lines]
    return [
        {
            "input_ids": np.array([row.ids]),
            "attention_mask": np.array([row.attention_mask]),
            "token_type_ids": np.array([row.type_ids]),
        }
        for row in encoded
    ]


def random_feeds(length: int) -> dict[str, Any]:
    """One row of `length` tokens."""
    ids = np.random.default_rng(0).integers(1000, 20000, (1, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def plain_session(path: Path, threads: int) -> Any:
    """onnxruntime as it comes, but that idle threads do not spin beside the other variants."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    engine = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda feeds: engine.run(None, feeds)[0]


def our_session(directory: Path, precision: str, threads: int) -> Any:
    """The artifact through edgekit's own session."""
    session = open_session(OpenRequest(directory=directory, precision=precision, threads=threads))
    return lambda feeds: session.run(feeds)["logits"]


def build(scratch: Path, name: str, precision: str, calibration: Path | None, method: str = "auto") -> Path:
    """Compile with edgekit into a directory."""
    work = scratch / name
    work.mkdir()
    request = CompileRequest(
        model=MODEL,
        signature=Signature(inputs=(), outputs=()),
        workdir=work,
        precision=precision,
        target=Target(name="bench"),
        calibration=calibration,
        options={"method": method},
    )
    Compiler().compile(request, lambda done, total, what: None)
    return work


def variants(scratch: Path) -> dict[str, tuple[Path, str]]:
    """Name -> file or directory, and precision where it is edgekit's."""
    logging.disable(logging.WARNING)
    calibration = scratch / "calibration"
    write_feeds(calibration, iter(rows("calibration")))
    quantize_dynamic(MODEL, scratch / "plain.onnx")
    quantize_dynamic(MODEL, scratch / "optimum.onnx", per_channel=True, weight_type=QuantType.QInt8)
    return {
        BASE: (scratch / "optimum.onnx", ""),
        "plain quantize_dynamic": (scratch / "plain.onnx", ""),
        "plain onnxruntime fp32": (MODEL, ""),
        "int8": (build(scratch, "int8", "int8", calibration), "int8"),
        "int8 without rows": (build(scratch, "bare", "int8", None), "int8"),
        "int8, method = static": (build(scratch, "static", "int8", calibration, "static"), "int8"),
        "int8-weights": (build(scratch, "weights8", "int8-weights", None), "int8-weights"),
        "int4-weights": (build(scratch, "weights4", "int4-weights", None), "int4-weights"),
    }


def opened(made: Mapping[str, tuple[Path, str]], threads: int) -> dict[str, Any]:
    """Each variant as a function of feeds."""
    return {
        name: our_session(path, precision, threads) if precision else plain_session(path, threads)
        for name, (path, precision) in made.items()
    }


def accuracy(made: Mapping[str, tuple[Path, str]]) -> None:
    """Answers that differ from fp32's, the error of the margin between the classes, and the size."""
    feeds = rows("test")
    reference = np.array([plain_session(MODEL, 1)(row)[0] for row in feeds])
    print(f"{'':28} {'flips of 1,000':>14} {'margin error':>13} {'size':>6}")
    for name, run in opened(made, 1).items():
        got = np.array([run(row)[0] for row in feeds])
        flips = int((got.argmax(1) != reference.argmax(1)).sum())
        error = np.sqrt((((got - reference) @ [-1, 1]) ** 2).mean())
        path = made[name][0]
        files = [path] if path.is_file() else list(path.iterdir())
        size = sum(file.stat().st_size for file in files) / MODEL.stat().st_size
        print(f"{name:28} {1000 * flips / len(feeds):14.1f} {error:13.3f} {size:6.3f}")


def spread(values: Sequence[float]) -> str:
    """Median, and the middle half."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def speed(made: Mapping[str, tuple[Path, str]], length: int, threads: int, rounds: int) -> None:
    """Times of all variants at one shape."""
    runs = opened(made, threads)
    feeds = random_feeds(length)
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for index in range(rounds):
        for name in list(runs) if index % 2 == 0 else reversed(list(runs)):
            costs[name].append(block(runs[name], feeds))
    print(f"\n{length} tokens, {threads} thread(s): time against {BASE}, median (middle half)")
    for name, found in costs.items():
        cpu = spread([one[0] / base[0] for one, base in zip(found, costs[BASE], strict=True)])
        wall = spread([one[1] / base[1] for one, base in zip(found, costs[BASE], strict=True)])
        print(f"{name:28} CPU {cpu:22} wall {wall:22} {1000 * min(one[0] for one in found):7.2f} CPU ms")


def block(run: Any, feeds: Feeds, seconds: float = 0.05) -> tuple[float, float]:
    """CPU and wall seconds of a run, from as many as take `seconds`."""
    run(feeds)
    count, wall, cpu = 0, time.perf_counter(), time.process_time()
    while not count or time.perf_counter() - wall < seconds:
        run(feeds)
        count += 1
    return (time.process_time() - cpu) / count, (time.perf_counter() - wall) / count


def main() -> int:
    """Print accuracy and size, then speed at each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    if not MODEL.is_file():
        parser.error(f"{MODEL} is missing: run `make demo`")
    with tempfile.TemporaryDirectory() as scratch:
        made = variants(Path(scratch))
        accuracy(made)
        for threads in (1, 2):
            for length in (128, 16):
                speed(made, length, threads, options.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
