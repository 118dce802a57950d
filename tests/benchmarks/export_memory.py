"""How much memory `edgekit export` takes: peak of all its processes, beyond what a tiny model takes.

    python -m tests.benchmarks.export_memory [CASE ...] [--rounds N]

A case is a classifier in BERT's manner with random weights. Growth is the peak of the whole process tree
less that of the same export of a model of under 1 MiB (imports, workers, buffers), over the size of the
weights in fp32. Pages of mapped files count as memory. Disk is the most that lay in the output's folder
while it was made, over the finished model; checking takes one more copy in the temporary folder. It needs
8 GB of memory and of disk: run one at a time.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.process_tree import run_command
from tests.models import tiny_tokenizer

#: Growth over the fp32 weights that exporting may have.
GOAL = 2.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A model in BERT's manner. dtype: of the weights as stored; shard: the largest file of weights."""

    hidden: int = 2048
    layers: int = 4
    dtype: str = "float32"
    shard: str = "50GB"


CASES: Mapping[str, Source] = {
    "float32": Source(),
    "bfloat16, sharded": Source(dtype="bfloat16", shard="200MB"),
    "float16, external data": Source(layers=7, dtype="float16"),
    "float32, over 2 GiB": Source(layers=10),
}
_TINY = Source(hidden=64)


def make_source(source: Source, folder: Path) -> None:
    """Save the model and its tokenizer in `folder`."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=source.hidden,
        num_hidden_layers=source.layers,
        num_attention_heads=source.hidden // 64,
        intermediate_size=4 * source.hidden,
        max_position_embeddings=64,
        vocab_size=30522 if source.hidden > 64 else 300,
    )
    model = BertForSequenceClassification(config).to(getattr(torch, source.dtype))
    model.eval().save_pretrained(folder, max_shard_size=source.shard)
    tiny_tokenizer(folder, 64)


def measure(folder: Path) -> tuple[float, float]:
    """Peak MiB of exporting the source in `folder`, and the most MiB on disk over the finished model."""
    with tempfile.TemporaryDirectory(prefix="out-", dir=folder.parent) as name:
        output = Path(name) / "model"
        command = [sys.executable, "-m", "edgekit", "export", str(folder), "-o", str(output)]
        taken = run_command(command, watched=Path(name))
        finished = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
        return taken.peak_mib, taken.written_mib * 2**20 / finished


def report(name: str, rounds: int, scratch: Path) -> None:
    """One line of the table: growth of each round, and the disk that the worst took."""
    for kind, source in (("tiny", _TINY), ("large", CASES[name])):
        if kind == "large" or not (scratch / kind).exists():
            run_command([sys.executable, "-m", __spec__.name, "--make", *_words(source), str(scratch / kind)])
    weights = sum(path.stat().st_size for path in (scratch / "large").glob("*.safetensors")) / 2**20
    weights *= 1 if CASES[name].dtype == "float32" else 2
    least = max(measure(scratch / "tiny")[0] for _ in range(2))
    found = [measure(scratch / "large") for _ in range(rounds)]
    growth = sorted((peak - least) / weights for peak, _ in found)
    disk = max(share for _, share in found)
    verdict = f"{GOAL} {'kept' if growth[-1] <= GOAL else 'missed'}"
    spread = f"{growth[0]:.2f} to {growth[-1]:.2f}"
    print(f"| {name} | {weights:.0f} MiB | {spread} | {disk:.2f} | {verdict} |")
    sys.stdout.flush()


def _words(source: Source) -> list[str]:
    return [str(source.hidden), str(source.layers), source.dtype, source.shard]


def main() -> None:
    """Measure the named cases, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.export_memory", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of: {'; '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=3, help="exports of each case")
    parser.add_argument("--make", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        hidden, layers, dtype, shard, folder = options.make
        make_source(Source(hidden=int(hidden), layers=int(layers), dtype=dtype, shard=shard), Path(folder))
        return
    print(f"{platform.machine()}; growth and disk over fp32 weights and the finished model")
    print("| source | weights in fp32 | growth, least to most | disk | goal |\n|---|---|---|---|---|")
    for name in options.cases or CASES:
        with tempfile.TemporaryDirectory(prefix="export-memory-") as scratch:
            report(name, options.rounds, Path(scratch))


if __name__ == "__main__":
    main()
