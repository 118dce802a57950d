"""What NNCF needs to be told about models of convolutions."""

from __future__ import annotations

import platform

from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters
from openvino.passes import ConstantFolding, Manager

from edgekit.api import Target
from edgekit_openvino.engine import ov
from edgekit_runtime.machine import read_machine

_KINDS = ("Convolution", "GroupConvolution")
_X86 = ("x86_64", "amd64")
#: What works on each number alone, biases and activation functions, and how many nodes of these stand between
#: two convolutions at most.
_PASSED = (
    "Add",
    "Clamp",
    "Convert",
    "HSwish",
    "HSigmoid",
    "Maximum",
    "Minimum",
    "Multiply",
    "PRelu",
    "Relu",
    "Sigmoid",
    "Subtract",
    "Swish",
)
_MOST_STEPS = 8
#: What to note where weights take all 8 bits.
WHOLE = "all weights take 8 bits: do not run this artifact on x86 CPUs without VNNI, which would saturate"


def has_convolutions(model: ov.Model) -> bool:
    """Whether it has any."""
    return any(node.get_type_name() in _KINDS for node in model.get_ops())


def fold(model: ov.Model) -> None:
    """Compute what is constant: OpenVINO reads a convolution's bias as a chain that asks for shapes, in which
    no bias is found that could be corrected."""
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


def saturates(target: Target) -> bool:
    """Whether the target's CPU adds products of 8 bits in 16 bits, as x86 without VNNI does. Where the
    target names no CPU features those of this machine count, if it is of the same kind."""
    here = platform.machine().lower()
    arch = (target.match.arch or here).lower()
    isa = (*target.hardware.isa, *target.match.isa) or (read_machine().isa if arch == here else ())
    exact = any("vnni" in feature or feature == "amx_int8" for feature in isa)
    return arch in _X86 and not exact


def left_high(model: ov.Model) -> list[str]:
    """What costs many answers in int8 and little time in floats, in mobile networks: their stems and sums."""
    return [*_thin_sums(model), *_stems(model)]


def _thin_sums(model: ov.Model) -> list[str]:
    """Sums of what a convolution gives that narrows: of fewer channels than it reads.

    What runs past such blocks is added to in each of them, so its rounding errors add up.
    """
    return [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() == "Add"
        and any(_narrows(source) for source in node.input_values())
        and not any(source.get_node().get_type_name() == "Constant" for source in node.input_values())
    ]


def _narrows(source: ov.Output) -> bool:
    """Whether a value comes from a convolution, past its bias, that gives fewer channels than it reads."""
    node = source.get_node()
    if node.get_type_name() == "Add":  # a bias
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Convolution":
        return False
    outputs, inputs = list(node.input_value(1).get_partial_shape())[:2]
    return bool(outputs.is_static and inputs.is_static and outputs.get_length() < inputs.get_length())


def _stems(model: ov.Model) -> list[str]:
    """Convolutions of the model's input that one over each channel alone reads, and the latter: between them
    stand the most places, of a few channels, each of which is rounded with the range of the largest."""
    found: list[str] = []
    for node in model.get_ops():
        if node.get_type_name() == "GroupConvolution":
            first = _behind(node)
            if first.get_type_name() in _KINDS and _behind(first).get_type_name() == "Parameter":
                found += [first.get_friendly_name(), node.get_friendly_name()]
    return found


def _behind(node: ov.Node) -> ov.Node:
    """The node whose output this one reads, past what works on each number alone."""
    for _ in range(_MOST_STEPS):
        sources = [source.get_node() for source in node.input_values()]
        node = next((each for each in sources if each.get_type_name() != "Constant"), node)
        if node.get_type_name() not in _PASSED:
            break
    return node


def advanced(*, whole: bool, corrected: bool) -> dict[str, object]:
    """Parameters for NNCF. One range for all channels of an activation: NNCF learns one for each channel of
    what a depthwise convolution reads, and a channel that calibration rows left small is then cut off in
    other pictures. whole: weights of the first layer take 8 bits too, of which NNCF leaves one unused;
    corrected: `rounding` corrects the biases."""
    found: dict[str, object] = {
        "activations_quantization_params": QuantizationParameters(per_channel=False),
        "disable_bias_correction": corrected,
    }
    return found | ({"overflow_fix": OverflowFix.DISABLE} if whole else {})
