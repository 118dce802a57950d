"""Which rows of a file are taken, by seed. Files are read row by row; only rows that are taken are held."""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Collection, Iterable

from edgekit.tasks import Row


def drawn_places(given: int, most: int, seed: int) -> list[int]:
    """Places of the rows that are taken of `given`, from 0: all in their order, or `most` drawn by seed."""
    return list(range(given)) if given <= most else random.Random(seed).sample(range(given), most)


class DifferentRows:
    """At most `most` rows, none twice, drawn by seed: those whose digests come first, mixed with the seed."""

    def __init__(self, most: int, seed: int) -> None:
        self._most = most
        self._seed = seed
        # A heap, the last of the kept on top; the number keeps rows themselves from being compared.
        self._kept: list[tuple[int, int, Row]] = []
        self._digests: set[str] = set()

    def see(self, row: Row) -> None:
        """One row of the file."""
        if not self._most or row.digest in self._digests:
            return
        mixed = hashlib.sha256(f"{self._seed} {row.digest}".encode()).digest()
        entry = (-int.from_bytes(mixed[:8], "big"), row.number, row)
        self._digests.add(row.digest)
        if len(self._kept) < self._most:
            heapq.heappush(self._kept, entry)
        else:
            self._digests.discard(heapq.heappushpop(self._kept, entry)[2].digest)

    def found(self, most: int, without: Collection[str]) -> tuple[Row, ...]:
        """The first `most` of them, but those whose digest is in `without`."""
        rows = [row for _, _, row in sorted(self._kept, key=lambda entry: -entry[0])]
        return tuple(row for row in rows if row.digest not in without)[:most]


def different_rows(rows: Iterable[Row], most: int, seed: int, without: Collection[str]) -> tuple[Row, ...]:
    """At most `most` of these rows, none twice, drawn by seed, and none whose digest is in `without`."""
    kept = DifferentRows(most, seed)
    for row in rows:
        if row.digest not in without:
            kept.see(row)
    return kept.found(most, without)
