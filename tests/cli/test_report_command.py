"""`edgekit report`: what it reads, refuses and writes, and its exit codes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from edgekit.files.manifests import Manifest, write_manifest
from edgekit.report import write_report_files
from edgekit.values import Budget, Outcome, ReportTable
from tests.conftest import Edgekit
from tests.report.samples import changed, launches, report

PASSING = Budget(artifact_mib=30)


def put(directory: Path, manifest: Manifest) -> Path:
    """A report directory as `validate` writes it."""
    directory.mkdir(parents=True)
    assert manifest.report is not None
    draft = write_manifest(directory, name=directory.name, inputs=manifest.inputs, table=manifest.report)
    write_report_files(directory, draft)
    write_manifest(directory, name=directory.name, inputs=manifest.inputs, table=manifest.report)
    return directory


def made(name: str, budget: Budget = PASSING) -> Manifest:
    return report(budget, launches(count=3, runs=10, seed=len(name)), name)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """quick.report (PASS), slow & big.report (FAIL), and what lies beside reports."""
    folder = tmp_path_factory.mktemp("build")
    put(folder / "quick.report", made("quick"))
    put(folder / "slow & big.report", made("slow & big", Budget(artifact_mib=1)))
    (folder / "notes").mkdir()
    (folder / "notes" / "todo.txt").write_text("later", encoding="utf-8")
    (folder / ".edgekit-quick.report-01234567.work").mkdir()
    return folder


@pytest.fixture
def own(build: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(build, tmp_path / "own")
    return tmp_path / "own"


def labels(shown: str) -> set[str]:
    return {row["label"] for group in json.loads(shown)["groups"] for row in group["rows"]}


# --- what it reads ----------------------------------------------------------------------------------


def test_directories_a_folder_of_them_and_report_files_are_the_same_to_it(
    edgekit: Edgekit, build: Path
) -> None:
    each = [build / "quick.report", build / "slow & big.report"]
    ways = [(build,), tuple(each), tuple(path / "report.json" for path in each), reversed(each)]
    shown = []
    for way in ways:
        done = edgekit("report", *way, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        data = json.loads(done.stdout)
        data.pop("created")
        shown.append(data)
    assert labels(json.dumps(shown[0])) == {"quick", "slow & big"}
    assert all(data == shown[0] for data in shown[1:])
    assert all(row["verified"] for group in shown[0]["groups"] for row in group["rows"])


def test_a_loose_report_file_is_read_and_said_to_be_unverified(
    edgekit: Edgekit, build: Path, tmp_path: Path
) -> None:
    loose = tmp_path / "mailed.json"
    shutil.copy(build / "quick.report" / "report.json", loose)
    done = edgekit("report", loose, build / "slow & big.report")
    assert done.returncode == 0
    assert f"{loose} was read without its manifest" in done.stdout
    data = json.loads(edgekit("report", loose, "--json").stdout)
    assert data["groups"][0]["rows"][0]["verified"] is False


def test_a_report_of_an_earlier_edgekit_without_the_newer_keys_is_read(
    edgekit: Edgekit, tmp_path: Path
) -> None:
    fields = dataclasses.fields(ReportTable)
    kept = {each.name for each in fields if each.default is each.default_factory is dataclasses.MISSING}
    path = put(tmp_path / "old.report", made("old")) / "report.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["report"] = {key: value for key, value in data["report"].items() if key in kept}
    old = tmp_path / "old.json"
    old.write_text(json.dumps(data), encoding="utf-8")
    done = edgekit("report", old)
    assert done.returncode == 0, done.stderr
    assert "Left out: old: no latency p90 and accuracy was measured." in done.stdout


# --- what it refuses --------------------------------------------------------------------------------


def refused(edgekit: Edgekit, *arguments: object) -> str:
    done = edgekit("report", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[" in done.stderr and "hint:" in done.stderr
    return done.stderr


def test_what_is_no_report_is_named(edgekit: Edgekit, own: Path, exported: Path) -> None:
    cases = {
        own / "nowhere": "no such file or directory",
        own / "notes": "holds no report, and none lies one level below it",
        own / "notes" / "todo.txt": "not valid JSON",
        own / "quick.report" / "report.html": "not valid JSON",
        own / "quick.report" / "manifest.json": "is not a report.json",
        exported: "holds an edgekit model, not a report",
    }
    for path, words in cases.items():
        said = refused(edgekit, own / "slow & big.report", path)
        assert str(path) in said and words in said


def test_no_argument_is_a_usage_error(edgekit: Edgekit) -> None:
    assert edgekit("report").returncode == 2


def test_a_changed_file_is_found(edgekit: Edgekit, own: Path) -> None:
    page = own / "quick.report" / "report.html"
    page.write_text(page.read_text(encoding="utf-8") + " ", encoding="utf-8")
    for given in (own, own / "quick.report", own / "quick.report" / "report.json"):
        said = refused(edgekit, given)
        assert "error[digest-mismatch]" in said and "report.html" in said


@pytest.mark.parametrize("text", ["", "{", '{"kind": "report"}', "[]"])
def test_a_damaged_report_below_a_folder_is_not_passed_over(edgekit: Edgekit, own: Path, text: str) -> None:
    (own / "quick.report" / "manifest.json").write_text(text, encoding="utf-8")
    assert "quick.report" in refused(edgekit, own)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"kind": "report", "verdict": "PASS"}'])
def test_a_damaged_report_file_is_named(edgekit: Edgekit, tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    assert str(path) in refused(edgekit, path)


def test_a_report_file_of_a_newer_edgekit_says_so(edgekit: Edgekit, own: Path) -> None:
    path = own / "newer.json"
    data = json.loads((own / "quick.report" / "report.json").read_text(encoding="utf-8"))
    path.write_text(json.dumps(data | {"schema": 99, "later": 1}), encoding="utf-8")
    assert "schema 99 is newer than this edgekit reads" in refused(edgekit, path)


def test_the_same_report_twice_is_refused_by_whatever_name(edgekit: Edgekit, own: Path) -> None:
    quick = own / "quick.report"
    shutil.copytree(quick, own / "copy.report")
    shutil.copy(quick / "report.json", own / "loose.json")
    (own / "link").symlink_to(quick)
    for again in (quick, quick / "report.json", own / "link", f"{own}/notes/../quick.report", own):
        assert f"{quick}, which was given too" in refused(edgekit, quick, again)
    for copy in (own / "copy.report", own / "loose.json"):
        said = refused(edgekit, quick, copy)
        assert str(copy) in said and f"holds the same report as {quick}" in said


def test_json_and_markdown_together_are_refused(edgekit: Edgekit, build: Path) -> None:
    done = edgekit("report", build, "--json", "--format", "markdown")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "usage"


# --- what it writes ---------------------------------------------------------------------------------


def test_the_page_is_written_and_links_to_each_report_from_where_it_lies(
    edgekit: Edgekit, build: Path, tmp_path: Path
) -> None:
    page = tmp_path / "site" / "overview.html"
    done = edgekit("report", build, "-o", page)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(page)
    links = re.findall(r'href="([^"]+)"', page.read_text(encoding="utf-8"))
    linked = {os.path.normpath(page.parent / urllib.parse.unquote(link)) for link in links}
    assert linked == {str(path / "report.html") for path in build.glob("*.report")}
    assert [path.name for path in page.parent.iterdir()] == ["overview.html"]


def test_an_earlier_page_is_replaced_and_nothing_else_without_force(
    edgekit: Edgekit, build: Path, tmp_path: Path
) -> None:
    page, foreign = tmp_path / "overview.html", tmp_path / "mine.html"
    foreign.write_text("<p>mine</p>", encoding="utf-8")
    for _ in range(2):
        assert edgekit("report", build, "-o", page).returncode == 0
    said = refused(edgekit, build, "-o", foreign)
    assert "error[bad-output]" in said and "--force" in said
    assert foreign.read_text(encoding="utf-8") == "<p>mine</p>"
    assert edgekit("report", build, "-o", foreign, "--force").returncode == 0
    assert foreign.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_page_has_no_place_on_a_directory_a_link_or_inside_a_report(
    edgekit: Edgekit, own: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.html").symlink_to(own / "notes" / "todo.txt")
    for place in (own, tmp_path / "link.html", own / "quick.report" / "overview.html"):
        assert "error[bad-output]" in refused(edgekit, own, "-o", place, "--force")
    assert (own / "notes" / "todo.txt").read_text(encoding="utf-8") == "later"
    assert edgekit("report", own).returncode == 0, "the reports are still whole"


def test_a_command_that_fails_leaves_the_earlier_page(edgekit: Edgekit, own: Path, tmp_path: Path) -> None:
    page = tmp_path / "overview.html"
    assert edgekit("report", own, "-o", page).returncode == 0
    before = page.read_bytes()
    (own / "quick.report" / "report.html").unlink()
    refused(edgekit, own, "-o", page)
    assert page.read_bytes() == before


def test_markdown_is_a_table_for_each_group(edgekit: Edgekit, build: Path) -> None:
    done = edgekit("report", build, "--format", "markdown")
    assert done.returncode == 0
    assert sum(line.startswith("| ") for line in done.stdout.splitlines()) == 4
    assert "slow \\& big" in done.stdout or "slow &amp; big" in done.stdout


# --- exit codes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ((Outcome.PASS, Outcome.PASS), 0),
        ((Outcome.PASS, Outcome.INCONCLUSIVE), 5),
        ((Outcome.NOT_MEASURED, Outcome.FAIL), 1),
        ((Outcome.INCONCLUSIVE, Outcome.FAIL), 1),
    ],
)
def test_only_when_asked_the_worst_verdict_is_the_exit_code(
    edgekit: Edgekit, tmp_path: Path, outcomes: tuple[Outcome, ...], code: int
) -> None:
    for number, outcome in enumerate(outcomes):
        put(tmp_path / f"{number}.report", changed(made(f"model-{number}"), verdict=outcome))
    assert edgekit("report", tmp_path).returncode == 0
    assert edgekit("report", tmp_path, "--fail-on-verdict").returncode == code


def test_a_report_that_judged_nothing_does_not_fail(edgekit: Edgekit, tmp_path: Path) -> None:
    put(tmp_path / "a.report", changed(made("a"), checks=(), verdict=Outcome.NOT_MEASURED))
    assert edgekit("report", tmp_path, "--fail-on-verdict").returncode == 0


# --- the house --------------------------------------------------------------------------------------


def test_its_help_imports_no_runtime_and_no_template() -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = ['edgekit', 'report', '--help']\n"
        "try:\n    runpy.run_module('edgekit', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "transformers", "onnx", "onnxruntime", "openvino", "numpy", "rich", "jinja2", "msgspec"}
    assert not set(done.stderr.split()) & heavy
    assert "edgekit report build/*.report" in done.stdout


def test_reports_read_from_disk_are_compared_by_what_they_hold(edgekit: Edgekit, tmp_path: Path) -> None:
    table = made("a").report
    assert table is not None and table.latency_p90_ms is not None
    slower = dataclasses.replace(table.latency_p90_ms, estimate=2 * table.latency_p90_ms.estimate)
    put(tmp_path / "a.report", made("a"))
    put(tmp_path / "b.report", changed(made("a"), artifact_name="b", latency_p90_ms=slower))
    shown = edgekit("report", tmp_path).stdout
    assert "at once (accuracy on 872 rows): a (" in shown or "at once (accuracy on 872 rows): a." in shown
