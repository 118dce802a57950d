"""A convolutional network of the real world, exported as a torch module, sees what it was trained to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgekit
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.quiet import kept_environment
from edgekit.exporting.reference import reference_outputs
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.image_settings import ImageSettings, Normalize, Resize
from tests.conftest import CACHE
from tests.lite0 import DAISY, PALACE, lite0

SETTINGS = ImageSettings(
    resize=Resize(rule="shortest", size=(256,), filter="bicubic"),
    crop=(224, 224),
    normalize=(Normalize(mean=(127.0,) * 3, std=(128.0,) * 3),),  # type: ignore[arg-type]
)


@pytest.mark.slow
def test_efficientnet_lite0_sees_a_daisy_and_a_palace_after_export(tmp_path: Path) -> None:
    with kept_environment():
        import sklearn.datasets

    network = lite0(CACHE / "downloads")
    options = ExportOptions(task="image-classification", processor=SETTINGS)
    made = edgekit.export(network, tmp_path / "model", options=options)
    table = made.manifest.model
    assert table is not None
    assert len(table.labels) == 1000
    assert all(check.passed and check.agreement == 1.0 for check in table.checks)

    images = Path(sklearn.datasets.__file__).parent / "images"
    processor = load_processor(made.path / "processor")
    feeds = [processor.feeds([images / name]) for name in ("flower.jpg", "china.jpg")]
    found = reference_outputs(made.path / "model.onnx", table.signature, feeds)
    assert [int(np.argmax(outputs["logits"])) for outputs in found] == [DAISY, PALACE]
