"""Garbage: what goes, what stays however long nobody has looked at it, and what dies in the middle of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater
from headwater.collection import Collected, Collection
from headwater.errors import ConflictError, IntegrityError, InvalidInputError, LakeError, NotFoundError
from headwater.ids import now_micros
from headwater.lake.base import AT, ORIGIN, TRANSACTION_PREFIX
from headwater.lake.local import LocalLake
from headwater.registry import Registry

SMALL, LARGE = 1_000, 300_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an embedded registry with one model, in which the command line finds it."""
    monkeypatch.chdir(tmp_path)
    for name in ("HEADWATER_LAKE", "HEADWATER_BRANCH", "HEADWATER_ACTOR", "HEADWATER_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with headwater.create(str(tmp_path / "lake"), actor="maker") as registry:
        registry.register("m", artifact(tmp_path / "first"))
    monkeypatch.setenv("HEADWATER_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


@pytest.fixture
def local(folder: Path) -> Iterator[Registry]:
    """A registry on that lake."""
    with headwater.open(str(folder), actor="tester") as opened:
        yield opened


def artifact(folder: Path, content: bytes | None = None) -> Path:
    """Make a folder with a small and a large file."""
    folder.mkdir()
    (folder / "small.bin").write_bytes(content or os.urandom(SMALL))
    (folder / "large.bin").write_bytes(content or os.urandom(LARGE))
    return folder


def aged(folder: Path, days: float) -> None:
    """Make everything in a lake's folder look as if it had happened so many days before."""
    micros = int(days * 86_400_000_000)
    with sqlite3.connect(folder / "lake.db") as connection:
        rows = connection.execute("SELECT name, target FROM refs WHERE kind = 'deleted'").fetchall()
        for name, _ in rows:
            key, _, was = name.partition(" ")
            stamp = int(key[:8] + key[9:13], 16) - micros // 1000
            moved = f"{stamp:012x}"
            made = f"{moved[:8]}-{moved[8:]}{key[13:]} {was}"
            connection.execute("UPDATE refs SET name = ? WHERE name = ?", (made, name))
    connection.close()
    for path in (folder / "objects").rglob("*"):
        if path.is_file():
            then = path.stat().st_mtime - micros / 1e6
            os.utime(path, (then, then))


def large_files(folder: Path) -> int:
    return sum(path.is_file() for path in (folder / "objects").rglob("*"))


def abandoned(registry: Registry, tmp_path: Path, name: str = "exp") -> str:
    """Register a version on a branch, delete that, and return the version's commit."""
    version = registry.create_branch(name).register("m", artifact(tmp_path / f"of-{name}"))
    registry._context.lake.delete_branch(name)
    return version.commit


# -- what goes --------------------------------------------------------------------------------------------------------
def test_a_deleted_branch_goes_after_the_grace_period_and_not_before(
    local: Registry, folder: Path, tmp_path: Path
) -> None:
    commit = abandoned(local, tmp_path)
    aged(folder, 13.9)
    found = local.gc()
    assert (found.commits, found.chunks, found.objects) == (0, 0, 0)
    assert found.waiting == 3  # what was uploaded, the rows, the landing
    assert found.waiting_branches == ("exp",)
    assert local.at(commit).get("m/2").version == 2

    aged(folder, 0.2)
    assert large_files(folder) == 2
    found = local.gc()
    assert found.commits == 3
    assert found.objects == 1
    assert found.bytes > LARGE
    assert found.branches == ("exp",)
    assert found.waiting == 0
    assert large_files(folder) == 1
    with headwater.open(str(folder)) as again, pytest.raises(NotFoundError, match="or commit"):
        again.at(commit)
    assert local.gc().is_empty
    assert local.verify() == 1


def test_no_grace_period_takes_what_was_deleted_just_now(local: Registry, folder: Path, tmp_path: Path) -> None:
    abandoned(local, tmp_path)
    assert local.gc(grace=timedelta(0)).objects == 1
    assert local.verify() == 1
    assert local.register("m", tmp_path / "of-exp").version == 3  # numbers that were cut are never cut again
    assert local.verify() == 2


def test_what_is_left_alone_by_a_dry_run_is_what_a_real_one_deletes(
    local: Registry, folder: Path, tmp_path: Path
) -> None:
    commit = abandoned(local, tmp_path)
    shown = local.gc(grace=0, dry_run=True)
    assert shown.dry_run
    assert local.at(commit).verify("m/2") == 1
    done = local.gc(grace=0)
    assert not done.dry_run
    assert (done.commits, done.chunks, done.objects, done.bytes) == (
        shown.commits,
        shown.chunks,
        shown.objects,
        shown.bytes,
    )


def test_who_is_asked_and_says_no_loses_nothing(local: Registry, tmp_path: Path) -> None:
    commit = abandoned(local, tmp_path)
    told: list[Collected] = []
    found = local.gc(grace=0, confirm=lambda each: bool(told.append(each)))
    assert found.dry_run
    assert told[0].commits == 3
    assert local.at(commit).verify("m/2") == 1


def test_the_file_of_the_database_gets_smaller(local: Registry, folder: Path) -> None:
    branch = local.create_branch("exp")
    for number in range(10):
        (folder.parent / f"{number}.bin").write_bytes(os.urandom(100_000))
        branch.register("m", folder.parent / f"{number}.bin")
    local._context.lake.delete_branch("exp")
    before = sum(path.stat().st_size for path in folder.glob("lake.db*"))
    found = local.gc(grace=0)
    assert found.shrunk is not None
    assert found.shrunk > 900_000
    assert sum(path.stat().st_size for path in folder.glob("lake.db*")) < before - 900_000


def test_files_of_a_writer_that_died_go_after_a_day_at_least(local: Registry, folder: Path) -> None:
    lake = local._context.lake
    lake.create_branch(f"{TRANSACTION_PREFIX}dead", lake.head("main"), hidden=True)
    lake.put(f"{TRANSACTION_PREFIX}dead", "x", os.urandom(LARGE))
    assert local.gc(grace=0).objects == 0
    aged(folder, 1.1)
    assert local.gc().objects == 0
    assert local.gc(grace=1).objects == 1
    assert local.verify() == 1


def test_commits_that_no_branch_ever_showed_go_when_they_were_seen_for_long_enough(
    local: Registry, folder: Path, tmp_path: Path
) -> None:
    abandoned(local, tmp_path)
    with sqlite3.connect(folder / "lake.db") as connection:
        connection.execute("DELETE FROM refs WHERE kind = 'deleted'")
    connection.close()
    aged(folder, 100)
    assert local.gc(dry_run=True).commits == 0
    assert local.gc().waiting == 3
    aged(folder, 15)
    assert local.gc().commits == 3


# -- what stays -------------------------------------------------------------------------------------------------------
def test_what_was_merged_stays_readable_by_its_commit(local: Registry, folder: Path, tmp_path: Path) -> None:
    lake = local._context.lake
    version = local.create_branch("exp").register("m", artifact(tmp_path / "a"))
    lake.merge("exp", "main", "merge", {AT: str(now_micros())})
    lake.delete_branch("exp")
    aged(folder, 100)
    assert local.gc().commits == 0
    with headwater.open(str(folder)) as again:
        assert again.at(version.commit).verify("m/2") == 1


def test_a_tag_keeps_a_deleted_branch_until_it_is_deleted_too(local: Registry, folder: Path, tmp_path: Path) -> None:
    lake = local._context.lake
    version = local.create_branch("exp").register("m", artifact(tmp_path / "a"))
    lake.create_tag("kept", version.commit)
    lake.delete_branch("exp")
    aged(folder, 100)
    assert local.gc().commits == 1  # the landing alone
    assert local.at("kept").verify("m/2") == 1
    lake.delete_tag("kept")
    assert local.gc().waiting_branches == ("kept",)
    aged(folder, 100)
    assert local.gc().branches == ("kept",)


def test_data_that_lies_on_a_deleted_branch_stays_with_the_dataset_that_names_it(
    local: Registry, folder: Path, tmp_path: Path
) -> None:
    lake = local._context.lake
    lake.create_branch("landing", lake.head("main"))
    lake.put("landing", "raw/rows.csv", b"id,x\n" + b"".join(b"%d,1\n" % n for n in range(60_000)))
    lake.commit("landing", "raw", {AT: str(now_micros())})
    at = lake.head("landing")
    lake.put("landing", "raw/more.csv", b"id\n" + b"1\n" * LARGE)
    lake.commit("landing", "more", {AT: str(now_micros())})
    assert local.add_dataset("rows", f"lake://{at}/raw/rows.csv").data_commit == at
    lake.delete_branch("landing")
    aged(folder, 100)
    assert local.gc().commits == 1  # what came after the data
    with headwater.open(str(folder)) as again:
        assert again.verify("rows@1.0.0") == 1


def test_what_a_row_on_a_kept_commit_mentions_is_kept_as_well(local: Registry, folder: Path, tmp_path: Path) -> None:
    lake = local._context.lake
    first = abandoned(local, tmp_path, "first")
    second = local.create_branch("second")
    second.describe("m/1", f"compare with {first}")
    lake.create_tag("kept", second.head)
    lake.delete_branch("second")
    aged(folder, 100)
    assert local.gc().commits == 1  # the landing on the first branch
    assert local.at(first).verify("m/2") == 1


def test_a_copy_is_kept_by_a_row_that_knows_it_by_its_first_id(local: Registry, folder: Path, tmp_path: Path) -> None:
    lake = local._context.lake
    first = "f" * 63 + "e"
    lake.create_branch("landing", lake.head("main"))
    lake.put("landing", "raw", os.urandom(LARGE))
    lake.commit("landing", "raw", {AT: str(now_micros()), ORIGIN: first})
    kept = lake.head("landing")
    lake.delete_branch("landing")
    local.describe("m", f"made of object:raw@{first}")
    aged(folder, 100)
    assert local.gc().commits == 0
    assert len(lake.read(kept, "raw")) == LARGE


def test_a_branch_at_a_commit_of_a_deleted_one_keeps_it(local: Registry, folder: Path, tmp_path: Path) -> None:
    commit = abandoned(local, tmp_path)
    aged(folder, 100)
    assert local.create_branch("again", commit).verify("m/2") == 1
    local.gc()
    assert local.branch("again").verify("m/2") == 1


def test_reservations_are_for_ever(local: Registry, folder: Path, tmp_path: Path) -> None:
    local.create_branch("exp").register("other", artifact(tmp_path / "a"))
    local._context.lake.delete_branch("exp")
    local.gc(grace=0)
    with sqlite3.connect(folder / "lake.db") as connection:
        assert connection.execute("SELECT count(*) FROM claims WHERE key = 'name/model/other'").fetchone() == (1,)
    connection.close()


def test_what_is_spooled_is_no_cache(local: Registry) -> None:
    spool = Path(local._context.lake.spool)
    spool.mkdir(exist_ok=True)
    (spool / "of-a-dead-run").write_bytes(b"x")
    local.gc(grace=0)
    assert (spool / "of-a-dead-run").read_bytes() == b"x"


# -- beside others ----------------------------------------------------------------------------------------------------
def test_writers_land_whole_versions_while_collections_run(local: Registry, folder: Path, tmp_path: Path) -> None:
    content = os.urandom(LARGE)
    artifact(tmp_path / "same", content)
    script = """
import sys, headwater
from headwater.errors import HeadwaterError
from pathlib import Path
lake, name, path = sys.argv[1:]
with headwater.open(lake, actor=name) as registry:
    for number in range(12):
        branch = registry.create_branch(f"{name}-{number}")
        branch.register(name, path)
        if number % 3:
            registry._context.lake.delete_branch(branch.ref)
        else:
            registry.register(name, path)
"""
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(folder), f"w{each}", str(tmp_path / "same")])
        for each in range(3)
    ]
    rounds = 0
    while any(writer.poll() is None for writer in writers):
        local.gc(grace=0)
        rounds += 1
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert rounds > 2
    local.gc(grace=0)
    with headwater.open(str(folder)) as again:
        for branch in again.branches():
            assert again.branch(branch).verify() > 0
        assert len(again.versions("w0")) == 4
        assert again.gc(grace=0, dry_run=True).commits == 0


def test_a_branch_that_is_deleted_and_collected_under_a_writer_takes_nothing_half(
    local: Registry, folder: Path, tmp_path: Path
) -> None:
    lake = local._context.lake
    local.create_branch("exp").register("m", artifact(tmp_path / "a"))
    local._context.writer.close()  # whose hidden branch has the same commits until it is gone
    hidden = f"{TRANSACTION_PREFIX}mine"
    lake.create_branch(hidden, lake.head("exp"), hidden=True)
    lake.put(hidden, "new", os.urandom(LARGE))
    lake.put(hidden, "small", b"x")
    lake.commit(hidden, "new", {AT: str(now_micros())})
    lake.delete_branch("exp")
    with headwater.open(str(folder)) as other:
        assert other.gc(grace=0).commits == 3
    lake.create_branch("exp", lake.head("main"))
    with pytest.raises(NotFoundError, match="is not in the lake any more"):
        lake.merge(hidden, "exp", "land", {AT: str(now_micros())})
    assert lake.head("exp") == lake.head("main")


def test_an_object_that_is_collected_before_it_landed_stops_the_landing(local: Registry, folder: Path) -> None:
    lake = local._context.lake
    hidden = f"{TRANSACTION_PREFIX}mine"
    lake.create_branch(hidden, lake.head("main"), hidden=True)
    lake.put(hidden, "new", os.urandom(LARGE))
    lake.commit(hidden, "new", {AT: str(now_micros())})
    aged(folder, 2)
    with headwater.open(str(folder)) as other:
        assert other.gc(grace=0).objects == 1
    with pytest.raises(LakeError, match="collected before it landed"):
        lake.merge(hidden, "main", "land", {AT: str(now_micros())})
    assert local.verify() == 1


def test_bytes_that_are_put_once_more_while_their_commit_goes_stay(local: Registry, folder: Path) -> None:
    lake = local._context.lake
    body = os.urandom(LARGE)
    lake.create_branch("exp", lake.head("main"))
    lake.put("exp", "old", body)
    lake.commit("exp", "old", {AT: str(now_micros())})
    lake.delete_branch("exp")
    hidden = f"{TRANSACTION_PREFIX}mine"
    lake.create_branch(hidden, lake.head("main"), hidden=True)
    time.sleep(0.02)  # the clock of files is coarse
    lake.put(hidden, "new", body)
    with headwater.open(str(folder)) as other:
        found = other.gc(grace=0)
    assert (found.commits, found.objects) == (1, 0)
    lake.commit(hidden, "new", {AT: str(now_micros())})
    lake.merge(hidden, "main", "land", {AT: str(now_micros())})
    assert lake.read("main", "new") == body


def test_small_objects_that_are_staged_on_a_branch_stay(local: Registry, folder: Path) -> None:
    lake = local._context.lake
    lake.put("main", "small", b"staged for a while")
    lake.put("main", "large", os.urandom(LARGE))
    with headwater.open(str(folder)) as other:
        other.gc(grace=0)
    lake.commit("main", "staged", {AT: str(now_micros())})
    assert lake.read("main", "small") == b"staged for a while"
    assert len(lake.read("main", "large")) == LARGE


def test_what_lands_between_looking_and_deleting_is_kept(local: Registry, folder: Path, tmp_path: Path) -> None:
    lake = local._context.lake
    commit = abandoned(local, tmp_path)

    def meanwhile(found: Collected) -> bool:
        with headwater.open(str(folder), actor="other") as other:
            other.create_branch("again", commit)
        return found.commits == 3

    done = local.gc(grace=0, confirm=meanwhile)
    assert (done.commits, done.objects) == (1, 0)  # the landing alone
    assert local.branch("again").verify("m/2") == 1
    assert lake.head("again") == commit


def test_a_row_that_comes_to_mention_a_commit_meanwhile_keeps_it(local: Registry, folder: Path, tmp_path: Path) -> None:
    commit = abandoned(local, tmp_path)

    def meanwhile(found: Collected) -> bool:
        with headwater.open(str(folder), actor="other") as other:
            other.describe("m", f"as in {commit}")
        return True

    assert local.gc(grace=0, confirm=meanwhile).commits == 1
    assert local.at(commit).verify("m/2") == 1


def test_two_collections_do_not_run_at_once(local: Registry, tmp_path: Path) -> None:
    abandoned(local, tmp_path)

    def meanwhile(found: Collected) -> bool:
        with pytest.raises(ConflictError, match="at work"):
            local.gc(grace=0)
        return True

    assert local.gc(grace=0, confirm=meanwhile).commits == 3


def test_a_collection_killed_at_any_moment_leaves_a_whole_lake(folder: Path, tmp_path: Path) -> None:
    script = """
import sys, headwater
with headwater.open(sys.argv[1]) as registry:
    print("ready", flush=True)
    sys.stdin.readline()
    registry.gc(grace=0)
"""
    with headwater.open(str(folder), actor="tester") as registry:
        for number in range(6):
            branch = registry.create_branch(f"exp-{number}")
            for _ in range(20):
                (tmp_path / "x").write_bytes(os.urandom(LARGE))
                branch.register("m", tmp_path / "x")
        for number in range(6):
            registry._context.lake.delete_branch(f"exp-{number}")
            process = subprocess.Popen(
                [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            process.stdin.write("go\n")
            process.stdin.flush()
            time.sleep(0.01 + 0.012 * number)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            with headwater.open(str(folder)) as again:
                for branch in again.branches():
                    again.branch(branch).verify()
                for (name,) in sqlite_rows(folder, "SELECT id FROM commits"):
                    assert again._context.lake.get_commit(name).id == name
                    list(again._context.lake.list(name))
        registry.gc(grace=0)
        assert large_files(folder) == 1
        assert registry.verify() == 1


def sqlite_rows(folder: Path, sql: str) -> list[tuple[str]]:
    connection = sqlite3.connect(folder / "lake.db")
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


# -- bad input --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("what", ["tree", "commit", "small", "large"])
def test_a_damaged_lake_is_refused_and_nothing_is_deleted(folder: Path, tmp_path: Path, what: str) -> None:
    with headwater.open(str(folder), actor="tester") as registry:
        abandoned(registry, tmp_path)
        lake = registry._context.lake
        assert isinstance(lake, LocalLake)
        head = lake.head("main")
        files = {info.path.rpartition("/")[2]: info.sha256 or "" for info in lake.list(head, "artifacts/")}
        tree = lake._graph.load(lake.get_commit(head).parents[0]).tree
    with sqlite3.connect(folder / "lake.db") as connection:
        if what == "tree":
            connection.execute("UPDATE chunks SET body = x'00' WHERE hash = ?", (bytes.fromhex(tree),))
        elif what == "commit":
            connection.execute("DELETE FROM commits WHERE generation = 1")
        elif what == "small":
            connection.execute("DELETE FROM chunks WHERE hash = ?", (bytes.fromhex(files["small.bin"]),))
        before = connection.execute("SELECT count(*) FROM chunks").fetchone()
    connection.close()
    if what == "large":
        (folder / "objects" / files["large.bin"][:2] / files["large.bin"][2:]).unlink()
    left = large_files(folder)
    with (
        headwater.open(str(folder)) as registry,
        pytest.raises(IntegrityError, match=r"missing|sha256 differs") as error,
    ):
        registry.gc(grace=0)
    assert "nothing was deleted" in error.value.hint
    assert error.value.exit_status == 5
    assert sqlite_rows(folder, "SELECT count(*) FROM chunks") == [before]
    assert large_files(folder) == left


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf"), timedelta(seconds=-1)])
def test_a_grace_period_is_no_less_than_nothing(local: Registry, grace: float | timedelta) -> None:
    with pytest.raises(InvalidInputError, match="grace"):
        local.gc(grace=grace)


# -- the cache --------------------------------------------------------------------------------------------------------
def test_folds_of_what_is_gone_are_deleted(local: Registry, folder: Path, tmp_path: Path) -> None:
    commit = abandoned(local, tmp_path)
    local.at(commit).versions("m")
    folds = {path.name for path in (folder / "cache" / "state").glob("*.db")}
    assert len(folds) == 3
    shown = local.gc(dry_run=True)
    assert shown.cached == 1  # the branch's; the commit is there still
    assert {path.name for path in (folder / "cache" / "state").glob("*.db")} == folds
    local.gc(grace=0)
    assert [path.name[:7] for path in (folder / "cache" / "state").glob("*.db")] == ["branch-"]
    assert local.versions("m")[0].version == 1


def test_a_fold_of_what_was_collected_is_made_anew(local: Registry, folder: Path, tmp_path: Path) -> None:
    abandoned(local, tmp_path)
    local.create_branch("exp", "main")
    assert local.gc(grace=0).commits == 3
    with headwater.open(str(folder)) as again:
        assert [version.version for version in again.branch("exp").versions("m")] == [1]


def test_a_cache_beyond_its_size_loses_what_was_used_least_lately(registry: Registry, tmp_path: Path) -> None:
    version = registry.add_dataset("rows", _csv(tmp_path / "a.csv", 1))
    other = registry.add_dataset("others", _csv(tmp_path / "b.csv", 2))
    paths = [version.path(), other.path()]
    long_ago = time.time() - 3 * 86400
    for path in paths[:1]:
        for each in [path, *path.parent.rglob("*")]:
            os.utime(each, (long_ago, long_ago))
    collection = Collection(registry._context)
    assert collection.gc(cache_limit=0, dry_run=True).cached >= 1
    found = collection.gc(cache_limit=0)
    assert not paths[0].exists()
    assert paths[1].exists()
    assert found.cached_bytes > 0
    assert version.path().read_text() == (tmp_path / "a.csv").read_text()


def _csv(path: Path, value: int) -> Path:
    path.write_text(f"id,x\n1,{value}\n")
    return path


# -- on a server ------------------------------------------------------------------------------------------------------
def test_on_a_server_only_branches_of_dead_writers_go(
    lakefs_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    namespace = "local://" + lakefs_url.rpartition("/")[2]
    with headwater.create(lakefs_url, storage_namespace=namespace, actor="tester") as registry:
        lake = registry._context.lake
        commit = abandoned_on_server(registry, tmp_path)
        stale = f"{TRANSACTION_PREFIX}01900000-0000-7000-8000-000000000000_0"
        lake.create_branch(stale, lake.head("main"), hidden=True)
        assert registry.gc(dry_run=True).hidden_branches == 1
        found = registry.gc(grace=0)
        assert (found.hidden_branches, found.commits, found.retention, found.server) == (1, 0, None, True)
        assert stale not in lake.branches(hidden=True)
        assert registry.at(commit).verify("m/1") == 1
        rules = {"default_retention_days": 21, "branches": [{"branch_id": "main", "retention_days": 28}]}
        lake._client.run("set rules", lambda sdk: sdk.repositories.set_gc_rules(lake._name, rules))  # type: ignore[attr-defined]
        assert registry.gc(dry_run=True).retention == {"main": 28, "default": 21}


def abandoned_on_server(registry: Registry, tmp_path: Path) -> str:
    (tmp_path / "x").write_bytes(b"x")
    version = registry.create_branch("exp").register("m", tmp_path / "x")
    registry._context.lake.delete_branch("exp")
    return version.commit


# -- the command ------------------------------------------------------------------------------------------------------
def test_the_command_says_how_much_and_deletes_it(local: Registry, folder: Path, tmp_path: Path) -> None:
    cli = CommandLine()
    assert cli.out("gc", "--yes") == "There is nothing to delete.\n"
    commit = abandoned(local, tmp_path)
    assert "3 commits of exp may go after 14 days without a branch or tag" in cli.out("gc", "--dry-run")
    out = cli.out("gc", "--dry-run", "--grace", "0")
    assert "would delete" in out
    assert "3 commits of exp" in out
    assert "1 large object" in out
    assert local.at(commit).verify("m/2") == 1
    found = cli.json("gc", "--dry-run", "--grace", "0h")
    assert (found["dry_run"], found["commits"], found["branches"]) == (True, 3, ["exp"])
    out = cli.out("gc", "--yes", "--grace", "0")
    assert "deleted 30" in out
    assert cli.json("gc", "--yes")["commits"] == 0


def test_the_command_asks_nobody_who_is_not_there(folder: Path) -> None:
    kind, message, _ = CommandLine().error("gc", status=2)
    assert (kind, message) == ("UsageError", "say --yes or --dry-run where nobody can be asked")
    for wrong in ("x", "-1", "nan", "1y", ""):
        assert "--grace takes days" in CommandLine().error("gc", "--yes", f"--grace={wrong}", status=2)[1]
