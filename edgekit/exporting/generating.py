"""How a model generates: its generation_config as the settings that travel, and the original's own run.

What travels is greedy search. Rules that a generation_config adds are kept or, where a device cannot keep
them, refused by name; beams and sampling are told, since the model was perhaps judged with them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.errors import SourceError, UsageError
from edgekit.exporting.options import ExportOptions
from edgekit_runtime.generation import NOT_ALLOWED, SCORES, TOKENS, GenerationSettings

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

#: Tokens that are generated at most where neither the model nor the user says it.
FALLBACK_TOKENS = 256
#: Rules that would change which token wins, and that no device keeps -> values that switch them off.
_UNKEPT: Mapping[str, tuple[object, ...]] = {
    "guidance_scale": (None, 1, 1.0),
    "sequence_bias": (None, {}, []),
    "encoder_repetition_penalty": (None, 1, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "exponential_decay_length_penalty": (None,),
    "watermarking_config": (None,),
    "constraints": (None, []),
    "force_words_ids": (None, []),
    "forced_decoder_ids": (None, []),
    "penalty_alpha": (None, 0, 0.0),
    "dola_layers": (None,),
    "stop_strings": (None, "", []),
    "max_time": (None,),
    "token_healing": (None, False),
}
#: Settings of beams and of sampling, without meaning for greedy search.
_OF_OTHER_SEARCHES = (
    "early_stopping",
    "length_penalty",
    "num_beam_groups",
    "diversity_penalty",
    "num_return_sequences",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "top_h",
    "typical_p",
    "epsilon_cutoff",
    "eta_cutoff",
    "prompt_lookup_num_tokens",
)
#: How tokenizers write the token of a language.
_LANGUAGE_TOKENS = ("{}", "__{}__", "<|{}|>")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generating:
    """How a model generates, and the original doing so.

    run: named tensors of the encoder -> `tokens` and `scores`; notes: what the manifest says of it.
    """

    settings: GenerationSettings
    run: Callable[[Tensors], dict[str, torch.Tensor]]
    notes: Mapping[str, str] = field(default_factory=dict)


def generating(model: torch.nn.Module, tokenizer: object, options: ExportOptions) -> Generating:
    """By the model's generation_config and the options. Raises SourceError or UsageError."""
    config = greedy_config(model)
    if options.language:
        _speak(config, tokenizer, options.language)
    settings = settings_of(model, config, options)
    return Generating(settings=settings, run=greedy(model, config, settings), notes=search_notes(model))


def greedy_config(model: Any) -> Any:
    """A copy of the model's generation_config that asks for greedy search.

    Raises SourceError for a rule that changes tokens and does not travel.
    """
    config = copy.deepcopy(model.generation_config)
    for name, off in _UNKEPT.items():
        value = getattr(config, name, None)
        if value not in off:
            raise SourceError(
                f"generation_config: {name} is {value!r}, a rule that is not kept on a device",
                hint=f"set {name} to null in generation_config.json, if the model answers well without it",
            )
    config.num_beams, config.do_sample = 1, False
    for name in _OF_OTHER_SEARCHES:
        setattr(config, name, None)
    return config


def search_notes(model: Any) -> dict[str, str]:
    """What the manifest says where the model was made to be searched otherwise; {} for greedy search."""
    config = model.generation_config
    asks = []
    if (config.num_beams or 1) > 1:
        asks.append(f"{config.num_beams} beams")
    if config.do_sample:
        asks.append("sampling")
    return {"decoding": f"greedy; its generation_config asks for {' and '.join(asks)}"} if asks else {}


def settings_of(
    model: Any, config: Any, options: ExportOptions, start: tuple[int, ...] = ()
) -> GenerationSettings:
    """The rules of a generation_config. start: where it is more than the config's decoder_start_token_id."""
    start = start or (_start(model, config),)
    end = _ids("eos_token_id", config.eos_token_id)
    most = _most_tokens(model, config, options, len(start))
    least = max((config.min_length or 0) - len(start), config.min_new_tokens or 0, 0)
    if least > most:
        raise UsageError(
            f"the model generates at least {least} tokens, and at most {most} are allowed",
            hint=f"give --max-new-tokens {least} or more, or lower min_length in generation_config.json",
        )
    pad = config.pad_token_id if config.pad_token_id is not None else (*end, 0)[0]
    first = _single("forced_bos_token_id", config.forced_bos_token_id)
    return GenerationSettings(
        start=start,
        end=end,
        pad=pad,
        max_tokens=most,
        min_tokens=least,
        suppress=tuple(sorted({*_bad_words(config, end), *_ids("suppress_tokens", config.suppress_tokens)})),
        suppress_first=_ids("begin_suppress_tokens", config.begin_suppress_tokens),
        forced_first=first if len(start) == 1 else None,
        forced_last=_single("forced_eos_token_id", config.forced_eos_token_id),
        repetition_penalty=float(config.repetition_penalty or 1.0),
        no_repeat_ngram=config.no_repeat_ngram_size or 0,
    )


# --- single settings ----------------------------------------------------------------------------------


def _start(model: Any, config: Any) -> int:
    found = config.decoder_start_token_id
    if found is None:
        found = getattr(model.config, "decoder_start_token_id", None)
    if found is None:
        found = config.bos_token_id
    if not isinstance(found, int):
        raise SourceError(
            "config.json says no decoder_start_token_id, so what an answer begins with is not known",
            hint="set it in config.json or generation_config.json, as the model was trained with it",
        )
    return found


def _most_tokens(model: Any, config: Any, options: ExportOptions, start: int) -> int:
    """Tokens generated at most: as asked, as the config says, or the fallback; within the positions."""
    positions = decoder_positions(model)
    room = None if positions is None else positions - start
    asked = options.max_new_tokens
    if asked is not None:
        if room is not None and asked > room:
            raise UsageError(
                f"max_new_tokens {asked} is more than the decoder's {positions} positions allow",
                hint=f"give at most {room}",
            )
        return asked
    said = config.max_new_tokens or ((config.max_length or 0) - start)
    most = said if said > 0 else FALLBACK_TOKENS
    return most if room is None else min(most, room)


def decoder_positions(model: Any) -> int | None:
    """Tokens that the decoder's positions reach; None when there is no limit."""
    config = getattr(model.config, "decoder", model.config)
    for name in ("max_target_positions", "max_decoder_position_embeddings", "max_position_embeddings"):
        found = getattr(config, name, None)
        if isinstance(found, int) and found > 0:
            return found
    return None


def _ids(name: str, value: object) -> tuple[int, ...]:
    """One id, several or none."""
    if value is None:
        return ()
    found = tuple(value) if isinstance(value, Sequence) else (value,)
    if not all(isinstance(each, int) for each in found):
        raise SourceError(f"generation_config: {name} is {value!r}, which is no id", hint="correct it")
    return tuple(each for each in found if each >= 0)


def _single(name: str, value: object) -> int | None:
    found = _ids(name, value)
    if len(found) > 1:
        raise SourceError(
            f"generation_config: {name} names {len(found)} tokens, and one can be forced",
            hint=f"keep one id in {name}",
        )
    return found[0] if found else None


def _bad_words(config: Any, end: tuple[int, ...]) -> tuple[int, ...]:
    """Words that are never generated, of one token each; the end of an answer is never among them."""
    words = config.bad_words_ids or []
    longer = [word for word in words if len(word) > 1]
    if longer:
        raise SourceError(
            f"generation_config: bad_words_ids holds a word of {len(longer[0])} tokens, {longer[0]},"
            " and only single tokens are kept out on a device",
            hint="remove it from bad_words_ids in generation_config.json",
        )
    return tuple(word[0] for word in words if word[0] not in end)


def _speak(config: Any, tokenizer: Any, language: str) -> None:
    """Have every answer begin with the token of a language: in the place where the model has one."""
    token = language_token(tokenizer, language)
    if config.decoder_start_token_id in _languages(tokenizer):
        config.decoder_start_token_id = token
    else:
        config.forced_bos_token_id = token


def _languages(tokenizer: Any) -> set[int]:
    codes = getattr(tokenizer, "lang_code_to_id", None)
    return set(codes.values()) if isinstance(codes, Mapping) else set()


def language_token(tokenizer: Any, language: str) -> int:
    """The id of the language's token. Raises UsageError when the tokenizer has none."""
    special: dict[str, int] = {
        str(token): at
        for at, token in zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True)
    }
    special |= {str(added): at for at, added in tokenizer.added_tokens_decoder.items() if added.special}
    for form in _LANGUAGE_TOKENS:
        if form.format(language) in special:
            return special[form.format(language)]
    raise UsageError(
        f"language {language!r}: the tokenizer has no such token",
        hint="give a code as the model's tokenizer writes it, such as de_DE, deu_Latn or de",
    )


# --- the original -------------------------------------------------------------------------------------


def greedy(
    model: Any, config: Any, settings: GenerationSettings
) -> Callable[[Tensors], dict[str, torch.Tensor]]:
    """transformers' own generate by `config`, as the function that gives `tokens` and `scores`."""
    config = copy.deepcopy(config)
    config.max_new_tokens, config.max_length = settings.max_tokens, None
    config.pad_token_id = settings.pad

    def run(feeds: Tensors) -> dict[str, torch.Tensor]:
        import torch
        from transformers import GenerationMixin

        from edgekit.exporting.quiet import quiet_libraries

        watching = _Watching()
        rows = len(next(iter(feeds.values())))
        with quiet_libraries():
            ids = GenerationMixin.generate(
                model,
                **feeds,
                decoder_input_ids=torch.tensor([settings.start] * rows),
                generation_config=config,
                logits_processor=[watching],
                return_dict_in_generate=False,
            )
        tokens = ids[:, len(settings.start) :]
        return {TOKENS: tokens, SCORES: watching.scores(tokens, settings.end)}

    return run


class _Watching:
    """Behind all rules of transformers: keeps the log-probabilities of the winner and of the runner-up."""

    def __init__(self) -> None:
        self._steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Change nothing."""
        import torch

        best = torch.topk(torch.log_softmax(scores.double(), dim=-1), 2, dim=-1).values
        self._steps.append(best.clamp(min=NOT_ALLOWED).float())
        return scores

    def scores(self, tokens: torch.Tensor, end: Sequence[int]) -> torch.Tensor:
        """float32 [batch, generated, 2], zeros behind the end of a row."""
        import torch

        ended = torch.isin(tokens, torch.tensor(end, dtype=tokens.dtype)).cumsum(dim=1)
        ended = torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], dim=1) > 0
        return torch.stack(self._steps, dim=1).masked_fill(ended[..., None], 0.0)
