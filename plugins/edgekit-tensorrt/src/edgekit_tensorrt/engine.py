"""An engine in GPU memory: a plan given to the library, and its tensors compared with the description."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit_runtime.errors import OpenFailed, RunFailed
from edgekit_runtime.values import TensorSpec
from edgekit_tensorrt.description import PLAN_FILE, EngineDescription
from edgekit_tensorrt.library import RTX, Library
from edgekit_tensorrt.log import cleaned, make_log

#: numpy's names of the types that an engine takes and gives, by TensorRT's.
_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}


class Engine:
    """A deserialised plan. Made and used inside `Cuda.current()`."""

    def __init__(
        self, library: Library, plan: bytes, description: EngineDescription, directory: Path
    ) -> None:
        """Raises `OpenFailed` with the library's own lines."""
        trt = library.module
        self.library = library
        self.path = directory / PLAN_FILE
        self.log: Any = make_log(library)
        try:
            self._runtime: Any = trt.Runtime(self.log)
        except TypeError as error:  # pybind11's word for a factory that gave nothing
            raise OpenFailed(f"{library.name} {library.version} does not start{self.said()}") from error
        self.engine: Any = self._runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise OpenFailed(
                f"{library.name} {library.version} cannot load {self.path}{self.said()}",
                hint="update the NVIDIA driver if it is older than the library wants; else compile again",
            )
        problem = _tensor_problem(trt, self.engine, description)
        if problem:
            self.close()
            raise OpenFailed(f"{self.path}: {problem}", hint="compile the model again")
        names = _names(self.engine)
        #: Of the signature, without inputs that no layer reads: the library may have dropped those.
        self.inputs = tuple(spec for spec in description.signature.inputs if spec.name in names)
        self.outputs = description.signature.outputs
        self.log.heard.clear()

    def context(self, *, graphs: bool) -> Any:
        """A new execution context, with memory for the largest shapes. Raises `RunFailed`.

        graphs: TensorRT for RTX records CUDA graphs by itself, of free shapes too. Recording its work from
        outside needs engines that are built for that.
        """
        if graphs and self.library.name == RTX:
            config = self.engine.create_runtime_config()
            config.cuda_graph_strategy = self.library.module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            context = self.engine.create_execution_context(runtime_config=config)
        else:
            context = self.engine.create_execution_context()
        if context is None:
            raise RunFailed(f"{self.path}: no execution context{self.said()}")
        return context

    def on_host(self, name: str) -> bool:
        """Whether the engine reads or writes a tensor in host memory, as it does with shapes."""
        found = self.engine.get_tensor_location(name)
        return bool(found == self.library.module.TensorLocation.HOST)

    def close(self) -> None:
        """Free it, after its contexts. Calling it twice is fine."""
        self.engine = None
        self._runtime = None

    def said(self) -> str:
        """The library's errors since the last call, to be put behind a message."""
        lines = cleaned(self.log.errors())
        self.log.heard.clear()
        return ": " + "; ".join(lines[:4]) if lines else ""


def _tensor_problem(trt: Any, engine: Any, description: EngineDescription) -> str:
    """In what the engine's tensors differ from the signature; "" when they fit."""
    signature = description.signature
    modes = trt.TensorIOMode
    wanted = {spec.name: (modes.INPUT, spec) for spec in signature.inputs}
    wanted |= {spec.name: (modes.OUTPUT, spec) for spec in signature.outputs}
    names = _names(engine)
    if not {spec.name for spec in signature.outputs} <= names <= set(wanted):
        return f"it has the tensors {', '.join(sorted(names))}, not {', '.join(sorted(wanted))}"
    for name in names:
        mode, spec = wanted[name]
        if engine.get_tensor_mode(name) != mode:
            return f"tensor {name!r} is an input in one and an output in the other"
        dtype = _DTYPES.get(engine.get_tensor_dtype(name).name, "?")
        shape = tuple(engine.get_tensor_shape(name))
        if dtype != spec.dtype or not _fits(shape, spec):
            return f"tensor {name!r} is {dtype}{list(shape)}, not {spec.dtype}{list(spec.shape)}"
    if engine.num_optimization_profiles != max(1, len(description.profiles)):
        return f"it has {engine.num_optimization_profiles} optimisation profiles, not those described"
    return ""


def _names(engine: Any) -> set[str]:
    return {engine.get_tensor_name(place) for place in range(engine.num_io_tensors)}


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    """Whether an engine's shape, with -1 where it is free, is one that the signature allows."""
    if len(shape) != len(spec.shape):
        return False
    pairs: Iterator[tuple[int, int | str]] = zip(shape, spec.shape, strict=True)
    return all(size == -1 or isinstance(wanted, str) or size == wanted for size, wanted in pairs)
