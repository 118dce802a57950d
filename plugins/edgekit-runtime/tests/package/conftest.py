"""A small real package, made without edgekit, and a backend for it on numpy alone."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgekit_runtime.goldens import Golden, write_goldens
from edgekit_runtime.manifests import FileEntry, files_digest
from edgekit_runtime.package_info import BudgetLine, PackageInfo, PackageTable, info_to_bytes
from edgekit_runtime.processors import ParityCase, TextSettings, write_text_processor
from edgekit_runtime.values import Signature, TensorSpec, Tolerance

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "fine", "good", "film", "bad", "dull"]
INPUTS = ("input_ids", "attention_mask")

ENGINE = '''
import numpy as np
from safetensors.numpy import load_file

from edgekit_runtime.errors import OpenFailed
from edgekit_runtime.values import Placement, PlacementRow, Signature, TensorSpec


class ToySession:
    """The mean of word scores: a classifier that is right about four words. Options change what it gives."""

    def __init__(self, request):
        path = request.directory / "weights.safetensors"
        if request.options.get("refuse"):
            raise OpenFailed("the toy engine was told to refuse")
        if request.options.get("crash"):
            raise KeyError("a bug in the toy engine")
        self.table = load_file(path)["words"]
        self.request = request
        batch, tokens = request.options.get("batch", "batch"), request.options.get("tokens", "sequence")
        self.output = request.options.get("output", "logits")
        inputs = tuple(TensorSpec(name=name, dtype="int64", shape=(batch, tokens)) for name in NAMES)
        if request.options.get("sees"):
            inputs = (TensorSpec(name="pixel_values", dtype="float32", shape=(batch, 3, 8, 8)),)
        if request.options.get("hears"):
            inputs = (TensorSpec(name="input_values", dtype="float32", shape=(batch, tokens)), inputs[1])
        self.signature = Signature(
            inputs=inputs, outputs=(TensorSpec(name=self.output, dtype="float32", shape=(batch, 2)),)
        )

    def run(self, feeds):
        for spec in self.signature.inputs:
            assert all(w in (s, str(w)) for w, s in zip(spec.shape, feeds[spec.name].shape))
        if self.request.options.get("interrupt"):
            raise KeyboardInterrupt
        if "pixel_values" in feeds:
            light = feeds["pixel_values"].mean(axis=(1, 2, 3))
            return {self.output: np.stack([-light, light], axis=1).astype(np.float32)}
        if "input_values" in feeds:
            loud = (feeds["input_values"] ** 2).sum(axis=1) / feeds["attention_mask"].sum(axis=1) - 0.1
            return {self.output: np.stack([-loud, loud], axis=1).astype(np.float32)}
        words = self.table[feeds["input_ids"]]
        if self.output == "span":
            return {"start_logits": words[..., 0], "end_logits": words[..., 1]}
        if self.output == "tokens":
            return {"logits": words}
        if self.output == "next":  # the next word of the vocabulary stands at each place
            following = np.roll(np.eye(len(self.table), dtype=np.float32), 1, axis=1)
            return {"logits": following[feeds["input_ids"]]}
        mask = feeds["attention_mask"][..., None].astype(np.float32)
        drift = np.array([[1, -1]], np.float32) * np.float32(self.request.options.get("drift", 0.0))
        return {self.output: (words * mask).sum(axis=1) / mask.sum(axis=1) + drift}

    def placement(self):
        return Placement(rows=(PlacementRow(precision="fp32", device="cpu", nodes=1),), source="known")

    def profile(self):
        return ()

    def close(self):
        (self.request.directory / "closed").touch()


NAMES = ("input_ids", "attention_mask")
'''

SIGNATURE = Signature(
    inputs=tuple(TensorSpec(name=name, dtype="int64", shape=("batch", "sequence")) for name in INPUTS),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
)

TABLE = PackageTable(
    backend="toy",
    backend_version="1.0",
    precision="fp32",
    task="text-classification",
    answers="classification",
    signature=SIGNATURE,
    tolerance=Tolerance(atol=1e-5, rtol=1e-5),
    verdict="PASS",
    confidence=0.99,
    labels=("negative", "positive"),
    budget=(BudgetLine(key="latency_p90_ms", limit=20.0, unit="ms", outcome="PASS"),),
)


def weights() -> np.ndarray:
    table = np.zeros((len(WORDS), 2), np.float32)
    for word, score in {"fine": 3.0, "good": 5.0, "bad": -4.0, "dull": -2.0}.items():
        table[WORDS.index(word)] = (-score, score)
    return table


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a package is made of; `write` puts it into one zip, honest unless told otherwise."""

    files: Mapping[str, bytes]
    table: PackageTable = TABLE
    manifest: bytes | None = None
    extra: Mapping[str, bytes] = field(default_factory=dict)

    def info(self) -> PackageInfo:
        entries = tuple(
            FileEntry(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in sorted(self.files.items())
        )
        return PackageInfo(
            name="toy",
            created="2026-01-01T00:00:00+00:00",
            edgekit="0.1.0",
            digest=files_digest(entries),
            inputs=(),
            files=entries,
            table=self.table,
        )

    def zip(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            manifest = info_to_bytes(self.info()) if self.manifest is None else self.manifest
            archive.writestr("manifest.json", manifest)
            for path, data in {**self.files, **self.extra}.items():
                compression = zipfile.ZIP_DEFLATED if path.endswith(".json") else zipfile.ZIP_STORED
                archive.writestr(zipfile.ZipInfo(path), data, compression)
        return buffer.getvalue()

    def write(self, path: Path) -> Path:
        path.write_bytes(self.zip())
        return path

    def with_options(self, **options: str | int | float | bool) -> Parts:
        return replace(self, table=replace(self.table, options=options))

    def answering(self, answers: str, *, labels: tuple[str, ...] = (), **options: str | int | bool) -> Parts:
        """The same words, read as another kind of answers; options: what the engine is to give."""
        table = replace(self.table, answers=answers, task=answers, labels=labels, options=options)
        return replace(self, table=table)

    def with_file(self, path: str, data: bytes) -> Parts:
        return replace(self, files={**self.files, path: data})


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """The parts of an honest package."""
    home = tmp_path_factory.mktemp("parts")
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    processor = write_text_processor(
        home / "processor",
        tokenizer=tokenizer.to_str().encode(),
        settings=TextSettings(inputs=INPUTS, max_length=16),
        parity=[ParityCase(row="a fine film", input_ids=(2, 4, 5, 7, 3))],
    )
    cases = []
    for rows in (("a fine film",), ("a bad film", "good"), ("dull dull dull dull",)):
        feeds = processor.feeds(rows)
        mask = feeds["attention_mask"][..., None].astype(np.float32)
        logits = (weights()[feeds["input_ids"]] * mask).sum(axis=1) / mask.sum(axis=1)
        cases.append(Golden(name=rows[0], feeds=feeds, outputs={"logits": logits}, rows=rows))
    write_goldens(home / "golden", cases)
    files = {
        path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()
    }
    return Parts(files={"artifact/weights.safetensors": save({"words": weights()}), **files})


@pytest.fixture(scope="session")
def toy_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an installed backend "toy" in it."""
    site = tmp_path_factory.mktemp("site")
    (site / "toy_engine.py").write_text(ENGINE)
    info = site / "edgekit_toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edgekit-toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[edgekit.openers]\ntoy = toy_engine:ToySession\n")
    return site


@pytest.fixture
def toy(toy_site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend "toy" is installed."""
    monkeypatch.syspath_prepend(str(toy_site))


@pytest.fixture
def package(parts: Parts, tmp_path: Path) -> Path:
    """An honest package on disk."""
    return parts.write(tmp_path / "toy.edgekit")


@pytest.fixture
def unpack_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Sends temporary directories below a new folder; call it to see what is in there."""
    home = tmp_path / "tmp"
    home.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(home))
    return lambda: sorted(path.name for path in home.iterdir())


@pytest.fixture
def words() -> np.ndarray:
    """The score of each word for each label: the weights of the model in the package."""
    return weights()
