"""A model of several graphs goes the whole way as one: compiled part by part, judged by its answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest

from edgekit.errors import ArtifactWrong, ModelNotSupported, UnknownName
from edgekit.files.manifests import read_manifest
from edgekit.report import render
from edgekit.stages.backends import check_backend
from edgekit.stages.common import StageResult
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.diff import DiffOptions, diff
from edgekit.stages.inspect import inspect_path, summary
from edgekit.stages.parents import table_of
from edgekit.stages.validate import ValidateOptions, validate
from edgekit.values import ArtifactTable, ReportTable
from edgekit_runtime.errors import ManifestError
from tests.conftest import Edgekit
from tests.pipelines import TEXTS, WHOLE, WORDS, tiny_pipeline
from tests.plugin_folders import install_plugin
from tests.stages.test_compile import BENT, WRONG

pytestmark = pytest.mark.slow

KEPT = "/MatMul_1"  # the first projection of the decoder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def built(model: Path) -> StageResult:
    return compile_model(model, model.with_name("fp32"), CompileOptions(backend="onnxruntime"))


@pytest.fixture(scope="module")
def rows(model: Path) -> Path:
    """Texts of 1 to 9 words and made-up right answers."""
    lines = [
        json.dumps({"text": " ".join(WORDS[4 + number : 5 + number + number % 9]), "answer": "bo lo ni"})
        for number in range(24)
    ]
    path = model.with_name("rows.jsonl")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def lowered(model: Path, rows: Path) -> StageResult:
    options = CompileOptions(backend="onnxruntime", precision="int8", calibration=rows)
    return compile_model(model, model.with_name("int8"), options)


def artifact(found: StageResult) -> ArtifactTable:
    return table_of(found.manifest.artifact)


# --- compile --------------------------------------------------------------------------------------------


def test_an_artifact_has_a_directory_for_each_part_and_the_signature_of_the_whole(
    model: Path, built: StageResult
) -> None:
    files = {entry.path for entry in built.manifest.files}
    assert {"encoder/model.onnx", "decoder/model.onnx", "pipeline.json"} <= files
    assert (built.path / "pipeline.json").read_bytes() == (model / "pipeline.json").read_bytes()
    assert artifact(built).signature == WHOLE
    nodes = sum(len(onnx.load(model / part / "model.onnx").graph.node) for part in ("encoder", "decoder"))
    placement = artifact(built).placement
    assert placement is not None and nodes / 2 < placement.nodes() <= nodes
    assert {(row.precision, row.device) for row in placement.rows} == {("fp32", "cpu")}


def test_an_artifact_that_answers_otherwise_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_plugin(monkeypatch, tmp_path, "bent", BENT + WRONG)
    with pytest.raises(ArtifactWrong, match="disagrees with the model"):
        compile_model(model, tmp_path / "a", CompileOptions(backend="bent"))
    assert not (tmp_path / "a").exists()


def test_an_operator_that_is_refused_is_named_with_its_part(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = """
def check(self, model, target):
    import onnx
    found = [node for node in onnx.load(model).graph.node if node.op_type == "Concat"]
    rows = [OperatorSupport(op_type="Concat", count=len(found), supported=False, reason="no memory")]
    return Support(supported=not found, operators=tuple(rows) if found else ())
Compiler.check = check
"""
    install_plugin(monkeypatch, tmp_path, "bent", BENT + refusing)
    with pytest.raises(ModelNotSupported, match=r"Concat \(2\): decoder: no memory"):
        compile_model(model, tmp_path / "a", CompileOptions(backend="bent"))


def test_backend_check_counts_operators_over_all_parts(model: Path) -> None:
    support = check_backend("onnxruntime", model, "this-machine")
    found = {row.op_type: row.count for row in support.operators}
    graphs = [onnx.load(model / part / "model.onnx").graph for part in ("encoder", "decoder")]
    assert support.supported
    assert found["MatMul"] == sum(node.op_type == "MatMul" for graph in graphs for node in graph.node)


def test_every_part_is_calibrated_on_what_it_sees(lowered: StageResult, built: StageResult) -> None:
    notes = artifact(lowered).notes
    assert "calibrated on 24 rows; sequence 2 to 10, median 5" in notes
    [by_part] = [note for note in notes if note.startswith("calibrated by part: encoder on 24 of 24 runs")]
    assert "; decoder on " in by_part
    assert {"encoder", "decoder"} <= {note.partition(":")[0] for note in notes}
    for part in ("encoder", "decoder"):
        small, large = ((made.path / part / "model.onnx").stat().st_size for made in (lowered, built))
        assert small < large / 2
    placement = artifact(lowered).placement
    assert placement is not None and "int8" in {row.precision for row in placement.rows}


def test_a_node_kept_high_is_one_of_the_part_that_it_names(
    model: Path, rows: Path, lowered: StageResult, tmp_path: Path
) -> None:
    options = CompileOptions(
        backend="onnxruntime", precision="int8", calibration=rows, keep_high=(f"decoder/{KEPT}",)
    )
    kept = compile_model(model, tmp_path / "a", options)

    def lowered_nodes(found: StageResult, part: str) -> str:
        return next(note for note in artifact(found).notes if note.startswith(f"{part}: ") and "int8" in note)

    assert lowered_nodes(kept, "encoder") == lowered_nodes(lowered, "encoder")
    assert lowered_nodes(kept, "decoder") != lowered_nodes(lowered, "decoder")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("dekoder//MatMul_13", "its parts are encoder, decoder", "did you mean 'decoder'?"),
        ("decoder", "is named PART/NODE", "did you mean 'decoder'?"),
        (
            "encoder//MatMull_4",
            "the part 'encoder' has no node '/MatMull_4'",
            "did you mean encoder//MatMul_4?",
        ),
        ("decoder/nonsense", "the part 'decoder' has no node 'nonsense'", "its first nodes: "),
    ],
)
def test_a_node_kept_high_that_is_none_is_refused_by_name(
    model: Path, tmp_path: Path, name: str, message: str, hint: str
) -> None:
    with pytest.raises(UnknownName, match=message) as caught:
        compile_model(model, tmp_path / "a", CompileOptions(backend="onnxruntime", keep_high=(name,)))
    assert caught.value.hint.startswith(hint)


def test_a_pipeline_that_names_other_parts_than_the_manifest_is_refused(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "model")
    (copy / "pipeline.json").unlink()
    with pytest.raises(ManifestError, match=r"pipeline\.json names the parts \(none\)"):
        compile_model(copy, tmp_path / "a", CompileOptions(backend="onnxruntime"))


# --- what it measures and says --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report(built: StageResult, rows: Path) -> StageResult:
    options = ValidateOptions(data=rows, no_budget=True, workload=("data",), max_seconds=2)
    return validate(built.path, None, options)


def reported(found: StageResult) -> ReportTable:
    return table_of(found.manifest.report)


def test_answers_are_judged_against_the_exported_models(report: StageResult) -> None:
    found = reported(report).accuracy
    assert found is not None and found.rows == 24
    assert (found.metric, found.flips, found.artifact - found.model) == ("chrf", 0, 0)
    assert found.max_logit_distance < 1e-3


def test_every_format_says_how_many_tokens_were_generated(report: StageResult) -> None:
    counted = reported(report).generated
    assert counted is not None and counted.runs == 16
    assert 1 <= counted.least < counted.most <= 12 and counted.least <= counted.median <= counted.most
    row = f"least {counted.least}, median {counted.median}, most {counted.most} (of 16 runs)"
    head = f"answers of {counted.least} to {counted.most} tokens, median {counted.median}"
    assert json.loads(render("json", report.manifest))["report"]["generated"]["most"] == counted.most
    for name in ("terminal", "html", "markdown"):
        text = render(name, report.manifest)
        assert row in text and head in text


def test_a_shape_of_made_up_inputs_is_said_to_be_one(built: StageResult, tmp_path: Path) -> None:
    options = ValidateOptions(no_budget=True, workload=("sequence=8",), max_seconds=1)
    found = reported(validate(built.path, tmp_path / "r", options))
    assert any("made-up inputs" in note for note in found.notes)
    assert found.generated is not None


def test_diff_tells_how_many_tokens_each_side_generated(
    built: StageResult, lowered: StageResult, rows: Path
) -> None:
    options = DiffOptions(workload=("sequence=8",), data=rows, max_seconds=2)
    found = diff(built.path, lowered.path, options)
    [note] = [note for note in found.notes if note.startswith("answers to the timed inputs have: OLD ")]
    assert "tokens" in note and "; NEW " in note
    assert found.accuracy is not None and found.accuracy.rows == 24


def test_a_looker_sees_the_parts_and_how_it_generates(model: Path, built: StageResult) -> None:
    shown = summary(model, inspect_path(model))
    assert "part        encoder: input_ids, attention_mask -> cross.0.key, cross.0.value" in shown
    assert "and 2 more -> logits" in shown
    for path in (model, built.path):
        line = "generates   by encoder and decoder (encoder-decoder): greedy, at most 12 tokens"
        assert line in summary(path, inspect_path(path))


def test_a_package_of_parts_proves_itself_and_prints_the_text(
    edgekit: Edgekit, report: StageResult, built: StageResult, model: Path, tmp_path: Path
) -> None:
    packed = edgekit("package", built.path, "--report", report.path, "-o", tmp_path / "m.edgekit")
    assert packed.returncode == 0, packed.stderr
    done = edgekit("run", tmp_path / "m.edgekit", *TEXTS[:2])
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [text for _, text in lines] == list(TEXTS[:2])
    assert all(answer and set(answer.split()) <= set(WORDS) for answer, _ in lines)


def test_the_reports_overview_says_on_which_answers_each_was_timed(
    report: StageResult, edgekit: Edgekit
) -> None:
    done = edgekit("report", report.path)
    assert "fp32 was timed on answers of " in done.stdout


def test_a_manifest_of_a_model_of_one_graph_has_no_parts(exported: Path) -> None:
    assert table_of(read_manifest(exported, "model").model).parts == {}
