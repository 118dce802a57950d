"""Promises about numbers: the right ones, at every size, in the precision that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from edgekit.testing.base import Contract, broken, needs_capability, needs_precision, promise
from edgekit.testing.bench import Bench
from edgekit.testing.closeness import REFERENCE, difference, relative_error
from edgekit.testing.families import ALL, case
from edgekit.testing.models import ModelCase
from edgekit_runtime.errors import InputError
from edgekit_runtime.session import Array

NAMES = tuple(found.name for found in ALL)
QUANTIZABLE = tuple(found.name for found in ALL if found.quantizable)
LOWER = ("fp16", "bf16", "fp8", "int8", "int8-weights", "int4-weights")


class GivesRightAnswers(Contract):
    """Answers are compared with `onnx.reference`, never with another backend."""

    @pytest.mark.parametrize("name", NAMES)
    def test_right_numbers(self, bench: Bench, name: str) -> None:
        """Each model of the kit that `check` takes gives the reference's answers."""
        model = case(name)
        bench.must_take(model)
        self._answers_well(bench, model, bench.plain, (1, 2, 3))

    @pytest.mark.parametrize("name", QUANTIZABLE)
    @pytest.mark.parametrize("precision", LOWER)
    def test_lower_precision_stays_near(self, bench: Bench, precision: str, name: str) -> None:
        """Each lower precision stays within its tolerance on models with weights like trained ones.

        A model that is no gain in a precision may be declined with PrecisionNotGiven; the plain
        perceptron of `test_lower_precision_is_executed` may not.
        """
        needs_precision(bench, precision)
        model = case(name)
        bench.must_take(model)
        bench.artifact_if_given(model, precision)
        self._answers_well(bench, model, precision, tuple(range(1, 9)))

    @pytest.mark.parametrize("precision", LOWER)
    def test_lower_precision_is_executed(self, bench: Bench, precision: str) -> None:
        """An artifact of a lower precision computes in it: placement shows nodes, answers show rounding."""
        needs_precision(bench, precision)
        model = case("mlp")
        feeds = [model.feeds(seed) for seed in range(1, 5)]
        built = bench.artifact(model, precision)
        with bench.session(built) as session:
            got = bench.outputs(session, feeds)
            placement = session.placement() if "placement" in bench.spec.capabilities else None
        if placement is not None:
            nodes = {row.precision: row.nodes for row in placement.rows}
            promise(
                nodes.get(precision, 0) > 0,
                f"an {precision} artifact executed no {precision} node, but {nodes}",
            )
        error = max(relative_error(model.answers(row), out) for row, out in zip(feeds, got, strict=True))
        promise(
            error > 1e-6,
            f"an {precision} artifact is as exact as fp32 (error {error:.1g}): it does not run so",
        )

    @pytest.mark.parametrize("batch", [1, 3, 5])
    def test_dynamic_batch(self, bench: Bench, batch: int) -> None:
        """One artifact serves every batch size."""
        needs_capability(bench, "dynamic-shapes")
        for name in ("matmul", "conv"):
            self._answers_well(bench, case(name), bench.plain, (4,), {"batch": batch})

    @pytest.mark.parametrize("sequence", [1, 3, 17])
    def test_dynamic_sequence(self, bench: Bench, sequence: int) -> None:
        """One artifact serves every sequence length, padded and not."""
        needs_capability(bench, "dynamic-shapes")
        model = case("attention")
        bench.must_take(model)
        self._answers_well(bench, model, bench.plain, (5,), {"sequence": sequence})
        self._answers_well(bench, model, bench.plain, (6,), {"sequence": sequence, "batch": 3})

    def test_other_sizes_are_right_or_refused(self, bench: Bench) -> None:
        """Without dynamic shapes another batch size raises InputError; it is never answered wrongly."""
        if "dynamic-shapes" in bench.spec.capabilities:
            pytest.skip("covered by test_dynamic_batch: dynamic-shapes is claimed")
        model = case("matmul")
        feeds = model.feeds(7, {"batch": 3})
        with bench.session(bench.artifact(model)) as session:
            try:
                got = session.run(feeds)
            except InputError:
                return
            self._compare(model, feeds, got, bench.plain)

    def test_reference_is_exact(self, bench: Bench) -> None:
        """A backend that may judge exports has no fast-math and no lower precision inside."""
        needs_capability(bench, "reference")
        needs_precision(bench, "fp32")
        for name in ("mlp", "conv", "norm-gelu", "attention", "large-constant"):
            model = case(name)
            feeds = [model.feeds(seed) for seed in (1, 2)]
            with bench.session(bench.artifact(model, "fp32")) as session:
                for row, got in zip(feeds, bench.outputs(session, feeds), strict=True):
                    problem = difference(model.answers(row), got, REFERENCE)
                    promise(
                        not problem, f"{name} at fp32, claimed exact enough to judge an export: {problem}"
                    )

    def _answers_well(
        self,
        bench: Bench,
        model: ModelCase,
        precision: str,
        seeds: Sequence[int],
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        rows = [model.feeds(seed, sizes) for seed in seeds]
        with bench.session(bench.artifact(model, precision)) as session:
            answers = bench.outputs(session, rows)
        for row, got in zip(rows, answers, strict=True):
            self._compare(model, row, got, precision)

    def _compare(
        self, model: ModelCase, row: dict[str, Array], got: dict[str, Array], precision: str
    ) -> None:
        problem = difference(model.answers(row), got, self.allowed(precision))
        if problem:
            shapes = {name: list(np.shape(value)) for name, value in row.items()}
            broken(f"{model.name} at {precision}, inputs {shapes}: {problem}")
