"""Everything at a commit as files that need no Headwater: Delta tables, objects, and SQL for stock DuckDB."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from headwater import tables_plain
from headwater.artifacts import check_destination
from headwater.context import Context
from headwater.errors import AlreadyExistsError, IntegrityError, LakeError
from headwater.lake import refs
from headwater.lake.base import CHUNK
from headwater.query_tables import NO_ROWS, commits, refused, select, views
from headwater.schema import TABLES
from headwater.sqltext import literal
from headwater.tables import folder as table_folder
from headwater.tombstones import hidden_transactions, shadowed

__all__ = ["Export", "export"]

_OBJECTS = ("artifacts/", "datasets/", "environments/", "evaluations/", "patches/", "runs/")
"""Where the objects lie that rows speak of; what else is on a branch is not ours, or is bookkeeping."""

_AT_ONCE = 8

_HEAD = """\
-- Tables and views of a Headwater registry at commit {commit}.
--
-- In this folder: duckdb -init headwater.sql
-- In Python:      duckdb.connect().execute(open('headwater.sql').read())
--
-- tables/NAME are Delta tables; those of lake.* below are the same rows, read without an extension of DuckDB. Paths in
-- columns such as model_versions.path are paths in this folder; data that a dataset names at a commit of its own
-- (datasets.data_commit) lies at pinned/COMMIT/PATH.

SET TimeZone = 'UTC';
CREATE SCHEMA IF NOT EXISTS lake;
"""


@dataclass(frozen=True, slots=True)
class Export:
    """What was exported: the folder, the commit, and how many tables, objects and bytes those are."""

    path: str
    commit: str
    tables: int
    objects: int
    bytes: int


def export(context: Context, folder: str | os.PathLike[str]) -> Export:
    """Write what a context reads into a folder. See `Registry.export`.

    Raises:
        AlreadyExistsError: The folder holds something.
        IntegrityError: The bytes of an object are not what they were, or its path is none.
        LakeError: The disk does not take it.
    """
    target = Path(os.path.abspath(folder))
    check_destination(context.lake, target)
    if os.path.lexists(target) and (not target.is_dir() or target.is_symlink() or any(target.iterdir())):
        raise AlreadyExistsError(f"{os.fspath(folder)} holds something", hint="name a new or empty folder")
    beside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True)
        try:
            found = _write(context, beside, str(target))
            # An empty folder gives way; one that got something meanwhile does not.
            beside.rename(target)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    except OSError as error:
        raise LakeError(
            f"{os.fspath(folder)} can't be written: {error.strerror or error}", hint="choose another folder"
        ) from error
    return found


def _write(context: Context, folder: Path, name: str) -> Export:
    with context.reading() as fold:
        commit = fold.commit
        hidden = list(hidden_transactions(fold))
        live = {table: sorted(fold.table(table).files) for table in TABLES}
        twice = shadowed(fold)
        log, without_force = commits(fold), refused(fold)
        pinned = [
            (data["data_commit"], data["path"] + file["path"])
            for row, files in fold.rows("SELECT row, files FROM datasets")
            if (data := json.loads(row)).get("data_commit")
            for file in json.loads(files)
        ]
    lake = context.lake
    wanted = {info.path: commit for prefix in _OBJECTS for info in lake.list(commit, prefix)}
    for table, files in live.items():
        base = table_folder(table)
        wanted |= {info.path: commit for info in lake.list(commit, f"{base}_delta_log/")}
        wanted |= {base + path: commit for path in files}
    jobs = [(at, path, path) for path, at in wanted.items()]
    here = {at: refs.locate(lake, at) for at, _ in pinned}
    jobs += [(here[at], path, f"pinned/{at}/{path}") for at, path in sorted(set(pinned))]

    def copy(job: tuple[str, str, str]) -> int:
        at, path, place = job
        target = folder / _checked(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        with lake.open(at, path) as source, target.open("xb") as out:
            while chunk := source.read(CHUNK):
                out.write(chunk)
            return out.tell()

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        size = sum(pool.map(copy, jobs))
    logged = tables_plain.write_table(
        folder / "tables" / "commits", log, name="commits", description="a row: a commit that this one descends from"
    )
    text = _sql(folder, commit, live, logged, twice, hidden, without_force)
    (folder / "headwater.sql").write_text(text, encoding="utf-8")
    return Export(name, commit, len(TABLES) + 1, len(jobs), size)


def _checked(path: str) -> str:
    """Return the path of an object, which becomes a file's.

    Raises:
        IntegrityError: It would lie outside of the folder.
    """
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts) or PurePosixPath(path).is_absolute():
        raise IntegrityError(f"the path {path!r} in the lake can't be a file's", hint="move the object in the lake")
    return path


def _sql(
    folder: Path,
    commit: str,
    live: dict[str, list[str]],
    logged: list[str],
    twice: list[str],
    hidden: list[str],
    without_force: str,
) -> str:
    """Return the text of `headwater.sql`."""
    lines = [_HEAD.format(commit=commit)]
    for table, files in live.items():
        paths = [table_folder(table) + path for path in files]
        source, there = _source(folder, paths)
        lines.append(f"CREATE OR REPLACE VIEW lake.{table} AS {select(table, source, there, twice, hidden)};")
    source, _ = _source(folder, [f"tables/commits/{path}" for path in logged])
    lines.append(f"CREATE OR REPLACE VIEW lake.commits AS SELECT * FROM {source};")
    lines.append(f"CREATE OR REPLACE TABLE lake.refused AS {without_force};\n")
    return "\n".join([*lines, *(text for _, text in views())])


def _source(folder: Path, paths: Iterable[str]) -> tuple[str, set[str]]:
    """Return what reads some files, and the columns that they have together."""
    import pyarrow.parquet as pq

    paths = list(paths)
    if not paths:
        return NO_ROWS, set()
    columns = [set(pq.ParquetFile(folder / path).schema_arrow.names) for path in paths]
    every = set().union(*columns)
    listed = ", ".join(literal(path) for path in paths)
    uniform = all(each == every for each in columns)
    return f"read_parquet([{listed}]{'' if uniform else ', union_by_name = true'})", every
