"""The paired bootstrap: reproducible, wide enough, and silent about what it cannot know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.measuring import bootstrap
from edgekit.measuring.bootstrap import bootstrap_drop
from edgekit.measuring.metrics import Metric, load_metric
from edgekit.measuring.metrics.users import UsersMetric

LABELS = np.array(["a", "b", "c", "d"])
SHARES = np.array([0.7, 0.2, 0.07, 0.03])
CORRECT, FLIPPED = 0.86, 0.03


def drawn(rows: int, generator: np.random.Generator) -> tuple[list[str], list[str], list[str]]:
    """Truths, answers of a model, and answers of an artifact that changes some of them."""
    truth = generator.choice(4, rows, p=SHARES)
    away = generator.integers(1, 4, (2, rows))
    model = np.where(generator.random(rows) < CORRECT, truth, (truth + away[0]) % 4)
    artifact = np.where(generator.random(rows) < FLIPPED, (model + away[1]) % 4, model)
    return LABELS[truth].tolist(), LABELS[model].tolist(), LABELS[artifact].tolist()


def true_drop() -> float:
    """The drop of macro-f1 over the whole population, in points."""
    answers = np.full((4, 4), (1 - CORRECT) / 3) + np.eye(4) * (CORRECT - (1 - CORRECT) / 3)
    flips = np.full((4, 4), FLIPPED / 3) + np.eye(4) * (1 - FLIPPED - FLIPPED / 3)
    model = SHARES[:, None] * answers
    figures = [np.mean(2 * np.diag(c) / (c.sum(0) + c.sum(1))) for c in (model, model @ flips)]
    return float(100 * (figures[0] - figures[1]))


def drop_of(metric: Metric, sides: tuple[Any, Any], truths: Any, seed: int = 0) -> Any:
    changed = sum(one != other for one, other in zip(*sides, strict=True))
    return bootstrap_drop(sides, truths, metric, changed, 0.01, seed)


def test_bounds_miss_the_true_drop_no_more_often_than_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four misses of 120 have a chance of 3 % when 1 % is true; the benchmark counts thousands."""
    monkeypatch.setattr(bootstrap, "RESAMPLES_OF_SUMS", 1_000)
    generator = np.random.default_rng(3)
    truth, missed = true_drop(), np.zeros(2)
    for seed in range(120):
        truths, model, artifact = drawn(300, generator)
        found = drop_of(load_metric("macro-f1"), (model, artifact), truths, seed)
        missed += found.high < truth, found.low > truth
    assert np.all(missed <= 4)


def test_the_same_seed_gives_the_same_bounds_and_another_nearly_the_same() -> None:
    truths, model, artifact = drawn(400, np.random.default_rng(0))
    one, again, other = (
        drop_of(load_metric("macro-f1"), (model, artifact), truths, seed) for seed in (1, 1, 2)
    )
    assert one == again
    assert one.high != other.high
    assert abs(one.high - other.high) < 0.1 * (one.high - one.estimate)


def test_a_function_and_a_sum_of_the_same_metric_agree() -> None:
    truths, model, artifact = drawn(300, np.random.default_rng(0))
    macro = load_metric("macro-f1")
    slow = UsersMetric("mine:macro", lambda answers, truths: macro.score(answers, truths))
    one, other = (drop_of(metric, (model, artifact), truths) for metric in (macro, slow))
    assert one.estimate == other.estimate
    assert abs(one.high - other.high) < 0.15 * (one.high - one.estimate)


def test_answers_that_never_changed_are_no_proof_of_a_drop_of_zero() -> None:
    truths, model, _ = drawn(1000, np.random.default_rng(0))
    found = drop_of(load_metric("macro-f1"), (model, model), truths)
    assert found.estimate == 0.0
    assert found.high > 100 * (1 - 0.01 ** (1 / 1000))  # what a share of changed rows could be, unseen
    assert found.low == -found.high


def test_exchanging_the_sides_mirrors_the_bounds() -> None:
    truths, model, artifact = drawn(300, np.random.default_rng(0))
    one = drop_of(load_metric("macro-f1"), (model, artifact), truths)
    other = drop_of(load_metric("macro-f1"), (artifact, model), truths)
    assert other.estimate == -one.estimate
    assert abs(other.low + one.high) < 0.3 and abs(other.high + one.low) < 0.3


def test_numbers_that_all_change_need_no_widening() -> None:
    generator = np.random.default_rng(0)
    truths = generator.normal(size=500)
    model, artifact = (truths + generator.normal(0, scale, 500) for scale in (1e-3, 2e-3))
    found = drop_of(load_metric("rmse"), (model.tolist(), artifact.tolist()), truths.tolist())
    assert 0.05 < found.low < found.estimate < found.high < 0.15  # in hundredths of 1


def test_a_metric_that_many_resamples_cannot_have_gets_no_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of 300 differs: a third of the resamples miss it, and ranks of equal numbers do not exist."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 200)
    truths = [0.0] * 299 + [1.0]
    found = drop_of(load_metric("spearman"), (truths, truths), truths)
    assert (found.estimate, found.low, found.high) == (0.0, None, None)
