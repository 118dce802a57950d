"""How many tokens a model generates, which a latency of whole answers means nothing without."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from edgekit.stages.answers.asking import Answering
from edgekit.values import GeneratedRecord
from edgekit_runtime.generation import TOKENS
from edgekit_runtime.session import Feeds
from edgekit_runtime.values import Signature

#: Runs that are counted at most; a run may take seconds.
MOST_RUNS = 16


def count_generated(
    session: Answering, signature: Signature, inputs: Sequence[Feeds]
) -> GeneratedRecord | None:
    """Tokens of some runs, None for a model that generates none. inputs: as those that are timed."""
    if TOKENS not in {spec.name for spec in signature.outputs} or not inputs:
        return None
    counts = [outputs[TOKENS].shape[1] for outputs in session.run_many(inputs[:MOST_RUNS])]
    return GeneratedRecord(
        runs=len(counts), least=min(counts), median=statistics.median_low(counts), most=max(counts)
    )
