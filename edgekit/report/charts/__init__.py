"""The page's drawings as inline SVG. Only numbers enter a drawing, and text that was escaped.

canvas.py        scales, axes, the frame        interval.py    a measured interval against its limit
launches.py      every run by launch            distribution.py  histogram and ECDF of the runs
conditions.py    the machine, launch by launch  bar.py         a share as a bar
"""

from __future__ import annotations

from edgekit.report.charts.bar import bar_svg
from edgekit.report.charts.conditions import conditions_svg
from edgekit.report.charts.distribution import ecdf_svg, histogram_svg
from edgekit.report.charts.interval import interval_svg
from edgekit.report.charts.launches import launches_svg

__all__ = ["bar_svg", "conditions_svg", "ecdf_svg", "histogram_svg", "interval_svg", "launches_svg"]
