"""Reading recordings: any file that libsndfile knows, as one channel at the rate that a model takes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from edgekit_runtime.errors import InputError, MissingDependency
from edgekit_runtime.processors.base import Audio
from edgekit_runtime.session import Array

if TYPE_CHECKING:
    from soundfile import SoundFile

_FORMATS = "give a WAV, FLAC or OGG file"
_RATES = (1_000, 768_000)
_MOST_CHANNELS = 64
#: libsndfile's word for a length that the file does not tell, as that of a stream.
_UNKNOWN_FRAMES = 2**62
#: Lengths from here on are what programs write into a WAV file before they know its length.
_UNKNOWN_RIFF = 0x7FFF_0000
#: Of Ogg pages: the largest, the fixed part of the header, and the flag of the last page of a stream.
_LARGEST_OGG_PAGE, _OGG_HEADER, _OGG_LAST = 65_307, 27, 4
#: Read beyond the longest that a model hears, so that resampling sees what follows the cut.
_MARGIN_SECONDS = 1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recording:
    """samples: float32 [samples], one channel; rate: of these; seconds: how long the whole of it is."""

    samples: Array
    rate: int
    seconds: float


def hear(row: object, *, most_seconds: float, where: str) -> Recording:
    """The recording that a row means: a path, or an `Audio`. Of a file, little beyond `most_seconds` is read.

    Raises `InputError` naming `where`, or `MissingDependency`.
    """
    if isinstance(row, Audio):
        return _in_memory(row, where)
    if isinstance(row, str | Path):
        path = Path(row)
        _check_file(path, where)
        return _from_file(path, most_seconds, f"{where}, {path}")
    raise InputError(
        f"{where} must be the path of a recording, found {type(row).__name__}", hint=f"{_FORMATS}"
    )


def at_rate(recording: Recording, rate: int) -> Array:
    """Its samples at another rate, float32 [ceil(samples * rate / own rate)].

    Resampled by soxr at its quality HQ and padded or cut to that length, which is what librosa.load does.
    """
    samples = recording.samples
    if recording.rate == rate:
        return np.ascontiguousarray(samples, dtype=np.float32)
    try:
        import soxr
    except ImportError as exc:
        raise _missing("soxr", exc) from exc
    wanted = math.ceil(samples.size * rate / recording.rate)
    moved = soxr.resample(samples, recording.rate, rate, quality="HQ")
    padded = np.pad(moved, (0, max(0, wanted - moved.size)))[:wanted]
    return np.ascontiguousarray(padded, dtype=np.float32)


def _in_memory(row: Audio, where: str) -> Recording:
    samples = np.asarray(row.samples)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise InputError(
            f"{where}: samples must be float [samples], found {samples.dtype} {list(samples.shape)}",
            hint="mix the channels into one, and scale whole numbers to [-1, 1]",
        )
    _check_rate(row.rate, where)
    return _checked(samples.astype(np.float32), row.rate, samples.size / row.rate, where)


def _from_file(path: Path, most_seconds: float, where: str) -> Recording:
    with _opened(path, where) as sound:
        _check_rate(sound.samplerate, where)
        if sound.channels > _MOST_CHANNELS:
            raise InputError(
                f"{where} has {sound.channels} channels", hint=f"at most {_MOST_CHANNELS} are read"
            )
        told = sound.frames < _UNKNOWN_FRAMES
        limit = math.ceil((most_seconds + _MARGIN_SECONDS) * sound.samplerate)
        wanted = min(sound.frames, limit)
        channels = sound.read(wanted, dtype="float32", always_2d=True)
        if told and len(channels) < wanted:
            raise _cut_off(where)
        frames = sound.frames if told else len(channels)
        # One after the other as transformers and librosa add them: another order rounds differently.
        samples = channels.T.mean(axis=0) if channels.shape[1] > 1 else channels[:, 0]
        return _checked(samples, sound.samplerate, frames / sound.samplerate, where)


@contextmanager
def _opened(path: Path, where: str) -> Iterator[SoundFile]:
    try:
        import soundfile
    except (ImportError, OSError) as exc:  # OSError: the module is there and libsndfile is not
        raise _missing("soundfile", exc) from exc
    try:
        with soundfile.SoundFile(str(path)) as sound:
            yield sound
    except InputError:
        raise
    except (soundfile.SoundFileError, TypeError, ValueError, OSError) as exc:
        reason = " ".join(str(exc).split())
        raise InputError(f"{where} cannot be read as a recording: {reason}", hint=_FORMATS) from exc


def _check_file(path: Path, where: str) -> None:
    """What libsndfile passes over or explains badly: no file, an empty one, one that was cut off."""
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise InputError(f"{where}: {path} is no file", hint=_FORMATS)
    try:
        with path.open("rb") as stream:
            head = stream.read(12)
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _LARGEST_OGG_PAGE))
            tail = stream.read()
    except FileNotFoundError as exc:
        raise InputError(
            f"{where}: {path} is missing", hint="is the path relative to another folder?"
        ) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        raise InputError(f"{where}: {path} cannot be read: {reason}", hint=_FORMATS) from exc
    if not size:
        raise InputError(f"{where}: {path} is empty", hint=_FORMATS)
    if _chunk_beyond(head, size) or (head[:4] == b"OggS" and not _ogg_ends(tail)):
        raise _cut_off(f"{where}, {path}")


def _chunk_beyond(head: bytes, size: int) -> bool:
    """Whether a WAV or AIFF file is shorter than its first eight bytes say."""
    order: dict[bytes, Literal["little", "big"]] = {b"RIFF": "little", b"FORM": "big"}
    if head[:4] not in order:
        return False
    told = int.from_bytes(head[4:8], order[head[:4]])
    # A chunk of odd length is padded by one byte, which some programs count and do not write.
    return told < _UNKNOWN_RIFF and size < told + 8 - 1


def _ogg_ends(tail: bytes) -> bool:
    """Whether the last page of an Ogg stream (RFC 3533) is whole and marked as the last."""
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < _OGG_HEADER or len(page) < _OGG_HEADER + page[26]:
        return False
    whole = _OGG_HEADER + page[26] + sum(page[_OGG_HEADER : _OGG_HEADER + page[26]])
    return bool(page[5] & _OGG_LAST) and len(page) >= whole


def _cut_off(where: str) -> InputError:
    return InputError(f"{where} is cut off: its end is not there", hint="copy the file again, or convert it")


def _check_rate(rate: int, where: str) -> None:
    low, high = _RATES
    if not isinstance(rate, int | np.integer) or not low <= rate <= high:
        raise InputError(f"{where} has {rate} samples in a second", hint=f"from {low} to {high} are read")


def _checked(samples: Array, rate: int, seconds: float, where: str) -> Recording:
    if not samples.size:
        raise InputError(f"{where} holds no sound", hint="leave recordings of length 0 out")
    if not np.isfinite(samples).all():
        raise InputError(
            f"{where} holds samples that are NaN or infinite", hint="what made the recording is at fault"
        )
    return Recording(samples=samples, rate=rate, seconds=seconds)


def _missing(library: str, problem: Exception) -> MissingDependency:
    return MissingDependency(
        f"reading recordings needs the library `{library}`: {problem}",
        hint="pip install edgekit-runtime[audio]",
    )
