"""GGUF files: the same model as the one they were made of, or refused by name before torch is imported."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import edgekit
from edgekit.errors import ExportFailed, SourceError, UsageError
from edgekit.exporting.gguf import GgufSource, inspect_gguf
from edgekit.exporting.gguf_header import read_header
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.origin import inspect_source
from edgekit_runtime.errors import EdgekitError, MissingDependency
from edgekit_runtime.goldens import read_goldens
from tests import gguf_files
from tests.conftest import Edgekit

pytestmark = pytest.mark.slow

FEATURES = ExportOptions(task="feature-extraction", max_length=48)
#: Two right sums in another order, as shares of numbers around 3.
TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def llama(folder: Path) -> Path:
    return gguf_files.write(folder / "llama.gguf", gguf_files.decoder("llama"), "llama")


@pytest.fixture(scope="module")
def t5(folder: Path) -> Path:
    return gguf_files.write(folder / "t5.gguf", gguf_files.t5(), "t5")


def variant(path: Path, **more: Any) -> Path:
    """The small llama with other metadata: keys of the format, "__" for a point."""
    keys = {key.replace("__", "."): value for key, value in more.items()}
    return gguf_files.write(path / "variant.gguf", gguf_files.decoder("llama"), "llama", more=keys)


def refused(path: Path, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        inspect_source(path, ExportOptions(**options))
    assert caught.value.hint
    assert str(path) in caught.value.message
    return caught.value


# --- the same model -------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_hidden_states_are_those_of_the_model_that_the_file_was_made_of(
    architecture: str, tmp_path: Path
) -> None:
    original = gguf_files.decoder(architecture)
    path = gguf_files.write(tmp_path / "model.gguf", original, architecture)
    made = edgekit.export(path, tmp_path / "model", options=FEATURES)
    for golden in read_goldens(tmp_path / "model" / "golden"):
        feeds = {name: torch.from_numpy(array) for name, array in golden.feeds.items()}
        with torch.inference_mode():
            wanted = original(**feeds).last_hidden_state.numpy()
        real = golden.feeds["attention_mask"] == 1
        assert np.abs(golden.outputs["last_hidden_state"] - wanted)[real].max() < TOLERANCE
    table = made.manifest.model
    assert table is not None
    assert table.task == "feature-extraction"
    assert table.source["kind"] == "GGUF file"
    assert table.source["dtype"] == "F32"


@pytest.mark.parametrize("feed_forward", ["gated-gelu", "relu"])
def test_a_t5_answers_as_the_one_that_the_file_was_made_of(feed_forward: str, tmp_path: Path) -> None:
    """transformers takes each for a gated one with the activation of the others."""
    original = gguf_files.t5(feed_forward=feed_forward)
    path = gguf_files.write(tmp_path / "t5.gguf", original, "t5")
    options = ExportOptions(max_length=48, max_new_tokens=6)
    edgekit.export(path, tmp_path / "model", options=options)
    compared = 0
    for golden in read_goldens(tmp_path / "model" / "golden"):
        if len(golden.feeds["input_ids"]) > 1:
            continue
        feeds = {name: torch.from_numpy(array) for name, array in golden.feeds.items()}
        with torch.inference_mode():
            ids = original.generate(**feeds, max_new_tokens=6, num_beams=1, do_sample=False)
            logits = original(**feeds, decoder_input_ids=ids[:, :1]).logits[0, -1]
        wanted = ids[0, 1:].tolist()
        assert golden.outputs["tokens"][0].tolist()[: len(wanted)] == wanted
        best = float(logits.log_softmax(dim=-1).max())
        assert golden.outputs["scores"][0, 0, 0] == pytest.approx(best, abs=1e-4)
        compared += 1
    assert compared > 3


def test_quantized_weights_become_the_numbers_that_they_stand_for(tmp_path: Path) -> None:
    original = gguf_files.decoder("llama")
    path = gguf_files.write(tmp_path / "q8.gguf", original, "llama", quantized=True)
    table = edgekit.export(path, tmp_path / "model", options=FEATURES).manifest.model
    assert table is not None
    assert table.source["dtype"] == "Q8_0, F32"
    golden = read_goldens(tmp_path / "model" / "golden")[0]
    feeds = {name: torch.from_numpy(array) for name, array in golden.feeds.items()}
    with torch.inference_mode():
        wanted = original(**feeds).last_hidden_state.numpy()
    error = np.abs(golden.outputs["last_hidden_state"] - wanted).max()
    assert TOLERANCE < error < 0.5, "eight bits are near, and not the same"


def test_an_encoder_of_t5_gives_hidden_states_without_being_asked(tmp_path: Path) -> None:
    original = gguf_files.t5("T5EncoderModel")
    path = gguf_files.write(tmp_path / "encoder.gguf", original, "t5encoder")
    found = inspect_source(path, ExportOptions())
    assert isinstance(found, GgufSource)
    assert found.task.name == "feature-extraction"


@pytest.mark.parametrize(("number", "word"), [(1, "mean"), (3, "lasttoken")])
def test_a_file_that_says_its_pooling_is_a_sentence_encoder(number: int, word: str, tmp_path: Path) -> None:
    path = variant(tmp_path, llama__pooling_type=number)
    found = inspect_source(path, ExportOptions())
    assert isinstance(found, GgufSource)
    assert (found.task.name, found.pooling, found.pooling_said) == ("sentence-embedding", word, True)


def test_an_embedding_is_the_mean_of_hidden_states_where_the_file_says_no_pooling(
    llama: Path, tmp_path: Path
) -> None:
    options = ExportOptions(task="sentence-embedding", max_length=48)
    table = edgekit.export(llama, tmp_path / "model", options=options).manifest.model
    assert table is not None
    assert table.source["modules"] == "Transformer, Pooling (mean (the file says none)), Normalize"
    golden = read_goldens(tmp_path / "model" / "golden")[0]
    feeds = {name: torch.from_numpy(array) for name, array in golden.feeds.items()}
    with torch.inference_mode():
        mean = gguf_files.decoder("llama")(**feeds).last_hidden_state[0].mean(0).numpy()
    assert golden.outputs["sentence_embedding"][0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


# --- the same tokens ------------------------------------------------------------------------------------


def test_texts_are_cut_by_the_rule_that_the_file_names(tmp_path: Path) -> None:
    """ "smollm" takes each digit by itself, so the spaces before it stay together; "gpt-2" does not."""
    pieces = {}
    for rule in ("smollm", "gpt-2"):
        made = tmp_path / rule
        made.mkdir()
        path = variant(made, tokenizer__ggml__pre=rule)
        found = inspect_source(path, FEATURES)
        assert isinstance(found, GgufSource)
        found.load(FEATURES, made / "processor")
        table = json.loads((made / "processor" / "tokenizer.json").read_text())
        pieces[rule] = _cut(made / "processor" / "tokenizer.json", "x  12")
        assert table["model"]["type"] == "BPE"
    assert pieces["smollm"] == ["x", "ĠĠ", "1", "2"]
    assert pieces["gpt-2"] == ["x", "Ġ", "Ġ12"]


def _cut(tokenizer: Path, text: str) -> list[str]:
    from tokenizers import Tokenizer

    made = Tokenizer.from_file(str(tokenizer))
    return [piece for piece, _ in made.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize(("begins", "ends"), [(True, False), (False, True), (True, True)])
def test_texts_begin_and_end_as_the_file_says(begins: bool, ends: bool, tmp_path: Path) -> None:
    keys = {"tokenizer__ggml__add_bos_token": begins, "tokenizer__ggml__add_eos_token": ends}
    path = variant(tmp_path, **keys)
    edgekit.export(path, tmp_path / "model", options=FEATURES)
    golden = read_goldens(tmp_path / "model" / "golden")[0]
    ids = golden.feeds["input_ids"][0]
    assert (ids[0] == 0, ids[-1] == 0) == (begins, ends)


# --- what is asked of it --------------------------------------------------------------------------------


def test_text_generation_is_not_offered_and_the_words_say_what_is(llama: Path, t5: Path) -> None:
    for options in ({}, {"task": "text-generation"}):
        error = refused(llama, **options)
        assert "text-generation is not offered yet" in error.message
        assert "--task feature-extraction" in error.hint
    assert "--task text2text-generation" in refused(t5, task="text-generation").hint


def test_a_task_that_it_has_no_head_for_is_refused(llama: Path, t5: Path) -> None:
    assert "no model for 'text-classification'" in refused(llama, task="text-classification").message
    assert "no model for 'feature-extraction'" in refused(t5, task="feature-extraction").message


def test_options_of_other_sources_are_refused(llama: Path) -> None:
    with pytest.raises(UsageError, match="axis ranges"):
        inspect_source(llama, ExportOptions(task="feature-extraction", axis_ranges={"batch": (1, 2)}))


def test_without_its_libraries_the_extra_is_named(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else there(name))
    with pytest.raises(MissingDependency) as caught:
        inspect_gguf(llama, FEATURES)
    assert "needs gguf" in caught.value.message
    assert "edgekit[gguf]" in caught.value.hint


def test_too_little_memory_is_not_called_damage(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_words: object, **_named: object) -> None:
        raise MemoryError

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", full)
    with pytest.raises(ExportFailed, match="there is not enough memory for its") as caught:
        inspect_gguf(llama, FEATURES).load(FEATURES, tmp_path / "processor")
    assert str(llama) in caught.value.message


def test_a_file_is_known_by_its_first_bytes_and_its_neighbours_are_not_read(
    llama: Path, tmp_path: Path
) -> None:
    """A tokenizer that lies beside it may be another model's."""
    path = Path(shutil.copy(llama, tmp_path / "weights.bin"))
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    found = inspect_source(path, FEATURES)
    assert isinstance(found, GgufSource)
    found.load(FEATURES, tmp_path / "processor")


# --- what transformers would pass over in silence -------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama__rope__scaling__type", "linear"),
        ("llama__rope__scaling__factor", 4.0),
        ("llama__attention__sliding_window", 512),
        ("llama__attention__causal", False),
        ("llama__expert_count", 8),
        ("llama__logit_scale", 2.0),
        ("llama__rope__dimension_count", 8),
        ("llama__attention__value_length", 8),
    ],
)
def test_a_key_that_would_make_it_another_model_is_refused_by_name(
    key: str, value: Any, tmp_path: Path
) -> None:
    error = refused(variant(tmp_path, **{key: value}), task="feature-extraction")
    assert key.replace("__", ".") in error.message
    assert "another model" in error.message or "one size for both" in error.message


def test_notes_of_those_who_made_the_file_are_no_matter(tmp_path: Path) -> None:
    path = variant(tmp_path, someone__quantized_by="me", quantize__imatrix__file="x.dat")
    assert isinstance(inspect_source(path, FEATURES), GgufSource)


def test_weights_that_no_module_takes_are_refused(tmp_path: Path) -> None:
    model = gguf_files.decoder("llama")
    path = gguf_files.write(tmp_path / "more.gguf", model, "llama", weights={"blk.0.attn_q.bias": (64,)})
    found = inspect_source(path, FEATURES)
    assert isinstance(found, GgufSource)
    with pytest.raises(SourceError, match="numbers for a LlamaModel"):
        found.load(FEATURES, tmp_path / "processor")
    path = gguf_files.write(tmp_path / "scaled.gguf", model, "llama", weights={"rope_freqs.weight": (8,)})
    assert "scales its positions" in refused(path, task="feature-extraction").message


def test_an_unknown_rule_of_cutting_texts_is_refused(tmp_path: Path) -> None:
    path = variant(tmp_path, tokenizer__ggml__pre="viking")
    found = inspect_source(path, FEATURES)
    assert isinstance(found, GgufSource)
    with pytest.raises(SourceError, match="by the rule 'viking'"):
        found.load(FEATURES, tmp_path / "processor")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"general__architecture": "bert"}, "architecture 'bert' is not exported"),
        ({"general__type": "adapter"}, "of kind 'adapter'"),
        ({"split__count": 3}, "one of 3 files"),
        ({"llama__attention__layer_norm_rms_epsilon": None}, "has no llama.attention.layer_norm_rms_epsilon"),
        ({"llama__pooling_type": 4}, "pooling_type is 4"),
    ],
)
def test_another_kind_of_file_is_refused(keys: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refused(variant(tmp_path, **keys), task="feature-extraction").message


# --- damaged and malicious ------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_damaged(llama: Path, tmp_path: Path) -> None:
    whole = llama.read_bytes()
    path = tmp_path / "cut.gguf"
    for length in (0, 3, 4, 11, 24, 30, 45, 60, 4_000, 12_000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert "truncated" in refused(path, task="feature-extraction").message, length


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"llama__block_count": 2_000_000_000}, "promises 2000000000 layers and holds 2"),
        ({"llama__embedding_length": 1 << 30}, "promises embeddings"),
        ({"llama__vocab_size": 1 << 30}, "vocab_size is"),
        ({"llama__feed_forward_length": 1 << 30}, "feed_forward_length"),
        ({"llama__attention__head_count": 0}, "head_count is 0"),
        ({"llama__context_length": "long"}, "context_length is 'long'"),
        ({"tokenizer__ggml__eos_token_id": 1 << 30}, "eos_token_id is"),
        ({"tokenizer__ggml__merges": ["neither here"]}, "'neither here'"),
        ({"tokenizer__ggml__token_type": [1, 1]}, "does not fit"),
    ],
)
def test_promises_that_the_weights_do_not_keep_are_refused_before_anything_is_allocated(
    keys: dict[str, Any], said: str, tmp_path: Path
) -> None:
    assert said in refused(variant(tmp_path, **keys), task="feature-extraction").message


def test_counts_that_lie_are_refused(llama: Path, tmp_path: Path) -> None:
    header, path = llama.read_bytes()[:16], tmp_path / "lies.gguf"
    path.write_bytes(header + (2**63).to_bytes(8, "little") + b"\xff" * 64)
    assert "truncated" in refused(path).message
    path.write_bytes(header[:8] + (2**62).to_bytes(8, "little") + (0).to_bytes(8, "little"))
    assert "entries that it promises" in refused(path).message


def test_a_table_of_characters_that_leads_out_of_itself_is_refused(tmp_path: Path) -> None:
    """The library of tokenizers would follow it and abort."""
    size = 1024
    for unit in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff"):
        table = size.to_bytes(4, "little") + unit * (size // 4) + b"a\0"
        values = [byte - 256 if byte > 127 else byte for byte in table]
        keys = {"tokenizer.ggml.precompiled_charsmap": values}
        path = gguf_files.write(tmp_path / "t5.gguf", gguf_files.t5(), "t5", more=keys)
        found = inspect_source(path, ExportOptions())
        assert isinstance(found, GgufSource)
        with pytest.raises(SourceError, match="leads out of itself"):
            found.load(ExportOptions(), tmp_path / "processor")


def test_any_bit_of_the_header_may_be_wrong_and_the_error_has_a_name(llama: Path, tmp_path: Path) -> None:
    whole = llama.read_bytes()
    size = len(whole) - sum(tensor.bytes for tensor in read_header(llama).tensors.values())
    path, drawn = tmp_path / "bits.gguf", random.Random(0)
    refusals = 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[drawn.randrange(size)] ^= 1 << drawn.randrange(8)
        path.write_bytes(changed)
        try:
            inspect_source(path, FEATURES)
        except EdgekitError as problem:
            refusals += 1
            assert problem.hint
    assert refusals > 100


def test_the_command_ends_with_2_and_no_traceback(edgekit: Edgekit, llama: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(llama.read_bytes()[:20_000])
    done = edgekit("export", path, "-o", tmp_path / "model", "--task", "feature-extraction")
    assert done.returncode == 2
    assert "truncated" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()
