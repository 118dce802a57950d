"""What NNCF needs to be told about models of convolutions."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from typing import Any

from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters
from openvino.passes import ConstantFolding, Manager

from edgekit.api import Target
from edgekit_openvino.engine import ov
from edgekit_runtime.machine import read_machine

_KINDS = ("Convolution", "GroupConvolution")
_X86 = ("x86_64", "amd64")
#: Rows that biases are corrected on, at most.
BIAS_ROWS = 20
#: What to note where weights take all 8 bits.
WHOLE = "all weights take 8 bits: do not run this artifact on x86 CPUs without VNNI, which would saturate"


def has_convolutions(model: ov.Model) -> bool:
    """Whether it has any."""
    return any(node.get_type_name() in _KINDS for node in model.get_ops())


def fold(model: ov.Model) -> None:
    """Compute what is constant. OpenVINO reads a convolution's bias as a chain that asks for shapes, in which
    NNCF finds no bias to correct. Once it finds them, its fast correction makes answers worse than none, so
    the full one is to be taken."""
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


@contextlib.contextmanager
def few_rows_for_biases() -> Iterator[None]:
    """NNCF 3.4 corrects biases on a fifth of the rows, and holds what layers read on each of them: its
    memory grows with the rows. A few pictures have places enough."""
    from nncf.quantization.algorithms.post_training import pipeline

    given: Any = getattr(pipeline, "BiasCorrection", None)
    if given is None:  # another version keeps it elsewhere; this is about memory only
        yield
        return

    def bounded(subset_size: int, *more: object) -> object:
        return given(min(subset_size, BIAS_ROWS), *more)

    pipeline.BiasCorrection = bounded
    try:
        yield
    finally:
        pipeline.BiasCorrection = given


def saturates(target: Target) -> bool:
    """Whether the target's CPU adds products of 8 bits in 16 bits, as x86 without VNNI does. Where the
    target names no CPU features those of this machine count, if it is of the same kind."""
    here = platform.machine().lower()
    arch = (target.match.arch or here).lower()
    isa = (*target.hardware.isa, *target.match.isa) or (read_machine().isa if arch == here else ())
    exact = any("vnni" in feature or feature == "amx_int8" for feature in isa)
    return arch in _X86 and not exact


def advanced(*, whole: bool) -> dict[str, object]:
    """Parameters for NNCF. One range for all channels of an activation: NNCF learns one for each channel of
    what a depthwise convolution reads, and a channel that calibration rows left small is then cut off in
    other pictures. whole: weights of the first layer take 8 bits too, of which NNCF leaves one unused."""
    found: dict[str, object] = {"activations_quantization_params": QuantizationParameters(per_channel=False)}
    return found | ({"overflow_fix": OverflowFix.DISABLE} if whole else {})
