"""The page in a real browser: on a phone, in the dark, printed, and without a network.

Needs Debian's `chromium` (any recent Chromium or Chrome). CI requires it; elsewhere the tests are skipped
when there is none.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgekit.files.manifests import Manifest
from edgekit.report import render
from tests.report import samples
from tests.report.browser import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
HOW = "no Chromium on PATH; on Debian: apt-get install -y --no-install-recommends chromium"
LONG_NAME = "a-name-without-any-space-that-is-longer-than-a-phone-is-wide-" * 3
PHONE, DESK = 390, 1280


def hostile() -> Manifest:
    """Names as long as names get, and markup in them."""
    full = samples.rich(count=20, rows=30, texts=True)
    assert full.report is not None and full.report.accuracy is not None
    evil = f"<img src='http://example.invalid/x.png'>{LONG_NAME}"
    return samples.changed(full, artifact_name=evil, notes=(evil,), reproduce=evil, target_name=evil)


SAMPLES = {
    "pass": samples.passing,
    "fail": samples.failing,
    "inconclusive": samples.disturbed,
    "bare": samples.bare,
    "rich": samples.rich,
    "hostile": hostile,
}
#: Elements with a text of their own whose colour differs too little from what lies behind (WCAG 2.2, 1.4.3).
PALE_TEXT = """
(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const pale = [];
  let seen = 0;
  for (const node of document.body.querySelectorAll('*')) {
    const own = [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim());
    if (!own || node.tagName === 'title') continue;
    const style = getComputedStyle(node);
    const ink = channels(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(node))].sort((x, y) => y - x);
    seen += 1;
    if ((a + 0.05) / (b + 0.05) < 4.5) pale.push(node.outerHTML.slice(0, 120));
  }
  return [seen, pale];
})()
"""
#: Texts of a drawing that write over each other, or leave it.
BAD_LABELS = """
(() => {
  const bad = [];
  for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll('text')]
      .map(node => [node.textContent, node.getBoundingClientRect()]);
    boxes.forEach(([words, box], index) => {
      if (box.left < frame.left - 1 || box.right > frame.right + 1) bad.push('outside: ' + words);
      for (const [other, one] of boxes.slice(index + 1)) {
        const across = Math.min(box.right, one.right) - Math.max(box.left, one.left);
        const down = Math.min(box.bottom, one.bottom) - Math.max(box.top, one.top);
        if (across > 1 && down > 4) bad.push(words + ' over ' + other);
      }
    });
  }
  return bad;
})()
"""


def found() -> str:
    return next((path for name in NAMES if (path := shutil.which(name))), "")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not found():
        if os.environ.get("CI") == "true" or os.environ.get("EDGEKIT_REQUIRE_BROWSER"):
            pytest.fail(HOW)
        pytest.skip(HOW)
    running = Browser(found(), tmp_path_factory.mktemp("profile"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with every sample as a page."""
    directory = tmp_path_factory.mktemp("pages")
    for name, make in SAMPLES.items():
        (directory / f"{name}.html").write_text(render("html", make()), encoding="utf-8")
    return directory


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_loads_without_a_request_or_a_complaint(browser: Browser, pages: Path, name: str) -> None:
    page = Page(browser, pages / f"{name}.html", DESK)
    assert page.evaluate("document.readyState") == "complete"
    requested = {each["request"]["url"] for each in page.told("Network.requestWillBeSent")}
    assert requested == {page.url}
    complaints = page.told("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert complaints == []


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_wider_than_the_screen(browser: Browser, pages: Path, name: str, width: int) -> None:
    page = Page(browser, pages / f"{name}.html", width)
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    assert page.evaluate("window.innerWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(BAD_LABELS) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_text_stands_out_from_what_lies_behind(
    browser: Browser, pages: Path, name: str, scheme: str
) -> None:
    page = Page(browser, pages / f"{name}.html", DESK, scheme)
    assert page.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches") is True
    seen, pale = page.evaluate(PALE_TEXT)
    assert seen > 10
    assert pale == []


def test_these_checks_see_what_they_look_for(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text(
        """<!doctype html><meta charset="utf-8"><meta name="viewport" content="width=device-width">
        <body style="background: #fff"><p style="color: #bbb">pale</p><div style="width: 700px">wide</div>
        <img src="other.png"><svg viewBox="0 0 90 20" width="300"><text y="10">one</text>
        <text y="11">two</text><text x="80" y="10">leaves</text></svg><script>console.warn("no")</script>""",
        encoding="utf-8",
    )
    page = Page(browser, path, PHONE)
    assert len(page.told("Network.requestWillBeSent")) == 2
    assert page.told("Runtime.consoleAPICalled")
    assert page.evaluate("document.documentElement.scrollWidth") > PHONE
    assert [found for found in page.evaluate(PALE_TEXT)[1] if "pale" in found]
    labels = page.evaluate(BAD_LABELS)
    assert "one over two" in labels and "outside: leaves" in labels


def test_dark_pages_are_dark(browser: Browser, pages: Path) -> None:
    def shade(scheme: str) -> Any:
        page = Page(browser, pages / "pass.html", DESK, scheme)
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = (sum(map(int, re.findall(r"\d+", shade(scheme)))) for scheme in ("light", "dark"))
    assert dark < 3 * 64 < 3 * 192 < light


@pytest.mark.parametrize("name", SAMPLES)
def test_the_page_can_be_printed(browser: Browser, pages: Path, name: str) -> None:
    printed = Page(browser, pages / f"{name}.html", DESK, "dark").pdf()
    assert printed.startswith(b"%PDF-")
    count = len(re.findall(rb"/Type\s*/Page\b(?!s)", printed))
    assert (count == 1) if name == "bare" else (2 <= count <= 20)
