"""The command `export`."""

from __future__ import annotations

import click

from headwater.cli.base import Session, argument, command
from headwater.cli.layout import count, size
from headwater.cli.output import busy, clean, strong

__all__ = ["export"]


@command(
    "export",
    ref=True,
    example="""\
headwater export out/
headwater export out/ --ref main@{2026-11-01T00:00:00Z}
cd out && duckdb -init headwater.sql""",
)
@argument("folder", "DIR", type=click.Path())
def export(session: Session, folder: str) -> None:
    """Write everything as files that need no Headwater.

    DIR must be new or empty. It gets the tables as Delta tables, which any Delta client opens, the objects as plain
    files, and headwater.sql, with which the stock client of DuckDB has the same tables and views.
    """
    with session.open() as registry, busy("exporting"):
        found = registry.export(folder)
    session.emit(
        found,
        lambda: [
            f"{strong(clean(found.path))} holds {count(found.tables, 'table')} and {count(found.objects, 'object')}"
            f" ({size(found.bytes)}) of commit {found.commit[:12]}",
            f"Ask it: cd {clean(folder)} && duckdb -init headwater.sql",
        ],
    )
