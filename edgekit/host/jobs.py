"""What the host asks of a worker about the compile half of a backend. Runs in the worker."""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.backend import Compiler
from edgekit.discovery import (
    BackendEntry,
    engine_versions,
    find_backend,
    load_backend,
    missing_engine,
    resolve,
)
from edgekit.errors import BackendUnavailable, ContractViolation, PluginBroken
from edgekit.host.guard import (
    guarded_check,
    guarded_compile,
    guarded_probe,
    neat_progress,
    plugin_wall,
)
from edgekit.values import BackendSpec, CompileRequest, Probe, Target
from edgekit_runtime.calls import Call, Reply, worker_function
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.openers import missing_module


@worker_function
def probe(call: Call) -> Reply:
    """{backend} -> Probe. A missing engine is an answer, not an error."""
    entry = find_backend(call.params.text("backend"))
    try:
        compiler = load_compiler(entry)
    except BackendUnavailable as missing:
        return Reply(to_json(Probe(available=False, reason=str(missing))))
    return Reply(to_json(guarded_probe(describe(entry), compiler)))


@worker_function
def describe_backend(call: Call) -> Reply:
    """{backend} -> {version, engine_versions, missing} of what is installed here; no engine is imported."""
    name = call.params.text("backend")
    entry, spec = find_backend(name), load_backend(name)
    return Reply(
        {
            "version": entry.version,
            "engine_versions": engine_versions(spec),
            "missing": missing_engine(spec),
        }
    )


@worker_function
def check(call: Call) -> Reply:
    """{backend, model, target} -> Support."""
    entry = find_backend(call.params.text("backend"))
    compiler = load_compiler(entry)
    target = from_json(Target, call.params["target"])
    return Reply(to_json(guarded_check(describe(entry), compiler, Path(call.params.text("model")), target)))


@worker_function
def compile_artifact(call: Call) -> Reply:
    """{backend, request} -> Compiled. The working directory becomes the workdir's private parent."""
    entry = find_backend(call.params.text("backend"))
    who = describe(entry)
    request = from_json(CompileRequest, call.params["request"])
    compiler = load_compiler(entry)
    os.chdir(request.workdir.parent)
    compiled = guarded_compile(who, compiler, request, neat_progress(who, call.progress))
    return Reply(to_json(compiled))


def describe(entry: BackendEntry) -> str:
    """The backend, with the distribution and version it comes from."""
    return f"backend {entry.name!r} ({entry.distribution} {entry.version})"


def load_compiler(entry: BackendEntry) -> Compiler:
    """Import the compile half and make its compiler.

    Raises BackendUnavailable when a module of someone else is missing, PluginBroken for anything
    else that goes wrong with the import.
    """
    spec = load_backend(entry.name)
    who = describe(entry)
    factory = _imported(spec, entry, who)
    if not callable(factory):
        raise PluginBroken(f"{who}: {spec.compiler} is not callable", hint="report this to its author")
    with plugin_wall(who, "its compiler's constructor", PluginBroken, f"{who}: its compiler cannot be made"):
        compiler: object = factory()
    if not isinstance(compiler, Compiler):
        missing = [name for name in ("probe", "check", "compile") if not hasattr(compiler, name)]
        raise ContractViolation(
            f"a bug in {who}: {spec.compiler} lacks {', '.join(missing)}", hint="report this to its author"
        )
    return compiler


def _imported(spec: BackendSpec, entry: BackendEntry, who: str) -> object:
    try:
        return resolve(spec.compiler)
    except PluginBroken as broken:
        missing = missing_module(broken.__cause__)
        if missing:
            raise BackendUnavailable(
                f"{who} cannot compile here: the module {missing!r} is not installed",
                hint=f"pip install '{entry.distribution}[compile]'",
            ) from broken
        raise PluginBroken(f"{who}: {broken.message}", hint=broken.hint) from broken
