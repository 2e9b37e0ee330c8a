"""The shell of `headwater sql`: queries over several lines, commands that begin with a dot, history and completion.

The same reads a script: standard input that is no terminal, or a file. A script ends at its first error.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.cli.layout import count, table
from headwater.cli.output import busy, clean, emit, note, paint
from headwater.cli.query_output import BINARY, FORMATS, print_rows
from headwater.errors import HeadwaterError, InvalidInputError, NotFoundError
from headwater.query_text import statements
from headwater.sqltext import identifier

if TYPE_CHECKING:
    from headwater.registry import Registry

__all__ = ["Shell"]

_PLACE = re.compile(r" \(line (\d+), column (\d+)\)$")
_HISTORY = 10_000
_BREAKS = " \t\n\"'`@$><=;|&{(,)+-*/%!~[]"
"""What ends a word that is completed: not the dot of `lake.events`, or of `.tables`."""

_HELP = """\
Type a query and end it with ; or a command:
  .tables             list the views, macros and tables
  .schema NAME        show the columns of one, and how a view is made
  .ref [REF]          ask at another branch, tag, commit, main~3 or main@{time}; without REF, say where this is
  .mode FORMAT        print rows as table, json or csv
  .timer on|off       say how long a query took
  .help               show this text
  .quit               leave, as Ctrl-D does

Ctrl-C stops a query. lake_at('main~5', 'models') in a query is a view as it was at another ref."""


class Shell:
    """Runs what is typed, or what a script says.

    Args:
        registry: Where queries are asked.
        form: The format of rows.
        parameters: Values for `$name` in queries that have them.
        timeout: Seconds until a query is stopped.
        stats: Whether to say how many files of large tables were read.
    """

    def __init__(
        self, registry: Registry, *, form: str, parameters: dict[str, str], timeout: float, stats: bool
    ) -> None:
        self._root = self._registry = registry
        self._form = form
        self._parameters = parameters
        self._timeout = timeout
        self._stats = stats
        self._timer = False
        self._candidates: list[str] | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            ".help": lambda _: emit(_HELP),
            ".tables": self._tables,
            ".schema": self._schema,
            ".ref": self._ref,
            ".mode": self._mode,
            ".timer": self._set_timer,
            ".quit": self._quit,
            ".exit": self._quit,
        }

    # -- reading ------------------------------------------------------------------------------------------------
    def run(self, script: str) -> None:
        """Run queries and commands, one after another, up to the first that fails.

        Raises:
            HeadwaterError: One fails.
        """
        text = ""
        try:
            for line in script.splitlines(keepends=True):
                if not text.strip() and line.startswith("."):
                    self._command(line)
                    text = ""
                    continue
                found, text = statements(text + line)
                self._ask(found)
            self._ask([text])
        except EOFError:
            pass

    def interact(self) -> None:
        """Read from the terminal until it ends; errors are shown, and the next query may be typed."""
        self._timer = True
        history = _history_file()
        with _line_editor(self._complete, history):
            note(f"headwater {self._registry.url} at {clean(self._registry.ref)}; .help shows what can be typed")
            text = ""
            while True:
                try:
                    prompt = f"{clean(self._registry.ref)}> "
                    line = input(prompt if not text.strip() else f"{'...> ':>{len(prompt)}}") + "\n"
                    if not text.strip() and line.startswith("."):
                        text = ""
                        self._command(line)
                        continue
                    found, text = statements(text + line)
                    self._ask(found)
                except KeyboardInterrupt:
                    text = ""
                    note("")
                except EOFError:
                    if sys.stdin.closed or not text.strip():
                        break
                    text = ""
                except HeadwaterError as error:
                    _show(error)
            note("")

    # -- asking -------------------------------------------------------------------------------------------------
    def _ask(self, queries: Iterable[str]) -> None:
        for query in queries:
            if query.strip():
                try:
                    self._query(query.strip())
                except HeadwaterError as error:
                    error.__dict__["query"] = query.strip()
                    raise

    def _query(self, query: str) -> None:
        from contextlib import ExitStack

        from headwater.cli.sql import stats_lines

        began = time.monotonic()
        used = {name: value for name, value in self._parameters.items() if re.search(rf"\${re.escape(name)}\b", query)}
        with ExitStack() as held:
            with busy("running the query"):
                rows = held.enter_context(self._registry.sql_rows(query, used or None, timeout=self._timeout))
            written = print_rows(rows, self._form)
        if self._stats:
            note(*stats_lines(rows.files_read))
        if self._timer:
            note(paint(f"{count(written, 'row')} in {_seconds(time.monotonic() - began)}", "2", sys.stderr))

    # -- commands -----------------------------------------------------------------------------------------------
    def _command(self, line: str) -> None:
        word, _, rest = line.strip().rstrip(";").partition(" ")
        if word not in self._commands:
            raise InvalidInputError(f"there is no command {word[:40]!r}", hint=".help lists the commands")
        self._commands[word](rest.strip())

    def _quit(self, _: str) -> None:
        raise EOFError

    def _tables(self, _: str) -> None:
        from headwater.query import views

        rows = []
        for file, text in views():
            name = file.removesuffix(".sql").partition("_")[2]
            head = text.partition("\n-- Columns:")[0].replace("\n-- ", " ").removeprefix("-- ")
            signature, _, purpose = head.partition(": ")
            rows.append((signature or name, "macro" if "(" in signature else "view", purpose))
        from headwater.schema import TABLES

        rows += [(f"lake.{each.name}", "table", f"a row: {each.meaning}") for each in TABLES.values()]
        rows.append(("lake.commits", "table", "a row: a commit that this ref descends from"))
        rows.append(("lake.refused", "table", "a row: an event of a signed lake that has no force, and why"))
        emit(*table(["name", "kind", "what it is"], rows))

    def _schema(self, name: str) -> None:
        from headwater.query import views

        if not name:
            raise InvalidInputError(".schema needs a name", hint="write .schema model_versions, or .schema lake.events")
        made = {file.removesuffix(".sql").partition("_")[2]: text for file, text in views()}
        if name in made:
            emit(made[name].rstrip("\n"))
        if name not in made or "CREATE OR REPLACE MACRO" not in made[name]:
            parts = ".".join(identifier(part) for part in name.split("."))
            try:
                found = self._registry.sql(f"SELECT column_name, column_type FROM (DESCRIBE {parts})")
            except InvalidInputError:
                raise NotFoundError(f"there is no table or view {name[:80]!r}", hint=".tables lists them") from None
            emit(*table(["column", "type"], found.fetchall()))

    def _ref(self, ref: str) -> None:
        if ref:
            try:
                self._registry = self._root.branch(ref)
            except NotFoundError:
                self._registry = self._root.at(ref)
        emit(f"{clean(self._registry.ref)} is commit {self._registry.head}")

    def _mode(self, form: str) -> None:
        if form not in FORMATS or form in BINARY:
            raise InvalidInputError(f".mode is table, json or csv, not {form[:40]!r}", hint="write .mode csv")
        self._form = form

    def _set_timer(self, value: str) -> None:
        if value not in ("on", "off"):
            raise InvalidInputError(f".timer is on or off, not {value[:40]!r}", hint="write .timer on")
        self._timer = value == "on"

    # -- completing ---------------------------------------------------------------------------------------------
    def _complete(self, text: str, state: int) -> str | None:
        """Return the nth word that may be meant; nothing where the lake can't be asked."""
        if text.startswith("."):
            found = [name for name in self._commands if name.startswith(text)]
        else:
            found = [each for each in self._words() if each.lower().startswith(text.lower())]
        return found[state] if state < len(found) else None

    def _words(self) -> list[str]:
        if self._candidates is None:
            from headwater.query import views

            try:
                columns = self._registry.sql(
                    "SELECT CASE table_schema WHEN 'lake' THEN 'lake.' ELSE '' END || table_name, column_name"
                    " FROM information_schema.columns WHERE table_schema IN ('lake', 'main')"
                ).fetchall()
                keywords = self._registry.sql("SELECT upper(keyword_name) FROM duckdb_keywords()").fetchall()
            except HeadwaterError:
                return []
            names = {name for row in columns for name in row}
            names |= {file.removesuffix(".sql").partition("_")[2] for file, _ in views()} | {"lake_at("}
            self._candidates = sorted(names) + sorted(row[0] for row in keywords)
        return self._candidates


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _show(error: HeadwaterError) -> None:
    """Show an error of a query with the line that it is in."""
    query, found = str(error.__dict__.get("query", "")), _PLACE.search(error.message)
    note(f"{paint('error:', '1;31', sys.stderr)} {clean(error.message)}")
    if found is not None:
        lines = query.split("\n")
        line, column = int(found[1]), int(found[2])
        if line <= len(lines):
            begin = max(0, column - 60)
            note(f"  {clean(lines[line - 1][begin : begin + 100])}", f"  {' ' * (column - 1 - begin)}^")
    if error.hint:
        note(f"{paint('hint:', '1', sys.stderr)} {clean(error.hint)}")


def _history_file() -> Path:
    base = os.environ.get("XDG_STATE_HOME")
    home = Path(base) if base and Path(base).is_absolute() else Path.home() / ".local" / "state"
    return home / "headwater" / "sql_history"


@contextmanager
def _line_editor(complete: Callable[[str, int], str | None], history: Path) -> Iterator[None]:
    """Edit lines with completion, and a history that is kept between shells, where Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    readline.set_completer(complete)
    readline.set_completer_delims(_BREAKS)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    with suppress(OSError):
        history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        history.touch(mode=0o600)
        readline.read_history_file(history)
    before = readline.get_current_history_length()
    try:
        yield
    finally:
        readline.set_completer(None)
        with suppress(OSError):
            if hasattr(readline, "append_history_file"):
                # Another shell may have added to it meanwhile.
                readline.append_history_file(readline.get_current_history_length() - before, history)
                readline.clear_history()
                readline.read_history_file(history)
            readline.set_history_length(_HISTORY)
            readline.write_history_file(history)
