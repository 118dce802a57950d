"""How long a process's threads stood in the run queue."""

from __future__ import annotations

import os
from pathlib import Path


class WaitReader:
    """Time that this process's threads stood in the run queue, from /proc/self/task/*/schedstat."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._tasks = str(root / "proc/self/task")
        self._files: dict[str, int] = {}
        self._marked: dict[str, int] | None = None

    def mark(self) -> None:
        """Start an interval."""
        self._marked = self._read()

    def since_mark(self) -> int | None:
        """Nanoseconds of waiting since `mark`, all threads together; None when not readable."""
        before, after = self._marked, self._read()
        if before is None or after is None:
            return None
        return sum(max(0, wait - before.get(task, 0)) for task, wait in after.items())

    def close(self) -> None:
        """Close the files it keeps open from one reading to the next."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()

    def _read(self) -> dict[str, int] | None:
        try:
            tasks = os.listdir(self._tasks)  # noqa: PTH208 (once per run: paths would cost more)
        except OSError:
            return None
        fields = {task: self._fields(task) for task in tasks}
        known = {task: pair for task, pair in fields.items() if pair is not None}
        if not any(ran for ran, _ in known.values()):
            return None  # a kernel that does not count shows zeros: some thread of ours did run
        return {task: waited for task, (_, waited) in known.items()}

    def _fields(self, task: str) -> tuple[int, int] | None:
        try:
            file = self._files.get(task)
            if file is None:
                file = self._files[task] = os.open(f"{self._tasks}/{task}/schedstat", os.O_RDONLY)
            ran, waited, *_ = os.pread(file, 96, 0).split()
            return int(ran), int(waited)
        except (OSError, ValueError):
            stale = self._files.pop(task, None)
            if stale is not None:
                os.close(stale)
            return None
