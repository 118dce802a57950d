"""Sentence-transformers folders and adapters: what is put together here is what was trained."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import edgekit
from edgekit.errors import SourceError, UnsafeSource, UsageError
from edgekit.exporting.adapter import AdapterSource
from edgekit.exporting.folder import load_folder
from edgekit.exporting.merging import Merge, refuse_changed_answers
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.origin import Origin, TorchOrigin, inspect_source
from edgekit.exporting.quiet import kept_environment, quiet_libraries
from edgekit.exporting.reference import reference_outputs
from edgekit.exporting.sentence import SentenceSource
from edgekit.exporting.source import inspect_folder
from edgekit.exporting.subject import Subject
from edgekit_runtime.processors import load_processor
from tests.models import Size, tiny_classifier, tiny_model

pytestmark = pytest.mark.slow

ROWS = ["a train is not a lamp", "good", "people report music, music, water and the bad lamp"]
Put = Callable[..., Path]


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def refused(folder: Path, **options: object) -> SourceError | UnsafeSource | UsageError:
    with pytest.raises((SourceError, UnsafeSource, UsageError)) as caught:
        inspect_source(folder, ExportOptions(**options))  # type: ignore[arg-type]
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


def loaded(origin: Origin, processor: Path, **options: object) -> Subject:
    assert isinstance(origin, TorchOrigin)
    return origin.load(ExportOptions(**options), processor)  # type: ignore[arg-type]


# --- sentence-transformers ------------------------------------------------------------------------------


def chain(folder: Path, *kinds: str) -> Path:
    """modules.json over a transformers folder."""
    parts = [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{kind}" if at else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(("Transformer", *kinds))
    ]
    write(folder / "modules.json", parts)
    return folder


def pooled(folder: Path, **modes: bool) -> Path:
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **modes})
    return folder


@pytest.fixture
def sentences(folder: Path) -> Path:
    """The tiny encoder with mean pooling and normalisation."""
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"architectures": ["BertModel"]})
    pooled(folder, pooling_mode_mean_tokens=True, pooling_mode_cls_token=False)
    return chain(folder, "Pooling", "Normalize")


def by_hand(folder: Path, rows: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Token vectors and mask, as transformers gives them."""
    with kept_environment(), quiet_libraries(), torch.inference_mode():
        from transformers import AutoModel, AutoTokenizer

        encoded = AutoTokenizer.from_pretrained(folder)(rows, padding=True, return_tensors="pt")
        tokens = AutoModel.from_pretrained(folder)(**encoded).last_hidden_state
    return tokens.numpy(), encoded["attention_mask"].numpy()


POOLINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "pooling_mode_cls_token": lambda row: row[0],
    "pooling_mode_mean_tokens": lambda row: row.mean(0),
    "pooling_mode_max_tokens": lambda row: row.max(0),
    "pooling_mode_mean_sqrt_len_tokens": lambda row: row.sum(0) / np.sqrt(len(row)),
    "pooling_mode_lasttoken": lambda row: row[-1],
    "pooling_mode_weightedmean_tokens": lambda row: np.average(row, 0, weights=np.arange(1, len(row) + 1)),
}


@pytest.mark.parametrize("mode", POOLINGS)
def test_each_pooling_is_the_one_its_name_says_whatever_the_padding(
    sentences: Path, tmp_path: Path, mode: str
) -> None:
    modes = {"pooling_mode_mean_tokens": False, mode: True}
    subject = loaded(
        inspect_source(chain(pooled(sentences, **modes), "Pooling"), ExportOptions()), tmp_path / "p"
    )
    feeds = load_processor(tmp_path / "p").feeds(ROWS)
    with torch.inference_mode():
        got = subject.call({name: torch.from_numpy(array) for name, array in feeds.items()})
    tokens, mask = by_hand(sentences, ROWS)
    wanted = [POOLINGS[mode](row[: kept.sum()]) for row, kept in zip(tokens, mask, strict=True)]
    np.testing.assert_allclose(got["sentence_embedding"].numpy(), wanted, atol=1e-5)


def test_pooling_and_normalisation_are_inside_the_exported_graph(sentences: Path, tmp_path: Path) -> None:
    made = edgekit.export(sentences, tmp_path / "model")
    table = made.manifest.model
    assert table is not None
    assert table.task == "sentence-embedding"
    assert table.source["modules"] == "Transformer, Pooling (mean), Normalize"
    [output] = table.signature.outputs
    assert (output.name, output.shape) == ("sentence_embedding", ("batch", 32))
    processor = load_processor(made.path / "processor")
    feeds = [processor.feeds(ROWS), *(processor.feeds([row]) for row in ROWS)]
    together, *alone = (
        answer["sentence_embedding"]
        for answer in reference_outputs(made.path / "model.onnx", table.signature, feeds)
    )
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_a_real_encoder_puts_like_sentences_together(sentiment: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sentiment / "encoder", tmp_path / "minilm"))
    chain(pooled(folder, pooling_mode_mean_tokens=True), "Pooling", "Normalize")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": False})
    made = edgekit.export(folder, tmp_path / "model")
    table = made.manifest.model
    assert table is not None
    assert max(check.shape["sequence"] for check in table.checks) == 128
    processor = load_processor(made.path / "processor")
    rows = [
        "A cat sits on the mat.",
        "A kitten is sitting on a rug.",
        "The stock market fell by three percent.",
    ]
    [answer] = reference_outputs(made.path / "model.onnx", table.signature, [processor.feeds(rows)])
    cat, kitten, market = answer["sentence_embedding"]
    assert cat @ kitten > 0.5 > 0.2 > cat @ market


def test_a_dense_module_is_applied_with_its_own_weights(sentences: Path, tmp_path: Path) -> None:
    chain(sentences, "Pooling", "Dense")
    weight, bias = torch.randn(5, 32), torch.randn(5)
    table = {"in_features": 32, "out_features": 5, "activation_function": "torch.nn.modules.activation.Tanh"}
    write(sentences / "2_Dense" / "config.json", table)
    save_file({"linear.weight": weight, "linear.bias": bias}, sentences / "2_Dense" / "model.safetensors")
    before = inspect_source(sentences, ExportOptions()).digest()
    subject = loaded(inspect_source(sentences, ExportOptions()), tmp_path / "p")
    feeds = load_processor(tmp_path / "p").feeds(ROWS[:1])
    with torch.inference_mode():
        got = subject.call({name: torch.from_numpy(array) for name, array in feeds.items()})
    mean = by_hand(sentences, ROWS[:1])[0].mean(1)
    wanted = np.tanh(mean @ weight.numpy().T + bias.numpy())
    np.testing.assert_allclose(got["sentence_embedding"].numpy(), wanted, atol=1e-5)
    save_file({"linear.weight": weight + 1, "linear.bias": bias}, sentences / "2_Dense" / "model.safetensors")
    assert inspect_source(sentences, ExportOptions()).digest() != before
    write(sentences / "2_Dense" / "config.json", table | {"activation_function": "mine.Odd"})
    assert "Odd" in refused(sentences).message


def test_an_encoder_that_reads_padding_is_refused(
    sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgekit.exporting.pooling._pool", lambda mode, tokens, mask: tokens.mean(1))
    with pytest.raises(SourceError, match="padding changes an embedding"):
        loaded(inspect_source(sentences, ExportOptions()), tmp_path / "p")


def test_a_module_that_is_not_known_is_refused_by_name(sentences: Path) -> None:
    assert "models.WordWeights" in refused(chain(sentences, "Pooling", "WordWeights")).message
    chain(sentences, "Pooling")
    text = (sentences / "modules.json").read_text()
    (sentences / "modules.json").write_text(
        text.replace("sentence_transformers.models.Pooling", "mine.Pooling")
    )
    assert "mine.Pooling" in refused(sentences).message


def test_a_chain_that_leads_out_of_the_folder_is_refused(sentences: Path) -> None:
    text = (sentences / "modules.json").read_text()
    (sentences / "modules.json").write_text(text.replace("1_Pooling", "../other"))
    assert "../other" in refused(sentences).message


def test_what_would_change_texts_before_the_tokenizer_is_refused(sentences: Path) -> None:
    write(sentences / "config_sentence_transformers.json", {"default_prompt_name": "query"})
    assert "'query'" in refused(sentences).message
    write(sentences / "config_sentence_transformers.json", {"default_prompt_name": None})
    write(sentences / "sentence_bert_config.json", {"do_lower_case": True})
    assert "lower-cases" in refused(sentences).message


def test_a_chain_without_pooling_or_of_unknown_pooling_is_refused(sentences: Path) -> None:
    assert "no Pooling" in refused(chain(sentences, "Normalize")).message
    chain(sentences, "Pooling")
    assert "no kind of pooling" in refused(pooled(sentences, pooling_mode_mean_tokens=False)).message
    assert "pooling_mode_magic" in refused(pooled(sentences, pooling_mode_magic=True)).message
    (sentences / "1_Pooling" / "config.json").unlink()
    assert "missing" in refused(sentences).message


def test_an_encoder_with_a_head_is_ambiguous_until_the_task_is_given(folder: Path) -> None:
    chain(pooled(folder, pooling_mode_mean_tokens=True), "Pooling")
    assert "text-classification" in refused(folder).hint
    assert "sentence-embedding" in refused(folder).hint
    assert isinstance(inspect_source(folder, ExportOptions(task="sentence-embedding")), SentenceSource)
    found = inspect_source(folder, ExportOptions(task="text-classification"))
    assert found.label == str(folder)
    assert not isinstance(found, SentenceSource)


def test_a_head_for_masks_left_in_the_config_changes_nothing(sentences: Path) -> None:
    config = json.loads((sentences / "config.json").read_text())
    write(sentences / "config.json", config | {"architectures": ["BertForMaskedLM"]})
    assert isinstance(inspect_source(sentences, ExportOptions()), SentenceSource)


def test_a_plain_folder_is_no_sentence_encoder(folder: Path) -> None:
    assert "modules.json" in refused(folder, task="sentence-embedding").hint


# --- adapters -------------------------------------------------------------------------------------------


@kept_environment()
def adapter(base: Path, folder: Path, **changes: object) -> Path:
    """A LoRA adapter of some strength, trained on `base` as far as its config says."""
    import transformers
    from peft import LoraConfig, get_peft_model

    with quiet_libraries():
        torch.manual_seed(1)
        settings = {"task_type": "SEQ_CLS", "r": 4, "target_modules": ["query", "value"], **changes}
        labels = {"num_labels": settings.pop("num_labels")} if "num_labels" in settings else {}
        part = "Token" if settings["task_type"] == "TOKEN_CLS" else "Sequence"
        auto = getattr(transformers, f"AutoModelFor{part}Classification")
        model = auto.from_pretrained(base, **labels)
        adapted = get_peft_model(model, LoraConfig(**settings))  # type: ignore[arg-type]
        for name, weight in adapted.named_parameters():
            if "lora_B" in name or (settings.get("modules_to_save") and "modules_to_save" in name):
                torch.nn.init.normal_(weight, 0, 0.5)
        adapted.save_pretrained(folder)
    return folder


@pytest.fixture
def lora(folder: Path, tmp_path: Path) -> Path:
    """An adapter on the copy of the tiny classifier."""
    return adapter(folder, tmp_path / "lora", modules_to_save=["classifier"])


@kept_environment()
def unmerged(base: Path, folder: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of base and adapter side by side, by peft alone."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    with quiet_libraries(), torch.inference_mode():
        model = PeftModel.from_pretrained(
            AutoModelForSequenceClassification.from_pretrained(base), str(folder)
        )
        answer = model.eval()(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    found: np.ndarray = answer.logits.numpy()
    return found


def test_an_adapter_is_merged_into_the_base_its_config_names(
    folder: Path, lora: Path, tmp_path: Path
) -> None:
    made = edgekit.export(lora, tmp_path / "model")
    table = made.manifest.model
    assert table is not None
    assert (table.task, table.labels) == ("text-classification", ("negative", "positive"))
    assert table.source["kind"] == "LORA adapter merged into its base"
    assert table.source["base"] == folder.name
    feeds = load_processor(made.path / "processor").feeds(ROWS)
    [answer] = reference_outputs(made.path / "model.onnx", table.signature, [feeds])
    np.testing.assert_allclose(answer["logits"], unmerged(folder, lora, feeds), atol=1e-4)
    subject = load_folder(inspect_folder(folder, ExportOptions()), ExportOptions(), tmp_path / "base")
    with torch.inference_mode():
        alone = subject.call({name: torch.from_numpy(array) for name, array in feeds.items()})["logits"]
    assert np.abs(alone.numpy() - answer["logits"]).max() > 0.01


def test_the_digest_follows_adapter_and_base(folder: Path, lora: Path) -> None:
    found = {inspect_source(lora, ExportOptions()).digest()}
    for path in (lora / "adapter_model.safetensors", folder / "model.safetensors"):
        save_file({name: weight + 1e-3 for name, weight in load_file(path).items()}, path, {"format": "pt"})
        found.add(inspect_source(lora, ExportOptions()).digest())
    assert len(found) == 3


def test_a_base_that_moved_is_given_by_hand(folder: Path, lora: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "moved")
    assert "--base" in refused(lora).hint
    assert "--base" in refused(lora, base=tmp_path / "nowhere").message
    assert isinstance(inspect_source(lora, ExportOptions(base=tmp_path / "moved")), AdapterSource)


def headless(folder: Path) -> Path:
    """The folder without its head, as encoders are published."""
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BertModel"]}
    for key in ("id2label", "label2id"):
        config.pop(key, None)
    path = folder / "model.safetensors"
    body = {name: weight for name, weight in load_file(path).items() if not name.startswith("classifier")}
    save_file(body, path, {"format": "pt"})
    write(folder / "config.json", config)
    return folder


def test_a_head_that_comes_with_the_adapter_needs_none_in_the_base(folder: Path, tmp_path: Path) -> None:
    headless(folder)
    made = adapter(folder, tmp_path / "lora", modules_to_save=["classifier"], num_labels=3)
    subject = loaded(inspect_source(made, ExportOptions()), tmp_path / "p")
    assert subject.facts.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize("size", [Size(hidden=48), Size(layers=1), Size(layers=3)])
def test_a_base_of_another_shape_is_refused_with_both_named(lora: Path, tmp_path: Path, size: Size) -> None:
    other = tiny_classifier(tmp_path / "other", size)
    options = ExportOptions(base=other)
    with pytest.raises(SourceError, match="does not fit the base") as caught:
        loaded(inspect_source(lora, options), tmp_path / "p", base=other)
    assert str(lora) in caught.value.message
    assert str(other) in caught.value.message


def test_modules_that_the_base_does_not_have_are_refused(lora: Path, tmp_path: Path) -> None:
    table = json.loads((lora / "adapter_config.json").read_text())
    write(lora / "adapter_config.json", table | {"target_modules": ["q_proj"]})
    with pytest.raises(SourceError, match="q_proj"):
        loaded(inspect_source(lora, ExportOptions()), tmp_path / "p")


def test_a_base_of_another_revision_is_refused(folder: Path, lora: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--someone--base" / "snapshots" / ("ab" * 20)
    shutil.copytree(folder, snapshot)
    table = json.loads((lora / "adapter_config.json").read_text())
    named = table | {"base_model_name_or_path": "someone/base"}
    write(lora / "adapter_config.json", named | {"revision": "cd" * 20})
    error = refused(lora, base=snapshot)
    assert "cd" * 20 in error.message
    assert "ab" * 20 in error.message
    write(lora / "adapter_config.json", named | {"revision": "ab" * 20})
    inspect_source(lora, ExportOptions(base=snapshot))
    write(lora / "adapter_config.json", named | {"base_model_name_or_path": "someone/other"})
    assert "someone/other" in refused(lora, base=snapshot).message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"task_type": "CAUSAL_LM"}, "text-generation is not exported yet"),
        ({"base_model_name_or_path": None}, "names no base"),
        ({"megatron_config": {"a": 1}}, "megatron_core"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_refused(
    lora: Path, changes: dict[str, object], reason: str
) -> None:
    table = json.loads((lora / "adapter_config.json").read_text())
    write(lora / "adapter_config.json", table | changes)
    assert reason in refused(lora).message


def test_weights_of_an_adapter_that_are_cut_off_missing_or_pickled(lora: Path) -> None:
    path = lora / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert "truncated" in refused(lora).message
    path.rename(lora / "adapter_model.bin")
    assert "pickle" in refused(lora).message
    (lora / "adapter_model.bin").unlink()
    assert "adapter_model.safetensors" in refused(lora).message


def test_an_adapter_with_nan_is_refused(lora: Path, tmp_path: Path) -> None:
    path = lora / "adapter_model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if "lora_B" in name)
    weights[name][0, 0] = float("nan")
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(SourceError, match="NaN"):
        loaded(inspect_source(lora, ExportOptions()), tmp_path / "p")


def test_a_merge_that_changes_answers_fails(lora: Path) -> None:
    source = inspect_source(lora, ExportOptions())
    assert isinstance(source, AdapterSource)
    before = {"logits": np.array([[0.5, 0.50002]], dtype=np.float32)}

    def merged(after: np.ndarray, answers: str) -> None:
        merge = Merge(feeds={}, before=before, after={"logits": after})
        refuse_changed_answers(source, merge, answers)

    merged(before["logits"], "classification")
    with pytest.raises(SourceError, match="other answers"):
        merged(before["logits"][:, ::-1], "classification")
    with pytest.raises(SourceError, match="other answers"):
        merged(before["logits"] + 0.01, "tensor")


def test_an_adapter_for_tags_or_a_number_becomes_that_task(folder: Path, tmp_path: Path) -> None:
    number = adapter(headless(folder), tmp_path / "number", modules_to_save=["classifier"], num_labels=1)
    assert loaded(inspect_source(number, ExportOptions()), tmp_path / "p1").facts.task == "regression"
    tagger = tiny_model(tmp_path / "tagger", "Bert", "ForTokenClassification", ("O", "B-PER"))
    tags = adapter(tagger, tmp_path / "tags", task_type="TOKEN_CLS")
    subject = loaded(inspect_source(tags, ExportOptions()), tmp_path / "p2")
    assert (subject.facts.task, subject.facts.labels) == ("token-classification", ("O", "B-PER"))


def test_an_adapter_that_fits_no_kind_of_its_word_is_refused(folder: Path, lora: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    write(folder / "config.json", config | {"problem_type": "regression"})
    assert "it gives 2 numbers, not one" in refused(lora).message
    assert "'entailment'" in refused(lora, task="zero-shot-classification").message


def test_a_folder_that_is_model_and_adapter_says_how_to_choose(folder: Path, lora: Path) -> None:
    shutil.copy(lora / "adapter_config.json", folder)
    shutil.copy(lora / "adapter_model.safetensors", folder)
    assert "--base" in refused(folder).hint
    assert isinstance(inspect_source(folder, ExportOptions(base=folder)), AdapterSource)


def test_base_is_for_adapters(folder: Path) -> None:
    assert "adapters" in refused(folder, base=folder).message
