"""Waiting for a machine to get quiet, between launches, after one that was disturbed as a whole.

Nothing is dropped and nothing is measured meanwhile: waiting only gives the next launch a chance.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgekit.measuring.disturbance import load_text, under_pressure
from edgekit_runtime.conditions import Conditions

#: Pauses of one wait. A machine that is still loaded after all of them is measured as it is.
PAUSES = (1.0, 2.0, 4.0, 8.0)
#: Of the time for all launches, what waiting may take.
SHARE_OF_TIME = 1 / 3
#: Two readings this far apart tell whether tasks wait for a CPU now.
LOOK_SECONDS = 0.2

Tell = Callable[[str], None]


@dataclass(slots=True, kw_only=True)
class Waiting:
    """All waits of one measurement. cores: usable ones; allowed: seconds for all waits together."""

    cores: float
    allowed: float
    sleep: Callable[[float], None] = time.sleep
    spent: float = field(default=0.0, init=False)

    @property
    def over(self) -> bool:
        """Whether there is no time left to wait."""
        return self.allowed - self.spent < LOOK_SECONDS

    def wait(self, read: Callable[[], Conditions], tell: Tell) -> float:
        """Pause for as long as the machine looks loaded; the seconds that were waited.

        read: the machine's conditions now. Returns at once when no time is left, when the machine is
        quiet, and when it does not tell.
        """
        before = self.spent
        if self.over:
            return 0.0
        earlier, now = self._look(read)
        for pause in PAUSES:
            pause = min(pause, self.allowed - self.spent)
            if pause <= 0 or not looks_loaded(earlier, now, self.cores):
                break
            tell(f"waiting for a quiet machine{_how_loaded(now, self.cores)}")
            earlier = now
            self._sleep(pause)
            now = read()
        return self.spent - before

    def _look(self, read: Callable[[], Conditions]) -> tuple[Conditions, Conditions]:
        first = read()
        self._sleep(LOOK_SECONDS)
        return first, read()

    def _sleep(self, seconds: float) -> None:
        self.sleep(seconds)
        self.spent += seconds


def looks_loaded(earlier: Conditions, now: Conditions, cores: float) -> bool:
    """Whether more tasks can run than there are cores, or some waited for a CPU between the readings.

    False for a machine that tells neither.
    """
    crowded = cores > 0 and now.running is not None and now.running > cores
    return crowded or under_pressure(earlier.pressure_s, now.pressure_s, now.at_s - earlier.at_s)


def _how_loaded(now: Conditions, cores: float) -> str:
    load = max(now.load or 0.0, float(now.running or 0) - 1)
    return f": {load_text(load, cores)}" if load > cores > 0 else ""
