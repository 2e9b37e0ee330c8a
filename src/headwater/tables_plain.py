"""Rows as a new Delta table in a local folder; knows neither lake nor meaning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["write_table"]


def write_table(folder: Path, rows: pa.Table, *, name: str, description: str) -> list[str]:
    """Make a Delta table of rows and return the paths of its data files, under the folder.

    Args:
        folder: Where; it must not be there.
        rows: The rows.
        name: What the table is called.
        description: What it is.
    """
    import shutil
    import tempfile

    from deltalake import write_deltalake

    # Made elsewhere: a path with a `%` is decoded as if it were a URL.
    with tempfile.TemporaryDirectory(prefix="headwater-") as scratch:
        write_deltalake(f"{scratch}/table", rows, name=name, description=description)
        shutil.move(f"{scratch}/table", folder)
    return sorted(each.name for each in folder.glob("*.parquet"))
