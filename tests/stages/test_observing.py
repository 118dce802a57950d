"""Accuracy is what the task says it is: its own judgement of each row, under its own name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgekit.devices import open_device
from edgekit.files.manifests import read_manifest
from edgekit.stages import observing
from edgekit.stages.common import quiet
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.parents import table_of
from edgekit.tasks import Row
from edgekit.tasks.data import read_rows
from edgekit.tasks.text_classification import TextClassification


class EveryOther(TextClassification):
    """Counts the even rows as right, whatever was answered."""

    metric = "evenness"

    def correct(self, predictions: Sequence[str], rows: Sequence[Row]) -> tuple[bool, ...]:
        return tuple(row.number % 2 == 0 for _, row in zip(predictions, rows, strict=True))


def test_rows_are_judged_by_the_task_and_the_metric_is_its_own(
    exported: Path, few_rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compile_model(exported, tmp_path / "a", CompileOptions(backend="onnxruntime", precision="fp32"))
    table = table_of(made.manifest.artifact)
    subject = observing.Subject(
        artifact=made.path,
        table=table,
        model=exported,
        model_table=table_of(read_manifest(exported, "model").model),
        run=table.run,
        device=open_device("local"),
    )
    rows = read_rows(few_rows, task=TextClassification(), labels=subject.model_table.labels)[:11]
    monkeypatch.setattr(observing, "load_task", lambda name: EveryOther())
    found = observing.observe(subject, rows, quiet).accuracy
    assert found is not None
    assert (found.metric, found.rows, found.lost, found.gained, found.flips) == ("evenness", 11, 0, 0, 0)
    assert found.model == found.artifact == 5 / 11
