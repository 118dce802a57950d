"""A transformers folder as a Subject: load the model, choose what is traced, hand over by kind of input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.discovery import resolve
from edgekit.errors import PluginBroken, SourceError
from edgekit.exporting.hub import provenance
from edgekit.exporting.loaded import Loaded
from edgekit.exporting.loading import UNREAD, load_model
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.source import FolderSource
from edgekit.exporting.subject import Assembly, Subject
from edgekit.tasks import ExportRecipe, Task, recipe_for

if TYPE_CHECKING:
    import torch

#: Kind of processor -> function (Loaded, ExportOptions, processor directory) -> Subject or Assembly.
_SUBJECTS = {
    "text": "edgekit.exporting.text:text_subject",
    "image": "edgekit.exporting.image:image_subject",
    "audio": "edgekit.exporting.audio:audio_subject",
}


def load_folder(source: FolderSource, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    """Load the model, write and prove its processor, and plan what to check."""
    recipe = folder_recipe(source.task, source.architecture)
    unread = UNREAD if recipe.outputs == ("last_hidden_state",) else ()
    model = load_model(source, recipe.auto_class, options, unread)
    module = traced_module(recipe, model)
    loaded = Loaded(
        model=model,
        module=module,
        call=caller(module, recipe.outputs),
        folder=source.folder,
        task=source.task,
        outputs=recipe.outputs,
        pipeline=recipe.pipeline,
        source={"kind": "transformers folder", **source_facts(source)},
        labels=source.labels,
    )
    return _subject(recipe.processor, loaded, options, processor_dir)


def folder_recipe(task: Task, architecture: str) -> ExportRecipe:
    """The task's recipe for models of this class, else its first.

    Raises SourceError when there is none, or of a kind of input unknown here.
    """
    recipe = recipe_for(task, architecture) or next(iter(task.exports), None)
    if recipe is None or recipe.processor not in _SUBJECTS:
        raise SourceError(f"task {task.name!r} is not exported from folders", hint="export the module")
    return recipe


def text_recipe(task: Task, architecture: str) -> ExportRecipe:
    """The same, of a task of texts."""
    recipe = folder_recipe(task, architecture)
    if recipe.processor != "text":
        raise SourceError(
            f"task {task.name!r} takes no texts, and from such a folder only models of texts are exported",
            hint="save the whole model with transformers, and export its folder",
        )
    return recipe


def traced_module(recipe: ExportRecipe, model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, or what the recipe makes of it. Raises PluginBroken."""
    import torch

    if not recipe.module:
        return model
    make = resolve(recipe.module)
    module = make(model) if callable(make) else None
    if not isinstance(module, torch.nn.Module):
        raise PluginBroken(f"{recipe.module!r} makes no torch module", hint="report this to its author")
    return module.eval()


def source_facts(source: FolderSource) -> dict[str, str]:
    """What the manifest says of a folder: its name, its class, its weights, its revision if known."""
    return {
        **provenance(source.folder),
        "architecture": source.architecture,
        "weights": ", ".join(path.name for path in source.weights.files),
        "dtype": source.dtype,
    }


def caller(
    module: torch.nn.Module, outputs: Sequence[str]
) -> Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Runs a module on tensors by keyword and gives the fields of its result that are called `outputs`."""

    def call(feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        result = module(**feeds)
        lacking = [name for name in outputs if not isinstance(result, Mapping) or name not in result]
        if lacking:
            raise SourceError(
                f"a {type(module).__name__} gives no output called {lacking[0]!r}",
                hint="does its config set return_dict to false?",
            )
        return {name: result[name] for name in outputs}

    return call


def _subject(kind: str, loaded: Loaded, options: ExportOptions, processor_dir: Path) -> Subject | Assembly:
    make = resolve(_SUBJECTS[kind])
    subject = make(loaded, options, processor_dir) if callable(make) else None
    if not isinstance(subject, Subject | Assembly):
        raise PluginBroken(f"{_SUBJECTS[kind]!r} makes no subject", hint="please report this")
    return subject
