"""A session that lives in a worker, with the face of one that lives here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edgekit.errors import WorkerError
from edgekit.host.client import OnProgress, WorkerClient
from edgekit.host.remote import device_path
from edgekit.values import RunSettings
from edgekit_runtime.calls import Reply
from edgekit_runtime.clock import StreamTiming, Timing, TimingPlan
from edgekit_runtime.codec import (
    Table,
    from_json,
    machine_from_json,
    placement_from_json,
    profile_from_json,
    signature_from_json,
    to_json,
)
from edgekit_runtime.conditions import Conditions
from edgekit_runtime.errors import InputError, ProtocolError
from edgekit_runtime.feeds import pack, pack_many, unpack, unpack_many
from edgekit_runtime.frames import JsonValue
from edgekit_runtime.memory import MemoryUse
from edgekit_runtime.session import Array, Feeds
from edgekit_runtime.values import Machine, OperatorTime, Placement, Signature

_SERVING = "edgekit_runtime.serving"
#: Not in `serving`: it must load nothing that a cold start loads.
_CONDITIONS = "edgekit_runtime.conditions:conditions"
#: A slow board may take minutes for one call; a hung engine must not take for ever.
CALL_SECONDS = 600.0
_BATCH_ROWS = 64
_BATCH_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heat:
    """What the worker answers to `heat`."""

    medians_ms: tuple[float, ...]


class RemoteSession:
    """Typed calls to one open session. `start_ms + import_ms + open_ms` and a first run are a cold start.

    start_ms: from starting the process to its first word; import_ms: importing the engine;
    open_ms: opening the artifact.
    """

    def __init__(self, worker: WorkerClient, name: str, signature: Signature, timeout: float) -> None:
        self._worker = worker
        self._name = name
        self._timeout = timeout
        self.signature = signature
        self.start_ms = worker.start_ms
        self.import_ms = 0.0
        self.open_ms = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """One inference; the outputs are copies."""
        return unpack(self._call("run", body=pack(feeds)).body)

    def run_many(
        self, rows: Sequence[Feeds], on_progress: OnProgress | None = None
    ) -> list[dict[str, Array]]:
        """Every row in order, sent in batches so that neither end holds them all packed."""
        outputs: list[dict[str, Array]] = []
        for batch in _batches(rows):
            outputs += unpack_many(self._call("run_many", body=pack_many(batch)).body)
            if on_progress is not None:
                on_progress(len(outputs), len(rows), "rows")
        return outputs

    def time_runs(self, inputs: Sequence[Feeds], plan: TimingPlan) -> Timing:
        """Time runs next to the session, with the one clock. Run i sees inputs[i % len(inputs)]."""
        reply = self._call(
            "time_runs",
            {
                "warmup_runs": plan.warmup_runs,
                "max_runs": plan.max_runs,
                "max_seconds": plan.max_seconds,
            },
            body=pack_many(inputs),
            timeout=self._timeout + 2 * plan.max_seconds,
        )
        value, arrays = _table(reply), unpack(reply.body)
        wait = arrays.get("wait_ns")
        return Timing(
            wall_ns=tuple(arrays["wall_ns"].tolist()),
            cpu_ns=tuple(arrays["cpu_ns"].tolist()),
            wait_ns=None if wait is None else tuple(wait.tolist()),
            settled=value.flag("settled"),
            warmup_runs=value.integer("warmup_runs"),
            first_ns=value.integer("first_ns"),
            drift=_optional(value, "drift"),
            energy_mj=_optional(value, "energy_mj"),
        )

    def heat(self, inputs: Sequence[Feeds], seconds: float, windows: int) -> tuple[float, ...]:
        """Runs without a pause for `seconds`: the median latency in ms of successive windows."""
        reply = self._call(
            "heat",
            {"seconds": seconds, "windows": windows},
            body=pack_many(inputs),
            timeout=self._timeout + seconds,
        )
        return from_json(_Heat, reply.value).medians_ms

    def placement(self) -> Placement:
        """Precisions and devices of the graph as executed."""
        return placement_from_json(self._call("placement").value)

    def profile(self) -> tuple[OperatorTime, ...]:
        """Per-operator shares, costliest first."""
        return profile_from_json(json.loads(self._call("profile").body))

    def memory(self) -> MemoryUse:
        """Memory of the worker's process tree: at the baseline, at its highest since, and now."""
        return from_json(MemoryUse, self._call("memory").value)

    def control(self) -> float:
        """Milliseconds of the fixed control computation."""
        return _table(self._call("control")).number("ms")

    def close(self) -> None:
        """Free the session. Calling it twice is fine, also when the worker is gone."""
        try:
            self._call("close_session")
        except WorkerError:
            return

    def _call(
        self,
        function: str,
        params: Mapping[str, JsonValue] | None = None,
        *,
        body: bytes = b"",
        timeout: float | None = None,
    ) -> Reply:
        return self._worker.call(
            f"{_SERVING}:{function}",
            {"session": self._name, **(params or {})},
            body=body,
            timeout=timeout or self._timeout,
        )


def open_remote(
    worker: WorkerClient,
    directory: Path,
    backend: str,
    precision: str,
    run: RunSettings,
    timeout: float = CALL_SECONDS,
) -> RemoteSession:
    """Import the backend's engine in `worker`, then open the artifact. `timeout` is for each call.

    An artifact that the worker's device does not see is brought there first, outside every time taken.
    """
    place = device_path(worker, directory)
    imported = _table(worker.call(f"{_SERVING}:import_engine", {"backend": backend}, timeout=timeout))
    opened = _table(
        worker.call(
            f"{_SERVING}:open_session",
            {
                "backend": backend,
                "directory": place,
                "precision": precision,
                "threads": run.threads,
                "device": run.device,
                "options": to_json(run.options),
            },
            timeout=timeout,
        )
    )
    session = RemoteSession(worker, opened.text("session"), signature_from_json(opened["signature"]), timeout)
    session.import_ms = imported.number("import_ms")
    session.open_ms = opened.number("open_ms")
    return session


def remote_machine(worker: WorkerClient) -> Machine:
    """The fingerprint of the machine that the worker runs on."""
    return machine_from_json(worker.call(f"{_SERVING}:machine", timeout=CALL_SECONDS).value)


def time_streams(
    worker: WorkerClient, sessions: Sequence[RemoteSession], inputs: Sequence[Feeds], seconds: float
) -> StreamTiming:
    """Run all `sessions`, which live in `worker`, at once for `seconds`.

    Stream s takes inputs[s], inputs[s + len(sessions)], ... in turn. Raises `InputError` for sessions
    of different workers or twice the same, `RunFailed` when a run fails in any stream.
    """
    if any(session._worker is not worker for session in sessions):
        raise InputError("streams run in one worker: open every session in it")
    timeout = max((session._timeout for session in sessions), default=CALL_SECONDS)
    reply = worker.call(
        f"{_SERVING}:time_streams",
        {"sessions": [session._name for session in sessions], "seconds": seconds},
        body=pack_many(inputs),
        timeout=timeout + seconds,
    )
    return from_json(StreamTiming, reply.value)


def remote_conditions(worker: WorkerClient) -> Conditions:
    """Load, steal, pressure, frequency and heat of the machine that the worker runs on, now."""
    return from_json(Conditions, worker.call(_CONDITIONS, timeout=CALL_SECONDS).value)


def _table(reply: Reply) -> Table:
    if not isinstance(reply.value, Mapping):
        raise ProtocolError(f"the worker answered {reply.value!r} where a table belongs")
    return Table(reply.value, where="reply")


def _optional(value: Table, key: str) -> float | None:
    return None if value.get(key) is None else value.number(key)


def _batches(rows: Sequence[Feeds]) -> Iterator[list[Feeds]]:
    batch: list[Feeds] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(value.nbytes for value in row.values())
        if len(batch) >= _BATCH_ROWS or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


__all__ = [
    "CALL_SECONDS",
    "RemoteSession",
    "open_remote",
    "remote_conditions",
    "remote_machine",
    "time_streams",
]
