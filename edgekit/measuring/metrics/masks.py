"""miou: the mean intersection over union of segmentation masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.measuring.metrics.base import MASK, Numbers, Summed, check_rows, ratio, refuse

#: The class number of pixels that are not judged, as in Pascal VOC and Cityscapes.
IGNORED = 255


class MeanIoU(Summed):
    """TP / (TP + FP + FN) of each class over all pixels of all rows, then the mean over classes seen.
    An answer is an array of class numbers, of the shape of its truth; truths of 255 are not judged."""

    name, takes = "miou", MASK

    def parts(self, answers: Sequence[Any], truths: Sequence[Any]) -> Numbers:
        """[rows, 3 classes]: pixels right, answered, true, each by class."""
        check_rows(self.name, answers, truths)
        found = np.zeros((len(truths), 3, IGNORED + 1))
        for row, (answer, truth) in enumerate(zip(answers, truths, strict=True)):
            guess, true = _mask(row, answer), _mask(row, truth)
            if guess.shape != true.shape:
                what = f"the answer has the shape {guess.shape}, the truth {true.shape}"
                raise refuse(self.name, row, what, "resize the answer to its truth")
            guess, true = guess[true != IGNORED], true[true != IGNORED]
            for place, pixels in enumerate((true[guess == true], guess, true)):
                found[row, place] = np.bincount(pixels, minlength=IGNORED + 1)
        return found.reshape(len(truths), -1)

    def of_sums(self, sums: Numbers) -> Numbers:
        """The mean over the classes that were answered or true."""
        right, answered, true = np.moveaxis(sums.reshape(len(sums), 3, -1), 1, 0)
        union = answered + true - right
        return ratio(ratio(right, union).sum(axis=1), (union > 0).sum(axis=1).astype(np.float64))


def _mask(row: int, value: Any) -> NDArray[np.int64]:
    mask = np.asarray(value)
    if mask.dtype.kind not in "iu" or not mask.size or mask.min() < 0 or mask.max() > IGNORED:
        what = "no array of class numbers 0 ... 255"
        raise refuse(MeanIoU.name, row, what, "give the class of each pixel as an integer")
    return mask.astype(np.int64)
