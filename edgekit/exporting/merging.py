"""Merging an adapter into its base, proven to change no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import SourceError
from edgekit.exporting.adapter import PREFIX, AdapterSource
from edgekit.exporting.checks import same_decisions
from edgekit.exporting.folder import caller, source_facts, text_recipe
from edgekit.exporting.hub import provenance
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.loading import (
    load_tokenizer,
    load_with_gaps,
    refuse_bad_numbers,
    require,
)
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.processor import HubTokenizer
from edgekit.exporting.quiet import quiet_libraries
from edgekit.exporting.subject import Assembly, Subject
from edgekit.exporting.text import tokenized_subject
from edgekit.exporting.texts import SENTENCES
from edgekit_runtime.errors import MissingDependency

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from edgekit_runtime.session import Array

#: Merging adds two products in another order: fp32 rounding, relative to the largest output.
_MERGE_TOLERANCE = 1e-4
_ROWS = 6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Merge:
    """Outputs of base and adapter side by side, and of the merged model, to the same feeds."""

    feeds: Mapping[str, Array]
    before: Mapping[str, Array]
    after: Mapping[str, Array]


def load_adapter(source: AdapterSource, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    """The base with the adapter merged, as a Subject."""
    require("torch", "transformers")
    _require_peft(source)
    task = source.base.task
    recipe = text_recipe(task, source.base.architecture)
    if recipe.module:
        raise SourceError(
            f"{source.folder}: adapters for the task {task.name!r} are not exported yet",
            hint="merge it with peft, save the whole model with transformers, and export its folder",
        )
    base = _load_base(source, recipe.auto_class, options)
    adapted = _attach(source, base)
    tokenizer = load_tokenizer(source.tokenizer_folder, options)
    feeds = _feeds(tokenizer)
    compared = ("logits",) if recipe.pipeline else recipe.outputs
    if recipe.pipeline:
        feeds["decoder_input_ids"] = feeds["input_ids"]  # any tokens do: before and after are compared
    before = _answers(adapted, compared, feeds)
    model = _merge(source, adapted)
    refuse_bad_numbers(model, source.label)
    merge = Merge(feeds=feeds, before=before, after=_answers(model, compared, feeds))
    refuse_changed_answers(source, merge, "tensor" if recipe.pipeline else task.answers)
    loaded = Loaded(
        model=model,
        module=model,
        call=caller(model, recipe.outputs),
        folder=source.tokenizer_folder,
        task=task,
        outputs=recipe.outputs,
        pipeline=recipe.pipeline,
        source={
            "kind": f"{source.kind} adapter merged into its base",
            **source_facts(source.base),
            **provenance(source.folder),
            "base": " at ".join(provenance(source.base.folder).values()),
            "architecture": type(model).__name__,
        },
        labels=source.base.labels,
    )
    return tokenized_subject(loaded, tokenizer, options, processor_dir)


def refuse_changed_answers(source: AdapterSource, merge: Merge, answers: str) -> None:
    """Raise SourceError unless the merged model answers as base and adapter did apart.

    answers: their kind, a word of `edgekit_runtime.answers.KINDS`.
    """
    changed = same_decisions(answers, merge.feeds, merge.before, merge.after) < 1.0
    for name, wanted in merge.before.items():
        error = float(np.abs(wanted - merge.after[name]).max())
        allowed = _MERGE_TOLERANCE * max(1.0, float(np.abs(wanted).max()))
        if changed or not error <= allowed:
            raise SourceError(
                f"{source.folder}: merged into {source.base.folder}, it gives other answers than before:"
                f" {name!r} differs by {error:.1e}",
                hint="does it adapt weights that the base shares between modules, or in low precision?",
            )


def _require_peft(source: AdapterSource) -> None:
    try:
        import peft  # noqa: F401
    except ImportError as problem:
        raise MissingDependency(
            f"{source.folder}: an adapter is merged by peft: {problem}", hint="pip install 'edgekit[export]'"
        ) from problem


def _load_base(source: AdapterSource, auto_class: str, options: ExportOptions) -> torch.nn.Module:
    changes = {} if source.head is None else {"num_labels": source.head}
    try:
        model, missing = load_with_gaps(source.base, auto_class, options, changes)
    except SourceError as problem:
        raise _mismatch(source, problem.message) from problem
    brought = tuple(name.removeprefix(PREFIX) for name in source.tensors)
    lacking = [name for name in missing if name not in brought]
    if lacking:
        raise _mismatch(source, f"neither has the weight {lacking[0]!r}, so it was never trained")
    return model


def _attach(source: AdapterSource, base: torch.nn.Module) -> PeftModel:
    """The base with the adapter beside its weights; every tensor of the adapter finds its place."""
    from peft import PeftModel, get_peft_model_state_dict

    try:
        with quiet_libraries():
            adapted = PeftModel.from_pretrained(base, str(source.folder), is_trainable=False)
            wanted = set(get_peft_model_state_dict(adapted))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, OSError) as problem:
        reason = " ".join(str(problem).split())[:300]
        raise _mismatch(source, f"it adapts {source.targets}: {reason}") from problem
    have = set(source.tensors) or wanted
    if wanted - have:
        raise _mismatch(source, f"the base has a place for {min(wanted - have)!r}, which the adapter lacks")
    if have - wanted:
        raise _mismatch(source, f"the adapter has {min(have - wanted)!r}, which finds no place in the base")
    return adapted.eval()


def _merge(source: AdapterSource, adapted: PeftModel) -> torch.nn.Module:
    try:
        with quiet_libraries():
            merged: torch.nn.Module = adapted.merge_and_unload(safe_merge=True)
    except (RuntimeError, ValueError, TypeError, AttributeError) as problem:  # NaN, above all
        reason = " ".join(str(problem).split())[:300]
        raise SourceError(
            f"{source.folder}: peft cannot merge it into {source.base.folder}: {reason}",
            hint="does the adapter hold NaN, or a kind of layer that peft cannot merge?",
        ) from problem
    return merged.eval()


def _mismatch(source: AdapterSource, why: str) -> SourceError:
    return SourceError(
        f"{source.folder}: does not fit the base {source.base.folder}: {why}",
        hint="give the base it was trained on by --base",
    )


def _feeds(tokenizer: HubTokenizer) -> dict[str, Array]:
    encoded = tokenizer(list(SENTENCES[:_ROWS]), None, truncation=True, max_length=64, padding=True)
    return {name: np.array(values, dtype=np.int64) for name, values in encoded.items()}


def _answers(model: torch.nn.Module, outputs: Sequence[str], feeds: Mapping[str, Array]) -> dict[str, Array]:
    import torch

    with torch.inference_mode():
        result = model(**{name: torch.from_numpy(array) for name, array in feeds.items()})
    return {name: result[name].numpy() for name in outputs}
