"""What tasks promise: found by name, cheap to list, added by a plugin, judged row by row."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import edgekit.tasks
from edgekit.errors import PluginBroken, PluginConflict, UnknownName, UsageError
from edgekit.hooktypes import TaskSpec
from edgekit.tasks import Row, Task, load_task, task_names
from edgekit.tasks.custom import Custom


class Shouting(Custom):
    """A third party's task."""

    name = "shouting"  # type: ignore[assignment]


def leave() -> None:
    sys.exit(0)


def interrupt() -> None:
    raise KeyboardInterrupt


class NoTask:
    name = "no-task"


def plug_in(monkeypatch: pytest.MonkeyPatch, *specs: TaskSpec) -> None:
    monkeypatch.setattr(edgekit.tasks, "plugin_tasks", lambda: specs)


def row(text: str, label: str | None = None, pair: str | None = None) -> Row:
    values = {"text": text} if pair is None else {"text": text, "text_pair": pair}
    return Row(number=1, values=values, digest="", label=label)


class FakeProcessor:
    kind = "text"
    input_names = ("input_ids",)

    def __init__(self) -> None:
        self.asked: list[object] = []

    def feeds(self, rows: object, *, pad_to: int | None = None) -> dict[str, object]:
        self.asked.append((rows, pad_to))
        return {}

    def check_parity(self) -> int:
        return 0


def test_listing_the_tasks_imports_no_numpy() -> None:
    code = "import sys, edgekit.tasks as t; t.task_names(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_built_in_tasks_keep_the_protocol() -> None:
    for name in ("text-classification", "custom"):
        assert name in task_names()
        assert isinstance(load_task(name), Task)


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="text-clasification") as caught:
        load_task("text-clasification")
    assert "text-classification" in caught.value.hint


def test_a_plugin_adds_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, TaskSpec(name="shouting", factory=f"{__name__}:Shouting"))
    assert load_task("shouting").name == "shouting"
    assert "shouting" in task_names()


def test_two_tasks_of_one_name_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, TaskSpec(name="custom", factory="elsewhere:Custom"))
    with pytest.raises(PluginConflict, match=r"edgekit\.tasks\.custom:Custom and elsewhere:Custom"):
        task_names()


@pytest.mark.parametrize(
    "factory", ["edgekit.tasks.custom:Custom", "edgekit.errors:DataError", "no.such:Thing"]
)
def test_a_factory_that_makes_no_such_task_is_a_broken_plugin(
    monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    plug_in(monkeypatch, TaskSpec(name="other", factory=factory))
    with pytest.raises(PluginBroken):
        load_task("other")


def test_a_factory_that_exits_is_a_broken_plugin_and_ctrl_c_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, TaskSpec(name="other", factory=f"{__name__}:leave"))
    with pytest.raises(PluginBroken, match="SystemExit"):
        load_task("other")
    plug_in(monkeypatch, TaskSpec(name="other", factory=f"{__name__}:interrupt"))
    with pytest.raises(KeyboardInterrupt):
        load_task("other")


def test_a_classifier_answers_with_the_label_of_the_largest_logit() -> None:
    outputs = {"logits": np.array([[0.1, 2.0, -1.0], [3.0, 2.0, 1.0]], dtype=np.float32)}
    assert load_task("text-classification").predictions(outputs, ("a", "b", "c")) == ("b", "a")


def test_correct_compares_each_row_with_its_own_label() -> None:
    task = load_task("text-classification")
    assert task.correct(("a", "b"), [row("x", "a"), row("y", "a")]) == (True, False)


def test_a_pair_reaches_the_processor_as_a_pair() -> None:
    processor = FakeProcessor()
    load_task("text-classification").feeds(processor, [row("x"), row("y", pair="z")], pad_to=9)  # type: ignore[arg-type]
    assert processor.asked == [(["x", ("y", "z")], 9)]


def test_a_custom_model_cannot_be_judged_on_rows() -> None:
    with pytest.raises(UsageError, match="no processor"):
        load_task("custom").predictions({}, ())
