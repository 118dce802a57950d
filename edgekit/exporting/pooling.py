"""The torch side of a sentence-transformers folder: token vectors to one vector a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError
from edgekit.exporting.folder import source_facts, text_recipe
from edgekit.exporting.hub import provenance
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.loading import UNREAD, explained, load_model, load_tokenizer, refuse_bad_numbers
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.sentence import OUTPUT, Dense, Normalize, Pooling, SentenceSource, Step
from edgekit.exporting.subject import Assembly, Subject
from edgekit.exporting.text import tokenized_subject

if TYPE_CHECKING:
    import torch


def load_sentence(source: SentenceSource, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    """Load the encoder, put the chain behind it, and prove that padding changes no embedding."""
    task = source.encoder.task
    recipe = text_recipe(task, source.encoder.architecture)
    encoder = load_model(source.encoder, recipe.auto_class, options, UNREAD)
    tokenizer = load_tokenizer(source.encoder.folder, options)
    if source.max_length is not None:
        tokenizer.model_max_length = min(source.max_length, tokenizer.model_max_length)
    if tokenizer.padding_side != "right":
        raise SourceError(
            f"{source.folder}: the tokenizer pads on the left, where pooling takes the text to begin",
            hint="save it with padding_side='right'",
        )
    module = sentence_module(encoder, source.steps, source.label)

    def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {OUTPUT: module(feeds)}

    loaded = Loaded(
        model=encoder,
        module=module,
        call=call,
        folder=source.folder,
        task=task,
        outputs=(OUTPUT,),
        source={
            "kind": "sentence-transformers folder",
            **source_facts(source.encoder),
            **provenance(source.folder),
            "modules": ", ".join(["Transformer", *map(_word, source.steps)]),
        },
    )
    return tokenized_subject(loaded, tokenizer, options, processor_dir)


def _word(step: Pooling | Dense | Normalize) -> str:
    if isinstance(step, Pooling):
        return f"Pooling ({' + '.join(step.modes)})"
    return f"Dense ({step.outputs})" if isinstance(step, Dense) else "Normalize"


def sentence_module(encoder: torch.nn.Module, steps: Sequence[Step], label: str) -> torch.nn.Module:
    """The encoder with the chain behind it. label: how messages call the source."""
    import torch

    class SentenceEncoder(torch.nn.Module):
        """Token ids to one vector a text."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.dense = torch.nn.ModuleList(_dense_layer(step) for step in steps if isinstance(step, Dense))

        def forward(self, feeds: Mapping[str, torch.Tensor]) -> torch.Tensor:
            tokens = self.encoder(**feeds)["last_hidden_state"]
            mask = feeds.get("attention_mask")
            if mask is None:
                mask = torch.ones_like(feeds["input_ids"])
            vectors: torch.Tensor = tokens
            dense = iter(self.dense)
            for step in steps:
                if isinstance(step, Pooling):
                    vectors = torch.cat([_pool(mode, tokens, mask) for mode in step.modes], dim=-1)
                elif isinstance(step, Dense):
                    vectors = next(dense)(vectors)
                else:
                    vectors = torch.nn.functional.normalize(vectors, p=2.0, dim=-1)
            return vectors

    module = SentenceEncoder().eval()
    refuse_bad_numbers(module.dense, label)
    return module


def _pool(mode: str, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """tokens: fp32 [batch, sequence, width]; mask: 1 where a token is real. fp32 [batch, width]."""
    import torch

    weights = mask.unsqueeze(-1).to(tokens.dtype)
    if mode == "cls":
        return tokens[:, 0]
    if mode == "max":
        return tokens.masked_fill(weights == 0, torch.finfo(tokens.dtype).min).max(dim=1).values
    if mode == "lasttoken":
        last = mask.to(torch.int64).sum(dim=1) - 1
        return tokens.gather(1, last.view(-1, 1, 1).expand(-1, 1, tokens.shape[-1])).squeeze(1)
    if mode == "weightedmean":  # later tokens weigh more
        weights = weights * torch.arange(1, tokens.shape[1] + 1, dtype=tokens.dtype).view(1, -1, 1)
    total = weights.sum(dim=1).clamp(min=1e-9)
    summed = (tokens * weights).sum(dim=1)
    return summed / (total.sqrt() if mode == "mean_sqrt_len" else total)


def _dense_layer(step: Dense) -> torch.nn.Module:
    import torch

    linear = torch.nn.Linear(step.inputs, step.outputs, bias=step.bias)
    with explained(step.weights, "Dense module"):
        if step.weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(step.weights)
        else:
            state = torch.load(step.weights, weights_only=True)
        linear.load_state_dict(
            {name.removeprefix("linear."): value.to(torch.float32) for name, value in state.items()}
        )
    return torch.nn.Sequential(linear, getattr(torch.nn, step.activation)())
