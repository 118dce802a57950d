"""`edgekit run` and `python -m edgekit_runtime run` take the same rows and print the same answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from edgekit.packaging.writer import PackageContents, write_package
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.package_info import PackageTable
from edgekit_runtime.processors import TextSettings, write_text_processor
from edgekit_runtime.processors.image import write_image_processor
from edgekit_runtime.processors.image_settings import ImageSettings, Resize
from edgekit_runtime.values import Signature, TensorSpec, Tolerance
from tests.conftest import Edgekit

WORDS = {"[UNK]": 0, "good": 1, "bad": 2, "film": 3}
SCORES = np.array([[0, 0], [-2, 2], [2, -2], [0, 0]], np.float32)
Done = subprocess.CompletedProcess[str]
Both = Callable[..., Done]

TABLE = PackageTable(
    backend="onnxruntime",
    backend_version="1",
    precision="fp32",
    task="text-classification",
    answers="classification",
    signature=Signature(
        inputs=(TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
    ),
    tolerance=Tolerance(atol=1e-5, rtol=1e-5),
    verdict="NOT_MEASURED",
    confidence=0.99,
    labels=("negative", "positive"),
    unproven=("latency_p90_ms",),
)


def text_model(path: Path, output: str) -> None:
    """The mean of the scores of the words of a text."""
    import onnx

    helper, types = onnx.helper, onnx.TensorProto
    made = helper.make_graph(
        [
            helper.make_node("Gather", ["scores", "input_ids"], ["found"]),
            helper.make_node("ReduceMean", ["found"], [output], axes=[1], keepdims=0),
        ],
        "words",
        [helper.make_tensor_value_info("input_ids", types.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info(output, types.FLOAT, ["batch", 2])],
        [onnx.numpy_helper.from_array(SCORES, "scores")],
    )
    _save(made, path)


def image_model(path: Path) -> None:
    """The mean of each colour of an image."""
    import onnx

    helper, types = onnx.helper, onnx.TensorProto
    made = helper.make_graph(
        [helper.make_node("ReduceMean", ["pixel_values"], ["logits"], axes=[2, 3], keepdims=0)],
        "colours",
        [helper.make_tensor_value_info("pixel_values", types.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", types.FLOAT, ["batch", 3])],
    )
    _save(made, path)


def _save(made: object, path: Path) -> None:
    import onnx

    path.parent.mkdir(parents=True)
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(made, opset_imports=[opset], ir_version=8), str(path))


def packed(home: Path, table: PackageTable, feeds: dict[str, np.ndarray]) -> Path:
    """The package of what lies in `home`: artifact and processor."""
    (output,) = (spec.name for spec in table.signature.outputs)
    write_goldens(
        home / "golden", [Golden(name="one", feeds=feeds, outputs={output: np.zeros((1, 2), np.float32)})]
    )
    contents = PackageContents(
        artifact=home / "artifact", golden=home / "golden", processor=home / "processor"
    )
    path = home.with_suffix(".edgekit")
    write_package(path, table=table, contents=contents, name=home.name, inputs=())
    return path


def for_texts(home: Path, table: PackageTable) -> Path:
    (output,) = (spec.name for spec in table.signature.outputs)
    text_model(home / "artifact" / "model.onnx", output)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    settings = TextSettings(inputs=("input_ids",), max_length=16)
    processor = write_text_processor(
        home / "processor", tokenizer=tokenizer.to_str().encode(), settings=settings, parity=()
    )
    return packed(home, table, processor.feeds(["good film"]))


def for_images(home: Path) -> Path:
    image_model(home / "artifact" / "model.onnx")
    settings = ImageSettings(resize=Resize(rule="exact", size=(8, 8)), rescale=1 / 255)
    write_image_processor(home / "processor", settings=settings, parity=(), files={})
    signature = Signature(
        inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 3, 8, 8)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 3)),),
    )
    table = replace(TABLE, task="image-classification", signature=signature, labels=("red", "green", "blue"))
    return packed(home, table, {"pixel_values": np.zeros((1, 3, 8, 8), np.float32)})


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with {labels,choices,vectors,images}.edgekit."""
    home = tmp_path_factory.mktemp("packages")
    for_texts(home / "labels", TABLE)
    verdicts = ("contradiction", "entailment")
    for_texts(home / "choices", replace(TABLE, answers="zero-shot", labels=verdicts))
    embedding = TensorSpec(name="sentence_embedding", dtype="float32", shape=("batch", 2))
    signature = Signature(inputs=TABLE.signature.inputs, outputs=(embedding,))
    for_texts(home / "vectors", replace(TABLE, answers="vector", labels=(), signature=signature))
    for_images(home / "images")
    return home


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from PIL import Image

    home = tmp_path_factory.mktemp("pictures")
    Image.new("RGB", (30, 20), (200, 20, 20)).save(home / "red.png")
    Image.new("RGB", (20, 30), (20, 20, 200)).save(home / "ein blaues.jpg")
    (home / "note.txt").write_text("no image")
    return home


@pytest.fixture(scope="module")
def both(edgekit: Edgekit) -> Both:
    """Runs both command lines; what they printed, after a check that it is the same."""

    def run(*arguments: object) -> Done:
        here = edgekit("run", *arguments)
        command = [sys.executable, "-m", "edgekit_runtime", "run", *map(str, arguments)]
        there = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert here.returncode == there.returncode, here.stderr + there.stderr
        if here.returncode == 0:
            assert here.stdout == there.stdout
            assert here.stderr == there.stderr
        else:
            said = here.stderr.partition(": ")[2]
            assert said
            assert there.stderr == f"error: {said}"
        return here

    return run


def test_a_text_is_a_row_and_a_line(both: Both, packages: Path) -> None:
    done = both(packages / "labels.edgekit", "good film", "bad\nfilm", "--", "--pairs")
    assert done.stdout.splitlines() == [
        "positive\t0.8808\tgood film",
        "negative\t0.8808\tbad film",
        "negative\t0.5000\t--pairs",
    ]
    assert done.stderr.splitlines() == ["unproven: latency_p90_ms"]


def test_json_says_what_was_run_and_what_is_not_proven(both: Both, packages: Path) -> None:
    found = json.loads(both(packages / "labels.edgekit", "good", "--json").stdout)
    (answer,) = found["predictions"]
    assert answer["row"] == "good"
    assert (answer["prediction"]["label"], found["unproven"]) == ("positive", ["latency_p90_ms"])
    assert (found["name"], found["task"], found["answers"]) == (
        "labels",
        "text-classification",
        "classification",
    )


def test_rows_are_taken_two_by_two(both: Both, packages: Path) -> None:
    done = both(packages / "vectors.edgekit", "--pairs", "good", "good film", "good", "bad")
    assert [float(line.split("\t")[0]) for line in done.stdout.splitlines()] == pytest.approx([1.0, -1.0])
    assert done.stdout.splitlines()[0].endswith("\tgood | good film")
    found = json.loads(both(packages / "labels.edgekit", "--pairs", "good", "film", "--json").stdout)
    assert found["predictions"][0]["row"] == ["good", "film"]
    odd = both(packages / "labels.edgekit", "--pairs", "good")
    assert (odd.returncode, "an even number of texts, found 1" in odd.stderr) == (2, True)


def test_candidates_are_chosen_from(both: Both, packages: Path) -> None:
    package = packages / "choices.edgekit"
    done = both(package, "a film", "--candidates", "bad, good")
    assert done.stdout.startswith("good\t")
    for wrong in (("a film",), ("a", "b", "--pairs", "--candidates", "x,y"), ("a", "--candidates", "x")):
        assert both(package, *wrong).returncode == 2
    other = both(packages / "labels.edgekit", "a film", "--candidates", "x,y")
    assert (other.returncode, "takes no candidates" in other.stderr) == (2, True)


def test_an_image_is_given_by_its_path(both: Both, packages: Path, pictures: Path) -> None:
    paths = (pictures / "red.png", pictures / "ein blaues.jpg")
    lines = both(packages / "images.edgekit", *paths).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["red", "blue"]
    assert lines[1].endswith(f"\t{paths[1]}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.png", "nowhere.png: No such file"),
        (".", ": is a directory"),
        ("note.txt", "note.txt is no image"),
        ("x" * 300, "File name too long"),
        ("\udcff.png", "\\udcff.png: No such file"),
    ],
)
def test_a_path_that_leads_to_no_image_is_bad_input(
    both: Both, packages: Path, pictures: Path, name: str, message: str
) -> None:
    done = both(packages / "images.edgekit", pictures / "red.png", pictures / name)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "error[bad-input]" in done.stderr
