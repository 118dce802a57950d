"""A torch module exported for a built-in task behaves like a folder: processor, labels, judged on data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgekit
from edgekit.errors import SourceError, UsageError
from edgekit.exporting.options import ExportOptions
from edgekit.files.manifests import read_manifest
from edgekit_runtime.processors import load_processor
from edgekit_runtime.processors.audio_settings import AudioSettings
from edgekit_runtime.processors.image_settings import ImageSettings, Normalize, Resize
from tests.conftest import Edgekit
from tests.digits import LABELS, TEST_ROWS, trained, write_test_rows

pytestmark = pytest.mark.slow

IMAGES = "image-classification"
EIGHT = ImageSettings(resize=Resize(rule="exact", size=(8, 8)), rescale=1 / 255)
SOUNDS = AudioSettings(
    inputs=("input_values",), features="waveform", rate=8_000, shortest=400, longest=80_000, normalize=True
)


class Mean(nn.Module):
    """Any image -> two logits; any number of inputs by position."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(pixels.mean((2, 3)))  # type: ignore[no-any-return]


class Masked(Mean):
    def forward(self, pixels: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(pixels * mask)


class Twice(Mean):
    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(pixels), pixels


class Loudness(nn.Module):
    """A waveform [batch, samples] -> two logits."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv1d(1, 4, 9, stride=4), nn.Linear(4, 2)

    def forward(self, input_values: Tensor) -> Tensor:
        return self.head(self.convolution(input_values[:, None]).relu().mean(2))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digit network as a model directory."""
    output = tmp_path_factory.mktemp("digits") / "model"
    options = ExportOptions(task=IMAGES, processor=EIGHT, labels=LABELS)
    return edgekit.export(trained(), output, options=options).path


def test_the_manifest_holds_task_labels_processor_and_checks_like_that_of_a_folder(made: Path) -> None:
    table = read_manifest(made, "model").model
    assert table is not None
    assert (table.task, table.labels) == (IMAGES, LABELS)
    assert [(spec.name, spec.shape) for spec in table.signature.inputs] == [
        ("pixel_values", ("batch", 3, 8, 8))
    ]
    assert [(spec.name, spec.shape) for spec in table.signature.outputs] == [("logits", ("batch", 10))]
    assert {check.shape["batch"] for check in table.checks} >= {1, 2, 7}
    assert any("random" in check.name for check in table.checks)
    assert load_processor(made / "processor").check_parity() > 3


def test_its_rows_are_judged_from_a_folder_of_images_for_each_class(
    made: Path, edgekit: Edgekit, tmp_path: Path
) -> None:
    rows, artifact = write_test_rows(tmp_path / "rows"), tmp_path / "artifact"
    done = edgekit("compile", made, "--backend", "onnxruntime", "--precision", "fp32", "-o", artifact)
    assert done.returncode == 0, done.stderr
    limits = ("--budget", "accuracy_drop=2", "--budget", "artifact_mib=50")
    done = edgekit("validate", artifact, "--data", rows, *limits, "--max-seconds", 60, "--json")
    report = json.loads(done.stdout)["report"]
    assert done.returncode == 0, (report["checks"], done.stderr)
    assert report["accuracy"]["rows"] == TEST_ROWS
    assert report["accuracy"]["model"] > 0.9
    assert report["accuracy"]["flips"] == 0


def test_its_own_processor_directory_serves_another_export(made: Path, tmp_path: Path) -> None:
    processor = shutil.copytree(made / "processor", tmp_path / "processor")
    options = ExportOptions(task=IMAGES, processor=processor)
    again = edgekit.export(trained(), tmp_path / "model", options=options)
    table = again.manifest.model
    assert table is not None
    assert table.labels == tuple(f"LABEL_{index}" for index in range(10))
    assert (again.path / "processor/processor.json").read_bytes() == (
        made / "processor/processor.json"
    ).read_bytes()


def test_images_of_any_size_stay_so(tmp_path: Path) -> None:
    settings = ImageSettings(rescale=1 / 255, normalize=(Normalize(mean=(0.5,) * 3, std=(0.2,) * 3),))  # type: ignore[arg-type]
    options = ExportOptions(task=IMAGES, processor=settings, labels=["dark", "light"])
    table = edgekit.export(Mean().eval(), tmp_path / "model", options=options).manifest.model
    assert table is not None
    assert table.signature.inputs[0].shape == ("batch", 3, "height", "width")
    assert len({(check.shape["height"], check.shape["width"]) for check in table.checks}) > 3


def test_a_network_of_recordings_is_exported_for_its_task(tmp_path: Path) -> None:
    options = ExportOptions(task="audio-classification", processor=SOUNDS, labels=["quiet", "loud"])
    table = edgekit.export(Loudness().eval(), tmp_path / "model", options=options).manifest.model
    assert table is not None
    assert table.signature.inputs[0].shape == ("batch", "samples")
    assert {check.shape["batch"] for check in table.checks} >= {1, 2, 7}
    assert len({check.shape["samples"] for check in table.checks}) > 3


def test_a_text_network_takes_the_processor_of_a_folder(tiny: Path, tmp_path: Path) -> None:
    first = edgekit.export(tiny, tmp_path / "folder")

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.head = nn.Embedding(512, 8), nn.Linear(8, 3)

        def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
            keep = attention_mask[:, :, None].float() * (1 + token_type_ids[:, :, None])
            return self.head((self.embedding(input_ids) * keep).sum(1) / keep.sum(1))  # type: ignore[no-any-return]

    options = ExportOptions(
        task="text-classification", processor=first.path / "processor", labels=["bad", "so", "good"]
    )
    table = edgekit.export(Bag().eval(), tmp_path / "bag", options=options).manifest.model
    assert table is not None
    assert table.signature.inputs[0].shape == ("batch", "sequence")
    assert table.labels == ("bad", "so", "good")


def test_one_shape_of_images_is_that_of_the_first_golden(tmp_path: Path) -> None:
    options = ExportOptions(task=IMAGES, processor=ImageSettings(rescale=1 / 255), static=True)
    table = edgekit.export(Mean().eval(), tmp_path / "model", options=options).manifest.model
    assert table is not None
    assert table.signature.inputs[0].shape == (1, 3, 240, 320)
    assert len(table.checks) > 8
    assert table.source["shape"] == "fixed: batch 1, height 240, width 320"


@pytest.mark.parametrize(
    ("module", "changes", "error", "reason"),
    [
        (Mean(), {"processor": None}, UsageError, "needs a processor"),
        (Mean(), {"processor": Path("nowhere")}, UsageError, "nowhere"),
        (Mean(), {"processor": 7}, UsageError, "int"),
        (Mean(), {"processor": SOUNDS}, UsageError, "takes image"),
        (Mean(), {"labels": ["a", "b", "c"]}, UsageError, "3 labels.*2 classes"),
        (Mean(), {"labels": ["a", "a"]}, UsageError, "'a' is there twice"),
        (Mean(), {"labels": "ab"}, UsageError, "labels"),
        (Mean(), {"task": "no-such-task"}, UsageError, "no-such-task"),
        (Mean(), {"task": "speech-recognition"}, UsageError, "takes audio"),
        (Mean(), {"task": "semantic-segmentation"}, SourceError, "4 axes"),
        (Mean(), {"task": "image-embedding", "labels": ["a", "b"]}, UsageError, "no labels"),
        (Mean(), {"task": "custom"}, UsageError, "processor"),
        (Mean(), {"example_inputs": {"pixels": torch.zeros(1, 3, 8, 8)}}, UsageError, "example_inputs"),
        (Masked(), {}, UsageError, "pixels, mask"),
        (Twice(), {}, SourceError, "logits"),
        (nn.Linear(5, 2), {}, SourceError, "does not take"),
        (Mean().train(), {}, SourceError, "training"),
    ],
)
def test_what_does_not_fit_together_is_refused_before_anything_is_traced(
    module: nn.Module, changes: dict[str, object], error: type[Exception], reason: str, tmp_path: Path
) -> None:
    if "train" not in reason:
        module = module.eval()
    given: dict[str, object] = {"task": IMAGES, "processor": EIGHT, **changes}
    with pytest.raises(error, match=reason) as caught:
        edgekit.export(module, tmp_path / "model", options=ExportOptions(**given))  # type: ignore[arg-type]
    assert caught.value.hint  # type: ignore[attr-defined]
    assert not (tmp_path / "model").exists()


def test_a_folder_takes_no_processor_and_no_labels(tiny: Path, tmp_path: Path) -> None:
    for given in ({"processor": EIGHT}, {"labels": LABELS}):
        with pytest.raises(UsageError, match="torch modules"):
            edgekit.export(tiny, tmp_path / "model", options=ExportOptions(**given))  # type: ignore[arg-type]


def test_the_processor_reads_what_the_network_was_trained_on(made: Path, tmp_path: Path) -> None:
    path = next((write_test_rows(tmp_path) / "seven").iterdir())
    from PIL import Image

    feeds = load_processor(made / "processor").feeds([path])["pixel_values"]
    wanted = np.asarray(Image.open(path), dtype=np.float32) / 255
    assert np.allclose(feeds, np.broadcast_to(wanted, (1, 3, 8, 8)), atol=1e-6)
