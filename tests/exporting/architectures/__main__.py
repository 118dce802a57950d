"""Run the architectures, one after the other, each in a process of its own; with --write, write the table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from edgekit_runtime.errors import EdgekitError
from tests.exporting.architectures import table
from tests.exporting.architectures.registry import ARCHITECTURES, FAILING, Entry
from tests.exporting.architectures.running import Outcome, run

#: Seconds for all tasks of one architecture.
_LIMIT = 1200


def main() -> int:
    """0 when everything went as the registry says."""
    options = _parser().parse_args()
    names = options.names or [found.name for found in ARCHITECTURES]
    if options.inside:
        _inside(names[0], options.task)
        return 0
    known = _read(options.results)
    surprises = 0
    for name in names:
        tasks = [task for task in _tasks(name, options.task) if f"{name}/{task}" not in known]
        if tasks:
            known |= _child(name, tasks)
            _write(options.results, known)
        for task in _tasks(name, options.task):
            surprises += _shown((name, task), known[f"{name}/{task}"])
    if options.write and not surprises:
        outcomes = {
            tuple(key.rsplit("/", 1)): Outcome(**found) for key, found in known.items() if "code" not in found
        }
        table.write(outcomes, _versions())  # type: ignore[arg-type]
    print(f"{surprises} not as the registry says")
    return 1 if surprises else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.exporting.architectures", description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; default: all")
    parser.add_argument("--task", action="append", default=[], help="only this task; may be repeated")
    parser.add_argument("--results", type=Path, help="a JSON file: what it holds is not run again")
    parser.add_argument("--write", action="store_true", help=f"write the table in {table.README.name}")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser


def _tasks(name: str, wanted: list[str]) -> list[str]:
    found = next(found for found in ARCHITECTURES if found.name == name)
    return [task for task in found.tasks if not wanted or task in wanted]


def _child(name: str, tasks: list[str]) -> dict[str, dict[str, object]]:
    """Run the tasks of one architecture in a process of its own."""
    command = [sys.executable, "-m", __package__, name, "--inside", *(f"--task={task}" for task in tasks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LIMIT)
    found: dict[str, dict[str, object]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            found |= json.loads(line)
    lost = {"code": "crashed", "message": done.stderr[-1500:]}
    return {f"{name}/{task}": found.get(f"{name}/{task}", lost) for task in tasks}


def _inside(name: str, tasks: list[str]) -> None:
    """One JSON line a task, so that a crash does not lose those before it."""
    architecture = next(found for found in ARCHITECTURES if found.name == name)
    for task in tasks:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found: dict[str, object] = asdict(
                    run(Entry(architecture=architecture, task=task), Path(scratch))
                )
            except EdgekitError as problem:
                found = {"code": problem.code, "message": problem.message}
        print(json.dumps({f"{name}/{task}": found}), flush=True)


def _shown(key: tuple[str, str], found: Mapping[str, object]) -> bool:
    """Print one outcome; whether it is not what the registry says."""
    failed = "code" in found
    surprise = failed != (key in FAILING)
    said = (
        f"{found['code']}: {str(found['message'])[:600]}"
        if failed
        else f"{found['error']:.1e} {found['same']:.2%}"
    )
    print(f"{'!' if surprise else ' '} {key[0]}, {key[1]}: {said}", flush=True)
    return surprise


def _read(path: Path | None) -> dict[str, dict[str, object]]:
    return json.loads(path.read_text(encoding="utf-8")) if path is not None and path.is_file() else {}


def _write(path: Path | None, known: Mapping[str, object]) -> None:
    if path is not None:
        path.write_text(json.dumps(known, indent=1), encoding="utf-8")


def _versions() -> str:
    return ", ".join(f"{name} {metadata.version(name).split('+')[0]}" for name in ("torch", "transformers"))


if __name__ == "__main__":
    sys.exit(main())
