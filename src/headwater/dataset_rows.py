"""Questions to the rows of dataset versions and of files beside them, with DuckDB; knows no model and no gate."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from headwater import artifacts
from headwater.artifacts import Wanted
from headwater.calm import aside, connect
from headwater.errors import InvalidInputError, LakeError
from headwater.formats import LABELS, open_table, reason_of
from headwater.lake.base import Lake
from headwater.lake.objects import disk_errors
from headwater.stored import Stored

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

__all__ = ["Rows", "local_files"]

Result = TypeVar("Result")

_MEMORY = "1GiB"


def local_files(lake: Lake, stored: Stored) -> dict[str, Path]:
    """Return local files of a dataset version by the name that each has in its folder, every digest checked.

    Raises:
        IntegrityError: One is missing, or is not what was added.
    """
    version = stored.version
    stored.wanted(lake)  # names and sizes first
    found = lake.localize(stored.at(lake), [version.path + file.path for file in stored.files])
    local = {file.path: found[version.path + file.path].absolute() for file in stored.files}
    wanted = Wanted(version.reference, stored.files, lambda name: local[name].open("rb"))
    for file in stored.files:
        artifacts.copy(wanted, file, None)
    return local


class Rows:
    """A DuckDB in bounded memory, on which tables are attached as views; gone when its `with` ends.

    Args:
        folder: Where its scratch folder is made.
        threads: With one, sums of floating-point numbers come out the same each time.
    """

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        self._folder = folder
        self._threads = threads

    def __enter__(self) -> Rows:
        with disk_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            # DuckDB takes some characters of a path for a pattern, or for a column
            plain = not set("*?[]=") & set(str(self._folder))
            self._scratch = tempfile.TemporaryDirectory(prefix="rows-", dir=self._folder if plain else None)
        place = Path(self._scratch.name).resolve()
        settings: dict[str, Any] = {} if self._threads is None else {"threads": self._threads}
        self._connection: DuckDBPyConnection = connect(
            memory_limit=_MEMORY, temp_directory=str(place / "spill"), **settings
        )
        self._place = place
        self._attached = 0
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()
        self._scratch.cleanup()

    def attach(
        self, view: str, what: str, format_: str, files: Mapping[str, Path], types: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Make files readable as a view, and return its columns with their types.

        Args:
            view: What it is called in SQL.
            what: How messages call it.
            format_: What `formats.format_of` found.
            files: Absolute local paths by the name that each has in its folder.
            types: The columns and types of a table that was opened before.

        Raises:
            InvalidInputError: The files are not what their names say, or no one table.
        """
        self._attached += 1
        links = self._place / f"files-{self._attached}"
        links.mkdir()
        with reading(what, LABELS[format_]):
            table = aside(
                self._connection,
                lambda: open_table(self._connection, format_, files, links, single=len(files) == 1, types=types),
            )
            if table is None:
                raise InvalidInputError("it is no one table")
            table.attach(self._connection, view)
        return dict(table.schema)

    def attach_version(self, view: str, lake: Lake, stored: Stored) -> None:
        """Make a dataset version readable as a view, every digest checked.

        Raises:
            InvalidInputError: It is a folder of files, not a table.
            IntegrityError: A file is missing, or is not what was added.
        """
        version = stored.version
        if version.schema is None:
            raise InvalidInputError(f"{version.reference} is a folder of files, not a table", hint="name another one")
        self.attach(view, version.reference, version.format, local_files(lake, stored), version.schema)

    def register(self, view: str, table: pa.Table) -> None:
        """Make a table in memory readable as a view."""
        self._connection.register(view, table)

    def execute(self, sql: str, what: str) -> None:
        """Run a statement that gives no rows; `what` is what is read, for messages."""
        self._do(what, lambda: self._connection.execute(sql))

    def arrow(self, sql: str, what: str) -> pa.Table:
        """Return the rows of a query, in their order."""
        return self._do(what, lambda: self._connection.sql(sql).to_arrow_table())

    def all(self, sql: str, what: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a query as tuples."""
        return self._do(what, lambda: self._connection.execute(sql, list(parameters)).fetchall())

    def _do(self, what: str, work: Callable[[], Result]) -> Result:
        with reading(what, "a table"):
            return aside(self._connection, work)


@contextmanager
def reading(what: str, label: str) -> Iterator[None]:
    """Say in one line what DuckDB and Arrow say in many, and whether the files or the machine are to blame."""
    import csv

    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.OutOfMemoryException, pa.ArrowMemoryError) as error:
        raise LakeError(
            f"there is not enough memory or disk for the rows of {what}", hint="free some of the disk"
        ) from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{what} can't be read as {label}: {error.message}", hint=error.hint) from error
    except (duckdb.Error, pa.ArrowException, csv.Error, OSError, ValueError) as error:
        raise InvalidInputError(f"{what} can't be read as {label}: {reason_of(error)}", hint="look at it") from error
