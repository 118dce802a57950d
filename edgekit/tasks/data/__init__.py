"""Rows from data files, checked against what the task and the model know.

files.py    records of .jsonl and .csv          folders.py   a folder of images or recordings for each class
cells.py    one cell, by what the column holds  masks.py     masks and sizes of images
rows.py     `read_rows`: records to rows

Every refusal names the file, the row and the column: a row that is skipped or guessed at would be a wrong
measurement.
"""

from __future__ import annotations

from edgekit.tasks.data.rows import media_files, read_rows

__all__ = ["media_files", "read_rows"]
