"""How Whisper generates: what its answers begin with, and the proof that greedy search writes what it writes.

transformers' `WhisperForConditionalGeneration.generate` puts the start of an answer together by rules of
its own (models/whisper/generation_whisper.py, `_retrieve_init_tokens`), for one part of up to 30 seconds
without times: <|startoftranscript|>, the language and the task of a multilingual model, <|notimestamps|>.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgekit.errors import ExportWrong, SourceError, UsageError
from edgekit.exporting.generating import (
    Generating,
    decoder_positions,
    greedy,
    greedy_config,
    search_notes,
    settings_of,
)
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.quiet import quiet_libraries
from edgekit_runtime.generation import TOKENS

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

_FAMILY = "WhisperForConditionalGeneration"
#: So many tokens are compared: what answers begin with and their rules show in the first ones.
_PROVEN_TOKENS = 32
#: Thresholds by which transformers drops an answer or samples it again, in short recordings too.
_DROPPING = ("no_speech_threshold", "logprob_threshold", "compression_ratio_threshold")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Whisper:
    """generating: what travels, and the original by it; config: the generation_config as the folder has it;
    language: as asked, None where none was."""

    generating: Generating
    config: Any
    language: str | None


def whisper(model: torch.nn.Module, options: ExportOptions) -> Whisper:
    """By the model's generation_config and the options. Raises SourceError or UsageError.

    Of the loaded model's own generation_config what only says how an answer begins is taken out: it is in
    the start tokens then.
    """
    hub: Any = model
    if type(hub).__name__ != _FAMILY:
        raise SourceError(
            f"a {type(hub).__name__} hears recordings and writes texts in a way that is not known here",
            hint=f"known: {_FAMILY}; models with a CTC head need no decoder",
        )
    original = copy.deepcopy(hub.generation_config)
    _refuse_dropping(original)
    start = start_tokens(original, hub.config, options.language)
    hub.generation_config.forced_decoder_ids = None
    hub.generation_config.return_timestamps = False
    config = greedy_config(hub)
    if not config.max_new_tokens:
        config.max_new_tokens = _room(hub, original, len(start))
    settings = settings_of(hub, config, options, start)
    generating = Generating(
        settings=settings, run=greedy(hub, config, settings), notes=_notes(hub, original, options)
    )
    return Whisper(generating=generating, config=original, language=options.language)


def start_tokens(config: Any, model_config: Any, language: str | None) -> tuple[int, ...]:
    """What every answer begins with. config: the generation_config; language: as asked.

    Raises UsageError for a language that the model does not have, SourceError where one is to be chosen.
    """
    _refuse_language_of_english(config, language)
    task = getattr(config, "task", None)
    spoken = language if language is not None else getattr(config, "language", None)
    start: list[int | None] = [config.decoder_start_token_id]
    if task is None and spoken is None:
        start += _forced(config, model_config)
    languages: Mapping[str, int] = getattr(config, "lang_to_id", None) or {}
    if spoken is not None:
        start[1:2] = [_language_id(languages, spoken)]
    elif languages and (len(start) == 1 or start[1] is None):
        raise SourceError(
            "the model writes many languages, and generation_config.json chooses none",
            hint="give --language, such as --language en (transformers would listen for it first, once more"
            f" for each recording); the model knows {_shown(languages)}",
        )
    tasks: Mapping[str, int] = getattr(config, "task_to_id", None) or {}
    if task is not None:
        start.append(_task_id(tasks, task))
    elif spoken is not None and tasks and not set(tasks.values()) & set(start):
        start.append(tasks["transcribe"])
    no_times = getattr(config, "no_timestamps_token_id", None)
    if no_times is not None and start[-1] != no_times:
        start.append(no_times)
    return tuple(token for token in start if token is not None)


def prove_generation(model: torch.nn.Module, made: Whisper, feeds: Tensors) -> list[list[int]]:
    """Compare the first tokens with `WhisperForConditionalGeneration.generate`, and give them.

    The start of the answer is compared too. Raises ExportWrong for the first that is written differently.
    """
    import torch

    hub: Any = model
    settings = made.generating.settings
    settings = dataclasses.replace(settings, max_tokens=min(settings.max_tokens, _PROVEN_TOKENS))
    config = copy.deepcopy(made.config)
    config.num_beams, config.do_sample, config.return_timestamps = 1, False, False
    spoken = {} if made.language is None else {"language": made.language}
    with torch.inference_mode(), quiet_libraries():
        wanted = hub.generate(
            **feeds,
            generation_config=config,
            max_new_tokens=settings.max_tokens,
            force_unique_generate_call=True,  # gives the start and the end of an answer too
            **spoken,
        ).tolist()
        found = greedy(hub, greedy_config(hub), settings)(feeds)[TOKENS].tolist()
    for expected, tokens in zip(wanted, found, strict=True):
        _compare(expected, [*settings.start, *tokens], settings.pad, settings.end)
    return found


# --- parts of the start -------------------------------------------------------------------------------


def _forced(config: Any, model_config: Any) -> list[int | None]:
    """The start as older checkpoints keep it: [[1, language or null], [2, task], ...]."""
    pairs = getattr(config, "forced_decoder_ids", None) or getattr(model_config, "forced_decoder_ids", None)
    if not pairs:
        return []
    if [place for place, _ in pairs] != list(range(1, len(pairs) + 1)):
        raise SourceError(
            f"generation_config: forced_decoder_ids is {pairs!r}, which is no start of an answer",
            hint="its places must be 1, 2 and so on; or remove it, and set language and task",
        )
    return [token for _, token in pairs]


def _refuse_language_of_english(config: Any, language: str | None) -> None:
    if language is not None and getattr(config, "is_multilingual", True) is False:
        raise UsageError(
            f"language {language!r}: this model writes English only", hint="leave --language out"
        )


def _language_id(languages: Mapping[str, int], language: object) -> int:
    """The id of a language by its token, its code or its English name, as transformers takes it."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    if not languages:
        raise SourceError(
            f"language {language!r}: generation_config.json does not say the model's languages (lang_to_id)",
            hint="get the current generation_config.json of the model that this one was made from",
        )
    word = str(language).lower()
    for token in (word, f"<|{TO_LANGUAGE_CODE.get(word, word)}|>"):
        if token in languages:
            return languages[token]
    raise UsageError(
        f"language {language!r}: the model has no such language", hint=f"it knows {_shown(languages)}"
    )


def _task_id(tasks: Mapping[str, int], task: object) -> int:
    if task not in tasks:
        raise SourceError(
            f"generation_config: task {task!r} is none of {', '.join(tasks) or 'its task_to_id'}",
            hint="set it to transcribe",
        )
    return tasks[str(task)]


def _shown(languages: Mapping[str, int]) -> str:
    codes = [token.strip("<|>") for token in languages]
    return ", ".join(codes[:12]) + (f" and {len(codes) - 12} more" if len(codes) > 12 else "")


# --- the rest -----------------------------------------------------------------------------------------


def _refuse_dropping(config: Any) -> None:
    for name in _DROPPING:
        value = getattr(config, name, None)
        if value is not None:
            raise SourceError(
                f"generation_config: {name} is {value!r}, by which answers are dropped or sampled again,"
                " and greedy search does neither",
                hint=f"set {name} to null in generation_config.json, if the model answers well without it",
            )


def _room(model: Any, config: Any, start: int) -> int:
    """Tokens that transformers generates at most: Whisper's max_length does not count the start."""
    positions = decoder_positions(model) or 448
    longest = config.max_length + min(start, positions // 2 - 1) if config.max_length else positions
    return max(1, min(int(longest), positions) - start)


def _notes(model: Any, config: Any, options: ExportOptions) -> dict[str, str]:
    notes = search_notes(model)
    if getattr(config, "return_timestamps", None):
        notes["times"] = "not written; its generation_config asks for them"
    if options.language is not None:
        notes["language"] = options.language
    return notes


def _compare(wanted: Sequence[int], got: Sequence[int], pad: int, end: Sequence[int]) -> None:
    """Up to the end of the answer: transformers pads, or leaves out what only fills."""
    one, other = (_whole(ids, pad, end) for ids in (wanted, got))
    if one == other:
        return
    at = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    at = min(len(one), len(other)) if at is None else at
    raise ExportWrong(
        f"greedy search from the start that would travel writes other tokens than transformers:"
        f" at {at}, {other[at : at + 6]} instead of {one[at : at + 6]}",
        hint="please report it with the folder's generation_config.json",
    )


def _whole(ids: Sequence[int], pad: int, end: Sequence[int]) -> list[int]:
    kept = list(ids)
    while kept and (kept[-1] == pad or kept[-1] in end):
        kept.pop()
    return kept
