"""What read_rows promises: every row or an error that names file, row and column."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.errors import DataError
from edgekit.tasks import Mapped, load_task
from edgekit.tasks.data import read_rows

TASK = load_task("text-classification")
LABELS = ("negative", "positive")


def write(path: Path, *records: object) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def read(path: Path, **changes: object) -> list[tuple[str, str | None]]:
    rows = read_rows(path, **{"task": TASK, "labels": LABELS, **changes})  # type: ignore[arg-type]
    return [(row.values["text"], row.truth) for row in rows]


def refused(path: Path, **changes: object) -> DataError:
    with pytest.raises(DataError) as caught:
        read(path, **changes)
    assert str(path) in caught.value.message or "--columns" in caught.value.message
    assert caught.value.hint
    return caught.value


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


def test_json_lines_are_read_in_order_and_blank_lines_are_no_rows(jsonl: Path) -> None:
    jsonl.write_text(
        '{"text": "a", "label": "positive"}\n\n{"text": "ü", "label": "negative"}', encoding="utf-8"
    )
    assert read(jsonl) == [("a", "positive"), ("ü", "negative")]


def test_csv_with_quoted_commas_and_line_breaks_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('label,text\r\npositive,"one, two\nthree"\r\nnegative,""\r\n', encoding="utf-8")
    assert read(path) == [("one, two\nthree", "positive"), ("", "negative")]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("text,label\na,positive\n".encode("utf-8-sig"))
    assert read(path) == [("a", "positive")]


def test_columns_are_mapped_to_the_task_and_others_ignored(jsonl: Path) -> None:
    write(jsonl, {"review": "a", "stars": "positive", "id": 7})
    mapped = Mapped(columns={"text": "review", "label": "stars"})
    assert read(jsonl, mapped=mapped) == [("a", "positive")]


def test_labels_are_mapped_to_the_models_words(jsonl: Path) -> None:
    write(jsonl, {"text": "a", "label": "pos"}, {"text": "b", "label": 0})
    assert read(jsonl, mapped=Mapped(labels={"pos": "positive", "0": "negative"})) == [
        ("a", "positive"),
        ("b", "negative"),
    ]


def test_a_class_number_is_a_label(jsonl: Path, tmp_path: Path) -> None:
    assert read(write(jsonl, {"text": "a", "label": 1})) == [("a", "positive")]
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,0\n", encoding="utf-8")
    assert read(path) == [("a", "negative")]


def test_a_label_that_looks_like_a_number_is_first_a_word(jsonl: Path) -> None:
    write(jsonl, {"text": "a", "label": "1"})
    assert read(jsonl, labels=("1", "2", "3")) == [("a", "1")]


def test_a_text_pair_is_optional_row_by_row(jsonl: Path) -> None:
    write(
        jsonl,
        {"text": "a", "text_pair": "b", "label": "positive"},
        {"text": "c", "text_pair": None, "label": "positive"},
        {"text": "d", "label": "positive"},
    )
    rows = read_rows(jsonl, task=TASK, labels=LABELS)
    assert [dict(row.values) for row in rows] == [
        {"text": "a", "text_pair": "b"},
        {"text": "c"},
        {"text": "d"},
    ]


def test_calibration_rows_need_no_label(jsonl: Path) -> None:
    write(jsonl, {"text": "a"}, {"text": "b", "label": "anything"})
    assert read(jsonl, need_label=False) == [("a", None), ("b", None)]


def test_a_row_is_recognised_whatever_its_label_and_the_names_of_its_columns(
    jsonl: Path, tmp_path: Path
) -> None:
    write(jsonl, {"text": "a", "label": "positive"}, {"text": "b", "label": "positive"})
    other = write(tmp_path / "other.jsonl", {"review": "a", "id": 3})
    judged = read_rows(jsonl, task=TASK, labels=LABELS)
    tuned = read_rows(
        other, task=TASK, labels=LABELS, mapped=Mapped(columns={"text": "review"}), need_label=False
    )
    assert judged[0].digest == tuned[0].digest != judged[1].digest


# --- refusals -------------------------------------------------------------------------------------


def test_a_missing_column_names_the_nearest_and_the_flag(jsonl: Path) -> None:
    error = refused(write(jsonl, {"text": "a", "label": "positive"}, {"texts": "a", "label": "positive"}))
    assert "row 2" in error.message
    assert "'text'" in error.message
    assert "'texts'" in error.hint
    assert "--columns text=" in error.hint


def test_a_mapped_column_that_is_not_there_is_missing_even_if_optional(jsonl: Path) -> None:
    write(jsonl, {"text": "a", "label": "positive"})
    error = refused(jsonl, mapped=Mapped(columns={"text_pair": "question"}))
    assert "'question'" in error.message


def test_mapping_a_column_the_task_does_not_have_is_refused(jsonl: Path) -> None:
    write(jsonl, {"text": "a", "label": "positive"})
    assert "'txt'" in refused(jsonl, mapped=Mapped(columns={"txt": "text"})).message


@pytest.mark.parametrize("label", ["neutral", 2, -1, "²"])
def test_an_unknown_label_lists_the_models_labels(jsonl: Path, label: object) -> None:
    error = refused(write(jsonl, {"text": "a", "label": "positive"}, {"text": "b", "label": label}))
    assert "row 2" in error.message
    assert "negative, positive" in error.hint


@pytest.mark.parametrize("label", [None, "", 1.0])
def test_no_label_is_not_a_label(jsonl: Path, label: object) -> None:
    assert "'label'" in refused(write(jsonl, {"text": "a", "label": label})).message


def test_a_label_that_the_mapping_leaves_out_is_refused(jsonl: Path) -> None:
    write(jsonl, {"text": "a", "label": "positive"})
    assert "--labels" in refused(jsonl, mapped=Mapped(labels={"pos": "positive"})).message


@pytest.mark.parametrize("text", [None, 3, ["a"], True])
def test_a_text_that_is_no_text_is_refused(jsonl: Path, text: object) -> None:
    error = refused(write(jsonl, {"text": text, "label": "positive"}))
    assert "row 1" in error.message
    assert "'text'" in error.message


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(jsonl: Path, content: str) -> None:
    jsonl.write_text(content, encoding="utf-8")
    assert "no rows" in refused(jsonl).message


def test_a_csv_with_a_header_only_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\n", encoding="utf-8")
    assert "no rows" in refused(path).message


@pytest.mark.parametrize("line", ["{", '["a"]', "[" * 100_000, '"a"'])
def test_a_bad_json_line_names_its_number(jsonl: Path, line: str) -> None:
    jsonl.write_text('{"text": "a", "label": "positive"}\n\n' + line + "\n", encoding="utf-8")
    error = refused(jsonl)
    assert "row 2 (line 3)" in error.message


def test_another_encoding_is_refused_with_the_command_that_converts(jsonl: Path) -> None:
    jsonl.write_bytes('{"text": "caf\xe9", "label": "positive"}\n'.encode("latin1"))
    error = refused(jsonl)
    assert "UTF-8" in error.message
    assert "iconv" in error.hint


def test_a_csv_row_with_another_number_of_fields_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\na,positive\nb, c,positive\n", encoding="utf-8")
    assert "row 2 (line 3)" in refused(path).message


def test_a_csv_header_that_repeats_a_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,text,label\na,b,positive\n", encoding="utf-8")
    assert "'text' twice" in refused(path).message


def test_a_csv_with_an_open_quote_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('text,label\n"a,positive\n', encoding="utf-8")
    assert "not CSV" in refused(path).message


@pytest.mark.parametrize("name", ["rows.npz", "rows"])
def test_another_kind_of_file_is_refused(tmp_path: Path, name: str) -> None:
    assert ".jsonl" in refused(tmp_path / name).message


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.jsonl")


def test_a_custom_model_takes_no_rows(jsonl: Path) -> None:
    write(jsonl, {"text": "a"})
    assert "custom" in refused(jsonl, task=load_task("custom")).message
