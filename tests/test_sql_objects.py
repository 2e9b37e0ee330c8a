"""Every object of `sql/` against rows in files: the smallest lake that shows what it is for, and what it must answer.

`tests/sql/NAME/`, NAME being the view or macro, holds

    TABLE.jsonl (or .csv)       rows of `lake.TABLE`, `commits` and `refused` included; a table without a file is empty
    query.sql                   one query; it must say ORDER BY if it gives several rows
    expected.jsonl (or .csv)    the rows that it must give, in that order, with these columns in that order

and any number of further pairs `query_WORD.sql`, `expected_WORD.jsonl`. A row names the columns that matter: of those
that it leaves out, lists and maps that may not be null are empty, and all others are null. Times are ISO 8601 in UTC
(`2026-11-01T09:00:00Z`), maps are JSON objects, NaN and infinities the strings `NaN`, `Infinity`, `-Infinity`: as
`headwater sql --format json` prints them, so its output can be pasted. In CSV, an empty field is null; `expected.csv`
is compared as text. All files of `sql/` are loaded, so a view is tested together with those that it reads.
`tests/sql/_reference/` is the registry on which docs/sql.md shows the examples: every example must find a row there.
"""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headwater.cli.rows import csv_lines, documents
from headwater.query import COMMITS, REFUSED, SQL_TYPES, views
from headwater.schema import TABLES

FOLDER = Path(__file__).parent / "sql"
OBJECTS = [name.removesuffix(".sql").partition("_")[2] for name, _ in views()]
QUERIES = [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in sorted(FOLDER.glob("*/query*.sql"))]
EMPTY = {"strings": "[]", "files": "[]", "map": "MAP {}"}


def columns(table: str) -> dict[str, tuple[str, str]]:
    """Return a table's columns: the type of each in DuckDB, and what stands where a row does not name it."""
    if table == "commits":
        return {name: (kind, "NULL") for name, kind in COMMITS.items()}
    if table == "refused":
        return {name: (kind, "[]" if kind.endswith("[]") else "NULL") for name, kind in REFUSED.items()}
    return {
        column.name: (SQL_TYPES[column.type], "NULL" if column.nullable else EMPTY.get(column.type, "NULL"))
        for column in TABLES[table].columns
    }


def lake_of(folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a plain DuckDB connection with the rows of a folder as `lake.*`, and everything in `sql/`."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA lake")
    for table in [*TABLES, "commits", "refused"]:
        kinds = columns(table)
        declared = ", ".join(f'"{name}" {kind} DEFAULT {default}' for name, (kind, default) in kinds.items())
        connection.execute(f"CREATE TABLE lake.{table} ({declared})")
        rows, source = folder / f"{table}.jsonl", ""
        if rows.exists():
            names = list({name: None for line in read_jsonl(rows) for name in line})
            typed = {name: kinds[name][0] for name in names}
            source = f"read_json({quote(rows)}, format = 'newline_delimited', columns = {typed})"
            given = [f"coalesce({name}, {kinds[name][1]})" if kinds[name][1] != "NULL" else name for name in names]
        elif (rows := folder / f"{table}.csv").exists():
            names = given = next(csv.reader(rows.open(encoding="utf-8")))
            source = f"read_csv({quote(rows)}, header = true, all_varchar = true)"
        if source:
            connection.execute(f"INSERT INTO lake.{table} ({', '.join(names)}) SELECT {', '.join(given)} FROM {source}")
    for _, text in views():
        connection.execute(text)
    return connection


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def quote(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


@pytest.mark.parametrize("query", QUERIES)
def test_a_view_gives_the_rows_that_are_expected(query: Path) -> None:
    with lake_of(query.parent) as connection:
        found = connection.sql(query.read_text(encoding="utf-8")).to_arrow_table()
    expected = query.parent / query.name.replace("query", "expected", 1).replace(".sql", ".jsonl")
    if expected.exists():
        assert [json.dumps(row) for row in documents(found)] == [json.dumps(row) for row in read_jsonl(expected)]
    else:
        text = expected.with_suffix(".csv").read_text(encoding="utf-8")
        assert "".join(csv_lines(found.schema.names, [found])).splitlines() == text.splitlines()


def test_every_sql_file_has_a_folder_of_rows_and_every_folder_a_file() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/query*.sql")} == set(OBJECTS)
    stray = [
        str(path)
        for path in FOLDER.rglob("*")
        if path.is_file()
        and not path.stem.startswith(("query", "expected"))
        and (path.stem not in [*TABLES, "commits", "refused"] or path.suffix not in (".jsonl", ".csv"))
    ]
    assert not stray


@pytest.mark.parametrize(("name", "text"), views(), ids=OBJECTS)
def test_the_head_of_a_file_names_every_column(name: str, text: str) -> None:
    comment = " ".join(line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--"))
    named = comment.partition(" Columns: ")[2].partition(" Example: ")[0]
    example = comment.partition(" Example: ")[2]
    made = name.removesuffix(".sql").partition("_")[2]
    call = re.search(rf"{made}\((?:[^()]|\([^()]*\))*\)", example)
    with lake_of(FOLDER / "_reference") as connection:
        scalar = "CREATE OR REPLACE MACRO" in text and "AS TABLE" not in text
        source = f"{'SELECT' if scalar else 'FROM'} {call[0] if call else made}"
        columns = [row[0].partition("(")[0] for row in connection.execute(f"DESCRIBE {source}").fetchall()]
    for table in re.findall(r"those of lake\.(\w+)", named):
        named += " " + " ".join(TABLES[table].names)
    assert set(columns) <= set(re.findall(r"\w+", named)), named


def test_every_folder_has_rows_that_its_view_must_tell_apart() -> None:
    for query in FOLDER.glob("*/query.sql"):
        assert list(query.parent.glob("expected.*")), query
        assert any(path.read_text(encoding="utf-8").strip() for path in query.parent.glob("expected.*")), query
