"""The graphs of a loaded model on disk, and what each of them, and their whole, is compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.exporting import checks, onnx
from edgekit.exporting.subject import Assembly, Facts, Subject
from edgekit.files.graphs import PIPELINE_FILE, Graph
from edgekit.values import ExportCheck
from edgekit_runtime.generation import SCORES, TOKENS
from edgekit_runtime.pipelines import write_pipeline
from edgekit_runtime.values import Signature, TensorSpec

if TYPE_CHECKING:
    from edgekit.exporting.checks import Expected, Outputs

#: The part of a model of one graph, and of the run of a whole pipeline.
WHOLE = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """Graphs that are run as one, with what the original answers.

    part: a part's name, or WHOLE; pipeline: says how several graphs are run, None for one.
    """

    part: str
    graphs: tuple[Graph, ...]
    signature: Signature
    facts: Facts
    expected: Sequence[Expected]
    pipeline: Path | None = None

    def named(self, check: ExportCheck) -> ExportCheck:
        """The check under a name that says its part."""
        return dataclasses.replace(check, name=f"{self.part}: {check.name}") if self.part else check

    def outputs(self) -> Sequence[Outputs]:
        """What the reference backend gives for every case."""
        from edgekit.host.reference import open_reference_graphs

        feeds = [item.case.feeds for item in self.expected]
        with open_reference_graphs(self.graphs, self.pipeline) as session:
            return session.run_many(feeds)


def subjects(loaded: Subject | Assembly) -> Mapping[str, Subject]:
    """What is traced, by the name of its part."""
    return loaded.parts if isinstance(loaded, Assembly) else {WHOLE: loaded}


def write_graphs(loaded: Subject | Assembly, directory: Path, opset: int) -> tuple[Graph, ...]:
    """Trace and save each graph below `directory`, and pipeline.json where there are several."""
    graphs = []
    for part, subject in subjects(loaded).items():
        place = directory / part
        place.mkdir(exist_ok=True)
        model = onnx.trace(subject, opset)
        path = onnx.save(model, place, onnx.model_notes(subject.facts))
        graphs.append(Graph(part=part, path=path, signature=onnx.signature(model)))
        del model
    if isinstance(loaded, Assembly):
        write_pipeline(directory, loaded.pipeline)
    return tuple(graphs)


def original_answers(
    loaded: Subject | Assembly, graphs: Sequence[Graph], directory: Path
) -> tuple[Compared, ...]:
    """Run the original on every case: of each graph, then of the whole where there are several."""
    found = [
        Compared(
            part=graph.part,
            graphs=(dataclasses.replace(graph, part=WHOLE),),
            signature=graph.signature,
            facts=subject.facts,
            expected=checks.original_outputs(subject, [spec.name for spec in graph.signature.outputs]),
        )
        for graph, subject in zip(graphs, subjects(loaded).values(), strict=True)
    ]
    if isinstance(loaded, Assembly):
        whole = pipeline_signature(graphs)
        found.append(
            Compared(
                part=WHOLE,
                graphs=tuple(graphs),
                signature=whole,
                facts=loaded.whole.facts,
                expected=checks.original_outputs(loaded.whole, [spec.name for spec in whole.outputs]),
                pipeline=directory / PIPELINE_FILE,
            )
        )
    return tuple(found)


def pipeline_signature(graphs: Sequence[Graph]) -> Signature:
    """Inputs of the first graph; the tokens that are generated, and their scores."""
    inputs = graphs[0].signature.inputs
    batch = inputs[0].shape[0]
    return Signature(
        inputs=inputs,
        outputs=(
            TensorSpec(name=TOKENS, dtype="int64", shape=(batch, "generated")),
            TensorSpec(name=SCORES, dtype="float32", shape=(batch, "generated", 2)),
        ),
    )
