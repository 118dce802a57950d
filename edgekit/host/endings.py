"""How a worker ended, in words, and which error that is."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import WorkerCrashed, WorkerOutOfMemory
from edgekit_runtime.calls import says_out_of_memory
from edgekit_runtime.errors import EdgekitError, ProtocolError

_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Ending:
    """code: exit code, negative for a signal, None when it had to be ended although its stream was over.

    printed: the last lines on stderr since the call began.
    """

    code: int | None
    printed: str = ""
    problem: ProtocolError | None = None
    oom_killed: bool = False

    def words(self) -> str:
        """The exit code or the signal's name."""
        if self.code is None:
            return "its stream closed"
        if self.code >= 0:
            return f"exit code {self.code}"
        try:
            return f"signal {signal.Signals(-self.code).name}"
        except ValueError:
            return f"signal {-self.code}"

    def error(self, what: str, memory_mib: int | None) -> EdgekitError:
        """The error for a worker that was lost during `what`."""
        if self.code is None and self.problem is not None:
            return ProtocolError(f"during `{what}`: {self.problem.message}", hint=self.problem.hint)
        limit = f"its limit was {memory_mib} MiB" if memory_mib is not None else ""
        printed = last_words(self.printed)
        if says_out_of_memory(self.printed):
            return WorkerOutOfMemory(f"the worker ran out of memory during `{what}`", hint=limit or printed)
        if self.code == -9 and self.oom_killed:
            message = f"the system killed the worker for want of memory during `{what}`"
            return WorkerOutOfMemory(message, hint=limit or "free memory, or use a smaller batch or model")
        if self.code == -9:
            printed = printed or "nobody here killed it: the system may have run out of memory"
        hint = "; ".join(part for part in (limit, printed) if part)
        return WorkerCrashed(f"the worker ended during `{what}`: {self.words()}", hint=hint)


def last_words(printed: str) -> str:
    """A hint that shows the end of what a worker printed."""
    last = "\n".join(printed.splitlines()[-_SHOWN_LINES:])
    return f"it printed last:\n{last}" if last else ""


def oom_kills(root: Path = Path("/")) -> int | None:
    """How often this kernel has killed a process for want of memory; None when it does not tell."""
    try:
        found = re.search(r"^oom_kill (\d+)$", (root / "proc/vmstat").read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
