"""Promises to the process: a backend ends, leaves the worker alive, and keeps off its pipe.

The bench takes the plainest model from probe to close before any other test. What is lost there is
reported by one of these three, and every other test is blocked by it.
"""

from __future__ import annotations

from edgekit.testing.base import Contract
from edgekit.testing.bench import Bench


class SparesTheProcess(Contract):
    """Each reports one way in which a worker is lost."""

    def test_finishes_in_time(self, bench: Bench) -> None:
        """No call takes longer than `time_limit` on these small models."""
        bench.must_work()

    def test_keeps_the_worker_alive(self, bench: Bench) -> None:
        """No call ends the worker, by a signal, by exit() or by SystemExit."""
        bench.must_work()

    def test_keeps_the_protocol_clean(self, bench: Bench) -> None:
        """Prints are fine; writing to file descriptors that are not the backend's own is not."""
        bench.must_work()
