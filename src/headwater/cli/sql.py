"""The command `sql`: one query, a script of them, or a shell."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack

import click

from headwater.cli.base import Command, Session, command, option, pairs
from headwater.cli.layout import count
from headwater.cli.output import busy, clean, is_terminal, note
from headwater.cli.query_output import FORMATS, print_rows, save_rows
from headwater.errors import InvalidInputError, NotFoundError

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
headwater sql "FROM models ANTI JOIN lake_at('main~5', 'models') USING (model_id)"
echo "FROM aliases; FROM models" | headwater sql
headwater sql""",
)
@click.argument("query", metavar="[QUERY]", required=False)
@option("--file", metavar="F", type=click.Path(), help="Read queries from a file, each but the last ended by `;`.")
@option("--format", type=click.Choice(FORMATS), help="How to print the rows; a table by default.")
@option("--output", metavar="FILE", type=click.Path(), help="Write the rows to a file, which is replaced as a whole.")
@option("--param", metavar="K=V", multiple=True, help="A value for $K in the query, as text. Repeatable.")
@option("--stats", is_flag=True, help="Say on standard error how many files of each large table were read.")
@option(
    "--timeout",
    metavar="S",
    type=click.FloatRange(min=0, min_open=True),
    default=300,
    show_default=True,
    help="Seconds until a query is stopped.",
)
def sql(
    session: Session,
    query: str | None,
    file: str | None,
    format: str | None,
    output: str | None,
    param: tuple[str, ...],
    stats: bool,
    timeout: float,
) -> None:
    """Run a query that reads, or open a shell for many.

    SQL is DuckDB's. The views (docs/sql.md) and the tables lake.* are as they are at the branch or --ref; in a query,
    lake_at('main~5', 'models') is a view, and lake_at('main~5', 'lake.models') a table, as it was at another ref.
    Without QUERY and --file, queries are read from standard input; on a terminal, a shell opens, whose .help says more.
    In JSON, NaN and infinities are the strings NaN, Infinity and -Infinity; in CSV, NULL is empty. Rows go out as they
    are found, so that there may be more of them than fit into memory.
    """
    if query is not None and file is not None:
        raise click.UsageError("give a query, or a file with one", click.get_current_context())
    values = pairs(param, "param")
    form = format or ("json" if session.json else "table")
    if session.json and output is None and form != "json":
        raise click.UsageError(f"--json and --format {form} contradict each other", click.get_current_context())
    shell = query is None and file is None and is_terminal(sys.stdin)
    if shell and (output is not None or not is_terminal(sys.stdout)):
        raise click.UsageError("a query is missing", click.get_current_context())
    if query is None and not shell:
        query, more = _alone(_read(file))
        if more:
            if output is not None:
                raise click.UsageError("one file can't take the rows of several queries", click.get_current_context())
            return _run_shell(session, form, values, timeout, stats, more)
    if query is None:
        return _run_shell(session, form, values, timeout, stats, None)
    with session.open() as registry, ExitStack() as held:
        with busy("running the query"):
            rows = held.enter_context(registry.sql_rows(query, values or None, timeout=timeout))
        if output is None:
            print_rows(rows, form)
        else:
            with busy("writing the rows"):
                written = save_rows(rows, form, output)
    if stats:
        note(*stats_lines(rows.files_read))
    if output is not None:
        document = {"output": output, "rows": written, "columns": list(rows.schema.names)}
        session.emit(document, lambda: [f"{count(written, 'row')} in {clean(output)}"])


def _run_shell(
    session: Session, form: str, values: dict[str, str], timeout: float, stats: bool, script: str | None
) -> None:
    from headwater.cli.shell import Shell

    with session.open() as registry:
        shell = Shell(registry, form=form, parameters=values, timeout=timeout, stats=stats)
        if script is None:
            shell.interact()
        else:
            shell.run(script)


def _alone(text: str) -> tuple[str, str]:
    """Return the one query of a text, or the text of a script: several queries, or commands of the shell."""
    from headwater.query_text import statements

    found, rest = statements(text)
    several = len([each for each in [*found, rest] if each.strip()]) > 1
    script = several or any(line.startswith(".") for line in text.splitlines())
    return ("", text) if script else (text, "")


def stats_lines(files_read: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return the lines that say how many files of each large table were read."""
    return [f"{table}: {read:,} of {count(there, 'file')} read" for table, (read, there) in files_read.items()]


def _read(file: str | None) -> str:
    try:
        if file is not None:
            with open(file, encoding="utf-8") as stream:
                return stream.read()
        return sys.stdin.read()
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        where = file if file is not None else "standard input"
        raise InvalidInputError(f"the query can't be read from {where}: {error}") from error
