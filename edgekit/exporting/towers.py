"""What is traced of a model of images, or of images and texts, to give one vector.

Each function takes a loaded transformers model and gives a module whose forward takes the model's
inputs by name and returns a dict with one output, fp32 [batch, width]. Vectors are as the model
makes them, not scaled to length 1: answers compare directions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgekit.errors import SourceError

if TYPE_CHECKING:
    import torch

IMAGE_OUTPUT, TEXT_OUTPUT = "image_embedding", "sentence_embedding"


def image_tower(model: torch.nn.Module) -> torch.nn.Module:
    """One vector for an image: the projection of CLIP and SigLIP, else the pooled output of the model's
    own pooler, else its first token. Raises SourceError for a model that has none of these."""
    import torch

    features = getattr(model, "get_image_features", None)

    class ImageTower(torch.nn.Module):
        """Pixel values to one vector."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
            found = self.model(pixel_values=pixel_values) if features is None else features(pixel_values)
            return {IMAGE_OUTPUT: _pooled(found, "image_embeds")}

    if features is None and "pixel_values" not in inspect.signature(model.forward).parameters:
        raise SourceError(f"a {type(model).__name__} takes no images", hint="export it for another task")
    return ImageTower().eval()


def text_tower(model: torch.nn.Module) -> torch.nn.Module:
    """One vector for a text, in the space of the images. Raises SourceError for a model without texts."""
    features = getattr(model, "get_text_features", None)
    if not callable(features):
        raise SourceError(
            f"a {type(model).__name__} has no tower of texts beside one of images",
            hint="sentence-embedding takes CLIP, SigLIP, or a sentence-transformers folder",
        )
    text = getattr(getattr(model, "config", None), "text_config", None)
    length, filler = getattr(text, "max_position_embeddings", None), getattr(text, "pad_token_id", None)
    if str(getattr(text, "model_type", "")).startswith("siglip") and length and filler is not None:
        return _padded_tower(model, features, length, filler)
    return _masked_tower(model, features)


def _masked_tower(model: torch.nn.Module, features: Callable[..., object]) -> torch.nn.Module:
    import torch

    class TextTower(torch.nn.Module):
        """Token ids and their mask to one vector."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
            found = features(input_ids=input_ids, attention_mask=attention_mask)
            return {TEXT_OUTPUT: _pooled(found, "text_embeds")}

    return TextTower().eval()


def _padded_tower(
    model: torch.nn.Module, features: Callable[..., object], length: int, filler: int
) -> torch.nn.Module:
    import torch

    class PaddedTextTower(torch.nn.Module):
        """Token ids to one vector, for a model that was trained on texts padded to one length, unmasked.

        It reads its vector off the last position, so a text must be padded to that length again.
        """

        padding: torch.Tensor

        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("padding", torch.full((1, length), filler), persistent=False)

        def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            padding = self.padding.expand(input_ids.shape[0], length)
            padded = torch.cat([input_ids, padding], dim=1)[:, :length]
            return {TEXT_OUTPUT: _pooled(features(input_ids=padded), "text_embeds")}

    return PaddedTextTower().eval()


def _pooled(found: object, projected: str) -> torch.Tensor:
    """The vector in what a model returned: a tensor, a projection, a pooled output, or the first token."""
    import torch

    if isinstance(found, torch.Tensor):  # transformers before version 5
        return found
    for name in (projected, "pooler_output"):
        vector = getattr(found, name, None)
        if isinstance(vector, torch.Tensor):
            return vector
    tokens = getattr(found, "last_hidden_state", None)
    if isinstance(tokens, torch.Tensor) and tokens.dim() == 3:
        return tokens[:, 0]
    raise SourceError(
        "the model gives no pooled vector of an image or text", hint="export another task of it"
    )
