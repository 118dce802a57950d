"""Device-side pre-processing. Each kind of processor is one module and one entry in `KINDS`.

processor/processor.json    {"schema": 1, "kind": "text", ...}: the kind's own settings beside it
processor/parity.json       recorded cases, so that a device can prove it reads rows alike
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from edgekit_runtime.errors import ProcessorError
from edgekit_runtime.processors.base import PROCESSOR_FILE, PROCESSOR_SCHEMA, Processor, Row
from edgekit_runtime.processors.text import (
    TEXT_INPUTS,
    ParityCase,
    TextProcessor,
    TextSettings,
    write_text_processor,
)
from edgekit_runtime.strictjson import check_schema, nearest, read_json_file

#: kind -> "module:function" that opens a processor directory of this kind; imported when one is opened.
KINDS = {
    "text": "edgekit_runtime.processors.text:load_text",
    "image": "edgekit_runtime.processors.image:load_image",
    "audio": "edgekit_runtime.processors.audio:load_audio",
}


def load_processor(directory: Path) -> Processor:
    """Open the processor in `directory`. Raises `ProcessorError` when it cannot be trusted."""
    path = directory / PROCESSOR_FILE
    value = read_json_file(path, error=ProcessorError)
    check_schema(value, PROCESSOR_SCHEMA, where=str(path), error=ProcessorError)
    kind = value.get("kind") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise ProcessorError(f"{path}: kind {kind!r} is not known", hint=nearest(str(kind), KINDS))
    module, _, function = KINDS[kind].partition(":")
    processor: Processor = getattr(import_module(module), function)(directory)
    return processor


__all__ = [
    "KINDS",
    "TEXT_INPUTS",
    "ParityCase",
    "Processor",
    "Row",
    "TextProcessor",
    "TextSettings",
    "load_processor",
    "write_text_processor",
]
