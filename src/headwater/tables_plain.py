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
    from deltalake import DeltaTable, write_deltalake

    write_deltalake(str(folder), rows, name=name, description=description)
    files = DeltaTable(str(folder)).file_uris()
    return [Path(each).relative_to(folder).as_posix() for each in files]
