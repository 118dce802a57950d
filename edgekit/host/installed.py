"""What is installed of a backend where it is to build: here, or on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

from edgekit.discovery import BackendEntry, engine_versions, load_backend, missing_engine
from edgekit.errors import BackendUnavailable
from edgekit.host.places import Place
from edgekit_runtime.codec import Table, from_json
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.frames import JsonValue

_HOUSE = "edgekit"
_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledBackend:
    """version: of the distribution; engine_versions, missing: by module of the engine."""

    version: str
    engine_versions: Mapping[str, str]
    missing: tuple[str, ...]


def installed_backend(entry: BackendEntry, place: Place) -> InstalledBackend:
    """The backend as `place` has it.

    Raises BackendUnavailable when that device cannot build: it lacks edgekit or the backend, or has another
    edgekit, whose requests are others.
    """
    if place.local:
        spec = load_backend(entry.name)
        return InstalledBackend(
            version=entry.version, engine_versions=engine_versions(spec), missing=missing_engine(spec)
        )
    uri = place.device.uri
    with place.worker() as worker:
        asked: JsonValue = {"distributions": [_HOUSE, entry.distribution]}
        reply = worker.call("edgekit_runtime.scratch:versions", _mapping(asked), timeout=_SECONDS)
        _refuse_other(entry, Table(_mapping(reply.value)), uri)
        try:
            told = worker.call(
                "edgekit.host.jobs:describe_backend", {"backend": entry.name}, timeout=_SECONDS
            )
        except EdgekitError as error:
            raise type(error)(f"{error.message} (on {uri})", hint=error.hint) from error
    return from_json(InstalledBackend, told.value)


def _refuse_other(entry: BackendEntry, there: Table, uri: str) -> None:
    here = metadata.version(_HOUSE)
    install = f"there: pip install '{entry.distribution}[compile]' {_HOUSE}=={here}"
    for name in (_HOUSE, entry.distribution):
        if not there.text(name, ""):
            raise BackendUnavailable(f"{uri} has no {name}, which building there needs", hint=install)
    if there.text(_HOUSE) != here:
        raise BackendUnavailable(
            f"{uri} has {_HOUSE} {there.text(_HOUSE)}, this is {here}: one cannot build for the other",
            hint=install,
        )


def _mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    return value if isinstance(value, Mapping) else {}
