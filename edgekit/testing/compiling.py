"""Promises of the compile half: where it writes, what it leaves alone, what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.errors import CompileFailed, ContractViolation, ModelFileError, ModelNotSupported, WorkerError
from edgekit.testing.base import Contract, broken, needs_capability, needs_precision, promise
from edgekit.testing.bench import PLAINEST, SAMPLE, Bench, Built
from edgekit.testing.families import case
from edgekit.testing.troubles import in_words
from edgekit_runtime.errors import HardwareMissing, OpenFailed
from edgekit_runtime.values import PRECISIONS


class CompilesAsPromised(Contract):
    """`edgekit.backend.Compiler.compile` and the artifact it leaves."""

    def test_compile_gives_the_precision_asked(self, bench: Bench) -> None:
        """What was built is what was asked, or compile raises."""
        for built in _samples(bench):
            given = built.compiled.precision
            promise(given == built.precision, f"asked for {built.precision}, compile() built {given}")

    def test_compile_writes_only_in_its_directory(self, bench: Bench) -> None:
        """Nothing appears or changes beside the workdir: current directory, home, the model's."""
        for built in _samples(bench):
            promise(
                not built.outside,
                f"at {built.precision}, compile() wrote outside request.workdir: {', '.join(built.outside)}",
            )

    def test_compile_leaves_the_model_untouched(self, bench: Bench) -> None:
        """The ONNX file and its external data are as they were."""
        for built in _samples(bench):
            promise(
                not built.changed,
                f"at {built.precision}, compile() changed its input: {', '.join(built.changed)}",
            )

    def test_compile_lists_exactly_the_files_it_wrote(self, bench: Bench) -> None:
        """`Compiled.files` are relative, exist, and leave no file out."""
        for built in _samples(bench):
            listed, found = built.compiled.files, set(built.files)
            promise(listed, "compile() lists no file")
            promise(len(set(listed)) == len(listed), f"compile() lists a file twice: {', '.join(listed)}")
            astray = [name for name in listed if Path(name).is_absolute() or ".." in Path(name).parts]
            promise(not astray, f"compile() lists files that are not relative: {', '.join(astray)}")
            lacking = sorted(set(listed) - found)
            promise(not lacking, f"compile() lists files that it did not write: {', '.join(lacking)}")
            surplus = sorted(found - set(listed))
            promise(not surplus, f"compile() wrote files that it does not list: {', '.join(surplus)}")

    def test_compile_twice_lists_the_same_files(self, bench: Bench) -> None:
        """The same request gives the same files by name, in any directory."""
        model = case("mlp")
        first, second = bench.artifact(model), bench.artifact(model, again=True)
        promise(
            sorted(first.compiled.files) == sorted(second.compiled.files),
            f"two compiles of one model list {first.compiled.files} and {second.compiled.files}",
        )

    def test_the_host_finds_no_fault(self, bench: Bench) -> None:
        """`edgekit compile`'s own way, guard included, accepts what the backend does."""
        with bench.docket.telling():
            bench.compile_as_edgekit_does(case(SAMPLE))

    @pytest.mark.parametrize("damage", ["truncated", "noise", "empty"])
    def test_compile_refuses_a_corrupt_model(self, bench: Bench, damage: str) -> None:
        """A file that is no model raises an error that says so; it never compiles and never crashes."""
        bench.must_work()
        refusal = bench.refusal_of_model(lambda path: _spoil(path, damage))
        promise(refusal is not None, f"compile() took a model file that is {damage}")
        promise(
            isinstance(refusal, CompileFailed | ModelFileError | ModelNotSupported),
            f"a {damage} model file: {in_words(refusal)}, not CompileFailed",
        )

    def test_compile_refuses_an_undeclared_precision(self, bench: Bench) -> None:
        """A precision that the description does not name raises, instead of giving another one."""
        undeclared = [word for word in PRECISIONS if word not in bench.spec.precisions]
        if not undeclared:
            pytest.skip("every precision is claimed")
        bench.must_work()
        for precision in undeclared:
            error = bench.refusal_of_precision(precision)
            promise(error is not None, f"compile() accepted {precision}, which is not declared")
            lost = isinstance(error, WorkerError | ContractViolation)
            promise(not lost, f"asked for {precision}, which is not declared: {in_words(error)}")

    @pytest.mark.parametrize("damage", ["truncated", "missing"])
    def test_open_refuses_a_damaged_artifact(self, bench: Bench, damage: str) -> None:
        """An artifact whose largest file is cut short or gone raises OpenFailed."""
        built = bench.artifact(case("mlp"))
        error = bench.refusal_of_artifact(built, lambda path: _spoil(path, damage))
        if error is None:
            broken(f"an artifact whose largest file is {damage} was opened")
        bench.need_device(error)
        said = isinstance(error, OpenFailed) and not isinstance(error, HardwareMissing)
        promise(said, f"largest file {damage}: {in_words(error)}, not OpenFailed")

    def test_keep_high_is_honoured(self, bench: Bench) -> None:
        """A node named in `keep_high` leaves int8: fewer int8 nodes are executed."""
        needs_capability(bench, "keep-high", "placement")
        needs_precision(bench, "int8")
        model = case("mlp")
        counts = []
        for kept in ((), ("/second/MatMul",)):
            built = bench.artifact(model, "int8", keep_high=kept)
            with bench.session(built) as session:
                bench.outputs(session, [model.feeds(1)])
                rows = session.placement().rows
            counts.append(sum(row.nodes for row in rows if row.precision == "int8"))
        without, with_kept = counts
        promise(
            with_kept < without,
            f"with one of three layers kept high, {with_kept} of {without} nodes still run in int8",
        )


def _spoil(path: Path, damage: str) -> None:
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "noise":
        path.write_bytes(bytes((index * 97 + 31) % 251 for index in range(4096)))
    else:
        path.write_bytes(b"")


def _samples(bench: Bench) -> Iterator[Built]:
    """The plainest model, which was the worker's first, and the sample at each precision that is claimed."""
    yield bench.artifact(case(PLAINEST))
    for precision in bench.spec.precisions:
        yield bench.artifact(case(SAMPLE), precision)
