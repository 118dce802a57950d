"""What int8 with the defaults costs in accuracy: four real models, both CPU backends, held-out rows.

    python -m tests.benchmarks.quantization_accuracy [MODEL ...] [--fashion DIR] [--keep DIR]

* sentiment: build/demo (`make demo`), its 1,510 test rows
* tagger: a part-of-speech tagger tuned on the Brown corpus, 1,000 sentences of other documents
* fashion: a network of 67,000 weights trained on Fashion-MNIST, its 10,000 test images; DIR holds the files
  of Debian's dataset-fashion-mnist
* lite0: EfficientNet-Lite0 on 500 crops, turned and lightened, of scikit-learn's two photographs

Each is compiled by the command line as a user would, without a limit on accuracy, so that no node is put
back, and without timing. Calibration rows are rows that neither train nor judge; of lite0 other crops.
Shown: answers that changed, the drop in points, and what is proven of it at 99 %, one-sided.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import edgekit
from edgekit.devices import open_device
from edgekit.exporting.options import ExportOptions
from edgekit.files.manifests import read_manifest
from edgekit.host.client import WorkerClient
from edgekit.host.reference import open_reference_model
from edgekit.host.sessions import open_remote
from edgekit.stages.answers.asking import Answerer, Asker, both_answer
from edgekit.tasks import load_task
from edgekit.tasks.data import read_rows
from edgekit.values import RunSettings
from edgekit_runtime.processors.image_settings import ImageSettings, Normalize, Resize
from tests.lite0 import DAISY, PALACE, lite0
from tests.real_tagger import sentences, tuned_tagger, write_rows

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "tests"
DEMO = ROOT / "build" / "demo"
BACKENDS = ("onnxruntime", "openvino")
CLASSES = ("top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
LITE0_SETTINGS = ImageSettings(
    resize=Resize(rule="shortest", size=(256,), filter="bicubic"),
    crop=(224, 224),
    normalize=(Normalize(mean=(127.0,) * 3, std=(128.0,) * 3),),  # type: ignore[arg-type]
)
CALIBRATION_ROWS = 300
TAGS = "tag-accuracy"
CROPS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model directory, rows to calibrate on, rows that judge, and the metric, "" for the task's."""

    model: Path
    calibration: Path
    rows: Path
    metric: str = ""


def sentiment(folder: Path, fashion: Path) -> Subject:
    """The classifier of the demo."""
    data = DEMO / "data"
    return Subject(model=DEMO / "model", calibration=data / "calibration.jsonl", rows=data / "test.jsonl")


def tagger(folder: Path, fashion: Path) -> Subject:
    """Half a minute of training."""
    downloads = CACHE / "downloads"
    if not (folder / "model").exists():
        tuned_tagger(CACHE / "encoder", sentences(downloads, "01234567", 1600), folder / "source")
        edgekit.export(folder / "source", folder / "model", options=ExportOptions())
    return Subject(
        model=folder / "model",
        calibration=write_rows(folder / "few.jsonl", sentences(downloads, "8", CALIBRATION_ROWS)),
        rows=write_rows(folder / "test.jsonl", sentences(downloads, "9", 1000)),
        metric=TAGS,
    )


# --- images -------------------------------------------------------------------------------------------


def fashion_network() -> nn.Sequential:
    """Pixels [batch, 3, 28, 28], of equal channels, in [0, 1] -> logits [batch, 10]."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2)):
        layers += [nn.Conv2d(before, after, 3, stride, 1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, len(CLASSES)))


def read_idx(path: Path, rank: int) -> np.ndarray[Any, Any]:
    """An array of bytes in the format of MNIST: a magic number, `rank` sizes, the values."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">u4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape([int(size) for size in shape])


def fashion(folder: Path, data: Path) -> Subject:
    """Two passes over 59,000 images; the last 1,000 calibrate."""
    pixels, truth = (
        read_idx(data / "train-images-idx3-ubyte.gz", 3),
        read_idx(data / "train-labels-idx1-ubyte.gz", 1),
    )
    if not (folder / "model").exists():
        network = _trained(fashion_network(), pixels[:-1000], truth[:-1000])
        settings = ImageSettings(resize=Resize(rule="exact", size=(28, 28)), rescale=1 / 255)
        options = ExportOptions(task="image-classification", processor=settings, labels=CLASSES)
        edgekit.export(network, folder / "model", options=options)
    held_out = (
        read_idx(data / "t10k-images-idx3-ubyte.gz", 3),
        read_idx(data / "t10k-labels-idx1-ubyte.gz", 1),
    )
    return Subject(
        model=folder / "model",
        calibration=_write_images(folder / "calibration", pixels[-1000:], truth[-1000:]),
        rows=_write_images(folder / "rows", *held_out),
    )


def _trained(network: nn.Module, pixels: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> nn.Module:
    torch.manual_seed(0)
    x, y = torch.from_numpy(pixels.copy()), torch.from_numpy(truth.astype(np.int64))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(2):
        for rows in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            images = (x[rows] / 255.0)[:, None].expand(-1, 3, -1, -1)
            nn.functional.cross_entropy(network(images), y[rows]).backward()
            optimizer.step()
    return network.eval()


def _write_images(folder: Path, pixels: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> Path:
    from PIL import Image

    for number, (image, label) in enumerate(zip(pixels, truth, strict=True)):
        path = folder / CLASSES[label] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def lite0_photographs(folder: Path, fashion: Path) -> Subject:
    """The network as trained on ImageNet."""
    if not (folder / "model").exists():
        options = ExportOptions(task="image-classification", processor=LITE0_SETTINGS)
        edgekit.export(lite0(CACHE / "downloads"), folder / "model", options=options)
    table = json.loads((folder / "model" / "manifest.json").read_text(encoding="utf-8"))
    labels = {name: table["model"]["labels"][place] for name, place in (("flower", DAISY), ("china", PALACE))}
    return Subject(
        model=folder / "model",
        calibration=_crops(folder / "calibration", labels, CALIBRATION_ROWS, seed=1),
        rows=_crops(folder / "rows", labels, CROPS, seed=2),
    )


def _crops(folder: Path, labels: Mapping[str, str], count: int, seed: int) -> Path:
    """Squares of 70 to 100 % of the shorter side, turned by up to 10 degrees, mirrored, lighter or darker."""
    import sklearn.datasets
    from PIL import Image, ImageEnhance

    photographs = Path(sklearn.datasets.__file__).parent / "images"
    draw = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count):
        name = draw.choice(sorted(labels))
        image = Image.open(photographs / f"{name}.jpg").convert("RGB")
        side = int(min(image.size) * draw.uniform(0.7, 1.0))
        left, top = (draw.randint(0, whole - side) for whole in image.size)
        image = image.rotate(draw.uniform(-10, 10), Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + side, top + side))
        if draw.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        path = folder / f"{number:03d}.png"
        ImageEnhance.Brightness(image).enhance(draw.uniform(0.7, 1.3)).save(path)
        lines.append(json.dumps({"image": path.name, "label": labels[name]}))
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return rows


MODELS: Mapping[str, Callable[[Path, Path], Subject]] = {
    "sentiment": sentiment,
    "tagger": tagger,
    "fashion": fashion,
    "lite0": lite0_photographs,
}


# --- judging ------------------------------------------------------------------------------------------


class Refused(Exception):
    """The command line refused the artifact (exit code 1), in its words."""


def judged(subject: Subject, backend: str, folder: Path) -> str:
    """One line on the int8 artifact of a backend, or why it was refused."""
    try:
        return _judged(subject, backend, folder)
    except Refused as refusal:
        return f"refused: {refusal}"


def _judged(subject: Subject, backend: str, folder: Path) -> str:
    sizes = {}
    for precision in ("fp32", "int8"):
        asked = ["--backend", backend, "--precision", precision, "--max-seconds", "0"]
        if precision == "int8":
            asked += ["--calibration", str(subject.calibration)]
        _edgekit("compile", str(subject.model), *asked, "-o", str(folder / precision))
        sizes[precision] = sum(
            path.stat().st_size for path in (folder / precision).rglob("*") if path.is_file()
        )
    limits = ["--data", str(subject.rows), "--no-budget", "--max-seconds", "3", "--json"]
    metric = ["--metric", subject.metric] if subject.metric else []
    told = _edgekit("validate", str(folder / "int8"), *limits, *metric)
    found = json.loads(told)["report"]["accuracy"]
    flips, rows, drop = found["flips"], found["rows"], found["drop"]
    tags = changed_tags(subject, folder / "int8", backend) if subject.metric == TAGS else ""
    return (
        f"{100 * found['model']:.2f} -> {100 * found['artifact']:.2f} on {rows} rows; {flips} changed "
        f"({1000 * flips / rows:.1f} in 1,000){tags}; drop {drop['estimate']:.2f}, at most "
        f"{drop['high']:.2f} proven; {sizes['int8'] / sizes['fp32']:.2f}x the bytes"
    )


def changed_tags(subject: Subject, artifact: Path, backend: str) -> str:
    """How many words have another tag than the model gives them: a row is a sentence of many."""
    table = read_manifest(subject.model, "model").model
    if table is None:
        raise SystemExit(f"{subject.model} is no exported model")
    task = load_task(table.task)
    asker = Asker(task, table.labels, subject.model / "processor")
    rows = read_rows(subject.rows, task=task, labels=table.labels)
    with (
        open_reference_model(subject.model, table) as exact,
        WorkerClient(open_device("local")) as worker,
        open_remote(worker, artifact, backend, "int8", RunSettings()) as lower,
    ):
        sides = [Answerer(asker=asker, session=each, signature=table.signature) for each in (exact, lower)]
        both = both_answer((sides[0], sides[1]), rows, asker.kind.forms["tags"], lambda *words: None, "")
    pairs = [pair for rows in zip(both.first, both.second, strict=True) for pair in zip(*rows, strict=True)]
    changed = sum(first != second for first, second in pairs)
    return f", {changed} tags of {len(pairs):,} ({1000 * changed / len(pairs):.1f} in 1,000)"


def _edgekit(*words: str) -> str:
    command = [sys.executable, "-m", "edgekit", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 1:
        raise Refused(done.stderr.strip().splitlines()[0])
    if done.returncode not in (0, 5):
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def main() -> None:
    """Judge the named models, or all."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.quantization_accuracy", description=__doc__
    )
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--keep", type=Path, help="a folder for what is made, kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantization-accuracy-") as scratch:
        for name in options.models or MODELS:
            folder = (options.keep or Path(scratch)) / name
            folder.mkdir(parents=True, exist_ok=True)
            subject = MODELS[name](folder, options.fashion)
            for backend in BACKENDS:
                print(f"{name}, {backend}: {judged(subject, backend, folder / backend)}", flush=True)


if __name__ == "__main__":
    main()
