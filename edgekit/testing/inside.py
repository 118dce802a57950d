"""Checks that must be made in the worker: a changed feed or a reused buffer is not seen across a pipe.

Each function opens the artifact through the backend's own entry point, as a device would.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgekit.discovery import find_backend
from edgekit.errors import CompileFailed, ContractViolation
from edgekit.host.guard import plugin_wall
from edgekit.host.jobs import describe, load_compiler
from edgekit.values import Compiled, CompileRequest
from edgekit_runtime.calls import Call, Reply, worker_function
from edgekit_runtime.codec import from_json, to_json
from edgekit_runtime.errors import EdgekitError
from edgekit_runtime.feeds import pack_many, unpack_many
from edgekit_runtime.openers import load_opener
from edgekit_runtime.session import Array, Session
from edgekit_runtime.values import OpenRequest

#: What `outcome` says of a call that raised nothing.
QUIET = "nothing"


@worker_function
def move_to(call: Call) -> Reply:
    """Make the given directory the current one, so that files written "here" are seen."""
    os.chdir(call.params.text("directory"))
    return Reply(os.getpid())


@worker_function
def compile_unguarded(call: Call) -> Reply:
    """{backend, request} -> Compiled, whatever else was done: the kit looks for itself."""
    entry = find_backend(call.params.text("backend"))
    request = from_json(CompileRequest, call.params["request"])
    compiler = load_compiler(entry)
    os.chdir(request.workdir.parent)
    who = describe(entry)
    with plugin_wall(who, "compile()", CompileFailed, f"{who} could not build {request.model.name}"):
        compiled: object = compiler.compile(request, call.progress)
    if not isinstance(compiled, Compiled):
        raise ContractViolation(f"compile() returned {type(compiled).__name__}, not Compiled")
    return Reply(to_json(compiled))


@worker_function
def changed_feeds(call: Call) -> Reply:
    """Run each row; return the names of the inputs whose array was changed by it."""
    changed: list[str] = []
    session = _open(call)
    for row in unpack_many(call.body):
        before = _copies(row)
        session.run(row)
        changed += _changed(before, row)
    session.close()
    return Reply(sorted(set(changed)))


@worker_function
def changed_outputs(call: Call) -> Reply:
    """What changes the outputs of a first run, in words: later runs, the feeds, `close()`."""
    first, second = unpack_many(call.body)
    asked = _copies(first)
    session = _open(call)
    outputs = session.run(first)
    kept = _copies(outputs)
    problems: list[str] = []

    def look(after: str) -> None:
        problems.extend(f"{name!r} changed when {after}" for name in _changed(kept, outputs))

    session.run(second)
    look("the session ran again")
    for value in first.values():
        value[...] = np.zeros_like(value)
    look("the caller wrote to a feed afterwards")
    problems += _disturbed_by_writing(session, asked)
    session.close()
    look("the session was closed")
    return Reply(sorted(set(problems)))


@worker_function
def answers_by_layout(call: Call) -> Reply:
    """Outputs for the same feeds as plain, read-only and strided arrays, in this order."""
    (row,) = unpack_many(call.body)
    session = _open(call)
    answers = [_copies(session.run(feeds)) for feeds in (row, _read_only(row), _strided(row))]
    session.close()
    return Reply(None, pack_many(answers))


@worker_function
def wrong_feeds(call: Call) -> Reply:
    """Run the good row, then each wrong one, then the good one again; say what each raised."""
    good, *wrong = unpack_many(call.body)
    session = _open(call)
    before = _copies(session.run(_copies(good)))
    raised = [outcome(lambda row=row: session.run(row)) for row in wrong]  # type: ignore[misc]
    after = _copies(session.run(_copies(good)))
    session.close()
    return Reply(raised, pack_many([before, after]))


@worker_function
def life_after_close(call: Call) -> Reply:
    """Run, close, run, close again: say what the last two raised."""
    (row,) = unpack_many(call.body)
    session = _open(call)
    session.run(_copies(row))
    session.close()
    return Reply({"run": outcome(lambda: session.run(row)), "close": outcome(session.close)})


def outcome(action: Callable[[], object]) -> str:
    """The code of the edgekit error that `action` raised, another error in words, or `QUIET`."""
    try:
        action()
    except EdgekitError as error:
        return error.code
    except Exception as error:  # noqa: BLE001 - what a plugin raises here is the finding
        return f"{type(error).__name__}: {error}"
    return QUIET


def _open(call: Call) -> Session:
    request = from_json(OpenRequest, call.params["request"])
    return load_opener(call.params.text("backend"))(request)


def _disturbed_by_writing(session: Session, asked: Mapping[str, Array]) -> Sequence[str]:
    """Whether a caller who writes to the outputs spoils the next answer."""
    again = session.run(_copies(asked))
    before = _copies(again)
    for value in again.values():
        if value.flags.writeable:
            value[...] = np.zeros_like(value)
    after = session.run(_copies(asked))
    return [
        f"{name!r} of a later run was spoilt when the caller wrote to an earlier output"
        for name, value in before.items()
        if not np.allclose(value, after[name], rtol=1e-3, atol=1e-5)
    ]


def _copies(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.array(value, copy=True, order="C") for name, value in arrays.items()}


def _changed(before: Mapping[str, Array], now: Mapping[str, Array]) -> list[str]:
    return [
        name for name, value in before.items() if name not in now or value.tobytes() != now[name].tobytes()
    ]


def _read_only(row: Mapping[str, Array]) -> dict[str, Array]:
    copies = _copies(row)
    for value in copies.values():
        value.flags.writeable = False
    return copies


def _strided(row: Mapping[str, Array]) -> dict[str, Array]:
    """The same values as every second element of wider arrays, so no axis is contiguous."""
    return {
        name: np.repeat(value, 2, axis=-1)[..., ::2] if value.ndim else value for name, value in row.items()
    }
