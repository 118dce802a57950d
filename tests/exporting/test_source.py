"""What can be refused before torch is imported is, with the file, the reason and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgekit.errors import SourceError, UnknownName, UnsafeSource
from edgekit.exporting.loading import load_model
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.source import FolderSource, inspect_folder
from edgekit_runtime.errors import MissingDependency


def refused(folder: Path, **options: object) -> SourceError | UnsafeSource:
    with pytest.raises((SourceError, UnsafeSource)) as caught:
        inspect_folder(folder, ExportOptions(**options))  # type: ignore[arg-type]
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


def change(folder: Path, name: str = "config.json", **values: object) -> Path:
    path = folder / name
    table = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps({key: value for key, value in table.items() if value != "gone"}), "utf-8")
    return folder


def test_a_good_folder_is_understood_without_torch(tiny: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from edgekit.exporting.source import inspect_folder;"
        "from edgekit.exporting.options import ExportOptions;"
        f"found = inspect_folder(Path({str(tiny)!r}), ExportOptions());"
        "assert found.task.name == 'text-classification', found;"
        "assert found.labels == ('negative', 'positive'), found;"
        "assert found.architecture == 'BertForSequenceClassification', found;"
        "assert found.digest().startswith('sha256:');"
        "assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- no model at all ------------------------------------------------------------------------------------


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none").message


def test_a_file_is_no_folder(tiny: Path) -> None:
    assert "is a file" in refused(tiny / "config.json").message


def test_a_folder_without_config(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert "config.json" in error.message
    assert "save_pretrained" in error.hint


def test_the_parent_of_checkpoints_names_the_newest(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "checkpoint-9")
    assert "checkpoint-9" in refused(tmp_path).hint


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2", "model-q4.gguf"])
def test_a_folder_of_another_format_names_the_file_to_give(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    assert str(tmp_path / name) in refused(tmp_path).hint


def test_an_exported_model_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"kind": "model"}')
    assert "already an edgekit model" in refused(tmp_path).hint


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00", '{"a": 1'])
def test_a_damaged_config(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert "config.json" in refused(folder).message


def test_a_config_of_something_else(folder: Path) -> None:
    assert "model_type" in refused(change(folder, model_type="gone")).message


# --- what it is for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("architectures", ["gone", [], None, "BertForSequenceClassification", [7]])
def test_missing_architectures(folder: Path, architectures: object) -> None:
    assert "architectures" in refused(change(folder, architectures=architectures)).message


def test_several_architectures_are_ambiguous(folder: Path) -> None:
    assert (
        "several" in refused(change(folder, architectures=["AForSequenceClassification", "BModel"])).message
    )


@pytest.mark.parametrize(
    "architecture", ["BertForNextSentencePrediction", "BertForMultipleChoice", "LlamaForCausalLM", "Whatever"]
)
def test_an_unsupported_task_lists_the_supported(folder: Path, architecture: str) -> None:
    error = refused(change(folder, architectures=[architecture]))
    assert architecture in error.message
    assert "text-classification" in error.hint
    assert "nearest: " in error.hint


@pytest.mark.parametrize(
    ("architecture", "changes", "task"),
    [
        ("BertForSequenceClassification", {}, "text-classification"),
        (
            "BertForSequenceClassification",
            {"problem_type": "multi_label_classification"},
            "multi-label-classification",
        ),
        ("BertForSequenceClassification", {"id2label": {"0": "score"}}, "regression"),
        (
            "BertForSequenceClassification",
            {"id2label": {"0": "no", "1": "entailment"}},
            "text-classification",
        ),
        ("RobertaForTokenClassification", {}, "token-classification"),
        ("ElectraForQuestionAnswering", {}, "question-answering"),
        ("MPNetForMaskedLM", {}, "fill-mask"),
        ("XLMWithLMHeadModel", {}, "fill-mask"),
        ("BertModel", {}, "feature-extraction"),
    ],
)
def test_the_class_and_the_config_tell_the_task(
    folder: Path, architecture: str, changes: dict[str, object], task: str
) -> None:
    found = inspect_folder(change(folder, architectures=[architecture], **changes), ExportOptions())
    assert found.task.name == task
    labelled = task in ("text-classification", "multi-label-classification", "token-classification")
    assert bool(found.labels) == labelled


@pytest.mark.parametrize("architecture", ["ViTForImageClassification", "Wav2Vec2ForCTC"])
def test_without_its_preprocessor_a_model_of_images_or_sound_is_refused(
    folder: Path, architecture: str
) -> None:
    error = refused(change(folder, architectures=[architecture]))
    assert "preprocessor_config.json" in error.message
    assert "save_pretrained" in error.hint


def test_a_class_of_several_tasks_asks_for_one(folder: Path) -> None:
    error = refused(change(folder, architectures=["CLIPModel"]))
    assert "fits several tasks" in error.message
    assert "image-embedding" in error.hint
    assert "sentence-embedding" in error.hint


def test_a_task_that_must_be_asked_for_is_given(folder: Path) -> None:
    change(folder, id2label={"0": "contradiction", "1": "entailment"})
    found = inspect_folder(folder, ExportOptions(task="zero-shot-classification"))
    assert found.labels == ("contradiction", "entailment")


def test_a_task_that_the_config_speaks_against_is_refused_with_the_reason(folder: Path) -> None:
    error = refused(folder, task="zero-shot-classification")
    assert "'entailment'" in error.message
    assert "text-classification" in error.hint
    assert "problem_type" in refused(folder, task="multi-label-classification").message


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("LlamaForCausalLM", "text-generation"),
        ("GPT2LMHeadModel", "text-generation"),
    ],
)
def test_a_model_that_only_goes_on_writing_is_refused_with_the_reason(
    folder: Path, architecture: str, task: str
) -> None:
    change(folder, architectures=[architecture])
    for asked in ("auto", "feature-extraction"):
        error = refused(folder, task=asked)
        assert task in error.message
        assert "is not exported yet" in error.message


def test_a_model_that_writes_in_answer_to_a_text_is_told_from_its_class(folder: Path) -> None:
    change(folder, architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    assert inspect_folder(folder, ExportOptions()).task.name == "text2text-generation"


@pytest.mark.parametrize(
    ("architecture", "changes", "reason"),
    [
        ("Qwen2VLForConditionalGeneration", {}, "it has no encoder"),
        ("VisionEncoderDecoderModel", {"is_encoder_decoder": True, "encoder": {"image_size": 8}}, "images"),
        ("PaliGemmaForConditionalGeneration", {"vision_config": {}}, "images"),
    ],
)
def test_a_model_that_writes_in_answer_to_no_text_is_refused_with_the_reason(
    folder: Path, architecture: str, changes: dict[str, object], reason: str
) -> None:
    error = refused(change(folder, architectures=[architecture], **changes))
    assert reason in error.message
    assert reason in refused(folder, task="text2text-generation").message


def test_a_task_that_does_not_fit_the_architecture(folder: Path) -> None:
    error = refused(change(folder, architectures=["BertForMaskedLM"]), task="text-classification")
    assert "has no head" in error.message


def test_the_custom_task_is_not_for_folders(tiny: Path) -> None:
    assert "edgekit.export(module" in refused(tiny, task="custom").hint


def test_an_unknown_task_names_the_nearest(tiny: Path) -> None:
    with pytest.raises(UnknownName):
        inspect_folder(tiny, ExportOptions(task="text-clasification"))


def test_a_kind_of_classifier_that_serves_no_task_is_refused_with_every_reason(folder: Path) -> None:
    error = refused(change(folder, problem_type="regression"))
    assert "not text-classification: its problem_type is regression" in error.message
    assert "not regression: it gives 2 numbers, not one" in error.message


def test_image_labels_that_repeat_are_told_apart_by_their_numbers(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text("{}")
    labels = {"0": "crane", "1": "heron", "2": "crane"}
    change(folder, architectures=["ViTForImageClassification"], id2label=labels)
    assert inspect_folder(folder, ExportOptions()).labels == ("crane (0)", "heron", "crane (2)")


@pytest.mark.parametrize("labels", [["a", "b"], {"0": "a", "2": "b"}, {"0": "same", "1": "same"}])
def test_labels_that_name_no_classes(folder: Path, labels: object) -> None:
    assert "id2label" in refused(change(folder, id2label=labels)).message


def test_without_labels_classes_are_called_as_transformers_calls_them(folder: Path) -> None:
    change(folder, id2label="gone", num_labels=3)
    assert inspect_folder(folder, ExportOptions()).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


# --- safety ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_of_its_own_is_refused_without_consent(folder: Path, name: str) -> None:
    (folder / "preprocessor_config.json").write_text("{}")
    change(folder, name, auto_map={"AutoModel": "modeling.Mine"})
    error = refused(folder)
    assert isinstance(error, UnsafeSource)
    assert name in error.message
    assert "--trust-remote-code" in error.hint
    inspect_folder(folder, ExportOptions(trust_remote_code=True))


def test_pickled_weights_are_refused_without_consent(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    error = refused(folder)
    assert isinstance(error, UnsafeSource)
    assert "pickle" in error.message
    assert "--allow-pickle" in error.hint


def test_a_pickle_beside_safetensors_is_not_read(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"whatever")
    assert inspect_folder(folder, ExportOptions()).weights.files == (folder / "model.safetensors",)


def test_quantized_weights_are_refused(folder: Path) -> None:
    assert "quantized" in refused(change(folder, quantization_config={"bits": 4})).message


# --- what is missing ---------------------------------------------------------------------------------------


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in refused(folder).message


def test_weights_of_another_framework_are_named(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    assert "tf_model.h5" in refused(folder).message


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    error = refused(folder)
    assert "tokenizer.json" in error.message
    assert "tokenizer.save_pretrained" in error.hint


def harmed(folder: Path, name: str, values: np.ndarray | None) -> FolderSource:
    """The folder with one weight taken out, or replaced."""
    weights = load_file(folder / "model.safetensors")
    weights.pop(name)
    if values is not None:
        weights[name] = values
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return inspect_folder(folder, ExportOptions())


def test_a_weight_that_is_missing_or_nan_is_named(folder: Path) -> None:
    auto = "AutoModelForSequenceClassification"
    bad = harmed(folder, "classifier.bias", np.array([0, np.nan], dtype=np.float32))
    with pytest.raises(SourceError, match=r"'classifier.bias' holds 1 values"):
        load_model(bad, auto, ExportOptions())
    with pytest.raises(SourceError, match=r"lack 'classifier.bias'"):
        load_model(harmed(folder, "classifier.bias", None), auto, ExportOptions())


@pytest.mark.parametrize("name", ["torch", "onnxscript", "transformers"])
def test_a_library_that_is_not_installed_is_named_with_the_extra(
    tiny: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    options = ExportOptions()
    with pytest.raises(MissingDependency, match=name) as caught:
        load_model(inspect_folder(tiny, options), "AutoModelForSequenceClassification", options)
    assert "edgekit[export]" in caught.value.hint


# --- the digest ------------------------------------------------------------------------------------------


def test_the_digest_follows_what_loading_reads_and_nothing_else(folder: Path) -> None:
    def digest() -> str:
        return inspect_folder(folder, ExportOptions()).digest()

    before = digest()
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "README.md").write_text("hello")
    (folder / "runs").mkdir()
    assert digest() == before
    change(folder, classifier_dropout=0.25)
    assert digest() != before
