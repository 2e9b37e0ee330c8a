"""`lake_at('REF', 'TABLE')` in a query: where it stands, and what it becomes; knows no refs, no rows and no DuckDB.

What stands in strings, quoted names and comments is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from headwater.errors import InvalidInputError

__all__ = ["Call", "Rewritten", "calls", "rewrite"]

_TOKEN = re.compile(
    r"""
      --[^\n]*
    | /\*
    | [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?P<dollar>\$(?:[A-Za-z_]\w*)?\$)
    | (?<![\w.$])(?P<call>lake_at)\s*\(
    | \w+
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_ARGUMENTS = re.compile(r"\s*'((?:[^']|'')*)'\s*,\s*'((?:[^']|'')*)'\s*\)")


@dataclass(frozen=True, slots=True)
class Call:
    """One call: the ref and the table that it names, and where it stands."""

    ref: str
    table: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A query in which calls have become names of tables."""

    text: str
    written: str
    """As it was written."""
    pieces: tuple[tuple[int, int], ...] = ((0, 0),)
    """Where text that was kept begins, in the new query and in the old one."""

    def place(self, position: int) -> tuple[int, int]:
        """Return the line and column, from 1, at which a position of the new query was written."""
        new, old = max((piece for piece in self.pieces if piece[0] <= position), default=(0, 0))
        before = self.written[: old + position - new]
        return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def calls(query: str) -> list[Call]:
    """Return the calls of `lake_at` in a query.

    Raises:
        InvalidInputError: One is not given two texts in quotes.
    """
    found = []
    place = 0
    while (token := _TOKEN.search(query, place)) is not None:
        place = token.end()
        if token[0] == "/*":
            place = _comment_end(query, place)
        elif token["dollar"]:
            closing = query.find(token["dollar"], place)
            place = closing + len(token["dollar"]) if closing >= 0 else len(query)
        elif token["call"]:
            given = _ARGUMENTS.match(query, place)
            if given is None:
                raise InvalidInputError(
                    "lake_at takes a ref and the name of a table or view, both in quotes",
                    hint="write lake_at('main~5', 'model_versions')",
                )
            place = given.end()
            ref, table = (text.replace("''", "'") for text in given.groups())
            found.append(Call(ref, table.strip(), token.start(), place))
    return found


def _comment_end(query: str, place: int) -> int:
    """Return where a comment ends whose `/*` ends at a place; comments nest."""
    depth = 1
    for mark in re.compile(r"/\*|\*/").finditer(query, place):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(query)


def rewrite(query: str, found: list[Call], name: Callable[[Call], str]) -> Rewritten:
    """Return the query with each call replaced by what `name` says."""
    text, done = "", 0
    pieces = [(0, 0)]
    for call in found:
        text += query[done : call.start] + name(call)
        done = call.stop
        pieces.append((len(text), done))
    return Rewritten(text + query[done:], query, tuple(pieces))
