"""HTML for notebooks, the one place that makes it: every text is escaped, long lists are cut; knows no nouns."""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from headwater.errors import HeadwaterError

__all__ = ["MOST_ROWS", "Markup", "card", "escape", "fields", "frame", "heading", "paragraph", "table"]

MOST_ROWS = 100
"""Rows of a table that are shown."""

_MOST_CHARACTERS = 2000
_MOST_ITEMS = 20
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Markup(str):
    """Text that is HTML already; only this module, and what draws pictures, makes it."""

    __slots__ = ()


def escape(value: object) -> Markup:
    """Return any value as HTML that shows it and does nothing else.

    What would turn the direction of a line, or can't be seen, is written as an escape; long values are cut.
    """
    if isinstance(value, Markup):
        return value
    text = _text(value)
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]}… ({len(text):,} characters)"
    return Markup(html.escape(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        return _cut((f"{key}={_text(each)}" for key, each in value.items()), len(value))
    if isinstance(value, list | tuple):
        return _cut(map(_text, value), len(value))
    return str(value)


def _cut(texts: Iterable[str], count: int) -> str:
    shown = ", ".join(islice(texts, _MOST_ITEMS))
    return shown if count <= _MOST_ITEMS else f"{shown}, … ({count:,} in all)"


# -- parts ------------------------------------------------------------------------------------------------------------
def frame(*parts: Markup) -> Markup:
    """Return parts as one output; what is between dollar signs in it is no formula."""
    return Markup(f'<div class="headwater tex2jax_ignore mathjax_ignore">{"".join(parts)}</div>')


def heading(kind: str, text: object) -> Markup:
    """Return the title of an output: what kind of thing, and which."""
    return Markup(f"<p><strong>{escape(text)}</strong> <small>{escape(kind)}</small></p>")


def paragraph(text: object) -> Markup:
    """Return a paragraph."""
    return Markup(f"<p>{escape(text)}</p>")


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    total: int | None = None,
    right: Iterable[int] = (),
    most: int = MOST_ROWS,
) -> Markup:
    """Return a table of the first rows, and below it how many there are where that is more.

    Args:
        headers: Names of the columns.
        rows: Cells; no more are taken than are shown.
        total: How many rows there are; by default as many as `rows` has.
        right: Numbers of the columns that are aligned to the right.
        most: How many rows are shown.
    """
    if total is None:
        rows = list(rows)
        total = len(rows)
    to_right = set(right)

    def line(cells: Iterable[object], tag: str) -> str:
        return "".join(
            f'<{tag} style="text-align:{"right" if i in to_right else "left"}">{escape(cell)}</{tag}>'
            for i, cell in enumerate(cells)
        )

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in islice(rows, most))
    more = paragraph(f"{total:,} rows, the first {most:,} shown") if total > most else ""
    return Markup(f"<table><thead><tr>{line(headers, 'th')}</tr></thead><tbody>{body}</tbody></table>{more}")


def fields(rows: Iterable[tuple[str, object]]) -> Markup:
    """Return labelled values; those that are None, false or empty are left out."""
    body = "".join(
        f'<tr><th style="text-align:left">{escape(label)}</th><td style="text-align:left">{escape(value)}</td></tr>'
        for label, value in rows
        if value is not None and value is not False and value not in ("", (), [], {})
    )
    return Markup(f"<table><tbody>{body}</tbody></table>")


def card(kind: str, title: object, thing: Any, names: str) -> str:
    """Return a thing as its title and some of its attributes.

    Args:
        kind: What it is.
        title: What it is called.
        thing: It; an attribute that is read from a lake is left out where that fails.
        names: Its attributes, with spaces between.
    """
    rows: list[tuple[str, object]] = []
    for name in names.split():
        with contextlib.suppress(HeadwaterError, RuntimeError):
            value = getattr(thing, name)
            rows.append((name.replace("_", " "), dict(value) if isinstance(value, Mapping) else value))
    return frame(heading(kind, title), fields(rows))
