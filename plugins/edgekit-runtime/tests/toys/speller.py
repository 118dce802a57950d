"""A backend on numpy whose models spell: an encoder keeps the ids of a text, a decoder gives them back.

A part's directory holds `part.txt`: "encoder" or "decoder". Run options: `mix` adds numbers to the logits
that depend on every id which the decoder was run on, so that they are right only with the right cache;
`masked` has the decoder take `encoder_attention_mask`; `blind` leaves the mask out everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit_runtime.errors import OpenFailed, SessionClosed
from edgekit_runtime.signatures import check_feeds
from edgekit_runtime.values import (
    OpenRequest,
    OperatorTime,
    Placement,
    PlacementRow,
    Signature,
    TensorSpec,
)

VOCABULARY, HEADS, SIZE = 10, 2, 3
PAD, START, END = 0, 2, 3
EMBEDDING = np.random.default_rng(0).normal(size=(VOCABULARY, HEADS, SIZE)).astype(np.float32)
HEAD = np.random.default_rng(1).normal(size=(HEADS * SIZE, VOCABULARY)).astype(np.float32)
PLACEMENT = Placement(
    rows=(PlacementRow(precision="fp32", device="cpu", nodes=2, time_share=1.0),), source="known"
)


def logits_of(source: Any, mask: Any, state: Any, place: int, mix: float) -> Any:
    """float32 [rows, VOCABULARY]: the id of `source` at `place` leads, `END` after its last."""
    wide = np.concatenate([source, np.full((len(source), place + 1), END)], axis=1)
    target = np.where(place < mask.sum(axis=1), wide[:, place], END)
    leading = 4 * np.eye(VOCABULARY, dtype=np.float32)[target]
    return (leading + np.float32(mix) * (np.tanh(state.reshape(len(source), -1)) @ HEAD)).astype(np.float32)


class Part:
    """One part, opened. fed: the feeds of all its runs; closed: how often it was closed."""

    def __init__(self, request: OpenRequest) -> None:
        self.part = (request.directory / "part.txt").read_text().strip()
        self.options = request.options
        if request.options.get("refuse") == self.part:
            raise OpenFailed(f"the speller was told to refuse the {self.part}")
        self.signature = encoder_signature(request) if self.part == "encoder" else decoder_signature(request)
        self.fed: list[dict[str, Any]] = []
        self.gave: list[dict[str, Any]] = []
        self.closed = 0

    def run(self, feeds: Any) -> dict[str, Any]:
        if self.closed:
            raise SessionClosed(f"the {self.part} is closed")
        check_feeds(self.signature, feeds)
        self.fed.append(dict(feeds))
        outputs = self.encoded(feeds) if self.part == "encoder" else self.decoded(feeds)
        self.gave.append(outputs)
        return outputs

    def encoded(self, feeds: Any) -> dict[str, Any]:
        ids = feeds["input_ids"]
        mask = feeds.get("attention_mask", np.ones_like(ids))
        kept = {"key": ids, "value": mask}
        return {f"cross.0.{name}": array[:, None, :, None].astype(np.float32) for name, array in kept.items()}

    def decoded(self, feeds: Any) -> dict[str, Any]:
        ids, past = feeds["input_ids"], feeds["past.0.key"]
        new = EMBEDDING[ids].transpose(0, 2, 1, 3)
        present = np.concatenate([past, new], axis=2)
        source = feeds["cross.0.key"][:, 0, :, 0].astype(np.int64)
        mask = feeds.get("encoder_attention_mask", feeds["cross.0.value"][:, 0, :, 0])
        place = present.shape[2] - int(self.options.get("start", 1))
        logits = logits_of(source, mask, present.sum(axis=2), place, float(self.options.get("mix", 0.0)))
        return {
            "logits": logits,
            "present.0.key": present,
            "present.0.value": np.concatenate([feeds["past.0.value"], new], axis=2),
        }

    def placement(self) -> Placement:
        return PLACEMENT

    def profile(self) -> tuple[OperatorTime, ...]:
        return (OperatorTime(name="node", op_type="MatMul", precision="fp32", device="cpu", share=1.0),)

    def close(self) -> None:
        self.closed += 1


def encoder_signature(request: OpenRequest) -> Signature:
    batch, length = request.options.get("batch", "batch"), request.options.get("length", "sequence")
    names = ("input_ids",) if request.options.get("blind") else ("input_ids", "attention_mask")
    return Signature(
        inputs=tuple(TensorSpec(name=name, dtype="int64", shape=(batch, length)) for name in names),
        outputs=tuple(cross_specs(batch, length)),
    )


def decoder_signature(request: OpenRequest) -> Signature:
    batch, length = request.options.get("batch", "batch"), request.options.get("length", "sequence")
    mask = TensorSpec(name="encoder_attention_mask", dtype="int64", shape=(batch, length))
    masks = (mask,) if request.options.get("masked") else ()
    return Signature(
        inputs=(
            TensorSpec(name="input_ids", dtype="int64", shape=(batch, "tokens")),
            *masks,
            *cache_specs("past", batch),
            *cross_specs(batch, length),
        ),
        outputs=(
            TensorSpec(name="logits", dtype="float32", shape=(batch, VOCABULARY)),
            *cache_specs("present", batch),
        ),
    )


def cross_specs(batch: Any, length: Any) -> list[TensorSpec]:
    return [
        TensorSpec(name=f"cross.0.{name}", dtype="float32", shape=(batch, 1, length, 1))
        for name in ("key", "value")
    ]


def cache_specs(name: str, batch: Any) -> list[TensorSpec]:
    axis = {"past": "past", "present": "all"}[name]
    return [
        TensorSpec(name=f"{name}.0.{kind}", dtype="float32", shape=(batch, HEADS, axis, SIZE))
        for kind in ("key", "value")
    ]
