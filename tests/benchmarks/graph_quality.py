"""How good the exported graph is: nodes, and CPU time per run beside what torch's exporters give.

    python -m tests.benchmarks.graph_quality [MODEL ...] [--launches N]

Variants of one model: `legacy` (torch.onnx.export(dynamo=False)), `dynamo` (as it comes), `edgekit`
(this house's graph), `optimized` (ours after onnxscript's optimizer). A launch of the engine is the
sampling unit: every launch opens all variants in another order and runs them in turn, one thread,
and gives one ratio of median CPU times per variant. Ratios below 1 are faster than legacy.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ENCODER = ROOT / "build" / "tests" / "encoder"
OPSET = 20
VARIANTS = ("legacy", "dynamo", "edgekit", "optimized")


def minilm() -> tuple[Any, dict[str, Any]]:
    """The real 6-layer encoder of the tests."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(ENCODER).eval(), texts(30000)


def bert_base() -> tuple[Any, dict[str, Any]]:
    """BERT-base's shape, random weights."""
    from transformers import BertConfig, BertModel

    return BertModel(BertConfig()).eval(), texts(30000)


def t5_encoder() -> tuple[Any, dict[str, Any]]:
    """The encoder of T5-small's shape, random weights."""
    from transformers import T5Config, T5EncoderModel

    feeds = texts(30000)
    del feeds["token_type_ids"]
    return T5EncoderModel(T5Config()).eval(), feeds


def vit() -> tuple[Any, dict[str, Any]]:
    """ViT-small's shape, random weights."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    return ViTForImageClassification(config).eval(), image()


def resnet() -> tuple[Any, dict[str, Any]]:
    """ResNet-50's shape, random weights."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig()).eval(), image()


def texts(vocabulary: int) -> dict[str, Any]:
    """Three rows of 11 tokens, the last padded."""
    import torch

    mask = torch.ones(3, 11, dtype=torch.int64)
    mask[2, 7:] = 0
    ids = torch.randint(0, vocabulary, (3, 11))
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(mask)}


def image() -> dict[str, Any]:
    """Three images of 224 by 224."""
    import torch

    return {"pixel_values": torch.randn(3, 3, 224, 224)}


MODELS: Mapping[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "minilm": minilm,
    "bert-base": bert_base,
    "t5-encoder": t5_encoder,
    "vit": vit,
    "resnet": resnet,
}


def make_variants(name: str, folder: Path) -> None:
    """Write VARIANT.onnx for one model."""
    import onnx_ir
    import onnxscript.optimizer
    import torch

    from edgekit.exporting import onnx
    from edgekit.exporting.attention import plain_attention
    from edgekit.exporting.module import load_module
    from edgekit.exporting.options import ExportOptions
    from edgekit.exporting.quiet import quiet_libraries

    torch.manual_seed(0)
    model, feeds = MODELS[name]()
    axes = {
        key: {0: "batch", 1: "sequence"} if value.dtype == torch.int64 else {0: "batch"}
        for key, value in feeds.items()
    }
    outputs = ("logits",) if "pixel_values" in feeds else ("last_hidden_state",)
    module = one_output(model, tuple(feeds), outputs[0])
    limits = {"sequence": (1, 512)} if "input_ids" in feeds else {}
    options = ExportOptions(
        example_inputs=feeds, dynamic_axes=axes, axis_ranges=limits, output_names=outputs, opset=OPSET
    )
    subject = replace(load_module(module, options), tracing=lambda: plain_attention(model))
    ours = onnx.trace(subject, OPSET)
    onnx_ir.save(ours, folder / "edgekit.onnx")
    onnxscript.optimizer.optimize_ir(ours)
    onnx_ir.save(ours, folder / "optimized.onnx")
    dims = {"batch": torch.export.Dim("batch"), "sequence": torch.export.Dim("sequence", max=512)}
    shapes = ({key: {at: dims[axis] for at, axis in named.items()} for key, named in axes.items()}.values(),)
    common: dict[str, Any] = {
        "input_names": list(feeds),
        "output_names": list(outputs),
        "opset_version": OPSET,
    }
    with quiet_libraries(), torch.no_grad():
        values = tuple(feeds.values())
        torch.onnx.export(
            module,
            values,
            folder / "dynamo.onnx",
            dynamo=True,
            dynamic_shapes=(tuple(*shapes),),
            external_data=False,
            verbose=False,
            **common,
        )
        torch.onnx.export(
            module, values, str(folder / "legacy.onnx"), dynamo=False, dynamic_axes=axes, **common
        )


def one_output(model: Any, inputs: Sequence[str], output: str) -> Any:
    """`model` with tensors by position in and one tensor out."""
    import torch

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *feeds: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.model(**dict(zip(inputs, feeds, strict=True)))[output]
            return result

    return Module().eval()


def launch(folder: Path, length: int, rounds: int, seed: int) -> dict[str, float]:
    """Median CPU seconds of a run per variant, in one process, the variants in turn."""
    import onnxruntime

    names = [name for name in VARIANTS if (folder / f"{name}.onnx").exists()]
    order = random.Random(seed)
    order.shuffle(names)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    sessions = {name: onnxruntime.InferenceSession(folder / f"{name}.onnx", settings) for name in names}
    rng = np.random.default_rng(seed)
    feeds = {}
    for spec in sessions["legacy"].get_inputs():
        if spec.type == "tensor(int64)":
            drawn = rng.integers(1, 30000, (1, length)) if spec.name == "input_ids" else np.ones((1, length))
            feeds[spec.name] = drawn.astype(np.int64) * (spec.name != "token_type_ids")
        else:
            feeds[spec.name] = rng.standard_normal((1, 3, 224, 224)).astype(np.float32)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds + 2):
        order.shuffle(names)
        for name in names:
            before = time.process_time()
            sessions[name].run(None, feeds)
            taken[name].append(time.process_time() - before)
    return {name: statistics.median(times[2:]) for name, times in taken.items()}


def report(name: str, folder: Path, launches: int, rounds: int) -> None:
    """Nodes of each variant, and its CPU time over legacy's: the median of the launches and their range."""
    import onnx

    lengths = (0,) if name in ("vit", "resnet") else (128, 16)
    for length in lengths:
        ratios: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for number in range(launches):
            command = [sys.executable, "-m", __spec__.name, "--launch", str(folder), str(length), str(rounds)]
            done = subprocess.run(
                [*command, str(number)], check=True, capture_output=True, text=True, cwd=ROOT
            )
            medians = json.loads(done.stdout)
            for variant, seconds in medians.items():
                ratios[variant].append(seconds / medians["legacy"])
        print(f"{name}" + (f", {length} tokens" if length else "") + f"  [{launches} launches]")
        for variant, found in ratios.items():
            graph = onnx.load(folder / f"{variant}.onnx", load_external_data=False).graph
            nodes = sum(node.op_type != "Constant" for node in graph.node)
            low, middle, high = min(found), statistics.median(found), max(found)
            ratio = f"{middle:.3f} ({low:.3f} to {high:.3f})"
            print(f"  {variant:10} {nodes:5d} nodes   {ratio} of legacy's CPU time")
        sys.stdout.flush()


def main() -> None:
    """Make the variants of each model and compare them."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.graph_quality", description=__doc__)
    parser.add_argument("models", nargs="*", help=f"which of {', '.join(MODELS)}; default: all")
    parser.add_argument("--launches", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=40, help="runs of each variant in a launch")
    parser.add_argument("--launch", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=Path, help="a folder for the variants, kept")
    options = parser.parse_args()
    if options.launch:
        folder, length, rounds, seed = options.launch
        print(json.dumps(launch(Path(folder), int(length), int(rounds), int(seed))))
        return
    for name in options.models or MODELS:
        with tempfile.TemporaryDirectory() as scratch:
            folder = (options.keep or Path(scratch)) / name
            if not (folder / "legacy.onnx").exists():
                folder.mkdir(parents=True, exist_ok=True)
                make_variants(name, folder)
            report(name, folder, options.launches, options.rounds)


if __name__ == "__main__":
    main()
