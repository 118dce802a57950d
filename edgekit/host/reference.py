"""Running an ONNX file as it is: by an installed backend with capability `reference`, in a worker."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.devices import open_device
from edgekit.discovery import reference_backend
from edgekit.host.client import WorkerClient
from edgekit.host.compiling import compile_model
from edgekit.host.sessions import RemoteSession, open_remote
from edgekit.values import CompileRequest, RunSettings, Target
from edgekit_runtime.values import Signature


@contextmanager
def open_reference(model: Path, signature: Signature) -> Iterator[RemoteSession]:
    """A session over the ONNX file in fp32, on this machine.

    Raises BackendUnavailable when no reference backend is installed.
    """
    backend = reference_backend()
    with tempfile.TemporaryDirectory(prefix="edgekit-reference-") as name:
        artifact = Path(name)
        request = CompileRequest(
            model=model.resolve(),
            signature=signature,
            workdir=artifact,
            precision="fp32",
            target=Target(name="reference", backend=backend),
        )
        compile_model(backend, request)
        with (
            WorkerClient(open_device("local")) as worker,
            open_remote(worker, artifact, backend, "fp32", RunSettings()) as session,
        ):
            yield session
