"""From a transformers folder to a Subject: load, choose lengths, write the processor, plan the cases."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import SourceError
from edgekit.exporting.attention import plain_attention
from edgekit.exporting.hub import provenance
from edgekit.exporting.loading import load_model, load_tokenizer, position_limit
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.processor import HubTokenizer, choose_max_length, text_inputs, travelling_processor
from edgekit.exporting.source import FolderSource
from edgekit.exporting.subject import Case, Facts, Subject
from edgekit.exporting.texts import LONG, PAIR, SENTENCES
from edgekit.tasks import ExportRecipe, Task
from edgekit_runtime.processors import TextProcessor
from edgekit_runtime.processors.base import Row

if TYPE_CHECKING:
    import torch

#: Rows and tokens of the trace. No case has this shape: every check is at one that was not traced.
TRACE_ROWS, TRACE_TOKENS = 3, 11
#: A model that takes more tokens than this is checked at its longest with one row, not two.
_TWO_ROWS_UP_TO = 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """A text model in memory, whatever folder it came from.

    model: the transformers model, which knows lengths and vocabulary; module: what is traced, which
    may be more than it; call: runs the module; source: its provenance, for the manifest.
    """

    model: torch.nn.Module
    module: torch.nn.Module
    call: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]
    tokenizer: HubTokenizer
    task: Task
    outputs: tuple[str, ...]
    source: Mapping[str, str]
    labels: tuple[str, ...] = ()


def load_folder(source: FolderSource, options: ExportOptions, processor_dir: Path) -> Subject:
    """Load the model, write and prove its processor, and plan what to check."""
    recipe = text_recipe(source.task)
    model = load_model(source, recipe.auto_class, options)
    loaded = Loaded(
        model=model,
        module=model,
        call=caller(model, recipe.outputs),
        tokenizer=load_tokenizer(source.folder, options),
        task=source.task,
        outputs=recipe.outputs,
        source={"kind": "transformers folder", **source_facts(source)},
        labels=source.labels,
    )
    return text_subject(loaded, options, processor_dir)


def text_recipe(task: Task) -> ExportRecipe:
    """The task's recipe. Raises SourceError for tasks of other inputs than text."""
    recipe = task.export
    if recipe is None or recipe.processor != "text":
        raise SourceError(f"task {task.name!r} is not exported from folders", hint="export the module")
    return recipe


def source_facts(source: FolderSource) -> dict[str, str]:
    """What the manifest says of a folder: its name, its class, its weights, its revision if known."""
    return {
        **provenance(source.folder),
        "architecture": source.architecture,
        "weights": ", ".join(path.name for path in source.weights.files),
        "dtype": source.dtype,
    }


def text_subject(loaded: Loaded, options: ExportOptions, processor_dir: Path) -> Subject:
    """Write and prove the processor of a loaded text model, and plan what to check."""
    tokenizer, model = loaded.tokenizer, loaded.model
    inputs = text_inputs(tokenizer, tuple(inspect.signature(model.forward).parameters))
    positions = position_limit(model)
    max_length = choose_max_length(tokenizer, positions, options.max_length)
    processor = travelling_processor(tokenizer, inputs, max_length, processor_dir)
    planner = TextCases(processor=processor, max_length=max_length)
    facts = Facts(
        task=loaded.task.name,
        agreement=loaded.task.agreement,
        axes={name: {0: "batch", 1: "sequence"} for name in inputs},
        source=loaded.source,
        labels=loaded.labels,
    )
    return Subject(
        module=loaded.module,
        call=loaded.call,
        facts=facts,
        trace=processor.feeds([LONG] * TRACE_ROWS, pad_to=min(TRACE_TOKENS, max_length)),
        ranges={"batch": (1, None), "sequence": (1, positions)},
        outputs=loaded.outputs,
        cases=[
            *planner.checks(),
            *planner.random_ids(_vocabulary(model), tokenizer.all_special_ids, options.seed),
            *planner.goldens(),
        ],
        tracing=lambda: plain_attention(model),
    )


class TextCases:
    """Shapes at which a text model is compared with its original, by real texts."""

    def __init__(self, *, processor: TextProcessor, max_length: int) -> None:
        self._processor = processor
        self._max_length = max_length

    def checks(self) -> Iterator[Case]:
        """Batches of 1, 2 and 7; shortest, odd and longest; padded and not."""
        longest = self._max_length
        yield self._case("one row, shortest", SENTENCES[:1], pad_to=self._shortest())
        yield self._case("one row, odd length", [LONG], pad_to=33)
        yield self._case("two rows, unpadded", [LONG, LONG[200:]], pad_to=29)
        yield self._case("two rows, padded", SENTENCES[2:4])
        yield self._case("seven rows, padded", SENTENCES[4:11])
        yield self._case("seven rows, much padding", SENTENCES[:7], pad_to=97)
        if "token_type_ids" in self._processor.input_names:
            yield self._case("two pairs of texts, padded", [PAIR, (SENTENCES[0], SENTENCES[1])])
        yield self._case("one row, longest", [LONG], pad_to=longest)
        if longest <= _TWO_ROWS_UP_TO:
            yield self._case("two rows, longest, one padded", [SENTENCES[0], LONG], pad_to=longest)

    def random_ids(self, vocabulary: int, special: Sequence[int], seed: int) -> Iterator[Case]:
        """Ids from the whole vocabulary, which sentences never reach; special tokens stay in place."""
        feeds = self._processor.feeds([LONG, LONG], pad_to=min(41, self._max_length))
        rng = np.random.default_rng(seed)
        plain = np.setdiff1d(np.arange(vocabulary), special)
        drawn = rng.choice(plain, size=feeds["input_ids"].shape).astype(np.int64)
        ids = np.where(np.isin(feeds["input_ids"], special), feeds["input_ids"], drawn)
        yield Case(name="two rows, random ids", feeds={**feeds, "input_ids": ids})

    def goldens(self) -> Iterator[Case]:
        """One case a sentence, and one padded batch, recorded in the model directory."""
        for number, sentence in enumerate(SENTENCES, start=1):
            yield self._case(f"sentence {number}", [sentence], golden=True)
        yield self._case("five sentences, padded", SENTENCES[:5], golden=True)

    def _case(self, name: str, rows: Sequence[Row], pad_to: int | None = None, golden: bool = False) -> Case:
        width = None if pad_to is None else min(pad_to, self._max_length)
        return Case(
            name=name, feeds=self._processor.feeds(rows, pad_to=width), rows=tuple(rows), golden=golden
        )

    def _shortest(self) -> int:
        """Tokens of the shortest text: its special tokens and one more."""
        return int(self._processor.feeds(["a"])["input_ids"].shape[1])


def caller(
    model: torch.nn.Module, outputs: Sequence[str]
) -> Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Runs a transformers model on named tensors and gives the fields called `outputs`."""

    def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        result = model(**feeds)
        return {name: result[name] for name in outputs}

    return call


def _vocabulary(model: torch.nn.Module) -> int:
    config = getattr(model, "config", None)
    size = getattr(config, "vocab_size", None)
    if not isinstance(size, int) or size < 1:
        raise SourceError("config.json has no vocab_size", hint="is it a text model?")
    return size
