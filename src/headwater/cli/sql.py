"""The command `sql`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Command, Session, command, option, pairs
from headwater.cli.layout import count
from headwater.cli.output import busy, clean, emit, is_terminal, json_text, note, write
from headwater.errors import InvalidInputError, LakeError, NotFoundError

if TYPE_CHECKING:
    from headwater.query import QueryResult

__all__ = ["sql"]

_COMMENT = re.compile(r"--(?![a-z]+=)\S*\s")


class _Sql(Command):
    """A command whose argument may begin with `--`, as a comment of SQL does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tell a query from an option: it has a space in it, and not only after `--name=`."""
        return super().parse_args(ctx, [f" {each}" if _COMMENT.match(each) else each for each in args])


@command(
    "sql",
    ref=True,
    cls=_Sql,
    example="""\
headwater sql "SELECT name, version, aliases FROM model_versions"
headwater sql 'SELECT value FROM metrics WHERE key = $key' --param key=auc --format csv --output auc.csv
headwater sql "FROM models" --ref main~3
echo "FROM aliases" | headwater sql""",
)
@click.argument("query", metavar="[QUERY]", required=False)
@option("--file", metavar="F", type=click.Path(), help="Read the query from a file.")
@option("--format", type=click.Choice(["table", "json", "csv"]), help="How to print the rows; a table by default.")
@option("--output", metavar="FILE", type=click.Path(), help="Write the rows to a file, which is replaced as a whole.")
@option("--param", metavar="K=V", multiple=True, help="A value for $K in the query, as text. Repeatable.")
@option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    default=300,
    show_default=True,
    help="Seconds until the query is stopped.",
)
def sql(
    session: Session,
    query: str | None,
    file: str | None,
    format: str | None,
    output: str | None,
    param: tuple[str, ...],
    timeout: float,
) -> None:
    """Run one query that reads the lake's tables.

    SQL is DuckDB's. The views models, model_versions, aliases, metrics, slice_metrics, datasets and history, and the
    tables lake.*, are as they are at the branch or --ref. Without QUERY and --file it is read from standard input. In
    JSON, NaN and infinities are the strings NaN, Infinity and -Infinity; in CSV, NULL is empty.
    """
    if query is not None and file is not None:
        raise click.UsageError("give a query, or a file with one", click.get_current_context())
    text = query if query is not None else _read(file)
    values = pairs(param, "param")
    form = format or ("json" if session.json else "table")
    if session.json and output is None and form != "json":
        raise click.UsageError(f"--json and --format {form} contradict each other", click.get_current_context())
    with session.open() as registry, busy("running the query"):
        found = registry.sql(text, values or None, timeout=timeout)
    if output is None:
        _print(found, form)
        return
    _save(found, form, output)
    document = {"output": output, "rows": len(found), "columns": found.columns}
    session.emit(document, lambda: [f"{count(len(found), 'row')} in {clean(output)}"])


def _read(file: str | None) -> str:
    try:
        if file is not None:
            with open(file, encoding="utf-8") as stream:
                return stream.read()
        if is_terminal(sys.stdin):
            raise click.UsageError("a query is missing", click.get_current_context())
        return sys.stdin.read()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        where = file if file is not None else "standard input"
        raise InvalidInputError(f"the query can't be read from {where}: {error}") from error


def _print(found: QueryResult, form: str) -> None:
    from headwater.cli.rows import csv_lines, documents, table_lines

    if form == "json":
        emit(json_text(documents(found)))
    elif form == "csv":
        # A file gets the text as it is; a terminal would obey it.
        seen = is_terminal(sys.stdout)
        for record in csv_lines(found):
            write(clean(record.removesuffix("\r\n")) + "\r\n" if seen else record)
    else:
        emit(*table_lines(found))
        if is_terminal(sys.stderr):
            note(count(len(found), "row"))


def _save(found: QueryResult, form: str, output: str) -> None:
    import os

    from headwater.cli.rows import csv_lines, documents, table_lines

    if form == "json":
        parts = iter([json_text(documents(found)), "\n"])
    elif form == "csv":
        parts = csv_lines(found)
    else:
        parts = (line + "\n" for line in table_lines(found))
    place = os.path.realpath(output)
    # What is no plain file, such as /dev/stdout or a pipe, is written to, and not replaced.
    plain = not os.path.lexists(place) or os.path.isfile(place)
    beside = f"{place}.{os.getpid()}.part" if plain else place
    try:
        with open(beside, "x" if plain else "w", encoding="utf-8", newline="") as stream:
            stream.writelines(parts)
        if plain:
            os.replace(beside, place)
    except OSError as error:
        raise LakeError(f"{output} can't be written: {error.strerror}", hint="choose another --output") from error
    finally:
        if plain and os.path.lexists(beside):
            os.unlink(beside)
