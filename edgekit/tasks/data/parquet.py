"""Cells of a parquet file, a few rows in memory at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.errors import DataError
from edgekit_runtime.errors import MissingDependency

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

#: Rows that are decoded together.
_BATCH = 32
#: A group of rows is decoded page by page, and a page may be as large as its group. Writers make groups of
#: 1 GiB at most; one that claims more, or a hundredfold of its bytes, would fill the memory of this machine.
_MOST_GROUP_BYTES, _MOST_RATIO, _SMALL_GROUP = 2 << 30, 100, 64 << 20
_BUFFER = 1 << 16
_WRITE_AGAIN = "write it again, for example with pandas: frame.to_parquet(path)"


def parquet_cells(
    path: Path, columns: Collection[str]
) -> Iterator[tuple[Mapping[str, object], tuple[str, ...]]]:
    """The cells of each row by column, and the names of all columns in the file. Of the columns only those
    in `columns` are decoded, all when it is empty.

    Raises MissingDependency without the library, DataError for a file that is damaged or expands too far.
    """
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as problem:
        raise MissingDependency(
            f"{path}: reading parquet needs the library pyarrow: {problem}",
            hint="pip install 'edgekit[parquet]', or convert the file to .jsonl",
        ) from None
    try:
        with path.open("rb") as stream, ParquetFile(stream, buffer_size=_BUFFER, pre_buffer=False) as file:
            names = tuple(file.schema_arrow.names)
            _refuse(path, file, names)
            wanted = [name for name in names if not columns or name in columns]
            for batch in file.iter_batches(batch_size=_BATCH, columns=wanted, use_threads=False):
                for cells in batch.to_pylist():
                    yield {name: _plain(cell) for name, cell in cells.items()}, names
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: a text in it is not UTF-8: {problem.reason}", hint=_WRITE_AGAIN) from None
    except (pyarrow.ArrowException, OSError, ValueError) as problem:
        if isinstance(problem, OSError) and problem.errno:
            raise  # of the disk, not of the format
        reason = str(problem).partition("\n")[0] or type(problem).__name__
        raise DataError(
            f"{path}: is no parquet file, or a damaged one: {reason}", hint=_WRITE_AGAIN
        ) from None


def _refuse(path: Path, file: ParquetFile, names: tuple[str, ...]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: two columns are called {twice[0]!r}", hint="rename one of them")
    metadata = file.metadata
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        packed = sum(group.column(column).total_compressed_size for column in range(group.num_columns))
        size = group.total_byte_size
        bomb = size > _SMALL_GROUP and size > _MOST_RATIO * max(1, packed)
        if bomb or size > _MOST_GROUP_BYTES:
            raise DataError(
                f"{path}: group {number + 1} of its rows expands from {packed:,} to {size:,} bytes",
                hint="write it again with smaller groups (row_group_size=1000)",
            )


def _plain(cell: object) -> object:
    """Numbers of fixed precision as JSON has them; the readers of cells refuse what JSON has not."""
    return float(cell) if isinstance(cell, Decimal) else cell
