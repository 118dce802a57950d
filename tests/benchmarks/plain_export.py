"""One export of a transformers classifier: by torch.onnx.export alone, or by edgekit's without its checks."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"


def plain(source: Path, output: Path) -> None:
    """What a user would write: load, trace with dynamic axes, save."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(source).eval()
    feeds = dict(
        AutoTokenizer.from_pretrained(source)(
            ["a short text", "and another"], padding=True, return_tensors="pt"
        )
    )
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with torch.no_grad():
        torch.onnx.export(
            model,
            (),
            str(output),
            kwargs=feeds,
            dynamo=True,
            dynamic_shapes=dict.fromkeys(feeds, axes),
            external_data=False,
            verbose=False,
        )


def ours(source: Path, output: Path) -> None:
    """The same steps of edgekit, up to the saved graph."""
    from edgekit.exporting import onnx
    from edgekit.exporting.folder import load_folder
    from edgekit.exporting.options import ExportOptions
    from edgekit.exporting.source import inspect_folder

    options = ExportOptions()
    with tempfile.TemporaryDirectory() as scratch:
        subject = load_folder(inspect_folder(source, options), options, Path(scratch))
        output.mkdir(parents=True, exist_ok=True)
        onnx.save(onnx.trace(subject, options.opset), output, onnx.model_notes(subject.facts))


if __name__ == "__main__":
    (ours if "--edgekit" in sys.argv else plain)(Path(sys.argv[1]), Path(sys.argv[2]))
