"""Frames carry what they say, and bytes that are no frames are one kind of error."""

from __future__ import annotations

import io
from typing import BinaryIO, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_runtime import frames
from edgekit_runtime.errors import ProtocolError
from edgekit_runtime.frames import JsonValue, encode_header, read_frame, write_frame

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(json_values, st.binary(max_size=300)), max_size=5))
def test_frames_follow_each_other_unchanged(sent: list[tuple[JsonValue, bytes]]) -> None:
    stream = io.BytesIO()
    for value, body in sent:
        write_frame(stream, {"type": "x", "id": 1, "value": value}, body)
    stream.seek(0)
    for value, body in sent:
        frame = read_frame(stream)
        assert frame is not None
        assert frame[0]["value"] == value
        assert frame[1] == body
    assert read_frame(stream) is None


@given(st.binary(max_size=400))
def test_foreign_bytes_are_a_protocol_error_or_the_end(data: bytes) -> None:
    try:
        frame = read_frame(io.BytesIO(data))
    except ProtocolError:
        return
    assert frame is None or frame[0]["type"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Welcome to Ubuntu 24.04\n", "not a frame: 'Welcome"),
        (b'["type"]\n', "without type and bytes"),
        (b'{"type": "x"}\n', "without type and bytes"),
        (b'{"type": "x", "bytes": -1}\n', "announces -1 bytes"),
        (b'{"type": "x", "bytes": true}\n', "announces True bytes"),
        (b'{"type": "x", "bytes": "3"}\n', "announces '3' bytes"),
        (b'{"type": "x", "bytes": 9999999999999}\n', "announces 9999999999999 bytes"),
        (b'{"type": "x", "bytes": 0, "v": NaN}\n', "not a frame"),
        (b'{"type": "x", "bytes": 5}\nabc', "ended after 3 of a body's 5 bytes"),
        (b'{"type": "x"', "ended inside a header"),
        (b"[" * 100_000 + b"\n", "not a frame"),
        (b"x" * (frames.HEADER_LIMIT + 10), "over the limit"),
    ],
)
def test_what_is_wrong_with_a_frame_is_said(data: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words.replace("(", r"\(")):
        read_frame(io.BytesIO(data))


def test_a_false_size_allocates_no_more_than_was_sent() -> None:
    class Counting(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            self.largest = max(self.largest, size or 0)
            return super().read(size)

    stream = Counting(b'{"type": "x", "bytes": 2000000000}\nabc')
    with pytest.raises(ProtocolError, match="3 of a body's 2000000000"):
        read_frame(cast(BinaryIO, stream))
    assert stream.largest <= 1 << 20


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes", {1, 2}])
def test_what_json_cannot_say_is_refused_before_a_byte_is_written(value: JsonValue) -> None:
    stream = io.BytesIO()
    with pytest.raises(ProtocolError, match="JSON"):
        write_frame(stream, {"type": "x", "value": value})
    assert stream.getvalue() == b""


def test_limits_hold_when_writing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProtocolError, match="header has"):
        encode_header({"type": "x", "value": "y" * frames.HEADER_LIMIT}, 0)
    monkeypatch.setattr(frames, "BODY_LIMIT", 10)
    with pytest.raises(ProtocolError, match="over the limit"):
        write_frame(io.BytesIO(), {"type": "x"}, b"x" * 11)
