"""Looking at backends: what is installed, what one can do, whether it takes a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.devices import open_device
from edgekit.discovery import BackendEntry, backends, find_backend, load_backend, missing_engine
from edgekit.files.graphs import model_graphs
from edgekit.files.manifests import read_manifest
from edgekit.host.compiling import probe_backend
from edgekit.host.remote import bringing_files
from edgekit.stages.compiling.building import check_graphs
from edgekit.stages.compiling.places import building_device, engine_hint
from edgekit.stages.parents import table_of
from edgekit.targets import load_target
from edgekit.values import BackendSpec, Probe, Support
from edgekit_runtime.errors import EdgekitError


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendRow:
    """One line of `edgekit backend list`. state: "ready", "engine missing" or "broken".

    capabilities: as the backend describes itself, none for a broken one.
    """

    name: str
    distribution: str
    version: str
    state: str
    summary: str
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendView:
    """One backend in full: its distribution, its description, and whether it works here."""

    entry: BackendEntry
    spec: BackendSpec
    probe: Probe


def list_backends() -> tuple[BackendRow, ...]:
    """Every installed backend; plugin modules are imported one by one, engines are not."""
    return tuple(_row(entry) for entry in backends())


def show_backend(name: str) -> BackendView:
    """One backend and what its probe says, asked in a worker."""
    return BackendView(entry=find_backend(name), spec=load_backend(name), probe=probe_backend(name))


def check_backend(name: str, model: Path, target: str, device: str = "") -> Support:
    """The backend's answer to a model directory, operator by operator, where `compile` would build it."""
    table, asked = table_of(read_manifest(model, "model").model), load_target(target)
    uri = building_device(load_backend(name), asked, device)
    with bringing_files(open_device(uri)) as where:
        return check_graphs(name, model_graphs(model, table), asked, where)


def backend_summary(view: BackendView) -> str:
    """`edgekit backend show` for a person."""
    spec, probe = view.spec, view.probe
    versions = ", ".join(f"{name} {version}" for name, version in probe.versions.items())
    lines = [
        f"{spec.name}: {spec.summary}",
        f"  provided by    {view.entry.distribution} {view.entry.version}",
        f"  works here     {'yes' if probe.available else 'no: ' + probe.reason}",
        f"  engine         {versions or 'not found'}",
        f"  architectures  {', '.join(spec.arches)}",
        f"  precisions     {', '.join(spec.precisions)}",
        f"  capabilities   {', '.join(spec.capabilities) or 'none'}",
        f"  builds on      {spec.builds_on}",
        f"  runs on        {spec.device}",
    ]
    for option in spec.options:
        choices = f" ({', '.join(map(str, option.choices))})" if option.choices else ""
        where = f"{option.stage}, {option.type}{choices}, default {option.default}"
        lines += [f"  option {option.name}: {where}", f"      {option.help}"]
    return "\n".join(lines)


def _row(entry: BackendEntry) -> BackendRow:
    capabilities: tuple[str, ...] = ()
    try:
        spec = load_backend(entry.name)
    except EdgekitError as problem:
        state, summary = "broken", problem.message
    else:
        missing = missing_engine(spec)
        state = "engine missing" if missing else "ready"
        summary = f"no module {', '.join(missing)}: {engine_hint(entry)}" if missing else spec.summary
        capabilities = spec.capabilities
    return BackendRow(
        name=entry.name,
        distribution=entry.distribution,
        version=entry.version,
        state=state,
        summary=summary,
        capabilities=capabilities,
    )
