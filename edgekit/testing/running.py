"""Promises of an open session: whose arrays are whose, what is refused, what closing means."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgekit.testing.base import Contract, broken, needs_capability, promise
from edgekit.testing.bench import Bench
from edgekit.testing.closeness import difference
from edgekit.testing.families import case
from edgekit.testing.inside import QUIET
from edgekit.testing.models import USUAL
from edgekit_runtime.errors import InputError, SessionClosed
from edgekit_runtime.feeds import unpack_many
from edgekit_runtime.session import Array
from edgekit_runtime.values import PRECISIONS

Row = dict[str, Array]

#: Feeds that do not fit `matmul`, each made from good ones.
WRONG: dict[str, Callable[[Row], Row]] = {
    "wrong-name": lambda row: {"no-such-input": row["x"]},
    "extra-name": lambda row: {**row, "no-such-input": row["x"]},
    "wrong-dtype": lambda row: {"x": row["x"].astype(np.float64)},
    "wrong-rank": lambda row: {"x": row["x"][..., np.newaxis]},
    "wrong-size": lambda row: {"x": row["x"][:, :-1].copy()},
}


class KeepsSessionPromises(Contract):
    """The session half: `edgekit_runtime.session.Session`."""

    def test_signature_is_the_models(self, bench: Bench) -> None:
        """Names, order, dtypes and ranks are the model's; symbolic axes keep its names."""
        for name in ("two-outputs", "gather", "several-inputs"):
            model = case(name)
            bench.must_take(model)
            with bench.session(bench.artifact(model)) as session:
                said = session.signature
            for kind, wanted, got in (
                ("input", model.inputs, said.inputs),
                ("output", model.outputs, said.outputs),
            ):
                names = [spec.name for spec in got]
                promise(names == [spec.name for spec in wanted], f"{name}: {kind}s are {names}")
                for ours, theirs in zip(wanted, got, strict=True):
                    shapes = [list(ours.shape), [USUAL.get(str(axis), axis) for axis in ours.shape]]
                    if "dynamic-shapes" in bench.spec.capabilities:
                        del shapes[1]
                    promise(
                        theirs.dtype == ours.dtype,
                        f"{name}: {kind} {ours.name!r} is said to be {theirs.dtype}",
                    )
                    promise(
                        list(theirs.shape) in shapes,
                        f"{name}: {kind} {ours.name!r} has shape {list(theirs.shape)}, not {shapes[0]}",
                    )

    @pytest.mark.parametrize("name", ["matmul", "two-outputs", "gather"])
    def test_outputs_belong_to_the_caller(self, bench: Bench, name: str) -> None:
        """No later run, no write to a feed and no close() changes an output that was handed out."""
        model = case(name)
        bench.must_take(model)
        problems = bench.inside("changed_outputs", bench.artifact(model), [model.feeds(1), model.feeds(2)])
        promise(not problems.value, f"{name}: output {_listed(problems.value)}")

    @pytest.mark.parametrize("name", ["matmul", "attention", "several-inputs"])
    def test_feeds_are_not_changed(self, bench: Bench, name: str) -> None:
        """A run leaves the caller's arrays as they were."""
        model = case(name)
        bench.must_take(model)
        changed = bench.inside("changed_feeds", bench.artifact(model), [model.feeds(seed) for seed in (1, 2)])
        promise(not changed.value, f"{name}: run() changed the caller's {_listed(changed.value)}")

    def test_any_memory_layout_is_taken(self, bench: Bench) -> None:
        """Read-only and strided arrays give the same answers as plain ones."""
        model = case("conv")
        bench.must_take(model)
        feeds = model.feeds(1)
        reply = bench.inside("answers_by_layout", bench.artifact(model), [feeds])
        right = model.answers(feeds)
        for layout, got in zip(("plain", "read-only", "strided"), unpack_many(reply.body), strict=True):
            problem = difference(right, got, self.allowed(bench.plain))
            promise(not problem, f"{layout} feeds: {problem}")

    @pytest.mark.parametrize("wrong", sorted(WRONG))
    def test_refuses_wrong_feeds(self, bench: Bench, wrong: str) -> None:
        """Feeds that do not fit raise InputError, and the session goes on working."""
        model = case("matmul")
        good = model.feeds(1)
        reply = bench.inside("wrong_feeds", bench.artifact(model), [good, WRONG[wrong](good)])
        raised = _strings(reply.value)
        promise(raised == [InputError.code], f"{wrong}: raised {_listed(raised)}, not InputError")
        before, after = unpack_many(reply.body)
        problem = difference(before, after, self.allowed(bench.plain))
        promise(not problem, f"after {wrong}, the next good run: {problem}")

    def test_run_after_close_is_refused(self, bench: Bench) -> None:
        """A closed session raises SessionClosed instead of answering or crashing."""
        raised = self._after_close(bench)["run"]
        promise(raised == SessionClosed.code, f"run() after close() raised {raised}, not SessionClosed")

    def test_close_twice_is_fine(self, bench: Bench) -> None:
        """A second close() does nothing."""
        raised = self._after_close(bench)["close"]
        promise(raised == QUIET, f"a second close() raised {raised}")

    def test_sessions_are_independent(self, bench: Bench) -> None:
        """Two sessions at once answer each for itself, and closing one leaves the other open."""
        first, second = case("matmul"), case("mlp")
        with bench.session(bench.artifact(second)) as stays:
            with bench.session(bench.artifact(first)) as goes, bench.session(bench.artifact(first)) as twin:
                for seed in (1, 2):
                    for model, session in ((first, goes), (second, stays), (first, twin)):
                        feeds = model.feeds(seed)
                        problem = difference(
                            model.answers(feeds), session.run(feeds), self.allowed(bench.plain)
                        )
                        promise(not problem, f"{model.name} beside other open sessions: {problem}")
            feeds = second.feeds(3)
            problem = difference(second.answers(feeds), stays.run(feeds), self.allowed(bench.plain))
            promise(not problem, f"after another session was closed: {problem}")

    def test_repeated_runs_agree(self, bench: Bench) -> None:
        """The same feeds give the same answer, whatever ran between."""
        model = case("mlp")
        rows = [model.feeds(seed) for seed in (1, 2, 1, 3, 1)]
        with bench.session(bench.artifact(model)) as session:
            answers = bench.outputs(session, rows)
        for again in (answers[2], answers[4]):
            problem = difference(answers[0], again, self.allowed(bench.plain))
            promise(not problem, f"a repeated run: {problem}")

    @pytest.mark.parametrize("threads", [1, 2])
    def test_opens_with_threads(self, bench: Bench, threads: int) -> None:
        """The number of threads is the caller's choice and changes no answer."""
        model = case("conv")
        bench.must_take(model)
        feeds = model.feeds(1)
        with bench.session(bench.artifact(model), threads=threads) as session:
            (got,) = bench.outputs(session, [feeds])
        problem = difference(model.answers(feeds), got, self.allowed(bench.plain))
        promise(not problem, f"with {threads} threads: {problem}")

    def test_running_writes_nothing(self, bench: Bench) -> None:
        """Opening, running and looking inside leave the artifact and the current directory alone."""
        model = case("mlp")
        built = bench.artifact(model)
        with bench.house.watched() as changes, bench.session(built) as session:
            bench.outputs(session, [model.feeds(1)])
            session.placement()
            session.profile()
        promise(not changes, f"a session wrote or changed {_listed(changes)}")

    def test_placement_counts_executed_nodes(self, bench: Bench) -> None:
        """placement() counts real nodes, in known words, and says how it knows."""
        needs_capability(bench, "placement")
        with bench.session(bench.artifact(case("mlp"))) as session:
            bench.outputs(session, [case("mlp").feeds(1)])
            placement = session.placement()
        promise(placement.nodes() > 0, "placement() counts no node at all")
        promise(placement.source, "placement() does not say how it knows: `source` is empty")
        for row in placement.rows:
            promise(row.precision in PRECISIONS, f"placement() speaks of precision {row.precision!r}")
            promise(row.nodes >= 0 and row.device, f"placement() has a row without sense: {row}")
        shares = [row.time_share for row in placement.rows if row.time_share is not None]
        promise(all(share >= 0 for share in shares), f"time shares are {shares}")
        promise(sum(shares) <= 1.001, f"time shares add up to {sum(shares):.3f}")

    def test_profile_shares_make_sense(self, bench: Bench) -> None:
        """profile() names operators, costliest first, with shares that add up to one at most."""
        needs_capability(bench, "profile")
        with bench.session(bench.artifact(case("mlp"))) as session:
            bench.outputs(session, [case("mlp").feeds(1)])
            profile = session.profile()
        shares = [row.share for row in profile]
        promise(shares, "profile() is claimed and names no operator")
        promise(
            all(row.name and row.op_type for row in profile), "profile() has a row without a name or operator"
        )
        promise(
            min(shares) >= 0 and sum(shares) <= 1.001,
            f"profile() has shares that add up to {sum(shares):.3f}",
        )
        promise(shares == sorted(shares, reverse=True), "profile() is not sorted, costliest first")

    def _after_close(self, bench: Bench) -> dict[str, str]:
        model = case("matmul")
        value = bench.inside("life_after_close", bench.artifact(model), [model.feeds(1)]).value
        if not isinstance(value, dict):
            broken(f"the worker answered {value!r}")
        return {str(key): str(what) for key, what in value.items()}


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list | tuple) else []


def _listed(value: object) -> str:
    return ", ".join(_strings(value)) or str(value)
