"""Which calibration rows set the ranges that NNCF learnt: its own statistics do not keep that."""

from __future__ import annotations

import numpy as np

from edgekit.api import LearntRanges, RangeWatch
from edgekit_openvino.calibration import CalibrationRows
from edgekit_openvino.engine import ops, ov


def learnt_ranges(core: ov.Core, made: ov.Model, rows: CalibrationRows, how: str) -> LearntRanges:
    """Run the rows once more through the quantized model `made` with nothing rounded, and look at the ends
    of what each FakeQuantize is given. Two numbers a tensor leave the engine. It costs one inference a row.

    how: "minmax", or a mean over rows, which no single row sets.
    """
    unrounded = made.clone()
    sources: dict[str, ov.Output] = {}
    for node in unrounded.get_ordered_ops():
        source = node.input_value(0) if node.get_type_name() == "FakeQuantize" else None
        if source is None or source.get_node().get_type_name() == "Constant":
            continue
        if source.get_partial_shape().rank.is_static:
            sources.setdefault(source.get_node().get_friendly_name(), source)
        node.output(0).replace(source)
    if not sources or how != "minmax":
        return LearntRanges(count=len(sources))
    ends = []
    for source in sources.values():
        axes = np.arange(source.get_partial_shape().rank.get_length(), dtype=np.int64)
        ends += [ops.reduce_min(source, axes), ops.reduce_max(source, axes)]
    looked_at = ov.Model(ends, unrounded.get_parameters(), "ranges")
    compiled = core.compile_model(looked_at, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    watch = RangeWatch()
    for run, feeds in enumerate(rows):
        answers = compiled(dict(feeds))
        for place, name in enumerate(sources):
            watch.see(name, run, float(answers[2 * place]), float(answers[2 * place + 1]))
    return watch.found()
