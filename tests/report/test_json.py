"""report.json: a published schema, nothing lost on the way, reports of earlier versions still read."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.files.manifests import Manifest
from edgekit.files.tables import decode
from edgekit.report import render, report_formats, wording
from edgekit.report.jsonfmt import REPORT_SCHEMA, ReportDocument, read_document
from edgekit.values import Outcome, ReportTable
from tests.report import samples
from tests.report.schema import PATH, report_schema, without_descriptions

#: Written by the first version: before conditions, shapes, drops and operators were kept.
PREVIOUS = Path(__file__).with_name("previous.json")

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
#: Any text that a file in UTF-8 can hold.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    float: NUMBERS,
    str: TEXTS,
    int: st.integers(-(2**53), 2**53),
    bool: st.booleans(),
    types.NoneType: st.none(),
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type that a report is made of."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        return st.lists(values_of(inside[0]), max_size=2).map(tuple)
    if origin is Mapping:
        return st.dictionaries(values_of(inside[0]), values_of(inside[1]), max_size=2)
    if origin is types.UnionType:
        return st.one_of(*map(values_of, reversed(inside)))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return st.builds(kind, **{name: values_of(hint) for name, hint in hints.items()})
    return st.sampled_from(list(kind))


def table_of(manifest: Manifest) -> ReportTable:
    assert manifest.report is not None
    return manifest.report


def read_back(text: str) -> ReportDocument:
    return decode(json.loads(text), ReportDocument, where="report.json")


@pytest.mark.parametrize("make", [samples.report, samples.rich, samples.failing, samples.bare])
def test_json_reads_back_as_it_was_written(make: Any, tmp_path: Path) -> None:
    manifest = make()
    path = tmp_path / "report.json"
    path.write_text(render("json", manifest), encoding="utf-8")
    document = read_document(path)
    assert document.report == manifest.report
    assert document.inputs == manifest.inputs
    table = table_of(manifest)
    assert (document.verdict, document.line) == (table.verdict, wording.verdict_line(table))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=values_of(ReportTable))
def test_whatever_a_report_holds_survives_the_file(table: ReportTable) -> None:
    assert read_back(render("json", samples.manifest_of(table))).report == table


def test_a_report_of_the_first_version_is_still_read_and_shown() -> None:
    document = read_document(PREVIOUS)
    assert document.schema == REPORT_SCHEMA
    assert document.verdict is Outcome.INCONCLUSIVE
    accuracy = document.report.accuracy
    assert accuracy is not None
    assert (accuracy.lost, accuracy.drop, accuracy.higher_is_better) == (20, None, True)
    manifest = samples.manifest_of(document.report)
    for each in report_formats():
        assert "INCONCLUSIVE" in render(each.name, manifest) or each.name == "junit"


def test_the_published_schema_is_that_of_the_values() -> None:
    published = json.loads(PATH.read_text("utf-8"))
    same = without_descriptions(published) == without_descriptions(report_schema())
    assert same, "write it anew with `python -m tests.report.schema`, and count REPORT_SCHEMA up if needed"


def test_the_schema_asks_for_no_key_that_the_first_version_did_not_write() -> None:
    schema, previous = report_schema(), json.loads(PREVIOUS.read_text("utf-8"))
    required = schema["$defs"]["ReportTable"]["required"]
    assert set(required) <= set(previous["report"])
    for name, written in (
        ("LaunchRecord", previous["report"]["launches"][0]),
        ("AccuracyRecord", previous["report"]["accuracy"]),
        ("Check", previous["report"]["checks"][0]),
    ):
        assert set(schema["$defs"][name]["required"]) <= set(written)
