"""SQL at a commit: what may be asked, what is refused, and that a query changes nothing on disk."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.query import views
from headwater.registry import Registry
from headwater.schema import TABLES

ROOT = Path(__file__).parents[1]


@pytest.fixture
def two_versions(registry: Registry, tmp_path: Path) -> Registry:
    (tmp_path / "model.bin").write_bytes(b"model")
    for number in (1, 2):
        registry.register("m", tmp_path / "model.bin", metrics={"auc": number / 10}, tags={"n": str(number)})
    registry.set_alias("m", "champion", 1)
    return registry


REFUSED = [
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY lake.models TO '{folder}/out.parquet'",
    "ATTACH '{folder}/out.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET memory_limit = '1TB'",
    "SET enable_external_access = true",
    "RESET memory_limit",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "EXPORT DATABASE '{folder}/out'",
    "CREATE TABLE t (a INT)",
    "CREATE OR REPLACE VIEW models AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "DROP VIEW models",
    "INSERT INTO lake.models SELECT * FROM lake.models",
    "DELETE FROM lake.models",
    "UPDATE lake.events SET value = 'x'",
    "BEGIN",
    "COMMIT",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE p AS SELECT 1",
    "USE lake",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/out.csv'",
    "EXPLAIN ANALYZE INSERT INTO lake.models SELECT * FROM lake.models",
    "WITH gone AS (DELETE FROM lake.models RETURNING *) SELECT * FROM gone",
    "WITH new AS (INSERT INTO lake.events SELECT * FROM lake.events RETURNING *) SELECT * FROM new",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('/etc/passwd')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM parquet_metadata('/etc/passwd')",
    "SELECT * FROM read_parquet('https://example.org/a.parquet')",
    "SELECT getenv('HOME')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{folder}/out.csv''')",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'",
    "",
    "-- nothing",
    "SELEC 1",
    "SELECT nothing FROM nowhere",
    "SELECT 1 WHERE $missing = 1",
]


def everything_under(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_not_one_reading_statement_is_refused_and_changes_nothing(
    two_versions: Registry, tmp_path: Path
) -> None:
    assert two_versions.sql("SELECT count(*) FROM models").fetchall() == [(1,)]
    folder = tmp_path / "written"
    folder.mkdir()
    before = everything_under(tmp_path)
    for query in REFUSED:
        with pytest.raises(InvalidInputError) as caught:
            two_versions.sql(query.format(folder=folder))
        assert "\n" not in caught.value.message, query
    assert everything_under(tmp_path) == before
    assert two_versions.sql("SELECT name, versions FROM models").fetchall() == [("m", 2)]
    assert two_versions.sql("SELECT count(*) FROM lake.events").fetchall() == [(5,)]


@pytest.mark.parametrize(
    ("query", "parameters", "rows"),
    [
        ("FROM (VALUES (1), (2)) t(a)", None, [(1,), (2,)]),
        ("SELECT $a || $b", {"a": "x", "b": "y"}, [("xy",)]),
        ("SELECT ? + ?", [1, 2], [(3,)]),
        ("WITH t AS (SELECT version FROM model_versions) SELECT max(version) FROM t;", None, [(2,)]),
        ("SELECT column_name FROM (DESCRIBE models) LIMIT 1", None, [("name",)]),
        ("SELECT name FROM models WHERE name = $name", {"name": "' OR 1=1 --"}, []),
    ],
)
def test_reading_statements_run(two_versions: Registry, query: str, parameters: object, rows: object) -> None:
    assert two_versions.sql(query, parameters).fetchall() == rows  # type: ignore[arg-type]
    assert len(two_versions.sql("SHOW ALL TABLES")) > len(TABLES)
    assert len(two_versions.sql("EXPLAIN SELECT 1")) > 0
    assert len(two_versions.sql("SUMMARIZE lake.metrics")) == len(TABLES["metrics"].columns)


def test_a_query_that_takes_too_long_is_stopped(two_versions: Registry) -> None:
    with pytest.raises(LakeError, match=r"longer than 0\.2 seconds"):
        two_versions.sql("SELECT count(*) FROM range(10000000) a, range(10000000) b", timeout=0.2)
    assert two_versions.sql("SELECT 1").fetchall() == [(1,)]


def test_a_result_can_be_had_in_every_form(two_versions: Registry) -> None:
    found = two_versions.sql("SELECT version, '<b>' AS text FROM model_versions ORDER BY 1")
    assert found.columns == ["version", "text"]
    assert (len(found), list(found)) == (2, [(1, "<b>"), (2, "<b>")])
    assert isinstance(found.arrow(), pa.Table)
    assert found.pl().rows() == [(1, "<b>"), (2, "<b>")]
    assert found.dicts()[0] == {"version": 1, "text": "<b>"}
    assert "2 rows of version, text" in repr(found)
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()


def test_views_agree_with_the_library(two_versions: Registry) -> None:
    registry = two_versions
    rows = registry.sql(
        "SELECT name, version, version_id, commit, stage, aliases, digest, size, actor FROM model_versions"
        " ORDER BY version DESC"
    ).fetchall()
    assert rows == [
        (v.name, v.version, v.version_id, v.commit, v.stage, list(v.aliases), v.digest, v.size, v.actor)
        for v in registry.versions("m")
    ]
    assert registry.sql("SELECT version, key, value, source FROM metrics ORDER BY version").fetchall() == [
        (1, "auc", 0.1, "claimed"),
        (2, "auc", 0.2, "claimed"),
    ]
    assert registry.sql("SELECT name, alias, version FROM aliases").fetchall() == [("m", "champion", 1)]
    history = registry.sql(
        "SELECT kind, key, to_version, standing FROM history WHERE kind IN ('name', 'alias')"
    ).fetchall()
    assert history == [("name", "", None, True), ("alias", "champion", 1, True)]
    log = registry.log()
    commits = registry.sql("SELECT commit, message FROM lake.commits WHERE tx IS NOT NULL ORDER BY position DESC")
    assert commits.fetchall() == [(each.commit, each.message) for each in log]


def test_deleted_things_leave_the_views_and_stay_in_the_tables(two_versions: Registry) -> None:
    two_versions.delete("m/2", reason="bad")
    assert two_versions.sql("SELECT version FROM model_versions").fetchall() == [(1,)]
    assert two_versions.sql("SELECT DISTINCT version FROM metrics").fetchall() == [(1,)]
    assert two_versions.sql("SELECT reason FROM hidden").fetchall() == [("bad",)]
    assert two_versions.sql("SELECT count(*) FROM lake.model_versions").fetchall() == [(2,)]


def test_a_query_can_be_asked_at_any_ref(two_versions: Registry) -> None:
    count = "SELECT count(*) FROM model_versions"
    refs = {"main": 2, "main~1": 2, "main~2": 1, "main~3": 0, two_versions.head[:8]: 2}
    for ref, versions in refs.items():
        assert two_versions.at(ref).sql(count).fetchall() == [(versions,)], ref
    first = two_versions.log()[-1].recorded_at.isoformat()
    assert two_versions.at(f"main@{{{first}}}").sql(count).fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("nothing", NotFoundError),
        ("main~99", NotFoundError),
        ("main~99999999999999", NotFoundError),
        ("main@{2001-01-01}", NotFoundError),
        ("deadbeef", NotFoundError),
        ("main@{no time}", InvalidInputError),
        ("main@{2001-01-01}@{2001-01-01}", InvalidInputError),
        ("", InvalidInputError),
        ("a b", InvalidInputError),
        ("main~-1", InvalidInputError),
        ("../main", NotFoundError),
        ("_hw_x", NotFoundError),
        ("main\n", InvalidInputError),
        ("x" * 2000, InvalidInputError),
    ],
)
def test_a_ref_that_is_none_is_one_sentence(registry: Registry, ref: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        registry.at(ref)
    assert "\n" not in str(caught.value)


def test_every_sql_file_has_a_head_and_makes_one_object_of_its_name() -> None:
    assert views()
    for name, text in views():
        head, example = re.match(r"-- (\S+?)[:(]", text), re.search(r"^-- Example: .+", text, re.MULTILINE)
        assert head, name
        assert example, name
        assert re.search("^-- Columns?: ", text, re.MULTILINE), name
        made = re.findall(r"^CREATE OR REPLACE (?:VIEW|MACRO) (\w+)", text, re.MULTILINE)
        assert made == [head[1]], name
        assert re.fullmatch(rf"\d\d\d_{head[1]}\.sql", name), name


def test_every_example_of_the_sql_files_runs(two_versions: Registry) -> None:
    for name, text in views():
        example = re.search(r"^-- Example: (.+)", text, re.MULTILINE)
        assert example, name
        two_versions.sql(example[1])


def test_the_wheel_holds_the_same_sql_files(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {Path(name).name for name in archive.namelist() if name.startswith("headwater/_sql/")}
    assert packed == {name for name, _ in views()}
