"""Rounding the weights of convolutions so that their errors cancel on what the convolutions read.

Rounded to nearest, each weight is right by itself, but a convolution's inputs are alike (neighbouring pixels
most of all), so errors of one sign add up. Weights are rounded once more, one input at a time, each to what
makes up best for the errors of the others (coordinate descent on the squared error of the output over
calibration rows, as in QuantEase, Behdin et al. 2023). What the errors still add to the output on average
is taken off the bias (bias correction, Nagel et al. 2019). Neither costs time when the model runs.

It is here for every backend whose engine takes int8 weights with a scale for each output.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from edgekit_runtime.session import Array

#: Places of a convolution's output that are looked at in each row.
_PLACES = 128
#: Beyond this many inputs of one output, or with fewer places than this many times them, the sums would take
#: too much memory or tell too little: only the bias is corrected.
_MOST_INPUTS = 1536
_PLACES_PER_INPUT = 4
#: Added to the squares on the diagonal, as a share of their mean: rows to come differ from those seen.
_DAMPING = 1.0
_PASSES = 3
_NOTHING = 1e-12

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Convolution:
    """A convolution of two spatial axes. weight: [outputs, inputs / groups, height, width], floats;
    pads: top, left, bottom, right."""

    weight: Array
    groups: int = 1
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    def flat(self, values: Array) -> Array:
        """Values of the weight's shape as [groups, outputs / groups, inputs]."""
        return values.reshape(self.groups, self.weight.shape[0] // self.groups, -1)


class ConvolutionInputs:
    """What one convolution reads in calibration rows: means, and products of two inputs of one output.

    An input is one weight of an output: a channel of the group at a place of the kernel.
    """

    #: As many rows, about, tell enough.
    ROWS: ClassVar[int] = 100

    def __init__(self, convolution: Convolution) -> None:
        self.convolution = convolution
        groups, inputs = convolution.groups, prod(convolution.weight.shape[1:])
        self._sums: Array = np.zeros((groups, inputs), np.float32)
        fits = inputs <= _MOST_INPUTS
        self._products: Array | None = np.zeros((groups, inputs, inputs), np.float32) if fits else None
        self._places = 0

    def take(self, value: Array, row: int) -> None:
        """Take in what a row's run read, [batch, channels, height, width]. row: its number, which draws the
        places that are looked at."""
        patches = _patches(value, self.convolution, np.random.default_rng(row))
        self._sums += patches.sum(axis=2)
        if self._products is not None:
            self._products += patches @ patches.transpose(0, 2, 1)
        self._places += patches.shape[2]

    def round_again(self, nearest: Array, scale: Array, largest: int) -> Array:
        """int8 weights of the least error in the output, of the weight's shape.

        nearest: those rounded to nearest, returned where too little was seen; scale: [outputs];
        largest: the largest magnitude that may be given.
        """
        covariance = self._covariance()
        if covariance is None:
            return nearest
        conv = self.convolution
        found = rounded(conv.flat(conv.weight), scale.reshape(conv.groups, -1), covariance, largest)
        return found.astype(np.int8).reshape(conv.weight.shape)

    def lost(self, stored: Array, scale: Array) -> Array:
        """What int8 weights `stored` take from each output on average, [outputs]: to be added to the bias."""
        conv = self.convolution
        off = conv.flat(conv.weight) - conv.flat(stored).astype(np.float32) * scale.reshape(
            conv.groups, -1, 1
        )
        mean = self._sums / max(self._places, 1)
        return np.asarray((off @ mean[:, :, None]).reshape(-1), np.float32)

    def _covariance(self) -> Array | None:
        """Of the inputs, [groups, inputs, inputs], damped; None where too little is known."""
        if self._products is None or self._places < _PLACES_PER_INPUT * self._sums.shape[1]:
            return None
        mean = self._sums / self._places
        found = self._products / self._places - mean[:, :, None] * mean[:, None, :]
        diagonal = np.einsum("gii->gi", found)
        diagonal += _DAMPING * diagonal.mean(axis=1, keepdims=True) + _NOTHING
        return np.asarray(found, np.float32)


def rounded(weight: Array, scale: Array, covariance: Array, largest: int) -> Array:
    """int8 values, as floats, that make the output's squared error small.

    weight: [groups, outputs, inputs]; scale: [groups, outputs]; covariance: [groups, inputs, inputs].
    """
    found = np.clip(np.rint(weight / scale[:, :, None]), -largest, largest)
    left = weight - found * scale[:, :, None]
    squares = np.einsum("gii->gi", covariance)
    for _ in range(_PASSES):
        slope = left @ covariance
        before = found.copy()
        for index in range(weight.shape[2]):
            others = slope[:, :, index] / squares[:, None, index] - left[:, :, index]
            best = np.rint((weight[:, :, index] + others) / scale)
            found[:, :, index] = np.clip(best, -largest, largest)
            now = weight[:, :, index] - found[:, :, index] * scale
            slope += (now - left[:, :, index])[:, :, None] * covariance[:, None, index]
            left[:, :, index] = now
        if np.array_equal(found, before):
            break
    return found


def _patches(value: Array, convolution: Convolution, draw: np.random.Generator) -> Array:
    """What some places of the output read, as [groups, inputs, places]."""
    height, width = convolution.weight.shape[2:]
    (down, across), (tall, wide) = convolution.strides, convolution.dilations
    top, left, bottom, right = convolution.pads
    padded = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (padded.shape[2] - tall * (height - 1) - 1) // down + 1
    columns = (padded.shape[3] - wide * (width - 1) - 1) // across + 1
    total = len(value) * rows * columns
    places = np.arange(total) if total <= _PLACES else draw.choice(total, _PLACES, replace=False)
    image, place = np.divmod(places, rows * columns)
    y = (place // columns * down)[:, None, None] + tall * np.arange(height)[:, None]
    x = (place % columns * across)[:, None, None] + wide * np.arange(width)
    found = padded.transpose(0, 2, 3, 1)[image[:, None, None], y, x]  # places, height, width, channels
    by_group = found.transpose(3, 1, 2, 0).reshape(convolution.groups, -1, len(places))
    return np.ascontiguousarray(by_group, np.float32)
