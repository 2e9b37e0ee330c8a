"""Names and texts as SQL writes them; knows no query."""

from __future__ import annotations

import os

__all__ = ["identifier", "literal"]


def identifier(name: str) -> str:
    """Return a name of a column, table or catalog as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str | os.PathLike[str]) -> str:
    """Return a text, or a path, as SQL."""
    return "'" + os.fspath(text).replace("'", "''") + "'"
