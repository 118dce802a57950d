"""Which products are quantized, and with which scales: symmetric, per output channel, no quantized bias.

Q and DQ stand before the products alone. What else reads a tensor, such as the addition around a layer, gets
it unrounded; onnxruntime's quantizer hands the rounded one to every reader.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import HistogramCollector

from edgekit.api import CompileFailed, LearntRanges, NothingLowered, ProgressCallback, RangeWatch
from edgekit_runtime.session import Array
from edgekit_tensorrt.calibration import Rows, check_different, open_engine, save_watching, watch
from edgekit_tensorrt.eights import INT8, Eight
from edgekit_tensorrt.graph import FLOAT, Source, key
from edgekit_tensorrt.smoothing import factors

#: Values of 4 bits that are used: as many below zero as above.
LEVELS_OF_4 = 7.0
#: Scales below this have less than 8 bits left in fp16: nodes of such weights or activations stay in fp32.
SMALLEST_SCALE = 2.0**-17
_MATRIX = 2
_PERCENTILE = 99.99
_BINS = 2048
_ENTROPY_BINS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A Conv, MatMul or Gemm with a stored weight.

    axis: the weight's output channels; summed: the axis that meets the activation's last one, or None.
    """

    name: str
    activation: str
    weight: str
    axis: int
    summed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """What is quantized, by the key of the node.

    eight: the format of weights, and of activations that have a scale; scales: of those by tensor, none where
    only weights are quantized; factors: what the channels of some are divided by first; ranges: as learnt
    from rows; block: weights of 4 bits that share a scale, 0 for weights of 8 bits.
    """

    products: Mapping[str, Product] = field(default_factory=dict)
    scales: Mapping[str, float] = field(default_factory=dict)
    factors: Mapping[str, Array] = field(default_factory=dict)
    block: int = 0
    eight: Eight = INT8
    ranges: LearntRanges | None = None

    def weight(self, source: Source, product: Product) -> Array:
        """A product's weight, multiplied by what its activation is divided by."""
        array = source.array(source.weights()[product.weight])
        factor = self.factors.get(product.activation)
        if factor is None or product.summed is None:
            return array
        shape = [1] * array.ndim
        shape[product.summed] = -1
        return array * factor.reshape(shape)


def products(source: Source, keep_high: Collection[str], eight: Eight = INT8) -> dict[str, Product]:
    """The products that a format covers, by key. Raises `NothingLowered` when there are none."""
    weights = source.weights()
    found: dict[str, Product] = {}
    for node in source.model.graph.node:
        weight = weights.get(node.input[1]) if len(node.input) > 1 else None
        axes = _axes(node, weight) if weight is not None and node.op_type in eight.operators else None
        if weight is None or axes is None or node.name in keep_high or node.input[0] in weights:
            continue
        found[key(node)] = Product(
            name=node.name, activation=node.input[0], weight=weight.name, axis=axes[0], summed=axes[1]
        )
    if not found:
        raise NothingLowered(
            f"{eight.word} covers {', '.join(eight.operators)} with a stored weight, and the model has none",
            hint="compile for fp16, or keep fewer nodes high",
        )
    return found


def quantized(source: Source, rows: Rows, eight: Eight, progress: ProgressCallback) -> Quantized:
    """Learn the ranges of what the products read, as the rows' request has it.

    Raises `CompileFailed` for rows that say nothing.
    """
    check_different(rows)
    covered = products(source, rows.request.keep_high, eight)
    tensors = list(dict.fromkeys(item.activation for item in covered.values()))
    summed = [item.activation for item in covered.values() if item.summed is not None]
    others = {item.activation for item in covered.values() if item.summed is None}
    ranges = _Ranges(
        source=source,
        tensors=tensors,
        method=str(rows.request.options.get("ranges", "minmax")),
        channelled=set(summed) - others if eight.whole else (),
    )
    path = source.work / "watching.onnx"
    save_watching(source.model, tensors, path)
    engine = open_engine(path, rows.request.threads)
    watch(engine, tensors, rows, ranges.see, progress)
    path.unlink()
    return ranges.found(covered, eight)


def weights_only(source: Source, keep_high: Collection[str], block: int) -> Quantized:
    """The products whose weights alone are quantized; of 4 bits in blocks: matrices that blocks divide."""
    covered = products(source, keep_high)
    if block:
        dims = {name: tensor.dims for name, tensor in source.weights().items()}
        covered = {
            name: item
            for name, item in covered.items()
            if item.summed is not None
            and len(dims[item.weight]) == _MATRIX
            and dims[item.weight][item.summed] % block == 0
        }
    if not covered:
        raise NothingLowered(
            f"no weight of the model can be cut into blocks of {block}", hint="compile for int8-weights"
        )
    return Quantized(products=covered, block=block)


def blocked_scales(weight: Array, axis: int, block: int) -> Array:
    """The scale of each block of a matrix along an axis."""
    blocks = np.abs(weight if axis == 0 else weight.T).reshape(-1, block, weight.shape[1 - axis]).max(axis=1)
    scales = np.where(blocks > 0, blocks / LEVELS_OF_4, 1.0).astype(np.float32)
    return scales if axis == 0 else np.ascontiguousarray(scales.T)


def packed_weight(weight: Array, scales: Array, axis: int, block: int) -> bytes:
    """The matrix in 4 bits, two in a byte, the first in the lower half."""
    whole = np.rint(weight / np.repeat(scales, block, axis=axis))
    small = np.clip(whole, -LEVELS_OF_4, LEVELS_OF_4).astype(np.int8).reshape(-1).view(np.uint8) & 0xF
    small = np.append(small, np.zeros(small.size % 2, np.uint8))
    return bytes((small[0::2] | (small[1::2] << 4)).tobytes())


def weight_scales(weight: Array, axis: int, eight: Eight) -> Array:
    """The scale of each output channel."""
    others = tuple(place for place in range(weight.ndim) if place != axis)
    largest = np.abs(weight).max(axis=others) if weight.size else np.zeros(weight.shape[axis])
    return np.where(largest > 0, largest / eight.largest, 1.0).astype(np.float32)


def rounded_weight(weight: Array, scales: Array, axis: int, eight: Eight) -> Array:
    """The weight in 8 bits."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    return eight.stored(weight / scales.reshape(shape))


def in_full(source: Source, found: Quantized) -> Iterator[str]:
    """Keys of products whose scales are too small for fp16."""
    for name, product in found.products.items():
        largest = float(weight_scales(found.weight(source, product), product.axis, found.eight).max())
        if min(largest / 4, found.scales.get(product.activation, 1.0)) < SMALLEST_SCALE:
            yield name


@dataclass(slots=True, kw_only=True)
class _Ranges:
    """The largest magnitude of each tensor; with "percentile" or "entropy" by onnxruntime's histograms.

    channelled: tensors whose channels, on the last axis, are looked at one by one.
    """

    source: Source
    tensors: Sequence[str]
    method: str
    channelled: Collection[str]
    largest: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, Array] = field(default_factory=dict)
    setters: RangeWatch = field(default_factory=RangeWatch)
    collector: HistogramCollector | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.method != "minmax":
            entropy = self.method == "entropy"
            self.collector = HistogramCollector(
                method=self.method,
                symmetric=True,
                num_bins=_ENTROPY_BINS if entropy else _BINS,
                num_quantized_bins=_ENTROPY_BINS,
                percentile=_PERCENTILE,
                scenario="same",
            )

    def see(self, row: int, values: list[Array]) -> None:
        """Take in a row."""
        for name, value in zip(self.tensors, values, strict=True):
            if not value.size:
                continue
            largest = float(np.abs(value).max())
            if not np.isfinite(largest):
                raise CompileFailed(
                    f"{self._maker(name)} gives no finite numbers on calibration row {row + 1}",
                    hint="look at that row and at the model in fp32; a node in keep_high is not quantized",
                )
            self.largest[name] = max(self.largest.get(name, 0.0), largest)
            self.setters.see(name, row, -largest, largest)
            if name in self.channelled:
                peaks = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
                self.peaks[name] = np.maximum(self.peaks.get(name, peaks), peaks)
            if self.collector is not None:
                self.collector.collect({name: value})

    def found(self, covered: Mapping[str, Product], eight: Eight) -> Quantized:
        """The scale of each tensor, 1 for one that was always zero, and the factors of its channels."""
        largest = dict(self.largest)
        evened: dict[str, Array] = {}
        if self.collector is not None:
            learnt = self.collector.compute_collection_result()
            largest |= {
                name: max(abs(float(low)), abs(float(high))) for name, (low, high, *_) in learnt.items()
            }
        else:
            made = {name: factors(peaks) for name, peaks in self.peaks.items()}
            evened = {name: factor for name, factor in made.items() if factor is not None}
            largest |= {name: float((self.peaks[name] / evened[name]).max()) for name in evened}
        scales = {name: (largest.get(name, 0.0) or eight.largest) / eight.largest for name in self.tensors}
        # No single row sets what a histogram tells, or the middle channel of those that are evened out.
        alone = [] if self.collector is not None else [name for name in self.tensors if name not in evened]
        ranges = replace(self.setters.found(alone), count=len(self.tensors))
        return Quantized(products=covered, scales=scales, factors=evened, eight=eight, ranges=ranges)

    def _maker(self, name: str) -> str:
        makers = (node.name for node in self.source.model.graph.node if name in node.output)
        return next((f"node {maker!r}" for maker in makers), f"input {name!r}")


def _axes(node: onnx.NodeProto, weight: onnx.TensorProto) -> tuple[int, int | None] | None:
    """Axes of a weight: output channels, and what is summed over; None for what is not covered."""
    if weight.data_type != FLOAT or node.domain not in ("", "ai.onnx"):
        return None
    rank = len(weight.dims)
    flags = {item.name for item in node.attribute if item.name in ("transA", "transB") and item.i}
    if node.op_type == "Conv":
        return 0, None
    if node.op_type == "MatMul" and rank >= _MATRIX:
        return rank - 1, rank - 2
    if node.op_type == "Gemm" and rank == _MATRIX and "transA" not in flags:
        return (0, 1) if "transB" in flags else (1, 0)
    return None
