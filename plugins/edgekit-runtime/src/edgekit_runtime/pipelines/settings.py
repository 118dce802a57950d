"""pipeline.json: which parts a model is made of, and how it generates.

{"schema": 1, "kind": "encoder-decoder", "parts": ["encoder", "decoder"], "generation": {"start": [2], ...}}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import ManifestError, ProtocolError
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.generation import GenerationSettings
from edgekit_runtime.manifests import path_key, safe_relative
from edgekit_runtime.strictjson import Fields, check_schema, dump_json, read_json_file

PIPELINE_FILE = "pipeline.json"
PIPELINE_SCHEMA = 1
ENCODER_DECODER = "encoder-decoder"

#: Far beyond any vocabulary, any answer and any penalty in use; numbers up to these are safe to compute with.
_MOST_ID, _MOST_TOKENS, _PENALTIES = 2**31 - 1, 2**20, (0.01, 100.0)

_AGAIN = "export the model again, or compile it again if this is an artifact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """parts: names of the directories of its graphs, in the order of running: encoder, then decoder."""

    kind: str
    parts: tuple[str, ...]
    generation: GenerationSettings


def read_pipeline(directory: Path) -> Pipeline | None:
    """The pipeline of the model or artifact in `directory`, None where it is of one graph.

    Raises `ManifestError` naming the key that is wrong.
    """
    path = directory / PIPELINE_FILE
    if not path.exists():
        return None
    try:
        pipeline = _parsed(read_json_file(path, error=ManifestError), str(path))
    except ManifestError as exc:
        raise ManifestError(exc.message, hint=exc.hint or _AGAIN) from exc
    _check(pipeline, str(path))
    return pipeline


def write_pipeline(directory: Path, pipeline: Pipeline) -> None:
    """Write it into `directory`. Raises `ManifestError` for one that could not be read again."""
    path = directory / PIPELINE_FILE
    _check(pipeline, str(path))
    table = {"schema": PIPELINE_SCHEMA, **cast(dict[str, object], to_json(pipeline))}
    path.write_bytes(dump_json(table))


def _parsed(value: object, where: str) -> Pipeline:
    check_schema(value, PIPELINE_SCHEMA, where=where, error=ManifestError)
    top = Fields(value, known=("schema", *_names(Pipeline)), where=where, error=ManifestError)
    inner = top.raw("generation")
    Fields(inner, known=_names(GenerationSettings), where=top.where("generation"), error=ManifestError)
    try:
        return Pipeline(
            kind=top.text("kind"),
            parts=top.texts("parts"),
            generation=from_json(GenerationSettings, cast(JsonValue, inner), top.where("generation")),
        )
    except ProtocolError as exc:
        raise ManifestError(exc.message) from exc


def _names(cls: type[Pipeline] | type[GenerationSettings]) -> tuple[str, ...]:
    return tuple(item.name for item in fields(cls))


def _check(pipeline: Pipeline, where: str) -> None:
    if pipeline.kind != ENCODER_DECODER:
        raise ManifestError(
            f"{where}: kind is {pipeline.kind!r}, known: {ENCODER_DECODER}",
            hint="update edgekit-runtime to the version that wrote the file",
        )
    for name in pipeline.parts:
        if len(safe_relative(name).parts) != 1:
            raise ManifestError(f"{where}: the part {name!r} is no name of a directory", hint=_AGAIN)
    if len(pipeline.parts) != 2 or len({path_key(name) for name in pipeline.parts}) != 2:
        raise ManifestError(f"{where}: parts must be the names of an encoder and a decoder", hint=_AGAIN)
    for problem in _problems(pipeline.generation):
        raise ManifestError(f"{where}: generation: {problem}", hint=_AGAIN)


def _problems(settings: GenerationSettings) -> Iterator[str]:
    """What no generation can be made with."""
    forced = [token for token in (settings.forced_first, settings.forced_last) if token is not None]
    ids = (
        *settings.start,
        *settings.end,
        settings.pad,
        *settings.suppress,
        *settings.suppress_first,
        *forced,
    )
    low, high = _PENALTIES
    if not settings.start:
        yield "start must hold at least one id"
    if any(not 0 <= token <= _MOST_ID for token in ids):
        yield f"ids must be from 0 to {_MOST_ID}"
    if set(forced) & set(settings.suppress):
        yield "forced_first and forced_last must not be in suppress"
    if not 1 <= settings.max_tokens <= _MOST_TOKENS:
        yield f"max_tokens must be from 1 to {_MOST_TOKENS}, found {settings.max_tokens}"
    if not 0 <= settings.min_tokens <= settings.max_tokens:
        yield f"min_tokens must be from 0 to max_tokens, found {settings.min_tokens}"
    if not low <= settings.repetition_penalty <= high:
        yield f"repetition_penalty must be from {low:g} to {high:g}, found {settings.repetition_penalty:g}"
    if not 0 <= settings.no_repeat_ngram <= _MOST_TOKENS:
        yield f"no_repeat_ngram must be from 0 to {_MOST_TOKENS}, found {settings.no_repeat_ngram}"
