"""Gates that an artifact passes before it is kept: right, in the precision asked for, worth keeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import ArtifactWrong, PrecisionNotGiven
from edgekit.host.places import Place
from edgekit.host.sessions import open_remote
from edgekit.stages.answers.golden import check_goldens, goldens_not_measured
from edgekit.stages.compiling.workload_goldens import Answers, ShapedGoldens, check_shaped
from edgekit.targets import match_machine
from edgekit.values import BackendSpec, GoldenRecord, Outcome, RunSettings, Target
from edgekit_runtime.errors import HardwareMissing
from edgekit_runtime.values import Machine, Placement, Signature

#: Precisions that must show in the executed graph; fp32 is what everything else runs in.
REDUCED = ("fp16", "bf16", "fp8", "int8", "int8-weights", "int4-weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was seen when the fresh artifact was opened and run here.

    unopened: what this machine lacks to open it at all, "" when it was opened; shaped: at the workload's
    shape, in words `where`, None when recorded goldens have it; unchecked: why it was not run there.
    """

    precision: str
    signature: Signature
    golden: GoldenRecord
    placement: Placement | None
    unopened: str = ""
    shaped: GoldenRecord | None = None
    where: str = ""
    unchecked: str = ""

    def enforce(self, *, keep_anyway: bool) -> None:
        """Raise ArtifactWrong or PrecisionNotGiven unless every gate is passed.

        An artifact that cannot be opened here passes: nothing speaks against it, and its notes say so.
        """
        if keep_anyway or self.unopened:
            return
        if self.golden.outcome is not Outcome.PASS:
            raise ArtifactWrong(
                f"the {self.precision} artifact disagrees with the model: {self.golden.reason}",
                hint="try another precision, --keep-high for the worst nodes, or --keep-anyway to look at it",
            )
        if self._wrong_shaped():
            raise ArtifactWrong(
                f"the {self.precision} artifact {self._wrong_shaped()}",
                hint="another precision or other compile options; --keep-anyway keeps it to look at",
            )
        for complaint in self._complaints():
            raise PrecisionNotGiven(
                complaint, hint="choose another --precision, or --keep-anyway to look at it"
            )

    def notes(self, target: Target, machine: Machine) -> tuple[str, ...]:
        """What a reader of the manifest should know: gates that were overridden, and that it was checked on
        `machine`."""
        if self.unopened:
            how = f"`edgekit validate` on {target.name!r} tells whether it is right"
            return (f"unproven: it was never run: {self.unopened}; {how}",)
        lines = [f"kept anyway: {line}" for line in self._complaints()]
        if self.golden.outcome is not Outcome.PASS:
            lines.append(f"kept anyway: disagrees with the model: {self.golden.reason}")
        if self._wrong_shaped():
            lines.append(f"kept anyway: {self._wrong_shaped()}")
        elif self.unchecked:
            lines.append(f"unproven: it was not checked at {self.where}: {self.unchecked}")
        elif self.shaped is not None:
            lines.append(f"agrees with the model at the workload's shape too ({self.where})")
        lines += self._execution()
        if not match_machine(target, machine).ok:
            lines.append(
                f"checked on the compiling machine, which is not {target.name!r}; speed is not known here"
            )
        return tuple(lines)

    def _wrong_shaped(self) -> str:
        """How it is wrong at the workload's shape, "" when it is not."""
        if self.shaped is None or self.shaped.outcome is Outcome.PASS:
            return ""
        return f"disagrees with the model at the workload's shape ({self.where}): {self.shaped.reason}"

    def _execution(self) -> Sequence[str]:
        if self.precision not in REDUCED:
            return ()
        if self.placement is None:
            return (f"unproven: the backend cannot tell whether nodes really execute in {self.precision}",)
        rows = [row for row in self.placement.rows if row.precision == self.precision]
        share = sum(row.time_share or 0.0 for row in rows)
        nodes = f"{sum(row.nodes for row in rows)} of {self.placement.nodes()} executed nodes"
        return (f"{nodes} run in {self.precision}, {share:.0%} of the time",)

    def _complaints(self) -> Sequence[str]:
        found = []
        if self.precision in REDUCED and self.placement is not None and not self._executed():
            ran = ", ".join(sorted({row.precision for row in self.placement.rows}))
            found.append(f"{self.precision} was asked for, but no node executes in it (executed: {ran})")
        return found

    def _executed(self) -> bool:
        rows = self.placement.rows if self.placement is not None else ()
        return any(row.precision == self.precision and row.nodes > 0 for row in rows)


def check_artifact(
    directory: Path, answers: Answers, spec: BackendSpec, precision: str, run: RunSettings, place: Place
) -> Findings:
    """Open the fresh artifact in a worker of its own where it was built, run the goldens, at the workload's
    shape too, read the executed graph.

    Where the hardware for that is missing nothing is known of it, and its signature is the model's.
    """
    try:
        with (
            place.worker(run.threads) as worker,
            open_remote(worker, directory, spec.name, precision, run) as session,
        ):
            golden = check_goldens(session, answers.model, answers.table, precision)
            beyond = answers.shaped if golden.outcome is Outcome.PASS else ShapedGoldens()
            shaped = check_shaped(session, beyond, answers.table, precision)
            placement = session.placement() if "placement" in spec.capabilities else None
            signature = session.signature
    except HardwareMissing as missing:
        return Findings(
            precision=precision,
            signature=answers.table.signature,
            golden=goldens_not_measured(missing.message),
            placement=None,
            unopened=missing.message,
        )
    return Findings(
        precision=precision,
        signature=signature,
        golden=golden,
        placement=placement,
        shaped=shaped,
        where=beyond.where,
        unchecked=beyond.unchecked,
    )
