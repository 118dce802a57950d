"""Tracing attention so that the graph is plain: products, a softmax, one small mask.

transformers' fused attention (sdpa) exports with an IsNaN/Where pair after every softmax, and its
mask construction as a chain of index arithmetic. For the trace only, attention is switched to each
model's own eager form, the mask of a bidirectional encoder is built by broadcasting the padding mask,
and that of a decoder without padding is one for all rows. The checks compare with the model as it was
loaded, so a slip here cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


#: Where a transformers config keeps its choice.
_CHOSEN = "_attn_implementation_internal"


class _Registry(Protocol):
    def __getitem__(self, key: str) -> Callable[..., torch.Tensor | None]: ...
    def __setitem__(self, key: str, value: Callable[..., torch.Tensor | None]) -> None: ...
    def __delitem__(self, key: str) -> None: ...


@contextmanager
def plain_attention(model: torch.nn.Module) -> Iterator[None]:
    """Trace `model` (a transformers model) with plain attention; it is put back afterwards."""
    config = getattr(model, "config", None)
    settable = getattr(model, "_can_set_attn_implementation", None)
    before = getattr(config, "_attn_implementation", None)
    switch = getattr(model, "set_attn_implementation", None)
    if settable is None or switch is None or not isinstance(before, str) or not settable():
        yield  # a model with attention of its own: it is traced as it is
        return
    kept = [(part, getattr(part, _CHOSEN, before)) for part in _configs(model)]
    switch("eager")
    try:
        with _broadcast_masks():
            yield
    finally:
        for part, chosen in kept:  # not by the switch: a part may not take what the whole has
            setattr(part, _CHOSEN, chosen)


def _configs(model: torch.nn.Module) -> Iterator[object]:
    """The configs of a model and of its parts, and those inside of them."""
    pending = [getattr(part, "config", None) for part in model.modules()]
    while pending:
        config = pending.pop()
        if hasattr(config, _CHOSEN):
            yield config
            pending += [getattr(config, name, None) for name in getattr(config, "sub_configs", ())]


@contextmanager
def _broadcast_masks() -> Iterator[None]:
    from transformers import masking_utils

    registry: _Registry | None = getattr(masking_utils, "ALL_MASK_ATTENTION_FUNCTIONS", None)
    bidirectional = getattr(masking_utils, "bidirectional_mask_function", None)
    causal = getattr(masking_utils, "causal_mask_function", None)
    if registry is None or bidirectional is None or causal is None:
        yield  # another version of transformers: its own mask is right too, only longer
        return
    original = registry["eager"]
    registry["eager"] = _mask_builder(original, bidirectional, causal)
    try:
        yield
    finally:
        del registry["eager"]  # ours was a local entry; the library's own shows again
        if registry["eager"] is not original:
            registry["eager"] = original


def _mask_builder(
    original: Callable[..., torch.Tensor | None], bidirectional: object, causal: object
) -> Callable[..., torch.Tensor | None]:
    import torch

    def _build(*args: object, **kwargs: Any) -> torch.Tensor | None:
        padding, dtype = kwargs.get("attention_mask"), kwargs.get("dtype", torch.float32)
        function = kwargs.get("mask_function")
        if args or kwargs.get("kv_offset") or not isinstance(dtype, torch.dtype):
            return original(*args, **kwargs)
        if function is bidirectional and isinstance(padding, torch.Tensor):
            keep = padding.to(torch.bool)[:, None, None, :]
        elif function is causal and padding is None:
            rows = torch.arange(kwargs["q_length"]) + kwargs["q_offset"]
            keep = torch.arange(kwargs["kv_length"])[None, None, None, :] <= rows[None, None, :, None]
        else:
            return original(*args, **kwargs)
        return torch.where(keep, torch.zeros((), dtype=dtype), torch.finfo(dtype).min)

    return _build
