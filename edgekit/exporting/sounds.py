"""Neutral sounds for goldens and checks, and recordings that are likeliest to be heard in different ways.

Made in code, so that no one's voice is in them: float32 [samples] in [-1, 1], the same on every machine.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from edgekit_runtime.session import Array

#: Resonances of the vocal tract in Hz, first and second, of five vowels (Peterson and Barney, 1952; men).
_VOWELS = ((270, 2290), (530, 1840), (730, 1090), (570, 840), (300, 870))
_SYLLABLE_SECONDS = 0.22


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sound:
    """samples: float32 [samples, channels]; subtype: how libsndfile stores them in a WAV file."""

    name: str
    samples: Array
    rate: int
    subtype: str = "PCM_16"

    def wav(self) -> bytes:
        """The content of a WAV file."""
        import soundfile

        stream = io.BytesIO()
        soundfile.write(stream, self.samples, self.rate, subtype=self.subtype, format="WAV")
        return stream.getvalue()


def silence(seconds: float, rate: int) -> Array:
    """Zeros."""
    return np.zeros(_count(seconds, rate), dtype=np.float32)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> Array:
    """One frequency at half the loudness."""
    return (0.5 * np.sin(2 * np.pi * hertz * _times(seconds, rate))).astype(np.float32)


def chirp(seconds: float, rate: int, low: float = 100.0, high: float = 3_500.0) -> Array:
    """A frequency that rises evenly."""
    times = _times(seconds, rate)
    phase = 2 * np.pi * (low * times + (high - low) / (2 * max(seconds, 1e-9)) * times**2)
    return (0.5 * np.sin(phase)).astype(np.float32)


def noise(seconds: float, rate: int, seed: int = 0) -> Array:
    """White noise."""
    drawn = np.random.default_rng(seed).uniform(-0.3, 0.3, _count(seconds, rate))
    return drawn.astype(np.float32)


def clicks(seconds: float, rate: int) -> Array:
    """Nothing but one sample at full height ten times a second."""
    samples = silence(seconds, rate)
    samples[:: max(1, rate // 10)] = 0.9
    return samples


def speech(seconds: float, rate: int, seed: int = 0) -> Array:
    """Like speech: a voice of falling pitch, vowels as two resonances of it, hisses and pauses between."""
    times = _times(seconds, rate)
    random = np.random.default_rng(seed)
    beats = times / _SYLLABLE_SECONDS
    spoken = random.integers(0, len(_VOWELS), int(beats[-1]) + 1 if times.size else 0)
    vowels = np.array(_VOWELS)[spoken[beats.astype(int)]] if times.size else np.zeros((0, 2))
    pitch = 130.0 - 25.0 * times / max(seconds, 1e-9) + 6.0 * np.sin(2 * np.pi * 3.0 * times)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voice = np.zeros(times.size)
    for harmonic in range(1, 26):
        hertz = harmonic * pitch
        loudness = sum(1.0 / (1.0 + ((hertz - vowels[:, place]) / 120.0) ** 2) for place in (0, 1))
        voice += np.where(hertz < rate / 2, loudness, 0.0) * np.sin(harmonic * phase)
    within = beats % 1.0
    hiss = np.where(within > 0.8, random.uniform(-0.25, 0.25, times.size), 0.0)
    pause = (beats.astype(int) % 6) != 5
    shaped = (voice * np.sin(np.pi * np.clip(within / 0.8, 0, 1)) * 0.25 + hiss) * pause
    samples: Array = np.clip(shaped, -1.0, 1.0).astype(np.float32)
    return samples


def neutral(rate: int) -> tuple[Array, ...]:
    """Sounds of one channel and several lengths, for goldens."""
    return (
        speech(1.0, rate, seed=1),
        speech(1.7, rate, seed=2),
        chirp(0.8, rate, high=min(3_500.0, rate / 3)),
        tone(0.6, rate),
        noise(0.7, rate, seed=3),
        clicks(0.9, rate),
    )


def travelling() -> Iterator[Sound]:
    """Short recordings at the usual rates, 210 KB in all: small enough to travel with the model."""
    yield Sound(name="parity-8k.wav", samples=_columns(speech(0.6, 8_000, seed=4)), rate=8_000)
    yield Sound(name="parity-16k.wav", samples=_columns(speech(0.7, 16_000, seed=5)), rate=16_000)
    both = _columns(chirp(0.4, 44_100), noise(0.4, 44_100, seed=6))
    yield Sound(name="parity-44k-stereo.wav", samples=both, rate=44_100)
    left, right = speech(0.5, 48_000, seed=7), clicks(0.5, 48_000)
    yield Sound(name="parity-48k-stereo.wav", samples=_columns(left, right), rate=48_000)


def tricky(rate: int, shortest: int, longest: int) -> Iterator[Sound]:
    """Recordings that programs are likeliest to hear differently. rate, shortest, longest: the model's."""
    one = _columns
    yield Sound(name="silence", samples=one(silence(0.5, rate)), rate=rate)
    yield Sound(name="one click in silence", samples=one(_click(rate)), rate=rate)
    yield Sound(name="constant", samples=one(np.full(rate // 2, 0.25, dtype=np.float32)), rate=rate)
    yield Sound(name="clipped", samples=one(np.clip(4 * speech(0.8, rate), -1, 1)), rate=rate)
    yield Sound(name="over the full scale", samples=one(3 * tone(0.4, rate)), rate=rate, subtype="FLOAT")
    yield Sound(name="faint", samples=one(1e-4 * speech(0.5, rate)), rate=rate, subtype="PCM_24")
    yield Sound(name="8 bits", samples=one(speech(0.5, 8_000)), rate=8_000, subtype="PCM_U8")
    yield Sound(name="11.025 kHz", samples=one(chirp(0.7, 11_025)), rate=11_025)
    yield Sound(name="22.05 kHz, noise", samples=one(noise(0.7, 22_050)), rate=22_050)
    yield Sound(name="opposite channels", samples=_columns(tone(0.4, rate), -tone(0.4, rate)), rate=rate)
    yield Sound(
        name="44.1 kHz, over what is heard", samples=one(chirp(0.5, 44_100, high=21_000)), rate=44_100
    )
    yield Sound(
        name="six channels", samples=np.stack([noise(0.3, 48_000, seed=n) for n in range(6)], 1), rate=48_000
    )
    yield Sound(name="shortest", samples=one(noise(shortest / rate, rate)), rate=rate)
    yield Sound(name="one sample more", samples=one(noise((shortest + 1) / rate, rate)), rate=rate)
    yield Sound(name="longest", samples=one(chirp(longest / rate, rate)), rate=rate)


def _click(rate: int) -> Array:
    samples = silence(0.5, rate)
    samples[rate // 4] = 1.0
    return samples


def _columns(*channels: Array) -> Array:
    return np.stack(channels, axis=1)


def _count(seconds: float, rate: int) -> int:
    return max(1, round(seconds * rate))


def _times(seconds: float, rate: int) -> Array:
    return np.arange(_count(seconds, rate)) / rate
