"""Put back what quantization broke: the groups that regain most accuracy per millisecond first.

1. Each group is quantized alone: its error is what it costs, the time it saves is what it is worth. Of one
   that a backend quantizes with others only, both are what is regained when it alone is put back.
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
#: How a reason begins where there was no time for more.
TIME_UP = "time was up"
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
    search.tell("no group kept high")
    low = search.attempt(())
    if search.good(low):
        return Restored(groups=(), trials=(low,), ranking=(), reached=True)
    if not search.groups:
        return _ended((), (low,), (), "the accuracy is not within its budget")
    ranking = rank(search, low)
    if len(ranking) < len(search.groups):
        reason = f"{TIME_UP} after {len(ranking)} of {len(search.groups)} groups were tried alone"
        return _ended((), (low,), ranking, reason)
    return _put_back(search, low, ranking)


def rank(search: Search, low: Trial) -> tuple[Sensitivity, ...]:
    """What each group costs and saves by itself, the most cost per millisecond first; of fewer groups when
    time is up. low: the trial with no group kept."""
    search.tell("all groups kept high")
    high = search.attempt(search.groups)
    found = []
    for number, group in enumerate(search.groups, start=1):
        if search.over():
            break
        search.tell(f"{number} of {len(search.groups)}: {group.name} alone")
        alone = search.attempt([other for other in search.groups if other is not group])
        if alone.lowered:
            found.append(_cost(group, high, alone))
        else:
            found.append(_cost(group, search.attempt([group]), low))
    least = LEAST_SAVING * high.ms
    return tuple(sorted(found, key=lambda one: one.error / max(one.saved_ms, least), reverse=True))


def _cost(group: Group, without: Trial, having: Trial) -> Sensitivity:
    """What quantizing the group costs and saves: trials without it and having it differ in it alone."""
    return Sensitivity(
        group=group.name,
        nodes=len(group.nodes),
        error=max(0.0, having.error - without.error),
        flips=max(0, having.flips - without.flips),
        saved_ms=without.ms - having.ms,
    )


def _put_back(search: Search, low: Trial, ranking: Sequence[Sensitivity]) -> Restored:
    by_name = {group.name: group for group in search.groups}
    order = [by_name[one.group] for one in ranking]
    kept: list[Group] = []
    trials = [low]
    for group in order:
        if search.over():
            return _ended(kept, trials, ranking, f"{TIME_UP} before the accuracy was within its budget")
        kept.append(group)
        search.tell(f"{len(kept)} of {len(order)} groups kept high")
        trials.append(search.attempt(kept))
        if not trials[-1].lowered:
            kept.pop()
            break
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
        reason=reason + _least_drop(trials),
    )


def _least_drop(trials: Sequence[Trial]) -> str:
    """How near the search came to the budget, in words."""
    drops = [(trial.drop, len(trial.kept)) for trial in trials if trial.drop is not None and trial.lowered]
    if not drops:
        return ""
    drop, kept = min(drops, key=lambda one: one[0].estimate)
    at_most = "" if drop.high is None else f" ({drop.high:.2f} at most)"
    which = f"{kept} groups" if kept > 1 else "one group" if kept else "no group"
    said = "the drop is" if len(drops) == 1 else "the least drop seen is"
    return f"; {said} {drop.estimate:.2f} points{at_most}, with {which} kept high"
