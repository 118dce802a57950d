"""junit.xml: what CI services read."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from edgekit.files.manifests import Manifest
from edgekit.report import render, wording
from edgekit.values import Budget, Outcome, ReportTable
from tests.report.samples import changed, report

FAILING = Budget(latency_p90_ms=9, artifact_mib=30)
#: Every outcome but FAIL.
MIXED = report()


def table_of(manifest: Manifest) -> ReportTable:
    assert manifest.report is not None
    return manifest.report


def test_junit_tells_failed_undecided_and_unmeasured_apart() -> None:
    for manifest in (report(), report(FAILING)):
        suite = ElementTree.fromstring(render("junit", manifest))[0]
        cases = suite.findall("testcase")
        outcomes = [check.outcome for check in table_of(manifest).checks] + [Outcome.PASS]
        tags = {Outcome.FAIL: "failure", Outcome.INCONCLUSIVE: "error", Outcome.NOT_MEASURED: "skipped"}
        for case, outcome in zip(cases, outcomes, strict=True):
            found = {child.tag for child in case}
            assert found == {tags.get(outcome, "system-out")}
        assert suite.get("tests") == str(len(cases))
        assert suite.get("failures") == str(outcomes.count(Outcome.FAIL))
        assert suite.get("errors") == str(outcomes.count(Outcome.INCONCLUSIVE))
        assert suite.get("skipped") == str(outcomes.count(Outcome.NOT_MEASURED))


def test_junit_has_only_what_the_common_schema_allows() -> None:
    """The parts of Jenkins' junit-10.xsd and Ant's JUnit.xsd that a report touches."""
    allowed = {
        "testsuites": {"name", "time", "tests", "failures", "disabled", "errors"},
        "testsuite": {"name", "tests", "failures", "errors", "time", "skipped", "timestamp"},
        "properties": set(),
        "property": {"name", "value"},
        "testcase": {"name", "classname", "time"},
        "failure": {"message", "type"},
        "error": {"message", "type"},
        "skipped": {"message"},
        "system-out": set(),
    }
    root = ElementTree.fromstring(render("junit", MIXED))
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.attrib) <= allowed[element.tag], element.tag
        if "time" in element.attrib:
            assert re.fullmatch(r"\d+\.\d{3}", element.attrib["time"])
    (suite,) = root
    assert [child.tag for child in suite if child.tag != "testcase"] == ["properties", "system-out"]
    assert suite[0].tag == "properties" and suite[-1].tag == "system-out"
    assert suite[-1].text == wording.verdict_line(table_of(MIXED))
    assert float(suite.attrib["time"]) == pytest.approx(
        sum(record.seconds for record in table_of(MIXED).launches)
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])


def test_junit_holds_no_character_that_xml_forbids() -> None:
    evil = changed(report(Budget(artifact_mib=1)), artifact_name="<kiosk> & \x07")
    check = dataclasses.replace(table_of(evil).checks[0], reason="a\x00b\ud800c")
    ElementTree.fromstring(render("junit", changed(evil, checks=(check,))).encode("utf-8"))
