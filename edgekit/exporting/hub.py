"""Models by their hub id: the local copy, downloaded when the hub can be reached."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgekit.errors import SourceError
from edgekit.exporting.quiet import quiet_libraries
from edgekit_runtime.errors import MissingDependency

#: `owner/name`, as hubs spell it.
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
#: Seconds to wait for the hub's first answer.
_PATIENCE = 3.0
#: What a source is read from; formats of engines and other frameworks stay where they are.
_READ = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin", "*.jinja", "*.py")


def looks_like_id(name: str) -> bool:
    """Whether `name` could be a hub id rather than a mistyped path."""
    return _ID.fullmatch(name) is not None


def download(name: str, revision: str | None) -> Path:
    """The folder of a hub model's snapshot: from the hub, or from the cache when it cannot be reached.

    Raises SourceError within seconds when neither has it.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as problem:
        raise MissingDependency(
            f"{name}: no such folder; a hub id needs huggingface_hub", hint="pip install 'edgekit[export]'"
        ) from problem
    try:
        with quiet_libraries():
            found = snapshot_download(
                name, revision=revision, etag_timeout=_PATIENCE, allow_patterns=list(_READ)
            )
    except (OSError, ValueError, RuntimeError) as problem:
        raise _explained(name, revision, problem) from problem
    return Path(found)


def provenance(folder: Path) -> dict[str, str]:
    """The name of a folder, and the revision where it is a snapshot in the hub's cache."""
    path = folder.absolute()  # keeps links: a snapshot's files are links to blobs
    repository = path.parent.parent.name
    if path.parent.name == "snapshots" and repository.startswith("models--"):
        return {"name": "/".join(repository.split("--")[1:]), "revision": path.name}
    return {"name": path.name}


def _explained(name: str, revision: str | None, problem: Exception) -> SourceError:
    asked = name if revision is None else f"{name} at revision {revision!r}"
    by_hand = f"`hf download {name} --local-dir my-model` where there is a network, then export ./my-model"
    kind = type(problem).__name__
    if kind in ("RepositoryNotFoundError", "RevisionNotFoundError", "GatedRepoError", "HFValidationError"):
        first = str(problem).strip().splitlines()[0][:200]
        return SourceError(
            f"{asked}: the hub does not give it: {kind}: {first}",
            hint="check the id and --revision; private and gated models need `hf auth login`",
        )
    where = os.environ.get("HF_ENDPOINT", "the hub's own address")
    offline = [key for key in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(key)]
    reason = f"{offline[0]} is set" if offline else f"the hub cannot be reached (HF_ENDPOINT: {where})"
    return SourceError(
        f"{asked}: no such folder here, and as a hub id it is not in the cache and {reason}",
        hint=f"{by_hand}; or set HF_ENDPOINT to a mirror, or unset HF_HUB_OFFLINE",
    )
