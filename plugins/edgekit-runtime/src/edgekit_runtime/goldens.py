"""Goldens: recorded inputs with the original model's outputs.

golden/golden.safetensors   tensors "000/input/NAME" and "000/output/NAME", one number per case
golden/cases.json           {"schema": 1, "cases": [{"name", "rows", "inputs", "outputs"}, ...]}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit_runtime.errors import InputError, ManifestError
from edgekit_runtime.processors.base import TextRow, Words, row_from_json, row_json
from edgekit_runtime.session import Array
from edgekit_runtime.strictjson import Fields, check_schema, dump_json, read_json_file
from edgekit_runtime.values import DTYPES

TENSORS_FILE = "golden.safetensors"
CASES_FILE = "cases.json"
GOLDEN_SCHEMA = 1

_MAX_CASES = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """One recorded case. rows: the texts the feeds were made of, when they may be shown; () for media."""

    name: str
    feeds: Mapping[str, Array]
    outputs: Mapping[str, Array]
    rows: tuple[TextRow | Words, ...] = ()


def write_goldens(directory: Path, goldens: Iterable[Golden]) -> int:
    """Write the goldens into `directory` (made when missing); how many there are."""
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Array] = {}
    cases: list[dict[str, object]] = []
    for index, golden in enumerate(goldens):
        _check_case(golden, index)
        tensors |= {f"{index:03d}/input/{name}": _plain(array) for name, array in golden.feeds.items()}
        tensors |= {f"{index:03d}/output/{name}": _plain(array) for name, array in golden.outputs.items()}
        rows = [row_json(row) for row in golden.rows]
        cases.append(
            {"name": golden.name, "rows": rows, "inputs": list(golden.feeds), "outputs": list(golden.outputs)}
        )
    save_file(tensors, directory / TENSORS_FILE)
    (directory / CASES_FILE).write_bytes(dump_json({"schema": GOLDEN_SCHEMA, "cases": cases}))
    return len(cases)


def read_goldens(directory: Path) -> tuple[Golden, ...]:
    """The goldens in `directory`. Raises `ManifestError` when a file is missing or damaged."""
    tensors = _read_tensors(directory / TENSORS_FILE)
    path = directory / CASES_FILE
    value = read_json_file(path, error=ManifestError)
    check_schema(value, GOLDEN_SCHEMA, where=str(path), error=ManifestError)
    fields = Fields(value, known=("schema", "cases"), where=str(path), error=ManifestError)
    goldens = tuple(
        _read_case(item, f"{index:03d}", tensors, f"{path}: case {index}")
        for index, item in enumerate(fields.items("cases"))
    )
    if tensors:
        raise ManifestError(f"{directory / TENSORS_FILE}: the tensor {min(tensors)!r} belongs to no case")
    return goldens


def _read_case(item: object, number: str, tensors: dict[str, Array], where: str) -> Golden:
    fields = Fields(item, known=("name", "rows", "inputs", "outputs"), where=where, error=ManifestError)
    rows = tuple(
        row_from_json(row, where=f"{where}: rows", error=ManifestError) for row in fields.items("rows")
    )

    def take(part: str, names: tuple[str, ...]) -> dict[str, Array]:
        missing = [name for name in names if f"{number}/{part}/{name}" not in tensors]
        if missing or len(set(names)) != len(names):
            raise ManifestError(f"{where}: {part} {(missing or list(names))[0]!r} is missing or named twice")
        return {name: tensors.pop(f"{number}/{part}/{name}") for name in names}

    return Golden(
        name=fields.text("name"),
        feeds=take("input", fields.texts("inputs")),
        outputs=take("output", fields.texts("outputs")),
        rows=rows,
    )


def _read_tensors(path: Path) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise ManifestError(f"{path} is missing")
    try:
        tensors: dict[str, Array] = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, MemoryError) as exc:
        raise ManifestError(f"{path} is damaged: {exc}") from exc
    for name, array in tensors.items():
        if array.dtype.name not in DTYPES:
            raise ManifestError(f"{path}: the tensor {name!r} is {array.dtype.name}, which goldens never are")
    return tensors


def _check_case(golden: Golden, index: int) -> None:
    if index >= _MAX_CASES:
        raise InputError(f"there are more than {_MAX_CASES} goldens", hint="a handful of cases is enough")
    for name, array in [*golden.feeds.items(), *golden.outputs.items()]:
        if array.dtype.name not in DTYPES:
            raise InputError(
                f"golden {golden.name!r}: {name!r} is {array.dtype}", hint=f"known: {', '.join(DTYPES)}"
            )


def _plain(array: Array) -> Array:
    """The same values, contiguous and in this machine's byte order (safetensors keeps raw bytes)."""
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True)
