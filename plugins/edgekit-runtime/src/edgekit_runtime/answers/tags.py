"""tags: a tag for each word of a text, and the entities that the tags mark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit_runtime.answers.base import TAGS, Asked, Decision
from edgekit_runtime.answers.outputs import (
    attended,
    class_words,
    context_of,
    logits_name,
    one_line,
    one_row,
    output,
    own_tokens,
    softmax,
    trimmed,
)
from edgekit_runtime.errors import RunFailed
from edgekit_runtime.processors.base import TextContext, Words
from edgekit_runtime.session import Array

OUTSIDE = "O"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """Words of one entity. start, end: in characters of the text; score: mean over its words."""

    label: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagging:
    """A tag for each word. entities: of a text as written; () for a row that came as words."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    entities: tuple[Entity, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """A word that the model saw. start, end: in characters of the text."""

    tag: str
    score: float
    start: int
    end: int


_FORMS: Mapping[str, Callable[[Any], Any]] = {TAGS: lambda answer: answer.tags}


class Tags:
    """The tag of a word is the likeliest of its first token.

    A word without a token (cut off with the end of a long row, or of nothing that the tokenizer
    keeps) is given "O", or the first label where no label is called so.
    """

    name = "tags"
    every = False
    forms = _FORMS

    def read(self, asked: Asked) -> Tagging:
        """A tag for each word of the row; of a text as written, for each word that the model saw."""
        entry = asked.only
        context = context_of(entry, TextContext)
        name = logits_name(entry.outputs)
        logits = own_tokens(one_row(entry.outputs, name, ("tokens", "labels")), context, name)
        labels = class_words(asked.labels, logits.shape[1], name)
        if isinstance(context.row, tuple):
            raise RunFailed("tags are given to the words of one text, not of a pair")
        seen = _seen(context, softmax(logits), labels)
        if isinstance(context.row, Words):
            outside = OUTSIDE if OUTSIDE in labels else labels[0]
            places = range(len(context.row.words))
            tags = tuple(seen[place].tag if place in seen else outside for place in places)
            return Tagging(words=context.row.words, tags=tags)
        text = context.row
        words = [word for _, word in sorted(seen.items()) if word.start < word.end]
        return Tagging(
            words=tuple(text[word.start : word.end] for word in words),
            tags=tuple(word.tag for word in words),
            entities=_entities(text, words),
        )

    def decisions(self, outputs: Mapping[str, Array], feeds: Mapping[str, Array]) -> Sequence[Decision]:
        """The tag of each token that is no padding."""
        logits = output(outputs, logits_name(outputs), ("rows", "tokens", "labels"))
        return (Decision(scores=logits, counts=attended(feeds, logits.shape[:2])),)

    def json(self, answer: Tagging) -> object:
        """words, tags, entities."""
        entities = [
            {
                "label": entity.label,
                "text": entity.text,
                "start": entity.start,
                "end": entity.end,
                "score": entity.score,
            }
            for entity in answer.entities
        ]
        return {"words": list(answer.words), "tags": list(answer.tags), "entities": entities}

    def text(self, answer: Tagging) -> str:
        """Entities with their probabilities; words with their tags where there are none."""
        if answer.entities:
            return "\t".join(f"{one.label} {one_line(one.text)} {one.score:.2f}" for one in answer.entities)
        pairs = zip(answer.words, answer.tags, strict=True)
        return "\t".join(f"{one_line(word)}/{tag}" for word, tag in pairs)


def _seen(context: TextContext, scores: Array, labels: Sequence[str]) -> dict[int, _Word]:
    """Word's place in its text -> the word, for those that have a token."""
    tokens: dict[int, list[int]] = {}
    for token, word in enumerate(context.words):
        if word is not None:
            tokens.setdefault(word, []).append(token)
    found = {}
    for word, own in tokens.items():
        best = int(np.argmax(scores[own[0]]))
        start, end = context.offsets[own[0]][0], context.offsets[own[-1]][1]
        if isinstance(context.row, str):
            start, end = trimmed(context.row, start, end)
        found[word] = _Word(
            tag=labels[best],
            score=float(scores[own[0], best]),
            start=start,
            end=end,
        )
    return found


def _entities(text: str, words: Sequence[_Word]) -> tuple[Entity, ...]:
    """Successive words of one label. "B-" begins an entity, "I-" or no prefix goes on with one."""
    groups: list[list[_Word]] = []
    before = ""
    for word in words:
        label = "" if word.tag == OUTSIDE else _label(word.tag)
        if label and label == before and not word.tag.startswith("B-"):
            groups[-1].append(word)
        elif label:
            groups.append([word])
        before = label
    return tuple(
        Entity(
            label=_label(group[0].tag),
            text=text[group[0].start : group[-1].end],
            start=group[0].start,
            end=group[-1].end,
            score=sum(word.score for word in group) / len(group),
        )
        for group in groups
    )


def _label(tag: str) -> str:
    return tag[2:] if tag.startswith(("B-", "I-")) else tag
