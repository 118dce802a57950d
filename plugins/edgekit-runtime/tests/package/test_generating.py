"""Packages of several graphs answer in text and prove themselves; none opens with a part missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from edgekit_runtime.__main__ import main
from edgekit_runtime.errors import ManifestError, OpenFailed, SelfTestFailed
from edgekit_runtime.generation import GenerationSettings
from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.pipelines import ENCODER_DECODER, PIPELINE_FILE, Pipeline, write_pipeline
from edgekit_runtime.processors import ParityCase, TextSettings, write_text_processor
from edgekit_runtime.reader import open_package
from edgekit_runtime.values import Signature, TensorSpec

WORDS = ["[PAD]", "[UNK]", "[START]", "[END]", "a", "fine", "good", "film", "bad", "dull"]
INPUTS = ("input_ids", "attention_mask")
SOURCE = Path(__file__).parents[1] / "toys" / "speller.py"
SIGNATURE = Signature(
    inputs=tuple(TensorSpec(name=name, dtype="int64", shape=("batch", "sequence")) for name in INPUTS),
    outputs=(
        TensorSpec(name="tokens", dtype="int64", shape=("batch", "generated")),
        TensorSpec(name="scores", dtype="float32", shape=("batch", "generated", 2)),
    ),
)


@pytest.fixture(autouse=True)
def speller(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend "speller" is installed."""
    site = tmp_path_factory.mktemp("site")
    (site / "speller_engine.py").write_bytes(SOURCE.read_bytes())
    info = site / "edgekit_speller-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgekit-speller\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgekit.openers]\nspeller = speller_engine:Part\n")
    monkeypatch.syspath_prepend(str(site))


@pytest.fixture
def spelling(parts, tmp_path: Path):
    """The parts of a package that gives a text back, word by word."""
    home = tmp_path / "spelling"
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(WORDS[:4])
    processor = write_text_processor(
        home / "processor",
        tokenizer=tokenizer.to_str().encode(),
        settings=TextSettings(inputs=INPUTS, max_length=16),
        parity=[ParityCase(row="a fine film", input_ids=(4, 5, 7))],
    )
    for part in ("encoder", "decoder"):
        (home / "artifact" / part).mkdir(parents=True)
        (home / "artifact" / part / "part.txt").write_text(part)
    settings = GenerationSettings(start=(2,), end=(3,), pad=0, max_tokens=8)
    pipeline = Pipeline(kind=ENCODER_DECODER, parts=("encoder", "decoder"), generation=settings)
    write_pipeline(home / "artifact", pipeline)
    leading = np.zeros(10)
    leading[5] = 4
    both = np.sort(leading - np.log(np.exp(leading).sum()))[::-1][:2]
    goldens = []
    for rows in (("a fine film",), ("bad film", "good")):
        feeds = processor.feeds(rows)
        lengths = feeds["attention_mask"].sum(axis=1) + 1
        live = np.arange(lengths.max()) < lengths[:, None]
        tokens = np.where(live, 3, 0)
        tokens[:, :-1] += np.where(feeds["attention_mask"] == 1, feeds["input_ids"] - 3, 0)
        scores = np.where(live[..., None], both, 0).astype(np.float32)
        goldens.append(
            Golden(name=rows[0], feeds=feeds, outputs={"tokens": tokens, "scores": scores}, rows=rows)
        )
    write_goldens(home / "golden", goldens)
    files = {
        path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()
    }
    table = replace(
        parts.table,
        backend="speller",
        answers="text",
        task="text2text-generation",
        labels=(),
        signature=SIGNATURE,
    )
    return replace(parts, files=files, table=table)


@pytest.mark.parametrize("shape", [{}, {"batch": 2, "length": 6}])
def test_a_row_is_answered_in_text(spelling, tmp_path: Path, shape: dict[str, int]) -> None:
    with open_package(spelling.with_options(**shape).write(tmp_path / "p.edgekit")) as package:
        assert package.predict(["good fine film", "a", "dull unheard film"]) == [
            "good fine film",
            "a",
            "dull film",
        ]


def test_it_proves_itself_on_its_goldens(spelling, tmp_path: Path) -> None:
    with open_package(spelling.write(tmp_path / "p.edgekit")) as package:
        judged = package.self_test()
    assert (judged.cases, judged.agreeing, judged.passed, judged.reason) == (2, 2, True, "")
    assert judged.max_abs_error < 1e-5


def test_goldens_of_other_shapes_than_the_artifact_takes_are_left_out(spelling, tmp_path: Path) -> None:
    with open_package(spelling.with_options(batch=2, length=2).write(tmp_path / "p.edgekit")) as package:
        judged = package.self_test()
    assert (judged.cases, judged.reason) == (1, "1 goldens have other shapes than the artifact takes")


def test_other_tokens_on_this_device_fail_the_self_test(spelling, tmp_path: Path) -> None:
    with (
        open_package(spelling.with_options(mix=9.0).write(tmp_path / "p.edgekit")) as package,
        pytest.raises(SelfTestFailed, match=r"golden 'a fine film': token \d of row 0 is"),
    ):
        package.self_test()


def test_the_command_line_prints_the_text_and_its_row(
    spelling, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(spelling.write(tmp_path / "p.edgekit"))
    assert main(["run", path, "A good FILM"]) == 0
    assert capsys.readouterr().out == "a good film\tA good FILM\n"
    assert main(["run", path, "bad", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answers"], found["predictions"]) == ("text", [{"row": "bad", "prediction": "bad"}])
    assert main(["verify", path]) == 0
    assert "goldens   2 of 2 agree" in capsys.readouterr().out


def test_a_package_whose_pipeline_leads_outside_opens_no_session(spelling, tmp_path: Path) -> None:
    value = json.loads(spelling.files[f"artifact/{PIPELINE_FILE}"])
    outside = json.dumps({**value, "parts": ["encoder", "../golden"]}).encode()
    hostile = spelling.with_file(f"artifact/{PIPELINE_FILE}", outside)
    with (
        open_package(hostile.write(tmp_path / "p.edgekit")) as package,
        pytest.raises(ManifestError, match="is refused"),
    ):
        package.session  # noqa: B018


def test_a_package_without_one_of_its_parts_opens_no_session(spelling, tmp_path: Path) -> None:
    files = {path: data for path, data in spelling.files.items() if "/decoder/" not in path}
    with (
        open_package(replace(spelling, files=files).write(tmp_path / "p.edgekit")) as package,
        pytest.raises(OpenFailed, match="lacks its part 'decoder'"),
    ):
        package.session  # noqa: B018


def test_goldens_hold_what_the_judge_reads(spelling) -> None:
    tensors = load(spelling.files["golden/golden.safetensors"])
    assert tensors["001/output/tokens"].tolist() == [[8, 7, 3], [6, 3, 0]]
    assert tensors["001/output/scores"].shape == (2, 3, 2)
