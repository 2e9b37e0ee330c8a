"""What DuckDB raises as errors of ours, each in one sentence that says where in the query it is; knows no lake."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from headwater.errors import HeadwaterError, InvalidInputError, LakeError
from headwater.query_text import Rewritten

if TYPE_CHECKING:
    import duckdb

__all__ = ["named", "translated"]

_LINE = re.compile(r"^LINE (\d+): (.*)\n( *)\^", re.MULTILINE)


@contextlib.contextmanager
def translated(connection: duckdb.DuckDBPyConnection, query: Rewritten, timeout: float) -> Iterator[None]:
    """Turn what DuckDB raises into a HeadwaterError.

    Args:
        connection: Where the query is run.
        query: The query.
        timeout: Seconds that it was given.
    """
    import duckdb

    try:
        yield
    except HeadwaterError:
        raise
    except duckdb.InterruptException:
        raise LakeError(f"the query took longer than {timeout:g} seconds", hint="ask for less, or allow more") from None
    except duckdb.OutOfMemoryException:
        raise LakeError("the query needs more memory than it may use", hint="ask for fewer rows or columns") from None
    except duckdb.PermissionException as error:
        raise InvalidInputError(
            f"the query was refused: {_first_line(error)}", hint="a query reads the lake's tables alone"
        ) from error
    except duckdb.ParserException as error:
        raise InvalidInputError(
            f"the query can't be read: {_first_line(error)}{_where(error, query)}",
            hint=_second_line(error) or "write one SELECT",
        ) from error
    except (duckdb.Error, ValueError, RuntimeError) as error:
        shown = _where(error, query) or _where_planned(connection, query)
        raise InvalidInputError(f"the query can't be run: {_first_line(error)}{shown}", hint=_hint(error)) from error


def _where_planned(connection: duckdb.DuckDBPyConnection, query: Rewritten) -> str:
    """Return where an error is that DuckDB does not place: `execute` says more than `sql` does."""
    import duckdb

    try:
        connection.execute(f"EXPLAIN {query.text}")
    except (duckdb.Error, ValueError, RuntimeError) as error:
        return _where(error, query, "EXPLAIN ")
    return ""


def named(text: str) -> Exception:
    """Return DuckDB's error of a text: Arrow keeps that alone of what fails while rows are read."""
    import duckdb

    kinds = {
        "INTERRUPT": duckdb.InterruptException,
        "Out of Memory": duckdb.OutOfMemoryException,
        "Permission": duckdb.PermissionException,
    }
    return next((kind for name, kind in kinds.items() if text.startswith(name)), duckdb.Error)(text)


def _where(error: Exception, query: Rewritten, prefix: str = "") -> str:
    """Return where in a query the error is, as DuckDB's caret shows it; a prefix was asked with it."""
    found = _LINE.search(str(error))
    if found is None:
        return ""
    lines = (prefix + query.text).split("\n")
    number, shown = int(found[1]), found[2]
    caret = len(found[3]) - len(f"LINE {number}: ")
    if number > len(lines) or caret < 0:
        return ""
    # Long lines are cut at either side.
    cut = 3 if shown.startswith("...") else 0
    start = lines[number - 1].find(shown[cut:].removesuffix("..."))
    if start < 0:
        return ""
    place = sum(len(line) + 1 for line in lines[: number - 1]) + start + caret - cut - len(prefix)
    line, column = query.place(max(0, place))
    return f" (line {line}, column {column})"


def _lines(error: Exception) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()]


def _first_line(error: Exception) -> str:
    lines = _lines(error)
    return lines[0] if lines else type(error).__name__


def _second_line(error: Exception) -> str:
    lines = _lines(error)
    return lines[1] if len(lines) > 1 and not lines[1].startswith("LINE") else ""


def _hint(error: Exception) -> str:
    if "parameter" in str(error):
        return "give the value with --param NAME=VALUE"
    return _second_line(error) or "see docs/sql.md"
