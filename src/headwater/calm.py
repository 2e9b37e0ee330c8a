"""Settings of the DuckDB connections that work unseen: times in UTC, and no progress bar; knows no query."""

from __future__ import annotations

import contextlib
from typing import Any

__all__ = ["calm"]


def calm(connection: Any) -> None:
    """Make a connection print nothing and tell times in UTC."""
    connection.execute("SET TimeZone = 'UTC'")
    # In a notebook without ipywidgets DuckDB refuses the setting; there it has no bar to show either.
    with contextlib.suppress(Exception):
        connection.execute("SET enable_progress_bar = false")
