"""What torch cannot export: the error names operator and module, the line, or the axis, and a way out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgekit.errors import ExportFailed
from edgekit.exporting import onnx as writing
from edgekit.exporting.module import load_module
from edgekit.exporting.options import ExportOptions


class Whitening(nn.Module):
    """ONNX has no Cholesky factor."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.cholesky(x.T @ x + torch.eye(4)) @ x.T


class NetForTokenClassification(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.whiten = Whitening()

    def forward(self, x: Tensor) -> Tensor:
        return self.whiten(self.first(x))  # type: ignore[no-any-return]


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = nn.Linear(4, 4), Gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.first(x))  # type: ignore[no-any-return]


class ForFourRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(4, 4)


def failure(module: nn.Module, rows: int = 4) -> ExportFailed:
    options = ExportOptions(example_inputs={"x": torch.randn(rows, 4)}, dynamic_axes={"x": {0: "batch"}})
    with pytest.raises(ExportFailed) as caught:
        writing.trace(load_module(module.eval(), options), 20)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return caught.value


def test_an_operator_without_an_onnx_form_is_named_with_its_module_and_the_nearest_task() -> None:
    found = failure(NetForTokenClassification())
    assert re.search(r"aten\.linalg_cholesky_ex\.default in whiten \(Whitening\)", found.message)
    assert "no ONNX form" in found.message
    assert "token-classification" in found.hint


def test_a_branch_on_values_is_named_by_module_file_and_line() -> None:
    found = failure(Gated())
    assert "decides by the values of a tensor" in found.message
    assert re.search(rf"in gate \({re.escape(Path(__file__).name)}:\d+\)", found.message)
    assert "torch.where" in found.hint


def test_an_axis_that_cannot_vary_comes_with_torchs_constraint_and_the_way_out() -> None:
    found = failure(ForFourRows())
    assert "'batch' of 'x' was fixed at 4" in found.message
    assert "specialized it to be a constant (4)" in found.message
    assert "L['" not in found.message
    assert "--static" in found.hint
    assert "static=True" in found.hint


def test_a_mistake_in_the_code_is_named_by_its_place() -> None:
    class Mistaken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if torch.compiler.is_exporting():
                raise RuntimeError("not while exporting")
            return x

    found = failure(Mistaken())
    assert "not while exporting" in found.message
    assert Path(__file__).name in found.message
