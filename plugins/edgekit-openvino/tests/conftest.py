"""One call that compiles a model as edgekit would."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgekit.api import Compiled, CompileRequest, OptionValue, Signature, Target
from edgekit_openvino.compiler import Compiler
from edgekit_runtime.feeds import write_feeds

from .models import signature

Build = Callable[..., tuple[Path, Compiled]]


@pytest.fixture
def compiled(tmp_path: Path) -> Build:
    """Save a model, compile it, return the artifact's directory and what the compiler said."""

    def build(
        model: onnx.ModelProto,
        precision: str = "fp32",
        *,
        keep_high: tuple[str, ...] = (),
        calibration: Sequence[dict[str, np.ndarray]] | None = None,
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
            target=Target(name="here"),
            options=options,
            calibration=rows if calibration is not None else None,
            keep_high=keep_high,
        )
        return workdir, Compiler().compile(request, progress)

    return build
