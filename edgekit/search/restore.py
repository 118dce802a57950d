"""Put back what quantization broke: the groups that regain most accuracy per millisecond first.

1. Each group is quantized alone: its error is what it costs, the time it saves is what it is worth.
2. Groups are put back in the order of cost per millisecond saved, until a trial is good.
3. Groups that turn out to be unneeded are quantized again, the least costly first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from edgekit.search.groups import Group
from edgekit.values import Restored, Sensitivity, Trial

#: Time savings below this share of a run are noise; such a group counts as saving so much.
LEAST_SAVING = 0.01
#: Builds and tries an artifact with these groups in the higher precision.
Attempt = Callable[[Sequence[Group]], Trial]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched. good: whether a trial is within the accuracy budget; over: whether time is up;
    tell: what is tried next, for progress."""

    groups: Sequence[Group]
    attempt: Attempt
    good: Callable[[Trial], bool]
    over: Callable[[], bool]
    tell: Callable[[str], None] = field(default=lambda what: None)


def restore(search: Search) -> Restored:
    """Search until a trial is good, all groups are back, or time is up. Nothing is tried when the artifact
    with no group kept is good already."""
    low = search.attempt(())
    if search.good(low):
        return Restored(groups=(), trials=(low,), ranking=(), reached=True)
    if not search.groups:
        return _ended((), (low,), (), "the accuracy is not within its budget")
    ranking = rank(search)
    if len(ranking) < len(search.groups):
        reason = f"time was up after {len(ranking)} of {len(search.groups)} groups were tried alone"
        return Restored(groups=(), trials=(low,), ranking=ranking, reached=False, reason=reason)
    return _put_back(search, low, ranking)


def rank(search: Search) -> tuple[Sensitivity, ...]:
    """What each group costs and saves by itself, the most cost per millisecond first; of fewer groups when
    time is up."""
    high = search.attempt(search.groups)
    found = []
    for number, group in enumerate(search.groups, start=1):
        if search.over():
            break
        search.tell(f"{number} of {len(search.groups)}: {group.name} alone")
        alone = search.attempt([other for other in search.groups if other is not group])
        found.append(
            Sensitivity(
                group=group.name,
                nodes=len(group.nodes),
                error=alone.error,
                flips=alone.flips,
                saved_ms=high.ms - alone.ms,
            )
        )
    least = LEAST_SAVING * high.ms
    return tuple(sorted(found, key=lambda one: one.error / max(one.saved_ms, least), reverse=True))


def _put_back(search: Search, low: Trial, ranking: Sequence[Sensitivity]) -> Restored:
    by_name = {group.name: group for group in search.groups}
    order = [by_name[one.group] for one in ranking]
    kept: list[Group] = []
    trials = [low]
    for group in order[:-1]:  # with every group back nothing is quantized
        if search.over():
            return _ended(kept, trials, ranking, "time was up before the accuracy was within its budget")
        kept.append(group)
        search.tell(f"{len(kept)} of {len(order)} groups kept high")
        trials.append(search.attempt(kept))
        if search.good(trials[-1]):
            return _thinned(search, kept, trials, ranking)
    return _ended(kept, trials, ranking, "the accuracy is not within its budget with any group quantized")


def _thinned(
    search: Search, kept: Sequence[Group], trials: list[Trial], ranking: Sequence[Sensitivity]
) -> Restored:
    """Without the groups that are not needed after all; the one put back last is."""
    needed = list(kept)
    for group in list(reversed(needed[:-1])):
        if search.over():
            break
        fewer = [other for other in needed if other is not group]
        search.tell(f"without {group.name}")
        trials.append(search.attempt(fewer))
        if search.good(trials[-1]):
            needed = fewer
    return Restored(
        groups=tuple(group.name for group in needed),
        trials=tuple(trials),
        ranking=tuple(ranking),
        reached=True,
    )


def _ended(
    kept: Sequence[Group], trials: Sequence[Trial], ranking: Sequence[Sensitivity], reason: str
) -> Restored:
    return Restored(
        groups=tuple(group.name for group in kept),
        trials=tuple(trials),
        ranking=tuple(ranking),
        reached=False,
        reason=reason,
    )
