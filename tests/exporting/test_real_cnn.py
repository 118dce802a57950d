"""A convolutional network trained on handwritten digits keeps reading them after static quantization."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import edgekit
from edgekit.exporting.options import ExportOptions
from edgekit_runtime.processors.image_settings import ImageSettings, Resize
from tests.conftest import Edgekit
from tests.digits import LABELS, TEST_ROWS, digits, trained, write_test_rows

pytestmark = pytest.mark.slow

SETTINGS = ImageSettings(resize=Resize(rule="exact", size=(8, 8)), rescale=1 / 255)
CALIBRATION_ROWS = 200
#: Convolutions and multiplications of the network.
WEIGHTED = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network as a model directory."""
    options = ExportOptions(task="image-classification", processor=SETTINGS, labels=LABELS)
    return edgekit.export(trained(), tmp_path_factory.mktemp("digits") / "model", options=options).path


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images that judge, in a folder for each class."""
    return write_test_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of some of the images that the network was trained on."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("calibration")
    for number, pixels in enumerate(digits()[0][TEST_ROWS : TEST_ROWS + CALIBRATION_ROWS]):
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return folder


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_its_int8_artifact_reads_held_out_digits_as_the_model_does(
    backend: str,
    model: Path,
    rows: Path,
    calibration: Path,
    edgekit: Edgekit,
    tmp_path: Path,
) -> None:
    artifact = tmp_path / "artifact"
    given = ("--precision", "int8", "--calibration", calibration, "--max-seconds", 0)
    done = edgekit("compile", model, "--backend", backend, *given, "-o", artifact)
    assert done.returncode == 0, done.stderr
    limits = ("--no-budget", "--max-seconds", 3)
    done = edgekit("validate", artifact, "--data", rows, *limits, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)["report"]
    assert report["golden"]["outcome"] == "PASS", report["golden"]
    nodes = {row["precision"]: row["nodes"] for row in report["placement"]["rows"]}
    assert nodes["int8"] >= WEIGHTED, nodes
    accuracy = report["accuracy"]
    assert accuracy["rows"] == TEST_ROWS
    assert accuracy["model"] > 0.9
    assert accuracy["flips"] <= 0.02 * TEST_ROWS, accuracy
