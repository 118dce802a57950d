"""diff compares what can be compared, says how, and says why where it cannot."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit.errors import BackendUnavailable, DataError, UnknownName, UsageError
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.diff import DiffOptions, diff, exit_code
from edgekit.stages.diffing.gates import Compared, Margins, judge_gates
from edgekit.stages.package import PackageOptions, package
from edgekit.stages.validate import ValidateOptions, validate
from edgekit.values import Change, DiffFigure, DiffMethod, DiffSide, DiffTable, Interval, Outcome
from edgekit_runtime.errors import DigestMismatch, EdgekitError, ManifestError, PackageError

KEYS = ["latency_p50", "latency_p90", "cold_start", "peak_memory", "size", "accuracy"]
SHORT = DiffOptions(max_seconds=1, workload=("sequence=16",))
ALL_GATES = ("slower", "less-accurate", "bigger", "fallback")


@pytest.fixture(scope="module")
def built(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier: model/, fp32/ and int8/ with reports, int8.edgekit, rows.jsonl; source/ is none."""
    root = tmp_path_factory.mktemp("built")
    shutil.copytree(tiny_model, root / "model")
    (root / "source").mkdir()
    (root / "source" / "config.json").write_text("{}", encoding="utf-8")
    rows = [
        {"text": text, "label": label}
        for text in ("the train is good", "the lamp is bad", "a good report", "not water", "people is music")
        for label in ("negative", "positive")
    ]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for precision in ("fp32", "int8"):
        options = CompileOptions(
            backend="onnxruntime",
            precision=precision,
            threads=1,
            calibration=root / "rows.jsonl",
            keep_anyway=True,
        )
        compile_model(root / "model", root / precision, options)
        told = ValidateOptions(no_budget=True, max_seconds=1, data=root / "rows.jsonl")
        validate(root / precision, options=told)
    package(root / "int8", root / "int8.edgekit", PackageOptions(allow_failed=True))
    return root


@pytest.fixture
def copied(built: Path, tmp_path: Path) -> Path:
    """The same, to be harmed."""
    return Path(shutil.copytree(built, tmp_path / "copy"))


def edit(manifest: Path, change: Callable[[dict[str, object]], None]) -> None:
    """Change a manifest's table as somebody's editor could; digests cover files, not this."""
    data = json.loads(manifest.read_text(encoding="utf-8"))
    change(data)
    manifest.write_text(json.dumps(data), encoding="utf-8")


def figure(table: DiffTable, key: str) -> DiffFigure:
    return next(found for found in table.figures if found.key == key)


# --- both run here --------------------------------------------------------------------------------


def test_two_artifacts_are_launched_in_pairs_and_every_figure_is_compared(built: Path) -> None:
    told: list[str] = []
    table = diff(
        built / "fp32",
        built / "int8",
        dataclasses.replace(SHORT, data=built / "rows.jsonl"),
        lambda done, total, what: told.append(what),
    )
    assert [found.key for found in table.figures] == KEYS
    assert all(found.method is DiffMethod.PAIRED for found in table.figures if found.key != "size")
    assert table.pairs and table.threads == 1
    assert table.workload == ({"batch": 1, "sequence": 16},)
    assert all(pair.old_ms > 0 and pair.new_ms > 0 for pair in table.pairs)
    assert any(what.startswith("pair 1: NEW/OLD") for what in told)
    assert figure(table, "size").change is Change.SMALLER
    assert ("precision", "fp32", "int8") in [(one.key, one.old, one.new) for one in table.settings]
    assert {row.precision for row in table.placement} >= {"fp32", "int8"}
    assert table.accuracy is not None and table.accuracy.rows == 10
    # the rows calibrated NEW too: nothing is proven by them
    assert figure(table, "accuracy").change is Change.UNPROVEN
    assert "calibrated" in figure(table, "accuracy").reason


def test_an_artifact_is_no_different_from_itself(built: Path) -> None:
    options = dataclasses.replace(SHORT, data=built / "rows.jsonl", fail_on=ALL_GATES)
    table = diff(built / "fp32", built / "fp32", options)
    assert figure(table, "latency_p50").change in (Change.UNPROVEN, Change.SAME)
    assert figure(table, "size").change is Change.SAME
    assert not table.settings
    assert table.accuracy is not None
    assert (table.accuracy.flips, table.accuracy.lost, table.accuracy.gained) == (0, 0, 0)
    assert {gate.key: gate.outcome for gate in table.gates} == {
        "slower": Outcome.INCONCLUSIVE,  # one pair proves nothing
        "less-accurate": Outcome.INCONCLUSIVE,  # nor do ten rows
        "bigger": Outcome.PASS,
        "fallback": Outcome.PASS,
    }
    assert exit_code(table) == 5


def test_a_package_is_compared_as_an_artifact_is(built: Path) -> None:
    table = diff(built / "int8.edgekit", built / "int8", SHORT)
    assert table.pairs
    assert (table.old.kind, table.new.kind) == ("package", "artifact")
    assert table.old.digest == table.new.digest
    assert figure(table, "size").change is Change.SAME
    assert figure(table, "accuracy").change is Change.NOT_MEASURED
    assert "package" in figure(table, "accuracy").reason


def test_threads_and_workload_are_the_same_for_both(built: Path, copied: Path) -> None:
    edit(copied / "int8" / "manifest.json", lambda data: data["artifact"]["run"].update(threads=2))  # type: ignore[index]
    shutil.rmtree(copied / "int8.report")
    table = diff(built / "fp32", copied / "int8", SHORT)
    assert not table.pairs
    assert "thread counts differ (OLD 1, NEW 2): give --threads" in figure(table, "latency_p50").reason
    assert diff(built / "fp32", copied / "int8", dataclasses.replace(SHORT, threads=1)).pairs


# --- from reports ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["int8.report", "int8.report/report.json"])
def test_reports_are_compared_unpaired_and_say_so(built: Path, name: str) -> None:
    table = diff(built / "fp32.report", built / name, DiffOptions(fail_on=("bigger", "less-accurate")))
    assert not table.pairs
    assert figure(table, "latency_p50").method is DiffMethod.STORED
    assert figure(table, "latency_p50").old is not None
    assert figure(table, "accuracy").method is DiffMethod.INDIRECT
    assert figure(table, "accuracy").difference is not None
    assert figure(table, "size").change is Change.SMALLER
    assert any("not paired" in note for note in table.notes)
    assert table.placement
    assert [gate.outcome for gate in table.gates] == [Outcome.PASS, Outcome.INCONCLUSIVE]


def test_a_report_that_lies_alone_can_be_compared(built: Path, tmp_path: Path) -> None:
    shutil.copy(built / "int8.report" / "report.json", tmp_path / "from-ci.json")
    table = diff(built / "fp32", tmp_path / "from-ci.json")
    assert figure(table, "latency_p50").method is DiffMethod.STORED


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("threads", 2, "thread counts differ (OLD 1, NEW 2)"),
        ("workload", {"batch": 1, "sequence": 8}, "different workloads"),
        ("machine", {"cpu": "another"}, "different machines (cpu differ)"),
    ],
)
def test_reports_made_otherwise_have_no_speed_to_compare(
    built: Path, tmp_path: Path, key: str, value: object, reason: str
) -> None:
    data = json.loads((built / "int8.report" / "report.json").read_text(encoding="utf-8"))
    old = data["report"][key]
    data["report"][key] = {**old, **value} if isinstance(value, dict) else value
    (tmp_path / "r.json").write_text(json.dumps(data), encoding="utf-8")
    table = diff(built / "fp32.report", tmp_path / "r.json", DiffOptions(fail_on=("slower", "bigger")))
    assert figure(table, "latency_p50").change is Change.NOT_MEASURED
    assert reason in figure(table, "latency_p50").reason
    assert [gate.outcome for gate in table.gates] == [Outcome.NOT_MEASURED, Outcome.PASS]
    assert exit_code(table) == 5


def test_a_report_without_rows_gives_no_accuracy(built: Path, tmp_path: Path) -> None:
    data = json.loads((built / "int8.report" / "report.json").read_text(encoding="utf-8"))
    rows = [entry for entry in data["inputs"] if entry["role"] != "data"]
    for name, changes in (
        ("other", {"inputs": rows}),
        ("none", {"report": data["report"] | {"accuracy": None}}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(data | changes), encoding="utf-8")
    for name, reason in (("other", "different rows"), ("none", "NEW's report judged no labelled rows")):
        table = diff(built / "fp32.report", tmp_path / f"{name}.json")
        assert figure(table, "accuracy").change is Change.NOT_MEASURED
        assert reason in figure(table, "accuracy").reason


# --- cannot run here ------------------------------------------------------------------------------


def test_a_foreign_target_is_compared_by_reports_unless_threads_are_given(built: Path, copied: Path) -> None:
    foreign = copied / "int8"
    edit(foreign / "manifest.json", lambda data: data["artifact"]["target"]["match"].update(arch="riscv64"))  # type: ignore[index]
    table = diff(built / "fp32", foreign, dataclasses.replace(SHORT, fail_on=("slower",)))
    # its report was made for the manifest as it was
    assert figure(table, "latency_p50").change is Change.NOT_MEASURED
    assert "NEW's target" in figure(table, "latency_p50").reason
    assert "of an earlier one" in figure(table, "latency_p50").reason
    assert figure(table, "size").change is Change.SMALLER
    assert exit_code(table) == 5
    assert diff(built / "fp32", foreign, dataclasses.replace(SHORT, threads=1)).pairs


def test_an_artifact_whose_model_is_gone_is_compared_by_its_report(copied: Path) -> None:
    shutil.rmtree(copied / "model")
    table = diff(copied / "fp32", copied / "int8", SHORT)
    assert figure(table, "latency_p50").method is DiffMethod.STORED
    assert any("without its model" in note for note in table.notes)


def test_a_missing_backend_is_an_error_unless_reports_can_tell(copied: Path) -> None:
    for name in ("fp32", "int8"):
        edit(copied / name / "manifest.json", lambda data: data["artifact"].update(backend="nonesuch"))  # type: ignore[attr-defined]
    with pytest.raises(BackendUnavailable, match=r"'nonesuch' is not installed.*of an earlier one") as caught:
        diff(copied / "fp32", copied / "int8", SHORT)
    assert caught.value.exit_code == 4
    for name in ("fp32", "int8"):
        edit(
            copied / f"{name}.report" / "manifest.json",
            lambda data: data["report"].update(artifact_manifest=""),  # type: ignore[attr-defined]
        )
    assert figure(diff(copied / "fp32", copied / "int8", SHORT), "latency_p50").method is DiffMethod.STORED


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "task", "message"),
    [(["bad", "good"], "text-classification", "NEW with bad, good"), ([], "custom", "NEW for custom")],
)
def test_models_that_do_not_do_the_same_are_refused(
    built: Path, copied: Path, labels: list[str], task: str, message: str
) -> None:
    edit(
        copied / "model" / "manifest.json",
        lambda data: data["model"].update(labels=labels, task=task),  # type: ignore[attr-defined]
    )
    with pytest.raises(UsageError, match=message):
        diff(built / "fp32", copied / "int8", SHORT)


def test_models_that_take_other_inputs_are_refused(built: Path, copied: Path) -> None:
    def rename(data: dict[str, object]) -> None:
        data["artifact"]["signature"]["inputs"][0]["name"] = "pixels"  # type: ignore[index]

    edit(copied / "int8" / "manifest.json", rename)
    with pytest.raises(UsageError, match=r"NEW takes .*pixels"):
        diff(built / "fp32", copied / "int8", SHORT)


def test_damaged_sides_are_refused_before_anything_runs(built: Path, copied: Path) -> None:
    engine = next((copied / "int8").glob("*.onnx"))
    engine.write_bytes(engine.read_bytes()[:-1] + b"?")
    with pytest.raises(DigestMismatch, match=engine.name):
        diff(built / "fp32", copied / "int8", SHORT)
    report = copied / "int8.report" / "report.json"
    report.write_text(report.read_text(encoding="utf-8") + " ", encoding="utf-8")
    with pytest.raises(DigestMismatch, match=r"report\.json"):
        diff(built / "fp32", copied / "int8.report", SHORT)
    whole = (copied / "int8.edgekit").read_bytes()
    for harmed in (whole[: len(whole) // 2], whole[:1000] + b"?" + whole[1001:], b"PK no more"):
        (copied / "int8.edgekit").write_bytes(harmed)
        with pytest.raises((PackageError, DigestMismatch, ManifestError)) as caught:
            diff(built / "fp32", copied / "int8.edgekit", SHORT)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nowhere", UsageError, "NEW: .*nowhere: no such file"),
        ("model", UsageError, "exported model"),
        ("source", ManifestError, r"no manifest\.json"),
        ("rows.jsonl", UsageError, "no artifact, no .edgekit package and no report"),
        ("model/manifest.json", ManifestError, r"manifest\.json: unknown key"),
    ],
)
def test_what_is_no_side_of_a_diff_is_named(
    built: Path, name: str, error: type[EdgekitError], message: str
) -> None:
    with pytest.raises(error, match=message):
        diff(built / "fp32", built / name, SHORT)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (DiffOptions(fail_on=("slowr",)), UnknownName, "no gate 'slowr'"),
        (DiffOptions(margin=-0.1), UsageError, "--margin"),
        (DiffOptions(size_margin=float("nan")), UsageError, "--size-margin"),
        (DiffOptions(accuracy_margin=101), UsageError, "--accuracy-margin"),
        (DiffOptions(confidence=1.0), UsageError, "--confidence"),
        (DiffOptions(metric="macro-f1"), UsageError, "--data"),
        (DiffOptions(data="nowhere.jsonl"), UsageError, "nowhere.jsonl: no such file"),
        (DiffOptions(workload=("sequence",)), UsageError, "--workload"),
        (DiffOptions(threads=100_000), UsageError, "threads"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    built: Path, options: DiffOptions, error: type[EdgekitError], message: str
) -> None:
    with pytest.raises(error, match=message):
        diff(built / "fp32", built / "int8", options)


def test_rows_that_do_not_fit_the_model_are_refused(built: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "sideways"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="sideways"):
        diff(built / "fp32", built / "int8", dataclasses.replace(SHORT, data=tmp_path / "rows.jsonl"))


# --- gates ----------------------------------------------------------------------------------------


def compared(
    ratio: Interval | None, *, size: float = 1.0, fallback: tuple[float | None, float | None]
) -> Compared:
    def side(size: int, share: float | None) -> DiffSide:
        return DiffSide(
            path="x",
            kind="artifact",
            name="x",
            digest="",
            backend="b",
            precision="fp32",
            target="t",
            threads=1,
            bytes=size,
            fallback=share,
            fallback_basis="time",
        )

    exact = Interval(estimate=size, low=size, high=size)
    return Compared(
        old=side(1000, fallback[0]),
        new=side(round(1000 * size), fallback[1]),
        figures=(
            DiffFigure(key="latency_p50", unit="ms", change=Change.UNPROVEN, ratio=ratio, reason="why"),
            DiffFigure(key="size", unit="MiB", change=Change.SAME, ratio=exact),
            DiffFigure(
                key="accuracy",
                unit="points",
                change=Change.UNPROVEN,
                difference=Interval(estimate=0.6, low=0.51, high=0.7),
            ),
        ),
        confidence=0.99,
    )


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (1.051, 1.2, Outcome.FAIL),
        (0.9, 1.05, Outcome.PASS),
        (1.01, 1.04, Outcome.PASS),
        (None, 0.3, Outcome.PASS),
        (1.3, None, Outcome.FAIL),
        (1.05, 1.06, Outcome.INCONCLUSIVE),
        (None, None, Outcome.INCONCLUSIVE),
    ],
)
def test_slower_is_judged_by_the_bounds_and_the_margin(
    low: float | None, high: float | None, outcome: Outcome
) -> None:
    found = compared(Interval(estimate=1.05, low=low, high=high), fallback=(0.0, 0.0))
    (gate,) = judge_gates(("slower",), found, Margins())
    assert gate.outcome is outcome
    assert (gate.limit, gate.unit) == (1.05, "x")


def test_every_gate_can_fail(built: Path) -> None:
    found = compared(Interval(estimate=2.0, low=1.9, high=2.1), size=1.02, fallback=(0.1, 0.2))
    gates = judge_gates(ALL_GATES, found, Margins())
    assert {gate.outcome for gate in gates} == {Outcome.FAIL}
    assert {gate.outcome for gate in judge_gates(ALL_GATES[1:3], found, Margins(accuracy=1, size=0.02))} == {
        Outcome.PASS
    }
    grown = diff(built / "int8", built / "fp32", dataclasses.replace(SHORT, fail_on=("bigger",)))
    assert [gate.outcome for gate in grown.gates] == [Outcome.FAIL]
    assert exit_code(grown) == 1


def test_what_was_not_measured_is_never_pass() -> None:
    gates = judge_gates(("slower", "fallback"), compared(None, fallback=(0.1, None)), Margins())
    assert [gate.outcome for gate in gates] == [Outcome.NOT_MEASURED, Outcome.NOT_MEASURED]
    assert gates[0].reason == "why"
    assert "NEW" in gates[1].reason
