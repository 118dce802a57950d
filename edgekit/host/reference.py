"""Running ONNX files as they are: by an installed backend with capability `reference`, in a worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgekit.devices import open_device
from edgekit.discovery import reference_backend
from edgekit.files.graphs import PIPELINE_FILE, Graph, model_graphs
from edgekit.host.client import WorkerClient
from edgekit.host.compiling import compile_model
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.values import CompileRequest, ModelTable, RunSettings, Target
from edgekit_runtime.values import Signature


@contextmanager
def open_reference(model: Path, signature: Signature) -> Iterator[RemoteSession]:
    """A session over one ONNX file in fp32, on this machine.

    Raises BackendUnavailable when no reference backend is installed.
    """
    with open_reference_graphs((Graph(part="", path=model, signature=signature),)) as session:
        yield session


@contextmanager
def open_reference_model(directory: Path, table: ModelTable) -> Iterator[RemoteSession]:
    """The same over a model directory, whether it is of one graph or of several."""
    with open_reference_graphs(model_graphs(directory, table), directory / PIPELINE_FILE) as session:
        yield session


@contextmanager
def open_reference_graphs(graphs: Sequence[Graph], pipeline: Path | None = None) -> Iterator[RemoteSession]:
    """The same over graphs, composed as the file `pipeline` says where they are parts.

    The session's signature is that of the whole.
    """
    with _built(graphs) as (artifact, backend):
        if pipeline is not None and pipeline.is_file():
            shutil.copyfile(pipeline, artifact / PIPELINE_FILE)
        with WorkerClient(open_device("local")) as worker, _opened(worker, artifact, backend) as session:
            yield session


@contextmanager
def open_reference_parts(graphs: Sequence[Graph]) -> Iterator[Mapping[str, RemoteSession]]:
    """A session over each graph, by the name of its part, for a host that composes them itself."""
    with (
        _built(graphs) as (artifact, backend),
        WorkerClient(open_device("local")) as worker,
        ExitStack() as opened,
    ):
        yield {
            graph.part: opened.enter_context(_opened(worker, artifact / graph.part, backend))
            for graph in graphs
        }


@contextmanager
def _built(graphs: Sequence[Graph]) -> Iterator[tuple[Path, str]]:
    """Each graph compiled into the directory of its part, and the backend that did it."""
    backend = reference_backend()
    with tempfile.TemporaryDirectory(prefix="edgekit-reference-") as name:
        artifact = Path(name)
        for graph in graphs:
            place = artifact / graph.part
            place.mkdir(exist_ok=True)
            request = CompileRequest(
                model=graph.path.resolve(),
                signature=graph.signature,
                workdir=place,
                precision="fp32",
                target=Target(name="reference", backend=backend),
            )
            compile_model(backend, request)
        yield artifact, backend


def _opened(worker: WorkerClient, artifact: Path, backend: str) -> RemoteSession:
    return open_remote(worker, artifact, backend, "fp32", RunSettings())
