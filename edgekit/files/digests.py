"""Digests: "sha256:" and 64 hex digits, of files, trees of files, and values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgekit.errors import UsageError
from edgekit.files.tables import encode
from edgekit_runtime.manifests import files_digest, list_files


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    try:
        with path.open("rb") as stream:
            return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}", hint="the file must exist and be readable") from None


def tree_digest(path: Path) -> str:
    """Digest of a file, or of every file below a directory (names, sizes, bytes)."""
    return files_digest(list_files(path, skip=())) if path.is_dir() else file_digest(path)


def value_digest(value: object) -> str:
    """Digest of a frozen value's canonical JSON."""
    text = json.dumps(encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode("utf-8")).hexdigest()
