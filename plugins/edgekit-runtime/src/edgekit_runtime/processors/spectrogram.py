"""Spectrograms of a waveform, in numpy. The filters come with the model; only the transform is computed here.

Both follow `transformers.audio_utils.spectrogram`, many frames at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgekit_runtime.session import Array

#: Of Whisper: the lowest power, and how many decades below its loudest a recording is cut off.
_LOWEST_POWER, _DECADES = 1e-10, 8.0
#: Of Kaldi: the lowest energy (the epsilon of float32), and the share of its past that a sample loses.
_LOWEST_ENERGY, _EMPHASIS = 1.192092955078125e-07, 0.97


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bank:
    """window: float64 [samples of a frame]; filters: float64 [frequencies, bands]; hop: samples from the
    start of one frame to that of the next."""

    window: Array
    filters: Array
    hop: int

    @property
    def fft(self) -> int:
        """Points of the Fourier transform, an even number."""
        return 2 * (int(self.filters.shape[0]) - 1)


def log_mel(samples: Array, bank: Bank) -> Array:
    """float32 [bands, frames] of samples [n], n // hop frames: the input of Whisper.

    Frames are centred, the ends mirrored, the last frame left out. Radford et al., "Robust Speech
    Recognition via Large-Scale Weak Supervision", 2022.
    """
    half = bank.window.size // 2
    frames = _frames(np.pad(samples, half, mode="reflect"), bank)[:-1]
    power = _power(frames * bank.window, bank)
    levels = np.log10(np.maximum(power @ bank.filters, _LOWEST_POWER)).T
    levels = np.maximum(levels, levels.max() - _DECADES)
    return np.ascontiguousarray((levels + 4.0) / 4.0, dtype=np.float32)


def fbank(samples: Array, bank: Bank) -> Array:
    """float32 [frames, bands] of samples [n]: Kaldi's filter banks, the natural logarithm of the energies.

    Only whole frames; of each its mean is taken off, and its high frequencies are raised.
    """
    frames = _frames(samples, bank)
    frames = frames - frames.mean(axis=1, keepdims=True)
    raised = frames.copy()
    raised[:, 1:] -= _EMPHASIS * frames[:, :-1]
    raised[:, 0] *= 1 - _EMPHASIS
    power = _power(raised * bank.window, bank)
    levels: Array = np.log(np.maximum(power @ bank.filters, _LOWEST_ENERGY)).astype(np.float32)
    return levels


def _frames(samples: Array, bank: Bank) -> Array:
    """float64 [frames, samples of a frame]."""
    wide = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), bank.window.size)
    return wide[:: bank.hop]


def _power(frames: Array, bank: Bank) -> Array:
    """float64 [frames, frequencies]."""
    power: Array = np.abs(np.fft.rfft(frames, n=bank.fft, axis=1)) ** 2
    return power
