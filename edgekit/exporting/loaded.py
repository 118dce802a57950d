"""A model in memory, whatever folder it came from. Each kind of input makes a Subject of it by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.exporting.subject import Facts
from edgekit.tasks import Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loaded:
    """model: the transformers model, which knows lengths and sizes; module: what is traced, which may be
    more or less than it; call: runs the module on named tensors and gives its outputs in order; folder:
    where the tokenizer or feature extractor lies; source: provenance, for the manifest; pipeline: how its
    graphs run where it becomes several (`ExportRecipe.pipeline`), then `call` is not used.
    """

    model: torch.nn.Module
    module: torch.nn.Module
    call: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]]
    folder: Path
    task: Task
    outputs: tuple[str, ...]
    source: Mapping[str, str]
    labels: tuple[str, ...] = ()
    pipeline: str = ""

    def facts(self, axes: Mapping[str, Mapping[int, str]]) -> Facts:
        """What is known of it without holding it. axes: those that vary, by input."""
        return Facts(
            task=self.task.name,
            answers=self.task.answers,
            axes=axes,
            source=self.source,
            labels=self.labels,
        )
