"""SQL at commits: a read-only DuckDB connection that can read their files and nothing else; no nouns."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headwater.deltalog import DataFile
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.lake.base import Lake
from headwater.query_errors import named, translated
from headwater.query_plan import NOT_HERE, scans
from headwater.query_result import QueryResult
from headwater.query_tables import COMMITS, REFUSED, SQL_TYPES, Snapshot, views, words
from headwater.query_text import Rewritten, calls, rewrite
from headwater.schema import TABLES
from headwater.sqltext import identifier, literal
from headwater.state import Fold, Folds

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["COMMITS", "MOST_BYTES", "REFUSED", "SQL_TYPES", "Queries", "QueryResult", "Rows", "Session", "views"]

MOST_BYTES = 1 << 30
"""Bytes of rows that a result holds in memory; more of them can be had batch by batch."""

_BATCH = 1 << 16
_LISTS = re.compile(r"information_schema|duckdb_|sqlite_|\bpg_|\bshow\b", re.IGNORECASE)
"""Words of queries that list tables and views."""

_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s", re.IGNORECASE)

Parameters = Mapping[str, object] | Sequence[object] | None

_inherited: list[Session] = []
"""Sessions of a parent process, kept so that nothing of theirs is closed here."""


@dataclass
class Rows:
    """The rows of a query as they are found: iterate over the batches once."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    files_read: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Of how many files rows are read, and how many there are, for each large table that the query names."""


class Queries:
    """The sessions of a registry: one is made for a commit, and kept until it is asked about another.

    Args:
        lake: The lake.
        folds: Its folded states.
        reading: Holds the state of the commit that queries are about.
    """

    def __init__(self, lake: Lake, folds: Folds, reading: Callable[[], AbstractContextManager[Fold]]) -> None:
        self._lake = lake
        self._folds = folds
        self._reading = reading
        self._session: Session | None = None

    def sql(self, query: str, parameters: Parameters = None, *, timeout: float = 300) -> QueryResult:
        """Run one query and return all its rows. See `Session.sql`."""
        session, text = self._prepare(query)
        return session.sql(text, parameters, timeout=timeout)

    def rows(self, query: str, parameters: Parameters = None, *, timeout: float = 300) -> AbstractContextManager[Rows]:
        """Run one query and hand out its rows as they are found. See `Session.rows`."""
        session, text = self._prepare(query)
        return session.rows(text, parameters, timeout=timeout)

    def _prepare(self, query: str) -> tuple[Session, Rewritten]:
        found = calls(query)
        commits = {ref: self._folds.resolve(ref).commit for ref in {call.ref for call in found}}
        for call in found:
            _check_table(call.table)
        with self._reading() as fold:
            others = set(commits.values()) - {fold.commit}
            session = self._session
            if session is None or not session.serves(fold.commit, others):
                with ExitStack() as held:
                    more = [held.enter_context(self._folds.at(commit)) for commit in sorted(others)]
                    session = self._session = Session(self._lake, fold, more)
                    # DuckDB's threads must be gone before the interpreter is: it would abort.
                    weakref.finalize(session, _close_at_exit, session._connection, os.getpid())
        return session, rewrite(query, found, lambda call: session.place(commits[call.ref], call.table))

    def close(self) -> None:
        """Close the connection, unless a parent process made it."""
        if self._session is not None and self._session.is_ours():
            self._session.close()
        self._session = None


def _close_at_exit(connection: Any, pid: int) -> None:
    if os.getpid() == pid:  # a parent's connection is not a child's to close
        connection.close()


def _check_table(name: str) -> None:
    """Make sure that `lake_at` can show a table or view.

    Raises:
        InvalidInputError: It is a macro.
        NotFoundError: There is none of that name.
    """
    schema, _, table = name.rpartition(".")
    tables = [*TABLES, "commits", "refused"]
    if schema == "lake" and table in tables:
        return
    made = {file.removesuffix(".sql").partition("_")[2]: "CREATE OR REPLACE MACRO" in text for file, text in views()}
    if name not in made:
        hint = f"write 'lake.{name}'" if name in tables else f"there are {', '.join(made)}, and lake.{tables[0]} etc."
        raise NotFoundError(f"lake_at: there is no table or view {name[:80]!r}", hint=hint)
    if made[name]:
        raise InvalidInputError(f"lake_at: {name!r} is a macro, not a view", hint="ask it with --ref, or Registry.at")


class Session:
    """A DuckDB connection over one commit, and maybe others, that can read those commits' files and nothing else.

    Args:
        lake: The lake.
        fold: The folded state of the commit; needed while the session is made, not after.
        others: Those of other commits that queries may name by `lake_at`.
        memory: DuckDB's memory limit.
    """

    def __init__(self, lake: Lake, fold: Fold, others: Sequence[Fold] = (), *, memory: str = "2GB") -> None:
        import duckdb

        self.commit = fold.commit
        self._pid = os.getpid()
        self._guard = threading.Lock()
        spill = lake.cache / "spill"
        with contextlib.suppress(OSError):
            spill.mkdir(parents=True, exist_ok=True)
        self._connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": memory,
                "python_enable_replacements": "false",
                "temp_directory": str(spill),
            },
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET parquet_metadata_cache = true")  # data files never change
        self._snapshots = {
            each.commit: Snapshot(
                self._connection, lake, each, f"at_{each.commit[:16]}" if number else "memory", number
            )
            for number, each in enumerate([fold, *others])
        }
        self._connection.execute("USE memory")
        allowed = [literal(path) for snapshot in self._snapshots.values() for path in snapshot.places()]
        self._connection.execute(f"SET allowed_paths = [{', '.join(allowed)}]")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def place(self, commit: str, table: str) -> str:
        """Return what a table or view of a commit is called in a query."""
        schema, _, name = table.rpartition(".")
        return f"{identifier(self._snapshots[commit].catalog)}.{schema or 'main'}.{identifier(name)}"

    # -- asking -------------------------------------------------------------------------------------------------
    def sql(
        self,
        query: str | Rewritten,
        parameters: Parameters = None,
        *,
        timeout: float = 300,
        most_bytes: int = MOST_BYTES,
    ) -> QueryResult:
        """Run one query and return all its rows.

        Args:
            query: One statement that reads: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN of one.
            parameters: Values for `$name` (a mapping) or `?` (a sequence).
            timeout: Seconds until it is interrupted.
            most_bytes: How many bytes the rows may have.

        Raises:
            InvalidInputError: It is not one statement that reads, or DuckDB refuses it.
            LakeError: It took too long, or has more rows, or took more memory, than it may.
        """
        import pyarrow as pa

        with self.rows(query, parameters, timeout=timeout) as found:
            held, size = [], 0
            for batch in found.batches:
                held.append(batch)
                size += batch.nbytes
                if size > most_bytes:
                    count = sum(each.num_rows for each in held)
                    raise LakeError(
                        f"the result is larger than {most_bytes >> 20} MiB: {count:,} rows, and there are more",
                        hint="add LIMIT, or write them: --format parquet --output FILE (in Python, Registry.sql_rows)",
                    )
            return QueryResult(pa.Table.from_batches(held, found.schema), found.files_read)

    @contextlib.contextmanager
    def rows(self, query: str | Rewritten, parameters: Parameters = None, *, timeout: float = 300) -> Iterator[Rows]:
        """Run one query and hand out its rows as they are found; the session answers nobody else meanwhile.

        Arguments and errors are those of `sql`; errors may come while the batches are read.
        """
        text = query if isinstance(query, Rewritten) else Rewritten(query, query)
        with self._guard, translated(self._connection, text, timeout):
            self._check(text.text)
            deadline = time.monotonic() + timeout
            needs = self._bring(text.text, parameters, deadline)
            try:
                batches = self._started(text.text, parameters, deadline, needs)
                with contextlib.closing(batches):
                    schema = next(batches)
                    yield Rows(schema, batches, {name: counts for name, counts in needs.files.items()})
            finally:
                for snapshot in self._snapshots.values():
                    snapshot.hide()

    def _started(self, query: str, parameters: Parameters, deadline: float, needs: _Needs) -> Any:
        """Run a query until its first rows are there; again with more files, where those brought were not enough."""
        import duckdb

        for attempt in range(3):
            batches = self._batches(query, parameters, deadline)
            try:
                first = [next(batches), next(batches, None)]
            except duckdb.Error as error:
                if attempt == 2 or not self._bring_more(str(error), needs):
                    raise
                continue
            return _chained(first, batches)
        raise AssertionError

    def _batches(self, query: str, parameters: Parameters, deadline: float) -> Iterator[Any]:
        """Yield the schema of the rows, then batches of them.

        The query runs in a thread of its own: in the main thread, DuckDB would hear of Ctrl-C late or never.
        """
        import duckdb

        ready: queue.Queue[Any] = queue.Queue(maxsize=4)
        stop, done = threading.Event(), threading.Event()

        def hand(item: Any) -> None:
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    return ready.put(item, timeout=0.05)

        def work() -> None:
            try:
                # DuckDB's WITH may hold an INSERT; in this transaction it may not write.
                self._connection.execute("BEGIN TRANSACTION READ ONLY")
                given = _given(parameters)
                rows = self._connection.sql(query, params=given) if given else self._connection.sql(query)
                with contextlib.closing(rows.to_arrow_reader(_BATCH)) as reader:
                    hand(reader.schema)
                    for batch in reader:
                        if stop.is_set():
                            break
                        hand(batch)
                hand(None)
            except OSError as error:
                hand(named(str(error)))
            except BaseException as error:
                hand(error)
            finally:
                with contextlib.suppress(duckdb.Error):
                    self._connection.execute("ROLLBACK")
                done.set()

        threading.Thread(target=work, daemon=True).start()
        ended = False
        try:
            while True:
                try:
                    item = ready.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    raise duckdb.InterruptException("time is over") from None
                ended = item is None or isinstance(item, BaseException)
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    return
                yield item
        finally:
            stop.set()
            # An interrupt that comes between two statements is lost, so it is sent again.
            while not done.wait(5.0 if ended else 0.0):
                self._connection.interrupt()
                done.wait(0.05)

    # -- what a query needs -------------------------------------------------------------------------------------
    def _bring(self, query: str, parameters: Parameters, deadline: float) -> _Needs:
        """Bring the tables that a query may need: of the large ones, the files that it may have rows from."""
        import duckdb

        needs = _Needs()
        named = words(query)
        if _LISTS.search(query):
            self._make_all()
        large = []
        for snapshot in self._snapshots.values():
            snapshot.bring(named)
            tables = snapshot.large(named)
            snapshot.plan(tables)
            large += [(snapshot, table) for table in tables]
        if not large:
            return needs
        explained = _EXPLAIN.match(query)
        inner = query[explained.end() :] if explained else query
        try:
            found = self._planned(inner, parameters, deadline)
        except duckdb.Error as error:
            if isinstance(error, duckdb.InterruptException):
                raise
            found = {}  # it says the same again when it is run
        for snapshot, table in large:
            if (predicate := found.get(snapshot.name(table))) is not None:
                needs.add(snapshot, table, predicate)
            elif found:
                needs.files[_label(snapshot, table)] = (0, snapshot.count(table))
        return needs

    def _planned(self, query: str, parameters: Parameters, deadline: float) -> dict[str, Callable[[DataFile], bool]]:
        """Plan a query in a thread of its own, as `_batches` runs it."""
        import duckdb

        answers: queue.Queue[Any] = queue.Queue()

        def work() -> None:
            try:
                self._connection.execute("BEGIN TRANSACTION READ ONLY")
                answer: Any = scans(self._connection, query, _given(parameters))
            except BaseException as error:
                answer = error
            with contextlib.suppress(duckdb.Error):
                self._connection.execute("ROLLBACK")
            answers.put(answer)

        threading.Thread(target=work, daemon=True).start()
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except BaseException as error:
            while answers.empty():
                self._connection.interrupt()
                time.sleep(0.05)
            if isinstance(error, queue.Empty):
                raise duckdb.InterruptException("time is over") from None
            raise
        if isinstance(answer, BaseException):
            raise answer
        found: dict[str, Callable[[DataFile], bool]] = answer
        return found

    def _make_all(self) -> bool:
        """Make every view, without its rows, for a query that may list them; return whether any was not there yet."""
        return any([snapshot.make(_objects(), hold=False) for snapshot in self._snapshots.values()])

    def _bring_more(self, error: str, needs: _Needs) -> bool:
        """Bring what a failed query has turned out to need; return whether that was anything."""
        if "schema mismatch" in error:
            return needs.differ()
        if "does not exist" in error and self._make_all():
            return True
        if NOT_HERE not in error:
            return False
        # A name that the words of the query did not show, as in query('FROM ' || 'models').
        for snapshot in self._snapshots.values():
            every = words(" ".join([*TABLES, "commits", *_objects()]))
            snapshot.bring(every)
            for table in snapshot.large(every):
                needs.add(snapshot, table, lambda file: True)
        return True

    # -- refusing -----------------------------------------------------------------------------------------------
    def _check(self, query: str) -> None:
        import duckdb

        if any(0xD800 <= ord(character) < 0xE000 for character in query):
            raise InvalidInputError("the query can't be read: it is not Unicode text", hint="write one SELECT")
        statements = self._connection.extract_statements(query)
        kinds = [statement.type for statement in statements]
        if kinds == [duckdb.StatementType.EXPLAIN] and (explained := _EXPLAIN.match(query)):
            kinds = [each.type for each in self._connection.extract_statements(query[explained.end() :])]
        if kinds != [duckdb.StatementType.SELECT]:
            what = "nothing" if not kinds else f"{len(kinds)} statements" if len(kinds) > 1 else kinds[0].name
            raise InvalidInputError(f"a query is one statement that reads, and this is {what}", hint="write one SELECT")

    # -- its life -----------------------------------------------------------------------------------------------
    def is_ours(self) -> bool:
        """Return whether this process made the session: after a fork its connection must not be touched."""
        if self._pid != os.getpid():
            _inherited.append(self)
            return False
        return True

    def serves(self, commit: str, others: set[str] | frozenset[str] = frozenset()) -> bool:
        """Return whether it answers for commits: it is of this process, and the files that it reads are still there."""
        return (
            self.commit == commit
            and self.is_ours()
            and self._snapshots.keys() >= others
            and all(snapshot.is_whole() for snapshot in self._snapshots.values())
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class _Needs:
    """The files of large tables that a query needs, by what excludes them."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[int, int]] = {}
        self._shown: list[tuple[Snapshot, str, Callable[[DataFile], bool]]] = []

    def add(self, snapshot: Snapshot, table: str, predicate: Callable[[DataFile], bool]) -> None:
        """Show a table's files that a predicate does not exclude."""
        self._shown.append((snapshot, table, predicate))
        self.files[_label(snapshot, table)] = (snapshot.show(table, predicate), snapshot.count(table))

    def differ(self) -> bool:
        """Show the same files again, as such that may lack columns."""
        for snapshot, table, predicate in self._shown:
            snapshot.differ([table])
            snapshot.show(table, predicate)
        return bool(self._shown)


def _objects() -> list[str]:
    return [name.removesuffix(".sql").partition("_")[2] for name, _ in views()]


def _label(snapshot: Snapshot, table: str) -> str:
    return table if snapshot.catalog == "memory" else f"{snapshot.catalog}.{table}"


def _chained(first: Sequence[Any], rest: Iterator[Any]) -> Iterator[Any]:
    """Yield what was read ahead, then the rest; closing this closes the rest."""
    try:
        for item in first:
            if item is None:
                return
            yield item
        yield from rest
    finally:
        rest.close()  # type: ignore[attr-defined]


def _given(parameters: Parameters) -> dict[str, object] | list[object]:
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters or ())
