"""CUDA's driver: is one here, with a GPU, of which architecture; and its calls, each return code checked.

Reached through NVIDIA's cuda-bindings, which load the driver's library only when it is first called.
Only the driver API is used: it works with every driver from CUDA 12 on, and needs no CUDA toolkit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgekit_runtime.errors import EdgekitError, HardwareMissing, OpenFailed, RunFailed

#: The engine's device word: GPU 0 of those that CUDA shows; CUDA_VISIBLE_DEVICES picks another one.
DEVICE = "gpu"
_ORDINAL = 0
_NAME_BYTES = 128

_ON_THE_DEVICE = "an engine runs on a machine with an NVIDIA GPU and its driver: run this on the device"


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """A GPU. architecture: its compute capability, as "sm_89"."""

    name: str
    architecture: str


def find_gpu() -> GpuInfo:
    """The GPU that engines run on here.

    Raises `HardwareMissing` saying which is missing: cuda-bindings, the driver, or a GPU. This is
    asked before TensorRT is shown a plan: standard TensorRT crashes on one where there is no driver.
    """
    cuda = _driver()
    try:
        code = cuda.cuInit(0)[0]
    except RuntimeError as error:  # cuda-bindings does not find the driver's library
        raise HardwareMissing("there is no NVIDIA driver in this machine", hint=_ON_THE_DEVICE) from error
    if code == cuda.CUresult.CUDA_ERROR_NO_DEVICE:
        raise HardwareMissing("the NVIDIA driver shows no GPU in this machine", hint=_ON_THE_DEVICE)
    if code != cuda.CUresult.CUDA_SUCCESS:
        raise HardwareMissing(f"the NVIDIA driver does not start: {code.name}", hint=_ON_THE_DEVICE)
    _check_version(cuda)
    device = checked(cuda.cuDeviceGet(_ORDINAL), "find a GPU", HardwareMissing)
    name = checked(cuda.cuDeviceGetName(_NAME_BYTES, device), "name the GPU", OpenFailed)
    word = cuda.CUdevice_attribute
    major, minor = (
        checked(cuda.cuDeviceGetAttribute(attribute, device), "describe the GPU", OpenFailed)
        for attribute in (
            word.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            word.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    shown = name.split(b"\0")[0].decode("utf-8", "replace").strip()
    return GpuInfo(name=shown, architecture=f"sm_{major}{minor}")


def checked(result: tuple[Any, ...], doing: str, error: type[EdgekitError] = RunFailed) -> Any:
    """What a call of the driver returned beside its code; `error` with CUDA's name for a code that is bad."""
    code, *values = result
    if code != 0:
        raise error(f"CUDA could not {doing}: {code.name}", hint=_hint(code.name))
    return values[0] if values else None


class Cuda:
    """The GPU's primary context, which TensorRT uses too, kept while a session is open."""

    def __init__(self) -> None:
        """Raises `OpenFailed`; `find_gpu` has found a GPU before."""
        self.api = _driver()
        self._device = checked(self.api.cuDeviceGet(_ORDINAL), "find a GPU", OpenFailed)
        self._context = checked(self.api.cuDevicePrimaryCtxRetain(self._device), "make a context", OpenFailed)

    @contextmanager
    def current(self) -> Iterator[None]:
        """Calls of CUDA and TensorRT belong in here: they work on the calling thread's current context."""
        checked(self.api.cuCtxPushCurrent(self._context), "use the GPU")
        try:
            yield
        finally:
            checked(self.api.cuCtxPopCurrent(), "leave the GPU")

    def close(self) -> None:
        """Give the context back. Once only."""
        checked(self.api.cuDevicePrimaryCtxRelease(self._device), "give the context back")


def _driver() -> Any:
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise HardwareMissing(
            f"the GPU cannot be reached without cuda-bindings: {error}",
            hint="pip install 'edgekit-tensorrt[rtx]', or cuda-bindings of the driver's CUDA version",
        ) from error
    return driver


def _check_version(cuda: Any) -> None:
    """cuda-bindings of a newer major than the driver's lack functions that they call."""
    driver = checked(cuda.cuDriverGetVersion(), "tell its version", OpenFailed) // 1000
    bindings = cuda.CUDA_VERSION // 1000
    if driver < bindings:
        raise OpenFailed(
            f"the NVIDIA driver is of CUDA {driver}, cuda-bindings here of CUDA {bindings}",
            hint=f"update the driver, or pip install 'cuda-bindings<{driver + 1}'",
        )


def _hint(name: str) -> str:
    if name == "CUDA_ERROR_OUT_OF_MEMORY":
        return "the GPU's memory is full: end other programs on it, or give smaller inputs"
    return ""
