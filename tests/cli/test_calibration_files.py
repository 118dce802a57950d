"""Calibration by the command line: kinds of files, what is told of them, and memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit.files.manifests import read_manifest
from tests.conftest import Edgekit
from tests.models import WORDS

#: The largest sum of the peaks of this process and its workers, as the kernel counts them (MiB).
_PEAK = """
import sys, threading
from pathlib import Path
from edgekit_runtime.memory import tree_mib
from edgekit.stages.compile import CompileOptions, compile_model
model, output, rows, count = sys.argv[1:]
options = CompileOptions(
    backend="onnxruntime", precision="int8", calibration=rows, calibration_rows=int(count), max_seconds=0.0,
    options={"method": "static"}, keep_anyway=True,
)
peak, over = 0, threading.Event()
def watch():
    global peak
    while not over.wait(0.02):
        peak = max(peak, tree_mib("VmHWM", Path("/proc")) or 0)
watcher = threading.Thread(target=watch)
watcher.start()
try:
    table = compile_model(model, output, options).manifest.artifact
finally:
    over.set()
    watcher.join()
print(table.calibration.rows, round(peak))
"""


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Path:
    return tiny_model


def rows(count: int) -> list[dict[str, object]]:
    drawn = random.Random(1)
    texts: dict[str, None] = {}
    while len(texts) < count:
        texts[" ".join(drawn.choices(WORDS[:12], k=drawn.randint(8, 40)))] = None
    return [{"text": text, "label": at % 2} for at, text in enumerate(texts)]


def static(model: Path, data: Path, output: Path) -> tuple[object, ...]:
    """Compile to static int8 of onnxruntime, whatever it gains."""
    how = ("--backend", "onnxruntime", "--precision", "int8", "--option", "method=static", "--keep-anyway")
    return ("compile", model, *how, "--max-seconds", 0, "--calibration", data, "-o", output)


def test_parquet_calibrates_and_what_it_holds_is_told_everywhere(
    model: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'edgekit[parquet]'")
    from pyarrow.parquet import write_table

    write_table(pyarrow.Table.from_pylist(rows(40)), tmp_path / "train.parquet")
    done = edgekit(*static(model, tmp_path / "train.parquet", tmp_path / "int8"))
    assert done.returncode == 0, done.stderr
    assert "note: calibrated on 40 rows; sequence " in done.stderr
    assert "warning: calibration: 40 different rows are few" in done.stderr
    table = read_manifest(tmp_path / "int8").artifact
    assert table is not None and table.calibration is not None
    assert sorted(table.calibration.classes.values()) == [20, 20] and table.calibration.ranges > 4
    assert len(table.row_digests) == 40
    shown = edgekit("inspect", tmp_path / "int8").stdout
    for told in ("calibrated on", "half of them", "classes ", "ranges learnt", "warning: 40 different rows"):
        assert told in shown, shown


def test_a_models_own_inputs_calibrate(model: Path, edgekit: Edgekit, tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(5, 12, (24, 9))
    table = read_manifest(model).model
    assert table is not None
    more = {spec.name: np.ones_like(ids) for spec in table.signature.inputs}
    np.savez(tmp_path / "feeds.npz", **{**more, "input_ids": ids})
    done = edgekit(*static(model, tmp_path / "feeds.npz", tmp_path / "int8"))
    assert done.returncode == 0, done.stderr
    assert "calibrated on 24 rows; sequence 9" in done.stderr and "cannot be recognised" in done.stderr
    damaged = tmp_path / "feeds.npz"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    done = edgekit(*static(model, damaged, tmp_path / "again"))
    assert done.returncode == 2 and "error[bad-data]" in done.stderr and not (tmp_path / "again").exists()


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peaks are read from Linux's /proc")
def test_memory_of_the_whole_way_does_not_grow_with_the_rows(model: Path, tmp_path: Path) -> None:
    peaks = []
    for count in (10, 1000):
        data = tmp_path / f"{count}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows(count)))
        words = [str(model), str(tmp_path / f"int8-{count}"), str(data), str(count)]
        done = subprocess.run([sys.executable, "-c", _PEAK, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        used, peak = map(int, done.stdout.split())
        assert used == count and peak > 100
        peaks.append(peak)
    # of each row a text, a digest and some sizes stay, 2 KiB; its activations are over 100 KiB
    assert peaks[1] - peaks[0] < 32, f"{peaks} MiB, workers included, for 10 and 1,000 rows"
