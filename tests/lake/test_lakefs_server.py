"""A real lakeFS server: what only it has, from making a repository to the S3 gateway and damaged storage."""

from __future__ import annotations

import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.lakefs.server import Server

from headwater.errors import (
    GateFailedError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    PermissionDeniedError,
)
from headwater.ids import new_id, now_micros
from headwater.lake.lakefs import Credentials, LakeFS


@pytest.fixture
def lake(lakefs_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LakeFS]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = LakeFS.create(lakefs_url, storage_namespace=namespace(lakefs_url))
    yield made
    made.close()


def namespace(url: str) -> str:
    return "local://" + url.rpartition("/")[2]


def stored(server: Server, lake: LakeFS, ref: str, path: str) -> Path:
    """The file in which the server keeps an object's bytes."""
    stats = lake._client.sdk.objects.stat_object(lake._name, ref, path)
    return server.folder / "objects" / urlsplit(stats["physical_address"]).path.split("/objects/", 1)[-1].lstrip("/")


def calls(lake: LakeFS, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the HTTP calls that are made from now on."""
    made: list[str] = []
    pool = lake._client.sdk.pool
    request = pool.urlopen
    guard = threading.Lock()

    def counted(method: str, url: str, *args: object, **kwargs: object) -> object:
        with guard:
            made.append(f"{method} {urlsplit(url).path.partition('/api/v1/repositories/')[2].partition('/')[2]}")
        return request(method, url, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(pool, "urlopen", counted)
    return made


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_repository_is_made_joined_and_opened(lakefs_url: str, lake: LakeFS) -> None:
    assert lake.url == lakefs_url
    commit = lake.head("main")
    for again in (
        LakeFS.create(lakefs_url, storage_namespace="local://elsewhere"),
        LakeFS.create(lakefs_url, storage_namespace=None),
        LakeFS.connect(lakefs_url),
    ):
        assert (again.url, again.default_branch, again.cache) == (lake.url, lake.default_branch, lake.cache)
        assert again.head("main") == commit
        again.close()


def test_a_repository_that_is_not_there(lakefs_url: str) -> None:
    with pytest.raises(NotFoundError, match="there is no repository 'test-") as caught:
        LakeFS.connect(lakefs_url)
    assert lakefs_url in caught.value.hint
    with pytest.raises(InvalidInputError, match="there is no repository 'test-") as refused:
        LakeFS.create(lakefs_url, storage_namespace=None)
    assert "--storage-namespace" in refused.value.hint


def test_a_storage_namespace_that_cannot_be_used(lakefs_url: str, lake: LakeFS) -> None:
    for wrong, words in (("s3://bucket", "namespace"), (namespace(lakefs_url), "already in use"), ("", "namespace")):
        with pytest.raises(InvalidInputError, match=words) as caught:
            LakeFS.create(f"{lakefs_url}-2", storage_namespace=wrong)
        assert "\n" not in caught.value.message


def test_keys_that_the_server_does_not_know(lakefs_url: str, lake: LakeFS) -> None:
    for access, secret in (("AKIANOBODY", "x"), (os.environ["LAKECTL_CREDENTIALS_ACCESS_KEY_ID"], "wrong")):
        with pytest.raises(PermissionDeniedError, match="does not know these keys") as caught:
            LakeFS.connect(lakefs_url, credentials=Credentials(access, secret))
        assert caught.value.exit_status == 3


def test_no_keys_at_all(lakefs_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(LakeError, match="there are no lakeFS"):
        LakeFS.connect(lakefs_url)


def test_a_repository_made_anew_has_another_cache(lakefs_url: str, lake: LakeFS) -> None:
    other = LakeFS.create(f"{lakefs_url}-2", storage_namespace=namespace(f"{lakefs_url}-2"))
    assert other.cache.parent == lake.cache.parent
    assert other.cache != lake.cache
    assert stat.S_IMODE(lake.cache.stat().st_mode) == 0o700
    other.close()


def test_the_default_branch_stays(lake: LakeFS) -> None:
    with pytest.raises(PermissionDeniedError, match="default branch"):
        lake.delete_branch("main")


# -- how many calls it takes -------------------------------------------------------------------------------------------


def test_few_calls(lake: LakeFS, monkeypatch: pytest.MonkeyPatch) -> None:
    table = "tables/t/0f/part-1.parquet"
    log = "tables/t/_delta_log/00000000000000000000.json"
    lake.put_many("main", {"a": b"1", table: b"2", log: b"3"})
    commit = lake.commit("main", "m", {})
    lake.cut("s", "v")
    made = calls(lake, monkeypatch)

    def taken() -> list[str]:
        told = made.copy()
        made.clear()
        return told

    lake.head("main")
    assert taken() == ["GET branches/main"]
    lake.create_branch("_hw_1", commit, hidden=True)
    lake.put("_hw_1", "b", b"1")
    lake.commit("_hw_1", "m", {})
    lake.merge("_hw_1", "main", "m", {})
    lake.delete_branch("_hw_1")
    assert taken() == [
        "POST branches",
        "POST branches/_hw_1/objects",
        "POST branches/_hw_1/commits",
        "POST refs/_hw_1/merge/main",
        "DELETE branches/_hw_1",
    ]
    lake.cut("s", "w")
    assert taken() == ["POST branches/_hw_reservations/objects"]
    lake.read(commit, "a")
    lake.stat(commit, "a")
    list(lake.list(commit))
    assert len(taken()) == 3
    assert len(lake.localize(commit, [table, log])) == 2
    assert len(taken()) == 2
    lake.localize(commit, [table, log])
    assert taken() == []
    head = lake.head("main")
    taken()
    lake.localize(head, [table, log])  # the data file by its name; the log entry has to be asked for
    assert taken() == [f"GET refs/{head}/objects"]


def test_an_operation_that_runs_anew_gets_its_number_again(lake: LakeFS, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [lake.cut("s", value) for value in ("tx-1", "tx-2")] == [1, 2]
    made = calls(lake, monkeypatch)
    assert lake.cut("s", "tx-1", after=2) == 1
    assert made == []
    assert lake.cut("t", "tx-1") == 1
    assert lake.cut("s", "tx-3") == 3


def test_another_process_finds_the_next_number_in_a_few_calls(lake: LakeFS, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [lake.cut("s", f"tx-{i}") for i in range(40)] == list(range(1, 41))
    other = LakeFS.connect(lake.url)
    made = calls(other, monkeypatch)
    assert other.cut("s", "theirs") == 41
    assert len(made) < 16
    made.clear()
    assert lake.cut("s", "mine") == 42
    assert other.cut("s", "theirs too", after=42) == 43
    assert len(made) == 1
    other.close()


def test_what_dead_transactions_left_is_swept(lake: LakeFS) -> None:
    head = lake.head("main")
    old, new = new_id(), new_id()
    for name in (f"_hw_tx_{old}", f"_hw_tx_{old}_1", "_hw_reservations", "_hw_other", "tx"):
        lake.create_branch(name, head, hidden=name != "tx")
    before = now_micros() + 1000
    time.sleep(0.003)  # IDs tell milliseconds
    lake.create_branch(f"_hw_tx_{new_id()}_1", head, hidden=True)
    assert old < new
    assert lake.sweep(before) == 2
    assert lake.sweep(before) == 0
    assert lake.head("_hw_other") == lake.head("_hw_reservations") == head
    assert list(lake.branches()) == ["main", "tx"]


# -- storage that is damaged, and objects of strangers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("changed", "is not what was put: its MD5 differs"),
        ("cut short", "is not what was put: the lake gives only 1000 of its 256000 bytes"),
        ("deleted", "its bytes have been removed from the storage"),
    ],
)
def test_damaged_storage_is_noticed(lake: LakeFS, lakefs_server: Server, damage: str, words: str) -> None:
    content = bytes(range(256)) * 1000
    paths = ["a", "tables/t/part-1.parquet"]
    lake.put_many("main", dict.fromkeys(paths, content))
    commit = lake.commit("main", "m", {})
    for path in paths:
        file = stored(lakefs_server, lake, commit, path)
        assert file.read_bytes() == content
        if damage == "changed":
            file.write_bytes(content[:-1] + b"\0")
        elif damage == "cut short":
            file.write_bytes(content[:1000])
        else:
            file.unlink()
        with pytest.raises(IntegrityError, match=words) as caught:
            lake.read(commit, path)
        assert "\n" not in caught.value.message
        with pytest.raises(IntegrityError, match=words), lake.open(commit, path) as stream:
            stream.read()
        with pytest.raises(IntegrityError, match=words):
            lake.localize(commit, [path])
    with pytest.raises(IntegrityError, match=words):
        lake.read_many(commit, paths)
    assert not [path for path in lake.cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [7, 1_000_000])
def test_bytes_that_somebody_added_to_the_storage_are_not_read(lake: LakeFS, lakefs_server: Server, size: int) -> None:
    content = b"x" * size
    lake.put("main", "a", content)
    commit = lake.commit("main", "m", {})
    stored(lakefs_server, lake, commit, "a").write_bytes(content + b"more")
    with suppress(IntegrityError):  # of a small object the server then sends nothing
        assert lake.read(commit, "a") == content


def test_a_damaged_copy_in_the_cache_is_replaced(lake: LakeFS) -> None:
    content = {"tables/t/part-1.parquet": b"data file", "tables/t/_delta_log/0.json": b"log entry", "model": b"bytes"}
    lake.put_many("main", content)
    commit = lake.commit("main", "m", {})
    for damage in (
        lambda file: file.unlink(),
        lambda file: os.truncate(file, 3),
        lambda file: file.write_bytes(b"x" * 99),
    ):
        for file in lake.localize(commit, content).values():
            assert lake.cache in file.parents
            file.chmod(0o600)
            damage(file)
        assert {path: file.read_bytes() for path, file in lake.localize(commit, content).items()} == content


def test_a_cache_that_cannot_be_written(lake: LakeFS) -> None:
    lake.put("main", "a", b"1")
    lake.commit("main", "m", {})
    shutil.rmtree(lake.cache)
    lake.cache.write_text("a file where the folder should be")
    with pytest.raises(LakeError, match=r"the cache in .* cannot be written") as caught:
        lake.localize("main", ["a"])
    assert "XDG_CACHE_HOME" in caught.value.hint
    assert lake.read("main", "a") == b"1"


def test_an_object_of_a_strangers_has_no_sha256(lake: LakeFS) -> None:
    lake._client.upload(lake._client.sdk, "main", "theirs", b"1", {})
    lake.put("main", "ours", b"1")
    lake.commit("main", "m", {})
    assert lake.stat("main", "theirs").sha256 is None
    assert lake.stat("main", "ours").sha256 is not None
    assert lake.read("main", "theirs") == b"1"


def test_a_hook_may_refuse_a_merge(lake: LakeFS) -> None:
    action = b"""
name: no merges
on:
  pre-merge:
    branches: [main]
hooks:
  - id: refuse
    type: lua
    properties:
      script: error("not on a Friday")
"""
    lake.put("main", "_lakefs_actions/refuse.yaml", action)
    head = lake.commit("main", "a hook", {})
    lake.create_branch("side", head)
    lake.put("side", "a", b"1")
    lake.commit("side", "m", {})
    with pytest.raises(GateFailedError, match="hook of the repository refuses it") as caught:
        lake.merge("side", "main", "m", {})
    assert "\n" not in caught.value.message
    assert lake.head("main") == head


def test_a_forked_process_makes_its_own_connections(lake: LakeFS) -> None:
    lake.put("main", "a", b"1")
    commit = lake.commit("main", "m", {})
    parent = lake._client.sdk
    lake._client._sdk.pid = -1  # as it looks after a fork
    assert lake.read(commit, "a") == b"1"
    assert lake._client.sdk is not parent
    parent.threads.shutdown()
    parent.pool.clear()


# -- the gateway -------------------------------------------------------------------------------------------------------


def test_a_stock_delta_client_opens_a_table_at_any_ref(lake: LakeFS, tmp_path: Path) -> None:
    scratch = tmp_path / "table"
    commits = []
    for rows in ([1, 2, 3], [4]):
        write_deltalake(scratch, pa.table({"a": rows}), mode="append")
        files = {f"tables/t/{f.relative_to(scratch)}": f.read_bytes() for f in scratch.rglob("*") if f.is_file()}
        lake.put_many("main", files)
        commits.append(lake.commit("main", f"{rows}", {}))
    lake.create_tag("first", commits[0])
    for ref, expected in (
        (commits[0], [1, 2, 3]),
        ("first", [1, 2, 3]),
        (commits[1], [1, 2, 3, 4]),
        ("main", [1, 2, 3, 4]),
    ):
        uri, options = lake.delta(ref, "tables/t")
        assert uri.startswith("s3://")
        table = DeltaTable(uri, storage_options=options)
        assert sorted(table.to_pyarrow_table()["a"].to_pylist()) == expected


def test_a_table_that_a_delta_client_wrote_is_read_through_the_port(lake: LakeFS) -> None:
    _, options = lake.delta("main", "tables/t")
    write_deltalake(f"s3://{lake._name}/main/tables/t", pa.table({"a": [1, 2]}), storage_options=options)
    assert list(lake.list("main")) == []
    commit = lake.commit("main", "by a stranger", {})
    uri, options = lake.delta(commit, "tables/t")
    assert DeltaTable(uri, storage_options=options).to_pyarrow_table()["a"].to_pylist() == [1, 2]
    listed = [info.path for info in lake.list(commit)]
    assert any("_delta_log" in path for path in listed)
    assert all(info.sha256 is None for info in lake.list(commit))
    assert {path: file.read_bytes() for path, file in lake.localize(commit, listed).items()} == lake.read_many(
        commit, listed
    )
