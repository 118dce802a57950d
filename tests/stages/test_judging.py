"""Judging by a chosen metric: what fits the task, what a report may show, and what both sides answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from edgekit.devices import open_device
from edgekit.errors import UnknownName, UsageError
from edgekit.files.manifests import read_manifest
from edgekit.host.sessions import RemoteSession
from edgekit.stages.answers.judging import JudgingOptions, fitting_metric, judge_rows
from edgekit.stages.answers.observing import Subject
from edgekit.stages.common import quiet
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.parents import table_of
from edgekit.tasks import Row, load_task
from edgekit.tasks.data import read_rows
from edgekit.tasks.text_classification import TextClassification
from edgekit_runtime.session import Array, Feeds

TASK = TextClassification()


@pytest.fixture(scope="module")
def subject(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    place = tmp_path_factory.mktemp("judging") / "a"
    made = compile_model(exported, place, CompileOptions(backend="onnxruntime", precision="fp32"))
    table = table_of(made.manifest.artifact)
    return Subject(
        artifact=made.path,
        table=table,
        model=exported,
        model_table=table_of(read_manifest(exported, "model").model),
        run=table.run,
        device=open_device("local"),
    )


@pytest.fixture(scope="module")
def session(subject: Subject) -> Iterator[RemoteSession]:
    with subject.worker() as worker, subject.open(worker) as opened:
        yield opened


@pytest.fixture(scope="module")
def rows(subject: Subject, few_rows: Path) -> tuple[Row, ...]:
    return read_rows(few_rows, task=TASK, labels=subject.model_table.labels)[:70]


def test_the_tasks_own_metric_is_the_default(
    subject: Subject, session: RemoteSession, rows: tuple[Row, ...]
) -> None:
    seen: list[int] = []
    found = judge_rows(subject, session, rows, JudgingOptions(), lambda done, of, what: seen.append(done))
    assert (found.metric, found.rows, found.method) == ("accuracy", 70, "paired-score")
    assert (found.lost, found.gained, found.flips, found.changed) == (0, 0, 0, ())
    assert 0.0 <= found.max_logit_distance < 1e-3
    assert found.drop is not None and found.drop.high is not None and found.drop.high > 5.0
    assert seen == [64, 70]


def test_another_metric_judges_the_same_answers(
    subject: Subject, session: RemoteSession, rows: tuple[Row, ...]
) -> None:
    own = judge_rows(subject, session, rows, JudgingOptions(), quiet)
    for name in ("macro-f1", "top-1"):
        found = judge_rows(subject, session, rows, JudgingOptions(metric=name), quiet)
        assert (found.metric, found.rows) == (name, 70)
        assert name != "top-1" or found.model == own.model
    every = judge_rows(subject, session, rows, JudgingOptions(metric="top-2"), quiet)
    assert every.model == every.artifact == 1.0  # there are two labels


class Contrary:
    """A session that gives the opposite of what the artifact says."""

    def __init__(self, session: RemoteSession) -> None:
        self.session = session

    def run_many(self, feeds: Sequence[Feeds]) -> list[dict[str, Array]]:
        return [{name: -value for name, value in one.items()} for one in self.session.run_many(feeds)]


def test_changed_rows_show_their_text_only_when_allowed(
    subject: Subject, session: RemoteSession, rows: tuple[Row, ...]
) -> None:
    for include in (False, True):
        how = JudgingOptions(include_rows=include)
        found = judge_rows(subject, cast(RemoteSession, Contrary(session)), rows, how, quiet)
        assert (found.flips, len(found.changed)) == (70, 70)
        assert found.lost is not None and found.gained is not None and found.lost + found.gained == 70
        first = found.changed[0]
        assert (first.number, first.label) == (rows[0].number, rows[0].truth)
        assert {first.model, first.artifact} == set(subject.model_table.labels)
        assert first.text == (rows[0].values["text"] if include else "")


def test_a_metric_that_does_not_fit_names_those_that_do() -> None:
    for name in ("span-f1", "entity-f1", "wer", "miou", "map", "perplexity"):
        with pytest.raises(UsageError, match=rf"'{name}'.*'text-classification'") as caught:
            fitting_metric(name, TASK)
        for fitting in ("accuracy", "macro-f1", "top-5", "path/file.py:function"):
            assert fitting in caught.value.hint
    with pytest.raises(UnknownName, match="acuracy"):
        fitting_metric("acuracy", TASK)
    assert fitting_metric("statistics:covariance", TASK).name == "statistics:covariance"


def test_a_task_without_a_metric_takes_functions_only() -> None:
    with pytest.raises(UsageError) as caught:
        fitting_metric("accuracy", load_task("custom"))
    assert "path/file.py:function" in caught.value.hint
    assert "accuracy" not in caught.value.hint
