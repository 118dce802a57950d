"""What parts of a model are calibrated on: some runs of each row, from anywhere in its answer."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgekit.files.graphs import model_graphs
from edgekit.files.manifests import read_manifest
from edgekit.host.reference import open_reference_model
from edgekit.stages.common import quiet
from edgekit.stages.parents import table_of
from edgekit.stages.rows import recording
from edgekit.stages.rows.recording import RUNS_PER_ROW, Answered, RunRecorder, record_parts
from edgekit_runtime.errors import ManifestError
from edgekit_runtime.feeds import read_feeds
from edgekit_runtime.generation import TOKENS
from edgekit_runtime.processors import load_processor
from tests.pipelines import GENERATION, TEXTS, tiny_pipeline


def record(directory: Path, rows: int, steps: int, *, seed: int = 0, size: int = 1) -> RunRecorder:
    """Rows of `steps` runs each, whose feeds say which run they are of."""
    recorder = RunRecorder(directory, rows, seed)
    for row in range(rows):
        for step in range(steps):
            recorder.take({"step": np.array([row, step]), "past": np.zeros(size, np.float32)})
        recorder.end_row()
    return recorder


def steps(directory: Path) -> list[tuple[int, int]]:
    return [tuple(feeds["step"].tolist()) for feeds in read_feeds(directory)]


def test_each_row_gives_some_runs_of_all_positions_in_their_order(tmp_path: Path) -> None:
    recorder = record(tmp_path / "feeds", 400, 20)
    found = steps(tmp_path / "feeds")
    assert (recorder.runs, recorder.kept, len(found)) == (8000, 400 * RUNS_PER_ROW, 400 * RUNS_PER_ROW)
    assert found == sorted(found) and len(set(found)) == len(found)
    assert recorder.of == [row for row, _ in found]
    positions = Counter(step for _, step in found)
    expected = 400 * RUNS_PER_ROW / 20  # of each position; the spread of a fair draw is 8
    assert all(abs(positions[step] - expected) < 40 for step in range(20))


def test_a_row_of_few_runs_gives_them_all(tmp_path: Path) -> None:
    record(tmp_path / "feeds", 2, 3)
    assert steps(tmp_path / "feeds") == [(row, step) for row in range(2) for step in range(3)]


def test_the_same_seed_keeps_the_same_runs(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        record(tmp_path / name, 20, 30, seed=seed)
    assert steps(tmp_path / "one") == steps(tmp_path / "two") != steps(tmp_path / "three")


def test_feeds_beyond_what_the_disk_is_given_are_kept_of_fewer_runs_and_then_of_fewer_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_bytes = 2 * 8 + 1000 * 4
    monkeypatch.setattr(recording, "MOST_BYTES", 2 * 30 * run_bytes)
    assert record(tmp_path / "fewer", 30, 10, size=1000).kept == 2 * 30
    monkeypatch.setattr(recording, "MOST_BYTES", 10 * run_bytes)
    assert record(tmp_path / "rows", 30, 10, size=1000).kept == 10
    assert [row for row, _ in steps(tmp_path / "rows")] == list(range(0, 30, 3))


def test_memory_hangs_on_the_size_of_a_row_and_not_on_how_many_there_are(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        tracemalloc.start()
        record(tmp_path / f"{rows}", rows, 10, size=20_000)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(3)  # what is imported on first use is none of it
    few, many = peak(10), peak(400)
    assert many < 1.2 * few


def test_what_a_recorder_holds_is_not_changed_by_who_ran_it(tmp_path: Path) -> None:
    recorder = RunRecorder(tmp_path / "feeds", 1, 0)
    reused = np.array([0, 0])
    recorder.take({"step": reused})
    reused += 5
    recorder.end_row()
    assert steps(tmp_path / "feeds") == [(0, 0)]


def test_the_parts_of_a_model_are_recorded_while_it_answers(tmp_path: Path) -> None:
    model = tiny_pipeline(tmp_path / "model")
    table = table_of(read_manifest(model, "model").model)
    processor = load_processor(model / "processor")
    rows = [processor.prepare([text]).feeds for text in TEXTS]
    with open_reference_model(model, table) as session:
        answers = [outputs[TOKENS][0].tolist() for outputs in session.run_many(rows)]
    graphs = model_graphs(model, table)
    answered = Answered(count=len(rows), feeds=iter(rows))
    found = record_parts(graphs, model, answered, 0, tmp_path / "feeds", quiet)

    encoder = list(read_feeds(found["encoder"].directory))
    assert all(
        np.array_equal(one["input_ids"], row["input_ids"]) for one, row in zip(encoder, rows, strict=True)
    )
    assert found["decoder"].runs == sum(len(answer) for answer in answers)
    decoder = list(read_feeds(found["decoder"].directory))
    assert found["decoder"].kept == len(decoder) == sum(min(len(answer), RUNS_PER_ROW) for answer in answers)
    seen = {*GENERATION.start, *(token for answer in answers for token in answer)}
    assert {int(feeds["input_ids"][0, 0]) for feeds in decoder} <= seen
    lengths = [feeds["past.0.key"].shape[2] for feeds in decoder]
    assert max(lengths) > RUNS_PER_ROW and len(set(lengths)) > RUNS_PER_ROW
    sources = {row["input_ids"].shape[1] for row in rows}
    assert {feeds["cross.0.value"].shape[2] for feeds in decoder} == sources


def test_a_model_of_parts_that_lost_its_pipeline_is_refused(tmp_path: Path) -> None:
    model = tiny_pipeline(tmp_path / "model")
    table = table_of(read_manifest(model, "model").model)
    graphs = model_graphs(model, table)
    (model / "pipeline.json").unlink()
    with pytest.raises(ManifestError, match=r"pipeline\.json is missing"):
        record_parts(graphs, model, Answered(count=0, feeds=()), 0, tmp_path / "feeds", quiet)
    with pytest.raises(ManifestError, match=r"names the parts \(none\), and the manifest encoder, decoder"):
        model_graphs(model, table)
