"""Predictions as a command wrote them, put beside the rows that they are of; knows no model and no metric."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater.canonical import common_type
from headwater.dataset_rows import Rows
from headwater.errors import HeadwaterError, InvalidInputError
from headwater.lake.base import CHUNK, Lake
from headwater.model import DatasetVersion
from headwater.names import counted, shown
from headwater.sqltext import identifier
from headwater.stored import Stored

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["GIVEN", "aligned", "columns_of", "most_bytes", "pick_label", "taken"]

GIVEN = ("prediction", "score")
"""The columns that predictions have, besides the dataset's key."""

_LABELS = ("label", "target", "y")
_WHAT = "the output of the command"
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_REAL = ("FLOAT", "DOUBLE", "DECIMAL")


def most_bytes(rows: int) -> int:
    """Return how large predictions of so many rows may be, in bytes: so large is no honest one."""
    return (64 << 20) + 4096 * rows


def pick_label(version: DatasetVersion, label: str | None) -> str:
    """Return the column that holds what is true.

    Args:
        version: The dataset version, a table.
        label: The column, if it was named.

    Raises:
        InvalidInputError: There is no such column, or none was named and none is called as labels are.
    """
    columns = version.schema or {}
    if label is None:
        found = [each for each in columns if each.lower() in _LABELS]
        if len(found) != 1:
            none = "has no column called label, target or y" if not found else f"has {' and '.join(found)}"
            raise InvalidInputError(
                f"{version.reference} {none}: which column is true?",
                hint=f"--label names it; its columns are {', '.join(map(shown, list(columns)[:20]))}",
            )
        label = found[0]
    check_columns(version, [label])
    base = columns[label].partition("(")[0]
    if base not in (*_NUMBERS, *_REAL, "BOOLEAN", "VARCHAR", "ENUM"):
        raise InvalidInputError(
            f"the label {shown(label)} is of type {shown(columns[label])}",
            hint="a label is a number, a truth value or text",
        )
    return label


def check_columns(version: DatasetVersion, names: Sequence[str]) -> None:
    """Refuse columns that a dataset version lacks.

    Raises:
        InvalidInputError: It lacks one.
    """
    columns = version.schema or {}
    for name in names:
        if name not in columns:
            raise InvalidInputError(
                f"{version.reference} has no column {shown(name)}",
                hint=f"its columns are {', '.join(map(shown, list(columns)[:20]))}",
            )


def taken(output: Path, copy: Path, most: int) -> str:
    """Copy what a command wrote to where it can't be reached, and return its format: `parquet`, `json` or `csv`.

    Args:
        output: Where the command was told to write.
        copy: The copy; the format becomes its extension.
        most: The most bytes that it may have.

    Raises:
        HeadwaterError: There is nothing, or it changed meanwhile.
        InvalidInputError: It is no plain file, empty, too large, or of no format that is read.
    """
    hint = "write CSV, Parquet or JSON lines to the file that HEADWATER_OUTPUT names"
    try:
        handle = os.open(output, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise HeadwaterError("the command wrote no predictions", hint=hint) from None
    except OSError:
        raise InvalidInputError(f"{_WHAT} is not a plain file", hint=hint) from None
    before = os.fstat(handle)
    if not stat.S_ISREG(before.st_mode):
        os.close(handle)
        raise InvalidInputError(f"{_WHAT} is not a plain file", hint=hint)
    with os.fdopen(handle, "rb", buffering=0) as stream:
        if before.st_size > most:
            raise InvalidInputError(f"{_WHAT} has {before.st_size:,} bytes, and {most:,} are allowed", hint=hint)
        start = stream.read(8)
        stream.seek(0)
        size = 0
        with copy.open("wb") as out:
            while size <= most and (chunk := stream.read(CHUNK)):
                out.write(chunk)
                size += len(chunk)
        after = os.fstat(handle)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != before.st_size:
        raise HeadwaterError(f"{_WHAT} changed while it was read", hint="write it whole before the command ends")
    if not size:
        raise InvalidInputError(f"{_WHAT} is empty", hint=hint)
    if start.startswith(b"PAR1"):
        return "parquet"
    if start.lstrip().startswith(b"{"):
        return "json"
    if any(byte < 32 and byte not in b"\t\r\n" for byte in start.removeprefix(b"\xef\xbb\xbf")) or start[:1] == b"\x80":
        raise InvalidInputError(f"{_WHAT} is neither CSV nor Parquet nor JSON lines", hint=hint)
    return "csv"


def columns_of(lake: Lake, stored: Stored, names: Sequence[str]) -> pa.Table:
    """Return columns of a dataset version as text, in the order of its rows.

    Raises:
        InvalidInputError: It lacks one, or is no table.
        IntegrityError: A file is not what was added.
    """
    check_columns(stored.version, names)
    with Rows(lake.cache) as rows:
        rows.attach_version("data", lake, stored)
        wanted = ", ".join(f"{identifier(name)}::VARCHAR AS {identifier(name)}" for name in names)
        return rows.arrow(f"SELECT {wanted} FROM data", stored.version.reference)


def aligned(
    lake: Lake, stored: Stored, output: Path, format_: str, *, label: str, columns: Sequence[str]
) -> tuple[pa.Table, pa.Table]:
    """Return a dataset version's rows and the predictions of them, row by row, in the order of the dataset.

    Args:
        lake: The lake.
        stored: The dataset version.
        output: The predictions.
        format_: Their format.
        label: The column that holds what is true.
        columns: Further columns that are wanted, as text.

    Returns:
        A table of `label`, as it is, and the key and further columns as text, by their names; and a table of
        `prediction` and `score`, as they are, or one of them.

    Raises:
        InvalidInputError: Rows are missing, doubled or too many, columns are missing, or values are null or NaN.
        IntegrityError: A file of the dataset is not what was added.
    """
    version = stored.version
    with Rows(lake.cache) as rows:
        rows.attach_version("data", lake, stored)
        name = {"parquet": "output.parquet", "json": "output.jsonl", "csv": "output.csv"}[format_]
        types = rows.attach("output", _WHAT, format_, {name: output})
        given = _given(types)
        key = version.key
        lacking = [each for each in key if each not in types]
        if lacking:
            raise InvalidInputError(
                f"{_WHAT} has no column {', '.join(map(shown, lacking))}, which is the key of {version.reference}",
                hint="write the key of each row beside its prediction",
            )
        text = dict.fromkeys([*key, *columns])
        # Positions, since names of columns may be any, and the label may be among the others.
        wanted = [f"{identifier(label)} AS c0"]
        wanted += [f"{identifier(each)}::VARCHAR AS c{at}" for at, each in enumerate(text, 1)]
        casts = {each: _cast(each, (version.schema or {})[each], types[each]) for each in key}
        wanted += [f"{cast} AS k{at}" for at, cast in enumerate(casts.values())]
        base = rows.arrow(f"SELECT {', '.join(wanted)} FROM data", version.reference)
        if key:
            found = _by_key(rows, version, base, list(casts.values()), given)
        else:
            found = rows.arrow(f"SELECT {', '.join(map(identifier, given))} FROM output", _WHAT)
            if len(found) != len(base):
                raise InvalidInputError(
                    f"{_WHAT} has {counted(len(found), 'row')}, and {version.reference} has {len(base):,}",
                    hint="a dataset that has no key is predicted row by row, in its order",
                )
    data = base.select([f"c{at}" for at in range(len(text) + 1)]).rename_columns(["", *text])
    _check_whole(data.column(0), f"the label {shown(label)} of {version.reference}", "leave out rows that have none")
    for each in given:
        _check_whole(found.column(each), f"the {each} of {_WHAT}", "write one for every row")
    return data, found.select(list(given))


def _given(types: Mapping[str, str]) -> list[str]:
    given = [each for each in GIVEN if each in types]
    if not given:
        raise InvalidInputError(
            f"{_WHAT} has neither a column prediction nor a column score",
            hint=f"its columns are {', '.join(map(shown, list(types)[:20]))}",
        )
    if "score" in given and types["score"].partition("(")[0] not in (*_NUMBERS, *_REAL):
        raise InvalidInputError(f"the scores of {_WHAT} are not numbers", hint="a class belongs in prediction")
    if "prediction" in given and types["prediction"].partition("(")[0] not in (
        *(*_NUMBERS, *_REAL),
        *("BOOLEAN", "VARCHAR", "ENUM"),
    ):
        raise InvalidInputError(
            f"the predictions of {_WHAT} are of type {shown(types['prediction'])}",
            hint="a prediction is a number, a truth value or text",
        )
    return given


def _cast(name: str, left: str, right: str) -> str:
    return identifier(name) if left == right else f"{identifier(name)}::{common_type(left, right)}"


def _by_key(rows: Rows, version: DatasetVersion, base: pa.Table, key: Sequence[str], given: Sequence[str]) -> pa.Table:
    """Return the predictions in the order of the rows of `base`, whose key columns are `k0`, `k1`, ..."""
    import pyarrow as pa
    import pyarrow.compute as pc

    positions = pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), len(base)), start=-1)
    keys = [f"k{at}" for at in range(len(key))]
    rows.register("base", base.select(keys).append_column("row", positions))
    chosen = [f"{cast} AS k{at}" for at, cast in enumerate(key)] + [identifier(each) for each in given]
    rows.execute(f"CREATE TEMP TABLE found AS SELECT {', '.join(chosen)} FROM output", _WHAT)
    same = " AND ".join(f"b.{each} IS NOT DISTINCT FROM f.{each}" for each in keys)
    listed = ", ".join(keys)

    def refuse(sql: str, problem: str, hint: str) -> None:
        some = rows.all(f"SELECT *, count(*) OVER () FROM ({sql}) ORDER BY ALL LIMIT 1", _WHAT)
        if some:
            *values, count = some[0]
            which = ", ".join(f"{n}={v}" for n, v in zip(version.key, values, strict=False))
            message = problem.format(which=shown(which), count=counted(count, "row"), keys=counted(count, "key"))
            raise InvalidInputError(message, hint=hint)

    once = "write one row for each row of the dataset"
    refuse(
        f"SELECT {listed} FROM found GROUP BY {listed} HAVING count(*) > 1",
        f"{_WHAT} has {{keys}} more than once, such as {{which}}",
        once,
    )
    refuse(
        f"SELECT {listed} FROM base b ANTI JOIN found f ON {same}",
        f"{_WHAT} lacks {{count}} of {version.reference}, such as {{which}}",
        once,
    )
    refuse(
        f"SELECT {listed} FROM found f ANTI JOIN base b ON {same}",
        f"{_WHAT} has {{count}} that {version.reference} lacks, such as {{which}}",
        once,
    )
    values = ", ".join(f"f.{identifier(each)}" for each in given)
    return rows.arrow(f"SELECT {values} FROM base b JOIN found f ON {same} ORDER BY b.row", _WHAT)


def _check_whole(column: Any, what: str, hint: str) -> None:
    """Refuse a column with nulls or NaN."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(column):
        raise InvalidInputError("there are no rows to evaluate on", hint="name a dataset version that has some")
    missing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    count = pc.sum(missing).as_py() or 0
    if count:
        row = pc.index(missing, True).as_py()
        kind = "NaN or missing" if pa.types.is_floating(column.type) else "missing"
        raise InvalidInputError(f"{what} is {kind} in {counted(count, 'row')}, first in row {row + 1:,}", hint=hint)
