"""The processor that travels reads every text as transformers does, or the export fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import ExportWrong, SourceError
from edgekit.exporting.processor import choose_max_length, text_inputs, travelling_processor
from edgekit.exporting.texts import TRICKY
from edgekit_runtime.processors import load_processor

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def test_the_device_reads_all_tricky_texts_as_transformers_does(tokenizer: Any, tmp_path: Path) -> None:
    travelling_processor(tokenizer, INPUTS, 64, tmp_path / "processor")
    processor = load_processor(tmp_path / "processor")
    for row in TRICKY:
        texts = (row, None) if isinstance(row, str) else row
        expected = tokenizer(*texts, truncation=True, max_length=64)
        for name, array in processor.feeds([row]).items():
            assert array.tolist() == [expected[name]], row


def test_parity_cases_travel_and_hold(tokenizer: Any, tmp_path: Path) -> None:
    travelling_processor(tokenizer, INPUTS, 64, tmp_path / "processor")
    assert load_processor(tmp_path / "processor").check_parity() >= 30


class Stripping:
    """A tokenizer whose Python code changes texts before the part that travels sees them."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, text: list[str], text_pair: list[str] | None = None, **settings: Any) -> Any:
        return self._inner([part.replace("👍🏽", "good") for part in text], text_pair, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_a_tokenizer_with_python_code_of_its_own_is_found_out(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportWrong, match="Great 👍🏽 stuff") as caught:
        travelling_processor(Stripping(tokenizer), INPUTS, 64, tmp_path / "processor")
    assert "input_ids differs first in row 0, token" in caught.value.message


def test_a_batch_that_is_padded_differently_is_found_out(tokenizer: Any, tmp_path: Path) -> None:
    class Left(Stripping):
        def __call__(self, text: list[str], text_pair: list[str] | None = None, **settings: Any) -> Any:
            return self._inner(text, text_pair, padding_side="left", **settings)

    with pytest.raises(ExportWrong, match="a padded batch"):
        travelling_processor(Left(tokenizer), INPUTS, 64, tmp_path / "processor")


def test_a_tokenizer_without_padding_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.pad_token = None
    with pytest.raises(SourceError, match="no padding token"):
        travelling_processor(tokenizer, INPUTS, 64, tmp_path / "processor")


def test_a_python_only_tokenizer_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    class Slow(Stripping):
        is_fast = False

    with pytest.raises(SourceError, match="cannot travel"):
        travelling_processor(Slow(tokenizer), INPUTS, 64, tmp_path / "processor")


def test_settings_that_transformers_holds_elsewhere_travel(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.padding_side = tokenizer.truncation_side = "left"
    travelling_processor(tokenizer, ("input_ids", "attention_mask"), 16, tmp_path / "processor")
    settings = json.loads((tmp_path / "processor" / "processor.json").read_text())
    assert settings["padding_side"] == settings["truncation_side"] == "left"
    assert (settings["max_length"], settings["inputs"]) == (16, ["input_ids", "attention_mask"])


def test_inputs_are_those_that_tokenizer_and_model_share(tokenizer: Any) -> None:
    assert text_inputs(tokenizer, ("attention_mask", "input_ids", "labels")) == (
        "input_ids",
        "attention_mask",
    )
    with pytest.raises(SourceError, match="input_ids"):
        text_inputs(tokenizer, ("pixel_values",))


def test_the_longest_row_is_what_tokenizer_and_model_both_take(tokenizer: Any) -> None:
    assert choose_max_length(tokenizer, 512, None) == 64
    assert choose_max_length(tokenizer, 32, None) == 32
    assert choose_max_length(tokenizer, 512, 20) == 20
    tokenizer.model_max_length = int(1e30)
    assert choose_max_length(tokenizer, 128, None) == 128
    assert choose_max_length(tokenizer, None, None) == 512
    with pytest.raises(SourceError, match="128 positions"):
        choose_max_length(tokenizer, 128, 129)
