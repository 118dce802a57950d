"""A diff in words: the same ones for a terminal and for a pull request, and none that is not proven."""

from __future__ import annotations

import dataclasses

import pytest

from edgekit.report.difference import markdown, plain, sentences
from edgekit.values import (
    Change,
    Check,
    DiffFigure,
    DiffMethod,
    DiffSide,
    DiffTable,
    Interval,
    Outcome,
    PairRecord,
    PlacementChange,
    SettingChange,
)

SIDE = DiffSide(
    path="build/a|b",
    kind="artifact",
    name="a",
    digest="sha256:0",
    backend="engine",
    backend_version="1.0",
    precision="fp32",
    target="kiosk",
    threads=1,
    bytes=1 << 20,
)


def latency(change: Change, estimate: float, low: float | None, high: float | None) -> DiffFigure:
    return DiffFigure(
        key="latency_p50",
        unit="ms",
        change=change,
        old=10.0,
        new=10.0 * estimate,
        ratio=Interval(estimate=estimate, low=low, high=high),
    )


def table(figure: DiffFigure) -> DiffTable:
    return DiffTable(
        old=SIDE,
        new=dataclasses.replace(SIDE, precision="int8"),
        confidence=0.99,
        margin=0.05,
        figures=(
            figure,
            DiffFigure(key="peak_memory", unit="MiB", change=Change.NOT_MEASURED, reason="not told here"),
            DiffFigure(key="cold_start", unit="ms", change=Change.NOT_MEASURED, reason="not told here"),
        ),
        gates=(
            Check(
                key="slower",
                limit=1.05,
                unit="x",
                outcome=Outcome.FAIL,
                observed=Interval(estimate=1.2, low=1.1, high=None),
                reason="too slow",
            ),
            Check(
                key="less-accurate", limit=0.5, unit="points", outcome=Outcome.NOT_MEASURED, reason="no rows"
            ),
        ),
        threads=2,
        workload=({"batch": 1, "sequence": 32}, {"batch": 1, "sequence": 64}),
        pairs=(PairRecord(number=0, new_first=False, old_ms=10.0, new_ms=9.0, disturbed=True),),
        settings=(SettingChange(key="precision", old="fp32", new="int8"),),
        placement=(PlacementChange(precision="int8", device="cpu", old_nodes=0, new_nodes=63, new_time=0.9),),
        notes=("disturbed",),
    )


@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        (
            latency(Change.FASTER, 0.34, 0.33, 0.36),
            "NEW is 2.9 times as fast: ratio 0.340 (0.330 to 0.360) at 99 % confidence.",
        ),
        (
            latency(Change.FASTER, 0.948, 0.939, 0.96),
            "NEW is 5.2 % (4.0 % to 6.1 %) faster: ratio 0.948 (0.939 to 0.960) at 99 % confidence.",
        ),
        (
            latency(Change.FASTER, 0.948, None, 0.96),
            "NEW is 5.2 % faster: ratio 0.948 (? to 0.960) at 99 % confidence.",
        ),
        (
            latency(Change.SLOWER, 1.1, 1.05, 1.2),
            "NEW is 10.0 % (5.0 % to 20.0 %) slower: ratio 1.100 (1.050 to 1.200) at 99 % confidence.",
        ),
        (
            latency(Change.SLOWER, 12.5, 12.0, 13.0),
            "NEW takes 12 times as long: ratio 12.5 (12 to 13) at 99 % confidence.",
        ),
        (
            latency(Change.SAME, 1.0, 0.985, 1.0201),
            "NEW is as fast as OLD within 2.1 %: ratio 1.000 (0.985 to 1.020) at 99 % confidence.",
        ),
        (
            latency(Change.UNPROVEN, 1.0, None, None),
            "No difference in speed is proven: ratio 1.000 (no bound yet) at 99 % confidence.",
        ),
    ],
)
def test_the_sentence_says_what_is_proven(figure: DiffFigure, sentence: str) -> None:
    said = sentences(table(figure))
    assert said[0] == sentence
    assert said[1] == "FAIL: not slower FAIL, not less accurate NOT_MEASURED"


def test_unpaired_samples_are_called_so_and_a_missing_speed_too() -> None:
    stored = dataclasses.replace(latency(Change.FASTER, 0.5, 0.4, 0.6), method=DiffMethod.STORED)
    assert "from stored samples, not paired" in sentences(table(stored))[0]
    assert "faster (not paired)" in plain(table(stored))
    absent = DiffFigure(key="latency_p50", unit="ms", change=Change.NOT_MEASURED, reason="another machine")
    assert sentences(table(absent))[0] == "The speed of the two was not compared."
    assert "not measured: latency p50: another machine" in plain(table(absent))


def test_a_terminal_gets_columns_and_each_reason_once() -> None:
    text = plain(table(latency(Change.FASTER, 0.34, 0.33, 0.36)))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "OLD  build/a|b (artifact: engine 1.0, fp32)" in text
    assert "1 pair of launches, 1 disturbed, 2 threads, batch 1, sequence 32 or batch 1, sequence 64" in text
    assert "latency p50, ms 10 3.4 0.340 (0.330 to 0.360) faster" in rows
    assert "not slower <= 1.05 x 1.200 (1.100 to ?) FAIL too slow" in rows
    assert "int8 on cpu 0 63 - 90%" in rows
    assert text.count("not told here") == 1
    assert all(line == line.rstrip() for line in text.splitlines())


def test_markdown_is_a_table_that_no_name_can_break() -> None:
    text = markdown(table(latency(Change.FASTER, 0.34, 0.33, 0.36)))
    assert text.startswith("### edgekit diff: NEW is 2.9 times as fast")
    assert "build/a\\|b" in text
    assert "|  | OLD | NEW | NEW/OLD | NEW is |\n| --- | --- | --- | --- | --- |" in text
    assert "| not slower | &lt;= 1.05 x |" in text
    assert "* FAIL: not slower FAIL, not less accurate NOT_MEASURED" in text
    rows = [line for line in text.splitlines() if line.startswith("| latency")]
    assert rows == ["| latency p50, ms | 10 | 3.4 | 0.340 (0.330 to 0.360) | faster |"]
