"""The progress bar tells how long a command has been at work, whatever steps it has."""

from __future__ import annotations

import io
import re
import sys
import time

import pytest

from edgekit.cli.console import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [0, 4])
def test_the_clock_goes_on_after_a_step_is_done(monkeypatch: pytest.MonkeyPatch, total: int) -> None:
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    with progress(quiet=False) as tell:
        tell(1, 1, "writing")
        tell(0, total, "restoring accuracy")
        time.sleep(1.1)
    assert "restoring accuracy" in shown.getvalue()
    assert re.findall(r"\d+:\d\d:\d\d", shown.getvalue())[-1] != "0:00:00"
