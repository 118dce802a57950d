"""Launches: each a fresh worker, until all is decided or the plan is spent."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import open_device
from edgekit.discovery import reference_backend
from edgekit.errors import UsageError, WorkerCrashed
from edgekit.host.client import WorkerClient
from edgekit.host.compiling import compile_model
from edgekit.measuring import launches
from edgekit.measuring.inputs import mixed_feeds
from edgekit.measuring.launches import (
    LaunchSetup,
    expected_seconds,
    heat_up,
    launch_conditions,
    measure_launches,
    plan_block,
    stream_inputs,
)
from edgekit.measuring.plan import Decision, MeasurementPlan, check_confidence
from edgekit.testing.families import case
from edgekit.values import CompileRequest, LaunchConditions, LaunchRecord, RunSettings, Target
from edgekit_runtime.conditions import Conditions
from edgekit_runtime.session import Feeds
from edgekit_runtime.values import Signature, TensorSpec
from tests.plugin_folders import install_plugin

QUICK = MeasurementPlan(max_seconds=60, min_launches=1, max_runs=20, block_seconds=0.1)


def done_after(launches: int) -> object:
    def decide(seen: Sequence[LaunchRecord]) -> Decision:
        return Decision(done=len(seen) >= launches, text="p50 9..11 against 12 ms")

    return decide


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LaunchSetup:
    """Launches of a backend that passes its input on."""
    install_plugin(monkeypatch, tmp_path, "one")
    artifact = tmp_path / "artifact"
    artifact.mkdir()

    def inputs(number: int) -> list[Feeds]:
        return [{"x": np.full((1, 4), number + index, dtype=np.float32)} for index in range(4)]

    return LaunchSetup(
        start_worker=lambda: WorkerClient(open_device("local")),
        directory=artifact,
        backend="one",
        precision="fp32",
        run=RunSettings(),
        inputs=inputs,
    )


def test_a_real_model_is_launched_and_every_figure_is_taken(tmp_path: Path) -> None:
    mlp = case("mlp")
    backend = reference_backend()
    (tmp_path / "model").mkdir()
    (tmp_path / "artifact").mkdir()
    model = mlp.write(tmp_path / "model")
    request = CompileRequest(
        model=model,
        signature=mlp.signature,
        workdir=tmp_path / "artifact",
        precision="fp32",
        target=Target(name="here", backend=backend),
    )
    compile_model(backend, request)
    shape = dict.fromkeys(mlp.axes(), 2)
    setup = LaunchSetup(
        start_worker=lambda: WorkerClient(open_device("local")),
        directory=tmp_path / "artifact",
        backend=backend,
        precision="fp32",
        run=RunSettings(),
        inputs=lambda number: mixed_feeds(mlp.signature, (shape,), [mlp.feeds()], count=4, seed=number),
    )
    made = measure_launches(setup, QUICK, done_after(2))
    assert len(made) == 2
    for record in made:
        assert 1 <= len(record.latency_ms) <= 20
        assert len(record.disturbed) == len(record.cpu_ms) == len(record.latency_ms)
        assert all(latency > 0 for latency in record.latency_ms)
        assert set(record.cold_parts_ms) == {"start", "import", "open", "first run"}
        assert sum(record.cold_parts_ms.values()) == pytest.approx(record.cold_start_ms)
        assert record.cold_start_ms < 1e3 * record.seconds
        assert record.control_ms > 0
        if sys.platform == "linux":
            assert record.peak_mib is not None and record.baseline_mib is not None
            assert record.peak_mib >= record.baseline_mib > 0
            assert len(record.wait_ms) == len(record.latency_ms)
            assert record.steady_mib is not None and record.steady_mib >= 0
            conditions = record.conditions
            assert conditions.running is not None and conditions.running >= 1
            assert conditions.load is not None and conditions.involuntary is not None
            assert conditions.steal_share is not None and conditions.steal_share >= 0
        assert record.drift is not None
        assert (record.shape, record.samples_per_second) == ((), None)
    assert 0 <= made[0].began_s < made[0].seconds <= made[1].began_s


def test_launching_stops_when_all_is_decided_and_tells_how_it_goes(setup: LaunchSetup) -> None:
    told: list[tuple[int, int, str]] = []
    made = measure_launches(
        setup, QUICK, done_after(2), lambda *progress: told.append(progress), wait_for_quiet=False
    )
    assert len(made) == 2
    assert [what for _, _, what in told] == [
        "launch 1: p50 9..11 against 12 ms",
        "launch 2: p50 9..11 against 12 ms",
    ]
    assert all(done <= total for done, total, _ in told)


def test_each_launch_gets_inputs_of_its_own(setup: LaunchSetup) -> None:
    asked: list[int] = []

    def inputs(number: int) -> Sequence[Feeds]:
        asked.append(number)
        return setup.inputs(number)

    measure_launches(dataclasses.replace(setup, inputs=inputs), QUICK, done_after(2))
    assert asked == [0, 1]


def test_undecided_launching_stops_at_the_plan_and_always_makes_one(setup: LaunchSetup) -> None:
    never = done_after(10**6)
    few = dataclasses.replace(QUICK, max_launches=2)
    assert len(measure_launches(setup, few, never)) == 2
    short = dataclasses.replace(QUICK, max_seconds=0.01)
    assert len(measure_launches(setup, short, never)) == 1


def test_the_least_launches_are_made_however_clear_the_first_is(setup: LaunchSetup) -> None:
    plan = dataclasses.replace(QUICK, min_launches=2)
    assert len(measure_launches(setup, plan, done_after(1))) == 2


def test_a_worker_that_dies_ends_the_measurement(
    setup: LaunchSetup, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "\ndef open(request):\n    import os\n    os.abort()\n"
    install_plugin(monkeypatch, tmp_path, "two", code)
    with pytest.raises(WorkerCrashed):
        measure_launches(dataclasses.replace(setup, backend="two"), QUICK, done_after(1))


@pytest.mark.parametrize("changes", [{"max_seconds": 0}, {"min_launches": 0}, {"max_launches": 2}])
def test_a_plan_that_measures_nothing_is_refused(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="measures nothing"):
        MeasurementPlan(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("confidence", [0.4, 1.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence: float) -> None:
    assert check_confidence(0.99) == 0.99
    with pytest.raises(UsageError, match="confidence"):
        check_confidence(confidence)


def test_of_a_mix_every_shape_gets_the_same_share_of_the_runs(setup: LaunchSetup) -> None:
    def inputs(number: int) -> list[Feeds]:
        return [{"x": np.zeros((1, 4 if index % 2 else 400), np.float32)} for index in range(8)]

    (record,) = measure_launches(dataclasses.replace(setup, inputs=inputs, mix=2), QUICK, done_after(1))
    assert len(record.shape) == len(record.latency_ms) >= 2
    assert record.shape.count(0) == record.shape.count(1) == len(record.shape) / 2
    assert record.shape[:3] == (0, 1, 0)[: len(record.shape)]


def test_a_mix_is_planned_in_whole_rounds_however_slow_the_model() -> None:
    feeds = [{"x": np.zeros((1, size))} for _ in range(5) for size in (1, 2, 3)]
    plan = MeasurementPlan()
    for first_run in (0.0001, 0.05, 1.0, 30.0, 1000.0):
        block, timing = plan_block(feeds, plan, first_run, 3)
        assert timing.max_runs % 3 == 0 and 3 <= timing.max_runs <= plan.max_runs
        assert len(block) % 3 == 0 and len(block) >= 3
    assert plan_block(feeds, plan, 0.0001, 3)[0] == feeds
    assert plan_block(feeds, plan, 1000.0, 3)[0] == feeds[:3]


def test_a_slow_model_is_timed_on_fewer_rows_of_different_lengths() -> None:
    rows = [{"x": np.zeros((1, size))} for size in range(1, 21)]
    assert plan_block(rows, MeasurementPlan(), 0.001, 1)[0] == rows
    assert plan_block(rows, MeasurementPlan(), 60.0, 1)[0] == rows[:5]
    alike = rows[:1] * 16
    assert plan_block(alike, MeasurementPlan(), 60.0, 1)[0] == alike


def test_a_launch_runs_its_streams_at_once_and_counts_their_samples(setup: LaunchSetup) -> None:
    two = dataclasses.replace(setup, streams=2, batch=3, cores=64)
    (record,) = measure_launches(two, QUICK, done_after(1))
    assert record.samples_per_second is not None
    assert record.samples_per_second > 3 * 2 / record.seconds, "each stream runs more than once"
    assert record.latency_ms and record.control_ms > 0


def test_streams_take_every_shape_in_turn() -> None:
    feeds = [{"x": np.full((1, size), index)} for index, size in enumerate((1, 2) * 4)]
    for streams in (1, 2, 3, 8):
        inputs = stream_inputs(feeds, streams, 2)
        for stream in range(streams):
            sizes = [one["x"].shape[1] for one in inputs[stream::streams]]
            assert sizes == [1 + (stream + turn) % 2 for turn in range(len(sizes))]
            assert len(sizes) >= 4 and len(sizes) % 2 == 0
    alike = [{"x": np.full((1, 1), index)} for index in range(16)]
    values = [int(one["x"][0, 0]) for one in stream_inputs(alike, 4, 1)]
    assert values == list(range(16))


def test_heating_up_runs_for_so_long_and_tells_successive_windows(setup: LaunchSetup) -> None:
    begin = time.monotonic()
    heat = heat_up(setup, 1.0, QUICK)
    assert time.monotonic() - begin >= 1.0
    assert (heat.seconds, len(heat.windows_ms)) == (1.0, 20)
    assert all(window > 0 for window in heat.windows_ms)


def test_after_a_disturbed_launch_the_machine_is_waited_for_and_the_launch_is_kept(
    setup: LaunchSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, seconds = launches.make_launch, iter(range(100))

    def disturbed(setup: LaunchSetup, plan: MeasurementPlan, number: int) -> LaunchRecord:
        record = make(setup, plan, number)
        return dataclasses.replace(record, disturbed=(True,) * len(record.disturbed))

    def loaded(worker: WorkerClient) -> Conditions:
        return Conditions(at_s=next(seconds), load=9.0, running=10)

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(launches, "make_launch", disturbed)
        patch.setattr(launches, "remote_conditions", loaded)
        few = dataclasses.replace(QUICK, max_seconds=6, max_launches=2)
        crowded = dataclasses.replace(setup, cores=2)
        measured = measure_launches(
            crowded, few, done_after(10**6), lambda *progress: told.append(progress[2])
        )
        assert len(measured) == 2
        assert "waiting for a quiet machine: load 9 on 2 cores" in told
        told.clear()
        measure_launches(
            crowded, few, done_after(1), lambda *progress: told.append(progress[2]), wait_for_quiet=False
        )
    assert told == ["launch 1: p50 9..11 against 12 ms"]


def test_conditions_of_a_launch_are_differences_of_readings() -> None:
    first = Conditions(
        at_s=10.0, load=1.5, running=3, steal_s=5.0, pressure_s=2.0, involuntary=10, throttled=1
    )
    before = dataclasses.replace(first, at_s=11.0, involuntary=14)
    after = dataclasses.replace(first, at_s=12.0, involuntary=19, mhz=2400.0, celsius=61.5)
    last = dataclasses.replace(first, at_s=14.0, steal_s=5.2, pressure_s=3.0, throttled=3)
    assert launch_conditions(first, before, after, last) == LaunchConditions(
        load=1.5,
        running=3,
        steal_share=pytest.approx(0.05),
        pressure_share=pytest.approx(0.25),
        involuntary=5,
        mhz=2400.0,
        celsius=61.5,
        throttled=2,
    )


def test_a_system_that_tells_nothing_is_measured_all_the_same(
    setup: LaunchSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "remote_conditions", lambda worker: Conditions(at_s=time.monotonic()))
    (record,) = measure_launches(dataclasses.replace(setup, streams=2), QUICK, done_after(1))
    assert record.conditions == LaunchConditions()
    assert record.latency_ms and not record.cold_disturbed and not record.streams_disturbed


def test_what_a_launch_will_take_grows_with_the_model_and_its_streams() -> None:
    plan = MeasurementPlan()
    assert expected_seconds(1.0, 0.01, plan) == pytest.approx(1.0 + 0.1 + 0.2)
    assert expected_seconds(1.0, 1.0, plan) == pytest.approx(1.0 + 10 + 12)
    assert expected_seconds(1.0, 0.01, plan, streams=2) == pytest.approx(1.3 + 0.5)


def test_feeds_have_the_workloads_shape_and_the_examples_values() -> None:
    def spec(name: str, dtype: str = "int64") -> TensorSpec:
        return TensorSpec(name=name, dtype=dtype, shape=("batch", "sequence"))

    signature = Signature(
        inputs=(spec("input_ids"), spec("attention_mask"), spec("pixels", "float32"), spec("kinds")),
        outputs=(),
    )
    example = {
        "input_ids": np.array([[101, 7, 102, 0]]),
        "attention_mask": np.array([[1, 1, 1, 0]]),
        "pixels": np.array([[0.5, 0.6, 0.4, 0.5]], dtype=np.float32),
        "kinds": np.zeros((1, 4), dtype=np.int64),
    }
    rows = mixed_feeds(signature, ({"batch": 2, "sequence": 50},), [example], count=3, seed=1)
    for row in rows:
        assert {name: value.shape for name, value in row.items()} == dict.fromkeys(example, (2, 50))
        assert set(np.unique(row["input_ids"])) <= {0, 7, 101, 102}
        assert row["attention_mask"].all(), "the workload's shape is not padded"
        assert not row["kinds"].any()
        assert row["pixels"].dtype == np.float32 and abs(row["pixels"].mean() - 0.5) < 0.1
    assert not np.array_equal(rows[0]["input_ids"], rows[1]["input_ids"])
    again = mixed_feeds(signature, ({"batch": 2, "sequence": 50},), [example], count=1, seed=1)
    assert np.array_equal(again[0]["input_ids"], rows[0]["input_ids"])


def test_feeds_without_examples_still_fit_the_signature() -> None:
    signature = Signature(
        inputs=(
            TensorSpec(name="mask", dtype="bool", shape=(1, "n")),
            TensorSpec(name="x", dtype="float16", shape=("n",)),
            TensorSpec(name="k", dtype="int32", shape=()),
        ),
        outputs=(),
    )
    (row,) = mixed_feeds(signature, ({"n": 5},), [], count=1, seed=0)
    assert row["mask"].all() and row["mask"].dtype == np.bool_
    assert row["x"].shape == (5,) and row["x"].dtype == np.float16
    assert row["k"].shape == () and row["k"].dtype == np.int32
