"""From a compile request to a model of fewer bits: int8 by `quantize`, weights alone by `weights`."""

from __future__ import annotations

from edgekit.api import (
    BackendUnavailable,
    CompileFailed,
    CompileRequest,
    LearntRanges,
    NothingLowered,
    ProgressCallback,
)
from edgekit_openvino.calibration import CalibrationRows, check_answers, check_ranges
from edgekit_openvino.engine import WEIGHTS_ONLY, ov

#: Precisions that change what the file holds.
LOWERED = ("int8", *WEIGHTS_ONLY)
_DEFAULT_GROUP = 64


def lower(
    core: ov.Core,
    model: ov.Model,
    request: CompileRequest,
    kept: tuple[str, ...],
    progress: ProgressCallback,
) -> tuple[ov.Model, tuple[str, ...], LearntRanges | None]:
    """The model in the precision asked for, what to note, and the ranges that it learnt from calibration
    rows. kept: OpenVINO's names that stay high."""
    try:
        import nncf  # noqa: F401
    except (ImportError, AttributeError) as error:  # the latter when nncf is too new for this openvino
        raise BackendUnavailable(
            f"{request.precision} needs nncf, which cannot be imported: {error}",
            hint="pip install 'edgekit-openvino[compile]'",
        ) from error
    rows = _rows(request, progress)
    if rows is not None:
        check_answers(core, model, rows)
    if request.precision == "int8":
        return _quantized(core, model, request, kept, rows)
    return *_compressed(model, request, kept, rows), None


def _quantized(
    core: ov.Core,
    model: ov.Model,
    request: CompileRequest,
    kept: tuple[str, ...],
    rows: CalibrationRows | None,
) -> tuple[ov.Model, tuple[str, ...], LearntRanges]:
    from edgekit_openvino import convolutions, library, quantize, ranges

    if rows is None:
        raise CompileFailed(
            "int8 on openvino learns the ranges of activations from calibration rows, and there are none",
            hint="--calibration FILE, with some hundred rows like those the model will see",
        )
    settings = quantize.Settings(
        model_type=str(request.options.get("model_type", "auto")),
        preset=str(request.options.get("preset", "auto")),
        range=str(request.options.get("range", "minmax")),
        ignored=kept,
        saturates=convolutions.saturates(request.target),
    )
    made = quantize.quantize(model, rows, settings)
    check_ranges(made)
    library.check_kept(made, kept, quantize.is_quantized)
    built, total = quantize.count_quantized(made)
    if not built:
        raise NothingLowered(
            f"NNCF quantized none of the model's {total} multiplications and convolutions",
            hint="compile for fp32, or keep fewer nodes high",
        )
    note = f"{built} of {total} multiplications and convolutions are int8, from {len(rows)} rows"
    whole = not settings.saturates and quantize.is_convolved(made, settings)
    notes = (note, convolutions.WHOLE) if whole else (note,)
    return made, notes, ranges.learnt_ranges(core, made, rows, settings.range)


def _compressed(
    model: ov.Model, request: CompileRequest, kept: tuple[str, ...], rows: CalibrationRows | None
) -> tuple[ov.Model, tuple[str, ...]]:
    from edgekit_openvino import weights

    settings = weights.WeightSettings(
        precision=request.precision,
        scheme=str(request.options.get("weights", "auto")),
        group_size=int(request.options.get("group_size", _DEFAULT_GROUP)),
        ignored=kept,
    )
    return weights.compress(model, settings, rows)


def _rows(request: CompileRequest, progress: ProgressCallback) -> CalibrationRows | None:
    if request.calibration is None:
        return None
    return CalibrationRows(request.calibration, request.signature, progress)
