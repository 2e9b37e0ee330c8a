"""Gates on datasets: what each asks, where they are asked, and what a refusal leaves behind; on both kinds of lake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headwater.content import Workbench
from headwater.dataset_evaluation import DatasetRefusedError
from headwater.dataset_gates import DatasetGates
from headwater.errors import InvalidInputError
from headwater.gate_dataset import ask, same_type
from headwater.governance_model import GateResult
from headwater.policy import parse_policy
from headwater.query_condition import check_condition, reading
from headwater.registry import Registry
from headwater.transaction import Transaction

POLICY = """
[[gate]]
schema = { origin = "TEXT", delay = "INT8" }
[[gate]]
min_rows = 3
[[gate]]
max_nulls = { delay = 0.5 }
[[gate]]
name = "plausible"
condition = "delay BETWEEN -60 AND 2000 OR delay IS NULL"
"""

GOOD = {"origin": ["JFK", "LGA", "EWR", "JFK"], "delay": [5, -3, None, 12]}
WORSE = {"origin": ["JFK", "LGA", "EWR", "JFK"], "delay": [5, -3, None, 99_999]}


def write(place: Path, columns: dict[str, list[Any]]) -> Path:
    pq.write_table(pa.table(columns), place)
    return place


def set_policy(registry: Registry, text: str, name: str = "flights") -> None:
    def work(tx: Transaction) -> None:
        tx.event(f"dataset:{name}", "policy", text)

    registry._context.write("gates", work)


def asked(
    tmp_path: Path, policy: str, columns: dict[str, list[Any]] | None, name: str = "t.parquet"
) -> list[GateResult]:
    gates = parse_policy(policy, dataset=True).datasets
    with Workbench(tmp_path / "bench") as bench:
        opened = None
        if columns is not None:
            table, place = pa.table(columns), tmp_path / name
            if name.endswith(".arrow"):
                with pa.OSFile(str(place), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table)
            elif name.endswith(".csv"):
                lines = zip(*columns.values(), strict=True)
                rows = [",".join("" if value is None else str(value) for value in line) for line in lines]
                place.write_text("\n".join([",".join(columns), *rows]) + "\n")
            else:
                pq.write_table(table, place)
            opened = bench.open(name, name.rpartition(".")[2], {name: place}, single=True)
        return list(ask(gates, opened, bench, source="here"))


# -- what each gate asks ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow"])
def test_every_gate_says_what_it_found(tmp_path: Path, name: str) -> None:
    found = asked(tmp_path, POLICY, GOOD, name)
    assert [(each.gate, each.passed, each.found) for each in found] == [
        ("schema", True, "2 of 2 columns"),
        ("min_rows", True, "4 rows"),
        ("max_nulls", True, "delay 0.25"),
        ("plausible", True, "true of 4 rows"),
    ]
    worse = asked(tmp_path, POLICY, {"origin": ["JFK", "LGA"], "delay": [None, 99_999]}, name)
    assert [(each.gate, each.passed, each.found) for each in worse] == [
        ("schema", True, "2 of 2 columns"),
        ("min_rows", False, "2 rows"),
        ("max_nulls", True, "delay 0.5"),
        ("plausible", False, "not true of 1 of 2 rows, such as 'origin=LGA, delay=99999'"),
    ]
    assert worse[1].required == "at least 3 rows"
    assert worse[3].details["example"] == {"origin": "LGA", "delay": 99_999}


def test_a_column_that_is_missing_or_of_another_type_is_named(tmp_path: Path) -> None:
    (schema, _, nulls, plausible) = asked(tmp_path, POLICY, {"origin": ["a", "b", "c"], "delay": ["1", "2", "3"]})
    assert (schema.passed, schema.found) == (False, "delay is VARCHAR, not INT8")
    assert nulls.passed
    assert not plausible.passed
    (schema, rows, nulls, plausible) = asked(tmp_path, POLICY, {"origin": ["a", "b", "c"]})
    assert (schema.passed, schema.found) == (False, "no column delay")
    assert rows.passed
    assert (nulls.passed, nulls.found) == (False, "no column delay")
    assert (plausible.passed, plausible.found) == (
        False, 'Referenced column "delay" not found in FROM clause!'
    )  # fmt: skip


def test_what_is_no_table_passes_no_gate(tmp_path: Path) -> None:
    found = asked(tmp_path, POLICY, None)
    assert {(each.passed, each.found) for each in found} == {(False, "it is no table, but a folder of files")}


def test_an_empty_table_has_too_few_rows_and_no_nulls(tmp_path: Path) -> None:
    table = {"origin": pa.array([], pa.string()), "delay": pa.array([], pa.int64())}
    assert [each.passed for each in asked(tmp_path, POLICY, table)] == [True, False, True, True]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("condition", "passed", "found"),
    [
        ("max(delay) < 100", True, "true"),
        ("max(delay) < 10", False, "not true"),
        ("count(DISTINCT origin) = 3", True, "true"),
        ("delay > (SELECT min(delay) - 1 FROM data) OR delay IS NULL", True, "true of 4 rows"),
        ("row_number() OVER (ORDER BY delay) < 4", False, "not true of 1 of 4 rows"),
        ("true -- a comment", True, "true of 4 rows"),
        ("delay", False, "the condition is BIGINT, not true or false"),
        ("NULL", False, "the condition is NULL, not true or false"),
        ("COLUMNS(*) IS NOT NULL", False, "the condition is BOOLEAN, BOOLEAN, not true or false"),
        ("true, true", False, "the condition is TUPLE(BOOLEAN, BOOLEAN), not true or false"),
        ("true) AS c FROM data UNION SELECT (true", False, "is more than an expression"),
        ("1; DROP TABLE data", False, "the condition can't be read: syntax error"),
        ("EXISTS (FROM read_csv('/etc/passwd'))", False, "disabled by configuration"),
        ("EXISTS (FROM read_text('/etc/passwd'))", False, "disabled by configuration"),
        ("EXISTS (FROM glob('/*'))", False, "disabled by configuration"),
        ("EXISTS (FROM '/etc/passwd')", False, "does not exist"),
        ("getenv('HOME') = ''", False, "does not exist"),
        ("origin::INTEGER = 1", False, "Could not convert string 'JFK'"),
        ("$1", False, "Values were not provided"),
    ],
)
def test_a_condition_is_one_expression_over_the_rows_alone(
    tmp_path: Path, condition: str, passed: bool, found: str
) -> None:
    (result,) = asked(tmp_path, f"[[gate]]\ncondition = {json.dumps(condition)}\n", GOOD)
    assert result.passed is passed
    assert found in result.found
    assert result.required == condition


def test_a_condition_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    place = write(tmp_path / "t.parquet", GOOD)
    with Workbench(tmp_path / "bench") as bench:
        opened = bench.open("t", "parquet", {"t.parquet": place}, single=True)
        assert opened is not None
        with reading(opened, bench, timeout=0.2) as rows:
            with pytest.raises(InvalidInputError, match=r"longer than 0\.2 seconds"):
                rows.holds("(SELECT count(*) FROM range(100000000000) a, range(1000) b) > 1")
            # and the next question is answered
            assert rows.holds("delay IS NULL OR delay > -5").failed == 0


def test_the_text_of_a_condition_can_be_checked_without_data() -> None:
    check_condition("delay > 0 AND max(x) < 3")
    for text in ("delay >", "true) FROM (SELECT true", "true; SELECT 1"):
        with pytest.raises(InvalidInputError, match="condition"):
            check_condition(text)


def test_one_type_has_many_names() -> None:
    assert same_type("bigint", "INT8")
    assert same_type("TIMESTAMP WITH TIME ZONE", "timestamptz")
    assert same_type("VARCHAR(10)", "text")
    assert same_type("DECIMAL(10,2)", "decimal(10,2)")
    assert not same_type("INTEGER", "BIGINT")


# -- where they are asked ---------------------------------------------------------------------------------------------
def refusals(registry: Registry) -> list[dict[str, Any]]:
    rows = registry.sql("SELECT subject, value, reason FROM lake.events WHERE kind = 'refusal' ORDER BY event_id")
    return [{**row, "value": json.loads(row["value"])} for row in rows.arrow().to_pylist()]


def test_data_that_is_added_to_main_is_judged_at_once(registry: Registry, tmp_path: Path) -> None:
    set_policy(registry, POLICY)
    good = registry.add_dataset("flights", write(tmp_path / "good.parquet", GOOD))
    results = registry.sql("SELECT subject, key, value FROM lake.events WHERE kind = 'gate' ORDER BY key").arrow()
    assert {row["subject"] for row in results.to_pylist()} == {good.dataset_id}
    assert [row["key"] for row in results.to_pylist()] == [
        "dataset max_nulls", "dataset min_rows", "dataset plausible", "dataset schema"
    ]  # fmt: skip

    with pytest.raises(DatasetRefusedError, match=r"1 gate refused the data: flights, plausible: required .*99999"):
        registry.add_dataset("flights", write(tmp_path / "bad.parquet", WORSE))
    assert [each.semver for each in registry.dataset_versions("flights")] == ["1.0.0"]
    (refusal,) = refusals(registry)
    assert (refusal["subject"], refusal["reason"]) == ("dataset:flights", "data add flights")
    assert refusal["value"]["gates"] == ["plausible"]
    assert registry.log(limit=1)[0].kind == "refuse"
    # another dataset is none of its business
    registry.add_dataset("other", tmp_path / "bad.parquet")


def test_a_branch_tries_anything_and_its_merge_is_judged(registry: Registry, tmp_path: Path) -> None:
    registry.add_dataset("flights", write(tmp_path / "good.parquet", GOOD))
    set_policy(registry, POLICY)
    exp = registry.create_branch("load-42")
    bad = exp.add_dataset("flights", write(tmp_path / "bad.parquet", WORSE))
    assert refusals(exp) == []
    assert [each.passed for each in DatasetGates(exp._context).check("flights").results] == [True, True, True, False]

    preview = registry.merge("load-42", dry_run=True)
    assert [(each.reference, each.passed) for each in preview.datasets] == [(bad.reference, False)]
    before = registry.head
    with pytest.raises(DatasetRefusedError, match=rf"{bad.reference}, plausible: .*such as 'origin=JFK, delay=99999'"):
        registry.merge("load-42")
    assert [each.semver for each in registry.dataset_versions("flights")] == ["1.0.0"]
    (refusal,) = refusals(registry)
    assert refusal["value"]["version"] == bad.reference
    assert refusal["value"]["dataset_id"] == bad.dataset_id
    assert refusal["reason"] == "merge load-42"
    assert registry.log(limit=1)[0].parents == (before,) or registry.head != before

    # mended, and the bad one put aside: only what is there is judged
    good = exp.add_dataset("flights", write(tmp_path / "mended.parquet", {**GOOD, "delay": [5, -3, None, 13]}))
    with pytest.raises(DatasetRefusedError):
        registry.merge("load-42")
    exp.revert(bad.commit, force=True)
    done = registry.merge("load-42")
    assert [(each.reference, each.passed) for each in done.datasets] == [(good.reference, True)]
    assert registry.dataset("flights").semver == good.semver
    recorded = registry.sql("SELECT DISTINCT subject FROM lake.events WHERE kind = 'gate'").arrow().to_pylist()
    assert recorded == [{"subject": good.dataset_id}]


def test_a_policy_loosened_on_the_branch_does_not_let_its_data_in(registry: Registry, tmp_path: Path) -> None:
    set_policy(registry, POLICY)
    exp = registry.create_branch("load-42")
    set_policy(exp, "[[gate]]\nmin_rows = 1\n")
    exp.add_dataset("flights", write(tmp_path / "bad.parquet", WORSE))
    with pytest.raises(DatasetRefusedError, match="plausible"):
        registry.merge("load-42")


def test_a_rehearsal_is_judged_as_what_it_stands_for(registry: Registry, tmp_path: Path) -> None:
    set_policy(registry, POLICY)
    with registry.rehearse() as rehearsal, pytest.raises(DatasetRefusedError, match="plausible"):
        rehearsal.add_dataset("flights", write(tmp_path / "bad.parquet", WORSE))
    assert refusals(registry) == []


def test_two_policies_that_stand_hold_together(registry: Registry, tmp_path: Path) -> None:
    registry.add_dataset("flights", write(tmp_path / "good.parquet", GOOD))
    exp = registry.create_branch("load-42")
    set_policy(exp, "[[gate]]\nmin_rows = 2\n")
    with registry._context.reading() as fold:
        assert fold.standing("dataset:flights", "policy") == []
    assert [each.gate for each in DatasetGates(exp._context).check("flights@1.0.0").results] == ["min_rows"]
    found = DatasetGates(registry._context).check("flights@1.0.0")
    assert found.results == ()
    assert found.passed
    assert found.policy is None
