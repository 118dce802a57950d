"""Models of several graphs, run as one session. `pipeline.json` beside the parts says how.

    encoder/...  decoder/...  pipeline.json

A directory without it holds a model of one graph.
"""

from __future__ import annotations

from edgekit_runtime.pipelines.encoder_decoder import EncoderDecoder
from edgekit_runtime.pipelines.opening import open_artifact
from edgekit_runtime.pipelines.settings import (
    ENCODER_DECODER,
    PIPELINE_FILE,
    Pipeline,
    read_pipeline,
    write_pipeline,
)

__all__ = [
    "ENCODER_DECODER",
    "PIPELINE_FILE",
    "EncoderDecoder",
    "Pipeline",
    "open_artifact",
    "read_pipeline",
    "write_pipeline",
]
