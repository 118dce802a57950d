"""Plain texts as rows of a task: what its data files would give the processor."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.errors import SourceError
from edgekit.exporting.processor import HubTokenizer, Reading
from edgekit.exporting.texts import CANDIDATES, QUESTION, TRICKY, WORDS
from edgekit.tasks import Row, Task
from edgekit.tasks.base import TEXT
from edgekit.tasks.base import WORDS as HOLDS_WORDS
from edgekit_runtime.processors.base import TextRow, Words
from edgekit_runtime.processors.text import LONGEST_FIRST, ONLY_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Makes rows. mask: the mask token that a text of this task must hold, "" when it need not."""

    task: Task
    mask: str = ""

    def row(self, text: str) -> TextRow | Words:
        """The row that asks the task's question about `text`.

        The task's last text, or its words, are made of `text`; other required columns are filled.
        """
        columns = [column for column in self.task.columns if column.required and not column.label]
        texts = [column.name for column in columns if column.holds == TEXT]
        lists = [column.name for column in columns if column.holds == HOLDS_WORDS]
        values: dict[str, str | tuple[str, ...]] = dict.fromkeys(texts[:-1], QUESTION)
        values |= dict.fromkeys(texts[-1:], self._masked(text))
        values |= dict.fromkeys(lists, CANDIDATES if texts else tuple(text.split()) or (text,))
        row = self.task.inputs(Row(number=1, values=values, digest=""))[0] if values else text
        if not isinstance(row, str | tuple | Words):
            raise SourceError(
                f"the task {self.task.name!r} makes a {type(row).__name__} of a text", hint="report this"
            )
        return row

    @property
    def plain(self) -> bool:
        """Whether a row is one text, so that pairs may be tried too."""
        return isinstance(self.row("a"), str)

    def reading(self) -> Reading:
        """How the processor reads this task's rows, and the tricky ones among them."""
        asked = [self.row(text) for text in TRICKY if isinstance(text, str)]
        own = WORDS if isinstance(asked[0], Words) else TRICKY
        return Reading(
            truncation=ONLY_SECOND if self.task.answers == "span" else LONGEST_FIRST,
            rows=tuple(dict.fromkeys((*own, *asked))),
        )

    def _masked(self, text: str) -> str:
        """The text with its second word masked, or with a mask behind its only word."""
        if not self.mask:
            return text
        words = text.split()
        return " ".join([*words[:1], self.mask, *words[2:]])


def ask(task: Task, tokenizer: HubTokenizer) -> Asking:
    """How texts become rows of `task`. Raises SourceError for a tokenizer without the mask that it needs."""
    if task.answers != "fill-mask":
        return Asking(task=task)
    if not tokenizer.mask_token:
        raise SourceError(
            f"the tokenizer has no mask token, which every text of the task {task.name!r} holds",
            hint="set tokenizer.mask_token and save it again, as the model was trained with it",
        )
    return Asking(task=task, mask=tokenizer.mask_token)
