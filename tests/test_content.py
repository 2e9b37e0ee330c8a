"""Comparing tables: what counts as the same row in every format, and what is refused; no lake is needed for it."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import md5
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.content import Changes, Measure, Opened, Workbench
from headwater.errors import InvalidInputError
from headwater.formats import FILES, format_of


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with Workbench(tmp_path / "bench") as opened:
        yield opened
    assert not list((tmp_path / "bench").iterdir())


def open_path(bench: Workbench, path: Path, types: Mapping[str, str] | None = None) -> Opened:
    single = path.is_file()
    files = {path.name: path} if single else {f.relative_to(path).as_posix(): f for f in path.rglob("*") if f.is_file()}
    format_ = format_of(sorted(files), single=single)
    assert format_ != FILES
    opened = bench.open(path.name, format_, files, single=single, types=types)
    assert opened is not None
    return opened


def counts(changes: Changes) -> tuple[int, int, int]:
    return changes.added, changes.removed, changes.changed


def compare_tables(
    bench: Workbench, folder: Path, old: pa.Table, new: pa.Table, key: Sequence[str] = ()
) -> tuple[Changes, bool]:
    """Return what changed between two tables, and whether their digests say that they are the same."""
    opened = []
    for name, table in (("old", old), ("new", new)):
        pq.write_table(table, folder / f"{name}.parquet")
        opened.append(open_path(bench, folder / f"{name}.parquet"))
    same = bench.measure(opened[0], key) == bench.measure(opened[1], key)
    return bench.compare(*opened, key), same


# -- formats ----------------------------------------------------------------------------------------------------------
PLAIN = pa.table(
    {
        "id": pa.array([1, 2, 3], pa.int64()),
        "name": ["a", 'says "b, c"', None],
        "share": [0.1, None, 1e-9],
        "yes": [True, False, None],
        "day": pa.array([dt.date(2013, 1, 1), None, dt.date(2013, 12, 31)]),
        "at": pa.array([dt.datetime(2013, 1, 1, 10, tzinfo=dt.UTC), None, None], pa.timestamp("us", "UTC")),
    }
)


def write_parquet_folder(path: Path, table: pa.Table) -> None:
    path.mkdir()
    pq.write_table(table.slice(1), path / "a.parquet", compression="zstd")
    pq.write_table(table.slice(0, 1), path / "b.parquet", compression="none")
    (path / "_SUCCESS").touch()


def write_csv(path: Path, table: pa.Table) -> None:
    pa.csv.write_csv(table, path)


def write_csv_gz(path: Path, table: pa.Table) -> None:
    out = pa.BufferOutputStream()
    pa.csv.write_csv(table.take([2, 0, 1]), out)
    path.write_bytes(gzip.compress(out.getvalue().to_pybytes()))


def write_json(path: Path, table: pa.Table) -> None:
    path.write_text(
        "".join(json.dumps(row, default=lambda value: value.isoformat()) + "\n" for row in table.to_pylist())
    )


def write_stream(path: Path, table: pa.Table) -> None:
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1)


FORMATS: dict[str, Callable[[Path, pa.Table], object]] = {
    "t.parquet": lambda path, table: pq.write_table(table, path),
    "folder": write_parquet_folder,
    "t.csv": write_csv,
    "t.csv.gz": write_csv_gz,
    "t.jsonl": write_json,
    "t.arrow": lambda path, table: pa.feather.write_feather(table, path),
    "t.arrows": write_stream,
    "delta": lambda path, table: write_deltalake(path, table),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_rows_have_the_same_types_and_digest_in_every_format(
    bench: Workbench, tmp_path: Path, name: str
) -> None:
    pq.write_table(PLAIN, tmp_path / "reference.parquet")
    reference = open_path(bench, tmp_path / "reference.parquet")
    FORMATS[name](tmp_path / name, PLAIN)
    opened = open_path(bench, tmp_path / name)
    assert opened.table.schema == {
        "id": "BIGINT",
        "name": "VARCHAR",
        "share": "DOUBLE",
        "yes": "BOOLEAN",
        "day": "DATE",
        "at": "TIMESTAMP WITH TIME ZONE",
    }
    assert bench.measure(opened, ["id"]) == bench.measure(reference, ["id"])
    assert bench.compare(reference, opened, ["id"]) == Changes()
    again = open_path(bench, tmp_path / name, opened.table.schema)
    assert bench.measure(again).content == bench.measure(reference).content


def test_a_digest_is_the_sum_of_the_md5_of_each_row_as_text(bench: Workbench, tmp_path: Path) -> None:
    """Digests are stored and compared with later ones: if this fails, the new kind of digest needs a new name."""
    pq.write_table(PLAIN, tmp_path / "t.parquet")
    texts = [
        "2013-01-01 10:00:00+00;2013-01-01;1;1:a;0.1;true;",
        ';;2;11:says "b, c";;false;',
        ";2013-12-31;3;:;1e-09;;",
    ]
    total = sum(int.from_bytes(md5(text.encode()).digest(), "little") for text in texts) % 2**128
    assert bench.measure(open_path(bench, tmp_path / "t.parquet")) == Measure(3, f"md5sum-1:{total:032x}")


def test_the_order_of_columns_makes_no_difference(bench: Workbench, tmp_path: Path) -> None:
    changes, same = compare_tables(bench, tmp_path, PLAIN, PLAIN.select(PLAIN.column_names[::-1]))
    assert (counts(changes), same) == ((0, 0, 0), True)


def test_a_delta_table_is_its_newest_version_with_its_partitions(bench: Workbench, tmp_path: Path) -> None:
    table = pa.table({"id": [1, 2, 3], "part": ["x", "y/z", None]})
    write_deltalake(tmp_path / "t", table, partition_by=["part"])
    DeltaTable(tmp_path / "t").delete("id = 2")
    opened = open_path(bench, tmp_path / "t")
    assert opened.table.schema == {"id": "BIGINT", "part": "VARCHAR"}
    pq.write_table(table.filter(pa.array([True, False, True])), tmp_path / "left.parquet")
    assert bench.measure(opened) == bench.measure(open_path(bench, tmp_path / "left.parquet"))


def test_partition_folders_are_columns(bench: Workbench, tmp_path: Path) -> None:
    for month in (1, 2):
        (tmp_path / f"t/month={month}").mkdir(parents=True)
        pq.write_table(pa.table({"id": [month]}), tmp_path / f"t/month={month}/0.parquet")
    opened = open_path(bench, tmp_path / "t")
    assert opened.table.schema == {"id": "BIGINT", "month": "BIGINT"}


def test_files_of_a_folder_are_one_table_if_one_has_all_columns(bench: Workbench, tmp_path: Path) -> None:
    folder = tmp_path / "t"
    folder.mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "1.parquet")
    pq.write_table(pa.table({"b": [1], "a": [1.5]}), folder / "2.parquet")
    assert open_path(bench, folder).table.schema == {"a": "DOUBLE", "b": "BIGINT"}
    pq.write_table(pa.table({"a": [1], "c": [1]}), folder / "3.parquet")
    files = {path.name: path for path in folder.iterdir()}
    assert bench.open("t", "parquet", files, single=False) is None


def test_csv_files_of_a_folder_may_order_their_columns_as_they_like(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/1.csv").write_text("a,b\n1,x\n")
    (tmp_path / "t/2.csv").write_text("b;a\ny;2\n")
    (tmp_path / "one.csv").write_text("a,b\n2,y\n1,x\n")
    found = [bench.measure(open_path(bench, tmp_path / name)) for name in ("t", "one.csv")]
    assert found[0] == found[1]


def test_a_json_file_may_be_one_array_and_zstd(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "a.b.json").write_text('[{"a": 1, "never": null},\n {"a": 2, "never": null}]')
    lines = b'{"never": null, "a": 2}\n{"a": 1}\n'
    (tmp_path / "c.ndjson.zst").write_bytes(pa.compress(lines, "zstd", asbytes=True))
    opened = [open_path(bench, tmp_path / name) for name in ("a.b.json", "c.ndjson.zst")]
    assert [each.table.schema for each in opened] == [
        {"a": "BIGINT", "never": "NULL"},
        {"never": "NULL", "a": "BIGINT"},
    ]
    again = open_path(bench, tmp_path / "a.b.json", opened[0].table.schema)
    assert len({bench.measure(each).content for each in [*opened, again]}) == 1


def test_a_scratch_folder_in_a_place_with_odd_characters(tmp_path: Path) -> None:
    for name in ("t/k=1", "t/k=2"):
        (tmp_path / "a=[1]*?" / name).mkdir(parents=True)
        pq.write_table(pa.table({"x": [1]}), tmp_path / "a=[1]*?" / name / "[x]*.parquet")
    with Workbench(tmp_path / "a=[1]*?" / "bench") as bench:
        opened = open_path(bench, tmp_path / "a=[1]*?" / "t")
        assert opened.table.schema == {"x": "BIGINT", "k": "BIGINT"}
        assert bench.measure(opened).rows == 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.csv"], FILES),
        (["a.parquet", "b.csv"], FILES),
        (["a.parquet", "_b.csv", ".crc/x"], "parquet"),
        (["_delta_log/00000000000000000000.json", "a.parquet"], "delta"),
        (["k=1/a.csv"], FILES),
        (["k=1/a.parquet"], "parquet"),
        (["a.parquet.gz"], FILES),
        (["a.csv.GZ"], "csv"),
        (["a.json"], FILES),
        (["README"], FILES),
    ],
)
def test_what_a_folder_holds_is_told_by_names(names: list[str], expected: str) -> None:
    assert format_of(names, single=False) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2", ""], "BIGINT"),
        (["1", "2.5"], "DOUBLE"),
        (["0.061017519724984905", "-0.00012345678901234567"], "DOUBLE"),
        (["0.061017519724984905123"], "VARCHAR"),
        (["1", "nan", "inf", "1e-3"], "DOUBLE"),
        (["01", "2"], "VARCHAR"),
        (["9223372036854775807"], "BIGINT"),
        (["9223372036854775808"], "VARCHAR"),
        (["1", "x"], "VARCHAR"),
        (["1"] * 3000 + ["1.5"], "DOUBLE"),
        ([""] * 3000 + ["7"], "BIGINT"),
        (["", ""], "VARCHAR"),
        (["true", "FALSE"], "BOOLEAN"),
        (["true", "1"], "VARCHAR"),
        (["2020-01-31"], "DATE"),
        (["2020-02-31"], "VARCHAR"),
        (["2020-01-31 10:00", "2020-01-31T10:00:00.5"], "TIMESTAMP"),
        (["2020-01-31T10:00:00Z", "2020-01-31 10:00:00+02:00"], "TIMESTAMP WITH TIME ZONE"),
        (["2020-01-31T10:00:00Z", "2020-01-31T10:00:00"], "VARCHAR"),
        (["2020-01-31T10:00:00.123456789"], "VARCHAR"),
        (["31/01/2020"], "VARCHAR"),
        (["٣"], "VARCHAR"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_type_of_a_csv_column_is_that_of_all_its_values(
    bench: Workbench, tmp_path: Path, values: list[str], expected: str, order: int
) -> None:
    (tmp_path / "t.csv").write_text("k,x\n" + "".join(f"k,{value}\n" for value in values[::order]))
    assert open_path(bench, tmp_path / "t.csv").table.schema == {"k": "VARCHAR", "x": expected}


def test_a_csv_with_thousands_of_columns_is_read(bench: Workbench, tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(600)]
    (tmp_path / "t.csv").write_text("\n".join([",".join(names), ",".join("1" * 600), ",".join(["2.5"] * 600)]))
    opened = open_path(bench, tmp_path / "t.csv")
    assert set(opened.table.schema.values()) == {"DOUBLE"}
    assert bench.measure(opened).rows == 2


@pytest.mark.parametrize(
    ("name", "body", "problem"),
    [
        ("t.csv", "a,b\n1,2\n3\n", "can't be read as CSV: line 3 has 1 column, not 2"),
        ("t.csv", "a,b\n1,2\n3,4,5\n", "line 3 has 3 columns, not 2"),
        ("t.csv", "a,b\n" + "1,2\n" * 30_000 + "1\n", "line 30002 has 1 column, not 2"),
        ("t.csv", "a,b\n1,é\n".encode("latin-1"), "line 2 is not UTF-8"),
        ("t.csv", "é,b\n1,2\n".encode("latin-1"), "it is not UTF-8"),
        ("t.csv", "a,b\n1,é\n".encode("utf-16"), "it is not UTF-8"),
        ("t.csv", 'a,b\n"1,2\n', "line 2: 'Value with unterminated quote found.'"),
        ("t.csv", "", "it is empty"),
        ("t.csv", ",".join(map(str, range(10_001))), "it has 10,001 columns, and 10,000 are allowed"),
        ("t.csv.gz", b"not gzip", "can't be read as CSV"),
        ("t.jsonl", '{"a": 1}\n{"a": \n', "can't be read as JSON"),
        ("t.jsonl", "1\n2\n", "its lines are not JSON objects"),
        ("t.jsonl", '{"a": "é"}\n'.encode("latin-1"), "can't be read as JSON"),
        ("t.jsonl", "", "it is empty"),
        ("t.csv", "a,b\r\n1,2\n3,4\r\n", "its line ends are of two kinds"),
        ("t.parquet", b"PAR1 nonsense", "can't be read as Parquet"),
        ("t.parquet", b"", "can't be read as Parquet"),
        ("t.arrow", b"ARROW1 nonsense", "can't be read as Arrow"),
        ("t.feather", b"FEA1 old", "can't be read as Arrow"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused_in_one_line(
    bench: Workbench, tmp_path: Path, name: str, body: str | bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(body.encode() if isinstance(body, str) else body)
    with pytest.raises(InvalidInputError) as caught:
        bench.measure(open_path(bench, tmp_path / name))
    assert problem in caught.value.message
    assert caught.value.message.startswith(name)
    assert "\n" not in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert len(caught.value.message) < 300


WIDE: dict[str, Callable[[Path, list[str]], object]] = {
    "t.csv": lambda path, names: path.write_text(",".join(names) + "\n" + ",".join("1" for _ in names)),
    "t.csv.gz": lambda path, names: path.write_bytes(gzip.compress(",".join(names).encode())),
    "t.jsonl": lambda path, names: path.write_text(json.dumps(dict.fromkeys(names, 1))),
    "t.jsonl.gz": lambda path, names: path.write_bytes(gzip.compress(json.dumps(dict.fromkeys(names, 1)).encode())),
    "keys.jsonl": lambda path, names: path.write_text("".join(f'{{"{name}": 1}}\n' for name in names)),
    "t.parquet": lambda path, names: pq.write_table(pa.table({name: [1] for name in names}), path),
    "t.arrow": lambda path, names: pa.feather.write_feather(pa.table({name: [1] for name in names}), path),
    "t.arrows": lambda path, names: write_stream(path, pa.table({name: [1] for name in names})),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_bomb_of_columns_is_refused(bench: Workbench, tmp_path: Path, name: str) -> None:
    WIDE[name](tmp_path / name, [f"c{number}" for number in range(100_000)])
    with pytest.raises(InvalidInputError) as caught:
        open_path(bench, tmp_path / name)
    what = "it has more than 10,000 columns" if "json" in name else "it has 100,000 columns, and 10,000 are allowed"
    assert caught.value.message.endswith(what)
    assert caught.value.hint == "keep many values in a column of lists"


def test_json_may_have_hundreds_of_columns(bench: Workbench, tmp_path: Path) -> None:
    WIDE["t.jsonl"](tmp_path / "t.jsonl", [f"c{number}" for number in range(600)])
    opened = open_path(bench, tmp_path / "t.jsonl")
    assert opened.table.schema == {f"c{number}": "BIGINT" for number in range(600)}
    again = open_path(bench, tmp_path / "t.jsonl", opened.table.schema)
    assert bench.measure(again) == bench.measure(opened)


def test_a_damaged_delta_log_is_refused_in_one_line(bench: Workbench, tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"a": [1]}))
    (tmp_path / "t/_delta_log/00000000000000000000.json").write_text("nonsense")
    with pytest.raises(InvalidInputError, match="t can't be read as a Delta table"):
        open_path(bench, tmp_path / "t")


# -- values -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([0.0, -0.0], pa.float64()),
        ([0.0, -0.0], pa.float32()),
        ([[0.0], [-0.0]], pa.list_(pa.float64())),
        ([math.nan, -math.nan], pa.float64()),
        ([[("a", 1), ("b", 2)], [("b", 2), ("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
)
def test_values_that_are_the_same(bench: Workbench, tmp_path: Path, values: list[Any], type_: pa.DataType) -> None:
    left, right = (pa.table({"x": pa.array([value], type_)}) for value in values)
    changes, same = compare_tables(bench, tmp_path, left, right)
    assert (counts(changes), same) == ((0, 0, 0), True)


DIFFERENT: list[tuple[pa.DataType, list[Any]]] = [
    (pa.string(), [None, "", "NULL", ";", ":;", "0:;", "a", "A", "a ", "a\0", "é", "e\u0301"]),
    (pa.binary(), [None, b"", b"\0", b"\xff", b"NULL"]),
    (pa.float64(), [None, math.nan, math.inf, -math.inf, 0.0, 0.1, 0.1 + 2**-55, 5e-324, 1e300]),
    (pa.float32(), [None, math.nan, 0.0, 1.5]),
    (pa.decimal128(38, 10), [None, Decimal("0"), Decimal("0.0000000001"), Decimal("1234567890123456789.1")]),
    (pa.bool_(), [None, True, False]),
    (pa.timestamp("us"), [None, 0, 1, -1]),
    (pa.timestamp("ns"), [None, 0, 1, -1]),
    (pa.timestamp("us", "America/New_York"), [None, 0, 1]),
    (pa.time64("ns"), [None, 0, 1]),
    (pa.date32(), [None, 0, 1]),
    (pa.uint64(), [None, 0, 2**64 - 1]),
    (pa.list_(pa.string()), [None, [], [None], [""], ["a", "b"], ["b", "a"], ["a,b"], ["a];["], ["a", None]]),
    (pa.list_(pa.list_(pa.int64())), [None, [], [[]], [None], [[1], [2]], [[1, 2]], [[], [1, 2]]]),
    (pa.list_(pa.int64(), 2), [None, [1, 2], [2, 1], [None, 1]]),
    (
        pa.struct([("x y", pa.string()), ('q"', pa.list_(pa.struct([("z", pa.float64())])))]),
        [None, {}, {"x y": ""}, {'q"': []}, {'q"': [None]}, {'q"': [{"z": 1.0}]}, {'q"': [{"z": None}]}],
    ),
    (pa.map_(pa.string(), pa.string()), [None, [], [("a", "b")], [("a", None)], [("ab", "")], [("", "ab")]]),
]


@pytest.mark.parametrize(
    ("type_", "values"), DIFFERENT, ids=lambda value: str(value) if isinstance(value, pa.DataType) else ""
)
def test_values_that_differ(bench: Workbench, tmp_path: Path, type_: pa.DataType, values: list[Any]) -> None:
    none = pa.table({"x": pa.array([], type_)})
    changes, _ = compare_tables(bench, tmp_path, none, pa.table({"x": pa.array(values, type_)}), ["x"])
    assert counts(changes) == (len(values), 0, 0)


def test_a_value_does_not_move_to_the_next_column_unseen(bench: Workbench, tmp_path: Path) -> None:
    old = pa.table({"a": ["x", None, "1:y;"], "b": [None, "x", ""]})
    new = pa.table({"a": [None, "x", ""], "b": ["x", None, "1:y;"]})
    changes, same = compare_tables(bench, tmp_path, old, new)
    assert (counts(changes), same) == ((1, 1, 0), False)


def test_columns_may_be_called_anything(bench: Workbench, tmp_path: Path) -> None:
    names = ["select", 'a"b', "a b", "ä", "", "rows_1", "h", "k", "q", "it's", "a\nb", "A", "a"]
    old = pa.table([[1]] * len(names), names)
    new = pa.table([[1]] * (len(names) - 1) + [[2]], names)
    changes, _ = compare_tables(bench, tmp_path, old, new, ['a"b', "h"])
    assert counts(changes) == (0, 0, 1)
    assert len(changes.changed_examples[0][0]) == 3


# -- differences ------------------------------------------------------------------------------------------------------
def test_examples_are_rows_and_of_changed_ones_what_differs(bench: Workbench, tmp_path: Path) -> None:
    old = pa.table({"id": [1, 2, 3], "x": ["a", "b", "c"], "y": [1.5, math.nan, 2.5]})
    new = pa.table({"id": [2, 3, 4], "x": ["b", "C", "d" * 999], "y": [math.nan, 2.5, 3.5]})
    changes, _ = compare_tables(bench, tmp_path, old, new, ["id"])
    assert changes == Changes(
        added=1,
        removed=1,
        changed=1,
        added_examples=({"id": 4, "x": "d" * 200, "y": 3.5},),
        removed_examples=({"id": 1, "x": "a", "y": 1.5},),
        changed_examples=(({"id": 3, "x": "c"}, {"id": 3, "x": "C"}),),
    )


def test_without_a_key_duplicates_count(bench: Workbench, tmp_path: Path) -> None:
    changes, same = compare_tables(bench, tmp_path, pa.table({"x": [1, 1, 1, 2]}), pa.table({"x": [1, 2, 2, 3]}))
    assert (counts(changes), same) == ((2, 2, 0), False)


def test_two_pairs_of_equal_rows_are_not_the_same(bench: Workbench, tmp_path: Path) -> None:
    """As they would be if hashes were combined with xor."""
    changes, same = compare_tables(bench, tmp_path, pa.table({"x": [1, 1]}), pa.table({"x": [2, 2]}))
    assert (counts(changes), same) == ((2, 2, 0), False)


def test_what_both_tables_have_is_compared_when_columns_differ(bench: Workbench, tmp_path: Path) -> None:
    old = pa.table({"id": [1, 2], "x": ["a", "b"], "gone": [1, 1]})
    new = pa.table({"id": [1, 2, 3], "x": ["a", "B", "c"], "wind": [0.5, 0.5, 0.5]})
    assert counts(compare_tables(bench, tmp_path, old, new, ["id"])[0]) == (1, 0, 1)
    assert counts(compare_tables(bench, tmp_path, old, pa.table({"wind": [0.5]}))[0]) == (1, 2, 0)


DAYS = [dt.date(2013, 1, 1), dt.date(2013, 1, 2), dt.date(2013, 1, 3)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([1, 2, 3], ["1", "2", "4"]),
        ([1, 2, 3], pa.array([1, 2, 4], pa.int8())),
        ([1, 2, 3], [1.0, 2.0, 4.0]),
        (["1", "2", "3"], [1, 2, 4]),
        ([Decimal("1.00"), Decimal("2.00"), Decimal("3.00")], [1, 2, 4]),
        (DAYS, [dt.datetime(2013, 1, day) for day in (1, 2, 4)]),
        (DAYS, ["2013-01-01", "2013-01-02", "2013-01-04"]),
    ],
    ids=["text", "narrower", "floating", "number", "decimal", "time", "text of a day"],
)
def test_a_key_that_was_retyped_still_tells_rows_apart(bench: Workbench, tmp_path: Path, old: Any, new: Any) -> None:
    before = pa.table({"id": old, "x": ["a", "b", "c"]})
    after = pa.table({"id": new, "x": ["a", "B", "c"]})
    found, _ = compare_tables(bench, tmp_path, before, after, ["id"])
    assert counts(found) == (1, 1, 1)
    ((was, now),) = found.changed_examples
    assert (was["x"], now["x"]) == ("b", "B")
    assert [each["x"] for each in (*found.added_examples, *found.removed_examples)] == ["c", "c"]


# -- profiles ---------------------------------------------------------------------------------------------------------
def profile_of(bench: Workbench, path: Path) -> dict[str, dict[str, Any]]:
    found = bench.profile(open_path(bench, path))
    json.dumps(found, allow_nan=False)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_a_profile_is_the_same_in_every_format(bench: Workbench, tmp_path: Path, name: str) -> None:
    FORMATS[name](tmp_path / name, PLAIN)
    opened = open_path(bench, tmp_path / name)
    bench.measure(opened, ["id"])
    assert bench.profile(opened) == {
        "id": {"type": "BIGINT", "min": 1, "max": 3, "approx_distinct": 3, "nulls": 0},
        "name": {"type": "VARCHAR", "min": "a", "max": 'says "b, c"', "approx_distinct": 2, "nulls": 1},
        "share": {"type": "DOUBLE", "min": 1e-09, "max": 0.1, "approx_distinct": 2, "nulls": 1},
        "yes": {"type": "BOOLEAN", "min": False, "max": True, "approx_distinct": 2, "nulls": 1},
        "day": {"type": "DATE", "min": "2013-01-01", "max": "2013-12-31", "approx_distinct": 2, "nulls": 1},
        "at": {
            "type": "TIMESTAMP WITH TIME ZONE",
            "min": "2013-01-01 10:00:00+00",
            "max": "2013-01-01 10:00:00+00",
            "approx_distinct": 1,
            "nulls": 2,
        },
    }


def test_a_profile_tells_of_what_has_no_order(bench: Workbench, tmp_path: Path) -> None:
    table = pa.table(
        {
            "nan": [math.nan, 1.0, None],
            "only_nan": [math.nan] * 3,
            "infinite": [math.inf, -math.inf, 0.0],
            "list": [[1], None, [2]],
            "struct": [{"a": 1}, None, None],
            "bytes": [b"1", b"", None],
            "null": pa.array([None] * 3, pa.null()),
            "long": ["x" * 1000, None, None],
            "decimal": [Decimal("0.10"), Decimal("12345678901234567890.00"), None],
            'a "b", c': [1, 1, 1],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = profile_of(bench, tmp_path / "t.parquet")
    types = {name: told.pop("type") for name, told in found.items()}
    assert types["list"] == "BIGINT[]"
    assert found == {
        "nan": {"min": 1.0, "max": 1.0, "approx_distinct": 2, "nulls": 1, "nans": 1},
        "only_nan": {"min": None, "max": None, "approx_distinct": 1, "nulls": 0, "nans": 3},
        "infinite": {"min": "-Infinity", "max": "Infinity", "approx_distinct": 3, "nulls": 0},
        "list": {"nulls": 1},
        "struct": {"nulls": 2},
        "bytes": {"nulls": 1},
        "null": found["null"],
        "long": {"min": "x" * 200, "max": "x" * 200, "approx_distinct": 1, "nulls": 2},
        "decimal": {"min": "0.10", "max": "12345678901234567890.00", "approx_distinct": 2, "nulls": 1},
        'a "b", c': {"min": 1, "max": 1, "approx_distinct": 1, "nulls": 0},
    }
    assert found["null"]["nulls"] == 3


def test_distinct_values_are_counted_to_within_a_tenth(bench: Workbench, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [n % 20_000 for n in range(50_000)]}), tmp_path / "t.parquet")
    (told,) = profile_of(bench, tmp_path / "t.parquet").values()
    assert 18_000 <= told["approx_distinct"] <= 22_000


def test_a_table_without_rows_or_with_many_columns_has_a_profile(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    assert profile_of(bench, tmp_path / "t.csv")["b"]["nulls"] == 0
    pq.write_table(pa.table({f"c{n}": [n] for n in range(1200)}), tmp_path / "t.parquet")
    found = profile_of(bench, tmp_path / "t.parquet")
    assert [told["max"] for told in found.values()] == list(range(1200))


@pytest.mark.parametrize("key", [["id"], ["day", "id"]])
def test_a_key_that_two_rows_share_is_named(bench: Workbench, tmp_path: Path, key: list[str]) -> None:
    days = [dt.date(2013, 1, 1)] * 3
    pq.write_table(pa.table({"id": [1, 2, 2], "day": days, "x": [1, 2, 3]}), tmp_path / "t.parquet")
    opened = open_path(bench, tmp_path / "t.parquet")
    with pytest.raises(InvalidInputError, match=rf"{', '.join(key)} is no key of t.parquet: 2 rows have '.*id=2'"):
        bench.measure(opened, key)
    assert bench.measure(opened, [*key, "x"]).rows == 3


def test_nulls_and_nans_can_be_keys_but_only_once(bench: Workbench, tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [None, math.nan, 1.0]}), tmp_path / "once.parquet")
    assert bench.measure(open_path(bench, tmp_path / "once.parquet"), ["id"]).rows == 3
    pq.write_table(pa.table({"id": [0.0, -0.0]}), tmp_path / "twice.parquet")
    with pytest.raises(InvalidInputError, match="is no key"):
        bench.measure(open_path(bench, tmp_path / "twice.parquet"), ["id"])


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Hear Ctrl-C also where the tests were started in the background by a shell, which has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_is_heard_while_rows_are_compared(bench: Workbench, tmp_path: Path) -> None:
    duckdb.sql(
        "COPY (SELECT i, sin(i) AS x, i::VARCHAR AS s FROM range(4_000_000) t(i)) TO '{}'".format(
            tmp_path / "t.parquet"
        )
    )
    opened = open_path(bench, tmp_path / "t.parquet")
    heard = threading.Event()

    def press() -> None:
        time.sleep(0.2)
        while not heard.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            heard.wait(10)

    pressing = threading.Thread(target=press)
    pressing.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        # It may come between two measurements as well; one that is not heard would let them go on.
        while time.monotonic() - start < 60:
            bench.measure(opened, ["s", "x"])
    heard.set()
    pressing.join()


_VALUES = st.tuples(
    st.integers(0, 3),
    st.none() | st.sampled_from(["", ";", "a", "0:;"]),
    st.none() | st.sampled_from([math.nan, 0.0, -0.0, 1.0]),
)


def _canonical(row: tuple[int, str | None, float | None]) -> tuple[object, ...]:
    value = row[2]
    return (*row[:2], "nan" if value is not None and math.isnan(value) else value)


@settings(deadline=None, max_examples=30)
@given(old=st.lists(_VALUES, max_size=8), new=st.lists(_VALUES, max_size=8))
def test_counts_are_those_of_multisets(
    tmp_path_factory: pytest.TempPathFactory, old: list[Any], new: list[Any]
) -> None:
    before, after = Counter(map(_canonical, old)), Counter(map(_canonical, new))
    folder = tmp_path_factory.mktemp("multisets")
    schema = pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.float64())])
    tables = [pa.table([[row[i] for row in rows] for i in range(3)], schema=schema) for rows in (old, new)]
    with Workbench(folder) as bench:
        changes, same = compare_tables(bench, folder, *tables)
    assert counts(changes) == ((after - before).total(), (before - after).total(), 0)
    assert same == (before == after)


@settings(deadline=None, max_examples=30)
@given(
    old=st.dictionaries(st.integers(0, 9), st.integers(0, 2)), new=st.dictionaries(st.integers(0, 9), st.integers(0, 2))
)
def test_counts_under_a_key_are_those_of_mappings(
    tmp_path_factory: pytest.TempPathFactory, old: dict[int, int], new: dict[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("mappings")
    schema = pa.schema([("id", pa.int64()), ("x", pa.int64())])
    tables = [pa.table([list(rows), list(rows.values())], schema=schema) for rows in (old, new)]
    with Workbench(folder) as bench:
        changes, same = compare_tables(bench, folder, *tables, ["id"])
    changed = sum(old[each] != new[each] for each in old.keys() & new.keys())
    assert counts(changes) == (len(new.keys() - old.keys()), len(old.keys() - new.keys()), changed)
    assert same == (old == new)
