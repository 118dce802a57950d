"""The tokens that a model of speech writes, as text, by its own tokenizer.json.

tokenizer.json    as the `tokenizers` library saves it, with a decoder that does all that the original does
parity.json       beside the cases of recordings also {"ids": [...], "text": "..."}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit_runtime.errors import ProcessorError, SelfTestFailed
from edgekit_runtime.processors.text import TOKENIZER_FILE, read_tokenizer
from edgekit_runtime.strictjson import Fields

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCase:
    """The text that the original reads in `ids`."""

    ids: tuple[int, ...]
    text: str


class Transcriber:
    """Tokens to text. Ids that the tokenizer does not know have none."""

    def __init__(self, tokenizer: Tokenizer, parity: Sequence[TextCase] = ()) -> None:
        self.parity = tuple(parity)
        self._tokenizer = tokenizer

    def decode(self, ids: Sequence[int]) -> str:
        """The text of these tokens, special ones left out."""
        return self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)

    def check_parity(self) -> int:
        """Read the recorded tokens again; raise `SelfTestFailed` for the first that read differently."""
        for case in self.parity:
            found = self.decode(case.ids)
            if found != case.text:
                raise SelfTestFailed(
                    f"parity case of {len(case.ids)} tokens: {found[:60]!r} instead of {case.text[:60]!r}",
                    hint="the installed `tokenizers` reads tokens differently; install the model's version",
                )
        return len(self.parity)

    def write(self, directory: Path) -> None:
        """Write the tokenizer into a processor directory."""
        (directory / TOKENIZER_FILE).write_text(self._tokenizer.to_str(), encoding="utf-8", newline="\n")


def read_transcriber(directory: Path, parity: Sequence[TextCase]) -> Transcriber | None:
    """The tokenizer of a processor directory, None when it has none.

    Raises `ProcessorError`, or `MissingDependency` without `tokenizers`.
    """
    path = directory / TOKENIZER_FILE
    if path.exists():
        return Transcriber(read_tokenizer(path), parity)
    if parity:
        raise ProcessorError(f"{path} is missing, and parity.json has tokens", hint="export the model again")
    return None


def text_case_json(case: TextCase) -> dict[str, object]:
    """The case as parity.json keeps it."""
    return {"ids": list(case.ids), "text": case.text}


def read_text_case(item: object, where: str) -> TextCase:
    """The case that `text_case_json` wrote. Raises `ProcessorError`."""
    fields = Fields(item, known=("ids", "text"), where=where, error=ProcessorError)
    given = fields.items("ids")
    ids = tuple(one for one in given if type(one) is int and one >= 0)
    if len(ids) != len(given):
        raise ProcessorError(f"{fields.where('ids')} must hold token ids")
    return TextCase(ids=ids, text=fields.text("text"))
