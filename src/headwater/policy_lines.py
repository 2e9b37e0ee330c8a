"""On which line of a TOML text each table and key stands, which `tomllib` does not tell; knows no policy."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Path", "line_of", "lines_of"]

Path = tuple[str | int, ...]
"""Keys from the top, with the position of a table in an array of tables: `("production", "gate", 0, "metric")`."""

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # a text of several lines
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[\[\]{}\n]"
    r"|[^\"'\#\[\]{}\n]+",
    re.DOTALL,
)
_KEY = re.compile(r"""^(?P<key>(?:"(?:\\.|[^"\\])*"|'[^']*'|[^"'=])+?)\s*=""")


def lines_of(text: str) -> Mapping[Path, int]:
    """Return the line, from 1, on which each table and each key begins, but no key of an inline table.

    Args:
        text: TOML that `tomllib` takes.
    """
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for line, statement, inside in _statements(text):
        if statement.startswith("[["):
            bare = _placed(_keys(statement[2 : statement.rindex("]]")]), counts)
            counts[bare] = counts.get(bare, -1) + 1
            table = (*bare, counts[bare])
        elif statement.startswith("["):
            table = _placed(_keys(statement[1 : statement.rindex("]")]), counts)
        elif (key := _KEY.match(statement)) is not None:
            path = table
            for part in _keys(key["key"]):
                path = (*path, part)
                found.setdefault(path, line)
            for at, begun in enumerate(inside):
                found.setdefault((*path, at), begun)
            continue
        for size in range(1, len(table) + 1):
            found.setdefault(table[:size], line)
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int:
    """Return the line of what a path names, or of the nearest thing around it."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _statements(text: str) -> Iterator[tuple[int, str, list[int]]]:
    """Yield each header and each key with its value, the line on which it begins, and those of the tables in an array.

    Comments are left out.
    """
    line = begun = 1
    opened = ""
    parts: list[str] = []
    inside: list[int] = []
    has_begun = False
    for token in _TOKEN.findall(text.replace("\r\n", "\n")):
        if token in ("[", "{"):
            if token == "{" and opened == "[":
                inside.append(line)
            opened += token
        elif token in ("]", "}"):
            opened = opened[:-1]
        if token == "\n" and not opened:
            if has_begun:
                yield begun, "".join(parts).strip(), inside
            parts, inside, has_begun = [], [], False
        elif not token.startswith("#"):
            if not has_begun and token.strip():
                begun, has_begun = line, True
            parts.append(token)
        line += token.count("\n")
    if has_begun:
        yield begun, "".join(parts).strip(), inside


def _keys(dotted: str) -> list[str]:
    """Return the parts of a key such as `a."b c".d`."""
    value: Any = tomllib.loads(f"{dotted.strip()} = 0")
    parts = []
    while isinstance(value, dict):
        ((part, value),) = value.items()
        parts.append(part)
    return parts


def _placed(keys: list[str], counts: Mapping[Path, int]) -> Path:
    """Return the path of a header; a table inside of an array of tables is in the newest of them."""
    path: Path = ()
    for at, key in enumerate(keys):
        path = (*path, key)
        if at < len(keys) - 1 and path in counts:
            path = (*path, counts[path])
    return path
