"""validate at the workload that is promised: a mix, the lengths of the data, streams, a warm device."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from edgekit.errors import TargetFileError, UnknownName, UsageError
from edgekit.files.manifests import read_manifest
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.parents import table_of
from edgekit.stages.validate import ValidateOptions, validate
from edgekit.stages.validating.settling import judges_rows, read_test_rows, report_inputs, settle
from edgekit.values import ReportTable
from tests.conftest import Edgekit

QUICK = ValidateOptions(no_budget=True, max_seconds=4)


@pytest.fixture(scope="module")
def artifact(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sentiment model for this machine, at its own shape of 1 x 128."""
    path = tmp_path_factory.mktemp("artifacts") / "sentiment"
    compile_model(exported, path, CompileOptions(backend="onnxruntime", precision="fp32"))
    return path


@pytest.fixture
def rows(few_rows: Path, tmp_path: Path) -> Path:
    """The first 20 test rows."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(few_rows.read_text("utf-8").splitlines(keepends=True)[:20]), "utf-8")
    return path


def report(artifact: Path, tmp_path: Path, **options: object) -> ReportTable:
    """What validate finds with these options over the quick ones."""
    asked = dataclasses.replace(QUICK, **options)  # type: ignore[arg-type]
    return table_of(validate(artifact, tmp_path / "r.report", asked).manifest.report)


def test_a_mix_is_measured_with_equal_shares_and_told_shape_by_shape(artifact: Path, tmp_path: Path) -> None:
    found = report(artifact, tmp_path, workload=("sequence=8", "sequence=64", "sequence=16"))
    assert found.shapes == tuple({"batch": 1, "sequence": size} for size in (8, 64, 16))
    assert (found.workload, found.workload_source) == ({"batch": 1, "sequence": 64}, "shapes")
    for launch in found.launches:
        runs = len(launch.latency_ms)
        assert len(launch.shape) == runs
        assert [launch.shape.count(shape) for shape in range(3)] == [runs // 3] * 3
    short, long = (
        sum(
            latency
            for launch in found.launches
            for latency, number in zip(launch.latency_ms, launch.shape, strict=True)
            if number == shape
        )
        for shape in (0, 1)
    )
    assert short < long, "shape[i] names the shape that run i had"


def test_lengths_as_in_data_are_those_of_the_rows(artifact: Path, rows: Path, tmp_path: Path) -> None:
    found = report(artifact, tmp_path, workload=("data",), data=rows)
    assert (found.workload_source, found.shapes) == ("data", ())
    assert found.workload["batch"] == 1 and 1 < found.workload["sequence"] < 128
    (note,) = [note for note in found.notes if note.startswith("lengths as in data: ")]
    assert note.endswith(f"median {found.workload['sequence']}")
    assert all(not launch.shape and launch.latency_ms for launch in found.launches)


def test_a_target_may_promise_a_mix_streams_and_a_warm_device(artifact: Path, tmp_path: Path) -> None:
    target = tmp_path / "kiosk.toml"
    target.write_text(
        'name = "kiosk"\nextends = "this-machine"\n[workload]\nstreams = 2\nheat_seconds = 1\n'
        "shapes = [{sequence = 8}, {sequence = 16}]\n",
        "utf-8",
    )
    found = report(artifact, tmp_path, target=target, budget=("throughput_min=0.001",), no_budget=False)
    assert [shape["sequence"] for shape in found.shapes] == [8, 16]
    assert found.streams == 2 and found.throughput is not None
    assert all(launch.samples_per_second for launch in found.launches)
    (check,) = found.checks
    assert "2 streams" in check.reason
    assert found.heat is not None and found.heat.seconds == 1.0 and len(found.heat.windows_ms) == 20
    assert any(note.startswith("sustained: after 1 s of heat-up; ") for note in found.notes)
    assert any("2 concurrent streams" in note for note in found.notes)


def test_a_report_names_costly_operators_conditions_and_its_own_command(
    artifact: Path, rows: Path, tmp_path: Path
) -> None:
    found = report(artifact, tmp_path, workload=("sequence=8",), data=rows, metric="macro-f1", seed=3)
    assert len(found.operators) == 10 and found.heat is None and found.streams == 1
    assert found.accuracy is not None and found.accuracy.metric == "macro-f1"
    assert all(launch.began_s >= 0 for launch in found.launches)
    words = shlex.split(found.reproduce)
    assert words[:3] == ["edgekit", "validate", str(artifact)]
    assert words[words.index("--data") + 1] == str(rows)
    for flag, value in (("--metric", "macro-f1"), ("--workload", "sequence=8"), ("--seed", "3")):
        assert words[words.index(flag) + 1] == value
    assert "--no-budget" in words and "--confidence" not in words


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": ("sequence=9",)},
        {"workload": ("sequence=8", "sequence=9")},
        {"workload": ("data",)},
        {"workload": ("streams=2",)},
        {"workload": ("heat_seconds=1",)},
        {"metric": "macro-f1"},
        {"include_rows": True},
        {"assume_nothing": True},
        {"confidence": 0.9},
        {"seed": 1},
    ],
    ids=str,
)
def test_whatever_changes_the_outcome_makes_a_stored_report_old(
    artifact: Path, rows: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    options = dataclasses.replace(QUICK, data=rows)
    before = settle(artifact, tmp_path / "r", options)
    after = settle(artifact, tmp_path / "r", dataclasses.replace(options, **changes))  # type: ignore[arg-type]
    assert report_inputs(before) == report_inputs(settle(artifact, tmp_path / "r", options))
    assert report_inputs(before) != report_inputs(after)


def test_a_metric_of_ones_own_that_was_edited_makes_a_stored_report_old(
    artifact: Path, rows: Path, tmp_path: Path
) -> None:
    metric = tmp_path / "mine.py"
    metric.write_text("def share(answers, truths):\n    return 1.0\n", "utf-8")
    plan = settle(artifact, tmp_path / "r", dataclasses.replace(QUICK, data=rows, metric=f"{metric}:share"))
    assert len(read_test_rows(plan)) == 20
    before = report_inputs(plan)
    metric.write_text("def share(answers, truths):\n    return 0.5\n", "utf-8")
    assert report_inputs(plan) != before


def test_what_cannot_be_measured_is_refused_before_anything_runs(
    artifact: Path, rows: Path, tmp_path: Path
) -> None:
    def refused(error: type[Exception], told: str, **options: object) -> None:
        asked = dataclasses.replace(QUICK, **options)  # type: ignore[arg-type]
        with pytest.raises(error, match=told):
            read_test_rows(settle(artifact, tmp_path / "r", asked))

    refused(UsageError, "no rows were given", workload=("data",))
    refused(UsageError, "none were given", metric="accuracy")
    refused(UnknownName, "unknown metric 'f2'", metric="f2", data=rows)
    refused(UsageError, "judges answers of kind", metric="miou", data=rows)
    refused(TargetFileError, "an axis that the model lacks", workload=("height=4",))
    refused(TargetFileError, "elements", workload=("sequence=99999999",))


def test_rows_of_a_task_without_a_metric_give_lengths_and_judge_nothing(
    artifact: Path, rows: Path, tmp_path: Path
) -> None:
    for workload in ("data", "sequence=8"):
        plan = settle(artifact, tmp_path / "r", dataclasses.replace(QUICK, data=rows, workload=(workload,)))
        assert judges_rows(plan)
        table = dataclasses.replace(plan.model_table, task="feature-extraction")
        plan = dataclasses.replace(plan, model_table=table)
        if workload == "data":
            assert not judges_rows(plan)
            assert [row.truth for row in read_test_rows(plan)] == [None] * 20
        else:
            with pytest.raises(UsageError, match="'feature-extraction' has no metric of its own"):
                read_test_rows(plan)


def test_lengths_of_a_single_row_are_refused(artifact: Path, rows: Path, tmp_path: Path) -> None:
    line = rows.read_text("utf-8").splitlines(keepends=True)[0]
    rows.write_text(3 * line, "utf-8")
    with pytest.raises(UsageError, match="at least 2 different rows"):
        report(artifact, tmp_path, workload=("data",), data=rows)
    assert not (tmp_path / "r.report").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--workload", "sequence=8", "--workload", "data"), "both a shape and `data`"),
        (("--workload", "sequence"), "not name=number"),
        (("--workload", "streams=0"), "1 to 64"),
        (("--metric", "accuracy"), "none were given"),
    ],
)
def test_a_bad_flag_exits_with_2_and_a_hint(
    edgekit: Edgekit, artifact: Path, tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    done = edgekit("validate", artifact, "--no-budget", "-o", tmp_path / "r", *flags)
    assert done.returncode == 2
    assert told in done.stderr and "hint:" in done.stderr
    assert not (tmp_path / "r").exists()


def test_the_command_of_a_report_makes_it_again(edgekit: Edgekit, artifact: Path, tmp_path: Path) -> None:
    given = ("--no-budget", "--max-seconds", "3", "--workload", "sequence=8,streams=2", "--assume-nothing")
    first = edgekit("validate", artifact, "-o", tmp_path / "a report", *given)
    assert first.returncode == 0, first.stderr
    command = shlex.split(table_of(read_manifest(tmp_path / "a report", "report").report).reproduce)
    again = edgekit(*command[1:])
    assert again.returncode == 0, again.stderr
    assert "up to date" in again.stderr
