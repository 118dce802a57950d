"""On an emulated CPU answers are judged and nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.parents import table_of
from edgekit.stages.validate import ValidateOptions, validate
from edgekit.stages.verdicts import exit_code
from edgekit.values import Outcome

ROWS = (("the train is good", "positive"), ("a bad lamp", "negative"), ("music", "positive"))


@pytest.mark.usefixtures("emulator")
def test_goldens_and_rows_are_judged_there_and_every_limit_of_time_and_memory_is_not_measured(
    tiny_model: Path, tmp_path: Path
) -> None:
    options = CompileOptions(target="x86-64-v3", backend="onnxruntime")
    made = compile_model(tiny_model, tmp_path / "artifact", options)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": a, "label": b}) + "\n" for a, b in ROWS), "utf-8")
    asked = ValidateOptions(
        data=rows,
        device="emulator:x86_64/Haswell",
        budget=("latency_p90_ms=100000", "peak_memory_mib=100000", "accuracy_drop=99", "artifact_mib=1000"),
        workload=("sequence=8",),
    )
    manifest = validate(made.path, options=asked).manifest
    report = table_of(manifest.report)
    assert report.machine.emulated
    assert not report.machine_is_target
    assert report.golden is not None
    assert report.golden.outcome is Outcome.PASS
    assert report.accuracy is not None
    assert report.accuracy.rows == len(ROWS)
    assert (report.launches, report.latency_p90_ms, report.cold_start_ms) == ((), None, None)
    outcomes = {check.key: check.outcome for check in report.checks}
    assert outcomes["latency_p90_ms"] is outcomes["peak_memory_mib"] is Outcome.NOT_MEASURED
    assert outcomes["artifact_mib"] is Outcome.PASS
    assert outcomes["accuracy_drop"] in (Outcome.PASS, Outcome.INCONCLUSIVE)
    assert all(
        "the CPU is emulated" in check.reason
        for check in report.checks
        if check.key.endswith(("_ms", "_mib"))
        if check.outcome is Outcome.NOT_MEASURED
    )
    assert any("nothing was timed" in note for note in report.notes)
    assert exit_code(manifest) == 5
