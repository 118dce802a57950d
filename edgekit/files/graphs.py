"""The ONNX files of a model directory: one, or one for each part of a pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.values import ModelTable
from edgekit_runtime.errors import ManifestError
from edgekit_runtime.pipelines import PIPELINE_FILE, read_pipeline
from edgekit_runtime.values import Signature

GRAPH_FILE = "model.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """part: name of the part and of its directory, "" for a model of one graph; path: the ONNX file."""

    part: str
    path: Path
    signature: Signature


def model_graphs(directory: Path, table: ModelTable) -> tuple[Graph, ...]:
    """The graphs of the model in `directory`, in the order they run.

    Raises ManifestError where the manifest and pipeline.json name different parts.
    """
    pipeline = read_pipeline(directory)
    named = pipeline.parts if pipeline is not None else ()
    if set(named) != set(table.parts):
        raise ManifestError(
            f"{directory / PIPELINE_FILE} names the parts {', '.join(named) or '(none)'}, and the manifest "
            f"{', '.join(table.parts) or '(none)'}",
            hint="export the model again",
        )
    parts = {part: table.parts[part] for part in named} or {"": table.signature}
    return tuple(
        Graph(part=part, path=directory / part / GRAPH_FILE, signature=signature)
        for part, signature in parts.items()
    )


def graph_files(graph: Graph) -> tuple[Path, ...]:
    """The ONNX file and the files of its weights beside it."""
    return tuple(sorted(graph.path.parent.glob(f"{GRAPH_FILE}*")))


__all__ = ["GRAPH_FILE", "PIPELINE_FILE", "Graph", "graph_files", "model_graphs"]
