"""Models that write text: two graphs, the same tokens as transformers' generate, rules kept or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgekit.errors import ExportWrong, SourceError, UsageError
from edgekit.exporting import generating, written
from edgekit.exporting import onnx as writing
from edgekit.exporting.adapter import AdapterSource
from edgekit.exporting.cached import cached_model, port_names
from edgekit.exporting.origin import inspect_source
from edgekit.exporting.quiet import quiet_libraries
from edgekit.exporting.subject import Assembly
from edgekit.files.graphs import model_graphs
from edgekit.host.reference import open_reference_model
from edgekit.stages.export import ExportedModel, ExportOptions, export
from edgekit.values import ModelTable
from edgekit_runtime.answers import KINDS, Asked, Entry
from edgekit_runtime.generation import GenerationSettings
from edgekit_runtime.goldens import read_goldens
from edgekit_runtime.pipelines import read_pipeline
from edgekit_runtime.processors import TextProcessor, load_processor
from tests.models import tiny_tokenizer, vocabulary
from tests.translators import pairs, translator

pytestmark = pytest.mark.slow

_SMALL_BART = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 64,
    "init_std": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": 3,
}
#: Rules that R's settings know, all at once.
_RULES = {
    "num_beams": 4,
    "early_stopping": True,
    "length_penalty": 2.0,
    "max_length": 9,
    "min_length": 4,
    "no_repeat_ngram_size": 2,
    "repetition_penalty": 1.3,
    "forced_bos_token_id": 2,
    "suppress_tokens": [7, 9],
    "bad_words_ids": [[11], [3]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained translator. Nobody may change it."""
    return translator(tmp_path_factory.mktemp("trained") / "translator")


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    options = ExportOptions(max_new_tokens=8)
    return export(folder, tmp_path_factory.mktemp("exported") / "model", options=options)


def table_of(made: ExportedModel) -> ModelTable:
    assert made.manifest.model is not None
    return made.manifest.model


def bart(**changes: Any) -> Any:
    """A tiny random BART in memory."""
    with quiet_libraries():
        from transformers import BartConfig, BartForConditionalGeneration

        torch.manual_seed(0)
        config = BartConfig(**{"vocab_size": len(vocabulary()), **_SMALL_BART, **changes})
        return BartForConditionalGeneration(config).eval()


@pytest.fixture(scope="module")
def ruled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BART whose generation_config has every rule that is kept, and asks for beams."""
    folder = tmp_path_factory.mktemp("ruled") / "bart"
    bart().save_pretrained(folder)
    tiny_tokenizer(folder)
    said = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps(said | _RULES), encoding="utf-8")
    return folder


def change_rules(folder: Path, tmp_path: Path, **rules: object) -> Path:
    """A copy of the folder with these rules in its generation_config."""
    copy = Path(shutil.copytree(folder, tmp_path / "changed"))
    path = copy / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | rules), encoding="utf-8")
    return copy


# --- the model directory -----------------------------------------------------------------------------


def test_the_exported_translator_answers_rightly(made: ExportedModel, folder: Path) -> None:
    processor, kind = load_processor(made.path / "processor"), KINDS["text"]
    assert isinstance(processor, TextProcessor)
    rows = pairs(60, seed=12345)
    answers = []
    with open_reference_model(made.path, table_of(made)) as session:
        for text, _ in rows:
            prepared = processor.prepare([text])
            entry = Entry(outputs=session.run(prepared.feeds), context=prepared.contexts[0])
            answers.append(kind.read(Asked(entries=(entry,), decode=processor.decode)))
    right = [answer == wanted for answer, (_, wanted) in zip(answers, rows, strict=True)]
    assert np.mean(right) > 0.9, list(zip(answers, rows, strict=True))[:5]


def test_the_directory_holds_both_graphs_and_how_they_run(made: ExportedModel) -> None:
    table = table_of(made)
    assert list(table.parts) == ["encoder", "decoder"]
    for graph in model_graphs(made.path, table):
        onnx.checker.check_model(graph.path)
    pipeline = read_pipeline(made.path)
    assert pipeline is not None
    assert pipeline.parts == ("encoder", "decoder")
    assert pipeline.generation == GenerationSettings(start=(0,), end=(1,), pad=0, max_tokens=8)
    assert [spec.name for spec in table.signature.inputs] == ["input_ids", "attention_mask"]
    assert [spec.name for spec in table.signature.outputs] == ["tokens", "scores"]
    assert (made.path / "reproduce.sh").read_text(encoding="utf-8").count("--max-new-tokens 8") == 1


def test_each_part_and_the_whole_are_checked_where_nothing_was_traced(made: ExportedModel) -> None:
    checks = table_of(made).checks
    decoder = [check for check in checks if check.name.startswith("decoder: ")]
    encoder = [check for check in checks if check.name.startswith("encoder: ")]
    whole = [check for check in checks if ": " not in check.name]
    assert {check.shape["past"] for check in decoder} >= {0, 1, 6, 7}
    assert {check.shape["tokens"] for check in decoder} == {1, 3}
    axes = table_of(made).axes
    assert axes["past"] == (0, 7), "none before the first token, all but one before the last"
    assert axes["tokens"] == (1, 3)
    assert set(axes) == {"batch", "sequence", "past", "tokens"}
    for found in (decoder, encoder, whole):
        assert {1, 2, 7} <= {check.shape["batch"] for check in found}
        assert all(check.passed and check.agreement == 1.0 for check in found)


def test_the_encoder_holds_nothing_of_the_decoder_but_keys_and_values_of_the_source(
    made: ExportedModel, folder: Path
) -> None:
    sizes = {
        part: sum(
            int(np.prod(weight.dims))
            for weight in onnx.load(made.path / part / "model.onnx").graph.initializer
            if len(weight.dims) == 2
        )
        for part in ("encoder", "decoder")
    }
    from transformers import T5ForConditionalGeneration

    with quiet_libraries():
        model = T5ForConditionalGeneration.from_pretrained(folder)
    shared = model.shared.weight.numel()
    cross = sum(
        tensor.numel()
        for name, tensor in model.decoder.named_parameters()
        if name.endswith(("EncDecAttention.k.weight", "EncDecAttention.v.weight"))
    )
    own = {
        part: sum(tensor.numel() for tensor in stack.parameters() if tensor.dim() == 2) - shared
        for part, stack in (("encoder", model.encoder), ("decoder", model.decoder))
    }
    assert sizes["encoder"] == shared + own["encoder"] + cross
    # tied to the embedding or not, the head is there once more at most
    assert shared + own["decoder"] - cross <= sizes["decoder"] <= 2 * shared + own["decoder"] - cross


def test_goldens_are_what_transformers_generates(made: ExportedModel, folder: Path) -> None:
    from transformers import T5ForConditionalGeneration

    with quiet_libraries():
        model = T5ForConditionalGeneration.from_pretrained(folder).eval()
    goldens = read_goldens(made.path / "golden")
    assert len(goldens) == 7
    for golden in goldens:
        feeds = {name: torch.from_numpy(array) for name, array in golden.feeds.items()}
        with quiet_libraries():
            tokens = model.generate(**feeds, max_new_tokens=8, num_beams=1, do_sample=False)
        np.testing.assert_array_equal(golden.outputs["tokens"], tokens[:, 1:].numpy())


# --- the rules of a generation_config ----------------------------------------------------------------


def test_every_kept_rule_is_kept_and_beams_are_told(ruled: Path, tmp_path: Path) -> None:
    made = export(ruled, tmp_path / "model")
    table = table_of(made)
    pipeline = read_pipeline(made.path)
    assert pipeline is not None
    assert pipeline.generation == GenerationSettings(
        start=(3,),
        end=(3,),
        pad=0,
        max_tokens=8,
        min_tokens=3,
        suppress=(7, 9, 11),
        forced_first=2,
        forced_last=3,
        repetition_penalty=1.3,
        no_repeat_ngram=2,
    )
    assert table.source["decoding"] == "greedy; its generation_config asks for 4 beams"
    tokens = [row for golden in read_goldens(made.path / "golden") for row in golden.outputs["tokens"]]
    assert {row[0] for row in tokens} == {2}
    assert not np.isin([7, 9, 11], np.concatenate(tokens)).any()


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"encoder_no_repeat_ngram_size": 3}, "encoder_no_repeat_ngram_size"),
        ({"guidance_scale": 2.0}, "guidance_scale"),
        ({"bad_words_ids": [[5, 6]]}, "bad_words_ids"),
        ({"forced_bos_token_id": [4, 5]}, "forced_bos_token_id"),
        ({"sequence_bias": [[[5], -1.0]]}, "sequence_bias"),
        ({"exponential_decay_length_penalty": [2, 1.5]}, "exponential_decay_length_penalty"),
    ],
)
def test_a_rule_that_no_device_keeps_is_refused_by_name(rules: dict[str, object], named: str) -> None:
    model = bart()
    for name, value in rules.items():
        setattr(model.generation_config, name, value)
    with pytest.raises(SourceError, match=named) as caught:
        generating.generating(model, None, ExportOptions())
    assert "generation_config.json" in caught.value.hint or named in caught.value.hint


def test_a_rule_is_refused_before_anything_is_written(ruled: Path, tmp_path: Path) -> None:
    source = change_rules(ruled, tmp_path, encoder_no_repeat_ngram_size=3)
    with pytest.raises(SourceError, match="encoder_no_repeat_ngram_size is 3"):
        export(source, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("said", "asked", "most"),
    [
        ({}, None, 256),
        ({}, 5, 5),
        ({"max_length": 31}, None, 30),
        ({"max_new_tokens": 12, "max_length": 31}, None, 12),
        ({"max_new_tokens": 12}, 20, 20),
    ],
)
def test_as_many_tokens_as_asked_for_else_as_the_config_says(
    said: dict[str, int], asked: int | None, most: int
) -> None:
    model = bart(max_position_embeddings=1000)
    for name, value in said.items():
        setattr(model.generation_config, name, value)
    options = ExportOptions(max_new_tokens=asked)
    assert generating.generating(model, None, options).settings.max_tokens == most


def test_never_more_tokens_than_the_decoder_has_positions() -> None:
    assert generating.generating(bart(), None, ExportOptions()).settings.max_tokens == 63
    with pytest.raises(UsageError, match="64 positions") as caught:
        generating.generating(bart(), None, ExportOptions(max_new_tokens=64))
    assert "at most 63" in caught.value.hint


def test_a_least_length_beyond_the_most_is_refused() -> None:
    model = bart()
    model.generation_config.min_new_tokens = 40
    with pytest.raises(UsageError, match="at least 40 tokens, and at most 10"):
        generating.generating(model, None, ExportOptions(max_new_tokens=10))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "rules", [{}, {"no_repeat_ngram_size": 2, "repetition_penalty": 1.5}, {"min_new_tokens": 6}]
)
def test_scores_are_log_probabilities_after_all_rules(rules: dict[str, Any], rows: int) -> None:
    model = bart()
    for name, value in rules.items():
        setattr(model.generation_config, name, value)
    torch.manual_seed(1)
    feeds = {"input_ids": torch.randint(5, 90, (rows, 9)), "attention_mask": torch.ones(rows, 9).long()}
    with torch.inference_mode():
        found = generating.generating(model, None, ExportOptions(max_new_tokens=7)).run(feeds)
        with quiet_libraries():
            wanted = model.generate(
                **feeds, max_new_tokens=7, output_scores=True, return_dict_in_generate=True
            )
    assert torch.equal(found["tokens"], wanted.sequences[:, 1:])
    for at, logits in enumerate(wanted.scores):
        best = torch.log_softmax(logits, dim=-1).topk(2, dim=-1).values.clamp(min=-1e9)
        ended = (found["tokens"][:, :at] == 3).any(dim=1)
        expected = torch.where(ended[:, None], torch.zeros(()), best)
        torch.testing.assert_close(found["scores"][:, at], expected, atol=1e-5, rtol=1e-5)


# --- languages ----------------------------------------------------------------------------------------


class _Speaking:
    """What is asked of a tokenizer that has a token for each language."""

    def __init__(self) -> None:
        self.all_special_ids = (0, 20, 21)
        self.all_special_tokens = ("<pad>", "en_XX", "__de__")
        self.added_tokens_decoder: dict[int, Any] = {}
        self.lang_code_to_id = {"en_XX": 20, "de": 21}


def test_a_language_is_the_first_token_or_the_start_where_that_is_one() -> None:
    asked = generating.generating(bart(), _Speaking(), ExportOptions(language="de"))
    assert (asked.settings.start, asked.settings.forced_first) == ((3,), 21)
    model = bart()
    model.generation_config.decoder_start_token_id = 20
    asked = generating.generating(model, _Speaking(), ExportOptions(language="de"))
    assert (asked.settings.start, asked.settings.forced_first) == ((21,), None)


def test_a_language_that_the_tokenizer_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="language 'fr'"):
        generating.generating(bart(), _Speaking(), ExportOptions(language="fr"))


# --- adapters -----------------------------------------------------------------------------------------


def test_an_adapter_is_merged_and_generates_as_it_did_beside_its_base(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import T5ForConditionalGeneration

    with quiet_libraries():
        base = T5ForConditionalGeneration.from_pretrained(folder).eval()
        asked = LoraConfig(task_type="SEQ_2_SEQ_LM", target_modules=["q", "v"], r=4, init_lora_weights=False)
        get_peft_model(base, asked).save_pretrained(tmp_path / "adapter")
        base = T5ForConditionalGeneration.from_pretrained(folder).eval()
        adapted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
        options = ExportOptions(base=folder, max_new_tokens=5)
        found = inspect_source(tmp_path / "adapter", options)
        assert isinstance(found, AdapterSource)
        assembly = found.load(options, tmp_path / "processor")
        assert isinstance(assembly, Assembly)
        feeds = {name: torch.from_numpy(array) for name, array in assembly.whole.cases[0].feeds.items()}
        with torch.inference_mode():
            wanted = adapted.generate(**feeds, max_new_tokens=5)
            assert torch.equal(assembly.whole.call(feeds)["tokens"], wanted[:, 1:])


# --- what goes wrong ----------------------------------------------------------------------------------


def test_a_static_export_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="static"):
        export(folder, tmp_path / "model", options=ExportOptions(static=True))


def test_a_model_without_a_cache_is_refused_with_the_reason() -> None:
    class Forgetful(torch.nn.Module):
        def get_encoder(self) -> Callable[..., object]:
            raise ValueError("keeps nothing")

    with pytest.raises(SourceError, match="does not run as an encoder and a decoder") as caught:
        cached_model(Forgetful(), 0, {"input_ids": torch.ones(1, 3).long()})
    assert "EncoderDecoderCache" in caught.value.hint


def test_ports_are_named_layer_by_layer() -> None:
    assert port_names("past", 2) == ("past.0.key", "past.0.value", "past.1.key", "past.1.value")


def test_a_wrong_decoder_is_named_and_its_evidence_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = writing.save

    def save_wrong(model: Any, directory: Path, notes: Any) -> Path:
        path = save(model, directory, notes)
        if directory.name == "decoder":
            _shift(path)
        return path

    monkeypatch.setattr(writing, "save", save_wrong)
    with pytest.raises(ExportWrong, match="graph of the decoder is not the same model") as caught:
        export(folder, tmp_path / "model", options=ExportOptions(max_new_tokens=4))
    assert "first node whose output departs" in caught.value.message
    kept = tmp_path / "model.failed"
    assert json.loads((kept / "evidence.json").read_text(encoding="utf-8"))["part"] == "decoder"
    assert (kept / "model.onnx").is_file()
    assert not (tmp_path / "model").exists()


def test_parts_that_are_run_wrongly_are_refused_as_a_whole(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = written.write_pipeline

    def write_wrong(directory: Path, pipeline: Any) -> None:
        from dataclasses import replace

        write(directory, replace(pipeline, generation=replace(pipeline.generation, suppress=(11,))))

    monkeypatch.setattr(written, "write_pipeline", write_wrong)
    with pytest.raises(ExportWrong, match="each part agrees by itself, and the whole does not"):
        export(folder, tmp_path / "model", options=ExportOptions(max_new_tokens=4))
    kept = tmp_path / "model.failed"
    assert (kept / "encoder" / "model.onnx").is_file()
    assert (kept / "pipeline.json").is_file()


def _shift(path: Path) -> None:
    """Move one weight of the graph."""
    model = onnx.load(path)
    weight = next(each for each in model.graph.initializer if len(each.dims) == 2 and each.dims[0] > 40)
    values = onnx.numpy_helper.to_array(weight).copy()
    values += 0.05
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)
