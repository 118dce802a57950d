"""What a host can ask of a worker about sessions: open, run, time, look inside, close.

All parameters and values are plain JSON; tensors and long tables travel in the body.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from edgekit_runtime import clock
from edgekit_runtime.calls import Call, Reply, foreign, worker_function
from edgekit_runtime.clock import TimingPlan
from edgekit_runtime.codec import Table, to_json
from edgekit_runtime.errors import EdgekitError, InputError, OpenFailed, RunFailed, SessionClosed
from edgekit_runtime.feeds import pack, pack_many, unpack, unpack_many
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.machine import read_machine
from edgekit_runtime.memory import MemoryMeter
from edgekit_runtime.openers import load_opener
from edgekit_runtime.pipelines import open_artifact
from edgekit_runtime.session import Array, Feeds, Session
from edgekit_runtime.values import OpenRequest, OperatorTime, OptionValue, Placement, Signature

_PROFILE_LIMIT = 20_000


@worker_function
def machine(call: Call) -> Reply:
    """{} -> the fingerprint of the worker's machine."""
    return Reply(to_json(read_machine()))


@worker_function
def control(call: Call) -> Reply:
    """{} -> {ms}: how long a fixed computation took."""
    return Reply({"ms": clock.control_ms()})


@worker_function
def import_engine(call: Call) -> Reply:
    """{backend} -> {import_ms, baseline_mib}. The memory baseline is taken when the import is done.

    Asking again for the same backend keeps the baseline, so that further sessions count as growth.
    """
    backend, state, import_ms = call.params.text("backend"), call.state, 0.0
    if state.meter is None or backend not in state.openers:
        start = time.perf_counter_ns()
        state.openers[backend] = load_opener(backend)
        import_ms = (time.perf_counter_ns() - start) / 1e6
        state.meter = MemoryMeter()
    return Reply({"import_ms": import_ms, "baseline_mib": state.meter.baseline_mib})


@worker_function
def open_session(call: Call) -> Reply:
    """{backend, directory, precision, threads, device, options} -> {session, signature, open_ms}."""
    params = call.params
    backend = params.text("backend")
    if backend not in call.state.openers:
        import_engine(call)
    request = OpenRequest(
        directory=Path(params.text("directory")),
        precision=params.text("precision"),
        threads=params.integer("threads", 1),
        device=params.text("device", "cpu"),
        options=_options(params.table("options")),
    )
    if request.threads < 1:
        raise InputError(f"threads must be at least 1, not {request.threads}")
    if not request.directory.is_dir():
        raise OpenFailed(f"there is no artifact directory {request.directory} on this device")
    start = time.perf_counter_ns()
    with foreign(OpenFailed, f"backend {backend!r} could not open {request.directory.name}"):
        session = open_artifact(call.state.openers[backend], request)
    open_ms = (time.perf_counter_ns() - start) / 1e6
    signature = _signature(session, backend)
    call.state.opened += 1
    name = f"{backend}-{call.state.opened}"
    call.state.sessions[name] = session
    return Reply({"session": name, "signature": to_json(signature), "open_ms": open_ms})


@worker_function
def run(call: Call) -> Reply:
    """{session} + feeds -> {} + outputs."""
    name, session = _session(call)
    outputs = _run(name, session, unpack(call.body))
    return Reply(body=_pack_outputs(name, [outputs], single=True))


@worker_function
def run_many(call: Call) -> Reply:
    """{session} + rows of feeds -> {} + rows of outputs."""
    name, session = _session(call)
    rows = unpack_many(call.body)
    outputs = []
    for row in rows:
        call.raise_if_cancelled()
        # Copies: a backend that breaks its promise and reuses a buffer must not change earlier rows.
        found = _run(name, session, row)
        outputs.append({key: np.copy(v) if isinstance(v, np.ndarray) else v for key, v in found.items()})
    return Reply(body=_pack_outputs(name, outputs, single=False))


@worker_function
def time_runs(call: Call) -> Reply:
    """{session, warmup_runs, max_runs, max_seconds} + rows of feeds -> {settled, ...} + arrays.

    Value: settled, warmup_runs, first_ns, drift, energy_mj as in `clock.Timing`.
    Body: int64 arrays wall_ns, cpu_ns and, where readable, wait_ns.
    """
    name, session = _session(call)
    plan = TimingPlan(
        warmup_runs=call.params.integer("warmup_runs", TimingPlan().warmup_runs),
        max_runs=call.params.integer("max_runs", TimingPlan().max_runs),
        max_seconds=call.params.number("max_seconds", TimingPlan().max_seconds),
    )
    inputs = unpack_many(call.body)
    with _undisturbed(call) as between, foreign(RunFailed, f"a run of {name} failed"):
        timing = clock.time_runs(session.run, inputs, plan, between)
    arrays: dict[str, Array] = {"wall_ns": np.array(timing.wall_ns), "cpu_ns": np.array(timing.cpu_ns)}
    if timing.wait_ns is not None:
        arrays["wait_ns"] = np.array(timing.wait_ns)
    value: dict[str, JsonValue] = {
        "settled": timing.settled,
        "warmup_runs": timing.warmup_runs,
        "first_ns": timing.first_ns,
        "drift": timing.drift,
        "energy_mj": timing.energy_mj,
    }
    return Reply(value, pack({key: array.astype(np.int64) for key, array in arrays.items()}))


@worker_function
def heat(call: Call) -> Reply:
    """{session, seconds, windows} + rows of feeds -> {medians_ms}: sustained latency, window by window."""
    name, session = _session(call)
    seconds, windows = call.params.number("seconds"), call.params.integer("windows")
    inputs = unpack_many(call.body)
    with _undisturbed(call) as between, foreign(RunFailed, f"a run of {name} failed"):
        medians = clock.heat(session.run, inputs, seconds, windows, between)
    return Reply({"medians_ms": list(medians)})


@worker_function
def time_streams(call: Call) -> Reply:
    """{sessions, seconds} + rows of feeds -> {completed, wall_ns, wait_ns}: all sessions at once."""
    names, seconds = _names(call), call.params.number("seconds")
    runs = [_open_session(call, name).run for name in names]
    inputs = unpack_many(call.body)
    with _undisturbed(call) as between, foreign(RunFailed, f"a run of {', '.join(names)} failed"):
        timing = clock.time_streams(runs, inputs, seconds, between)
    return Reply(to_json(timing))


@worker_function
def placement(call: Call) -> Reply:
    """{session} -> where and how the executed graph runs."""
    name, session = _session(call)
    with foreign(RunFailed, f"{name} could not tell its placement"):
        found: object = session.placement()
    if not isinstance(found, Placement):
        raise _broken(name, f"placement() returned {type(found).__name__}, not a Placement")
    return Reply(to_json(found))


@worker_function
def profile(call: Call) -> Reply:
    """{session} -> {} + JSON list of operators, costliest first."""
    name, session = _session(call)
    with foreign(RunFailed, f"{name} could not be profiled"):
        found: object = session.profile()
    if not isinstance(found, tuple) or not all(isinstance(item, OperatorTime) for item in found):
        raise _broken(name, "profile() must return a tuple of OperatorTime")
    return Reply(body=json.dumps([to_json(item) for item in found[:_PROFILE_LIMIT]]).encode())


@worker_function
def memory(call: Call) -> Reply:
    """{} -> the process tree's baseline, its peak and its steady growth, as in `memory.MemoryUse`."""
    if call.state.meter is None:
        raise InputError("no baseline: import_engine comes before memory")
    return Reply(to_json(call.state.meter.use()))


@worker_function
def close_session(call: Call) -> Reply:
    """{session} -> {}. Closing one that is not open is fine."""
    session = call.state.sessions.pop(call.params.text("session"), None)
    if session is not None:
        with foreign(RunFailed, "the session failed to close"):
            session.close()
    return Reply()


def _session(call: Call) -> tuple[str, Session]:
    name = call.params.text("session")
    return name, _open_session(call, name)


def _open_session(call: Call, name: str) -> Session:
    session = call.state.sessions.get(name)
    if session is None:
        raise SessionClosed(f"session {name!r} is not open in this worker")
    return session


def _names(call: Call) -> list[str]:
    """The names under `sessions`. A session is not promised to bear two runs at once."""
    given = call.params.get("sessions")
    listed = given if isinstance(given, list) else []
    names = [name for name in listed if isinstance(name, str)]
    if not names or len(set(names)) != len(listed):
        raise InputError(f"sessions must be a list of different names, not {given!r}")
    return names


@contextmanager
def _undisturbed(call: Call) -> Iterator[Callable[[], None]]:
    """For timed loops: the heartbeat's thread sleeps; what is given beats and cancels between runs."""

    def between() -> None:
        call.raise_if_cancelled()
        call.reporter.beat()

    call.reporter.quiet(True)
    try:
        yield between
    finally:
        call.reporter.quiet(False)


def _run(name: str, session: Session, feeds: Feeds) -> dict[str, Array]:
    with foreign(RunFailed, f"a run of {name} failed"):
        outputs: object = session.run(feeds)
    if not isinstance(outputs, dict):
        raise _broken(name, f"run() returned {type(outputs).__name__}, not a dict of arrays")
    return outputs


def _pack_outputs(name: str, rows: list[dict[str, Array]], *, single: bool) -> bytes:
    try:
        return pack(rows[0]) if single else pack_many(rows)
    except InputError as error:
        raise RunFailed(f"outputs of {name}: {error.message}", hint=error.hint) from error


def _signature(session: Session, backend: str) -> Signature:
    with foreign(OpenFailed, f"the session of backend {backend!r} has no signature"):
        found: object = session.signature
    if not isinstance(found, Signature):
        raise _broken(backend, f"signature is a {type(found).__name__}, not a Signature")
    return found


def _options(table: Table) -> dict[str, OptionValue]:
    options: dict[str, OptionValue] = {}
    for key, value in table.items():
        if not isinstance(value, str | int | float | bool):
            raise InputError(f"option {key!r} must be a string, number or true/false, not {value!r}")
        options[key] = value
    return options


def _broken(name: str, what: str) -> EdgekitError:
    return RunFailed(f"{name}: {what}", hint="this is a bug in the backend: report it to its author")
