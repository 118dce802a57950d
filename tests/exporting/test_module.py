"""A torch module with example inputs: checked before it is traced, compared at sizes it was not traced at."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import ExportFailed, SourceError, UsageError
from edgekit.exporting import onnx as writing
from edgekit.exporting.module import load_module, weights_digest
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.subject import Subject, shape_of


class TwoOutputs(nn.Module):
    """Its second output has the name that torch gives to the operator behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, keep: Tensor) -> dict[str, Tensor]:
        y = self.linear(x) * keep
        return {"linear": y, "mean": y.mean(1) + 1}


class FixedSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.ones(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset


class EvenOnly(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(-1, 2, 4).sum(1)


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 7)

    def forward(self, image: Tensor) -> Tensor:
        return self.convolution(image).mean((2, 3))


def linear() -> nn.Module:
    return nn.Linear(4, 3).eval()


def options(examples: Mapping[str, Tensor], **axes: dict[int, str]) -> ExportOptions:
    return ExportOptions(example_inputs=examples, dynamic_axes=axes)


def load(module: nn.Module | None = None, **changes: object) -> Subject:
    given: dict[str, object] = {
        "example_inputs": {"input": torch.randn(2, 4)},
        "dynamic_axes": {"input": {0: "batch"}},
    }
    return load_module(module or linear(), ExportOptions(**{**given, **changes}))  # type: ignore[arg-type]


def sizes(subject: Subject) -> list[dict[str, int]]:
    return [shape_of(case.feeds, subject.facts.axes) for case in subject.cases]


def test_the_example_and_other_sizes_are_checked() -> None:
    subject = load()
    assert sizes(subject) == [{"batch": size} for size in (2, 1, 7, 13)]
    assert shape_of(subject.trace, subject.facts.axes) not in sizes(subject)


def test_an_example_of_one_row_is_not_traced_as_one() -> None:
    subject = load(example_inputs={"input": torch.randn(1, 4)})
    assert shape_of(subject.trace, subject.facts.axes)["batch"] > 1
    assert {"batch": 1} in sizes(subject)


def test_axes_stay_in_their_ranges() -> None:
    subject = load(axis_ranges={"batch": (2, 5)})
    assert {size["batch"] for size in sizes(subject)} == {2, 5}


def test_two_axes_vary_together_and_apart() -> None:
    examples = {"input": torch.randn(2, 5, 4)}
    found = sizes(load(example_inputs=examples, dynamic_axes={"input": {0: "batch", 1: "sequence"}}))
    assert {"batch": 7, "sequence": 7} in found
    assert any(size["batch"] != size["sequence"] for size in found)


def test_variations_keep_to_values_the_example_has() -> None:
    ids = torch.tensor([[5, 9, 9], [5, 5, 9]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    subject = load(
        nn.Embedding(10, 2).eval(),
        example_inputs={"input": ids},
        dynamic_axes={"input": {0: "batch", 1: "sequence"}},
    )
    assert all(set(np.unique(case.feeds["input"])) <= {5, 9} for case in subject.cases)
    varied = options({"input": torch.randn(2, 3), "mask": mask}, mask={0: "batch"})
    assert varied.example_inputs is not None


def test_a_seed_gives_the_same_inputs_again() -> None:
    example = {"input": torch.randn(2, 4)}
    first, again, other = (load(example_inputs=example, seed=seed).trace["input"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_outputs_keep_the_modules_names_though_torch_uses_them_inside() -> None:
    examples = {"x": torch.randn(2, 4), "keep": torch.ones(2, 1)}
    axes = {"x": {0: "rows"}, "keep": {0: "rows"}}
    model = writing.trace(load(TwoOutputs().eval(), example_inputs=examples, dynamic_axes=axes), 20)
    names = [value.name for node in model.graph for value in node.outputs]
    assert [spec.name for spec in writing.signature(model).outputs] == ["linear", "mean"]
    assert len(set(names)) == len(names)


def test_outputs_can_be_named() -> None:
    assert load(output_names=("score",)).outputs == ("score",)
    with pytest.raises(SourceError, match="example inputs"):
        load(output_names=("one", "two"))


@pytest.mark.parametrize(
    ("module", "rows", "reason"),
    [(FixedSize(), 3, "'batch'"), (EvenOnly(), 2, "inconsisten"), (DataDependent(), 4, "data-dependent")],
)
def test_an_axis_that_cannot_vary_is_an_error_and_not_a_fixed_graph(
    module: nn.Module, rows: int, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    examples = {"x": torch.randn(rows, 4)}
    subject = load(module.eval(), example_inputs=examples, dynamic_axes={"x": {0: "batch"}})
    with pytest.raises(ExportFailed, match=reason) as caught:
        writing.trace(subject, 20)
    assert caught.value.exit_code == 3
    assert capfd.readouterr().err == ""


def test_a_size_the_module_cannot_take_is_named_with_the_way_out() -> None:
    from edgekit.exporting.checks import original_outputs

    examples = {"image": torch.randn(1, 3, 16, 16)}
    axes = {"image": {2: "height", 3: "width"}}
    with pytest.raises(SourceError, match="height 1, width 1") as caught:
        original_outputs(load(Convolution().eval(), example_inputs=examples, dynamic_axes=axes), ["output"])
    assert "axis_ranges" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"example_inputs": None}, UsageError, "example_inputs"),
        ({"example_inputs": {"input": [1.0]}}, UsageError, "list"),
        ({"example_inputs": {"input": torch.zeros(2, 4, dtype=torch.complex64)}}, UsageError, "complex64"),
        (
            {"example_inputs": {"input": torch.zeros(2, 4), "x": torch.zeros(2)}},
            SourceError,
            "unexpected keyword",
        ),
        ({"example_inputs": {"input": torch.zeros(2, 5)}}, SourceError, "does not run"),
        ({"dynamic_axes": {"other": {0: "batch"}}}, UsageError, "'other'"),
        ({"dynamic_axes": {"input": {2: "batch"}}}, UsageError, "no axis 2"),
        ({"axis_ranges": {"height": (1, 9)}}, UsageError, "'height'"),
        ({"axis_ranges": {"batch": (9, 1)}}, UsageError, "'batch'"),
        ({"dynamic_axes": {"input": {0: "n", 1: "n"}}}, UsageError, "'n' is 2"),
        ({"task": "text-classification"}, UsageError, "custom"),
        ({"output_names": ("input",)}, UsageError, "differ"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, object], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason) as caught:
        load(**changes)
    assert caught.value.hint  # type: ignore[attr-defined]


def with_nan() -> nn.Module:
    module = linear()
    with torch.no_grad():
        module.get_parameter("weight")[0, 0] = float("nan")
    return module


@pytest.mark.parametrize(
    ("module", "reason"),
    [(linear().train(), "training"), (linear().half(), "float16"), (with_nan(), "'weight' holds 1 values")],
)
def test_a_module_that_is_not_ready_is_refused(module: nn.Module, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        load(module)


def test_the_digest_of_a_module_follows_its_weights() -> None:
    module = linear()
    before = weights_digest(module)
    assert weights_digest(module) == before
    with torch.no_grad():
        module.get_parameter("bias").add_(1)
    assert weights_digest(module) != before
    with pytest.raises(UsageError, match="no model source"):
        weights_digest(3)  # type: ignore[arg-type]


def test_inputs_go_by_position_where_forward_knows_none_of_their_names() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU()).eval()
    options = ExportOptions(
        example_inputs={"features": torch.randn(2, 4)}, dynamic_axes={"features": {0: "batch"}}
    )
    subject = load_module(module, options)
    assert [spec.name for spec in writing.signature(writing.trace(subject, 20)).inputs] == ["features"]
