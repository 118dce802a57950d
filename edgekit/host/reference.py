"""Running ONNX files as they are: by an installed backend with capability `reference`, in a worker."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.devices import open_device
from edgekit.discovery import reference_backend
from edgekit.errors import PrecisionNotGiven
from edgekit.files.graphs import PIPELINE_FILE, Graph, model_graphs
from edgekit.graph_precision import stored_precision
from edgekit.host.client import WorkerClient
from edgekit.host.compiling import compile_model
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.values import CompileRequest, ModelTable, RunSettings, Target
from edgekit_runtime.values import Signature

#: What the reference runs in, unless the graphs were quantized before they came here.
HIGH = "fp32"


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
    with _built(graphs) as built:
        if pipeline is not None and pipeline.is_file():
            shutil.copyfile(pipeline, built.directory / PIPELINE_FILE)
        with WorkerClient(open_device("local")) as worker, built.open(worker) as session:
            yield session


@contextmanager
def open_reference_parts(graphs: Sequence[Graph]) -> Iterator[Mapping[str, RemoteSession]]:
    """A session over each graph, by the name of its part, for a host that composes them itself."""
    with (
        _built(graphs) as built,
        WorkerClient(open_device("local")) as worker,
        ExitStack() as opened,
    ):
        yield {graph.part: opened.enter_context(built.open(worker, graph.part)) for graph in graphs}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    """Graphs compiled by a backend, each in the directory of its part."""

    directory: Path
    backend: str
    precision: str

    def open(self, worker: WorkerClient, part: str = "") -> RemoteSession:
        return open_remote(worker, self.directory / part, self.backend, self.precision, RunSettings())


@contextmanager
def _built(graphs: Sequence[Graph]) -> Iterator[_Built]:
    """The graphs in fp32; in the precision that they have where they were quantized before they came here."""
    with tempfile.TemporaryDirectory(prefix="edgekit-reference-") as name:
        built = _Built(directory=Path(name), backend=reference_backend(), precision=HIGH)
        try:
            _build(graphs, built)
        except PrecisionNotGiven:
            built = replace(built, precision=_stored(graphs))
            if built.precision == HIGH:
                raise
            _build(graphs, built)
        yield built


def _build(graphs: Sequence[Graph], built: _Built) -> None:
    for graph in graphs:
        place = built.directory / graph.part
        place.mkdir(exist_ok=True)
        request = CompileRequest(
            model=graph.path.resolve(),
            signature=graph.signature,
            workdir=place,
            precision=built.precision,
            target=Target(name="reference", backend=built.backend),
        )
        compile_model(built.backend, request)


def _stored(graphs: Sequence[Graph]) -> str:
    """The one precision that all graphs were quantized to, `HIGH` where there is none."""
    import onnx

    found = {stored_precision(onnx.load(graph.path, load_external_data=False)) for graph in graphs}
    words = {HIGH if one is None else one.precision for one in found}
    return words.pop() if len(words) == 1 else HIGH
