"""`auto` takes the fastest precision that is right, the smallest of those that are as fast."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import edgekit.stages.compiling.speed as speed
from edgekit.host.reference import open_reference
from edgekit.stages.compile import CompileOptions, compile_model
from edgekit.stages.compiling.speed import Candidate
from edgekit.stages.parents import table_of
from edgekit.values import (
    ArtifactTable,
    Change,
    CompileSettings,
    DiffFigure,
    DiffMethod,
    Interval,
    Match,
    Target,
    Workload,
)
from tests.plugin_folders import install_plugin
from tests.stages.averaging import SIGNATURE, averaging_model
from tests.stages.words import IDS, WORDS

#: Every precision is the model as it is beside some bytes, so that sizes differ as they do in engines.
PRECISE = """
from dataclasses import replace
from edgekit_example import compiler as good, session as good_session

SPEC = dict(
    arches=("x86_64", "AMD64", "aarch64", "arm64"),
    precisions=("fp32", "fp16", "bf16", "int8", "int8-weights"),
    capabilities=("dynamic-shapes", "placement"),
)
BYTES = {"fp32": 4 << 20, "bf16": 4 << 20, "fp16": 2 << 20, "int8": 1 << 20, "int8-weights": 1 << 20}
WRONG = dict()

class Compiler(good.Compiler):
    def compile(self, request, progress):
        built = super().compile(replace(request, precision="fp32"), progress)
        (request.workdir / "weights.bin").write_bytes(bytes(BYTES[request.precision]))
        return replace(built, precision=request.precision, files=(*built.files, "weights.bin"))

def open(request):
    return Precise(good_session.open_session(replace(request, precision="fp32")), request.precision)

class Precise:
    def __init__(self, inner, precision): self.inner, self.precision = inner, precision
    signature = property(lambda self: self.inner.signature)
    def run(self, feeds):
        found = self.inner.run(feeds)
        wrong = WRONG.get(self.precision, "never")
        if wrong == "always" or wrong == feeds["input_ids"].shape[1]:
            return {name: -value for name, value in found.items()}
        return found
    def placement(self):
        found = self.inner.placement()
        return replace(found, rows=tuple(replace(row, precision=self.precision) for row in found.rows))
    def profile(self): return ()
    def close(self): self.inner.close()
"""
CAPABLE = Target(name="capable", match=Match(isa=("avx2", "avx512_bf16")), workload=Workload(sequence=8))
#: Words of a row that has 9 tokens, as no golden has.
ROW_WORDS = 7


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return averaging_model(tmp_path_factory.mktemp("choosing") / "model")


@pytest.fixture
def auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> functools.partial[CompileOptions]:
    install_plugin(monkeypatch, tmp_path, "precise", PRECISE)
    return functools.partial(
        CompileOptions, backend="precise", precision="auto", target=CAPABLE, max_seconds=0.0
    )


def _times(monkeypatch: pytest.MonkeyPatch, ratios: Mapping[str, float]) -> None:
    """Let each precision take so many times as long as fp32, give or take 0.02."""

    def compared(low: Candidate, *asked: object) -> DiffFigure:
        ratio = ratios[low.precision]
        return DiffFigure(
            key="latency_p50",
            unit="ms",
            change=Change.FASTER if ratio < 1 else Change.SLOWER,
            ratio=Interval(estimate=ratio, low=ratio - 0.02, high=ratio + 0.02),
            method=DiffMethod.PAIRED,
        )

    monkeypatch.setattr(speed, "compare_speed", compared)


def _few_launches(monkeypatch: pytest.MonkeyPatch, ratios: Mapping[str, float]) -> None:
    """Let each precision seem to take so many times as long as fp32, and nothing of it be proven."""

    def compared(low: Candidate, *asked: object) -> DiffFigure:
        ratio = Interval(estimate=ratios[low.precision])
        return DiffFigure(key="latency_p50", unit="ms", change=Change.UNPROVEN, ratio=ratio)

    monkeypatch.setattr(speed, "compare_speed", compared)


def _built(model: Path, output: Path, options: CompileOptions) -> ArtifactTable:
    return table_of(compile_model(model, output, options).manifest.artifact)


def test_the_fastest_is_taken_though_it_is_larger(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    _times(monkeypatch, {"int8": 0.6, "bf16": 0.4})
    table = _built(model, tmp_path / "a", auto())
    assert table.precision == table.recipe.precision == "bf16"
    assert (tmp_path / "a" / "weights.bin").stat().st_size == 4 << 20
    assert "int8 was right too, and is slower: it takes 0.60x as long as fp32, bf16 0.40x" in table.notes


def test_of_those_as_fast_the_smallest_is_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    _times(monkeypatch, {"int8": 0.42, "bf16": 0.4})
    table = _built(model, tmp_path / "a", auto())
    assert table.precision == "int8"
    assert any(note.startswith("bf16 was right too, and is not taken: ") for note in table.notes)


def test_what_looks_slower_than_fp32_is_not_taken_though_it_is_not_proven(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    _few_launches(monkeypatch, {"int8": 1.17, "bf16": 1.2, "int8-weights": 1.06})
    table = _built(model, tmp_path / "a", auto())
    assert table.precision == "fp32"
    assert any(
        note.startswith("int8 was not kept: it looks slower than fp32") and "--max-seconds" in note
        for note in table.notes
    )


def test_what_looks_as_fast_as_fp32_is_taken_for_its_size(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    _few_launches(monkeypatch, {"int8": 1.04, "bf16": 1.2})
    assert _built(model, tmp_path / "a", auto()).precision == "int8"


def test_of_two_that_nothing_is_proven_of_the_one_that_looks_slower_is_not_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    install_plugin(monkeypatch, tmp_path, "compact", PRECISE + "\nBYTES['bf16'] = 2 << 20\n")
    _few_launches(monkeypatch, {"int8": 0.9, "bf16": 0.5})
    table = _built(model, tmp_path / "a", auto(backend="compact"))
    assert table.precision == "bf16"
    assert any(note.startswith("int8 was right too, and looks slower: ") for note in table.notes)


def test_where_speed_was_not_compared_the_smallest_is_taken(
    model: Path, tmp_path: Path, auto: functools.partial[CompileOptions]
) -> None:
    assert _built(model, tmp_path / "a", auto()).precision == "int8"


def test_the_fastest_is_left_when_it_is_wrong(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    install_plugin(monkeypatch, tmp_path, "wrong", PRECISE + "\nWRONG = {'bf16': 'always'}\n")
    _times(monkeypatch, {"int8": 0.6, "bf16": 0.4})
    table = _built(model, tmp_path / "a", auto(backend="wrong"))
    assert table.precision == "int8"
    assert any("bf16 was not kept" in note and "disagrees with the model" in note for note in table.notes)


def test_16_bits_are_not_tried_where_the_target_names_no_feature_for_them(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    _times(monkeypatch, {"int8": 0.6})
    target = Target(name="plain", match=Match(isa=("avx2",)))
    table = _built(model, tmp_path / "a", auto(target=target))
    assert table.precision == "int8"
    for word, feature in (("bf16", "avx512_bf16"), ("fp16", "avx512_fp16")):
        assert any(note.startswith(f"{word} was not tried") and feature in note for note in table.notes)


def test_a_target_forbids_what_auto_may_not_take(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    _times(monkeypatch, {"int8": 0.6})
    target = Target(name="strict", match=CAPABLE.match, compile=CompileSettings(auto=("int8",)))
    table = _built(model, tmp_path / "a", auto(target=target))
    assert table.precision == "int8"
    assert "bf16 was not tried: target 'strict' lets auto take int8 alone" in table.notes


def test_16_bits_beyond_the_accuracy_budget_are_not_taken(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auto: functools.partial[CompileOptions]
) -> None:
    install_plugin(monkeypatch, tmp_path, "lossy", PRECISE + f"\nWRONG = {{'bf16': {ROW_WORDS + 2}}}\n")
    _times(monkeypatch, {"int8": 0.6, "bf16": 0.4})
    rows = _labelled(model, tmp_path / "tune.jsonl", count=60)
    asked = auto(backend="lossy", tune_data=rows, budget=("accuracy_drop=2",))
    table = _built(model, tmp_path / "a", asked)
    assert table.precision == "int8"
    wrong = "bf16 was not kept: bf16: the accuracy is not within its budget; the drop is "
    assert any(note.startswith(wrong) for note in table.notes)


def _labelled(model: Path, path: Path, count: int) -> Path:
    """Rows with what the model itself answers, so that every other answer is one lost."""
    drawn = itertools.islice(itertools.permutations(WORDS[5:], ROW_WORDS), 0, 200 * count, 200)
    texts = list(drawn)
    feeds = [
        {"input_ids": np.array([[IDS["[CLS]"], *map(IDS.__getitem__, words), IDS["[SEP]"]]], np.int64)}
        for words in texts
    ]
    with open_reference(model / "model.onnx", SIGNATURE) as session:
        answers = [int(found["logits"].argmax()) for found in session.run_many(feeds)]
    lines = [
        json.dumps({"text": " ".join(words), "label": ("negative", "positive")[answer]})
        for words, answer in zip(texts, answers, strict=True)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
