"""Loading a transformers folder's model and tokenizer, each failure explained. Never the network."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import SourceError, UnsafeSource
from edgekit.exporting.options import ExportOptions
from edgekit.exporting.processor import HubTokenizer
from edgekit.exporting.quiet import kept_environment, no_progress_bars, quiet_libraries
from edgekit.exporting.source import FolderSource
from edgekit_runtime.errors import EdgekitError, MissingDependency

if TYPE_CHECKING:
    import torch

#: What transformers raises for folders it cannot load; its own errors derive from these.
_LOAD_ERRORS = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError)
#: What computes a vector of the whole text behind the hidden states; some folders are saved without.
UNREAD = ("pooler.",)


def require(*modules: str) -> None:
    """Import what exporting needs. Raises MissingDependency."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError as problem:
            raise MissingDependency(
                f"exporting needs {name}: {problem}", hint="pip install 'edgekit[export]'"
            ) from problem


def load_model(
    source: FolderSource, auto_class: str, options: ExportOptions, unread: tuple[str, ...] = ()
) -> torch.nn.Module:
    """The model in eval mode, on the CPU, in fp32, with every weight from the folder.

    unread: beginnings of names of weights that may be missing, since what is exported never uses them.
    """
    model, lacking = load_with_gaps(source, auto_class, options, {})
    missing = [name for name in lacking if not (unread and name.startswith(unread))]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise SourceError(
            f"{source.folder}: the weights lack {missing[0]!r}{more}, which a {source.architecture} needs",
            hint="was it fine-tuned and saved whole? Weights that were never trained are not exported",
        )
    refuse_bad_numbers(model, str(source.folder))
    return model


def load_with_gaps(
    source: FolderSource, auto_class: str, options: ExportOptions, changes: Mapping[str, object]
) -> tuple[torch.nn.Module, list[str]]:
    """The model, and the weights that the folder lacks (random now). changes: keys of its config."""
    require("torch", "onnxscript", "transformers")
    import torch

    with explained(source.folder, "model"), quiet_libraries(), kept_environment(), no_progress_bars():
        import transformers

        model, report = getattr(transformers, auto_class).from_pretrained(
            str(source.folder),
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=not source.weights.pickle,
            weights_only=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            **changes,
        )
    return model.eval(), sorted(report["missing_keys"])


def load_tokenizer(folder: Path, options: ExportOptions) -> HubTokenizer:
    """The folder's tokenizer."""
    with explained(folder, "tokenizer"), quiet_libraries():
        from transformers import AutoTokenizer

        tokenizer: HubTokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=options.trust_remote_code
        )
    return tokenizer


def refuse_bad_numbers(module: torch.nn.Module, where: str) -> None:
    """Raise SourceError naming the first weight that holds NaN or infinity."""
    import torch

    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        extremes = torch.stack(torch.aminmax(tensor))  # NaN comes through; no copy is made
        if not bool(torch.isfinite(extremes).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise SourceError(
                f"{where}: the weight {name!r} holds {bad} values that are NaN or infinite",
                hint="the training diverged; export an earlier checkpoint",
            )


def give_back(module: torch.nn.Module) -> None:
    """Free the weights of a module that was loaded here, whoever still holds them; it is of no use then.

    onnxscript's rewrite rules keep the last graph that they matched for the life of the process, and with
    it the original's weights, those too that the graph no longer uses.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.new_empty(0)


def position_limit(module: torch.nn.Module) -> int | None:
    """Tokens that the model's position embeddings reach; None when it has none.

    Models in the manner of RoBERTa count from behind their padding index, so they take fewer.
    """
    import torch

    limits = []
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, torch.nn.Embedding):
            skipped = 0 if part.padding_idx is None else part.padding_idx + 1
            limits.append(part.num_embeddings - skipped)
    declared = getattr(text_config(module), "max_position_embeddings", None)
    if isinstance(declared, int) and declared > 0:
        limits.append(declared)
    return min(limits) if limits else None


def text_config(module: torch.nn.Module) -> object:
    """The config of a transformers model, or of the part that reads texts where it has several."""
    config = getattr(module, "config", None)
    part = getattr(config, "get_text_config", None)
    return part() if callable(part) else config


@contextmanager
def explained(folder: Path, what: str) -> Iterator[None]:
    """Turn what transformers raises into an error that names the folder."""
    try:
        yield
    except EdgekitError:
        raise
    except pickle.UnpicklingError as problem:
        raise UnsafeSource(
            f"{folder}: the weights hold more than tensors, and are refused even with --allow-pickle",
            hint="re-save the weights as safetensors where you trust them",
        ) from problem
    except _load_errors() as problem:
        reason = " ".join(str(problem).split())
        raise SourceError(
            f"{folder}: transformers cannot load the {what}: {reason[:400]}", hint=_load_hint(reason)
        ) from problem


def _load_errors() -> tuple[type[Exception], ...]:
    """With what a config raises whose values contradict each other; old versions of its library have none."""
    from huggingface_hub import errors

    return (*_LOAD_ERRORS, getattr(errors, "StrictDataclassError", OSError))


def _load_hint(reason: str) -> str:
    if "does not recognize this architecture" in reason:
        return "its model_type is unknown to the installed transformers: is it misspelt, or newer?"
    if "size mismatch" in reason or "ignore_mismatched_sizes" in reason:
        return "config.json and the weights belong to different models"
    return "does `from_pretrained` load it in Python?"
