"""Building an artifact graph by graph: what the backend takes, and each part compiled into its directory."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgekit.devices.base import Device
from edgekit.errors import ModelFileError, UnknownName
from edgekit.files.graphs import PIPELINE_FILE, Graph
from edgekit.files.tables import nearest
from edgekit.host.compiling import check_model, compile_model
from edgekit.host.places import Place, here
from edgekit.stages.common import OnProgress, quiet
from edgekit.values import Compiled, CompileRequest, LearntRanges, OperatorSupport, Recipe, Support, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What is built of which graphs, and where. timeout: seconds for each; axes: sizes it takes."""

    backend: str
    graphs: tuple[Graph, ...]
    recipe: Recipe
    target: Target
    threads: int
    timeout: float
    place: Place = field(default_factory=here)
    axes: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)

    def into(self, work: Path, feeds: Mapping[str, Path], on_progress: OnProgress) -> Compiled:
        """Compile every graph into `work`, which is empty; a part into the directory of its name.

        feeds: directories of calibration rows by part. Raises what `compile_model` raises, UnknownName for a
        node kept high that no graph has.
        """
        kept = kept_by_part(self.recipe.keep_high, self.graphs)
        found = []
        for graph in self.graphs:
            place = work / graph.part
            place.mkdir(exist_ok=True)
            request = CompileRequest(
                model=graph.path.resolve(),
                signature=graph.signature,
                workdir=place.resolve(),
                precision=self.recipe.precision,
                target=self.target,
                options=self.recipe.options,
                calibration=feeds.get(graph.part),
                keep_high=kept[graph.part],
                seed=self.recipe.seed,
                threads=self.threads,
                axes=self.axes,
            )
            compiled = compile_model(
                self.backend,
                request,
                on_progress=_of_part(graph.part, on_progress),
                timeout=self.timeout,
                device=self.place.device,
            )
            found.append((graph.part, compiled))
        if self.graphs[0].part:
            shutil.copyfile(self.graphs[0].path.parents[1] / PIPELINE_FILE, work / PIPELINE_FILE)
        return _together(found, self.recipe.precision)


def check_graphs(
    backend: str,
    graphs: Sequence[Graph],
    target: Target,
    device: Device | None = None,
    on_progress: OnProgress = quiet,
) -> Support:
    """Whether the backend, as it is on `device`, takes every graph. Operators that it takes are counted over
    all of them; one that it refuses is told for the part that has it."""
    answers = [
        (graph.part, check_model(backend, graph.path, target, device=device, on_progress=on_progress))
        for graph in graphs
    ]
    taken: dict[tuple[str, str], int] = {}
    refused = []
    for part, support in answers:
        for row in support.operators:
            if row.supported:
                key = (row.op_type, row.reason)
                taken[key] = taken.get(key, 0) + row.count
            else:
                refused.append(replace(row, reason=told(part, row.reason or "no reason given")))
    rows = [
        OperatorSupport(op_type=op_type, count=count, supported=True, reason=reason)
        for (op_type, reason), count in taken.items()
    ]
    return Support(
        supported=all(support.supported for _, support in answers),
        operators=(*refused, *rows),
        notes=tuple(told(part, note) for part, support in answers for note in support.notes),
    )


def kept_by_part(names: Iterable[str], graphs: Sequence[Graph]) -> Mapping[str, tuple[str, ...]]:
    """The nodes kept high of each part: "decoder/NODE" is NODE of the part decoder.

    For a model of one graph every name is its own; its compiler knows them. Raises UnknownName for a part or
    node that the model has not.
    """
    parts = {graph.part: graph for graph in graphs}
    if "" in parts:
        return {"": tuple(names)}
    kept: dict[str, list[str]] = {part: [] for part in parts}
    for name in names:
        part, slash, node = name.partition("/")
        if part not in parts or not slash:
            raise UnknownName(
                f"--keep-high {name}: a node of this model is named PART/NODE, its parts are "
                f"{', '.join(parts)}",
                hint=nearest(part, parts),
            )
        kept[part].append(node)
    for part, nodes in kept.items():
        _refuse_unknown(parts[part], nodes)
    return {part: tuple(dict.fromkeys(nodes)) for part, nodes in kept.items()}


def _refuse_unknown(graph: Graph, nodes: Sequence[str]) -> None:
    known = _nodes(graph.path) if nodes else ()
    for node in nodes:
        if node not in known:
            close = difflib.get_close_matches(node, known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {graph.part}/{close[0]}?"
                if close
                else f"its first nodes: {', '.join(known[:5])}"
            )
            raise UnknownName(f"--keep-high: the part {graph.part!r} has no node {node!r}", hint=hint)


def told(part: str, text: str) -> str:
    """`text` with the part that it is about."""
    return f"{part}: {text}" if part else text


def _nodes(path: Path) -> tuple[str, ...]:
    """Names of the graph's nodes; its weights stay on the disk where they lie beside it."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as problem:
        raise ModelFileError(f"{path}: cannot be read: {problem}", hint="export the model again") from problem
    return tuple(node.name for node in model.graph.node if node.name)


def _of_part(part: str, on_progress: OnProgress) -> OnProgress:
    def progress(done: int, total: int, what: str) -> None:
        on_progress(done, total, told(part, what))

    return progress


def _together(found: Sequence[tuple[str, Compiled]], precision: str) -> Compiled:
    """What was built of all parts."""
    versions: dict[str, str] = {}
    for _, compiled in found:
        versions |= compiled.engine_versions
    files = [f"{part}/{name}" if part else name for part, compiled in found for name in compiled.files]
    pipeline = [PIPELINE_FILE] if found[0][0] else []
    return Compiled(
        files=(*files, *pipeline),
        precision=precision,
        engine_versions=versions,
        notes=tuple(told(part, note) for part, compiled in found for note in compiled.notes),
        ranges=_ranges_together([(part, each.ranges) for part, each in found if each.ranges is not None]),
    )


def _ranges_together(found: Sequence[tuple[str, LearntRanges]]) -> LearntRanges | None:
    """The ranges of all parts, and the runs that set some of them, with their part."""
    if not found:
        return None
    setters = [replace(each, part=part) for part, learnt in found for each in learnt.setters]
    return LearntRanges(
        count=sum(learnt.count for _, learnt in found),
        setters=tuple(sorted(setters, key=lambda each: -each.ranges)),
    )
