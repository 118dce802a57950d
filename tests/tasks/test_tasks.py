"""What tasks promise: found by name, cheap to list, added by a plugin, documented by rows that are read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit.tasks
from edgekit.errors import DataError, PluginBroken, PluginConflict, UnknownName, UsageError
from edgekit.hooktypes import TaskSpec
from edgekit.tasks import Column, Row, Task, load_task, task_names
from edgekit.tasks.custom import Custom
from edgekit.tasks.data import read_rows
from edgekit_runtime.answers import KINDS
from edgekit_runtime.processors.base import Words
from tests.tasks.readme_task import TEXT as README
from tests.tasks.readme_task import installed_task

#: The labels that the README's rows speak of.
LABELS = ("negative", "positive", "joy", "surprise", "O", "B-PER", "cat", "dog", "travel")


class Shouting(Custom):
    """A third party's task."""

    name = "shouting"  # type: ignore[assignment]


class TwoTruths(Custom):
    name = "two-truths"  # type: ignore[assignment]
    columns = tuple(Column(name=name, help="", holds="label", label=True) for name in "ab")


class Smelling(Custom):
    name = "smelling"  # type: ignore[assignment]
    columns = (Column(name="a", help="", holds="smell"),)


class Loose(Custom):
    name = "loose"  # type: ignore[assignment]
    columns = ("text",)  # type: ignore[assignment]


def leave() -> None:
    sys.exit(0)


def interrupt() -> None:
    raise KeyboardInterrupt


class NoTask:
    name = "no-task"


def plug_in(monkeypatch: pytest.MonkeyPatch, *specs: TaskSpec) -> None:
    monkeypatch.setattr(edgekit.tasks, "plugin_tasks", lambda: specs)


def row(**values: str | tuple[str, ...]) -> Row:
    return Row(number=1, values=values, digest="")


def test_listing_the_tasks_imports_no_numpy() -> None:
    code = "import sys, edgekit.tasks as t; t.task_names(); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", task_names())
def test_built_in_tasks_keep_the_protocol(name: str) -> None:
    task = load_task(name)
    assert isinstance(task, Task)
    assert task.answers in KINDS
    inputs = {column.name for column in task.columns if not column.label}
    assert all(column.of in {"", *inputs} for column in task.columns)


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


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (TwoTruths, "2 label columns"),
        (Smelling, "'smell', which is none of text, words, image, audio"),
        (Loose, "no Columns"),
    ],
)
def test_a_task_whose_columns_mean_nothing_is_a_broken_plugin(
    monkeypatch: pytest.MonkeyPatch, task: type[Custom], told: str
) -> None:
    plug_in(monkeypatch, TaskSpec(name=task.name, factory=f"{__name__}:{task.__name__}"))
    with pytest.raises(PluginBroken, match=told):
        load_task(task.name)


def test_a_factory_that_exits_is_a_broken_plugin_and_ctrl_c_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, TaskSpec(name="other", factory=f"{__name__}:leave"))
    with pytest.raises(PluginBroken, match="SystemExit"):
        load_task("other")
    plug_in(monkeypatch, TaskSpec(name="other", factory=f"{__name__}:interrupt"))
    with pytest.raises(KeyboardInterrupt):
        load_task("other")


# --- what the processor gets --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text-classification", "multi-label-classification", "regression"])
def test_a_pair_reaches_the_processor_as_a_pair(name: str) -> None:
    assert load_task(name).inputs(row(text="x")) == ("x",)
    assert load_task(name).inputs(row(text="y", text_pair="z")) == (("y", "z"),)


def test_several_runs_are_asked_for_where_an_answer_takes_several() -> None:
    assert load_task("sentence-embedding").inputs(row(text="a")) == ("a",)
    assert load_task("sentence-embedding").inputs(row(text="a", text_pair="b")) == ("a", "b")
    asked = load_task("zero-shot-classification").inputs(row(text="a", candidates=("up", "down")))
    assert asked == (("a", "This example is up."), ("a", "This example is down."))


def test_words_and_questions_reach_the_processor_as_such() -> None:
    assert load_task("token-classification").inputs(row(words=("a", "b"))) == (Words(("a", "b")),)
    assert load_task("question-answering").inputs(row(question="q", context="c")) == (("q", "c"),)


def test_a_custom_model_cannot_be_judged_on_rows() -> None:
    with pytest.raises(UsageError, match="no processor"):
        load_task("custom").inputs(row())


# --- the README ------------------------------------------------------------------------------------------


def documented() -> list[tuple[str, str, str]]:
    """(task, row, metric) of the README's table; a line without a task goes on with the one above."""
    found: list[tuple[str, str, str]] = []
    for line in README.splitlines():
        cells = [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        if len(cells) == 3 and (cells[0] in task_names() or (found and not cells[0])):
            found.append((cells[0] or found[-1][0], cells[1], cells[2] or ("" if cells[0] else found[-1][2])))
    return found


def test_the_readme_has_every_task_with_its_metric() -> None:
    assert list(dict.fromkeys(task for task, _, _ in documented())) == list(task_names())
    assert all(load_task(task).metric == metric for task, _, metric in documented())


@pytest.mark.parametrize(("name", "text"), [(task, text) for task, text, _ in documented() if "{" in text])
def test_the_readmes_rows_are_rows(tmp_path: Path, name: str, text: str) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    (tmp_path / "clips").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "1.jpg")
    Image.new("L", (40, 30)).save(tmp_path / "masks" / "1.png")
    (tmp_path / "clips" / "1.wav").write_bytes(b"RIFF")
    path = tmp_path / "rows.jsonl"
    path.write_text(text + "\n", encoding="utf-8")
    task = load_task(name)
    (read,) = read_rows(path, task=task, labels=LABELS)
    assert (read.truth is None) == (not any(column.label for column in task.columns))
    assert task.inputs(read)
    for column in task.columns:
        if column.required and (column.label or column.holds != "text"):
            path.write_text(json.dumps(json.loads(text) | {column.name: {}}), "utf-8")
            with pytest.raises(DataError, match=rf"row 1, column '{column.name}'"):
                read_rows(path, task=task, labels=LABELS)


def test_the_readmes_task_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed_task(tmp_path, monkeypatch) as name:
        task = load_task(name)
    path = tmp_path / "rows.csv"
    path.write_text("one,other,same\nWho?,Which one?,yes\n", encoding="utf-8")
    (read,) = read_rows(path, task=task, labels=("no", "yes"))
    assert (task.inputs(read), read.truth) == ((("Who?", "Which one?"),), "yes")
    assert [recipe.inferred for recipe in task.exports] == [False]
