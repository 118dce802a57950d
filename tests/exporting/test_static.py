"""--static: every axis fixed at a shape that is told, checked there on several inputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import edgekit
from edgekit.errors import ExportFailed, UsageError
from edgekit.exporting.options import ExportOptions, parse_axes
from edgekit_runtime.goldens import read_goldens
from tests.conftest import Edgekit


class FixedRows(nn.Module):
    """Works for three rows only."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.arange(12.0).reshape(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.offset


def test_a_module_for_one_size_is_exported_at_it_after_the_error_said_how(tmp_path: Path) -> None:
    given = {"example_inputs": {"x": torch.randn(3, 4)}, "dynamic_axes": {"x": {0: "batch"}}}
    with pytest.raises(ExportFailed, match="cannot vary") as caught:
        edgekit.export(FixedRows().eval(), tmp_path / "model", options=ExportOptions(**given))  # type: ignore[arg-type]
    assert "static=True" in caught.value.hint
    options = ExportOptions(**given, static=True)  # type: ignore[arg-type]
    made = edgekit.export(FixedRows().eval(), tmp_path / "model", options=options)
    table = made.manifest.model
    assert table is not None
    assert [spec.shape for spec in table.signature.inputs] == [(3, 4)]
    assert len(table.checks) >= 5
    assert "fixed" in table.source["shape"]


@pytest.fixture(scope="module")
def fixed(tiny: Path, edgekit: Edgekit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text model at one row of 24 tokens, by the command line."""
    output = tmp_path_factory.mktemp("static") / "model"
    done = edgekit("export", tiny, "--static", "--max-length", 24, "-o", output)
    assert done.returncode == 0, done.stderr
    assert "one shape only, fixed: batch 1, sequence 24" in done.stderr
    return output


def test_a_folder_is_exported_at_one_row_of_the_most_tokens(fixed: Path) -> None:
    table = json.loads((fixed / "manifest.json").read_text())["model"]
    assert [spec["shape"] for spec in table["signature"]["inputs"]] == [[1, 24]] * 3
    assert table["source"]["shape"] == "fixed: batch 1, sequence 24"
    assert len(table["checks"]) >= 12
    goldens = read_goldens(fixed / "golden")
    assert len(goldens) >= 12
    assert {golden.feeds["input_ids"].shape for golden in goldens} == {(1, 24)}
    lengths = {int(golden.feeds["attention_mask"].sum()) for golden in goldens}
    assert len(lengths) > 2, "short rows are padded, long ones cut"


def test_rows_of_any_length_are_judged_by_it(fixed: Path, edgekit: Edgekit, tmp_path: Path) -> None:
    texts = ["good", "a good train", "the water is not good " * 20, "bad music", "people report"]
    rows = [{"text": text, "label": label} for text in texts for label in ("negative", "positive")]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    artifact = tmp_path / "artifact"
    done = edgekit("compile", fixed, "--backend", "onnxruntime", "--precision", "fp32", "-o", artifact)
    assert done.returncode == 0, done.stderr
    limits = ("--budget", "artifact_mib=50", "--max-seconds", 60, "--json")
    done = edgekit("validate", artifact, "--data", data, *limits)
    report = json.loads(done.stdout)["report"]
    assert done.returncode == 0, done.stderr
    assert (report["accuracy"]["rows"], report["accuracy"]["flips"]) == (len(rows), 0)


def test_reproducing_it_asks_for_one_shape_again(fixed: Path) -> None:
    assert "--static" in (fixed / "reproduce.sh").read_text(encoding="utf-8")


def test_the_axes_of_an_onnx_file_are_what_they_are(fixed: Path, edgekit: Edgekit, tmp_path: Path) -> None:
    done = edgekit("export", fixed / "model.onnx", "--static", "-o", tmp_path / "model")
    assert done.returncode == 2
    assert "--static" in done.stderr


def test_axis_ranges_of_the_command_line_are_read_or_refused() -> None:
    assert parse_axes(["sequence=1:512", "batch=2:4"]) == {"sequence": (1, 512), "batch": (2, 4)}
    for text in ("sequence", "sequence=5", "=1:2", "sequence=9:1", "sequence=a:b", "sequence=0:4"):
        with pytest.raises(UsageError, match="NAME=LOWEST:HIGHEST"):
            parse_axes([text])
