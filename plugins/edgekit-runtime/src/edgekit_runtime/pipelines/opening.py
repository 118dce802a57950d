"""Opening an artifact, whether its model is of one graph or of several."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from edgekit_runtime.errors import OpenFailed
from edgekit_runtime.pipelines.encoder_decoder import EncoderDecoder
from edgekit_runtime.pipelines.settings import read_pipeline
from edgekit_runtime.session import Opener, Session
from edgekit_runtime.values import OpenRequest


def open_artifact(opener: Opener, request: OpenRequest) -> Session:
    """The artifact in `request.directory`: opened as it is, or each part by the same opener and composed.

    Raises what the opener raises, `ManifestError` for a pipeline.json that cannot be trusted, and
    `OpenFailed` for parts that are missing or do not fit each other. What was opened is closed then.
    """
    pipeline = read_pipeline(request.directory)
    if pipeline is None:
        return opener(request)
    for name in pipeline.parts:
        if not (request.directory / name).is_dir():
            raise OpenFailed(
                f"{request.directory} lacks its part {name!r}",
                hint="the artifact is incomplete: compile it again",
            )
    with ExitStack() as opened:
        parts: dict[str, Session] = {}
        for name in pipeline.parts:
            parts[name] = opener(replace(request, directory=request.directory / name))
            opened.callback(parts[name].close)
        session = EncoderDecoder(parts, pipeline)
        opened.pop_all()
    return session
