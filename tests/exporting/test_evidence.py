"""A failed check names the node that departs and leaves everything a bug report needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgekit.errors import ExportWrong
from edgekit.exporting import evidence
from edgekit.exporting import onnx as writing
from edgekit.exporting.departing import OBSERVED_FILE, first_departure, relative_error
from edgekit.exporting.folder import load_folder
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.source import inspect_folder
from edgekit.exporting.subject import Subject
from edgekit.stages.export import export
from edgekit_runtime.agreement import INCOMPARABLE

pytestmark = pytest.mark.slow

Change = Callable[[Any], str]


@pytest.fixture(scope="module")
def subject(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    options = ExportOptions()
    return load_folder(inspect_folder(tiny, options), options, tmp_path_factory.mktemp("made") / "processor")


@pytest.fixture(scope="module")
def traced(subject: Subject) -> writing.Traced:
    return writing.traced(subject, 20)


@pytest.fixture(scope="module")
def graph(traced: writing.Traced, subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return writing.save(traced.model, tmp_path_factory.mktemp("graph"), writing.model_notes(subject.facts))


def shift_bias(graph: Any) -> str:
    """One number of one bias; the name of the output of the Add that takes it."""
    (bias,) = [each for each in graph.initializer if each.name.endswith("layer.1.output.dense.bias")]
    values = onnx.numpy_helper.to_array(bias).copy()
    values[3] += 0.01
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    return next(str(node.output[0]) for node in graph.node if bias.name in node.input)


def approximate_gelu(graph: Any) -> str:
    node = [node for node in graph.node if node.op_type == "Gelu"][1]
    del node.attribute[:]
    node.attribute.append(onnx.helper.make_attribute("approximate", "tanh"))
    return str(node.output[0])


def swap_mask(graph: Any) -> str:
    (node,) = [node for node in graph.node if node.op_type == "Where"]
    node.input[1], node.input[2] = node.input[2], node.input[1]
    return str(node.output[0])


CHANGES = [shift_bias, approximate_gelu, swap_mask]


@pytest.mark.parametrize("change", CHANGES)
def test_the_named_node_is_the_one_that_was_changed(
    change: Change, graph: Path, traced: writing.Traced, subject: Subject, tmp_path: Path
) -> None:
    altered = onnx.load(graph)
    name = change(altered.graph)
    onnx.save(altered, tmp_path / "model.onnx")
    case = next(case for case in subject.cases if not case.feeds["attention_mask"].all())
    found = first_departure(tmp_path / "model.onnx", writing.signature(traced.model), traced, case)
    assert found is not None
    assert found.value == name
    assert found.operator in found.shown()
    assert found.nodes[-1] == found.operator
    assert not (tmp_path / OBSERVED_FILE).exists()


def test_a_right_graph_departs_nowhere(graph: Path, traced: writing.Traced, subject: Subject) -> None:
    signature = writing.signature(traced.model)
    assert first_departure(graph, signature, traced, subject.cases[0]) is None


def test_values_are_compared_in_portions_when_they_are_large(
    graph: Path, traced: writing.Traced, subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.exporting import departing

    monkeypatch.setattr(departing, "PORTION_BYTES", 100_000)
    altered = onnx.load(graph)
    name = approximate_gelu(altered.graph)
    onnx.save(altered, tmp_path / "model.onnx")
    case = subject.cases[3]
    found = first_departure(tmp_path / "model.onnx", writing.signature(traced.model), traced, case)
    assert found is not None
    assert found.value == name


def test_most_values_of_the_graph_have_a_place_in_the_torch_model(traced: writing.Traced) -> None:
    values = [value.name for node in traced.model.graph for value in node.outputs]
    assert len(traced.places) >= 0.7 * len(values)
    assert set(traced.places) <= set(values)
    assert traced.places["logits"].module == "classifier"


def test_an_error_is_measured_by_the_size_of_its_own_tensor() -> None:
    ones = np.ones((2, 50), np.float32)
    assert relative_error(ones * 1000, ones * 1001) == pytest.approx(1e-3, rel=1e-3)
    assert relative_error(ones, ones) == 0.0
    assert relative_error(ones, ones[:1]) == INCOMPARABLE
    assert relative_error(ones, np.full_like(ones, np.nan)) == INCOMPARABLE
    assert relative_error(ones > 0, ones < 0) == INCOMPARABLE
    masked = np.array([np.finfo(np.float32).min, 1.0, 2.0], np.float32)
    assert relative_error(masked, masked + np.array([0, 0, 0.2], np.float32)) > 0.05


# --- the directory --------------------------------------------------------------------------------------


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change], None]:
    """Every graph that is written from now on is changed this way."""

    def arrange(change: Change) -> None:
        save = writing.save

        def save_wrong(model: Any, directory: Path, notes: Mapping[str, str]) -> Path:
            path = save(model, directory, notes)
            altered = onnx.load(path)
            change(altered.graph)
            onnx.save(altered, path)
            return path

        monkeypatch.setattr(writing, "save", save_wrong)

    return arrange


def fail(source: Path, output: Path) -> ExportWrong:
    with pytest.raises(ExportWrong) as caught:
        export(source, output)
    assert caught.value.exit_code == 3
    assert not output.exists()
    return caught.value


def test_the_evidence_holds_what_a_report_needs(
    tiny: Path, tmp_path: Path, spoil: Callable[[Change], None]
) -> None:
    spoil(approximate_gelu)
    error = fail(tiny, tmp_path / "model")
    kept = tmp_path / "model.failed"
    assert str(kept) in error.message
    assert "first node whose output departs is Gelu" in error.message
    table = json.loads((kept / "evidence.json").read_text(encoding="utf-8"))
    assert table["departure"]["operator"] == "Gelu"
    assert "intermediate_act_fn" in table["departure"]["module"]
    assert not all(check["passed"] for check in table["checks"])
    assert table["versions"]["torch"] == torch.__version__
    assert json.loads((kept / "config.json").read_text()) == json.loads((tiny / "config.json").read_text())
    assert "Gelu" in (kept / "README.txt").read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", kept / "reproduce.sh"], check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.failed"]


def test_a_kept_case_shows_the_failure_by_itself(
    tiny: Path, tmp_path: Path, spoil: Callable[[Change], None]
) -> None:
    spoil(shift_bias)
    fail(tiny, tmp_path / "model")
    kept = tmp_path / "model.failed"
    case = np.load(kept / "worst-1.npz")
    session = onnxruntime.InferenceSession(str(kept / "model.onnx"))
    feeds = {name.removeprefix("feed."): case[name] for name in case.files if name.startswith("feed.")}
    (logits,) = session.run(None, feeds)
    np.testing.assert_allclose(logits, case["onnx.logits"], atol=1e-5)
    assert np.abs(case["onnx.logits"] - case["torch.logits"]).max() > 1e-4


def test_older_evidence_of_the_same_output_is_replaced(
    tiny: Path, tmp_path: Path, spoil: Callable[[Change], None]
) -> None:
    spoil(swap_mask)
    fail(tiny, tmp_path / "model")
    (tmp_path / "model.failed" / "note.txt").write_text("older")
    fail(tiny, tmp_path / "model")
    assert not (tmp_path / "model.failed" / "note.txt").exists()


def test_a_foreign_directory_in_its_place_is_not_touched_and_the_failure_stays_the_error(
    tiny: Path, tmp_path: Path, spoil: Callable[[Change], None]
) -> None:
    foreign = tmp_path / "model.failed"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    spoil(swap_mask)
    error = fail(tiny, tmp_path / "model")
    assert "evidence was not kept" in error.message
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]


def test_large_weights_are_left_out_and_that_is_said(
    tiny: Path, tmp_path: Path, spoil: Callable[[Change], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "LARGEST_WEIGHTS", 10_000)
    monkeypatch.setattr(evidence, "_SMALL_CONSTANT", 1_000)
    spoil(swap_mask)
    fail(tiny, tmp_path / "model")
    kept = tmp_path / "model.failed"
    assert "without its weights" in (kept / "README.txt").read_text(encoding="utf-8")
    left = onnx.load(kept / "model.onnx").graph
    assert all(np.prod(each.dims) * 4 <= 1_000 for each in left.initializer)
    assert len(left.node) > 50


def test_a_tolerance_below_rounding_blames_no_node_and_the_search_tells_what_it_does(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgekit.exporting import departing
    from edgekit.values import Tolerance

    told: list[tuple[int, int, str]] = []
    monkeypatch.setattr(departing, "PORTION_BYTES", 8 * 1024)  # a tiny model has one portion otherwise
    options = ExportOptions(tolerance=Tolerance(atol=0, rtol=0))
    with pytest.raises(ExportWrong, match="below rounding"):
        export(tiny, tmp_path / "model", options=options, on_progress=lambda *each: told.append(each))
    words = [what.removeprefix("a check failed: ") for _, _, what in told if what.startswith("a check")]
    assert words[:3] == [
        "loading the source again",
        "tracing the source again",
        "running the source operator by operator",
    ]
    assert words[-1] == "keeping the evidence"
    agreed = [int(found[1]) for word in words if (found := re.search(r"(\d+) of \d+ agree", word))]
    assert len(agreed) > 1
    assert agreed == sorted(set(agreed))


# --- reproduce.sh ---------------------------------------------------------------------------------------


def test_the_script_makes_the_same_files_again(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "it's a model"
    shutil.move(folder, source)
    made = export(source, tmp_path / "out put", options=ExportOptions(opset=19, max_length=32))
    script = made.path / "reproduce.sh"
    assert "--opset 19" in script.read_text(encoding="utf-8")
    assert "reproduce.sh" in {entry.path for entry in made.manifest.files}
    binaries = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "model.onnx: OK" in done.stdout
    assert export(source, made.path, options=ExportOptions(opset=19, max_length=32)).up_to_date


def test_two_places_give_the_same_digest(tiny: Path, tmp_path: Path) -> None:
    one, other = (export(tiny, tmp_path / place / "model") for place in ("a", "deep/er/b"))
    assert one.manifest.digest == other.manifest.digest


def test_of_a_module_the_script_says_how_it_was_made(tmp_path: Path) -> None:
    module = torch.nn.Linear(4, 2).eval()
    options = ExportOptions(example_inputs={"x": torch.randn(3, 4)}, dynamic_axes={"x": {0: "batch"}})
    made = export(module, tmp_path / "model", options=options)
    script = made.path / "reproduce.sh"
    text = script.read_text(encoding="utf-8")
    assert "edgekit.export(module" in text
    assert '"x": (3, 4) torch.float32' in text
    done = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "in memory" in done.stderr
