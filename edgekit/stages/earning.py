"""Gates that an artifact passes before it is kept: right, in the precision asked for, worth keeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices import open_device
from edgekit.errors import ArtifactWrong, PrecisionNotGiven
from edgekit.host.client import WorkerClient
from edgekit.host.sessions import open_remote
from edgekit.stages.golden import check_goldens
from edgekit.targets import match_machine
from edgekit.values import BackendSpec, GoldenRecord, ModelTable, Outcome, RunSettings, Target
from edgekit_runtime.machine import read_machine
from edgekit_runtime.values import Placement, Signature

#: Precisions that must show in the executed graph; fp32 is what everything else runs in.
REDUCED = ("fp16", "bf16", "int8", "int8-weights", "int4-weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was seen when the fresh artifact was opened and run here."""

    precision: str
    signature: Signature
    golden: GoldenRecord
    placement: Placement | None

    def enforce(self, *, keep_anyway: bool) -> None:
        """Raise ArtifactWrong or PrecisionNotGiven unless every gate is passed."""
        if keep_anyway:
            return
        if self.golden.outcome is not Outcome.PASS:
            raise ArtifactWrong(
                f"the {self.precision} artifact disagrees with the model: {self.golden.reason}",
                hint="try another precision, --keep-high for the worst nodes, or --keep-anyway to look at it",
            )
        for complaint in self._complaints():
            raise PrecisionNotGiven(
                complaint, hint="choose another --precision, or --keep-anyway to look at it"
            )

    def notes(self, target: Target) -> tuple[str, ...]:
        """What a reader of the manifest should know: gates that were overridden, where it was checked."""
        lines = [f"kept anyway: {line}" for line in self._complaints()]
        if self.golden.outcome is not Outcome.PASS:
            lines.append(f"kept anyway: disagrees with the model: {self.golden.reason}")
        lines += self._execution()
        if not match_machine(target, read_machine()).ok:
            lines.append(
                f"checked on the compiling machine, which is not {target.name!r}; speed is not known here"
            )
        return tuple(lines)

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
    directory: Path, model: Path, table: ModelTable, spec: BackendSpec, precision: str, run: RunSettings
) -> Findings:
    """Open the fresh artifact in a worker of its own, run the goldens, read the executed graph."""
    with (
        WorkerClient(open_device("local"), threads=run.threads) as worker,
        open_remote(worker, directory, spec.name, precision, run) as session,
    ):
        golden = check_goldens(session, model, table, precision)
        placement = session.placement() if "placement" in spec.capabilities else None
        signature = session.signature
    return Findings(precision=precision, signature=signature, golden=golden, placement=placement)
