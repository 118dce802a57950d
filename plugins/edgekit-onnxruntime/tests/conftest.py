"""One call that compiles a model as edgekit would."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import onnx
import pytest

from edgekit.api import Compiled, CompileRequest, OptionValue, Signature, Target
from edgekit_onnxruntime.compiler import Compiler
from edgekit_runtime.feeds import write_feeds
from edgekit_runtime.session import Feeds

Build = Callable[..., tuple[Path, Compiled]]


@pytest.fixture
def compiled(tmp_path: Path) -> Build:
    """Save a model, compile it, return the artifact's directory and what the compiler said."""

    def build(
        model: onnx.ModelProto | Path,
        precision: str = "fp32",
        *,
        keep_high: tuple[str, ...] = (),
        target: Target | None = None,
        rows: Iterable[Feeds] | None = None,
        **options: OptionValue,
    ) -> tuple[Path, Compiled]:
        count = sum(1 for path in tmp_path.iterdir() if path.name.startswith("artifact"))
        workdir = tmp_path / f"artifact{count}"
        workdir.mkdir()
        path = model
        if isinstance(model, onnx.ModelProto):
            path = tmp_path / f"model{count}.onnx"
            onnx.save_model(model, path)
        assert isinstance(path, Path)
        calibration = None if rows is None else tmp_path / f"rows{count}"
        if rows is not None and calibration is not None:
            write_feeds(calibration, iter(rows))
        request = CompileRequest(
            model=path,
            signature=Signature(inputs=(), outputs=()),
            workdir=workdir,
            precision=precision,
            target=target or Target(name="here"),
            options=options,
            calibration=calibration,
            keep_high=keep_high,
        )
        return workdir, Compiler().compile(request, lambda done, total, what: None)

    return build
