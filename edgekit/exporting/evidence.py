"""What a failed check leaves behind: OUTPUT.failed/, everything a bug report needs."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit.errors import ExportWrong
from edgekit.exporting import checks
from edgekit.exporting.departing import (
    LEAST_DEPARTURE,
    Departure,
    first_departure,
    program_outputs,
    relative_error,
)
from edgekit.exporting.reproduce import Recipe, write_failed_script
from edgekit.exporting.written import Compared
from edgekit.files.directories import new_directory
from edgekit.files.manifests import MANIFEST_NAME
from edgekit.files.tables import write_json
from edgekit.values import ExportCheck
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.values import Signature, Tolerance

if TYPE_CHECKING:
    from edgekit.exporting.checks import Expected, Outputs
    from edgekit.exporting.onnx import Traced

log = logging.getLogger(__name__)

KIND = "failed-export"
SUFFIX = ".failed"
#: Weights beyond this are left out: the evidence is to be sent by mail.
LARGEST_WEIGHTS = 200 * 1024 * 1024
#: Constants up to this stay in a graph whose weights are left out.
_SMALL_CONSTANT = 64 * 1024
_WORST_CASES = 3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Failure:
    """An export that is wrong, while its graphs are still on disk.

    output: where the model was to be; compared: the graph that is wrong, or all of a pipeline whose whole
    is; config: the source's config.json, if it has one; retrace: loads and traces the source again, since
    its memory was given back; None when there is no torch model behind the graph, or several graphs;
    tell: is told in words what goes on.
    """

    output: Path
    compared: Compared
    got: Sequence[Outputs]
    tolerance: Tolerance
    recipe: Recipe
    config: Path | None = None
    retrace: Callable[[], Traced] | None = None
    tell: Callable[[str], None] = lambda what: None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    """evidence.json: what was compared and what came out. part: of a pipeline, "" for a whole model."""

    message: str
    departure: Departure | None
    located: str
    weights: str
    tolerance: Tolerance
    signature: Signature
    part: str
    versions: Mapping[str, str]
    source: Mapping[str, str]
    checks: tuple[ExportCheck, ...]
    reasons: tuple[str, ...]
    worst: tuple[str, ...]


def keep(failure: Failure, problem: ExportWrong) -> ExportWrong:
    """Write the evidence; the error again, naming the directory and the first node that departs.

    Evidence that cannot be written is no error of its own: the message says why.
    """
    departure, located = locate(failure)
    directory = evidence_directory(failure.output)
    failure.tell("a check failed: keeping the evidence")
    message = f"{problem.message}\n  {located}"
    try:
        with new_directory(directory, KIND) as work:
            _fill(work, failure, message, departure, located)
    except EdgekitError as trouble:
        return ExportWrong(f"{message}\n  evidence was not kept: {trouble.message}", hint=problem.hint)
    return ExportWrong(f"{message}\n  evidence for a report: {directory}", hint=problem.hint)


def evidence_directory(output: Path) -> Path:
    """OUTPUT.failed, beside where the model was to be."""
    return output.with_name(output.name + SUFFIX)


def locate(failure: Failure) -> tuple[Departure | None, str]:
    """The first node whose output departs, and a sentence on it; never an error."""
    if failure.compared.pipeline is not None:
        return None, "each part agrees by itself, and the whole does not: the fault lies in how they are run"
    if failure.retrace is None:
        return None, "there is no torch model to compare inner values with"
    order = _worst(failure, smallest_first=True)
    item = failure.compared.expected[order[0]]
    [graph] = failure.compared.graphs
    try:
        failure.tell("a check failed: loading the source again")
        traced = failure.retrace()
        departure = first_departure(graph.path, graph.signature, traced, item.case, tell=failure.tell)
        if departure is not None:
            return departure, departure.shown()
        outputs = program_outputs(traced, item.case.feeds)
    except (EdgekitError, RuntimeError, ValueError, TypeError) as trouble:  # torch's interpreter, any engine
        log.debug("inner values could not be compared", exc_info=True)
        return None, f"inner values could not be compared: {str(trouble).splitlines()[0]}"
    pairs = zip(item.outputs.values(), outputs, strict=False)
    if any(relative_error(expected, got) > LEAST_DEPARTURE for expected, got in pairs):
        return None, "no node departs from what was traced: tracing itself changed the model"
    return None, (
        "no inner value departs when all are observed: the tolerance is below rounding, or the engine"
        " that ran the graph changes it where nobody looks"
    )


def _worst(failure: Failure, *, smallest_first: bool = False) -> list[int]:
    """Numbers of the failed cases, the largest error or the smallest feeds first."""
    judged = _judged(failure)
    failed = [at for at, check in enumerate(judged.checks) if not check.passed]
    if smallest_first:
        cases = [item.case for item in failure.compared.expected]
        return sorted(failed, key=lambda at: sum(array.size for array in cases[at].feeds.values()))
    return sorted(failed, key=lambda at: -judged.checks[at].max_abs_error)


def _judged(failure: Failure) -> checks.Judged:
    compared = failure.compared
    return checks.compare(compared.facts, compared.expected, failure.got, failure.tolerance)


def _fill(work: Path, failure: Failure, message: str, departure: Departure | None, located: str) -> None:
    judged = _judged(failure)
    compared = failure.compared
    weights = _keep_graphs(compared, work)
    names = []
    for rank, at in enumerate(_worst(failure)[:_WORST_CASES], start=1):
        names.append(f"worst-{rank}.npz")
        _keep_case(work / names[-1], compared.expected[at], failure.got[at])
    if failure.config is not None and failure.config.is_file():
        shutil.copyfile(failure.config, work / "config.json")
    write_failed_script(work, failure.recipe)
    report = _Report(
        message=message,
        departure=departure,
        located=located,
        weights=weights,
        tolerance=failure.tolerance,
        signature=compared.signature,
        part=compared.part,
        versions=failure.recipe.versions,
        source={**compared.facts.source, "digest": failure.recipe.digest},
        checks=judged.checks,
        reasons=judged.reasons,
        worst=tuple(compared.expected[at].case.name for at in _worst(failure)[:_WORST_CASES]),
    )
    write_json(work / "evidence.json", report)
    (work / "README.txt").write_text(_readme(message, weights, names, compared), encoding="utf-8")
    (work / MANIFEST_NAME).write_text(json.dumps({"kind": KIND}) + "\n", encoding="utf-8")


def _keep_graphs(compared: Compared, work: Path) -> str:
    """Copy the graphs, without large weights when they are many; a sentence on them."""
    files = [
        path
        for graph in compared.graphs
        for path in (graph.path, *graph.path.parent.glob(f"{graph.path.name}.*"))
    ]
    total = sum(path.stat().st_size for path in files)
    for graph in compared.graphs:
        place = work / graph.part
        place.mkdir(exist_ok=True)
        if total <= LARGEST_WEIGHTS:
            for path in (graph.path, *graph.path.parent.glob(f"{graph.path.name}.*")):
                shutil.copyfile(path, place / path.name)
        else:
            _keep_without_weights(graph.path, place)
    if compared.pipeline is not None:
        shutil.copyfile(compared.pipeline, work / compared.pipeline.name)
    what, its = ("the graph", "its") if len(compared.graphs) == 1 else ("the graphs of both parts", "their")
    if total <= LARGEST_WEIGHTS:
        return f"{what} with all {its} weights"
    return f"{what} without {its} weights ({total / 2**20:.0f} MiB); the source has them"


def _keep_without_weights(graph: Path, place: Path) -> None:
    import onnx_ir as ir

    model = ir.load(graph)
    initializers = model.graph.initializers
    for name, value in list(initializers.items()):
        if value.const_value is None or value.const_value.nbytes > _SMALL_CONSTANT:
            del initializers[name]
    (place / graph.name).write_bytes(ir.to_proto(model).SerializeToString())


def _keep_case(path: Path, expected: Expected, got: Outputs) -> None:
    arrays = {f"feed.{name}": array for name, array in expected.case.feeds.items()}
    arrays |= {f"torch.{name}": array for name, array in expected.outputs.items()}
    arrays |= {f"onnx.{name}": array for name, array in got.items()}
    with path.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _readme(message: str, weights: str, cases: Sequence[str], compared: Compared) -> str:
    graphs = "model.onnx  " if compared.pipeline is None else "*/model.onnx"
    return f"""An export that edgekit refused, because the graph does not answer as the original does.

{message}

What is here
  evidence.json  every check with its error, the first node that departs, versions of the tools
  {graphs}   {weights}
  {", ".join(cases)}
                 the worst cases, for numpy.load(): feed.*, torch.* (the original's outputs), onnx.*
  config.json    the source's own, where it has one
  reproduce.sh   the command that was run

Where to look
  1. evidence.json, "departure": the first node of the graph whose output is not torch's; everything
     before it agrees. Open model.onnx in a viewer and look at that node's inputs and attributes.
  2. worst-1.npz: is the difference in every row, or only where inputs are padded?
  3. `bash reproduce.sh` runs the export again.
Before you send this: the cases and the weights are made of your model and its inputs.
"""
