"""Evening out activations whose few large channels would take the whole int8 range.

One scale serves all channels of an activation. In transformers some channels of what a LayerNorm or a GELU
gives are ten times larger than the others, which are then rounded away. Such channels are divided by a
factor before the rounding and their weights multiplied by it (SmoothQuant, Xiao et al. 2022); only channels
beyond `CAP` times the middle one, and only where one is beyond `OUTLIER`.
"""

from __future__ import annotations

import numpy as np

from edgekit_runtime.session import Array

#: A tensor is evened out when its largest channel is this many times its middle one.
OUTLIER = 8.0
#: Channels are brought down to this many times the middle one.
CAP = 2.0


def factors(peaks: Array) -> Array | None:
    """What each channel is divided by, from its largest magnitude; None where nothing sticks out."""
    middle = float(np.median(peaks))
    if middle <= 0 or float(peaks.max()) < OUTLIER * middle:
        return None
    return np.maximum(peaks / (CAP * middle), 1.0).astype(np.float32)
