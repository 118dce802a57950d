"""One call that compiles a model as edgekit would."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.api import Compiled, CompileRequest, OptionValue, Signature, Target
from edgekit.values import Hardware, Workload
from edgekit_runtime.feeds import write_feeds
from edgekit_tensorrt.compiler import Compiler
from edgekit_tensorrt.prepare import Typed, typed_graph

from .models import LONGEST, signature

Build = Callable[..., tuple[Path, Compiled]]
Request = Callable[..., CompileRequest]
Prepare = Callable[..., Typed]
Feeds = dict[str, np.ndarray]


def target(gpu_arch: str = "sm_89", workload: Workload | None = None) -> Target:
    """A machine with such a GPU."""
    found = workload or Workload(sequence=32)
    return Target(name="a-gpu", hardware=Hardware(gpu_arch=gpu_arch), workload=found)


@pytest.fixture
def compiled(tmp_path: Path) -> Build:
    """Save a model, compile it, return the artifact's directory and what the compiler said.

    axes: as the export knows them of these models; {} for not at all.
    """

    def build(
        model: onnx.ModelProto,
        precision: str = "fp32",
        gpu_arch: str = "sm_89",
        *,
        workload: Workload | None = None,
        axes: Mapping[str, tuple[int, int | None]] | None = None,
        calibration: Sequence[dict[str, np.ndarray]] | None = None,
        keep_high: tuple[str, ...] = (),
        said: Signature | None = None,
        progress: Callable[[int, int, str], None] = lambda done, total, what: None,
        **options: OptionValue,
    ) -> tuple[Path, Compiled]:
        count = sum(1 for path in tmp_path.iterdir() if path.name.startswith("artifact"))
        workdir, path, rows = (tmp_path / f"{kind}{count}" for kind in ("artifact", "model", "rows"))
        workdir.mkdir()
        onnx.save_model(model, path)
        if calibration is not None:
            write_feeds(rows, calibration)
        request = CompileRequest(
            model=path,
            signature=said or signature(model),
            workdir=workdir,
            precision=precision,
            target=target(gpu_arch, workload),
            options=options,
            calibration=rows if calibration is not None else None,
            keep_high=keep_high,
            axes={"sequence": (1, LONGEST)} if axes is None else axes,
        )
        return workdir, Compiler().compile(request, progress)

    return build


@pytest.fixture
def requested(tmp_path: Path) -> Request:
    """A request for a model in a precision, with calibration rows or without."""

    def request(
        model: onnx.ModelProto,
        precision: str = "fp16",
        calibration: Sequence[Feeds] | None = None,
        *,
        keep_high: tuple[str, ...] = (),
        outside: bool = False,
    ) -> CompileRequest:
        path = tmp_path / "model.onnx"
        said = signature(model)
        onnx.save_model(model, path, save_as_external_data=outside, location="model.data", size_threshold=0)
        shutil.rmtree(tmp_path / "rows", ignore_errors=True)
        if calibration is not None:
            write_feeds(tmp_path / "rows", calibration)
        (tmp_path / "work").mkdir(exist_ok=True)
        return CompileRequest(
            model=path,
            signature=said,
            workdir=tmp_path / "unused",
            precision=precision,
            target=target(),
            calibration=tmp_path / "rows" if calibration is not None else None,
            keep_high=keep_high,
        )

    return request


@pytest.fixture
def prepared(requested: Request, tmp_path: Path) -> Prepare:
    """The typed graph of a request."""

    def prepare(*about: object, **more: object) -> Typed:
        return typed_graph(requested(*about, **more), tmp_path / "work", lambda done, total, what: None)

    return prepare
