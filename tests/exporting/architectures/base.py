"""A small random model of any transformers config, as a folder that transformers saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from edgekit.exporting.quiet import kept_environment, quiet_libraries

#: Configs within a config.
_PARTS = ("text_config", "vision_config", "backbone_config", "encoder", "decoder")
#: Names under which configs keep the spread of their first weights.
_SPREADS = ("initializer_range", "init_std", "embed_init_std")


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """name: what people call it; kind: text, image or audio; tasks: those that it is tried for.

    build: saves a model for a task, and its preprocessor, in a folder.
    named: tasks that cannot be told from the config, so that --task must be given.
    """

    name: str
    kind: str
    tasks: tuple[str, ...]
    build: Callable[[Path, str], None]
    named: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """model: a transformers class, an Auto class or one of its own; labels: in class order, () without."""

    model: str
    labels: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """config: name of a config class; spread: of the first weights, wide enough for answers to differ;
    pixels: side of the images on which running means and variances are taken, 0 for none.
    """

    config: str
    changes: Mapping[str, Any]
    spread: float = 0.2
    pixels: int = 0


def save_model(folder: Path, recipe: Recipe, head: Head) -> None:
    """Make the model and save it in `folder`. The same weights each time."""
    with kept_environment(), quiet_libraries():
        import torch
        import transformers

        torch.manual_seed(0)
        config = getattr(transformers, recipe.config)(**recipe.changes)
        _prepare(config, recipe.spread, head)
        kind = getattr(transformers, head.model)
        model = kind.from_config(config) if head.model.startswith("Auto") else kind(config)
        enliven(model.eval())
        if recipe.pixels:
            _settle(model, recipe.pixels)
        model.save_pretrained(folder)


def _prepare(config: Any, spread: float, head: Head) -> None:
    config.architectures = config.architectures or []  # Auto classes with two models for a config look there
    if head.labels:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: index for index, label in enumerate(head.labels)}
    if head.problem is not None:
        config.problem_type = head.problem
    inner = (getattr(config, name, None) for name in _PARTS)
    for part in (config, *inner):
        for key in _SPREADS:
            if hasattr(part, key):
                setattr(part, key, spread)


def enliven(model: Any) -> None:
    """Move what starts as zeros or ones, such as biases, scales and running means.

    An exporter may drop or fold such a weight and nobody would see it.
    """
    import torch

    with torch.no_grad():
        for name, tensor in chain(model.named_parameters(), model.named_buffers()):
            if not tensor.is_floating_point() or not tensor.numel():
                continue
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                tensor.normal_(0.0, 0.1)
            elif tensor.requires_grad and bool((tensor == tensor.flatten()[0]).all()):
                tensor.add_(0.1 * torch.randn_like(tensor))


def _settle(model: Any, side: int) -> None:
    """Take the running statistics of batch norms from a batch of images, as training would have left them.

    With any others the values of a deep random model vanish or grow until rounding decides.
    """
    import torch

    norms = [part for part in model.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    coarse = torch.nn.functional.interpolate(torch.randn(16, 3, 4, 4), size=(side, side), mode="bilinear")
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(pixel_values=coarse + 0.3 * torch.randn(16, 3, side, side))
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval().momentum = momentum
        norm.running_var.clamp_(
            min=float(norm.running_var.mean()) / 10
        )  # no channel is raised far above others
