"""What OpenVINO gives for less: edgekit's artifacts beside plain NNCF and plain OpenVINO.

    python -m tests.benchmarks.quantization_openvino [MODEL ...] [--launches N] [--threads N ...]

A launch of the engine is the sampling unit: every launch is a fresh process that opens all variants in
another order and runs them in short blocks in turn, and gives one ratio to `nncf` (NNCF's defaults on the
same graph and rows, in f32) for each. CPU time is the figure that a busy machine leaves alone. Flips are
rows whose top class is not that of the graph in f32. `int8-fixed` is of a model exported for rows of that one
length (`edgekit export --static --max-length`). `roof` is how long the model's layers with stored weights
would take at the rate of one large int8 product in OpenVINO. `minilm` is the classifier of `make demo`,
`bert-base` has random weights, and `lite0` is judged on crops of scikit-learn's two photographs.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "build" / "demo"
RUNS = 5  # in a block of one variant
#: Name -> precision and options of edgekit's variants.
OURS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "int8": ("int8", {}),
    "fp32": ("fp32", {}),
    "bf16": ("bf16", {}),
    "int8-weights": ("int8-weights", {}),
    "int8-weights-bf16": ("int8-weights", {"rest": "bf16"}),
    "int4-weights-bf16": ("int4-weights", {"rest": "bf16"}),
}
#: edgekit's int8 of a model of one fixed length, which the folder's name ends in.
FIXED = "int8-fixed"
#: The others: OpenVINO opened in f32, on NNCF's result or on the graph itself.
THEIRS = ("nncf", "f32")
BASE = "nncf"
#: A control beside them: a product [M, K] x [K, N], large enough for the engine's best rate in int8.
ROOF = "roof"
PRODUCT = (512, 4096, 1024)
#: Weights [out, in, ...], or [groups, out, in, ...] of grouped ones: counted by their size.
CONVOLUTIONS = ("Convolution", "GroupConvolution")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model with its rows. lengths: tokens to time it at, (0,) for images; labels: () when unknown;
    source: what it was exported from, where it can be exported at one length."""

    model: Path
    lengths: tuple[int, ...]
    calibration: list[dict[str, Any]]
    test: list[dict[str, Any]]
    labels: tuple[int, ...] = ()
    source: Path | None = None


def minilm(_folder: Path) -> Subject:
    """The demo's classifier, with 300 rows to calibrate and 1,510 to judge."""
    calibration, _ = rows("calibration")
    test, labels = rows("test")
    return Subject(
        model=DEMO / "model",
        lengths=(128, 16),
        calibration=calibration,
        test=test,
        labels=labels,
        source=DEMO / "model-src",
    )


def bert_base(folder: Path) -> Subject:
    """BERT-base's shape, random weights, the demo's rows."""
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    import edgekit

    BertForSequenceClassification(BertConfig()).save_pretrained(folder / "source")
    AutoTokenizer.from_pretrained(DEMO / "model-src").save_pretrained(folder / "source")
    edgekit.export(folder / "source", folder / "model")
    calibration, _ = rows("calibration")
    return Subject(
        model=folder / "model",
        lengths=(128, 16),
        calibration=calibration[:50],
        test=[],
        source=folder / "source",
    )


def lite0(folder: Path) -> Subject:
    """EfficientNet-Lite0 as trained on ImageNet."""
    import torch

    import edgekit
    from tests.lite0 import lite0 as network

    options = edgekit.ExportOptions(
        example_inputs={"pixel_values": torch.randn(2, 3, 224, 224)},
        dynamic_axes={"pixel_values": {0: "batch"}},
        output_names=("logits",),
    )
    edgekit.export(network(ROOT / "build" / "tests" / "downloads"), folder / "model", options=options)
    drawn = crops(300)
    return Subject(model=folder / "model", lengths=(0,), calibration=drawn[:100], test=drawn[100:])


MODELS: Mapping[str, Callable[[Path], Subject]] = {"minilm": minilm, "bert-base": bert_base, "lite0": lite0}


def rows(
    name: str, model: Path = DEMO / "model", length: int | None = None
) -> tuple[list[dict[str, Any]], tuple[int, ...]]:
    """Feeds and labels of one of the demo's files, as `model` takes them, padded to `length`."""
    from edgekit_runtime.processors import load_processor

    processor = load_processor(model / "processor")
    lines = (DEMO / "data" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    feeds = [dict(processor.prepare([row["text"]], pad_to=length).feeds) for row in found]
    return feeds, tuple(int(row["label"] == "positive") for row in found)


def crops(count: int) -> list[dict[str, Any]]:
    """Pieces of two photographs, of random place and size, as the network takes them."""
    import sklearn.datasets
    from PIL import Image

    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(image) for image in sklearn.datasets.load_sample_images().images]
    found = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        side = int(rng.integers(200, min(photograph.size)))
        left, top = (int(rng.integers(0, whole - side + 1)) for whole in photograph.size)
        piece = photograph.crop((left, top, left + side, top + side)).resize((224, 224))
        pixels = (np.asarray(piece, np.float32).transpose(2, 0, 1)[np.newaxis] - 127) / 128
        found.append({"pixel_values": np.ascontiguousarray(pixels)})
    return found


def build(subject: Subject, folder: Path, names: Sequence[str]) -> None:
    """Compile every variant into FOLDER/NAME; those of fixed lengths into one folder for each."""
    from edgekit_runtime.feeds import write_feeds

    write_feeds(folder / "rows", subject.calibration)
    for name in names:
        before = time.process_time()
        if name == FIXED:
            build_fixed(subject, folder)
        elif name in THEIRS:
            plain(subject.model / "model.onnx", folder / name, subject, quantized=name == "nncf")
        else:
            ours(subject.model, folder / name, folder / "rows", name)
        print(f"  {name}: built in {time.process_time() - before:.0f} CPU s", file=sys.stderr)


def build_fixed(subject: Subject, folder: Path) -> None:
    """Export the source for rows of each length alone, and compile that."""
    import edgekit
    from edgekit_runtime.feeds import write_feeds

    for length in subject.lengths if subject.source else ():
        options = edgekit.ExportOptions(static=True, max_length=length)
        model, count = folder / f"model-{length}", len(subject.calibration)
        edgekit.export(subject.source, model, options=options)
        write_feeds(folder / f"rows-{length}", rows("calibration", model, length)[0][:count])
        ours(model, folder / f"{FIXED}-{length}", folder / f"rows-{length}", "int8")


def ours(model: Path, place: Path, calibration: Path, name: str) -> None:
    """Compile an exported model as the variant `name`."""
    from edgekit.api import CompileRequest, Target
    from edgekit.files.manifests import read_manifest
    from edgekit_openvino.compiler import Compiler

    table = read_manifest(model, "model").model
    if table is None:
        raise SystemExit(f"{model} is no exported model")
    place.mkdir()
    precision, options = OURS[name]
    request = CompileRequest(
        model=model / "model.onnx",
        signature=table.signature,
        workdir=place,
        precision=precision,
        target=Target(name="here"),
        options=options,
        calibration=None if precision == "fp32" else calibration,
    )
    Compiler().compile(request, lambda _done, _total, _what: None)


def plain(graph: Path, place: Path, subject: Subject, *, quantized: bool) -> None:
    """What one gets without edgekit: the graph, or NNCF's defaults with the model type that it asks for."""
    from edgekit_openvino.engine import ov

    place.mkdir()
    model = ov.Core().read_model(graph)
    if quantized:
        import nncf

        kind = nncf.ModelType.TRANSFORMER if subject.lengths[0] else None
        model = nncf.quantize(model, nncf.Dataset(subject.calibration), model_type=kind)
    ov.save_model(model, place / "model.xml", compress_to_fp16=False)


def opened(place: Path, threads: int) -> Callable[[Mapping[str, Any]], Any]:
    """A variant as a function of feeds."""
    from edgekit_openvino.description import read_description
    from edgekit_openvino.engine import ov
    from edgekit_openvino.session import open_session
    from edgekit_runtime.values import OpenRequest

    if place.name in THEIRS:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
        compiled = ov.Core().compile_model(
            place / "model.xml", "CPU", {**settings, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        )
        infer, names = compiled.create_infer_request(), [port.any_name for port in compiled.inputs]
        return lambda feeds: infer.infer([feeds[name] for name in names])[0]
    model = ov.Core().read_model(place / "model.xml")
    found = read_description(model, place / "model.xml")
    session = open_session(OpenRequest(directory=place, precision=found.precision, threads=threads))
    return lambda feeds: next(iter(session.run(feeds).values()))


def linear_work(graph: Path, length: int) -> float:
    """Multiplications and additions of the layers with stored weights, for one row of `length` tokens."""
    from edgekit_openvino.engine import ov

    model = ov.Core().read_model(graph)
    shapes = {one.any_name: [1, length] if length else [1, 3, 224, 224] for one in model.inputs}
    model.reshape(shapes)
    work = 0.0
    for node in model.get_ops():
        weight = node.input_value(1) if node.get_type_name() in ("MatMul", *CONVOLUTIONS) else None
        if weight is None or weight.get_node().get_type_name() != "Constant":
            continue
        places = (
            np.prod(node.get_output_shape(0))
            / (node.get_output_shape(0)[1 if node.get_type_name() in CONVOLUTIONS else -1])
        )
        work += 2 * float(np.prod(weight.get_shape())) * float(places)
    return work


def product(threads: int) -> Callable[[Mapping[str, Any]], Any]:
    """One int8 product of the size `PRODUCT`, activations rounded as in the models."""
    from edgekit_openvino.engine import ops, ov

    rows, inner, columns = PRODUCT
    rng = np.random.default_rng(0)
    given = ops.parameter([rows, inner], np.float32)
    low, high = np.float32(-1), np.float32(1)
    activation = ops.fake_quantize(given, low, high, low, high, 256)
    stored = ops.constant(rng.integers(-127, 128, (columns, inner)).astype(np.int8))
    weight = ops.multiply(ops.convert(stored, "f32"), np.full((columns, 1), 0.01, np.float32))
    model = ov.Model([ops.matmul(activation, weight, False, True)], [given], ROOF)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    infer = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    values = rng.standard_normal((rows, inner)).astype(np.float32)
    return lambda _feeds: infer.infer([values])


def launch(folder: Path, length: int, threads: int, rounds: int, seed: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of a run per variant, in one process, the variants in turn."""
    variants = (*OURS, *THEIRS, f"{FIXED}-{length}")
    names = [path.name for path in sorted(folder.iterdir()) if path.name in variants]
    order = random.Random(seed)
    order.shuffle(names)
    runs = {name: opened(folder / name, threads) for name in names}
    runs[ROOF] = product(threads)
    names.append(ROOF)
    rng = np.random.default_rng(seed)
    if length:
        ids = rng.integers(1000, 30000, (1, length))
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    else:
        feeds = {"pixel_values": rng.standard_normal((1, 3, 224, 224)).astype(np.float32)}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        order.shuffle(names)
        for name in names:
            runs[name](feeds)
            for _ in range(RUNS):
                wall, busy = time.perf_counter(), time.process_time()
                runs[name](feeds)
                taken[name].append((time.perf_counter() - wall, time.process_time() - busy))
    return {
        name: (statistics.median(wall for wall, _ in times), statistics.median(busy for _, busy in times))
        for name, times in taken.items()
    }


def answers(folder: Path, subject: Subject, names: Sequence[str]) -> None:
    """Flips, accuracy and distance of each variant on the test rows, against the graph in f32."""
    if not subject.test:
        return
    wanted: Any = None
    for name in ("f32", *(name for name in names if name != "f32")):
        run = opened(folder / name, 1)
        got = np.array([run(feeds)[0].copy() for feeds in subject.test])
        wanted = got if wanted is None else wanted
        flips = int((got.argmax(1) != wanted.argmax(1)).sum())
        share = f", accuracy {(got.argmax(1) == subject.labels).mean():.2%}" if subject.labels else ""
        distance = np.abs(got - wanted).mean()
        print(f"  {name:18} {flips:3d} flips of {len(got)}{share}, mean distance {distance:.4f}")
    sys.stdout.flush()


def times(
    title: str, folder: Path, graph: Path, arguments: tuple[int, int], launches: int, rounds: int
) -> None:
    """The paired table of one length and one number of threads."""
    found = []
    for number in range(launches):
        words = [str(word) for word in (folder, *arguments, rounds, number)]
        command = [sys.executable, "-m", __spec__.name, "--launch", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        found.append(json.loads(done.stdout))
    length, threads = arguments
    tokens = f", {length} tokens" if length else ""
    print(f"{title}{tokens}, threads {threads}  [{launches} launches]")
    rows, inner, columns = PRODUCT
    scale = linear_work(graph, length) / (2 * rows * inner * columns)
    for one in found:
        one[ROOF] = [seconds * scale for seconds in one[ROOF]]
    for name in found[0]:
        share = statistics.median(one[ROOF][1] / one[name][1] for one in found)
        ratios = [[one[name][kind] / one[BASE][kind] for one in found] for kind in (0, 1)]
        wall, busy = (
            f"{statistics.median(kind):.2f} ({min(kind):.2f} to {max(kind):.2f})" for kind in ratios
        )
        milliseconds = statistics.median(one[name][1] for one in found) * 1e3
        print(
            f"  {name:18} {milliseconds:8.2f} CPU ms   CPU {busy}   wall {wall} of {BASE}   roof {share:.0%}"
        )
    sys.stdout.flush()


def sizes(subject: Subject, folder: Path, names: Sequence[str]) -> None:
    """Weights of each variant as a share of the exported file."""
    whole = sum(path.stat().st_size for path in subject.model.glob("model.onnx*"))
    shares = {name: (folder / name / "model.bin").stat().st_size / whole for name in names}
    print("  size: " + ", ".join(f"{name} {share:.3f}" for name, share in shares.items()))


def main() -> None:
    """Build the variants of each model and compare them."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.quantization_openvino", description=__doc__
    )
    parser.add_argument("models", nargs="*", help=f"which of {', '.join(MODELS)}; default: all")
    parser.add_argument(
        "--variants", nargs="+", default=[*OURS, FIXED, *THEIRS], choices=[*OURS, FIXED, *THEIRS]
    )
    parser.add_argument("--launches", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=10, help=f"blocks of {RUNS} runs in a launch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--launch", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.launch:
        folder, *numbers = options.launch
        length, threads, rounds, seed = map(int, numbers)
        print(json.dumps(launch(Path(folder), length, threads, rounds, seed)))
        return
    names = list(dict.fromkeys([*options.variants, *THEIRS]))
    for name in options.models or MODELS:
        folder = Path(tempfile.mkdtemp(prefix="edgekit-quantization-"))
        try:
            subject = MODELS[name](folder)
            build(subject, folder, names)
            print(name)
            free = [name for name in names if name != FIXED]
            sizes(subject, folder, free)
            answers(folder, subject, free)
            for length in subject.lengths:
                for threads in options.threads:
                    arguments = (length, threads)
                    graph = subject.model / "model.onnx"
                    times(name, folder, graph, arguments, options.launches, options.rounds)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
