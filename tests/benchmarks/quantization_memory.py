"""How much memory compiling takes: growth over the imports, in multiples of the fp32 weights.

    python -m tests.benchmarks.quantization_memory [openvino-int8] [onnxruntime-int8] [...]

BERT-base's shape with random weights and rows of the demo (`make demo` first). Every variant is compiled in
a process of its own, as the worker does it, after a tiny model, which imports all that is imported on first
use (NNCF looks for torch). The growth is the largest resident memory since then; pages of files are among it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from edgekit.api import CompileRequest, OptionValue, Target
from edgekit.files.manifests import read_manifest
from edgekit_runtime.feeds import write_feeds
from edgekit_runtime.goldens import read_goldens
from tests.benchmarks.quantization_openvino import ROOT, bert_base
from tests.stages.averaging import averaging_model

#: Backend, precision and options by name.
VARIANTS: Mapping[str, tuple[str, str, Mapping[str, OptionValue]]] = {
    "openvino-int8": ("openvino", "int8", {}),
    "openvino-int8-weights": ("openvino", "int8-weights", {}),
    "openvino-int4-weights": ("openvino", "int4-weights", {}),
    "onnxruntime-int8": ("onnxruntime", "int8", {}),
    "onnxruntime-int8-static": ("onnxruntime", "int8", {"method": "static"}),
    "onnxruntime-int4-weights": ("onnxruntime", "int4-weights", {}),
}
_PAUSE = 0.02


def launch(name: str, folder: Path) -> dict[str, float]:
    """Compile one variant in this process: by how many MiB its memory grew, and the anonymous part of it."""
    with tempfile.TemporaryDirectory(prefix="edgekit-tiny-") as scratch:
        tiny = averaging_model(Path(scratch) / "model")
        write_feeds(Path(scratch) / "rows", [golden.feeds for golden in read_goldens(tiny / "golden")])
        _compile(name, Path(scratch))
    before = _memory()
    Path("/proc/self/clear_refs").write_text("5")  # the highest resident memory so far is forgotten
    watch = _Watch()
    watch.start()
    _compile(name, folder)
    watch.done.set()
    watch.join()
    return {
        "resident": _memory()["VmHWM"] - before["VmRSS"],
        "anonymous": watch.highest - before["RssAnon"],
    }


def _compile(name: str, folder: Path) -> None:
    """Compile FOLDER/model on FOLDER/rows."""
    backend, precision, options = VARIANTS[name]
    table = read_manifest(folder / "model", "model").model
    if table is None:
        raise SystemExit(f"{folder / 'model'} is no exported model")
    request = CompileRequest(
        model=folder / "model" / "model.onnx",
        signature=table.signature,
        workdir=Path(tempfile.mkdtemp(dir=folder)),
        precision=precision,
        target=Target(name="here"),
        options=options,
        calibration=folder / "rows",
    )
    compiler = importlib.import_module(f"edgekit_{backend}.compiler")
    compiler.Compiler().compile(request, lambda _done, _total, _what: None)


class _Watch(threading.Thread):
    """The largest anonymous memory, looked at every 20 ms: the kernel keeps no highest of it."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.highest = 0.0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(_PAUSE):
            self.highest = max(self.highest, _memory()["RssAnon"])


def _memory() -> dict[str, float]:
    """MiB of this process, by the words of /proc/self/status."""
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if value.strip().endswith(" kB"):
            found[key] = int(value.split()[0]) / 1024
    return found


def main() -> None:
    """Compile every variant and print its growth."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.quantization_memory", description=__doc__
    )
    parser.add_argument("variants", nargs="*", help=f"which of {', '.join(VARIANTS)}; default: all")
    parser.add_argument("--rows", type=int, default=50, help="calibration rows at most")
    parser.add_argument("--launch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.launch:
        name, folder = options.launch
        print(json.dumps(launch(name, Path(folder))))
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-memory-") as scratch:
        folder = Path(scratch)
        subject = bert_base(folder)
        write_feeds(folder / "rows", subject.calibration[: options.rows])
        weights = sum(path.stat().st_size for path in subject.model.glob("model.onnx*")) / 2**20
        print(f"fp32 weights: {weights:.0f} MiB")
        for name in options.variants or VARIANTS:
            command = [sys.executable, "-m", __spec__.name, "--launch", name, scratch]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
            grown = json.loads(done.stdout.splitlines()[-1])
            shares = ", ".join(f"{kind} {size / weights:.2f}" for kind, size in grown.items())
            print(f"  {name:26} grows by {shares} times the weights", flush=True)


if __name__ == "__main__":
    main()
