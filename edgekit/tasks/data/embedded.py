"""Pictures and recordings that lie inside a parquet file, as files for as long as this process lives.

Rows carry paths, whose files are read one by one when they are needed. Cells hold the bytes of a file as it
was, as `datasets` writes them: {"bytes": ..., "path": its name}, or the bytes alone.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import shutil
import tempfile
from pathlib import Path, PurePosixPath

#: Endings are kept where they look like one: readers go by the content.
_LONGEST_ENDING = 5


def embedded_bytes(cell: object) -> bytes | None:
    """What the cell holds of a file; None where it is a path, or nothing that this knows."""
    found = cell.get("bytes") if isinstance(cell, dict) else cell
    return found if isinstance(found, bytes) else None


def embedded_name(cell: object) -> object:
    """The path that a cell without bytes gives; the cell itself where it is none of `datasets`'."""
    return cell.get("path") if isinstance(cell, dict) and set(cell) <= {"bytes", "path"} else cell


def as_file(content: bytes, cell: object) -> Path:
    """A file that holds `content`, under the name of its digest, below the folder for temporary files."""
    name = embedded_name(cell)
    ending = PurePosixPath(name).suffix.lower() if isinstance(name, str) else ""
    if not ending[1:].isalnum() or len(ending) > _LONGEST_ENDING:
        ending = ""
    path = _place() / f"{hashlib.sha256(content).hexdigest()}{ending}"
    if not path.exists():
        path.write_bytes(content)
    return path


@functools.cache
def _place() -> Path:
    place = Path(tempfile.mkdtemp(prefix="edgekit-media-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place
