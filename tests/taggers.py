"""A tagger that is trained in seconds: the tag of a name hangs on the words around it."""

from __future__ import annotations

import random
from pathlib import Path

from edgekit.exporting.quiet import kept_environment
from tests.models import tiny_model

TAGS = ("O", "B-PER", "I-PER", "B-LOC")
#: Names that are a person's after "mr" and a place's after "in".
NAMES = ("paris", "lincoln", "sydney", "georgia", "austin", "florence", "chelsea", "london")
_FILLERS = ("the good people", "a bad report", "music", "not the lamp", "water")
Tagged = tuple[list[str], list[str]]


def tagged_sentences(count: int, seed: int) -> list[Tagged]:
    """Words and their tags, one for each."""
    draw = random.Random(seed)
    return [_sentence(draw) for _ in range(count)]


def _sentence(draw: random.Random) -> Tagged:
    parts = draw.sample([_person(draw), _place(draw), _filler(draw), _filler(draw)], k=3)
    return [word for words, _ in parts for word in words], [tag for _, tags in parts for tag in tags]


def _person(draw: random.Random) -> Tagged:
    names = draw.sample(NAMES, k=draw.choice((1, 2)))
    return ["mr", *names, "is"], ["O", *("B-PER", "I-PER")[: len(names)], "O"]


def _place(draw: random.Random) -> Tagged:
    return ["train", "in", draw.choice(NAMES)], ["O", "O", "B-LOC"]


def _filler(draw: random.Random) -> Tagged:
    words = draw.choice(_FILLERS).split()
    return words, ["O"] * len(words)


@kept_environment()
def trained_tagger(folder: Path, steps: int = 200) -> Path:
    """A BertForTokenClassification in `folder` that has learned these sentences, in one thread."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    tiny_model(
        folder, "Bert", "ForTokenClassification", TAGS, max_position_embeddings=130, initializer_range=0.05
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    rows = tagged_sentences(800, seed=1)
    draw = random.Random(2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two are slower at this size
    for _ in range(steps):
        batch = draw.sample(rows, k=32)
        encoded = tokenizer(
            [words for words, _ in batch], is_split_into_words=True, padding=True, return_tensors="pt"
        )
        labels = torch.tensor([_targets(encoded.word_ids(at), tags) for at, (_, tags) in enumerate(batch)])
        optimizer.zero_grad()
        model(**encoded, labels=labels).loss.backward()
        optimizer.step()
    torch.set_num_threads(threads)
    model.eval().save_pretrained(folder)
    return folder


def _targets(words: list[int | None], tags: list[str]) -> list[int]:
    """The tag of each word's first token; -100, which no loss counts, for the others."""
    first = [word is not None and words.index(word) == at for at, word in enumerate(words)]
    return [
        TAGS.index(tags[word]) if is_first and word is not None else -100
        for word, is_first in zip(words, first, strict=True)
    ]
