"""Every trial of a search on disk, a line each, so that an interrupted search goes on where it was.

    {"schema": 1, "key": "sha256:…"}              what decides the trials: model, rows, recipe, tools
    {"kept": ["…/MatMul"], "error": 0.01, …}      one trial

A log of another key is begun anew. A last line that was cut off by an interruption is left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from edgekit.errors import OutputError
from edgekit.search.groups import Group
from edgekit.search.restore import Attempt
from edgekit.values import Trial
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import ProtocolError

SCHEMA = 1


class TrialLog:
    """The file at `path`. Raises OutputError when it cannot be written."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._found = _read(path, key)
        header = json.dumps({"schema": SCHEMA, "key": key})
        lines = (json.dumps(to_json(trial)) for trial in self._found.values())
        self._write("\n".join((header, *lines)), "w")

    def remembering(self, attempt: Attempt) -> Attempt:
        """`attempt`, which asks the log before it tries and tells it afterwards."""

        def attempt_once(kept: Sequence[Group]) -> Trial:
            names = tuple(group.name for group in kept)
            known = self._found.get(frozenset(names))
            if known is not None:
                return dataclasses.replace(known, kept=names)
            trial = attempt(kept)
            self._found[frozenset(names)] = trial
            self._write(json.dumps(to_json(trial)), "a")
            return trial

        return attempt_once

    def remove(self) -> None:
        """The search is over, and what it found is kept elsewhere."""
        self._path.unlink(missing_ok=True)

    def _write(self, line: str, mode: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as problem:
            raise OutputError(f"{self._path} cannot be written: {problem.strerror or problem}") from problem


def _read(path: Path, key: str) -> dict[frozenset[str], Trial]:
    """The trials of a log with this key; none of any other file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if not lines or json.loads(lines[0]) != {"schema": SCHEMA, "key": key}:
            return {}
    except (OSError, ValueError):
        return {}
    found = {}
    for line in lines[1:]:
        try:
            trial = from_json(Trial, json.loads(line), str(path))
        except (ValueError, ProtocolError):
            break
        found[frozenset(trial.kept)] = trial
    return found
