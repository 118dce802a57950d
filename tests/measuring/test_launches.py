"""Launches: each a fresh worker, until all is decided or the plan is spent."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.devices import open_device
from edgekit.discovery import reference_backend
from edgekit.errors import UsageError, WorkerCrashed
from edgekit.host.client import WorkerClient
from edgekit.host.compiling import compile_model
from edgekit.measuring.inputs import fresh_feeds
from edgekit.measuring.launches import LaunchSetup, measure_launches
from edgekit.measuring.plan import Decision, MeasurementPlan, check_confidence
from edgekit.testing.families import case
from edgekit.values import CompileRequest, LaunchRecord, RunSettings, Target
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
        inputs=lambda number: fresh_feeds(mlp.signature, shape, [mlp.feeds()], count=4, seed=number),
    )
    launches = measure_launches(setup, QUICK, done_after(2))
    assert len(launches) == 2
    for record in launches:
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


def test_launching_stops_when_all_is_decided_and_tells_how_it_goes(setup: LaunchSetup) -> None:
    told: list[tuple[int, int, str]] = []
    launches = measure_launches(setup, QUICK, done_after(2), lambda *progress: told.append(progress))
    assert len(launches) == 2
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


def test_fresh_feeds_have_the_workloads_shape_and_the_examples_values() -> None:
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
    rows = fresh_feeds(signature, {"batch": 2, "sequence": 50}, [example], count=3, seed=1)
    for row in rows:
        assert {name: value.shape for name, value in row.items()} == dict.fromkeys(example, (2, 50))
        assert set(np.unique(row["input_ids"])) <= {0, 7, 101, 102}
        assert row["attention_mask"].all(), "the workload's shape is not padded"
        assert not row["kinds"].any()
        assert row["pixels"].dtype == np.float32 and abs(row["pixels"].mean() - 0.5) < 0.1
    assert not np.array_equal(rows[0]["input_ids"], rows[1]["input_ids"])
    again = fresh_feeds(signature, {"batch": 2, "sequence": 50}, [example], count=1, seed=1)
    assert np.array_equal(again[0]["input_ids"], rows[0]["input_ids"])


def test_fresh_feeds_without_examples_still_fit_the_signature() -> None:
    signature = Signature(
        inputs=(
            TensorSpec(name="mask", dtype="bool", shape=(1, "n")),
            TensorSpec(name="x", dtype="float16", shape=("n",)),
            TensorSpec(name="k", dtype="int32", shape=()),
        ),
        outputs=(),
    )
    (row,) = fresh_feeds(signature, {"n": 5}, [], count=1, seed=0)
    assert row["mask"].all() and row["mask"].dtype == np.bool_
    assert row["x"].shape == (5,) and row["x"].dtype == np.float16
    assert row["k"].shape == () and row["k"].dtype == np.int32
