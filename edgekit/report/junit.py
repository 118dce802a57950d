"""junit.xml: one test case for each limit, and one for the goldens.

FAIL is a <failure>. INCONCLUSIVE is an <error>: the test was run and could not decide, so the build
must not look green. NOT_MEASURED is <skipped>: nothing was run, which is no fault of the artifact;
CI viewers show skipped cases and the exit code (5) still stops the job.
The time of a suite is that of its launches, in seconds; a case has none of its own, since the same launches
serve every limit. Elements, their order and their attributes are those that Jenkins' xunit schema allows.
"""

from __future__ import annotations

from xml.etree import ElementTree

from edgekit.files.manifests import Manifest
from edgekit.report import wording
from edgekit.values import Check, GoldenRecord, Outcome, ReportTable

_TAGS = {Outcome.FAIL: "failure", Outcome.INCONCLUSIVE: "error", Outcome.NOT_MEASURED: "skipped"}


def render(manifest: Manifest) -> str:
    """The report as JUnit XML."""
    table = wording.report_of(manifest)
    outcomes = [check.outcome for check in table.checks]
    outcomes += [table.golden.outcome] if table.golden is not None else []
    counts = {
        "tests": len(outcomes),
        "failures": outcomes.count(Outcome.FAIL),
        "errors": outcomes.count(Outcome.INCONCLUSIVE),
        "skipped": outcomes.count(Outcome.NOT_MEASURED),
    }
    attributes = {key: str(count) for key, count in counts.items()} | {"time": f"{_seconds(table):.3f}"}
    name = _clean(f"edgekit validate {table.artifact_name}")
    whole = {key: value for key, value in attributes.items() if key != "skipped"}  # not allowed there
    root = ElementTree.Element("testsuites", {"name": name, **whole})
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **attributes})
    suite.set("timestamp", _clean(manifest.created[:19]))  # UTC; the schema knows no offset
    _properties(suite, table)
    for check in table.checks:
        _case(suite, table, check)
    if table.golden is not None:
        _case(suite, table, _golden_check(table.golden))
    ElementTree.SubElement(suite, "system-out").text = _clean(wording.verdict_line(table))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _seconds(table: ReportTable) -> float:
    return sum(record.seconds for record in table.launches)


def _properties(suite: ElementTree.Element, table: ReportTable) -> None:
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "verdict": str(table.verdict),
        "confidence": f"{table.confidence:g}",
        "backend": table.backend,
        "precision": table.precision,
        "target": table.target_name,
        "machine": wording.machine_name(table.machine),
        "machine_is_target": str(table.machine_is_target).lower(),
        "artifact": table.artifact_digest,
    }
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})


def _golden_check(golden: GoldenRecord) -> Check:
    told = (f"{golden.agreeing} of {golden.cases} cases agree" if golden.cases else "", golden.reason)
    reason = "; ".join(text for text in told if text)
    return Check(key="goldens", limit=None, unit="", outcome=golden.outcome, reason=reason)


def _case(suite: ElementTree.Element, table: ReportTable, check: Check) -> None:
    classname = _clean(f"edgekit.{table.artifact_name}")
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": classname, "name": _clean(check.key), "time": "0.000"}
    )
    text = wording.why(check)
    if check.observed is not None:
        text = f"{wording.interval(check.observed)} {check.unit}, limit {wording.limit(check)}; {text}"
    if check.outcome not in _TAGS:
        ElementTree.SubElement(case, "system-out").text = _clean(text)
        return
    said = "; ".join(part for part in (check.reason, wording.assumes(check)) if part)
    attributes = {"message": _clean(f"{check.outcome}: {said}")}
    if check.outcome is not Outcome.NOT_MEASURED:
        attributes["type"] = str(check.outcome)
    ElementTree.SubElement(case, _TAGS[check.outcome], attributes).text = _clean(text)


def _clean(text: str) -> str:
    """Without the control characters and surrogates that no XML file may hold."""
    return "".join(mark if _allowed(ord(mark)) else "�" for mark in text)


def _allowed(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
