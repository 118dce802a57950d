"""The kit's models: small, built in code, weights from a fixed seed, answers from `onnx.reference`.

Each is the smallest graph that holds one thing backends get wrong. No answer ever comes from a
backend. Weights look like trained ones: zero mean, scaled by fan-in, channels of unlike range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgekit_runtime.session import Array
from edgekit_runtime.values import Signature, TensorSpec

OPSET = 17
IR_VERSION = 8

#: Sizes of the symbolic axes at which artifacts are built and most tests run.
USUAL = {"batch": 4, "sequence": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCase:
    """One model of the kit.

    build: makes the ONNX model; feeds: draws inputs for given sizes; quantizable: it holds the
    weights that lower precisions are about; external: weights are saved in a file beside it.
    """

    name: str
    build: Callable[[], Any]
    draw: Callable[[np.random.Generator, Mapping[str, int]], dict[str, Array]]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    quantizable: bool = False
    external: bool = False

    @property
    def signature(self) -> Signature:
        return Signature(inputs=self.inputs, outputs=self.outputs)

    def axes(self) -> frozenset[str]:
        """Names of the symbolic axes of the inputs."""
        return frozenset(axis for spec in self.inputs for axis in spec.shape if isinstance(axis, str))

    def feeds(self, seed: int = 0, sizes: Mapping[str, int] | None = None) -> dict[str, Array]:
        """Inputs drawn from `seed`; sizes that are not given are the usual ones."""
        return self.draw(np.random.default_rng(1_000 + seed), {**USUAL, **(sizes or {})})

    def write(self, directory: Path) -> Path:
        """Write model.onnx (and model.onnx.data) into `directory`."""
        import onnx

        path = directory / "model.onnx"
        if self.external:
            onnx.save_model(
                self.build(),
                path,
                save_as_external_data=True,
                location="model.onnx.data",
                size_threshold=1024,
            )
        else:
            onnx.save_model(self.build(), path)
        return path

    def answers(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the model gives for `feeds`, by the reference implementation of ONNX itself."""
        got = _reference(self.build).run(None, dict(feeds))
        return {spec.name: np.asarray(value) for spec, value in zip(self.outputs, got, strict=True)}


@dataclass(slots=True)
class Graph:
    """Collects nodes and weights; a few lines that keep the models below readable."""

    seed: int
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)

    def node(
        self,
        op_type: str,
        inputs: Sequence[str],
        output: str,
        attributes: Mapping[str, object] | None = None,
        *,
        name: str | None = None,
    ) -> str:
        from onnx import helper

        name = f"/{output}/{op_type}" if name is None else name
        self.nodes.append(helper.make_node(op_type, list(inputs), [output], name=name, **(attributes or {})))
        return output

    def constant(self, name: str, value: Array) -> str:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(value, name))
        return name

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.asarray(value, dtype=np.float32))

    def weight(self, name: str, *shape: int, fan_in: int) -> str:
        """Normal weights of variance 1/fan_in, each last-axis channel with its own range."""
        rng = np.random.default_rng([self.seed, len(self.weights)])
        spread = np.exp(rng.uniform(-0.7, 0.7, size=shape[-1]))
        value = rng.normal(0.0, fan_in**-0.5, size=shape) * spread
        return self.constant(name, value.astype(np.float32))

    def bias(self, name: str, size: int) -> str:
        rng = np.random.default_rng([self.seed, len(self.weights), 1])
        return self.constant(name, rng.normal(0.0, 0.1, size=size).astype(np.float32))

    def linear(self, source: str, output: str, size_in: int, size_out: int) -> str:
        weight = self.weight(f"{output}.weight", size_in, size_out, fan_in=size_in)
        product = self.node("MatMul", [source, weight], f"{output}.product", name=f"/{output}/MatMul")
        return self.node("Add", [product, self.bias(f"{output}.bias", size_out)], output)

    def finish(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Any:
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self.nodes,
            "kit",
            [_info(spec) for spec in inputs],
            [_info(spec) for spec in outputs],
            self.weights,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="edgekit-kit",
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def tensor(name: str, *shape: int | str, dtype: str = "float32") -> TensorSpec:
    """A `TensorSpec` in one line."""
    return TensorSpec(name=name, dtype=dtype, shape=shape)


def _info(spec: TensorSpec) -> Any:
    from onnx import helper

    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, dtype, list(spec.shape))


@cache
def _reference(build: Callable[[], Any]) -> Any:
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(build())
