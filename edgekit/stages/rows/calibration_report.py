"""What calibration rows are like, and why they may not do. A few numbers of each row are kept, no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgekit.measuring.inputs import sizes_of
from edgekit.stages.rows.feed_files import feeds_digest
from edgekit.values import CalibrationReport, LearntRanges, Lengths, RangeRow
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Signature

_BATCH, _MASK = "batch", "attention_mask"
#: Of n rows, the next one goes beyond either end of a range with a chance of 1 in n + 1: from 99 on 1 %.
LEAST_ROWS = 100
#: Every repeat is a row less; a twentieth of them moves none of the limits here.
MOST_REPEATED = 1 / 20
#: Half as long as the workload: positions beyond were never seen, and sums over a row were half as large.
SHORT = 1 / 2
#: 10 rows for each class, drawn alike, miss one of them with a chance of 1 in 20,000.
ROWS_PER_CLASS = 10
#: Of 100 rows, 10 are left for all other classes: their ranges are those of `LEAST_ROWS` / 10 rows.
MOST_OF_ONE_CLASS = 0.9
#: Ids drawn alike from a span of n collide once in n pairs. Words of any language do so in 1 of 500 pairs or
#: more, which only vocabularies of a thousand and more tell from chance; 10 collisions tell it at all.
LEAST_SPAN, ALIKE, LEAST_COLLISIONS = 1000, 1 / 3, 10
#: Neighbours in photographs and spectrograms correlate by 0.8 and more, in noise by 1 / sqrt(values): 0.06
#: at the fewest values looked at. A vector is looked at when it can only be a waveform.
NOISE, LEAST_VALUES, LEAST_SAMPLES, LEAST_AXIS = 0.2, 256, 2000, 8
#: Pixels that were not divided by 255 are over 100 times too large, samples of 16 bits over 1,000 times.
OFF_SCALE = 20
#: Half of the rows lie where none of the others do; of 20 rows each, by chance in 1 of 100 draws.
APART, LEAST_COMPARED = 0.5, 20
#: One token in five more than the calibration rows themselves let expect (Good-Turing: the share of tokens
#: seen once), of so many tokens.
UNSEEN, LEAST_TOKENS = 0.2, 200
#: A row sets each range by chance as often as any other; a quarter of them, and twice as wide, is its own.
WIDE_SHARE = 1 / 4
#: Rows that set ranges, as the manifest lists them.
MOST_RANGE_ROWS = 10


class Statistics:
    """Numbers that tell what feeds are like, taken in one run at a time."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self.sizes: list[dict[str, int]] = []
        self.digests: set[str] = set()
        #: Of inputs of whole numbers: how often each occurs, and in how many runs.
        self.counts: dict[str, Counter[int]] = {}
        self.holders: dict[str, Counter[int]] = {}
        #: Of inputs of floats, by run: mean, spread, and how alike neighbours are (NaN where unknown).
        self.means: dict[str, list[float]] = {}
        self.spreads: dict[str, list[float]] = {}
        self.smoothness: dict[str, list[float]] = {}
        self._unordered: set[str] = set()
        self._positions = self._padding = 0

    def see(self, feeds: Feeds) -> None:
        """Take in one run."""
        self.sizes.append({axis: n for axis, n in sizes_of(self._signature, feeds).items() if axis != _BATCH})
        self.digests.add(feeds_digest(feeds))
        for name, value in feeds.items():
            if value.dtype.kind == "f":
                self._see_floats(name, value.astype(np.float64))
            elif name.endswith(_MASK):
                self._positions += value.size
                self._padding += int(np.count_nonzero(value == 0))
            elif value.dtype.kind in "iu":
                self._see_whole(name, value.ravel())

    @property
    def padding(self) -> float | None:
        """Share of positions that the mask leaves out."""
        return self._padding / self._positions if self._positions else None

    def ids(self) -> Iterator[tuple[str, Counter[int]]]:
        """Inputs of whole numbers that only rise are positions; what is left counts things."""
        return ((name, counts) for name, counts in self.counts.items() if name in self._unordered)

    def scale(self, name: str) -> float:
        """The usual size of the numbers in an input of floats: the median of their root mean squares."""
        pairs = zip(self.means[name], self.spreads[name], strict=True)
        return float(np.median([np.hypot(*pair) for pair in pairs]))

    def _see_floats(self, name: str, value: Array) -> None:
        self.means.setdefault(name, []).append(float(value.mean()))
        self.spreads.setdefault(name, []).append(float(value.std()))
        self.smoothness.setdefault(name, []).append(_smoothness(value))

    def _see_whole(self, name: str, value: Array) -> None:
        ids, counts = np.unique(value, return_counts=True)
        found = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        self.counts.setdefault(name, Counter()).update(found)
        self.holders.setdefault(name, Counter()).update(found.keys())
        if (np.diff(value) < 0).any():
            self._unordered.add(name)


def _smoothness(value: Array) -> float:
    """The largest correlation of neighbours along any axis; NaN where too few values tell it."""
    least = LEAST_VALUES if value.ndim > 2 else LEAST_SAMPLES
    if value.size < least or not value.std():
        return float("nan")
    centred = value - value.mean()
    found = []
    for axis in range(1, value.ndim):
        if value.shape[axis] >= LEAST_AXIS:
            turned = np.moveaxis(centred, axis, 0)
            found.append(float((turned[:-1] * turned[1:]).mean() / np.square(centred).mean()))
    return max(found, default=float("nan"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of the rows beside their feeds. distinct: different rows of those used; classes: rows, or
    tags, by label, none where labels were not read; labels: the model's, where a row has one of them;
    workload: the target's shapes."""

    rows: int
    given: int
    distinct: int
    classes: Mapping[str, int] = field(default_factory=dict)
    labels: Sequence[str] = ()
    workload: Sequence[Mapping[str, int]] = ()


def calibration_report(known: Known, seen: Statistics) -> CalibrationReport:
    """The report on calibration rows and their runs, which are at least one."""
    lengths = {axis: _lengths(axis, known, seen) for axis in seen.sizes[0]}
    warnings = (*_few(known), *_short(lengths), *_one_sided(known), *_random(seen))
    return CalibrationReport(
        rows=known.rows,
        given=known.given,
        repeated=known.rows - known.distinct,
        lengths=lengths,
        classes=known.classes,
        padding=seen.padding,
        warnings=warnings,
    )


def _lengths(axis: str, known: Known, seen: Statistics) -> Lengths:
    sizes = sorted(row[axis] for row in seen.sizes)
    lower, median, upper = (sizes[(len(sizes) - 1) * quarter // 4] for quarter in (1, 2, 3))
    workload = tuple(sorted({shape[axis] for shape in known.workload if axis in shape}))
    return Lengths(least=sizes[0], lower=lower, median=median, upper=upper, most=sizes[-1], workload=workload)


# --- warnings -----------------------------------------------------------------------------------------------


def _few(known: Known) -> Iterator[str]:
    repeated = known.rows - known.distinct
    if known.distinct < LEAST_ROWS:
        rows = "1 row is" if known.distinct == 1 else f"{known.distinct} different rows are"
        chance = 100 / (known.distinct + 1)
        yield (
            f"{rows} few: a new row goes beyond either end of a learnt range with a chance of "
            f"{chance:.0f} %; give at least {LEAST_ROWS}"
        )
    if repeated > MOST_REPEATED * known.rows:
        yield f"{repeated:,} of the {known.rows:,} rows repeat another one and teach nothing new"


def _short(lengths: Mapping[str, Lengths]) -> Iterator[str]:
    for axis, found in lengths.items():
        promised = max(found.workload, default=0)
        if found.most < SHORT * promised:
            yield (
                f"the longest row has {axis} {found.most}, not half of the workload's {promised}: "
                "give longer rows, or a workload like the rows"
            )


def _one_sided(known: Known) -> Iterator[str]:
    total = sum(known.classes.values())
    if not total or len(known.labels) < 2:
        return
    missing = [label for label in known.labels if not known.classes.get(label)]
    if missing and total >= ROWS_PER_CLASS * len(known.labels):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        yield f"no row is of class {', '.join(missing[:3])}{more}"
        return
    label, most = max(known.classes.items(), key=lambda each: each[1])
    if most > MOST_OF_ONE_CLASS * total:
        yield f"{most:,} of {total:,} rows are of class {label}, so that others are hardly seen"


def _random(seen: Statistics) -> Iterator[str]:
    for name, counts in seen.ids():
        # what is in half of the rows marks their ends and fills them up
        common = {word for word, runs in seen.holders[name].items() if 2 * runs >= len(seen.sizes)}
        rest = {word: count for word, count in counts.items() if word not in common}
        if rest and _uniform(rest):
            yield (
                f"the numbers in {name!r} look drawn at random: no few of them are common, as words are; "
                "calibrate on rows like those in use"
            )
    for name, found in seen.smoothness.items():
        if float(np.nan_to_num(np.median(found), nan=1.0)) < NOISE:
            yield f"the numbers in {name!r} look like noise: neighbours have nothing in common"


def _uniform(counts: Mapping[int, int]) -> bool:
    total, span = sum(counts.values()), max(counts) - min(counts) + 1
    pairs = total * (total - 1) / 2
    collisions = sum(count * (count - 1) / 2 for count in counts.values())
    return span >= LEAST_SPAN and pairs / span >= LEAST_COLLISIONS and collisions < pairs / span / ALIKE


def off_scale(seen: Statistics, goldens: Statistics) -> Iterator[str]:
    """Feeds whose numbers have another size than those of the model's recorded inputs."""
    for name in seen.means:
        if name not in goldens.means or not goldens.scale(name):
            continue
        ratio = seen.scale(name) / goldens.scale(name)
        if not 1 / OFF_SCALE <= ratio <= OFF_SCALE:
            yield (
                f"the numbers in {name!r} are {ratio:.3g} times those that the model's processor gives: were "
                "they prepared as the model does it?"
            )


def unlike(seen: Statistics, others: Statistics, what: str) -> Iterator[str]:
    """How the calibration rows differ from other ones, called `what`."""
    if min(len(seen.sizes), len(others.sizes)) >= LEAST_COMPARED:
        for axis in seen.sizes[0]:
            pair = [[row[axis] for row in each.sizes] for each in (seen, others)]
            if apart(*pair) > APART:
                medians = [int(np.median(each)) for each in pair]
                yield f"unlike the {what}: the median of {axis} is {medians[0]}, there {medians[1]}"
        for name in seen.means:
            if any(apart(one[name], other[name]) > APART for one, other in _moments(seen, others)):
                yield f"unlike the {what}: the numbers in {name!r} are distributed differently"
    for name, counts in seen.ids():
        there = others.counts.get(name, Counter())
        total = sum(there.values())
        unseen = sum(count for word, count in there.items() if word not in counts)
        expected = sum(count == 1 for count in counts.values()) / sum(counts.values())
        if total >= LEAST_TOKENS and unseen / total > expected + UNSEEN:
            yield (
                f"unlike the {what}: {unseen / total:.0%} of their tokens are in no calibration row "
                f"(expected: {expected:.0%})"
            )


def _moments(
    one: Statistics, other: Statistics
) -> tuple[tuple[Mapping[str, list[float]], Mapping[str, list[float]]], ...]:
    return (one.means, other.means), (one.spreads, other.spreads)


def apart(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest distance between two empirical distributions (Kolmogorov and Smirnov), 0 to 1."""
    first, second = np.sort(one), np.sort(other)
    places = np.concatenate([first, second])
    shares = [np.searchsorted(each, places, side="right") / len(each) for each in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


# --- ranges -------------------------------------------------------------------------------------------------


def range_rows(learnt: LearntRanges, numbers: Mapping[str, Sequence[int]]) -> tuple[RangeRow, ...]:
    """The rows that alone made ranges wide, by their numbers in the file. numbers: by part, of each run."""
    return tuple(
        RangeRow(
            row=numbers[each.part][each.run],
            ranges=each.ranges,
            tensor=f"{each.part}: {each.tensor}" if each.part else each.tensor,
            width=each.width,
            width_without=each.width_without,
        )
        for each in learnt.setters[:MOST_RANGE_ROWS]
        if each.part in numbers and 0 <= each.run < len(numbers[each.part])
    )


def wide_rows(rows: Sequence[RangeRow], ranges: int) -> Iterator[str]:
    """Rows that alone made so many ranges wide that they should be looked at."""
    for row in rows:
        if row.ranges > WIDE_SHARE * ranges:
            yield (
                f"row {row.row} alone made {row.ranges} of {ranges} ranges at least twice as wide: "
                "look at it, or take it out"
            )
