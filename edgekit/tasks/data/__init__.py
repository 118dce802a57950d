"""Rows from data files, checked against what the task and the model know.

files.py    records of .jsonl and .csv          folders.py   a folder of images or recordings for each class
parquet.py  cells of .parquet                   embedded.py  pictures and recordings inside it
cells.py    one cell, by what the column holds  masks.py     masks and sizes of images
rows.py     `read_rows`: records to rows; `each_row`: one at a time

Every refusal names the file, the row and the column: a row that is skipped or guessed at would be a wrong
measurement.
"""

from __future__ import annotations

from edgekit.tasks.data.rows import count_rows, each_row, media_files, read_rows

__all__ = ["count_rows", "each_row", "media_files", "read_rows"]
