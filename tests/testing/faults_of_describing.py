"""Faults of the description, of probe and check, and of the conformance class itself."""

from __future__ import annotations

from tests.testing.sabotage import Sabotage

DESCRIPTION = (
    Sabotage(
        name="imports-its-engine",
        plugin="import onnx",
        caught_by=("test_importing_the_plugin_loads_no_engine",),
    ),
    Sabotage(
        name="session-imports-edgekit",
        session="import edgekit.api",
        caught_by=("test_session_half_needs_no_edgekit",),
    ),
    Sabotage(
        name="probe-raises",
        compiler="""
class Compiler(complete.Compiler):
    def probe(self):
        raise RuntimeError("no device found")
""",
        caught_by=("test_probe_answers",),
    ),
    Sabotage(
        name="miscounts-operators",
        compiler="""
class Compiler(complete.Compiler):
    def check(self, model, target):
        support = super().check(model, target)
        return replace(support, operators=support.operators[:1])
""",
        caught_by=("test_check_answers_operator_by_operator",),
    ),
    Sabotage(
        name="another-api",
        plugin="SAID = dict(api_version=99)",
        caught_by=("test_describes_itself",),
    ),
    Sabotage(
        name="unsound-option",
        plugin="""
LEVEL = OptionSpec(name="level", type="int", default=9, help="How hard to try", choices=(1, 2))
SAID = dict(options=(LEVEL,))
""",
        caught_by=("test_options_are_sound",),
    ),
    Sabotage(
        name="cannot-be-opened",
        opener=False,
        caught_by=("test_both_halves_come_from_one_distribution",),
        knock_ons=("test_right_numbers[matmul]",),
    ),
    Sabotage(
        name="names-no-real-engine",
        plugin='SAID = dict(engine_modules=("no_such_engine",))',
        caught_by=("test_engine_modules_are_named_truly",),
    ),
    Sabotage(
        name="excuses-what-is-no-test",
        settings='known_failures = {"test_that_never_was": "the engine is odd"}',
        caught_by=("test_known_failures_name_tests",),
    ),
    Sabotage(
        name="excuses-what-works",
        settings='known_failures = {"test_close_twice_is_fine": "it used to crash"}',
        caught_by=("test_close_twice_is_fine",),
    ),
)
