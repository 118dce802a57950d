"""An artifact against the recorded outputs of the original model."""

from __future__ import annotations

from pathlib import Path

from edgekit.host.sessions import RemoteSession
from edgekit.tasks import load_task
from edgekit.values import GoldenRecord, ModelTable, Outcome
from edgekit_runtime.agreement import judge_goldens
from edgekit_runtime.goldens import read_goldens


def check_goldens(session: RemoteSession, model: Path, table: ModelTable, precision: str) -> GoldenRecord:
    """Run every golden of `model` through an opened artifact and judge it by what the task answers."""
    goldens = read_goldens(model / "golden")
    outputs = session.run_many([golden.feeds for golden in goldens])
    judged = judge_goldens(
        goldens,
        outputs,
        kind=load_task(table.task).answers,
        precision=precision,
        tolerance=table.tolerance,
    )
    return GoldenRecord(
        cases=judged.cases,
        agreeing=judged.agreeing,
        max_abs_error=judged.max_abs_error,
        min_cosine=judged.min_cosine,
        outcome=Outcome.PASS if judged.passed else Outcome.FAIL,
        reason=judged.reason,
    )
