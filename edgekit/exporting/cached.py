"""An encoder-decoder of transformers as two functions of tensors, so that its cache is inputs and outputs.

The encoder's part also computes the keys and values that every decoder layer's attention over the source
needs, since they are the same at each step. They are taken from the cache that one step of the decoder
fills; what else that step computes is used by no output, and is not in the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgekit.errors import SourceError

if TYPE_CHECKING:
    import torch

    Tensors = Mapping[str, torch.Tensor]

IDS, MASK, SOURCE_MASK, LOGITS = "input_ids", "attention_mask", "encoder_attention_mask", "logits"
#: Axes of logits of one token a row.
_OF_ONE_TOKEN = 2
#: What models raise whose decoder takes no cache of this kind.
_MISFITS = (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError)


def port_names(kind: str, layers: int) -> tuple[str, ...]:
    """Names of keys and values, layer by layer. kind: "cross", "past" or "present"."""
    return tuple(f"{kind}.{at}.{what}" for at in range(layers) for what in ("key", "value"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CachedModel:
    """model: a transformers encoder-decoder; layers: of its decoder; start: its first token.

    masked: whether the decoder's attention over the source needs the encoder's mask.
    """

    model: Any
    layers: int
    start: int
    masked: bool

    def encode(self, feeds: Tensors) -> dict[str, torch.Tensor]:
        """`cross.{i}.key` and `.value` [batch, heads, source, head size] of the encoder's inputs."""
        import torch

        states = self.model.get_encoder()(**feeds, return_dict=True).last_hidden_state
        cache = _cache((), ())
        first = torch.full((states.shape[0], 1), self.start, dtype=torch.int64)
        self._step(first, states, feeds.get(MASK) if self.masked else None, cache)
        return _named("cross", cache.cross_attention_cache)

    def decode(self, feeds: Tensors) -> dict[str, torch.Tensor]:
        """`logits` [batch, vocabulary] of the last token, and the cache with these tokens in it."""
        cross = _pairs(feeds, "cross", self.layers)
        cache = _cache(_pairs(feeds, "past", self.layers), cross)
        keys = cross[0][0]
        states = keys.new_zeros(keys.shape[0], keys.shape[2], 1)  # only its shape is read
        with _last_token(self.model.get_output_embeddings()):
            logits = self._step(feeds[IDS], states, feeds.get(SOURCE_MASK), cache)
        last = logits if logits.dim() == _OF_ONE_TOKEN else logits[:, -1]
        return {LOGITS: last, **_named("present", cache.self_attention_cache)}

    def decoder_inputs(self) -> tuple[str, ...]:
        """Names of what `decode` takes, in the graph's order."""
        mask = (SOURCE_MASK,) if self.masked else ()
        return (IDS, *mask, *port_names("past", self.layers), *port_names("cross", self.layers))

    def _step(
        self, ids: torch.Tensor, states: torch.Tensor, mask: torch.Tensor | None, cache: Any
    ) -> torch.Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        masked = {} if mask is None else {MASK: mask}
        logits: torch.Tensor = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states),
            decoder_input_ids=ids,
            past_key_values=cache,
            use_cache=True,
            return_dict=True,
            **masked,
        ).logits
        return logits


@contextmanager
def _last_token(head: torch.nn.Module | None) -> Iterator[None]:
    """The output head sees the last token alone: the widest product of a decoder is of one row a step."""
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda module, states: (states[0][:, -1],))
    try:
        yield
    finally:
        handle.remove()


def cached_model(model: torch.nn.Module, start: int, feeds: Tensors) -> CachedModel:
    """The model, its layers counted by running it once on `feeds` of the encoder.

    Raises SourceError for a model whose decoder keeps no cache that can be handed over.
    """
    import torch

    probe = CachedModel(model=model, layers=0, start=start, masked=MASK in feeds)
    try:
        with torch.inference_mode():
            layers = len(probe.encode(feeds)) // 2
    except _MISFITS as problem:
        reason = " ".join(str(problem).split())[:300]
        raise SourceError(
            f"a {type(model).__name__} does not run as an encoder and a decoder with a cache: {reason}",
            hint="its decoder must take an EncoderDecoderCache of transformers",
        ) from problem
    if layers == 0:
        raise SourceError(
            f"the decoder of a {type(model).__name__} keeps no keys and values of the source",
            hint="its layers must take an EncoderDecoderCache of transformers",
        )
    return CachedModel(model=model, layers=layers, start=start, masked=probe.masked)


# --- transformers' cache ------------------------------------------------------------------------------


def _cache(past: Sequence[tuple[Any, Any]], cross: Sequence[tuple[Any, Any]]) -> Any:
    """An EncoderDecoderCache that holds these keys and values; layers that are not given start empty."""
    from transformers.cache_utils import EncoderDecoderCache

    cache = EncoderDecoderCache(_filled(past), _filled(cross))
    cache.is_updated = dict.fromkeys(range(len(cross)), True)
    return cache


def _filled(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> Any:
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    for keys, values in pairs:
        layer = DynamicLayer()
        layer.dtype, layer.device = keys.dtype, keys.device
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        cache.layers.append(layer)
    return cache


def _pairs(feeds: Tensors, kind: str, layers: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    names = iter(port_names(kind, layers))
    return [(feeds[key], feeds[value]) for key, value in zip(names, names, strict=True)]


def _named(kind: str, cache: Any) -> dict[str, torch.Tensor]:
    return dict(zip(port_names(kind, len(cache.layers)), _tensors(cache), strict=True))


def _tensors(cache: Any) -> Iterator[torch.Tensor]:
    for layer in cache.layers:
        yield layer.keys
        yield layer.values
