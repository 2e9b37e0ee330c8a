"""The text of queries: where one ends, and where `lake_at('REF', 'TABLE')` stands; knows no refs and no DuckDB.

What stands in strings, quoted names and comments is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headwater.errors import InvalidInputError

__all__ = ["Call", "Rewritten", "calls", "rewrite", "statements"]

_TOKEN = re.compile(
    r"""
      --[^\n]*
    | /\*
    | [eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | ['"]
    | (?P<dollar>\$(?:[A-Za-z_]\w*)?\$)
    | (?<![\w.$])(?P<call>lake_at)\s*\(
    | (?P<end>;)
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
    for token in _tokens(query):
        if token["call"]:
            given = _ARGUMENTS.match(query, token.end())
            if given is None:
                raise InvalidInputError(
                    "lake_at takes a ref and the name of a table or view, both in quotes",
                    hint="write lake_at('main~5', 'model_versions')",
                )
            ref, table = (text.replace("''", "'") for text in given.groups())
            found.append(Call(ref, table.strip(), token.start(), given.end()))
    return found


def statements(text: str) -> tuple[list[str], str]:
    """Return the statements of a text that end with a semicolon, without it, and what is left after the last."""
    found, start = [], 0
    for token in _tokens(text):
        if token["end"]:
            found.append(text[start : token.start()])
            start = token.end()
    return found, text[start:]


def _tokens(text: str) -> Iterator[re.Match[str]]:
    """Yield the words and signs of a text that matter here; what is within strings and comments is none."""
    place = 0
    while (token := _TOKEN.search(text, place)) is not None:
        place = token.end()
        if token[0] == "/*":
            place = _comment_end(text, place)
        elif token["dollar"]:
            closing = text.find(token["dollar"], place)
            place = closing + len(token["dollar"]) if closing >= 0 else len(text)
        elif token[0] in ("'", '"'):  # one that is not closed
            place = len(text)
        yield token


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
