"""Frames of the worker protocol: a JSON header line, then as many bytes as the header says.

    {"type": "call", "id": 1, "bytes": 5, "function": "module:name", "params": {}}\\n
    hello

The host sends `call`, `cancel` and `stop`. The worker sends `hello` once, `heartbeat`, `progress`,
`log`, and one `result` or `error` for each call. Numbers are strict JSON: no NaN, no Infinity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import BinaryIO, TypeAlias

from edgekit_runtime.errors import ProtocolError

#: The version both ends must speak; the worker says it in `hello`.
PROTOCOL = 1

HEADER_LIMIT = 1 << 20
BODY_LIMIT = 2 << 30
_CHUNK = 1 << 20

#: Anything JSON can say. Read it with the accessors of `edgekit_runtime.codec`.
JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
Header: TypeAlias = Mapping[str, JsonValue]


def write_frame(stream: BinaryIO, header: Header, body: bytes = b"") -> None:
    """Write one frame and flush. The stream must be owned by the caller while this runs."""
    write_all(stream, encode_header(header, len(body)))
    write_all(stream, body)
    stream.flush()


def write_all(stream: BinaryIO, data: bytes) -> None:
    """Write every byte, also to an unbuffered stream, which may take a part only."""
    view = memoryview(data)
    while view:
        view = view[stream.write(view) :]


def encode_header(header: Header, size: int) -> bytes:
    """The header line of a frame whose body has `size` bytes."""
    if size > BODY_LIMIT:
        raise ProtocolError(f"a body of {size} bytes is over the limit of {BODY_LIMIT}")
    try:
        text = json.dumps({**header, "bytes": size}, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"a {header.get('type')} frame holds what JSON cannot say: {error}") from error
    line = text.encode() + b"\n"
    if len(line) > HEADER_LIMIT:
        raise ProtocolError(
            f"a {header.get('type')} frame's header has {len(line)} bytes, the limit is {HEADER_LIMIT}",
            hint="long answers belong in the frame's body",
        )
    return line


def read_frame(stream: BinaryIO) -> tuple[Header, bytes] | None:
    """The next frame; None at a clean end of the stream. Raises `ProtocolError` for anything else."""
    line = stream.readline(HEADER_LIMIT + 1)
    if not line:
        return None
    if not line.endswith(b"\n"):
        if len(line) > HEADER_LIMIT:
            raise ProtocolError(f"a header is over the limit of {HEADER_LIMIT} bytes", hint=_NOISE)
        raise ProtocolError(f"the stream ended inside a header: {_shown(line)}")
    header = _header(line)
    size = header["bytes"]
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= BODY_LIMIT:
        raise ProtocolError(f"a frame announces {size!r} bytes, the limit is {BODY_LIMIT}")
    return header, _exactly(stream, size)


_NOISE = "something other than the worker wrote to the protocol's pipe, such as a shell profile that prints"


def _header(line: bytes) -> dict[str, JsonValue]:
    try:
        header = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not a frame: {_shown(line)}", hint=_NOISE) from error
    if not isinstance(header, dict) or not isinstance(header.get("type"), str) or "bytes" not in header:
        raise ProtocolError(f"a frame without type and bytes: {_shown(line)}", hint=_NOISE)
    return header


def _exactly(stream: BinaryIO, size: int) -> bytes:
    """Read `size` bytes piece by piece, so that a false size never allocates more than was sent."""
    if size <= _CHUNK:
        pieces = [stream.read(size)] if size else []
    else:
        pieces = []
        missing = size
        while missing:
            piece = stream.read(min(_CHUNK, missing))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
    body = b"".join(pieces)
    if len(body) != size:
        raise ProtocolError(f"the stream ended after {len(body)} of a body's {size} bytes")
    return body


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON number")


def _shown(line: bytes) -> str:
    text = repr(line[:80])[1:]
    return text + ("..." if len(line) > 80 else "")
