"""Text for eyes: aligned tables and fields, sizes, times and counts; knows nothing of models."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from headwater.cli.output import clean, dim, is_terminal, strong
from headwater.names import counted as count

__all__ = ["ago", "count", "fields", "moment", "pairs", "paragraph", "short", "size", "table", "verdict", "width"]

_GAP = "  "
_LEAST = 24
"""Columns that the last column of a table has, however narrow the terminal is."""


def width(text: str) -> int:
    """Return how many columns of a terminal a cleaned text takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) or c in "\u200c\u200d" else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def _fit(text: str, columns: int) -> str:
    """Return text cut to that many columns."""
    if width(text) <= columns:
        return text
    kept, used = "", 0
    for character in text:
        used += width(character)
        if used > columns - 1:
            break
        kept += character
    return kept.rstrip() + "…"


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[str | int] = (), first: bool = True
) -> list[str]:
    """Return the lines of a table; on a terminal its last column is cut at the terminal's edge.

    Args:
        headers: Names of the columns.
        rows: Cells; None is an empty one. Cells are cleaned here.
        right: Columns that are aligned to the right, by name or number.
        first: Whether the first column stands out.
    """
    cells = [["" if cell is None else clean(cell) for cell in row] for row in rows]
    names = [clean(header) for header in headers]
    wide = [max([width(name), *(width(row[i]) for row in cells)]) for i, name in enumerate(names)]
    last = len(names) - 1
    room = _columns() - sum(wide[:last]) - len(_GAP) * last
    chosen = set(right)
    to_right = {i for i, header in enumerate(headers) if i in chosen or header in chosen}

    def line(row: Sequence[str], paint_first: bool, heading: bool) -> str:
        parts = []
        for i, cell in enumerate(row):
            if i == last and i not in to_right:
                text, padding = (_fit(cell, max(room, _LEAST))), ""
            else:
                text, padding = cell, " " * (wide[i] - width(cell))
            shown = dim(text) if heading else strong(text) if paint_first and i == 0 else text
            parts.append(padding + shown if i in to_right else shown + padding)
        return _GAP.join(parts).rstrip()

    return [line(names, False, True), *(line(row, first, False) for row in cells)]


def _columns() -> int:
    """Return the terminal's width; without one, lines are as long as they are."""
    if not is_terminal(sys.stdout):
        return 1 << 30
    try:
        return int(os.environ.get("COLUMNS") or 0) or os.get_terminal_size(sys.stdout.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def fields(rows: Iterable[tuple[str, object]]) -> list[str]:
    """Return the lines of labelled values; those that are None or empty are left out."""
    kept = [(label, clean(value)) for label, value in rows if value is not None and value != ""]
    wide = max((len(label) for label, _ in kept), default=0)
    return [f"{dim(label)}{' ' * (wide - len(label))}{_GAP}{value}" for label, value in kept]


def paragraph(text: str) -> list[str]:
    """Return free text in its lines, cleaned and set in a little."""
    return ["  " + clean(line) for line in text.splitlines()]


def pairs(values: Iterable[tuple[object, object]]) -> str:
    """Return `key=value` pairs on one line."""
    return _GAP.join(f"{key}={value}" for key, value in values)


def moment(when: datetime) -> str:
    """Return a time to the second, in UTC."""
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(when: datetime) -> str:
    """Return how long a time lies back, as people say it."""
    seconds = max(0, int((datetime.now(UTC) - when).total_seconds()))
    for unit, length in (("year", 31_557_600), ("month", 2_629_800), ("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return count(seconds // length, unit)
    return count(seconds, "second")


def short(commit: str) -> str:
    """Return the beginning of a commit ID or digest: enough to name it by."""
    return commit[:12]


def size(number: int | None) -> str:
    """Return a number of bytes as people say it."""
    if number is None:
        return ""
    amount = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def verdict(reasons: Sequence[str]) -> str:
    """Return `yes` where nothing speaks against something, or else `no` and what does."""
    return f"no, because {'; '.join(reasons)}" if reasons else "yes"
