"""report.md: what a job's summary shows, and nothing that a name could smuggle into it."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.report import render, wording
from edgekit.report.markdown import escape
from tests.report import samples

HOSTILE = (
    "a | b",
    "<script>alert(1)</script>",
    "first\nsecond\r\n# third",
    "`code` ``` fence",
    "**bold** _it_ ~~gone~~ $x$",
    "[link](http://example.invalid) ![picture](x)",
    "@everyone &amp; &#124;",
    "back\\slash \\| pipe",
    "bell \x07 escape \x1b[31m half \ud800",
)


def test_it_tells_the_verdict_each_limit_each_figure_and_the_notes() -> None:
    manifest = samples.rich()
    table = manifest.report
    assert table is not None
    text = render("markdown", manifest)
    lines = text.splitlines()
    assert lines[0].endswith("INCONCLUSIVE: kiosk")
    assert escape(wording.verdict_line(table)) in lines
    for check in table.checks:
        (row,) = [line for line in lines if line.startswith(f"| `{check.key}` |")]
        assert str(check.outcome) in row
        assert escape(wording.limit(check)) in row
        assert escape(check.reason) in row
    assert "| throughput, 4 streams | 98 (95 to 101) samples/s |" in lines
    assert f"* {escape(table.notes[0])}" in lines
    assert "~~~" not in text and "```sh\nedgekit validate build/kiosk " in text
    assert text.endswith("```\n")


def test_an_empty_report_has_no_table_of_limits() -> None:
    text = render("markdown", samples.bare())
    assert "| limit on |" not in text
    assert "| artifact | 22.7 MiB |" in text


def cells(row: str) -> list[str]:
    """The cells of a row as GitHub splits them."""
    return re.split(r"(?<!\\)(?:\\\\)*\|", row)[1:-1]


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_breaks_the_tables_or_becomes_markup(name: str) -> None:
    manifest = samples.report()
    assert manifest.report is not None and manifest.report.accuracy is not None
    check = dataclasses.replace(
        manifest.report.checks[0], key=name, reason=name, unit=name, assumption=name, method=name
    )
    accuracy = dataclasses.replace(manifest.report.accuracy, metric=name)
    evil = samples.changed(
        manifest, artifact_name=name, checks=(check,), notes=(name,), accuracy=accuracy, backend=name
    )
    text = render("markdown", evil)
    text.encode("utf-8")
    before_fence = text[: text.rindex("sh\nedgekit")]
    plain = render("markdown", samples.changed(manifest, checks=(check,), notes=("note",)))
    assert len(before_fence.splitlines()) == len(plain[: plain.rindex("sh\nedgekit")].splitlines())
    rows = [line for line in before_fence.splitlines() if line.startswith("|")]
    assert {len(cells(row)) for row in rows} == {5, 2}
    assert not re.search(r"(?<!\\)<(?!=)", before_fence)
    assert not re.search(r"@\w", before_fence)
    assert "\x07" not in text and "\x1b" not in text


@given(st.text(max_size=60))
def test_an_escaped_text_is_one_line_in_which_nothing_special_stands_alone(text: str) -> None:
    shown = escape(text)
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")
    bare = re.sub(r"\\[\\`*_\[\]<>#|~$]", "", shown)
    assert not re.search(r"[\\`*_\[\]<>#|~$]", bare)


def test_a_command_with_backticks_stays_in_its_fence() -> None:
    text = render("markdown", samples.changed(samples.bare(), reproduce="edgekit validate '```'"))
    assert text.endswith("````sh\nedgekit validate '```'\n````\n")
