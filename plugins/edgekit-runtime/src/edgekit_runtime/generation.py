"""Generation: which token comes next, by the logits of a model and the settings it came with.

Greedy search: at each step the token with the highest score after all rules. Rules, their order and their
arithmetic (float32) are those of transformers 5.23, `GenerationMixin._get_logits_processor`, for
`generate(num_beams=1, do_sample=False)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgekit_runtime.errors import RunFailed
from edgekit_runtime.session import Array

#: Outputs of a session that generates. tokens: int64 [rows, generated]; scores: float32
#: [rows, generated, 2], log-probabilities after all rules of the token chosen and of the runner-up.
TOKENS, SCORES = "tokens", "scores"

#: Stands for the log-probability of a token that no rule allows: JSON and goldens have no infinity.
NOT_ALLOWED = -1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSettings:
    """How a model generates. Numbers of tokens do not count those of `start`.

    start: ids that every answer begins with, not part of it; end: ids that end an answer, part of it;
    pad: id that fills rows which ended; max_tokens, min_tokens: how long an answer may and must be;
    suppress: ids never generated; suppress_first: nor as the first token (as the second, if the first is
    forced); forced_first, forced_last: the first token, and the last if max_tokens is reached (transformers
    forces a first token after a `start` of one id only);
    repetition_penalty: divides positive and multiplies negative scores of ids that were there, start
    included (Keskar et al., "CTRL", 2019); no_repeat_ngram: so many ids in a row occur only once, 0 is off.
    """

    start: tuple[int, ...]
    end: tuple[int, ...]
    pad: int
    max_tokens: int
    min_tokens: int = 0
    suppress: tuple[int, ...] = ()
    suppress_first: tuple[int, ...] = ()
    forced_first: int | None = None
    forced_last: int | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """One step. tokens: int64 [rows]; scores: float64 [rows, 2], as in `SCORES`."""

    tokens: Array
    scores: Array


class GreedySearch:
    """The tokens of a batch of rows as they are generated: `take` logits until `done`.

    next_ids: int64 [rows, tokens], what the model is to be run on next: `start`, then one token a step.
    """

    def __init__(self, settings: GenerationSettings, rows: int) -> None:
        self._settings = settings
        self._end = np.array(settings.end, dtype=np.int64)
        self._ids = np.tile(np.array(settings.start, dtype=np.int64), (rows, 1))
        self._live = np.ones(rows, dtype=np.bool_)
        self._scores: list[Array] = []
        self.next_ids = self._ids

    @property
    def generated(self) -> int:
        """Tokens generated so far."""
        return len(self._scores)

    @property
    def done(self) -> bool:
        """Whether every row has ended, or is as long as it may be."""
        return not self._live.any() or self.generated >= self._settings.max_tokens

    def take(self, logits: Array) -> None:
        """Choose the next token of each row. logits: float [rows, vocabulary], of the last of `next_ids`."""
        if np.ndim(logits) != 2 or len(logits) != len(self._ids) or not np.size(logits):
            raise RunFailed(
                f"logits have the shape {np.shape(logits)}, expected ({len(self._ids)}, vocabulary)"
            )
        choice = choose(allowed(np.asarray(logits, dtype=np.float32), self._ids, self._settings))
        if not np.isfinite(choice.scores[self._live]).all():
            raise RunFailed(f"the logits of token {self.generated} are not finite numbers")
        tokens = np.where(self._live, choice.tokens, self._settings.pad)
        self._scores.append(np.where(self._live[:, None], choice.scores, 0.0))
        self._live = self._live & ~(tokens[:, None] == self._end).any(axis=1)
        self.next_ids = tokens[:, None]
        self._ids = np.concatenate([self._ids, self.next_ids], axis=1)

    def outputs(self) -> dict[str, Array]:
        """`TOKENS` and `SCORES`: rows that ended early are filled with `pad` and zeros."""
        scores = np.zeros((len(self._ids), self.generated, 2), dtype=np.float32)
        for place, step in enumerate(self._scores):
            scores[:, place] = step
        return {TOKENS: self._ids[:, len(self._settings.start) :].copy(), SCORES: scores}


def is_generated(outputs: Mapping[str, Array]) -> bool:
    """Whether `TOKENS` and `SCORES` are there, of shapes that fit each other, and finite."""
    if TOKENS not in outputs or SCORES not in outputs:
        return False
    tokens, scores = np.asarray(outputs[TOKENS]), np.asarray(outputs[SCORES])
    if tokens.dtype.kind not in "iu" or scores.dtype.kind != "f" or tokens.ndim != 2:
        return False
    return scores.shape == (*tokens.shape, 2) and bool(np.isfinite(scores).all())


def generated_lengths(scores: Array) -> Array:
    """int64 [rows]: how many tokens of each row were generated, the end token included.

    A runner-up's log-probability is under 0 wherever a token was chosen, and 0 after the end.
    """
    lengths: Array = (np.asarray(scores)[..., 1] < 0).sum(axis=-1, dtype=np.int64)
    return lengths


def choose(scores: Array) -> Choice:
    """The likeliest token of each row ([rows, vocabulary], -inf for what is not allowed), the first of
    equals. Scores are NaN for a row with NaN or +inf in it."""
    rows = np.arange(len(scores))
    tokens = scores.argmax(axis=-1)
    best = scores[rows, tokens].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        powers = scores - scores[rows, tokens][:, None]
        np.exp(powers, out=powers)
        # The best adds exp(0) = 1, so the sum of a row that allows a token is 1 or more.
        total = np.log(powers.sum(axis=-1, dtype=np.float64))
        others = scores.copy()
        others[rows, tokens] = -np.inf
        both = np.stack([-total, others.max(axis=-1) - best - total], axis=-1)
    both[best == -np.inf] = NOT_ALLOWED
    return Choice(tokens=tokens, scores=np.maximum(both, NOT_ALLOWED))


def allowed(logits: Array, ids: Array, settings: GenerationSettings) -> Array:
    """Scores after all rules, in their order. logits: float32 [rows, vocabulary], never changed;
    ids: int64 [rows, tokens], `start` and what was generated since."""
    step = ids.shape[1] - len(settings.start)
    scores = logits
    if settings.repetition_penalty != 1.0:
        scores = penalized(scores, ids, settings.repetition_penalty)
    if settings.no_repeat_ngram:
        scores = without_repeated(scores, ids, settings.no_repeat_ngram)
    if step < settings.min_tokens:
        scores = without(scores, settings.end)
    if step == 0 and settings.forced_first is not None:
        scores = only(scores, settings.forced_first)
    if step == settings.max_tokens - 1 and settings.forced_last is not None:
        scores = only(scores, settings.forced_last)
    scores = without(scores, settings.suppress)
    if step == (0 if settings.forced_first is None else 1):
        scores = without(scores, settings.suppress_first)
    return scores


def penalized(scores: Array, ids: Array, penalty: float) -> Array:
    """`scores` with those of the `ids` of each row divided by `penalty`, or multiplied where negative."""
    vocabulary = scores.shape[-1]
    # One place more takes the ids that the vocabulary of the logits does not hold.
    wider = np.concatenate([scores, np.zeros_like(scores[:, :1])], axis=1)
    places = np.minimum(ids, vocabulary)
    found = np.take_along_axis(wider, places, axis=1)
    changed = np.where(found < 0, found * np.float32(penalty), found / np.float32(penalty))
    np.put_along_axis(wider, places, changed, axis=1)
    return wider[:, :vocabulary]


def without_repeated(scores: Array, ids: Array, size: int) -> Array:
    """`scores` with -inf for each token that would end `size` ids which the row holds already."""
    length, vocabulary = ids.shape[1], scores.shape[-1]
    if length < size:
        return scores
    windows = np.lib.stride_tricks.sliding_window_view(ids, size, axis=1)
    begun = ids[:, length + 1 - size :]
    again = (windows[..., :-1] == begun[:, None]).all(axis=-1) & (windows[..., -1] < vocabulary)
    rows, places = np.nonzero(again)
    changed = scores.copy()
    changed[rows, windows[rows, places, -1]] = -np.inf
    return changed


def without(scores: Array, ids: tuple[int, ...]) -> Array:
    """`scores` with -inf for `ids`; those beyond the vocabulary are nothing to leave out."""
    known = [token for token in ids if token < scores.shape[-1]]
    if not known:
        return scores
    changed = scores.copy()
    changed[:, known] = -np.inf
    return changed


def only(scores: Array, token: int) -> Array:
    """0 for `token`, -inf for all others. Raises `RunFailed` when the vocabulary does not hold it."""
    if token >= scores.shape[-1]:
        raise RunFailed(
            f"token {token} is to be generated, and the model knows {scores.shape[-1]}",
            hint="pipeline.json does not belong to this model: export it again",
        )
    changed = np.full_like(scores, -np.inf)
    changed[:, token] = 0
    return changed
