"""parity.json: recorded cases by which a device proves that it reads rows as the original does.

{"schema": 1, "cases": [...]}; what a case holds is its processor's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from edgekit_runtime.errors import ProcessorError
from edgekit_runtime.processors.base import PROCESSOR_SCHEMA
from edgekit_runtime.strictjson import Fields, check_schema, dump_json, read_json_file

PARITY_FILE = "parity.json"
T = TypeVar("T")


def write_cases(directory: Path, cases: Sequence[object]) -> None:
    """Write the cases, each as JSON keeps it."""
    (directory / PARITY_FILE).write_bytes(dump_json({"schema": PROCESSOR_SCHEMA, "cases": list(cases)}))


def read_cases(directory: Path, read: Callable[[object, str], T]) -> tuple[T, ...]:
    """The cases in `directory`, () without a file. read: a case and its place, for messages, to a value.

    Raises `ProcessorError` for a file that is damaged.
    """
    path = directory / PARITY_FILE
    if not path.exists():
        return ()
    value = read_json_file(path, error=ProcessorError)
    check_schema(value, PROCESSOR_SCHEMA, where=str(path), error=ProcessorError)
    fields = Fields(value, known=("schema", "cases"), where=str(path), error=ProcessorError)
    return tuple(read(item, f"{path}: case {index}") for index, item in enumerate(fields.items("cases")))
