"""Which part of OpenVINO's int8 of a mobile network costs how much: EfficientNet-Lite0, step by step.

    python -m tests.benchmarks.quantization_convolutions [--keep FOLDER]

The network and the crops of `quantization_accuracy`. Each line adds one thing that the backend does to those
above; the last two take one side of the error away. Errors are of the 1,000 logits, root mean square over all
crops; CPU time is that of one run on one thread, over fp32's, in blocks in turn: median and range.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from edgekit_openvino import quantize
from edgekit_openvino.convolutions import left_high
from edgekit_openvino.engine import ov
from edgekit_runtime.feeds import write_feeds
from edgekit_runtime.processors import load_processor
from tests.benchmarks.quantization_accuracy import lite0_photographs
from tests.benchmarks.quantization_openvino import ours

ROUNDS, RUNS = 15, 5
Feeds = dict[str, Any]
Run = Callable[[Feeds], Any]


def feeds(rows: Path, model: Path) -> list[Feeds]:
    """Crops as the network takes them."""
    processor = load_processor(model / "processor")
    lines = rows.read_text(encoding="utf-8").splitlines()
    return [dict(processor.prepare([rows.parent / json.loads(line)["image"]]).feeds) for line in lines]


def built(model: Path, folder: Path, name: str, calibration: Path) -> ov.Model:
    """What the backend writes, read back."""
    ours(model, folder, calibration, name)
    return ov.Core().read_model(folder / "model.xml")


def variants(model: Path, folder: Path, calibration: Path) -> dict[str, ov.Model]:
    """fp32, and int8 with more and more of what the backend does."""

    def sums(graph: ov.Model) -> list[str]:
        adds = {node.get_friendly_name() for node in graph.get_ops() if node.get_type_name() == "Add"}
        return [name for name in left_high(graph) if name in adds]

    nothing, nearest = (lambda _graph: []), (lambda _made, _watched: None)
    steps: dict[str, tuple[Any, Any]] = {
        "weights to nearest": (nothing, nearest),
        "and rounded for the output, biases corrected": (nothing, quantize.round_again),
        "and sums in floats": (sums, quantize.round_again),
        "and the stem in floats (the backend)": (left_high, quantize.round_again),
    }
    found = {"fp32": built(model, folder / "fp32", "fp32", calibration)}
    for number, (name, (high, again)) in enumerate(steps.items()):
        with patch.object(quantize, "left_high", high), patch.object(quantize, "round_again", again):
            found[name] = built(model, folder / f"int8-{number}", "int8", calibration)
    found["of this the weights alone"] = without_rounding(found["and the stem in floats (the backend)"])
    return found


def without_rounding(model: ov.Model) -> ov.Model:
    """The same weights, and activations in floats."""
    free = model.clone()
    for node in free.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            node.output(0).replace(node.input_value(0))
    return free


def opened(model: ov.Model) -> Run:
    """A function of feeds to logits, on one thread."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    compiled = ov.Core().compile_model(model, "CPU", settings)
    return lambda one: compiled(one)[0].copy()


def shares(runs: Sequence[Run], crop: Feeds) -> list[list[float]]:
    """CPU time of each over that of the first, for each round."""
    found: list[list[float]] = [[] for _ in runs]
    for _ in range(ROUNDS):
        taken = []
        for run in runs:
            run(crop)
            before = time.process_time()
            for _ in range(RUNS):
                run(crop)
            taken.append(time.process_time() - before)
        for place, one in enumerate(taken):
            found[place].append(one / taken[0])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.quantization_convolutions", description=__doc__
    )
    parser.add_argument("--keep", type=Path, help="a folder with the model and the crops, made where missing")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantization-convolutions-") as scratch:
        folder = options.keep or Path(scratch)
        subject = lite0_photographs(folder, folder)
        write_feeds(Path(scratch) / "feeds", feeds(subject.calibration, subject.model))
        crops = feeds(subject.rows, subject.model)
        runs = {
            name: opened(model)
            for name, model in variants(subject.model, Path(scratch), Path(scratch) / "feeds").items()
        }
        wanted = np.concatenate([runs["fp32"](crop) for crop in crops])
        print(f"| int8 | changed of {len(crops)} | error of logits | CPU time |\n|---|---|---|---|")
        for (name, run), taken in zip(runs.items(), shares(list(runs.values()), crops[0]), strict=True):
            got = np.concatenate([run(crop) for crop in crops])
            changed = int((got.argmax(1) != wanted.argmax(1)).sum())
            error = float(np.sqrt(np.square(got - wanted).mean()))
            spread = f"{statistics.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f})"
            print(f"| {name} | {changed} | {error:.3f} | {spread} |")


if __name__ == "__main__":
    main()
