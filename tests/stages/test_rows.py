"""Rows become runs: for calibration, for a workload as in data, and as part of what decides a result."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import DataError
from edgekit.files.graphs import model_graphs
from edgekit.stages.rows.reading import CalibrationRows, CalibrationSource, Draw, data_input, read_calibration
from edgekit.stages.validating.inputs import Model, row_inputs
from edgekit.tasks import Mapped, load_task
from edgekit.tasks.data import read_rows
from edgekit.values import ModelTable
from edgekit_runtime.feeds import read_feeds
from edgekit_runtime.values import Signature, TensorSpec, Tolerance
from tests.stages.words import word_processor

SIGNATURE = Signature(
    inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", "labels")),),
)
ZERO_SHOT = [
    {"text": "ada", "candidates": ["up", "down"], "label": "up"},
    {"text": "ada wrote", "candidates": ["up", "down"], "label": "down"},
    {"text": "who is up", "candidates": ["up", "down", "no"], "label": "no"},
]


def write(folder: Path, *records: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def table(task: str) -> ModelTable:
    return ModelTable(
        task=task,
        signature=SIGNATURE,
        opset=17,
        source={},
        tolerance=Tolerance(atol=1e-4, rtol=1e-4),
        checks=(),
        labels=("contradiction", "entailment"),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    word_processor(tmp_path / "model" / "processor")
    return tmp_path / "model"


def calibrate(model: Path, data: Path, task: str, most: int, scratch: Path) -> CalibrationRows:
    draw = Draw(rows=most, seed=0, mapped=Mapped())
    found = table(task)
    source = CalibrationSource(model=model, table=found, graphs=model_graphs(model, found))
    return read_calibration(data, source, draw, scratch)


def test_every_run_of_a_row_is_one_feed_of_calibration(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path, *({key: row[key] for key in ("text", "candidates")} for row in ZERO_SHOT))
    found = calibrate(model, data, "zero-shot-classification", 300, tmp_path / "feeds")
    assert len(found.digests) == 3
    shapes = [feeds["input_ids"].shape for feeds in read_feeds(found.feeds[""])]
    assert shapes == [(1, 9), (1, 9), (1, 10), (1, 10), (1, 11), (1, 11), (1, 11)]
    few = calibrate(model, data, "zero-shot-classification", 1, tmp_path / "few")
    assert len(few.digests) == 1
    assert 2 <= len(list(read_feeds(few.feeds[""]))) <= 3


def calibration_notes(model: Path, folder: Path, texts: list[str], most: int = 300) -> tuple[str, ...]:
    data = write(folder, *({"text": text, "value": 1} for text in texts))
    return calibrate(model, data, "regression", most, folder / f"feeds{most}").notes


def test_what_was_calibrated_on_is_told(model: Path, tmp_path: Path) -> None:
    texts = ["ada", "ada wrote", "who is up no yes", "ada wrote no"]
    assert calibration_notes(model, tmp_path, texts) == ("calibrated on 4 rows; sequence 3 to 7, median 4",)
    [drawn] = calibration_notes(model, tmp_path, texts, most=3)
    assert drawn.startswith("calibrated on 3 of 4 rows, drawn by seed; sequence ")


def test_calibration_rows_that_are_all_the_same_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the 3 calibration rows are all the same") as caught:
        calibration_notes(model, tmp_path, ["ada"] * 3)
    assert "different rows" in caught.value.hint
    assert calibration_notes(model, tmp_path, ["ada"]) == ("calibrated on 1 row; sequence 3",)


def test_calibration_holds_one_row_at_a_time(model: Path, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        texts = (f"{number} " + "ada " * (8 + number % 5) for number in range(count))
        data = write(tmp_path, *({"text": text, "value": 1} for text in texts))
        source = CalibrationSource(model=model, table=table("regression"), graphs=())
        draw = Draw(rows=count, seed=0, mapped=Mapped())
        tracemalloc.start()
        read_calibration(data, source, draw, tmp_path / f"feeds{count}")
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    # what grows are the texts and digests of the rows, under 2 KiB each
    assert peak(1000) - peak(10) < 990 * 2048


def test_a_calibration_row_that_is_no_input_is_named(model: Path, tmp_path: Path) -> None:
    data = write(tmp_path, {"text": "ada", "candidates": ["up"]}, {"text": "ada", "candidates": []})
    with pytest.raises(DataError, match=r"row 2, column 'candidates' holds no words"):
        calibrate(model, data, "zero-shot-classification", 300, tmp_path / "feeds")


def test_a_run_as_in_data_is_one_entry_of_a_row(model: Path, tmp_path: Path) -> None:
    task = load_task("zero-shot-classification")
    rows = read_rows(write(tmp_path, *ZERO_SHOT), task=task, labels=())
    found = row_inputs(Model(path=model, table=table(task.name), signature=SIGNATURE), rows, 0, 50)
    launch = found.launch(0)
    assert len(launch) == 50 and {feeds["input_ids"].shape for feeds in launch} == {(1, 9), (1, 10), (1, 11)}
    assert found.typical["input_ids"].shape == (1, 10)
    assert found.workload == {"batch": 1, "sequence": 10}
    assert found.notes == ("lengths as in data: batch 1; sequence 9 to 11, median 10",)
    again, other = found.launch(0), found.launch(1)
    assert all(
        np.array_equal(one["input_ids"], two["input_ids"]) for one, two in zip(launch, again, strict=True)
    )
    assert any(
        one["input_ids"].shape != two["input_ids"].shape for one, two in zip(launch, other, strict=True)
    )


def test_data_is_other_data_when_a_file_that_it_names_has_changed(tmp_path: Path) -> None:
    task = load_task("semantic-segmentation")
    for name in ("1.png", "m.png"):
        Image.new("L", (2, 2), 0).save(tmp_path / name)
    data = write(tmp_path, {"image": "1.png", "mask": "m.png"})

    def digests() -> tuple[str, str]:
        return (
            data_input("data", data, task, Mapped(), need_label=True).digest,
            data_input("calibration", data, task, Mapped(), need_label=False).digest,
        )

    first = digests()
    assert digests() == first
    Image.new("L", (2, 2), 1).save(tmp_path / "m.png")
    second = digests()
    assert second[0] != first[0] and second[1] == first[1], "calibration looks at no mask"
    Image.new("L", (2, 2), 1).save(tmp_path / "1.png")
    third = digests()
    assert third[0] not in (first[0], second[0]) and third[1] != first[1]


def test_a_folder_is_other_data_when_a_file_in_it_has_changed(tmp_path: Path) -> None:
    task = load_task("image-classification")
    (tmp_path / "rows" / "cat").mkdir(parents=True)
    (tmp_path / "rows" / "cat" / "1.png").write_bytes(b"one")
    first = data_input("data", tmp_path / "rows", task, Mapped(), need_label=True)
    (tmp_path / "rows" / "cat" / "1.png").write_bytes(b"two")
    assert data_input("data", tmp_path / "rows", task, Mapped(), need_label=True).digest != first.digest
