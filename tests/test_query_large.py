"""Large tables in SQL: only the files that statistics can't exclude are fetched, whatever the query's words are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

import headwater
from headwater.deltalog import DataFile
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.query import Queries, Session
from headwater.query_plan import _predicate
from headwater.registry import Registry
from headwater.transaction import Transaction

DAY = datetime(2026, 9, 1, tzinfo=UTC)
FILES, ROWS = 5, 10
Columns = dict[str, pa.Array]


def prediction(day: int, row: int) -> str:
    return f"0199{day:04}-0000-7000-8000-{row:012}"


def log_days(registry: Registry) -> None:
    """Land one file of predictions and one of outcomes for each day."""
    for day in range(FILES):
        times = [DAY + timedelta(days=day, minutes=row) for row in range(ROWS)]
        ids = [prediction(day, row) for row in range(ROWS)]
        predictions = {
            "prediction_id": pa.array(ids),
            "predicted_at": pa.array(times, pa.timestamp("us", tz="UTC")),
            "deployment_id": pa.array(["d1"] * ROWS),
            "version_id": pa.array([f"v{day % 2}"] * ROWS),
            "score": pa.array([day + row / 100 for row in range(ROWS)]),
        }
        outcomes = {
            "prediction_id": pa.array(ids),
            "label": pa.array(["late"] * ROWS),
            "observed_at": pa.array([each + timedelta(hours=1) for each in times], pa.timestamp("us", tz="UTC")),
        }

        def work(tx: Transaction, predictions: Columns = predictions, outcomes: Columns = outcomes) -> None:
            tx.append_arrow("predictions", predictions)
            tx.append_arrow("outcomes", outcomes)

        registry._context.write("predictions", work)


@pytest.fixture
def logged(registry: Registry) -> Registry:
    log_days(registry)
    return registry


@pytest.fixture
def fresh(logged: Registry, registry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The same registry with nothing in its cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another-cache"))
    with headwater.open(registry_url, actor="reader") as opened:
        yield opened


QUERIES = [
    ("SELECT count(*) FROM lake.predictions", None, FILES * ROWS, FILES),
    (f"SELECT count(*) FROM lake.predictions WHERE prediction_id = '{prediction(3, 4)}'", None, 1, 1),
    ("SELECT count(*) FROM lake.predictions WHERE prediction_id = $id", {"id": prediction(3, 4)}, 1, 1),
    (
        f"SELECT count(*) FROM lake.predictions WHERE prediction_id IN ('{prediction(1, 4)}', '{prediction(3, 4)}')",
        None,
        2,
        2,
    ),
    (
        f"SELECT count(*) FROM lake.predictions WHERE prediction_id = '{prediction(1, 4)}' OR prediction_id = 'none'",
        None,
        1,
        1,
    ),
    ("SELECT count(*) FROM lake.predictions WHERE prediction_id = 'none'", None, 0, 0),
    ("SELECT count(*) FROM lake.predictions WHERE predicted_at >= '2026-09-04'", None, 2 * ROWS, 2),
    (
        "SELECT count(*) FROM lake.predictions WHERE predicted_at < TIMESTAMPTZ '2026-09-02 02:00:00+02:00'",
        None,
        ROWS,
        1,
    ),
    ("SELECT count(*) FROM lake.predictions WHERE date_trunc('day', predicted_at) = '2026-09-02'", None, ROWS, 1),
    (
        "SELECT count(*) FROM lake.predictions WHERE predicted_at BETWEEN '2026-09-02' AND '2026-09-03'",
        None,
        ROWS + 1,
        2,
    ),
    ("SELECT count(*) FROM lake.predictions WHERE version_id = 'v1' AND predicted_at > '2026-09-03'", None, ROWS, 1),
    ("SELECT count(*) FROM lake.predictions WHERE score > 100", None, 0, FILES),
    ("SELECT count(*) FROM lake.predictions WHERE NOT prediction_id = 'none'", None, FILES * ROWS, FILES),
    ("SELECT count(*) FROM lake.predictions WHERE external_id IS NULL", None, FILES * ROWS, FILES),
    ("SELECT count(*) FROM (SELECT * FROM lake.predictions LIMIT 3)", None, 3, FILES),
    (
        f"SELECT (SELECT count(*) FROM lake.predictions WHERE prediction_id = '{prediction(1, 1)}')"
        f" + (SELECT count(*) FROM lake.predictions WHERE prediction_id >= '{prediction(4, 0)}')",
        None,
        1 + ROWS,
        2,
    ),
    (
        "SELECT count(*) FROM lake.predictions p JOIN lake.outcomes o USING (prediction_id)"
        f" WHERE p.prediction_id = '{prediction(2, 2)}'",
        None,
        1,
        1,
    ),
    ("SELECT count(*) FROM query('FROM lake.' || 'pre' || 'dictions')", None, FILES * ROWS, FILES),
    (
        "WITH p AS MATERIALIZED (FROM lake.predictions) SELECT count(*) FROM p WHERE prediction_id = 'none'",
        None,
        0,
        0,
    ),
]


@pytest.mark.parametrize(("query", "parameters", "rows", "files"), QUERIES, ids=range(len(QUERIES)))
def test_a_query_reads_the_files_that_statistics_cannot_exclude(
    embedded: Registry, query: str, parameters: dict[str, str] | None, rows: int, files: int
) -> None:
    found = embedded.sql(query, parameters)
    assert found.fetchall() == [(rows,)]
    assert found.files_read["predictions"] == (files, FILES)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with headwater.create(str(tmp_path_factory.mktemp("large") / "lake"), actor="tester") as registry:
        log_days(registry)
        yield registry


def cached(registry: Registry) -> int:
    """How many data files of large tables lie in the cache of a lakeFS lake."""
    return len(list(registry._context.lake.cache.glob("objects/paths/*/*/*.parquet")))


def test_only_those_files_are_fetched(fresh: Registry, is_remote: bool) -> None:
    if not is_remote:
        assert fresh.sql("SELECT count(*) FROM lake.outcomes").files_read == {"outcomes": (FILES, FILES)}
        return
    fresh.sql("SELECT count(*) FROM models")
    before = cached(fresh)
    one = fresh.sql(f"SELECT score FROM lake.predictions WHERE prediction_id = '{prediction(3, 4)}'")
    # The word may also mean the view, which joins outcomes: none of its files are needed.
    assert (one.fetchall(), one.files_read) == ([(3.04,)], {"predictions": (1, FILES), "outcomes": (0, FILES)})
    assert cached(fresh) == before + 1
    day = fresh.sql(
        "SELECT label, count(*) FROM lake.predictions p JOIN lake.outcomes o USING (prediction_id)"
        f" WHERE prediction_id BETWEEN '{prediction(3, 0)}' AND '{prediction(3, 99)}' GROUP BY label"
    )
    assert (day.fetchall(), day.files_read) == ([("late", ROWS)], {"predictions": (1, FILES), "outcomes": (1, FILES)})
    assert cached(fresh) == before + 2
    assert fresh.sql("SELECT count(*) FROM lake.predictions").fetchall() == [(FILES * ROWS,)]
    assert cached(fresh) == before + FILES + 1


def test_a_session_begins_without_the_large_tables(fresh: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = fresh._context.lake
    asked: list[str] = []
    localize = lake.localize
    monkeypatch.setattr(lake, "localize", lambda ref, paths: localize(ref, [asked.append(p) or p for p in paths]))
    assert fresh.sql("DESCRIBE lake.predictions").fetchall()[0][0] == "tx"
    fresh.sql("SELECT 1")
    assert not asked
    with pytest.raises(InvalidInputError, match="nothing"):
        fresh.sql("SELECT nothing FROM lake.predictions")
    assert not [path for path in asked if "/predictions/" in path]


def test_between_two_queries_a_large_table_is_not_left_at_what_the_first_needed(embedded: Registry) -> None:
    for rows, where in (
        (1, f"prediction_id = '{prediction(0, 0)}'"),
        (FILES * ROWS, "true"),
        (0, "prediction_id = 'x'"),
    ):
        assert embedded.sql(f"SELECT count(*) FROM lake.predictions WHERE {where}").fetchall() == [(rows,)]
    hidden = "SELECT * FROM query('SELECT count(*) FROM lake.' || 'pre' || 'dictions')"
    assert embedded.sql(hidden).fetchall() == [(FILES * ROWS,)]


def test_explain_shows_a_plan_over_the_files(embedded: Registry) -> None:
    plan = str(embedded.sql("EXPLAIN SELECT count(*) FROM lake.predictions WHERE prediction_id = 'x'").fetchall())
    assert "ARROW" not in plan
    plan = str(
        embedded.sql(f"EXPLAIN ANALYZE FROM lake.predictions WHERE prediction_id = '{prediction(0, 1)}'").fetchall()
    )
    assert "PARQUET" in plan


def test_a_file_that_lacks_a_column_reads_as_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an older Headwater wrote it: among files that have all columns, and as the newest of them."""
    from headwater import tables

    conform = tables.bulk_rows
    with headwater.create(str(tmp_path / "lake"), actor="tester") as registry:
        for lacks in (False, True, False):
            monkeypatch.setattr(
                tables,
                "bulk_rows",
                lambda *a, lacks=lacks: conform(*a).drop_columns(["actor"]) if lacks else conform(*a),
            )
            log_days(registry)
        rows = registry.sql("SELECT count(*), count(actor) FROM lake.predictions").fetchall()
        assert rows == [(3 * FILES * ROWS, 2 * FILES * ROWS)]
        assert registry.sql("SELECT count(*) FROM lake.predictions WHERE actor IS NULL").fetchall() == [(FILES * ROWS,)]
        monkeypatch.setattr(tables, "bulk_rows", lambda *a: conform(*a).drop_columns(["actor"]))
        log_days(registry)
        rows = registry.sql("SELECT count(*), count(actor) FROM lake.predictions").fetchall()
        assert rows == [(4 * FILES * ROWS, 2 * FILES * ROWS)]


FILE = DataFile("f", 1, 1, {"id": ["b", "d"], "time": ["2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z"]})


def constant(text: str) -> dict[str, object]:
    return {"type": "VALUE_CONSTANT", "literal": {"kind": "STRING", "text": text}}


@pytest.mark.parametrize(
    ("kind", "value", "kept"),
    [
        ("COMPARE_EQUAL", "a", False),
        ("COMPARE_EQUAL", "b", True),
        ("COMPARE_EQUAL", "d", True),
        ("COMPARE_EQUAL", "da", False),
        ("COMPARE_LESSTHAN", "a", False),
        ("COMPARE_LESSTHANOREQUALTO", "b", True),
        ("COMPARE_GREATERTHAN", "e", False),
        ("COMPARE_GREATERTHANOREQUALTO", "d", True),
        ("COMPARE_NOTEQUAL", "a", True),
        ("COMPARE_DISTINCT_FROM", "a", True),
    ],
)
def test_a_filter_keeps_a_file_unless_its_range_excludes_it(kind: str, value: str, kept: bool) -> None:
    column = {"type": "COLUMN_REF", "column_names": ["0.t.id"]}
    assert _predicate({"type": kind, "left": column, "right": constant(value)}, "0.t")(FILE) is kept
    turned = (
        kind.replace("LESS", "_").replace("GREATER", "LESS").replace("_THAN", "GREATERTHAN") if "THAN" in kind else kind
    )
    turned = turned.replace("COMPARE__", "COMPARE_")
    assert _predicate({"type": turned, "left": constant(value), "right": column}, "0.t")(FILE) is kept
    unknown = {"type": "COLUMN_REF", "column_names": ["0.t.other"]}
    assert _predicate({"type": kind, "left": unknown, "right": constant(value)}, "0.t")(FILE)


# -- the size of a result ---------------------------------------------------------------------------------------------
@contextmanager
def session(registry: Registry) -> Iterator[Session]:
    queries = Queries(registry._context.lake, registry._context.folds, registry._context.reading)
    queries.sql("SELECT 1")
    assert queries._session is not None
    yield queries._session
    queries.close()


def test_a_result_that_is_too_large_says_how_to_go_on(embedded: Registry) -> None:
    with session(embedded) as asked:
        with pytest.raises(LakeError, match=r"larger than 1 MiB: [0-9,]+ rows, and there are more") as caught:
            asked.sql("FROM range(1000000000)", most_bytes=1 << 20)
        assert "--output" in caught.value.hint
        assert asked.sql("SELECT 1").fetchall() == [(1,)]


def test_a_billion_rows_can_be_read_batch_by_batch_and_left(embedded: Registry) -> None:
    with embedded.sql_rows("SELECT range AS i FROM range(1000000000)") as rows:
        assert rows.schema.names == ["i"]
        assert next(rows.batches).column(0)[0].as_py() == 0
    with embedded.sql_rows("FROM range(200000)") as rows:
        assert sum(batch.num_rows for batch in rows.batches) == 200_000
    with (
        pytest.raises(LakeError, match="longer than"),
        embedded.sql_rows(
            "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b", timeout=0.2
        ) as rows,
    ):
        list(rows.batches)
    with (
        pytest.raises(InvalidInputError, match="can't be run"),
        embedded.sql_rows(
            "SELECT CAST(CASE WHEN range = 150000 THEN 'x' ELSE '1' END AS INT) FROM range(200000)"
        ) as rows,
    ):
        list(rows.batches)
    assert embedded.sql("SELECT 1").fetchall() == [(1,)]


# -- lake_at ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def changed(registry: Registry, tmp_path: Path) -> Registry:
    (tmp_path / "model.bin").write_bytes(b"model")
    for number in (1, 2):
        registry.register("m", tmp_path / "model.bin", metrics={"auc": number / 10})
        registry.set_alias("m", "champion", number)
    return registry


def test_one_query_compares_two_commits(changed: Registry) -> None:
    rows = changed.sql(
        "SELECT n.version, o.version, n.aliases, o.aliases FROM model_versions n"
        " FULL JOIN lake_at('main~2', 'model_versions') o USING (version_id) ORDER BY n.version"
    )
    assert rows.fetchall() == [(1, 1, [], ["champion"]), (2, None, ["champion"], None)]
    base = "SELECT count(*) FROM lake.metrics n LEFT JOIN LAKE_AT ( 'main~2' , 'lake.metrics' ) o USING (tx)"
    assert changed.sql(base + " WHERE o.tx IS NULL").fetchall() == [(1,)]
    three = (
        "SELECT (SELECT count(*) FROM lake_at('main~1', 'lake.events')),"
        " (SELECT count(*) FROM lake_at('main~3',\n'models'))"
    )
    # A name, and a champion with its stages and its traffic.
    assert changed.sql(three).fetchall() == [(5, 1)]
    assert changed.at("main~3").sql("SELECT count(*) FROM lake_at('main', 'aliases')").fetchall() == [(1,)]
    head = changed.head
    assert changed.sql(f"SELECT version FROM lake_at('{head[:12]}', 'aliases')").fetchall() == [(2,)]
    first = changed.log()[-1].recorded_at.isoformat()
    assert changed.sql(f"SELECT count(*) FROM lake_at('main@{{{first}}}', 'models')").fetchall() == [(0,)]


def test_lake_at_in_a_text_or_a_comment_is_not_a_call(changed: Registry) -> None:
    query = """SELECT 'lake_at(''x'', ''y'')' AS "lake_at('x')", e'it\\'s lake_at(', $$ lake_at( $$ -- lake_at(
        /* lake_at( /* nested */ lake_at( */ FROM lake_at('main', 'models') AS lake_at"""
    assert changed.sql(query).fetchall() == [("lake_at('x', 'y')", "it's lake_at(", " lake_at( ")]


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        ("lake_at('nowhere', 'models')", NotFoundError, "no branch, tag or commit 'nowhere'"),
        ("lake_at('main~99', 'models')", NotFoundError, "does not go back"),
        ("lake_at('a b', 'models')", InvalidInputError, "not a ref"),
        ("lake_at('main', 'nothing')", NotFoundError, "no table or view 'nothing'"),
        ("lake_at('main', 'lake.nothing')", NotFoundError, "no table or view 'lake.nothing'"),
        ("lake_at('main', 'events')", NotFoundError, "no table or view 'events'"),
        ("lake_at('main', 'alias_at')", InvalidInputError, "is a macro"),
        ("lake_at('main')", InvalidInputError, "lake_at takes a ref and"),
        ("lake_at(main, models)", InvalidInputError, "lake_at takes a ref and"),
        ("lake_at('main', 'models') WHERE nothing = 1", InvalidInputError, r"line 1, column 47"),
    ],
)
def test_a_wrong_lake_at_is_one_sentence(changed: Registry, call: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        changed.sql(f"SELECT 1 FROM {call}")
    assert "\n" not in str(caught.value)
    assert caught.value.hint  # type: ignore[attr-defined]


def test_an_error_says_where_it_is(embedded: Registry) -> None:
    for query, place in (
        ("SELECT 1,\n  nothing FROM models", "line 2, column 3"),
        ("SELECT 1 FORM models WHERE", "line 1, column"),
        (f"SELECT {', '.join(map(str, range(200)))}, nothing FROM models", "line 1, column 898"),
    ):
        with pytest.raises(InvalidInputError, match=place):
            embedded.sql(query)


def test_a_session_is_used_again_for_refs_that_it_has(changed: Registry) -> None:
    changed.sql("FROM lake_at('main~1', 'models')")
    before = changed._queries._session
    changed.sql("FROM models")
    changed.sql("FROM lake_at('main~1', 'aliases')")
    assert changed._queries._session is before
    changed.sql("FROM lake_at('main~2', 'models')")
    assert changed._queries._session is not before


def test_a_range_of_times_as_ids_finds_the_outcomes_of_a_day(registry: Registry) -> None:
    from headwater.ids import new_id

    before = datetime.now(UTC)
    for _ in range(3):
        ids = [new_id() for _ in range(3)]
        now = pa.array([datetime.now(UTC)] * 3, pa.timestamp("us", tz="UTC"))

        def work(tx: Transaction, ids: list[str] = ids, now: pa.Array = now) -> None:
            tx.append_arrow("outcomes", {"prediction_id": pa.array(ids), "observed_at": now})

        registry._context.write("outcomes", work)
    query = "SELECT count(*) FROM lake.outcomes WHERE prediction_id {} prediction_id_at($t)"
    assert registry.sql(query.format(">="), {"t": before}).fetchall() == [(9,)]
    none = registry.sql(query.format("<"), {"t": before})
    assert (none.fetchall(), none.files_read) == ([(0,)], {"outcomes": (0, 3)})


def test_a_lake_says_beforehand_where_it_puts_data_files(fresh: Registry) -> None:
    lake = fresh._context.lake
    commit = fresh.head
    sizes = {info.path: info.size for info in lake.list(commit, "tables/outcomes/") if "_delta_log" not in info.path}
    assert len(sizes) == FILES
    assert lake.places(commit, sizes) == lake.localize(commit, sizes)
