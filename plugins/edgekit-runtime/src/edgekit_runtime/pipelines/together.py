"""What the parts of a pipeline say of themselves, put together."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit_runtime.values import OperatorTime, Placement, PlacementRow


def merged_placement(parts: Sequence[tuple[Placement, float]]) -> Placement:
    """One placement of several. Each comes with its part of the time, in [0, 1]."""
    nodes: dict[tuple[str, str], int] = {}
    shares: dict[tuple[str, str], float] = {}
    told = all(row.time_share is not None for placement, _ in parts for row in placement.rows)
    for placement, weight in parts:
        for row in placement.rows:
            key = (row.precision, row.device)
            nodes[key] = nodes.get(key, 0) + row.nodes
            shares[key] = shares.get(key, 0.0) + weight * (row.time_share or 0.0)
    rows = tuple(
        PlacementRow(
            precision=precision,
            device=device,
            nodes=count,
            # Shares of some rows alone would be shares of nothing.
            time_share=min(shares[precision, device], 1.0) if told else None,
        )
        for (precision, device), count in nodes.items()
    )
    sources = dict.fromkeys(placement.source for placement, _ in parts if placement.source)
    return Placement(rows=rows, source="; ".join(sources))


def merged_profile(
    parts: Sequence[tuple[str, Sequence[OperatorTime], float]],
) -> tuple[OperatorTime, ...]:
    """One profile of several, costliest first. Each comes with its name and its part of the time."""
    operators = [
        OperatorTime(
            name=f"{name}/{operator.name}",
            op_type=operator.op_type,
            precision=operator.precision,
            device=operator.device,
            share=weight * operator.share,
        )
        for name, profile, weight in parts
        for operator in profile
    ]
    return tuple(sorted(operators, key=lambda operator: -operator.share))
