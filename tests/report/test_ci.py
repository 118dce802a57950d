"""What a run tells GitHub Actions: a summary and annotations, and never a broken run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekit.cli.ci import announce
from edgekit.report import render
from edgekit.values import Budget, Outcome
from tests.report import samples


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests may run in a job themselves."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def test_outside_a_job_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    announce(samples.failing())
    assert capsys.readouterr() == ("", "")


def test_the_summary_is_appended_to_what_the_job_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("# before\n", encoding="utf-8")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    announce(samples.failing())
    announce(samples.passing())
    parts = [render("markdown", manifest) for manifest in (samples.failing(), samples.passing())]
    assert summary.read_text("utf-8") == f"# before\n{parts[0]}\n{parts[1]}\n"
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["", "missing/summary.md"])
def test_a_summary_that_cannot_be_written_is_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / where))
    announce(samples.passing())
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert "GITHUB_STEP_SUMMARY" in line


def test_each_limit_that_is_not_proven_gets_one_annotation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    budget = Budget(latency_p50_ms=8, latency_p99_ms=15, artifact_mib=30, energy_mj=50)
    manifest = samples.report(budget)
    assert manifest.report is not None
    words = {Outcome.FAIL: "error", Outcome.INCONCLUSIVE: "warning", Outcome.NOT_MEASURED: "warning"}
    expected = [
        f"::{words[check.outcome]} title=kiosk%3A {check.key} {check.outcome}::"
        for check in manifest.report.checks
        if check.outcome in words
    ]
    assert len(expected) == 3
    announce(manifest)
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err.splitlines()
    assert [line[: len(start)] for line, start in zip(lines, expected, strict=True)] == expected
    assert "10.07 (9.77 to 10.38) ms, limit <= 8 ms; 50 launches [launch-bets]" in lines[0]


def test_a_proven_report_gets_no_annotation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    announce(samples.passing())
    assert capsys.readouterr() == ("", "")


def test_goldens_that_differ_are_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    announce(samples.changed(samples.failing(), checks=()))
    assert capsys.readouterr().err == "::error title=kiosk%3A goldens FAIL::2 of 8 cases differ\n"


def test_a_name_cannot_begin_a_command_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    manifest = samples.report(Budget(latency_p50_ms=8))
    assert manifest.report is not None
    evil = "x,line=1::y\r\n::error::100%"
    check = dataclasses.replace(manifest.report.checks[0], reason=evil)
    announce(samples.changed(manifest, artifact_name=evil, checks=(check,)))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "::error title=x%2Cline=1%3A%3Ay%0D%0A%3A%3Aerror%3A%3A100%25%3A latency_p50_ms FAIL::"
    )
    assert line.endswith("x,line=1::y%0D%0A::error::100%25 [launch-bets]")
