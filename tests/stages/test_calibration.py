"""What calibration rows may be, what is told of them, and what is warned of."""

from __future__ import annotations

import csv
import json
import random
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.api import LearntRanges, RangeSetter, RangeWatch
from edgekit.errors import DataError
from edgekit.files.graphs import model_graphs
from edgekit.stages.rows.calibration_report import Statistics, range_rows, unlike, wide_rows
from edgekit.stages.rows.reading import CalibrationRows, CalibrationSource, Draw, read_calibration
from edgekit.tasks import Mapped
from edgekit.values import ModelTable
from edgekit_runtime.feeds import read_feeds
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.values import Signature, TensorSpec, Tolerance
from tests.stages.words import word_processor

Size = int | str
LABELS = ("contradiction", "entailment")
WORDS = ("ada", "wrote", "who", "yes", "no", "france", "is", "up", "down")


def table(*specs: tuple[str, str, tuple[Size, ...]], task: str = "custom", **more: object) -> ModelTable:
    return ModelTable(
        task=task,
        signature=Signature(
            inputs=tuple(TensorSpec(name=name, dtype=dtype, shape=shape) for name, dtype, shape in specs),
            outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
        ),
        opset=17,
        source={},
        tolerance=Tolerance(atol=1e-4, rtol=1e-4),
        checks=(),
        labels=LABELS,
        **more,  # type: ignore[arg-type]
    )


TEXT = table(("input_ids", "int64", ("batch", "sequence")), task="text-classification")
IDS = table(("ids", "int64", ("batch", "sequence")), axes={"sequence": (1, 64)})
IMAGE = table(("pixels", "float32", ("batch", 3, 16, 16)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    word_processor(tmp_path / "model" / "processor")
    other = {"other": np.ones((1, 2), np.float32)}
    write_goldens(tmp_path / "model" / "golden", [Golden(name="0", feeds=other, outputs=other)])
    return tmp_path / "model"


@pytest.fixture
def calibrated(model: Path, tmp_path: Path) -> Callable[..., CalibrationRows]:
    """Calibrate the model of `table` on a file, in a new directory for each call."""
    made = iter(range(1000))

    def calibrate(
        data: Path,
        asked: ModelTable,
        most: int = 300,
        workload: Sequence[Mapping[str, int]] = (),
        spare: int = 0,
        seed: int = 0,
    ) -> CalibrationRows:
        source = CalibrationSource(
            model=model, table=asked, graphs=model_graphs(model, asked), workload=tuple(workload)
        )
        draw = Draw(rows=most, seed=seed, mapped=Mapped(), spare=spare)
        return read_calibration(data, source, draw, tmp_path / f"feeds{next(made)}")

    return calibrate


def lines(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(count: int, longest: int = 9, seed: int = 1) -> list[dict[str, object]]:
    """Rows that differ, of both classes."""
    drawn = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found[" ".join(drawn.choices(WORDS, k=drawn.randint(1, longest)))] = None
    return [{"text": text, "label": LABELS[at % 2]} for at, text in enumerate(found)]


def warned(found: CalibrationRows) -> str:
    assert found.report is not None
    return "\n".join(found.report.warnings)


# --- kinds of files -----------------------------------------------------------------------------------------


def test_the_same_rows_of_any_kind_of_file_are_the_same_feeds(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'edgekit[parquet]'")
    from pyarrow.parquet import write_table

    rows = texts(40)
    write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    with (tmp_path / "rows.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows)
    files = (lines(tmp_path / "rows.jsonl", rows), tmp_path / "rows.csv", tmp_path / "rows.parquet")
    found = [calibrated(file, TEXT, most=10) for file in files]
    assert len({each.digests for each in found}) == 1
    for each in found:
        assert each.report == found[0].report and each.notes == found[0].notes
    feeds = [[row["input_ids"].tolist() for row in read_feeds(each.feeds[""])] for each in found]
    assert feeds[0] == feeds[1] == feeds[2] and len(feeds[0]) == 10


def test_arrays_of_a_models_own_inputs_are_rows(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    values = np.random.default_rng(0).integers(0, 50, (12, 7))
    np.savez(tmp_path / "rows.npz", ids=values.astype(np.int32))
    found = calibrated(tmp_path / "rows.npz", IDS)
    feeds = list(read_feeds(found.feeds[""]))
    assert [row["ids"].shape for row in feeds] == [(1, 7)] * 12 and feeds[0]["ids"].dtype == np.int64
    assert np.array_equal(np.concatenate([row["ids"] for row in feeds]), values)
    assert len(set(found.digests)) == 12 and found.numbers[""] == tuple(range(1, 13))
    drawn = calibrated(tmp_path / "rows.npz", IDS, most=5)
    assert set(drawn.digests) < set(found.digests) and len(drawn.digests) == 5
    assert calibrated(tmp_path / "rows.npz", IDS, most=5).digests == drawn.digests
    assert calibrated(tmp_path / "rows.npz", IDS, most=5, seed=1).digests != drawn.digests
    assert "5 of 12 rows, drawn by seed" in drawn.notes[0]


def test_a_folder_of_arrays_holds_rows_of_different_lengths(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    for number, length in enumerate((3, 9, 5)):
        np.savez(folder / f"{number}.npz", ids=np.full((2, length), number))
    found = calibrated(folder, IDS)
    assert [row["ids"].shape for row in read_feeds(found.feeds[""])] == [(1, n) for n in (3, 3, 9, 9, 5, 5)]
    (folder / "notes.txt").write_text("")
    with pytest.raises(DataError, match=r"notes\.txt is no \.npz file"):
        calibrated(folder, IDS)


def test_a_model_of_one_batch_size_takes_rows_of_that_size(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    fixed = table(("x", "float32", (4, 6)), ("level", "float32", ()))
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x=rng.normal(size=(3, 4, 6)), level=rng.normal(size=3))
    feeds = list(read_feeds(calibrated(tmp_path / "rows.npz", fixed).feeds[""]))
    assert [(row["x"].shape, row["level"].shape) for row in feeds] == [((4, 6), ())] * 3
    np.savez(tmp_path / "rows.npz", x=rng.normal(size=(4, 6)), level=rng.normal(size=4))
    with pytest.raises(DataError, match=r"takes \[rows, 4, 6\]"):
        calibrated(tmp_path / "rows.npz", fixed)


NAN, HUGE = np.ones((3, 3, 16, 16)), np.ones((3, 3, 16, 16))
NAN[1, 0, 3, 3] = np.nan
HUGE[2] = 1e300


@pytest.mark.parametrize(
    ("asked", "arrays", "problem"),
    [
        (IDS, {"idz": np.ones((2, 3), int)}, "the model has no input 'idz'"),
        (IDS, {"ids": np.ones((2, 3), int), "mask": np.ones((2, 3), int)}, "no input 'mask'"),
        (
            table(("a", "int64", ("batch", 2)), ("b", "int64", ("batch", 2))),
            {"a": np.ones((2, 2), int)},
            "'b'",
        ),
        (IDS, {"ids": np.ones((2, 3, 4, 5), int)}, r"shape \[2, 3, 4, 5\].*takes \[rows, sequence\]"),
        (IDS, {"ids": np.ones((2, 3))}, "holds float64, and the model takes int64"),
        (IDS, {"ids": np.ones((2, 65), int)}, "sequence is 65, and the model takes 1 to 64"),
        (IMAGE, {"pixels": np.ones((2, 3, 16, 15))}, r"row 1: input 'pixels' has shape \[1, 3, 16, 15\]"),
        (IMAGE, {"pixels": np.ones((2, 3, 16, 16), np.uint8)}, "holds uint8, and the model takes float32"),
        (IMAGE, {"pixels": NAN}, "row 2, input 'pixels' holds NaN"),
        (IMAGE, {"pixels": HUGE}, "row 3, input 'pixels' holds numbers that float32 cannot hold"),
        (table(("x", "int8", ("batch", 1))), {"x": np.full((2, 1), 300)}, "numbers that int8 cannot hold"),
        (
            table(("a", "int64", ("batch", 2)), ("b", "int64", ("batch", 2))),
            {"a": np.ones((2, 2), int), "b": np.ones((3, 2), int)},
            "different numbers of rows: a 2, b 3",
        ),
        (
            table(("a", "int64", ("batch", "sequence")), ("b", "int64", ("batch", "sequence"))),
            {"a": np.ones((2, 2), int), "b": np.ones((2, 3), int)},
            "axis 'sequence' is 3, but it is 2",
        ),
        (IDS, {"ids": np.ones((3, 4), int)}, "the 3 calibration rows are all the same"),
    ],
)
def test_arrays_that_are_no_inputs_of_the_model_are_refused_by_name(
    asked: ModelTable,
    arrays: dict[str, np.ndarray],
    problem: str,
    tmp_path: Path,
    calibrated: Callable[..., CalibrationRows],
) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)
    with pytest.raises(DataError, match=problem) as caught:
        calibrated(tmp_path / "rows.npz", asked)
    assert "rows.npz" in caught.value.message and caught.value.hint


def test_rows_of_another_task_and_of_none_are_refused_by_name(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    data = lines(tmp_path / "rows.jsonl", [{"question": "who", "context": "ada"}])
    with pytest.raises(DataError, match="has no column 'text'"):
        calibrated(data, TEXT)
    with pytest.raises(DataError, match="custom") as caught:
        calibrated(data, IDS)
    assert ".npz" in caught.value.hint


def test_rows_that_differ_only_before_they_are_prepared_are_refused(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    data = lines(tmp_path / "rows.jsonl", [{"text": "Ada"}, {"text": "ada"}, {"text": " ada "}])
    with pytest.raises(DataError, match="all the same once they are the model's inputs"):
        calibrated(data, TEXT)


def test_arrays_are_held_one_row_at_a_time(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    def peak(count: int) -> int:
        rng = np.random.default_rng(0)
        np.savez(tmp_path / f"{count}.npz", pixels=rng.normal(size=(count, 3, 16, 16)).astype(np.float32))
        tracemalloc.start()
        calibrated(tmp_path / f"{count}.npz", IMAGE, most=count)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(2)
    # a row is 3 KiB; what grows is a digest and some numbers of each
    assert peak(1000) - peak(10) < 990 * 1024


# --- rows kept beside ---------------------------------------------------------------------------------------


def test_other_rows_of_the_file_are_kept_with_their_answers_and_none_twice(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    rows = texts(60)
    found = calibrated(lines(tmp_path / "rows.jsonl", [*rows, *rows]), TEXT, most=20, spare=30)
    digests = [row.digest for row in found.spare]
    assert len(set(digests)) == 30 and not set(digests) & set(found.digests)
    right = {row["text"]: row["label"] for row in rows}
    assert all(row.truth == right[row.values["text"]] for row in found.spare)
    other = calibrated(tmp_path / "rows.jsonl", TEXT, most=20, spare=30, seed=1)
    assert {row.digest for row in other.spare} != set(digests)
    assert calibrated(tmp_path / "rows.jsonl", TEXT, most=20).spare == ()


def test_rows_without_labels_calibrate_and_say_why_they_judge_nothing(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    rows = [{"text": row["text"]} for row in texts(30)]
    found = calibrated(lines(tmp_path / "rows.jsonl", rows), TEXT, most=10, spare=10)
    assert "no column 'label'" in found.unlabelled and found.report is not None
    assert found.report.classes == {} and len(found.digests) == 10


# --- the report ---------------------------------------------------------------------------------------------


def test_the_report_tells_lengths_classes_and_repeats(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    rows = [{"text": " ".join(["ada"] * count), "label": LABELS[count > 6]} for count in range(1, 11)]
    data = lines(tmp_path / "rows.jsonl", [*rows, rows[0]])
    report = calibrated(data, TEXT, workload=({"batch": 1, "sequence": 12},)).report
    assert report is not None and (report.rows, report.given, report.repeated) == (11, 11, 1)
    assert report.classes == {LABELS[0]: 7, LABELS[1]: 4}
    lengths = report.lengths["sequence"]
    assert (lengths.least, lengths.lower, lengths.median, lengths.upper, lengths.most) == (3, 4, 7, 9, 12)
    assert lengths.workload == (12,) and "batch" not in report.lengths
    assert report.padding is None, "the model takes no mask"


def test_the_share_of_padding_is_that_of_the_mask(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    asked = table(("ids", "int64", ("batch", 8)), ("attention_mask", "int64", ("batch", 8)))
    mask = np.tril(np.ones((8, 8), int))
    np.savez(tmp_path / "rows.npz", ids=mask * 7, attention_mask=mask)
    report = calibrated(tmp_path / "rows.npz", asked).report
    assert report is not None and report.padding == pytest.approx(28 / 64)


def test_good_rows_are_warned_of_in_nothing(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    data = lines(tmp_path / "rows.jsonl", texts(120))
    assert warned(calibrated(data, TEXT, workload=({"batch": 1, "sequence": 16},))) == ""


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (texts(99), "99 different rows are few: .* chance of 1 %; give at least 100"),
        ([*texts(120), *texts(120)[:10]], "10 of the 130 rows repeat another one"),
        ([{**row, "label": LABELS[0]} for row in texts(120)], "no row is of class entailment"),
        (
            [{**row, "label": LABELS[at < 5]} for at, row in enumerate(texts(120))],
            "115 of 120 rows are of class contradiction",
        ),
        (texts(120, longest=4), "the longest row has sequence 6, not half of the workload's 16"),
    ],
)
def test_rows_that_may_not_do_are_warned_of(
    rows: list[dict[str, object]],
    problem: str,
    tmp_path: Path,
    calibrated: Callable[..., CalibrationRows],
) -> None:
    import re

    data = lines(tmp_path / "rows.jsonl", rows)
    found = warned(calibrated(data, TEXT, workload=({"batch": 1, "sequence": 16},)))
    assert re.search(problem, found) and "\n" not in found


def spoken(rows: int, length: int, rng: np.random.Generator) -> np.ndarray:
    """Ids as words of a language come: the n-th commonest with a chance of 1 in n, between two marks."""
    chances = 1 / np.arange(1, 30_000)
    ids = rng.choice(np.arange(1, 30_000), (rows, length), p=chances / chances.sum())
    ids[:, 0], ids[:, -1] = 101, 102
    return ids


def test_ids_drawn_at_random_are_told_from_words(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.integers(1, 30_000, (120, 24))
    drawn[:, 0], drawn[:, -1] = 101, 102
    asked = table(("ids", "int64", ("batch", "sequence")), ("positions", "int64", ("batch", "sequence")))
    places = np.tile(np.arange(24) * 100, (120, 1))
    for values, expected in ((drawn, "'ids' look drawn at random"), (spoken(120, 24, rng), "")):
        np.savez(tmp_path / "rows.npz", ids=values, positions=places)
        found = warned(calibrated(tmp_path / "rows.npz", asked))
        assert expected in found and bool(found) == bool(expected)


def waves(rows: int, rng: np.random.Generator) -> np.ndarray:
    """Pictures with something on them: sums of slow waves."""
    across = np.linspace(0, 1, 16)
    phases = rng.uniform(0, 6, (rows, 3, 1, 1))
    turns = rng.uniform(2, 9, (rows, 3, 1, 1))
    return np.sin(turns * across[None, None, :, None] + phases) + 0.1 * rng.normal(size=(rows, 3, 16, 16))


def test_noise_is_told_from_pictures(tmp_path: Path, calibrated: Callable[..., CalibrationRows]) -> None:
    rng = np.random.default_rng(0)
    for values, expected in (
        (rng.random((120, 3, 16, 16)), "'pixels' look like noise"),
        (waves(120, rng), ""),
        (np.concatenate([waves(119, rng), np.zeros((1, 3, 16, 16))]), ""),
    ):
        np.savez(tmp_path / "rows.npz", pixels=values)
        found = warned(calibrated(tmp_path / "rows.npz", IMAGE))
        assert expected in found and bool(found) == bool(expected)


def test_arrays_that_were_not_prepared_as_the_model_does_it_are_warned_of(
    tmp_path: Path, model: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    rng = np.random.default_rng(0)
    goldens = [
        Golden(
            name=str(at), feeds={"pixels": row[None].astype(np.float32)}, outputs={"logits": np.zeros((1, 2))}
        )
        for at, row in enumerate(waves(4, rng))
    ]
    write_goldens(model / "golden", goldens)
    np.savez(tmp_path / "rows.npz", pixels=127 * (waves(120, rng) + 1))
    assert "times those that the model's processor gives" in warned(calibrated(tmp_path / "rows.npz", IMAGE))
    np.savez(tmp_path / "rows.npz", pixels=waves(120, rng))
    assert warned(calibrated(tmp_path / "rows.npz", IMAGE)) == ""


def statistics(asked: ModelTable, rows: Sequence[Mapping[str, np.ndarray]]) -> Statistics:
    found = Statistics(asked.signature)
    for row in rows:
        found.see(row)
    return found


def test_rows_unlike_those_that_tune_are_told_and_rows_like_them_are_not() -> None:
    rng = np.random.default_rng(0)

    def ids(first: int, length: int, rows: int = 100) -> Statistics:
        return statistics(IDS, [{"ids": row[None] + first} for row in spoken(rows, length, rng)])

    seen = ids(0, 20)
    assert list(unlike(seen, ids(0, 20), "tune rows")) == []
    [longer] = unlike(seen, ids(0, 40), "tune rows")
    assert longer == "unlike the tune rows: the median of sequence is 20, there 40"
    [foreign] = unlike(seen, ids(30_000, 20), "tune rows")
    assert "100% of their tokens are in no calibration row" in foreign
    assert list(unlike(seen, ids(0, 40, rows=9), "tune rows")) == [], "nine rows tell nothing of lengths"

    def pictures(scale: float) -> Statistics:
        return statistics(IMAGE, [{"pixels": scale * row[None]} for row in waves(50, rng)])

    assert list(unlike(pictures(1), pictures(1), "tune rows")) == []
    [darker] = unlike(pictures(1), pictures(0.1), "tune rows")
    assert "the numbers in 'pixels' are distributed differently" in darker


# --- ranges -------------------------------------------------------------------------------------------------


def test_the_run_that_alone_makes_a_range_twice_as_wide_is_found() -> None:
    watch = RangeWatch()
    for run in range(10):
        watch.see("even", run, -1.0 - run / 10, 1.0)
        watch.see("high", run, -1.0, 30.0 if run == 4 else 1.0 + run / 10)
        watch.see("low", run, -9.0 if run == 4 else -1.0, 1.0)
        watch.see("positive", run, 0.5, 8.0 if run == 7 else 2.0)
        watch.see("nothing", run, 0.0, 0.0)
    found = watch.found()
    assert found.count == 5
    assert [(each.run, each.ranges, each.tensor) for each in found.setters] == [
        (4, 2, "high"),
        (7, 1, "positive"),
    ]
    assert (found.setters[0].width, found.setters[0].width_without) == (31.0, pytest.approx(2.9))
    assert [each.run for each in watch.found({"positive", "even"}).setters] == [7]
    once = RangeWatch()
    once.see("x", 0, 0.0, 1.0)
    assert once.found().setters == ()
    rows = range_rows(found, {"": tuple(range(100, 110))})
    assert [row.row for row in rows] == [104, 107]
    assert ["row 104 alone made 2 of 5 ranges" in line for line in wide_rows(rows, 5)] == [True]


def test_a_run_that_sets_ranges_is_told_by_its_row_in_the_file(
    tmp_path: Path, calibrated: Callable[..., CalibrationRows]
) -> None:
    task = table(("input_ids", "int64", ("batch", "sequence")), task="zero-shot-classification")
    choices = [{"text": text, "candidates": ["up", "down"]} for text in ("ada", "who", "no", "yes")]
    found = calibrated(lines(tmp_path / "rows.jsonl", choices), task)
    assert found.numbers[""] == (1, 1, 2, 2, 3, 3, 4, 4), "a run for each candidate"
    setter = RangeSetter(run=5, ranges=9, tensor="add", width=40.0, width_without=10.0)
    report = found.reported(LearntRanges(count=20, setters=(setter,)), ("unlike the tune rows",))
    assert report is not None and (report.ranges, [row.row for row in report.range_rows]) == (20, [3])
    assert "row 3 alone made 9 of 20 ranges" in report.warnings[-1]
    assert "unlike the tune rows" in report.warnings
    assert CalibrationRows().reported(None) is None
