"""Accuracy is what the task says it is: its own judgement of each row, under its own name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.devices import open_device
from edgekit.files.manifests import read_manifest
from edgekit.host.sessions import RemoteSession
from edgekit.stages.answers import judging, observing
from edgekit.stages.answers.judging import JudgingOptions
from edgekit.stages.common import quiet
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.parents import table_of
from edgekit.tasks.data import read_rows
from edgekit.tasks.text_classification import TextClassification
from edgekit_runtime.calls import Reply
from edgekit_runtime.feeds import unpack


@pytest.fixture(scope="module")
def subject(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> observing.Subject:
    """An artifact that nobody may change."""
    options = CompileOptions(backend="onnxruntime", precision="fp32")
    made = compile_model(exported, tmp_path_factory.mktemp("observed") / "a", options)
    table = table_of(made.manifest.artifact)
    return observing.Subject(
        artifact=made.path,
        table=table,
        model=exported,
        model_table=table_of(read_manifest(exported, "model").model),
        run=table.run,
        device=open_device("local"),
    )


def workload(subject: observing.Subject, sequence: int) -> observing.TimedInputs:
    inputs = subject.model_table.signature.inputs
    return observing.TimedInputs(typical={spec.name: np.ones((1, sequence), np.int64) for spec in inputs})


def test_rows_are_judged_by_the_metric_of_the_task_and_a_plugin_may_bring_its_own(
    subject: observing.Subject, few_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text("def threes(answers, truths):\n    return len(answers) / 3\n", "utf-8")

    class Threes(TextClassification):
        metric = f"{tmp_path / 'mine.py'}:threes"

    rows = read_rows(few_rows, task=TextClassification(), labels=subject.model_table.labels)[:11]
    monkeypatch.setattr(judging, "load_task", lambda name: Threes())
    found = observing.observe(subject, rows, workload(subject, 8), JudgingOptions(), quiet).accuracy
    assert found is not None
    assert (found.metric, found.rows, found.lost, found.flips) == (Threes.metric, 11, None, 0)
    assert found.model == found.artifact == 11 / 3


def test_placement_is_read_at_the_shape_of_the_workload(
    subject: observing.Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    call = RemoteSession._call

    def spy(self: RemoteSession, function: str, *arguments: Any, **named: Any) -> Reply:
        shapes = [value.shape for value in unpack(named["body"]).values()] if function == "run" else []
        seen.append(f"{function} {shapes[0][1]}" if shapes else function)
        return call(self, function, *arguments, **named)

    monkeypatch.setattr(RemoteSession, "_call", spy)
    found = observing.observe(subject, (), workload(subject, 57), JudgingOptions(), quiet)
    assert seen[seen.index("placement") - 1] == "run 57"
    assert seen[seen.index("profile") - 1] in ("placement", "run 57")
    assert found.cold_seconds > found.run_seconds > 0


def test_the_costliest_operators_are_kept_in_their_order(subject: observing.Subject) -> None:
    found = observing.observe(subject, (), workload(subject, 57), JudgingOptions(), quiet).operators
    assert len(found) == observing.COSTLIEST
    shares = [operator.share for operator in found]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    assert all(operator.name and operator.op_type and operator.precision for operator in found)


def test_a_backend_that_cannot_profile_is_not_asked(
    subject: observing.Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(observing.load_backend("onnxruntime"), capabilities=())
    monkeypatch.setattr(observing, "load_backend", lambda name: spec)
    found = observing.observe(subject, (), workload(subject, 8), JudgingOptions(), quiet)
    assert (found.operators, found.placement) == ((), None)
