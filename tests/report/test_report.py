"""Reports: the same verdict in every format, safe to open, valid for the programs that read them."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgekit import report as report_room
from edgekit.errors import PluginBroken, PluginConflict, PluginError, UnknownName, UsageError
from edgekit.files.manifests import Manifest
from edgekit.hooktypes import ReportFormat
from edgekit.report import render, report_formats, terminal, wording, write_report_files
from edgekit.values import Budget, Interval, Outcome, ReportTable
from tests.report.samples import bare, changed, passing, report, rich, sensitivity

EVIL = "<script>alert('x')</script> & \"kiosk\" \x07"
FORMATS = ("terminal", "json", "html", "junit", "markdown")


def table_of(manifest: Manifest) -> ReportTable:
    assert manifest.report is not None
    return manifest.report


@pytest.fixture(scope="module")
def mixed() -> Manifest:
    """A report with every outcome but FAIL."""
    return report()


@pytest.fixture(scope="module")
def failed() -> Manifest:
    return report(Budget(latency_p90_ms=9, artifact_mib=30))


# --- the registry -----------------------------------------------------------------------------------


def csv_writer(manifest: Manifest) -> str:
    """A format such as a plugin would bring."""
    return "key,outcome\n" + "".join(f"{check.key},{check.outcome}\n" for check in table_of(manifest).checks)


def broken_writer(manifest: Manifest) -> str:
    raise ZeroDivisionError("no")


def leaving_writer(manifest: Manifest) -> str:
    sys.exit(0)


def wordless_writer(manifest: Manifest) -> object:
    return 5


def bring(monkeypatch: pytest.MonkeyPatch, *formats: ReportFormat) -> None:
    """As if `edgekit_report_formats` of a plugin had returned them."""
    monkeypatch.setattr(report_room, "plugin_report_formats", lambda: formats)
    monkeypatch.setitem(sys.modules, "tests_report_writers", sys.modules[__name__])


def made(name: str = "csv", filename: str = "report.csv", writer: str = "csv_writer") -> ReportFormat:
    return ReportFormat(name=name, filename=filename, writer=f"tests_report_writers:{writer}")


def test_all_formats_with_a_filename_are_written_and_a_plugins_too(
    mixed: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(monkeypatch, made())
    written = write_report_files(tmp_path, mixed)
    names = {"report.json", "report.html", "junit.xml", "report.md", "report.csv"}
    assert {path.name for path in written} == names
    assert set(tmp_path.iterdir()) == set(written)
    assert "artifact_mib,PASS" in (tmp_path / "report.csv").read_text()
    assert render("csv", mixed) == csv_writer(mixed)


@pytest.mark.parametrize(
    "clash", [made(name="html"), made(filename="junit.xml"), made(filename="manifest.json")]
)
def test_a_plugin_cannot_take_a_name_or_file_of_ours(
    clash: ReportFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(monkeypatch, clash)
    with pytest.raises(PluginConflict):
        report_formats()


@pytest.mark.parametrize("filename", ["../outside.txt", "/etc/x", "a/b.txt"])
def test_a_plugin_cannot_write_beside_the_report(
    mixed: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filename: str
) -> None:
    bring(monkeypatch, made(filename=filename))
    with pytest.raises(PluginBroken, match="wants to write"):
        write_report_files(tmp_path, mixed)


@pytest.mark.parametrize(
    ("writer", "error"),
    [
        ("broken_writer", PluginError),
        ("leaving_writer", PluginError),
        ("wordless_writer", PluginBroken),
        ("FORMATS", PluginBroken),
    ],
)
def test_a_writer_that_fails_is_named(
    mixed: Manifest, monkeypatch: pytest.MonkeyPatch, writer: str, error: type[Exception]
) -> None:
    bring(monkeypatch, made(writer=writer))
    with pytest.raises(error, match="'csv'"):
        render("csv", mixed)


def test_an_unknown_format_hints_at_the_nearest(mixed: Manifest) -> None:
    with pytest.raises(UnknownName) as caught:
        render("htm", mixed)
    assert "html" in caught.value.hint


@pytest.mark.parametrize("name", FORMATS)
def test_a_manifest_of_another_kind_is_no_report(mixed: Manifest, name: str) -> None:
    with pytest.raises(UsageError, match="not a report"):
        render(name, dataclasses.replace(mixed, kind="model", report=None))


# --- the same words everywhere ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_the_verdict_and_every_limit(mixed: Manifest, failed: Manifest, name: str) -> None:
    for manifest in (mixed, failed):
        text = render(name, manifest)
        assert str(table_of(manifest).verdict) in text
        for check in table_of(manifest).checks:
            assert check.key in text
            assert str(check.outcome) in text or name == "junit"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0341, "0.0341"), (0.5, "0.5"), (9.99949, "9.999"), (17.25, "17.25"), (123.456, "123.5")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert wording.number(value) == text


def test_large_and_negative_numbers_have_no_exponent() -> None:
    assert wording.number(1234567.8) == "1,234,568"
    assert wording.number(-1.4264) == "-1.426"
    assert "e" not in wording.number(1e-5)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (None, "-"),
        (Interval(estimate=5, low=5, high=5), "5"),
        (Interval(estimate=17.2, low=16.8, high=18.1), "17.2 (16.8 to 18.1)"),
        (Interval(estimate=17.2, low=16.8), "17.2 (at least 16.8)"),
        (Interval(estimate=17.2, high=18.1), "17.2 (at most 18.1)"),
        (Interval(estimate=17.2), "17.2 (no bound yet)"),
    ],
)
def test_an_interval_says_which_bounds_it_has(found: Interval | None, text: str) -> None:
    assert wording.interval(found) == text


def test_the_verdict_line_can_be_quoted(mixed: Manifest, failed: Manifest) -> None:
    line = wording.verdict_line(table_of(failed))
    assert line.startswith("FAIL: kiosk (example, int8) on Example CPU 3000 & Sons misses its budget at 99 %")
    assert "latency_p90_ms 10.85 against <= 9 ms" in line
    passing = report(Budget(latency_p50_ms=12))
    assert "keeps its budget at 99 % confidence: latency_p50_ms 10.07 <= 12 ms." in wording.verdict_line(
        table_of(passing)
    )
    unlimited = report(Budget())
    agreeing = wording.verdict_line(table_of(unlimited))
    assert agreeing.startswith("NOT_MEASURED: ")
    assert agreeing.endswith("agrees with the exported model; no limit was given.")
    nothing = changed(unlimited, golden=None, verdict=Outcome.NOT_MEASURED)
    assert wording.verdict_line(table_of(nothing)).endswith("was not judged; no limit was given.")
    elsewhere = changed(mixed, machine_is_target=False, target_name="board")
    assert "(which is not board)" in wording.verdict_line(table_of(elsewhere))
    golden = table_of(mixed).golden
    assert golden is not None
    wrong = dataclasses.replace(golden, outcome=Outcome.FAIL, reason="2 of 8 differ")
    line = wording.verdict_line(table_of(changed(mixed, verdict=Outcome.FAIL, golden=wrong)))
    assert "does not agree with the exported model: 2 of 8 differ" in line


def test_the_command_to_reproduce_holds_every_limit(mixed: Manifest) -> None:
    command = wording.reproduce(mixed)
    assert command.startswith("edgekit validate ../kiosk --budget latency_p50_ms=12 ")
    assert command.endswith("--budget energy_mj=50 --confidence 0.99 --threads 1")
    assert wording.reproduce(report(Budget())).endswith("--no-budget")


def test_the_command_that_made_the_report_is_repeated_when_it_was_kept() -> None:
    kept = changed(report(), reproduce="edgekit validate build/kiosk --seed 3")
    assert wording.reproduce(kept) == "edgekit validate build/kiosk --seed 3"
    for name in ("html", "markdown"):
        assert "edgekit validate build/kiosk --seed 3" in render(name, kept)


@pytest.mark.parametrize("name", FORMATS)
def test_what_an_outcome_assumes_stands_beside_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = passing()
    (resting,) = [check for check in table_of(manifest).checks if check.assumption]
    text = render(name, manifest)
    line = wording.verdict_line(table_of(manifest))
    assert f"{resting.key} 10.9 <= 16 ms (assumes: {resting.assumption})" in line
    places = {
        "terminal": rf"(?m)^{resting.key} .* PASS +assumes: {resting.assumption}; 60 launches",
        "json": rf'"key": "{resting.key}",(.|\n)*?"assumption": "{resting.assumption}"',
        "html": rf">{resting.key}<(.(?!card))*?PASS assumes: {resting.assumption}<",
        "junit": rf'name="{resting.key}"[^/]*<system-out>.*assumes: {resting.assumption}',
        "markdown": rf"\| `{resting.key}` \|.* PASS, assumes: {resting.assumption} \|",
    }
    plain = text.replace("&#39;", "'")
    assert re.search(places[name], plain, re.DOTALL if name == "html" else 0)


def test_a_coloured_table_leads_to_the_assumption_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    bare_text = re.sub(r"\x1b\[[0-9;]*m", "", render("terminal", passing()))
    assert all(len(line) <= 80 for line in bare_text.splitlines())
    flat = " ".join(bare_text.split())
    assert "10.9 (10.2 to 12.4) PASS *" in flat
    assert "latency_p99_ms: PASS * assumes: the launches' medians" in flat


# --- terminal -----------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_plain_ascii_lines_one_for_each_limit(mixed: Manifest) -> None:
    text = render("terminal", mixed)
    assert text.isascii() and "\x1b" not in text
    assert sum(line.startswith("latency_p90_ms ") for line in text.splitlines()) == 1
    assert text.splitlines()[-1] == wording.verdict_line(table_of(mixed))


def test_a_terminal_gets_colours_and_the_same_verdict(
    mixed: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    text = render("terminal", mixed)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert text != bare
    assert "would prove PASS" in " ".join(bare.split())
    assert all(len(line) <= 80 for line in bare.splitlines())


def test_without_limits_the_figures_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = report(Budget())
    assert "latency p90  " in terminal.plain(table_of(manifest))
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert "cold start" in render("terminal", manifest)


# --- HTML ---------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags with their attributes; complains about tags that are not closed."""

    VOID = ("meta", "link", "img", "br", "line", "rect", "circle", "path")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nothing_of_the_network(mixed: Manifest) -> None:
    text = render("html", mixed)
    page = Page(text)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not any(key in attributes for _, attributes in page.tags for key in ("src", "href", "onload"))
    assert "url(" not in text and "@import" not in text and "://" not in text
    assert text.index("INCONCLUSIVE") < text.index("latency_p50_ms")
    assert "prefers-color-scheme: dark" in text and "@media print" in text


def test_the_page_lists_the_rows_that_changed_and_their_text_only_when_it_was_kept() -> None:
    told, silent = (render("html", rich(rows=30, texts=texts)) for texts in (True, False))
    for text in (told, silent):
        assert "Rows that changed their answer" in text
        assert "<td>3</td><td>negative</td><td>negative</td><td>positive</td>" in text
        assert text.count("<tbody>") == 30
        assert "<summary>10 more rows</summary>" in text
    assert told.count("which nobody cut") == 30
    assert "which nobody cut" not in silent


def test_the_page_names_the_ten_costliest_operators() -> None:
    text = render("html", rich())
    assert text.count("/attention/self/query/") == 10
    assert "Together 84.8% of the time" in text
    assert re.search(r"<td>MatMul /encoder/layer\.0/.*int8, cpu.*19\.0%", text)


def test_page_and_markdown_show_what_quantizing_each_group_costs_and_what_was_kept_high() -> None:
    manifest = rich()
    page, text = render("html", manifest), render("markdown", manifest)
    for each in sensitivity():
        assert each.group in page
    assert "6 nodes, kept high" in page and "31 answers changed, 0.41 ms saved" in page
    assert "21.30%" in text and "6 nodes, kept high" in text
    assert "quantized alone" not in render("markdown", bare())


def test_page_and_markdown_show_what_the_artifact_was_calibrated_on() -> None:
    manifest = rich()
    for text in (render("html", manifest), render("markdown", manifest)):
        for told in ("300 of 5,400, 2 of them repeat another", "6 to 53, half of them 17 to 31, median 23"):
            assert told in text
        assert "negative 161, positive 139" in text and "row 217" in text and "14 of 38 ranges" in text
        assert "82.5, without it 21" in text and "arning" in text and "sequence 53" in text
    assert "calibrated on" not in render("html", bare()) + render("markdown", bare())


def test_the_page_leaves_out_what_was_not_told(mixed: Manifest) -> None:
    text = render("html", mixed)
    for title in ("Costliest operators", "Mix of shapes", "Rows that changed", "steal", "stolen"):
        assert title not in text
    full = render("html", rich())
    for title in ("Costliest operators", "Mix of shapes", "Rows that changed", "time stolen by other guests"):
        assert title in full


def test_what_a_report_names_can_never_become_markup(mixed: Manifest) -> None:
    check = dataclasses.replace(table_of(mixed).checks[0], key=EVIL, reason=EVIL, unit=EVIL)
    machine = dataclasses.replace(table_of(mixed).machine, cpu=EVIL)
    evil = changed(mixed, artifact_name=EVIL, checks=(check,), notes=(EVIL,), machine=machine)
    text = render("html", evil)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert Page(text).open == []


def test_a_long_measurement_stays_one_small_page() -> None:
    full = rich(count=500, runs=50, rows=1510, texts=True)
    accuracy = table_of(full).accuracy
    assert accuracy is not None
    heavy = tuple(dataclasses.replace(row, text=row.text * 1000) for row in accuracy.changed)
    full = changed(full, accuracy=dataclasses.replace(accuracy, changed=heavy))
    text = render("html", full)
    assert len(text.encode("utf-8")) < 1_500_000
    assert "1010 more rows changed their answer and are not listed here" in text


def test_a_report_of_nothing_but_a_verdict_is_still_a_page() -> None:
    for name in FORMATS:
        assert "NOT_MEASURED" in render(name, bare())
