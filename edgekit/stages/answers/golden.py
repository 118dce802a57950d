"""An artifact against the recorded outputs of the original model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.host.sessions import RemoteSession
from edgekit.tasks import load_task
from edgekit.values import GoldenRecord, ModelTable, Outcome
from edgekit_runtime.agreement import judge_goldens
from edgekit_runtime.goldens import Golden, read_goldens
from edgekit_runtime.session import Array


def check_goldens(session: RemoteSession, model: Path, table: ModelTable, precision: str) -> GoldenRecord:
    """Run every golden of `model` through an opened artifact and judge it by what the task answers."""
    goldens = read_goldens(model / "golden")
    return judge(goldens, session.run_many([golden.feeds for golden in goldens]), table, precision)


def judge(
    goldens: Sequence[Golden], outputs: Sequence[Mapping[str, Array]], table: ModelTable, precision: str
) -> GoldenRecord:
    """Outputs of an artifact, one mapping per golden, judged by what the model's task answers."""
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


def goldens_not_measured(reason: str) -> GoldenRecord:
    """The record of an artifact that could not be opened: no case was run, and nothing is said of any."""
    return GoldenRecord(
        cases=0, agreeing=0, max_abs_error=0.0, min_cosine=0.0, outcome=Outcome.NOT_MEASURED, reason=reason
    )
