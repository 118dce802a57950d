"""Build what is asked for, and keep it only when every gate lets it through."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.errors import ArtifactWrong, CompileFailed, PrecisionNotGiven
from edgekit.stages.common import OnProgress
from edgekit.stages.compiling.choosing import build_auto
from edgekit.stages.compiling.earning import Findings, check_artifact
from edgekit.stages.compiling.isa import Built, check_isa
from edgekit.stages.compiling.reducing import (
    ANYWAY,
    HIGH,
    QUANTIZED,
    Reduced,
    Reduction,
    build_alone,
    build_higher,
    reduce_precision,
)
from edgekit.stages.compiling.speed import ratio_text
from edgekit.stages.compiling.workload_goldens import Answers
from edgekit.values import AUTO, BackendSpec, Change, Earned, Outcome
from edgekit.values.isa import IsaRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was built, and what was seen when it was opened: here, and on a CPU like the target's, where
    that is another one. isa: None when that was not asked for."""

    reduced: Reduced
    findings: Findings
    isa: IsaRecord | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the manifest should know of how it came about."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        yield from self.reduced.notes
        found = self.reduced.restored
        if found is not None and found.groups and found.reached:
            yield f"kept high for accuracy: {', '.join(found.groups)}"
        if self.reduced.earned is not None:
            yield earned_text(self.reduced.compiled.precision, self.reduced.earned)
        if self.reduced.refusal:
            yield f"kept anyway: {self.reduced.refusal}"
        if self.isa is not None:
            yield isa_text(self.isa)


def earned_text(precision: str, earned: Earned) -> str:
    """What a lower precision gained, on one line."""
    size = f"{earned.size:.2f}x the bytes of {earned.against}"
    ratio, change = earned.latency.ratio, earned.latency.change
    if ratio is None:
        return f"{precision} has {size}; its speed was not compared here: {earned.latency.reason}"
    proven = "" if change is not Change.UNPROVEN else ", no difference proven"
    return f"{precision} takes {ratio_text(ratio, earned.against)}{proven}, {size}"


def isa_text(record: IsaRecord) -> str:
    """How an artifact did on a CPU like the target's, on one line."""
    where = record.cpu or f"a CPU with {record.feature or 'the features of the target'}"
    return f"on {where}: {record.outcome.value}: {record.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What an artifact must pass. keep_anyway: nothing is refused, and all is told; check_isa: a quantized
    artifact runs on an emulated CPU like the target's, where this machine's is another."""

    spec: BackendSpec
    keep_anyway: bool
    check_isa: bool

    def passed(self, reduction: Reduction, made: Reduced, work: Path, answers: Answers) -> Kept:
        """What is seen of the artifact in `work`. Raises ArtifactWrong or PrecisionNotGiven."""
        precision = made.compiled.precision
        place = reduction.build.place
        findings = check_artifact(work, answers, self.spec, precision, reduction.run, place)
        findings.enforce(keep_anyway=self.keep_anyway)
        if made.refusal and not self.keep_anyway:
            raise PrecisionNotGiven(made.refusal, hint=ANYWAY)
        isa = None if findings.unopened else self._isa(reduction, precision, work, answers)
        return Kept(reduced=made, findings=findings, isa=isa)

    def _isa(self, reduction: Reduction, precision: str, work: Path, answers: Answers) -> IsaRecord | None:
        if not self.check_isa or precision not in QUANTIZED:
            return None
        built = Built(
            directory=work,
            model=reduction.model,
            table=reduction.table,
            backend=self.spec.name,
            precision=precision,
            run=reduction.run,
            shaped=answers.shaped,
        )
        found = check_isa(built, reduction.build.target, reduction.build.place.machine)
        if found is not None and found.outcome is Outcome.FAIL and not self.keep_anyway:
            raise ArtifactWrong(f"the {precision} artifact is wrong {isa_text(found)}", hint=ANYWAY)
        return found


def build_and_check(reduction: Reduction, gates: Gates, work: Path, on_progress: OnProgress) -> Kept:
    """Build into `work`, which is empty. Raises what building and the gates raise."""
    reduction = replace(reduction, keep_anyway=gates.keep_anyway)
    answers = Answers(reduction.model, reduction.table, reduction.build.target.workload)
    if reduction.build.recipe.precision == AUTO:
        return _auto(reduction, gates, work, answers, on_progress)
    made = _made(reduction, gates.spec, work, on_progress)
    on_progress(0, 0, "checking the artifact against the model")
    return gates.passed(reduction, made, work, answers)


def _made(reduction: Reduction, spec: BackendSpec, work: Path, on_progress: OnProgress) -> Reduced:
    recipe = reduction.build.recipe
    alone = f"{recipe.precision} was compared with no higher precision: the backend builds no {HIGH}"
    if recipe.precision not in QUANTIZED or HIGH not in spec.precisions:
        compiled = reduction.build.into(work, reduction.feeds, on_progress)
        notes = (alone,) if recipe.precision in QUANTIZED else ()
        return Reduced(compiled=compiled, recipe=recipe, notes=notes)
    with tempfile.TemporaryDirectory(prefix="edgekit-higher-") as name:
        try:
            build_higher(reduction, Path(name), on_progress)
        except (CompileFailed, PrecisionNotGiven) as problem:
            if reduction.tuning is not None:  # nodes are put back by comparing both
                raise
            return build_alone(reduction, work, problem.message, on_progress)
        return reduce_precision(reduction, work, Path(name), on_progress)


def _auto(reduction: Reduction, gates: Gates, work: Path, answers: Answers, on_progress: OnProgress) -> Kept:
    seen: dict[str, Kept] = {}

    def gate(made: Reduced, directory: Path) -> None:
        kept = gates.passed(reduction, made, directory, answers)
        if kept.findings.unopened:  # the answers decide, and nobody has seen them
            raise PrecisionNotGiven(f"its answers cannot be checked here: {kept.findings.unopened}")
        seen[made.recipe.precision] = kept

    made = build_auto(reduction, gates.spec.precisions, work, gate, on_progress)
    if made.recipe.precision == HIGH:
        return gates.passed(reduction, made, work, answers)
    return replace(seen[made.recipe.precision], reduced=made)
