"""Write docs/sql.md: every view and macro of `sql/`, its columns, and its example with what it gives.

python tools/sql_reference.py            writes it
python tools/sql_reference.py --check    fails if it is not up to date

The examples run on the rows of `tests/sql/_reference/`, in a plain DuckDB connection, so that they give the same for
ever: a small registry of flights, as files that anyone can read.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

from headwater.cli.rows import table_lines
from headwater.query import views

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "sql.md"
ROWS = ROOT / "tests" / "sql" / "_reference"

HEAD = """# SQL

<!-- Written by tools/sql_reference.py from the files of sql/ and the rows of tests/sql/_reference/. -->

`headwater sql "SELECT ..."`, `reg.sql("SELECT ...")`, and the shell that `headwater sql` opens speak DuckDB's SQL, and
only read. In the default schema are the views and table macros of this page; each is a file of `sql/`. Below them, in
the schema `lake`, are the tables of the lake, as [tables.md](tables.md) has them.

A query is about one commit: the branch's head, or `--ref REF`, or `reg.at(REF)`. To compare commits in one query, name
the others in it: `lake_at('REF', 'VIEW')` is a view, and `lake_at('REF', 'lake.TABLE')` a table, as it was at any ref
(`main~5`, `exp-42`, a tag, a commit, `main@{2026-11-01T00:00:00Z}`). Both are texts; a macro can't be named so.

```sql
SELECT name, version FROM model_versions
ANTI JOIN lake_at('main~5', 'model_versions') USING (version_id)      -- what the last five landings brought
```

`lake.predictions`, `lake.outcomes` and `lake.metrics` may have very many rows. A query reads those of their files that
the statistics in the Delta log can't exclude: compare `prediction_id`, `predicted_at`, `deployment_id`, `version_id`,
`observed_at`, `run_id` or `key` with values, by `=`, `IN`, `<`, `BETWEEN`, or `date_trunc('day', predicted_at) = ...`
(a cast such as `predicted_at::DATE` hides the column). `--stats`, and `QueryResult.files_read` in Python, say how many
files were read of how many. A result in memory is limited to a gibibyte; `--output FILE` with `--format
csv|json|parquet|arrow`, and `reg.sql_rows` in Python, hand rows out as they are found.

`headwater export DIR` writes the tables and these views for the stock client of DuckDB.
"""


def _harness() -> ModuleType:
    """Return the module of tests that loads rows from files."""
    spec = importlib.util.spec_from_file_location("sql_objects", ROOT / "tests" / "test_sql_objects.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text() -> str:
    """Return what the file should say."""
    lines = [HEAD]
    with _harness().lake_of(ROWS) as connection:
        for file, sql in views():
            comment = [line.removeprefix("--").strip() for line in sql.splitlines() if line.startswith("--")]
            signature, _, rest = " ".join(comment).partition(": ")
            purpose, _, rest = rest.partition(" Columns: ")
            columns, _, example = rest.partition(" Example: ")
            lines += [f"## {signature}", "", f"{purpose[:1].upper()}{purpose[1:]}", ""]
            lines += [f"Columns: {columns}", ""]
            call = re.search(rf"{re.escape(signature.partition('(')[0])}\((?:[^()]|\([^()]*\))*\)", example)
            source = call[0] if call and "(" in signature else signature
            rows = f"SELECT {source}" if call and "AS TABLE" not in sql and "MACRO" in sql else f"FROM {source}"
            described = connection.execute(f"DESCRIBE {rows}").fetchall()
            lines += ["| column | type |", "|---|---|"]
            lines += [
                f"| `{name.partition('(')[0]}` | {kind.lower().replace('|', chr(92) + '|')} |"
                for name, kind, *_ in described
            ]
            # An order that nobody asked for is DuckDB's to change; the page is to stay the same.
            ordered = "ORDER BY" in example or re.search(r"^ORDER BY [^()]*;\s*$", sql, re.MULTILINE)
            found = connection.sql(example if ordered else f"FROM ({example}) ORDER BY ALL").to_arrow_table()
            if not len(found):
                raise SystemExit(f"the example of {file} gives no row: add some to {ROWS}")
            lines += ["", "```sql", example, "```", "", "```text", *table_lines(found.slice(0, 10)), "```", ""]
            lines += [f"`sql/{file}`", ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(TARGET.read_text(encoding="utf-8") != text() and "docs/sql.md is not up to date")
    TARGET.write_text(text(), encoding="utf-8")
