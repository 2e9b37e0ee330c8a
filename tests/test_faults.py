"""What is left when writers race, die, or run out of disk: whole versions, each of them, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater.errors import HeadwaterError, IntegrityError, LakeError, NotFoundError
from headwater.ids import new_id, now_micros
from headwater.lake.base import TRANSACTION_PREFIX
from headwater.lake.local import LocalLake
from headwater.registry import Registry

SCRIPT = Path(__file__).parent / "processes.py"


def start(*arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out)


def check_whole(registry: Registry, name: str) -> list[int]:
    """Check that every version that can be seen is whole, and return their numbers."""
    versions = registry.versions(name)
    assert registry.verify(*[version.reference for version in versions]) == len(versions)
    numbers = [version.version for version in versions]
    assert len(set(numbers)) == len(numbers)
    rows = registry.sql(
        "SELECT v.version, count(m.version_id) FROM model_versions v LEFT JOIN metrics m USING (version_id)"
        " WHERE v.name = ? GROUP BY ALL ORDER BY 1",
        [name],
    ).fetchall()
    assert rows == [(number, 1) for number in sorted(numbers)]
    for version in versions:
        assert registry._context.lake.get_commit(version.commit).metadata["headwater.kind"] == "register"
    return numbers


@pytest.mark.timeout(900)
def test_sixteen_processes_register_one_model_at_once(registry: Registry, registry_url: str, is_remote: bool) -> None:
    each = 4 if is_remote else 100
    racing = [start("register_many", registry_url, "m", each, 20_000) for _ in range(16)]
    numbers = [number for process in racing for number in result(process)["numbers"]]
    assert sorted(numbers) == list(range(1, 16 * each + 1))
    if is_remote:
        assert sorted(check_whole(registry, "m")) == sorted(numbers)
    else:
        assert sorted(version.version for version in registry.versions("m")) == sorted(numbers)
        registry.verify()


@pytest.mark.timeout(900)
def test_a_writer_killed_at_any_moment_leaves_whole_versions_only(
    registry: Registry, registry_url: str, is_remote: bool
) -> None:
    # A server that others keep busy takes its time: there each has longer before it is killed, and fewer are.
    kills, longest = (100, 1.0) if is_remote else (200, 0.15)
    done = result(start("kill_while_registering", registry_url, "m", kills, longest, 1))
    assert done == {"killed": kills, "finished": 0}
    with headwater.open(registry_url) as opened:
        numbers = check_whole(opened, "m")
        assert len(numbers) > (2 if is_remote else 20)
        assert opened.branches().keys() == {"main"}
        after = opened.register("m", SCRIPT)
        assert after.version > max(numbers)
        assert opened.versions("m")[0] == after
    if not is_remote:
        assert list((Path(registry_url) / "objects" / "tmp").iterdir()) == []


def test_a_full_disk_is_one_sentence_and_leaves_whole_versions(tmp_path: Path) -> None:
    room = tmp_path / "room"
    room.mkdir()
    namespaces = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    script = f"mount -t tmpfs -o size=12m tmpfs {room} && exec {sys.executable} {SCRIPT} fill_the_disk {room}"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [*namespaces, "sh", "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert len(told["errors"]) == 4
    assert {kind for kind, _ in told["errors"]} == {"LakeError"}
    assert all("full" in message and "\n" not in message for _, message in told["errors"])
    assert told["verified"] == told["listed"] == told["landed"] > 0
    assert told["left"] == []
    assert told["after"] == told["landed"] + 1


# -- an embedded lake that was tampered with --------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an embedded registry with one model of 300 kB, closed."""
    artifact = tmp_path / "artifact.bin"
    artifact.write_bytes(os.urandom(300_000))
    with headwater.create(str(tmp_path / "lake")) as registry:
        registry.register("m", artifact)
        registry.set_alias("m", "champion", 1)
    shutil.rmtree(tmp_path / "lake" / "cache")
    return tmp_path / "lake"


def execute(folder: Path, sql: str, *parameters: object) -> None:
    import sqlite3

    connection = sqlite3.connect(folder / "lake.db")
    with connection:
        assert connection.execute(sql, parameters).rowcount != 0
    connection.close()


def everything(folder: Path) -> None:
    with headwater.open(str(folder)) as registry:
        registry.resolve("m@champion")
        registry.verify()
        registry.sql("FROM model_versions")
        registry.log()


def test_an_object_with_one_bit_changed_is_found(folder: Path) -> None:
    (stored,) = [path for path in (folder / "objects").rglob("*") if path.is_file()]
    stored.chmod(0o644)
    body = bytearray(stored.read_bytes())
    body[1000] ^= 1
    stored.write_bytes(body)
    with pytest.raises(IntegrityError, match=r"m/1.*artifact.bin"):
        everything(folder)
    stored.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        everything(folder)


def test_registering_the_same_bytes_heals_a_damaged_object(folder: Path, tmp_path: Path) -> None:
    (stored,) = [path for path in (folder / "objects").rglob("*") if path.is_file()]
    stored.chmod(0o644)
    stored.write_bytes(b"damaged")
    with headwater.open(str(folder)) as registry:
        registry.register("m", tmp_path / "artifact.bin")
        assert registry.verify() == 2


@pytest.mark.parametrize("table", ["chunks", "commits"])
def test_a_tree_or_commit_that_was_changed_is_found(folder: Path, table: str) -> None:
    changed = "x'00' || CAST('tampered' AS BLOB)" if table == "chunks" else "replace(body, 'register', 'regisTer')"
    execute(folder, f"UPDATE {table} SET body = {changed}")
    with pytest.raises(IntegrityError, match="not what was written"):
        everything(folder)


def test_a_missing_tree_is_found(folder: Path) -> None:
    execute(folder, "DELETE FROM chunks")
    with pytest.raises(IntegrityError, match="missing"):
        everything(folder)


def test_a_lake_db_that_is_not_ours_or_truncated_is_refused(folder: Path) -> None:
    database = folder / "lake.db"
    whole = database.read_bytes()
    for leftover in folder.glob("lake.db-*"):
        leftover.unlink()
    for body in (b"not a database at all, but long enough to look at", b"", whole[: len(whole) // 2]):
        database.write_bytes(body)
        with pytest.raises(HeadwaterError) as caught:
            everything(folder)
        assert "\n" not in caught.value.message
        assert "lake.db" in caught.value.message


def test_another_programs_sqlite_file_is_refused(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "lake").mkdir()
    connection = sqlite3.connect(tmp_path / "lake" / "lake.db")
    connection.execute("CREATE TABLE refs (a)")
    connection.commit()
    connection.close()
    with pytest.raises(LakeError, match="not a Headwater lake"):
        headwater.open(str(tmp_path / "lake"))


def test_a_lake_db_of_a_newer_format_is_refused(folder: Path) -> None:
    execute(folder, "PRAGMA user_version = 99")
    with pytest.raises(LakeError, match="newer Headwater"):
        headwater.open(str(folder))


def test_a_locked_lake_db_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from headwater.lake import local_db

    monkeypatch.setattr(local_db, "PATIENCE", 0.2)
    with headwater.open(str(folder)) as registry:
        holder = sqlite3.connect(folder / "lake.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        assert registry.resolve("m@champion").version == 1
        with pytest.raises(LakeError, match="locked by another program"):
            registry.set_alias("m", "other", 1)
        holder.execute("ROLLBACK")
        holder.close()
        registry.set_alias("m", "other", 1)


def test_a_read_only_lake_can_be_read(folder: Path, tmp_path: Path) -> None:
    """The lake is mounted read-only, since root may write whatever the modes say."""
    code = (
        "import sys, headwater\n"
        "registry = headwater.open(sys.argv[1])\n"
        "name = registry.sql('SELECT name FROM models').fetchall()[0][0]\n"
        "print(registry.resolve('m@champion').version, registry.verify(), name)\n"
        "try:\n    registry.set_alias('m', 'other', 1)\n"
        "except headwater.LakeError as error:\n    print(error.message)\n"
    )
    mount = f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}"
    script = f'{mount} && exec {sys.executable} -c "$CODE" {folder}'
    namespaces = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    environment = {**os.environ, "CODE": code, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [*namespaces, "sh", "-c", script], capture_output=True, text=True, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    first, second = ran.stdout.splitlines()
    assert first == "1 1 m"
    assert "read-only" in second or "can't be written" in second


@pytest.mark.parametrize("damage", ["deleted", "garbage", "truncated", "stale"])
def test_the_cache_may_be_damaged_at_any_time(folder: Path, tmp_path: Path, damage: str) -> None:
    with headwater.open(str(folder)) as registry:
        registry.resolve("m@champion")
        registry.sql("FROM models")
    older = tmp_path / "older"
    shutil.copytree(folder / "cache", older)
    with headwater.open(str(folder)) as registry:
        registry.register("m", tmp_path / "artifact.bin")
        registry.set_alias("m", "champion", 2)
    for path in [each for each in (folder / "cache").rglob("*") if each.is_file()]:
        path.chmod(0o644)
        if damage == "deleted":
            path.unlink()
        elif damage == "garbage":
            path.write_bytes(os.urandom(5000))
        elif damage == "truncated":
            path.write_bytes(path.read_bytes()[:1000])
    if damage == "stale":
        shutil.rmtree(folder / "cache")
        shutil.copytree(older, folder / "cache")
    with headwater.open(str(folder)) as registry:
        assert registry.resolve("m@champion").version == 2
        assert registry.sql("SELECT latest_version FROM models").fetchall() == [(2,)]
        registry.register("m", tmp_path / "artifact.bin")
        assert registry.verify() == 3


def test_what_a_dead_writer_left_is_cleared_by_the_next_opener(folder: Path) -> None:
    left = folder / "objects" / "tmp" / "999999999-left"
    left.write_bytes(b"half")
    mine = folder / "objects" / "tmp" / f"{os.getpid()}-mine"
    mine.write_bytes(b"in use")
    LocalLake.connect(folder).close()
    assert not left.exists()
    assert mine.exists()


def test_hidden_branches_never_outlive_a_transaction(registry: Registry) -> None:
    before = registry.head
    registry.register("m", SCRIPT)
    with pytest.raises(HeadwaterError):
        registry.set_alias("m", "champion", 9)
    registry._context.writer.close()
    assert registry.head != before
    lake = registry._context.lake
    assert lake.sweep(now_micros()) == 0
    left = f"{TRANSACTION_PREFIX}{new_id()}_0"
    lake.create_branch(left, before, hidden=True)
    assert lake.sweep(now_micros() - 60_000_000) == 0
    assert lake.head(left) == before
    if not isinstance(lake, LocalLake):
        assert lake.sweep(now_micros() + 1_000_000) == 1
        with pytest.raises(NotFoundError):
            lake.head(left)


def test_a_fold_with_a_damaged_page_is_deleted_and_made_anew(folder: Path) -> None:
    with headwater.open(str(folder)) as registry:
        for number in range(60):
            registry.tag("m/1", {f"k{number}": "x" * 200})
    (fold,) = (folder / "cache" / "state").glob("branch-*.db")
    body = bytearray(fold.read_bytes())
    body[4096 * 4 :] = b"\xff" * (len(body) - 4096 * 4)
    fold.write_bytes(body)
    for leftover in fold.parent.glob("*.db-*"):
        leftover.unlink()
    for _ in range(3):
        try:
            with headwater.open(str(folder)) as registry:
                assert len(registry.get("m/1").tags) == 60
                assert registry.resolve("m@champion").version == 1
            break
        except LakeError:
            continue
    else:
        pytest.fail("the fold was never made anew")


def test_closing_while_other_threads_work_is_an_error_at_worst(folder: Path) -> None:
    code = (
        "import sys, threading, time, headwater\n"
        "registry = headwater.open(sys.argv[1])\n"
        "def work():\n"
        "    try:\n"
        "        while True:\n"
        "            registry.versions('m'); registry.set_alias('m', 'a' + threading.current_thread().name[-1], 1)\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__)\n"
        "for _ in range(3):\n    threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.5); registry.close(); time.sleep(0.5); print('alive')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "alive"


def test_threads_that_end_leave_no_connections(folder: Path) -> None:
    import gc
    import sqlite3
    import threading

    def connections() -> int:
        gc.collect()
        return sum(isinstance(each, sqlite3.Connection) for each in gc.get_objects())

    with headwater.open(str(folder)) as registry:
        registry.versions("m")
        before = connections()
        threads = [threading.Thread(target=registry.versions, args=("m",)) for _ in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert connections() <= before
