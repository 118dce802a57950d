"""The vocabulary of a model with a CTC head: what text its ids stand for.

vocabulary.json    {"schema": 1, "tokens": ["a", null, " ", ...], "lower_case": false, "clean_up": false}

A token's place is its id; null is a token that no text shows, the blank among them; the token between
words is a space already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit_runtime.errors import ProcessorError
from edgekit_runtime.processors.base import PROCESSOR_SCHEMA
from edgekit_runtime.strictjson import Fields, check_schema, dump_json, read_json_file

VOCABULARY_FILE = "vocabulary.json"

_KEYS = ("schema", "tokens", "lower_case", "clean_up")
#: How transformers tidies the spaces of English, for tokenizers that ask for it; in this order.
TIDIED = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """tokens: the text of each id, None where there is none; lower_case: of the whole text at last;
    clean_up: take spaces before punctuation out."""

    tokens: tuple[str | None, ...]
    lower_case: bool = False
    clean_up: bool = False

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, of which repetitions are merged already; ids beyond the vocabulary have none."""
        known = [self.tokens[place] for place in ids if 0 <= place < len(self.tokens)]
        text = "".join(token for token in known if token is not None).strip()
        if self.lower_case:
            text = text.lower()
        if self.clean_up:
            for found, tidy in TIDIED:
                text = text.replace(found, tidy)
        return text


def write_vocabulary(directory: Path, vocabulary: Vocabulary) -> None:
    """Write it into a processor directory."""
    table = {
        "schema": PROCESSOR_SCHEMA,
        "tokens": list(vocabulary.tokens),
        "lower_case": vocabulary.lower_case,
        "clean_up": vocabulary.clean_up,
    }
    (directory / VOCABULARY_FILE).write_bytes(dump_json(table))


def read_vocabulary(directory: Path) -> Vocabulary | None:
    """The vocabulary of a processor directory, None when it has none. Raises `ProcessorError`."""
    path = directory / VOCABULARY_FILE
    if not path.exists():
        return None
    value = read_json_file(path, error=ProcessorError)
    check_schema(value, PROCESSOR_SCHEMA, where=str(path), error=ProcessorError)
    fields = Fields(value, known=_KEYS, where=str(path), error=ProcessorError)
    tokens = fields.items("tokens")
    texts = tuple(token for token in tokens if token is None or isinstance(token, str))
    if len(texts) != len(tokens) or not texts:
        raise ProcessorError(f"{path}: tokens must be texts or null", hint="export the model again")
    flags = {key: fields.raw(key) for key in ("lower_case", "clean_up")}
    for key, flag in flags.items():
        if not isinstance(flag, bool):
            raise ProcessorError(f"{path}: {key} must be true or false, found {flag!r}")
    return Vocabulary(
        tokens=texts, lower_case=flags["lower_case"] is True, clean_up=flags["clean_up"] is True
    )
