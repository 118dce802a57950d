"""What the author of a backend sets, and how a test of the kit speaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, NoReturn

import pytest

from edgekit.testing.bench import Bench
from edgekit.testing.boxes import House
from edgekit.testing.closeness import CLOSENESS, Closeness
from edgekit.testing.setting import Setting
from edgekit.testing.troubles import Docket
from edgekit_runtime.values import OptionValue


class Contract:
    """The attributes of a conformance class; the promises themselves are in its bases.

    backend: the name to test.
    known_failures: test name (with or without its [parameter]) -> reason; such a test must fail.
    tolerance: precision -> Closeness, where the kit's own is not right for the engine.
    options: values for the backend's declared options that differ from their defaults.
    target: name or file of a target to build for, where that is not this machine.
    device: the engine's device word, by default the target's.
    time_limit: seconds that one call to the backend may take.
    """

    backend: ClassVar[str] = ""
    known_failures: ClassVar[Mapping[str, str]] = {}
    tolerance: ClassVar[Mapping[str, Closeness]] = {}
    options: ClassVar[Mapping[str, OptionValue]] = {}
    target: ClassVar[str] = ""
    device: ClassVar[str] = ""
    time_limit: ClassVar[float] = 120.0

    @pytest.fixture(scope="class")
    @classmethod
    def docket(cls, request: pytest.FixtureRequest) -> Docket:
        """The tests of the class that were chosen for this run."""
        items = (item for item in request.session.items if isinstance(item, pytest.Function))
        return Docket(frozenset(item.name for item in items if item.cls is cls))

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, docket: Docket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
        """The backend under test with one worker, shared by the tests of the class."""
        setting = Setting(
            backend=cls.backend,
            options=cls.options,
            device=cls.device,
            time_limit=cls.time_limit,
            target=cls.target,
        )
        with Bench(setting, House(tmp_path_factory.mktemp("contract")), docket) as bench:
            yield bench

    @pytest.fixture(autouse=True)
    def _one_test(self, request: pytest.FixtureRequest, docket: Docket) -> Iterator[None]:
        """Mark the author's exceptions, and let the bench know which test runs."""
        function = getattr(request.node, "originalname", request.node.name)
        reason = self.known_failures.get(request.node.name, self.known_failures.get(function, ""))
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
        with docket.during(request.node.name):
            yield

    def allowed(self, precision: str) -> Closeness:
        """How far from the reference answers of `precision` may be."""
        return self.tolerance.get(precision, CLOSENESS[precision])


def promise(kept: object, otherwise: str) -> None:
    """Fail the test with one sentence unless the promise is kept."""
    if not kept:
        broken(otherwise)


def broken(how: str) -> NoReturn:
    """Fail the test with one sentence."""
    pytest.fail(how, pytrace=False)


def needs_capability(bench: Bench, *words: str) -> None:
    """Skip unless the backend claims every one of the capabilities."""
    for word in words:
        if word not in bench.spec.capabilities:
            pytest.skip(f"not claimed: {word}")


def needs_precision(bench: Bench, precision: str) -> None:
    """Skip unless the backend claims the precision."""
    if precision not in bench.spec.precisions:
        pytest.skip(f"not claimed: {precision}")
