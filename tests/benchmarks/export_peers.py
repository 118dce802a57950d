"""`edgekit export` beside `optimum-cli export onnx` and a plain call of torch.onnx.export.

    python -m tests.benchmarks.export_peers [MODEL ...] [--peer-venv DIR] [--rounds N] [--launches N]

The peer lives in an environment of its own, which is made in a temporary folder unless it is given; its
pins allow only an older transformers. Exports take turns, whole commands in fresh processes: CPU seconds
of all processes, and the largest sum of their resident memory. Of edgekit's the steps "running the
original" and "checking" are listed apart; optimum checks on one made-up batch, the plain call not at all.

The files are run by one ONNX Runtime, with one thread. A launch is the sampling unit: it opens all files
in another order, runs them in turn, and gives one ratio of median CPU times; of a use that takes several
graphs, of the sum of their medians, each as often as it is run. Shown: the median of the
launches' ratios and its interval (order statistics, at least 95 %). Below 1 edgekit's file is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.benchmarks.peer_models import MODELS, Graph, make_model
from tests.benchmarks.process_tree import Taken, run_command

if TYPE_CHECKING:
    import onnxruntime

#: What the peer's environment holds. torch comes first, so that the resolver keeps the one that is there.
PEER = (("torch==2.13.0",), ("optimum-onnx[onnxruntime]==0.1.0",))
OURS, OPTIMUM, PLAIN = "edgekit", "optimum", "plain"
#: Steps of edgekit's export that prove the result; the other tools have none like them.
CHECKS = ("running the original", "checking")
_SAME = 2e-3
#: A file, the sizes of its axes, and how often it is run for one answer.
Timed = tuple[str, Mapping[str, int], int]


def make_peer(folder: Path) -> Path:
    """An environment with optimum; the folder of its commands."""
    if not (folder / "bin" / "optimum-cli").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for wanted in PEER:
            pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", *wanted]
            subprocess.run(pip, check=True)
    return folder / "bin"


def peer_versions(commands: Path) -> str:
    """Versions in the peer's environment."""
    names = ("optimum-onnx", "transformers", "torch", "onnx", "onnxruntime")
    code = f"import importlib.metadata as m; print(', '.join(f'{{n}} {{m.version(n)}}' for n in {names}))"
    done = subprocess.run([commands / "python", "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


# --- exporting ----------------------------------------------------------------------------------------


def export_all(
    name: str, folder: Path, commands: Path, rounds: int
) -> tuple[dict[str, list[Taken]], list[float]]:
    """What each tool took in each round, and the CPU seconds of edgekit's checks. Files stay in `folder`."""
    model = MODELS[name]
    source = str(folder / "source")
    ours = [sys.executable, "-m", __spec__.name, "--step", OURS, name, source]
    runs: dict[str, list[str]] = {
        OURS: [*ours, str(folder / OURS)],
        OPTIMUM: [
            str(commands / "optimum-cli"),
            *("export", "onnx", "-m", source, "--task", model.peer_task, "--library-name", "transformers"),
            *model.peer_options,
            str(folder / OPTIMUM),
        ],
    }
    if model.auto_class:
        runs[PLAIN] = [*ours[:3], "--step", PLAIN, name, source, str(folder / PLAIN)]
    taken: dict[str, list[Taken]] = {tool: [] for tool in runs}
    checks = []
    for _ in range(rounds):
        for tool, command in runs.items():
            taken[tool].append(run_command(command, environment={"HF_HUB_OFFLINE": "1"}))
        steps = json.loads((folder / f"{OURS}.json").read_text())
        checks.append(sum(steps[step] for step in CHECKS))
    return taken, checks


def export_ours(name: str, source: Path, output: Path) -> None:
    """edgekit's export; the CPU seconds of its steps go to a file beside."""
    import edgekit

    made = edgekit.export(source, output, options=edgekit.ExportOptions(task=MODELS[name].task, force=True))
    output.with_suffix(".json").write_text(json.dumps(made.cpu_seconds))


def export_plain(name: str, source: Path, output: Path) -> None:
    """What a user would write: load, trace with axes that vary, save."""
    import torch
    import transformers

    model = getattr(transformers, MODELS[name].auto_class).from_pretrained(source).eval()
    if MODELS[name].auto_class == "AutoModelForImageClassification":
        size = model.config.image_size if hasattr(model.config, "image_size") else 224
        feeds = {"pixel_values": torch.zeros(2, 3, size, size)}
        axes: dict[int, Any] = {0: torch.export.Dim.DYNAMIC}
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        feeds = dict(tokenizer(["a short text", "and another"], padding=True, return_tensors="pt"))
        axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    output.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        torch.onnx.export(
            model,
            (),
            str(output / "model.onnx"),
            kwargs=feeds,
            dynamo=True,
            dynamic_shapes=dict.fromkeys(feeds, axes),
            external_data=False,
            verbose=False,
        )


# --- the files ----------------------------------------------------------------------------------------


def nodes(path: Path) -> int:
    """Nodes of a graph and of the graphs in it, without constants."""
    import onnx

    def count(graph: onnx.GraphProto) -> int:
        inner = [each.g for node in graph.node for each in node.attribute if each.HasField("g")]
        here = sum(1 for node in graph.node if node.op_type != "Constant")
        return here + sum(map(count, inner))

    model: onnx.ModelProto = onnx.load(path, load_external_data=False)
    return count(model.graph)


def launch(uses: Mapping[str, Sequence[Timed]], rounds: int, seed: int) -> dict[str, Any]:
    """CPU seconds of each tool's use, and how far first outputs are from edgekit's where one graph is all."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = 3
    order = [(tool, at) for tool, graphs in uses.items() for at in range(len(graphs))]
    shuffle = random.Random(seed).shuffle
    shuffle(order)
    sessions = {(tool, at): onnxruntime.InferenceSession(uses[tool][at][0], settings) for tool, at in order}
    feeds = {(tool, at): _feeds(sessions[tool, at], uses[tool][at][1], seed) for tool, at in order}
    alone = [tool for tool, graphs in uses.items() if len(graphs) == 1]
    first = {tool: sessions[tool, 0].run(None, feeds[tool, 0])[0] for tool in alone}
    apart = {tool: float(np.abs(array - first[OURS]).max()) for tool, array in _alike(first).items()}
    taken: dict[tuple[str, int], list[float]] = {each: [] for each in order}
    for _ in range(rounds + 2):
        shuffle(order)
        for each in order:
            before = time.process_time()
            sessions[each].run(None, feeds[each])
            taken[each].append(time.process_time() - before)
    middle = {each: statistics.median(times[2:]) for each, times in taken.items()}
    cpu = {
        tool: sum(middle[tool, at] * graphs[at][2] for at in range(len(graphs)))
        for tool, graphs in uses.items()
    }
    return {"cpu": cpu, "apart": apart}


def _alike(first: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs of the shape of edgekit's: a graph of parts may give others."""
    if OURS not in first:
        return {}
    return {tool: array for tool, array in first.items() if array.shape == first[OURS].shape}


def _feeds(
    session: onnxruntime.InferenceSession, sizes: Mapping[str, int], seed: int
) -> dict[str, np.ndarray[Any, Any]]:
    """Ids, masks of ones, and random numbers: the same in every file for inputs of one name."""
    found: dict[str, np.ndarray[Any, Any]] = {}
    for spec in session.get_inputs():
        rng = np.random.default_rng(seed)
        shape = [
            axis if isinstance(axis, int) else _size(spec.name, at, len(spec.shape), sizes)
            for at, axis in enumerate(spec.shape)
        ]
        if spec.type != "tensor(int64)":
            found[spec.name] = rng.standard_normal(shape).astype(np.float32) / 4
        elif "ids" in spec.name and "type" not in spec.name:
            found[spec.name] = rng.integers(1, 90, shape)
        else:
            found[spec.name] = np.full(shape, "mask" in spec.name, np.int64)
    return found


def _size(name: str, at: int, rank: int, sizes: Mapping[str, int]) -> int:
    """The size of an axis that varies, by its input's name and place: every tool names axes its own way."""
    if at == 0:
        return 1
    if f"{name}.{at}" in sizes:
        return sizes[f"{name}.{at}"]
    if "encoder" in name or "cross" in name:
        return sizes["source"]
    return sizes["past" if rank == 4 else "tokens"]


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Low, median and high: order statistics hold the true median at 95 % or more, from 6 values on."""
    ordered = sorted(values)
    count, outside = len(ordered), 0.0
    cut = 0
    for number in range(count // 2):
        outside += 2 * math.comb(count, number) / 2**count
        if outside > 0.05:
            break
        cut = number
    return ordered[cut], statistics.median(ordered), ordered[-1 - cut]


def compare(uses: Mapping[str, Sequence[Timed]], launches: int, rounds: int) -> str:
    """edgekit's CPU time over each other tool's."""
    ratios: dict[str, list[float]] = {tool: [] for tool in uses if tool != OURS}
    for seed in range(launches):
        words = ["--launch", json.dumps(uses), str(rounds), str(seed)]
        command = [sys.executable, "-m", __spec__.name, *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        far = {tool: apart for tool, apart in found["apart"].items() if apart > _SAME}
        if far:
            raise RuntimeError(f"these files answer differently from edgekit's: {far}")
        for tool, known in ratios.items():
            known.append(found["cpu"][OURS] / found["cpu"][tool])
    shown = {tool: interval(known) for tool, known in ratios.items()}
    return ", ".join(
        f"{mid:.3f} ({low:.3f} to {high:.3f}) of {tool}'s" for tool, (low, mid, high) in shown.items()
    )


# --- the table ----------------------------------------------------------------------------------------


def report_exports(name: str, folder: Path, commands: Path, rounds: int) -> None:
    """What exporting `name` took."""
    taken, checks = export_all(name, folder, commands, rounds)
    print(f"{name}  [{rounds} exports each, in turn]")
    for tool, each in taken.items():
        cpu, peak = ([getattr(run, key) for run in each] for key in ("cpu", "peak_mib"))
        print(f"  {tool:8} {_spread(cpu, '.1f')} CPU s, {_spread(peak, '.0f')} MiB peak")
    bare = [run.cpu - spent for run, spent in zip(taken[OURS], checks, strict=True)]
    print(f"  {OURS} without its checks {_spread(bare, '.1f')} CPU s; they take {_spread(checks, '.1f')}")
    for tool, each in taken.items():
        if tool != OURS:
            whole = [ours.cpu / other.cpu for ours, other in zip(taken[OURS], each, strict=True)]
            alone = [ours / other.cpu for ours, other in zip(bare, each, strict=True)]
            print(f"  of {tool}'s CPU time: {_spread(whole, '.2f')}, without checks {_spread(alone, '.2f')}")


def report_files(name: str, folder: Path, launches: int) -> None:
    """How the exported files of `name` compare."""
    for use in MODELS[name].uses:
        graphs = {tool: each for tool, each in use.graphs.items() if (folder / tool).exists()}
        counts = ", ".join(f"{tool} {_nodes(folder / tool, each)}" for tool, each in graphs.items())
        timed = {
            tool: [(str(folder / tool / graph.path), dict(graph.sizes), graph.times) for graph in each]
            for tool, each in graphs.items()
        }
        print(f"  {name}, {use.name}: nodes {counts}")
        print(f"    {compare(timed, launches, use.runs)}  [{launches} launches]")
        sys.stdout.flush()


def _nodes(folder: Path, graphs: Sequence[Graph]) -> int:
    return sum(nodes(folder / graph.path) for graph in graphs)


def _spread(values: Sequence[float], form: str) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    """Compare the named models, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.export_peers", description=__doc__)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--peer-venv", type=Path, help="an environment with optimum-onnx; made there if not")
    parser.add_argument("--rounds", type=int, default=3, help="exports by each tool")
    parser.add_argument("--launches", type=int, default=9)
    parser.add_argument("--files-only", action="store_true", help="of files that --keep holds: no exports")
    parser.add_argument("--keep", type=Path, help="a folder for the files, kept")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--launch", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        tool, name, source, output = options.step
        (export_ours if tool == OURS else export_plain)(name, Path(source), Path(output))
        return
    if options.launch:
        uses, rounds, seed = options.launch
        print(json.dumps(launch(json.loads(uses), int(rounds), int(seed))))
        return
    if options.files_only and not options.keep:
        parser.error("--files-only takes the files of --keep")
    with tempfile.TemporaryDirectory(prefix="export-peers-") as scratch:
        commands = make_peer(options.peer_venv or Path(scratch) / "venv")
        print(peer_versions(commands))
        for name in options.models or MODELS:
            folder = (options.keep or Path(scratch)) / name
            folder.mkdir(parents=True, exist_ok=True)
            make_model(name, folder / "source")
            if not options.files_only:
                report_exports(name, folder, commands, options.rounds)
            report_files(name, folder, options.launches)


if __name__ == "__main__":
    main()
