"""Promises of the description: it is complete, costs no import, and probing never hurts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections import Counter

import pytest

from edgekit.backend import API_VERSION, CAPABILITIES
from edgekit.devices.local import module_path
from edgekit.discovery import find_backend
from edgekit.testing.base import Contract, broken, promise
from edgekit.testing.bench import Bench
from edgekit.testing.families import case
from edgekit.values import OptionSpec
from edgekit_runtime.openers import find_openers
from edgekit_runtime.values import PRECISIONS

IMPORT_SECONDS = 120.0
OPTION_TYPES = {"str": str, "int": int, "float": float, "bool": bool}

#: Prints what importing a module adds, after everything that edgekit itself offers to plugins.
IMPORT_COST = """
import sys, edgekit.api
before = set(sys.modules)
import {module}
print("\\n".join(sorted(set(sys.modules) - before)))
"""

#: Imports the session half where edgekit is not installed.
SESSION_HALF = """
import sys
sys.modules["edgekit"] = None
import {module}
"""


class DescribesItself(Contract):
    """The hook `edgekit_backend`, the entry points, `probe` and `check`."""

    def test_describes_itself(self, bench: Bench) -> None:
        """The description is complete, in known words, and named like its entry point."""
        spec = bench.spec
        promise(
            spec.name == self.backend, f"the entry point is {self.backend!r}, the description {spec.name!r}"
        )
        promise(spec.api_version == API_VERSION, f"api_version is {spec.api_version}; this is {API_VERSION}")
        promise(spec.summary.strip(), "the summary is empty")
        promise("\n" not in spec.summary, "the summary has more than one line")
        promise(spec.arches, "no arch is named")
        promise(spec.precisions, "no precision is named")
        for kind, words, known in (
            ("precision", spec.precisions, PRECISIONS),
            ("capability", spec.capabilities, CAPABILITIES),
            ("builds_on", (spec.builds_on,), ("anywhere", "target")),
        ):
            unknown = sorted(set(words) - set(known))
            promise(not unknown, f"unknown {kind}: {', '.join(unknown)} (known: {', '.join(known)})")
            promise(len(set(words)) == len(words), f"a {kind} is named twice")
        promise(all(spec.compiler.partition(":")), f"compiler is {spec.compiler!r}, not 'module:Class'")

    def test_options_are_sound(self, bench: Bench) -> None:
        """Every option has help, a known type, and a default that it would accept itself."""
        names = [option.name for option in bench.spec.options]
        promise(len(set(names)) == len(names), "an option is declared twice")
        for option in bench.spec.options:
            problem = _option_problem(option)
            promise(not problem, f"option {option.name!r}: {problem}")

    def test_both_halves_come_from_one_distribution(self, bench: Bench) -> None:
        """Groups `edgekit.backends` and `edgekit.openers` name the backend alike, in one distribution."""
        entry = find_backend(bench.spec.name)
        opener = find_openers().get(bench.spec.name)
        if opener is None:
            broken(
                f"no entry point {bench.spec.name!r} in group edgekit.openers: nothing can open its artifacts"
            )
        provider = opener.dist.metadata["Name"] if opener.dist is not None else "unknown distribution"
        promise(provider == entry.distribution, f"compiled by {entry.distribution} but opened by {provider}")

    def test_importing_the_plugin_loads_no_engine(self, bench: Bench) -> None:
        """The module with the hook imports only the standard library, edgekit.api and its own package."""
        entry = find_backend(bench.spec.name)
        loaded = set(_python(IMPORT_COST.format(module=entry.module)).split())
        opener = find_openers().get(bench.spec.name)
        halves = {bench.spec.compiler.partition(":")[0], opener.module if opener else ""}
        own = {name.partition(".")[0] for name in (entry.module, *halves)}
        foreign = {name.partition(".")[0] for name in loaded} - own - set(sys.stdlib_module_names)
        promise(not foreign, f"importing {entry.module} also imports {', '.join(sorted(foreign))}")
        promise(
            not (loaded & halves - {entry.module}),
            f"importing {entry.module} loads {', '.join(loaded & halves)}",
        )

    def test_session_half_needs_no_edgekit(self, bench: Bench) -> None:
        """The opener imports where only edgekit-runtime and the engine are installed."""
        bench.must_work()
        opener = find_openers().get(bench.spec.name)
        if opener is None:
            broken(f"no entry point {bench.spec.name!r} in group edgekit.openers")
        _python(SESSION_HALF.format(module=opener.module))

    def test_engine_modules_are_named_truly(self, bench: Bench) -> None:
        """Where the backend works, every engine module that it names is there."""
        bench.must_work()
        lacking = [name for name in bench.spec.engine_modules if importlib.util.find_spec(name) is None]
        promise(not lacking, f"it works, yet its engine modules {', '.join(lacking)} are not installed")

    def test_probe_answers(self, bench: Bench) -> None:
        """probe() never raises; it says what is missing, or what versions are there."""
        with bench.docket.telling():
            probe = bench.probe
        promise(probe.available or probe.reason.strip(), "probe() says not available, and gives no reason")
        promise(not probe.available or probe.versions, "probe() says available, and names no version")

    def test_check_answers_operator_by_operator(self, bench: Bench) -> None:
        """check() takes the plainest model and accounts for every operator of a larger one."""
        bench.must_work()
        model = case("norm-gelu")
        with bench.docket.telling():
            plain, support = bench.check(case("matmul")), bench.check(model)
        promise(plain.supported, f"check() refuses the plainest model: {', '.join(plain.notes)}")
        wanted = Counter(node.op_type for node in model.build().graph.node)
        counted = {row.op_type: row.count for row in support.operators}
        promise(counted, "check() lists no operator")
        promise(counted == dict(wanted), f"check() counts {counted}; the model holds {dict(wanted)}")
        refused = [row for row in support.operators if not row.supported]
        promise(support.supported or refused or support.notes, "check() refuses a model without saying why")
        promise(all(row.reason for row in refused), "check() refuses an operator without a reason")

    def test_known_failures_name_tests(self, request: pytest.FixtureRequest) -> None:
        """Every exception that the author claims names a test and gives a reason."""
        names = {name for name in dir(type(self)) if name.startswith("test_")}
        for name, reason in self.known_failures.items():
            promise(
                name.partition("[")[0] in names, f"known_failures names {name!r}, which is no test of the kit"
            )
            promise(reason.strip(), f"known_failures gives no reason for {name!r}")


def _option_problem(option: OptionSpec) -> str:
    kind = OPTION_TYPES.get(option.type)
    if kind is None:
        return f"type is {option.type!r}, not one of {', '.join(OPTION_TYPES)}"
    if type(option.default) is not kind:
        return f"the default {option.default!r} is no {option.type}"
    if option.stage not in ("compile", "run"):
        return f"stage is {option.stage!r}, not compile or run"
    if option.choices and option.default not in option.choices:
        return f"the default {option.default!r} is not among its choices"
    return "" if option.help.strip() else "it has no help"


def _python(code: str) -> str:
    """What a fresh interpreter prints for `code`; the test fails with its last words if it fails."""
    command = [sys.executable, "-P", "-c", code]
    environment = {**os.environ, "PYTHONPATH": module_path()}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=IMPORT_SECONDS
        )
    except subprocess.TimeoutExpired:
        broken(f"importing took longer than {IMPORT_SECONDS:g} s")
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        broken(words[-1])
    return done.stdout
