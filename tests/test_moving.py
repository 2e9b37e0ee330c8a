"""Moving a history to another lake and back: the same rows, bytes, numbers and names; again, after kills, both ways."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.command_line import CommandLine
from tests.lineage_world import make_world, save

import headwater
from headwater import clashes
from headwater.conflicts import MergeConflictError
from headwater.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    PermissionDeniedError,
)
from headwater.lake import connect as lakes
from headwater.lake import local, refs
from headwater.lake.base import IMPORT_PREFIX, ORIGIN, Lake
from headwater.moving import Moved
from headwater.registry import Registry
from headwater.replication import Sent
from headwater.schema import TABLES
from headwater.transaction import Transaction

SCRIPT = Path(__file__).parent / "processes.py"
BIG = 6 << 20
STRIDE = 3


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


@pytest.fixture(params=["local", "lakefs"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of another lake, of each kind in turn, that is not there yet."""
    url = str(request.getfixturevalue("lakefs_url")) if request.param == "lakefs" else str(tmp_path / "other")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("HEADWATER_LAKE", "HEADWATER_BRANCH", "HEADWATER_ACTOR", "HEADWATER_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return url


@pytest.fixture
def laptop(there: str, tmp_path: Path) -> Iterator[Registry]:
    """A registry in an embedded lake, where people begin."""
    with headwater.create(str(tmp_path / "laptop"), actor="ada") as registry:
        yield registry


def namespace(url: str) -> str | None:
    return "local://" + url.rpartition("/")[2] if lakes.is_remote(url) else None


def push(registry: Registry, url: str, branches: list[str] | None = None) -> Moved:
    return registry.push(url, branches, storage_namespace=namespace(url))


def rows(registry: Registry) -> dict[str, list[Any]]:
    return {name: registry.sql(f"SELECT * FROM lake.{name} ORDER BY ALL").arrow().to_pylist() for name in TABLES}


def told(registry: Registry) -> list[tuple[Any, ...]]:
    """Return the log without commit IDs, which are another lake's own."""
    return [(e.recorded_at, e.actor, e.kind, e.subject, e.message) for e in registry.log()]


def graph(registry: Registry, ref: str = "main") -> list[tuple[str, tuple[str, ...], dict[str, str]]]:
    """Return the history by the commits' first IDs, which all copies have in common."""
    lake = registry._context.lake
    log = list(lake.log(refs.settled(lake, refs.resolve(lake, ref).commit)))
    moves = {each.id for each in log if refs.settled(lake, each.id) != each.id}
    whole = {each.id: each for each in log}
    names = {each.id: refs.origin_of(whole[refs.settled(lake, each.id)]) if each.parents else "first" for each in log}
    return sorted(
        (names[each.id], tuple(names[p] for p in each.parents), {k: v for k, v in each.metadata.items() if k != ORIGIN})
        for each in log
        if each.parents and each.id not in moves
    )  # fmt: skip


def same(left: Registry, right: Registry) -> None:
    assert rows(left) == rows(right)
    assert told(left) == told(right)
    assert graph(left) == graph(right)


def everything(registry: Registry, folder: Path) -> None:
    """Fill a registry with all that it can hold, on branches that are merged, open, and gone."""
    world = make_world(registry, folder)
    big = folder / "big"
    big.mkdir()
    (big / "weights.bin").write_bytes(os.urandom(BIG))
    (big / "config.json").write_text("{}")
    registry.register("big", big, metrics={"auc": 0.9}, params={"depth": 6}, tags={"team": "ops"})
    with registry.start_run("train", experiment="delays", params={"lr": 0.1}) as run:
        run.use("flights@1.1.0")
        run.log_metrics({"step": list(range(50)), "loss": [1 / (n + 1) for n in range(50)]})
        run.register("flight-delay", folder / "model.bin")
    live = world.deployments["live"]
    registry.log_predictions(pa.table({"id": ["a", "b"], "x": [1, 2], "score": [0.1, 0.2], "output": ["n", "y"]}), live)
    registry.log_outcomes(pa.table({"external_id": ["a"], "label": ["y"]}), live)
    exp = registry.create_branch("exp")
    exp.register("flight-delay", folder / "model.bin", description="on a branch")
    registry.describe("flight-delay/1", "on main")
    registry.merge("exp")
    open_one = registry.create_branch("open")
    open_one.register("tried", folder / "model.bin")
    lake = registry._context.lake
    raw = lake.create_branch("raw", registry.head)
    save(folder / "raw.parquet", {"id": [1, 2], "x": [0.5, 1.5]})
    lake.put("raw", "raw/x.parquet", (folder / "raw.parquet").read_bytes())
    raw = lake.commit("raw", "raw data", {})
    registry.add_dataset("pinned", f"lake://{raw}/raw/x.parquet", key=["id"])
    lake.delete_branch("raw")
    lake.create_tag("release", registry.at("main~2").head)


# -- there and back ---------------------------------------------------------------------------------------------------
def test_everything_goes_there_and_back_as_it_was(laptop: Registry, there: str, tmp_path: Path) -> None:
    everything(laptop, tmp_path)
    moved = push(laptop, there)
    assert set(moved.branches) == {"main", "exp", "open"}
    assert set(moved.tags) == {"release"}
    assert moved.bytes > BIG
    with headwater.open(there, actor="bob") as server:
        same(laptop, server)
        same(laptop.branch("open"), server.branch("open"))
        assert server.verify() == laptop.verify()
        assert rows(server.at("release")) == rows(laptop.at("release"))
        assert rows(server.at("main~3")) == rows(laptop.at("main~3"))
        assert server.dataset("pinned").arrow().to_pylist() == [{"id": 1, "x": 0.5}, {"id": 2, "x": 1.5}]
        server.pull_dataset("pinned", tmp_path / "pinned")
        server.get("big/1").pull(tmp_path / "pulled")
    assert (tmp_path / "pulled" / "weights.bin").read_bytes() == (tmp_path / "big" / "weights.bin").read_bytes()
    with headwater.create(str(tmp_path / "again"), actor="eve") as again:
        back = again.pull_from(there)
        assert back.branches.keys() == moved.branches.keys()
        assert back.commits == moved.commits
        same(laptop, again)
        same(laptop.branch("open"), again.branch("open"))
        assert again.verify() == laptop.verify()
        assert again.dataset("pinned").arrow().num_rows == 2
        # numbers and names were brought too
        assert again.register("tried", tmp_path / "model.bin").version == 2
        assert again.register("flight-delay", tmp_path / "model.bin").version == 5


def test_a_copy_knows_when_things_happened(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("timely", artifact)
    laptop.set_alias("timely", "champion", 1)
    laptop.register("timely", artifact)
    laptop.set_alias("timely", "champion", 2)
    times = "SELECT tx, landed_at FROM lake.commits WHERE tx IS NOT NULL ORDER BY position"
    then = laptop.log(limit=2)[1].recorded_at
    push(laptop, there)
    with headwater.open(there, actor="bob") as server:
        assert server.sql(times).fetchall() == laptop.sql(times).fetchall()
        assert server.history("timely", at=then).champion == 1
        assert server.at(f"main@{{{then.isoformat()}}}").resolve("timely@champion").version == 1


def test_a_second_push_sends_nothing(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there) as server:
        head = server.head
        commits = len(list(server._context.lake.commits()))
        assert push(laptop, there) == Moved(server.url)
        assert laptop.pull_from(there) == Moved(server.url)
        assert server.head == head
        assert len(list(server._context.lake.commits())) == commits


def test_only_the_rest_is_sent(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    assert push(laptop, there).commits > 3
    artifact.write_bytes(b"other weights")
    laptop.register("m", artifact)
    moved = push(laptop, there)
    assert moved.commits == 3
    assert moved.reservations == 1
    with headwater.open(there) as server:
        same(laptop, server)


def test_the_server_goes_on_and_comes_back(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there, actor="bob") as server:
        server.register("m", artifact)
        server.create_branch("exp").register("other", artifact)
        moved = laptop.pull_from(there)
        assert set(moved.branches) == {"main", "exp"}
        assert moved.commits == 6
        same(laptop, server)
        assert laptop.register("m", artifact).version == 3
        assert push(laptop, there).commits == 3
        same(laptop, server)


def test_a_third_lake_knows_the_same_commits(laptop: Registry, there: str, artifact: Path, tmp_path: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    third = str(tmp_path / "third")
    with headwater.open(there) as server:
        server.push(third)
    assert laptop.pull_from(third).commits == 0
    with headwater.open(third) as registry:
        registry.register("m", artifact)
        assert push(registry, there).commits == 3
    assert laptop.pull_from(third).commits == 3
    assert laptop.pull_from(there).commits == 0


def test_people_find_a_commit_by_its_old_id(laptop: Registry, there: str, artifact: Path) -> None:
    made = laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there) as server:
        assert server.at(made.commit).get("m/1").version_id == made.version_id
        assert server.at(made.commit[:12]).head == server.get("m/1").commit
        with pytest.raises(NotFoundError):
            server.at("deadbeef" * 8)


def test_data_that_was_pinned_on_a_copy_is_found_where_it_came_from(
    laptop: Registry, there: str, artifact: Path, tmp_path: Path
) -> None:
    laptop.register("m", artifact)
    lake = laptop._context.lake
    lake.create_branch("raw", laptop.head)
    lake.put("raw", "raw/x.bin", b"12345")
    lake.commit("raw", "raw data", {})
    push(laptop, there)
    with headwater.open(there) as server:
        server.add_dataset("pinned", "lake://raw/raw/x.bin")
    laptop.pull_from(there)
    laptop.pull_dataset("pinned", tmp_path / "pinned")
    assert (tmp_path / "pinned" / "x.bin").read_bytes() == b"12345"


def test_one_branch_can_be_sent(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    for name in ("a", "b"):
        laptop.create_branch(name).register(name, artifact)
    assert set(push(laptop, there, ["a"]).branches) == {"a", "main"}
    assert set(push(laptop, there, ["b"]).branches) == {"b"}


def test_what_is_done_is_told(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    seen: list[tuple[int, int]] = []

    def tell(sent: Sent) -> None:
        seen.append((sent.commits, sent.total))

    moved = laptop.push(there, storage_namespace=namespace(there), tell=tell)
    assert seen[0] == (0, moved.commits)
    assert seen[-1] == (moved.commits, moved.commits)


# -- both sides go on -------------------------------------------------------------------------------------------------
def test_a_push_to_what_went_on_is_refused_and_a_pull_brings_both_together(
    laptop: Registry, there: str, artifact: Path
) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there, actor="bob") as server:
        theirs = server.register("theirs", artifact, metrics={"auc": 0.7})
        ours = laptop.register("ours", artifact)
        head = server.head
        with pytest.raises(ConflictError, match="branch main has gone on both here and in") as refused:
            push(laptop, there)
        assert "pull-from" in refused.value.hint
        assert server.head == head
        moved = laptop.pull_from(there)
        assert moved.branches == {"main": laptop.head}
        assert laptop.get("theirs/1").version_id == theirs.version_id
        assert laptop.get("ours/1").version_id == ours.version_id
        called = server.url if "://" in server.url else Path(server.url).name
        assert laptop.log(limit=1)[0].message.startswith(f"merge main of {called} into main")
        assert [(each.target, each.transactions) for each in moved.merges] == [("main", 1)]
        push(laptop, there)
        same(laptop, server)
        assert server.get("ours/1").version_id == ours.version_id
        assert laptop.pull_from(there).commits == 0
        assert server.register("theirs", artifact).version == 2
        laptop.pull_from(there)
        same(laptop, server)


def test_what_both_changed_has_to_be_settled(laptop: Registry, there: str, artifact: Path) -> None:
    for _ in range(2):
        laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there, actor="bob") as server:
        server.set_alias("m", "champion", 2)
    laptop.set_alias("m", "champion", 1)
    head = laptop.head
    with pytest.raises(MergeConflictError, match="alias:m@champion"):
        laptop.pull_from(there)
    assert laptop.head == head
    out = CommandLine().out("--lake", laptop.url, "pull-from", there, "--theirs")
    assert "alias:m@champion is m/2 (theirs)" in out
    assert laptop.resolve("m@champion").version == 2
    push(laptop, there)
    with headwater.open(there) as server:
        same(laptop, server)


def test_a_number_that_means_two_things_stops_it_before_anything_is_written(
    laptop: Registry, there: str, artifact: Path
) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there, actor="bob") as server:
        theirs = [server.register("m", artifact), server.register("new", artifact)]
        ours = [laptop.register("m", artifact), laptop.register("new", artifact)]
        laptop.add_dataset("d", artifact)
        server.add_dataset("d", artifact)
        before = [(each.head, each._context.lake.reservations()) for each in (laptop, server)]
        for attempt in (lambda: push(laptop, there), lambda: laptop.pull_from(there)):
            with pytest.raises(ConflictError, match="3 numbers or names mean one thing here and another in") as stopped:
                attempt()
            text = stopped.value.message
            assert f"m/2: here {ours[0].version_id} registered by ada at 20" in text
            assert f"there {theirs[0].version_id} registered by bob at 20" in text
            assert f"new: here {ours[1].model_id} registered by ada" in text
            assert "d@1.0.0: here " in text
        assert before == [(each.head, each._context.lake.reservations()) for each in (laptop, server)]


def test_a_number_that_was_cut_and_never_used_stands_in_nobodys_way(
    laptop: Registry, there: str, artifact: Path
) -> None:
    made = laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there) as server:
        old = "01890000-0000-7000-8000-000000000000"
        assert server._context.lake.reserve({(f"version/{made.model_id}", 2): old}) == {}
    laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there) as server:
        same(laptop, server)
        assert server.register("m", artifact).version == 3


def test_a_number_that_is_being_used_right_now_is_in_the_way(laptop: Registry, there: str, artifact: Path) -> None:
    made = laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there) as server:
        server._context.lake.cut(f"version/{made.model_id}", headwater.ids.new_id(), after=1)
    laptop.register("m", artifact)
    with pytest.raises(ConflictError, match=r"m/2: here .* there reserved by a transaction that has not landed"):
        push(laptop, there)


def test_numbers_cut_there_are_known_here_after_a_push(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there) as server:
        server.create_branch("exp").register("m", artifact)
    laptop.set_alias("m", "champion", 1)
    push(laptop, there)
    assert laptop.register("m", artifact).version == 3


# -- lakes that don't go together -------------------------------------------------------------------------------------
def test_lakes_that_are_not_related_are_left_alone(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    with headwater.create(there, storage_namespace=namespace(there)) as other:
        other.register("n", artifact)
        head = other.head
        for attempt in (lambda: push(laptop, there), lambda: laptop.pull_from(there)):
            with pytest.raises(LakeError, match="are not related"):
                attempt()
        assert other.head == head


def test_a_lake_in_which_nothing_has_happened_becomes_a_copy(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    headwater.create(there, storage_namespace=namespace(there)).close()
    with headwater.open(there) as server:
        assert server.models() == []
        own = {row[0] for row in graph(server)}
        push(laptop, there)
        assert rows(laptop) == rows(server)
        assert graph(laptop) == [row for row in graph(server) if row[0] not in own]
        assert len(server.log()) == len(laptop.log()) + ("://" in there), "its own beginning is covered up, not lost"
        assert server.register("m", artifact).version == 2
        laptop.pull_from(there)
        assert graph(laptop) == [row for row in graph(server) if row[0] not in own]
        assert rows(laptop) == rows(server)


def test_what_holds_something_else_is_left_alone(laptop: Registry, there: str) -> None:
    lake = lakes.create(there, storage_namespace=namespace(there))
    lake.put("main", "mine", b"1")
    lake.commit("main", "mine", {})
    lake.close()
    with pytest.raises(LakeError, match="is not a Headwater registry"):
        push(laptop, there)
    with pytest.raises(LakeError, match="is not a Headwater registry"):
        laptop.pull_from(there)


@pytest.mark.parametrize("there", ["local"], indirect=True)
def test_a_lake_is_not_moved_to_itself(laptop: Registry, there: str, tmp_path: Path) -> None:
    for url in (laptop.url, str(tmp_path / "work" / ".." / "laptop"), f"file://{laptop.url}"):
        with pytest.raises(InvalidInputError, match="is this lake itself"):
            laptop.push(url)
        with pytest.raises(InvalidInputError, match="is this lake itself"):
            laptop.pull_from(url)


@pytest.mark.parametrize("name", ["nope", "_hw_import_x", "../main", ""])
def test_a_branch_that_is_not_there_is_named(laptop: Registry, there: str, name: str) -> None:
    with pytest.raises(NotFoundError, match="there is no branch"):
        push(laptop, there, [name])
    push(laptop, there)
    with pytest.raises(NotFoundError, match="there is no branch"):
        laptop.pull_from(there, [name])


def test_tags_and_branches_that_contradict_each_other_stop_it(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    lake = laptop._context.lake
    with headwater.open(there) as server:
        server._context.lake.create_tag("release", server.head)
        lake.create_tag("release", laptop.at("main~1").head)
        head = server.head
        laptop.register("m", artifact)
        with pytest.raises(ConflictError, match="tags at different commits in the two lakes: release"):
            push(laptop, there)
        lake.delete_tag("release")
        laptop.create_branch("release")
        with pytest.raises(ConflictError, match="a branch in one lake and a tag in the other have one name: release"):
            push(laptop, there)
        assert server.head == head


@pytest.mark.parametrize("there", ["lakefs"], indirect=True)
def test_a_missing_repository_is_not_made_unasked(laptop: Registry, lakefs_url: str) -> None:
    with pytest.raises(NotFoundError, match="there is no repository") as refused:
        laptop.push(lakefs_url)
    assert "--storage-namespace" in refused.value.hint


@pytest.mark.parametrize("there", ["local"], indirect=True)
def test_a_folder_that_holds_something_is_not_made_a_lake(laptop: Registry, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(LakeError, match="there is no lake in"):
        laptop.push(str(tmp_path / "full"))
    with pytest.raises(LakeError, match="there is no lake in"):
        laptop.pull_from(str(tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("there", ["lakefs"], indirect=True)
def test_keys_that_are_not_known_are_refused(
    laptop: Registry, lakefs_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermissionDeniedError):
        push(laptop, lakefs_url)


def test_a_damaged_source_moves_nothing(laptop: Registry, there: str, tmp_path: Path, artifact: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    (tmp_path / "big.bin").write_bytes(os.urandom(300_000))
    version = laptop.register("big", tmp_path / "big.bin")
    (place,) = [path for path in (tmp_path / "laptop" / "objects").rglob("*") if path.is_file()]
    place.chmod(0o600)
    with place.open("r+b") as stream:
        stream.write(b"x")
    with headwater.open(there) as server:
        head = server.head
        with pytest.raises(IntegrityError):
            push(laptop, there)
        assert server.head == head
        assert [each.name for each in server.models()] == ["m"]
    shutil.copyfile(tmp_path / "big.bin", place)
    push(laptop, there)
    with headwater.open(there) as server:
        assert server.get("big/1").version_id == version.version_id
        server.verify()


def test_a_damaged_commit_moves_nothing(laptop: Registry, there: str, tmp_path: Path, artifact: Path) -> None:
    laptop.register("m", artifact)
    first = laptop.at("main~1").head
    with closing(sqlite3.connect(tmp_path / "laptop" / "lake.db")) as connection, connection:
        connection.execute("UPDATE commits SET body = replace(body, 'ada', 'eve') WHERE id = ?", (first,))
    with headwater.open(str(tmp_path / "laptop")) as registry, pytest.raises(IntegrityError):
        push(registry, there)


# -- kills ------------------------------------------------------------------------------------------------------------
def test_a_push_that_is_killed_goes_on_where_it_was(laptop: Registry, there: str, tmp_path: Path) -> None:
    for n in range(12):
        (tmp_path / "m.bin").write_bytes(b"%d" % n * 1000)
        laptop.register("m", tmp_path / "m.bin")
    laptop.create_branch("exp").register("m", tmp_path / "m.bin")
    laptop.close()
    out = subprocess.run(
        [sys.executable, str(SCRIPT), "kill_while_pushing", laptop.url, there, namespace(there) or "", "6"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    found = json.loads(out.stdout)
    assert found["killed"] == 6
    assert found["seen"] == [0] * 6  # no branch showed anything before the end
    with headwater.open(str(tmp_path / "laptop"), actor="ada") as again, headwater.open(there) as server:
        whole = len([each for each in again._context.lake.commits()]) - 1
        assert 0 < found["rest"] < whole
        assert found["rest"] + found["before"] == whole
        same(again, server)
        same(again.branch("exp"), server.branch("exp"))
        server.verify()
        assert push(again, there) == Moved(server.url)


@pytest.mark.parametrize("there", ["lakefs"], indirect=True)
def test_what_dead_pushes_left_is_swept(laptop: Registry, lakefs_url: str, tmp_path: Path, artifact: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, lakefs_url)
    with headwater.open(lakefs_url) as server:
        lake = server._context.lake
        lake.create_branch(f"{IMPORT_PREFIX}01890000-0000-7000-8000-000000000000_0", server.head, hidden=True)
        assert lake.sweep(headwater.ids.now_micros() - 1) == 1


def test_registering_goes_on_while_a_branch_is_pushed(laptop: Registry, there: str, artifact: Path) -> None:
    for _ in range(3):
        laptop.register("m", artifact)
    seen = []

    def tell(sent: Sent) -> None:
        if sent.commits == 2:
            seen.append(laptop.register("m", artifact).version)

    laptop.push(there, storage_namespace=namespace(there), tell=tell)
    with headwater.open(there) as server:
        assert [each.version for each in server.versions("m")] == [3, 2, 1]
        push(laptop, there)
        same(laptop, server)
    assert seen == [4]


def test_a_target_that_moves_while_it_is_pushed_to_loses_nothing(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    laptop.register("ours", artifact)
    with headwater.open(there, actor="bob") as server:

        def tell(sent: Sent) -> None:
            if sent.commits == 1 and not server._versions.all_references()[1:]:
                server.register("theirs", artifact)

        with pytest.raises(ConflictError, match="branch main has gone on both here and in"):
            laptop.push(there, tell=tell)
        assert [each.name for each in server.models()] == ["m", "theirs"]
        laptop.pull_from(there)
        push(laptop, there)
        same(laptop, server)


def test_two_pushes_at_once_end_as_one(laptop: Registry, there: str, artifact: Path, tmp_path: Path) -> None:
    for _ in range(3):
        laptop.register("m", artifact)
    other = str(tmp_path / "other-laptop")
    laptop.push(other)
    lakes.create(there, storage_namespace=namespace(there)).close()

    def tell(sent: Sent) -> None:
        if sent.commits == 4:
            with headwater.open(other, actor="bob") as registry:
                registry.push(there)

    laptop.push(there, tell=tell)
    with headwater.open(there) as server:
        same(laptop, server)
        assert push(laptop, there) == Moved(server.url)
        for registry in (laptop, headwater.open(other, actor="bob")):
            registry.pull_from(there)
            registry.register("m", artifact)
            push(registry, there)
            same(registry, server)
            registry.close()


CALLS = ("head", "branches", "merge_base", "diff", "merge", "move_branch", "reserve", "get_commit", "create_branch")


@pytest.mark.parametrize("same_table", [True, False], ids=["same table", "another table"])
def test_a_writer_that_lands_at_any_step_of_a_push_loses_nothing(
    laptop: Registry, there: str, artifact: Path, monkeypatch: pytest.MonkeyPatch, same_table: bool
) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    server = headwater.open(there, actor="bob")
    kind = type(server._context.lake)
    last, step, acknowledged = 0, 0, 0

    def count(name: str, real: Any) -> Any:
        def call(lake: Lake, *args: Any, **options: Any) -> Any:
            nonlocal step, acknowledged
            if lake is not server._context.lake and lake.url == server.url and not busy:
                step += 1
                if step == last:
                    busy.append(1)
                    try:
                        if same_table:
                            server.register("theirs", artifact)
                        else:
                            server.start_run("theirs").end(None)
                        acknowledged += 1
                    finally:
                        busy.clear()
            return real(lake, *args, **options)

        return call

    busy: list[int] = []
    for name in CALLS:
        monkeypatch.setattr(kind, name, count(name, getattr(kind, name)))
    while last == 0 or step >= last:
        last, step = last + STRIDE, 0
        laptop.set_alias("m", f"a{last}", 1)
        with suppress(ConflictError):
            laptop.push(there)
        busy.append(1)
        laptop.pull_from(there)
        push(laptop, there)
        found = len(server.versions("theirs")) if same_table and acknowledged else len(server.runs())
        assert found == acknowledged
        assert sorted(map(str, rows(laptop).values())) == sorted(map(str, rows(server).values()))
        busy.clear()
    assert acknowledged >= 2
    server.close()


def test_two_pushes_that_meet_at_the_move_lose_nothing(
    laptop: Registry, there: str, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    other = str(tmp_path / "other-laptop")
    laptop.register("m", artifact)
    laptop.push(other)
    begun: list[int] = []
    with headwater.open(there) as server:
        kind = type(server._context.lake)
        merge, move = kind.merge, kind.move_branch

        def first(lake: Lake) -> None:
            if not begun and lake.url == server.url:
                begun.append(1)
                with headwater.open(other, actor="bob") as registry:
                    registry.push(there)

        def merging(lake: Any, source: str, into: str, *args: Any, **options: Any) -> str:
            if into == "main":
                first(lake)
            return merge(lake, source, into, *args, **options)

        def moving(lake: Any, *args: Any, **options: Any) -> str:
            if not lakes.is_remote(lake.url):
                first(lake)
            return move(lake, *args, **options)

        monkeypatch.setattr(kind, "merge", merging)
        monkeypatch.setattr(kind, "move_branch", moving)
        laptop.push(there)
        assert begun
        assert rows(laptop) == rows(server)
        assert told(laptop) == told(server)
        assert push(laptop, there) == Moved(server.url)
        assert laptop.pull_from(there) == Moved(server.url)


# -- the command line -------------------------------------------------------------------------------------------------
def test_the_commands(laptop: Registry, there: str, artifact: Path, tmp_path: Path, monkeypatch: Any) -> None:
    laptop.register("m", artifact)
    laptop.create_branch("exp").register("m", artifact)
    monkeypatch.setenv("HEADWATER_LAKE", laptop.url)
    cli = CommandLine()
    made = ["--storage-namespace", namespace(there)] if lakes.is_remote(there) else []
    found = cli.json("push", there, *made, "--branch", "main")
    assert set(found) == {"url", "branches", "tags", "commits", "objects", "bytes", "reservations", "merges"}
    assert list(found["branches"]) == ["main"]
    again = cli("push", there)
    assert "branches and tags that were deleted in one lake are not deleted in the other" in again.stderr
    out = again.stdout
    assert "branch exp is at " in out
    assert "3 commits and 4 objects" in out or "3 commits and" in out
    assert "has everything already" in cli("push", there).stderr
    assert "there is nothing in" in cli("pull-from", there).stderr
    with headwater.open(there, actor="bob", branch="exp") as server:
        server.set_alias("m", "champion", 2)
        server.branch("main").set_alias("m", "champion", 1)
    with headwater.open(laptop.url, actor="ada") as here:
        here.register("m", artifact)
    kind, message, hint = cli.error("push", there, status=4)
    assert (kind, hint) == (
        "ConflictError",
        f"`headwater pull-from {message.rpartition(' in ')[2]}` first, and push then",
    )
    assert list(cli.json("pull-from", there)["branches"]) == ["exp", "main"]
    assert cli.error("push", laptop.url, status=2)[1].endswith("is this lake itself")
    assert cli.error("push", there, "--branch", "nope", status=1)[0] == "NotFoundError"
    headwater.create(str(tmp_path / "stranger")).register("x", artifact)
    assert cli.error("push", tmp_path / "stranger", status=1)[0] == "LakeError"


def test_a_conflict_is_shown_with_both_sides(laptop: Registry, there: str, artifact: Path, monkeypatch: Any) -> None:
    for _ in range(2):
        laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there, actor="bob") as server:
        server.set_alias("m", "champion", 2)
    laptop.set_alias("m", "champion", 1)
    monkeypatch.setenv("HEADWATER_LAKE", laptop.url)
    cli = CommandLine()
    result = cli("pull-from", there, status=4)
    assert "alias:m@champion" in result.stdout
    assert "disagree about alias:m@champion" in result.stderr
    cli.out("pull-from", there, "--resolve", "alias:m@champion=ours")
    assert laptop.resolve("m@champion").version == 1


# -- what else may come -----------------------------------------------------------------------------------------------
def test_what_only_a_row_names_outlives_the_collection_in_every_copy(
    laptop: Registry, there: str, artifact: Path, tmp_path: Path
) -> None:
    everything(laptop, tmp_path)
    push(laptop, there)
    with headwater.create(str(tmp_path / "again"), actor="eve") as again:
        again.pull_from(there)
        again.gc(grace=0)
        assert again.dataset("pinned").arrow().num_rows == 2
        assert again.verify() == laptop.verify()
        assert again.pull_from(there).commits == 0
        assert push(again, there).commits == 0


def test_what_was_undone_and_deleted_is_so_there_too(laptop: Registry, there: str, artifact: Path) -> None:
    undone = laptop.register("m", artifact)
    laptop.register("m", artifact)
    laptop.register("gone", artifact)
    laptop.delete("gone/1", reason="a mistake")
    laptop.revert(undone.commit)
    push(laptop, there)
    with headwater.open(there) as server:
        same(laptop, server)
        assert [each.version for each in server.versions("m")] == [2]
        server.revert(server.log(limit=1)[0].commit)
    laptop.pull_from(there)
    assert [each.version for each in laptop.versions("m")] == [2, 1]


def test_a_pull_that_is_interrupted_leaves_everything_and_goes_on(
    laptop: Registry, there: str, artifact: Path, tmp_path: Path
) -> None:
    for _ in range(3):
        laptop.register("m", artifact)
    push(laptop, there)
    with headwater.create(str(tmp_path / "again"), actor="eve") as again:
        head = again.head

        def stop(sent: Sent) -> None:
            if sent.commits == 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            again.pull_from(there, tell=stop)
        assert again.head == head
        assert again.models() == []
        rest = again.pull_from(there).commits
        assert rest == len(list(laptop._context.lake.commits())) - 1 - 4
        same(laptop, again)


def test_the_picture_of_a_branch_is_the_same_whichever_way_it_came(
    laptop: Registry, there: str, artifact: Path, tmp_path: Path
) -> None:
    """A branch that moved forward to a merge of itself into another has its first parents from there."""
    laptop.register("m", artifact)
    push(laptop, there)
    with headwater.open(there, actor="bob") as server:
        server.register("theirs", artifact)
        laptop.register("ours", artifact)
        assert server.log(limit=1)[0].message == "register theirs/1"
        laptop.pull_from(there)
        push(laptop, there)
        same(laptop, server)
        for ref in ("main~1", "main~2"):
            assert rows(server.at(ref)) == rows(laptop.at(ref))


@pytest.mark.parametrize("there", ["lakefs"], indirect=True)
def test_a_repository_that_can_only_be_read_stops_it(
    laptop: Registry, lakefs_url: str, artifact: Path, tmp_path: Path
) -> None:
    laptop.register("m", artifact)
    copy, closed = f"{lakefs_url}-a", f"{lakefs_url}-b"
    push(laptop, copy)
    with closing(lakes.connect(copy)) as lake:
        wanted = {"name": closed.rpartition("/")[2], "storage_namespace": namespace(closed), "read_only": True}
        lake._client.run("make", lambda sdk: sdk.repositories.create_repository(wanted))  # type: ignore[attr-defined]
    with pytest.raises(PermissionDeniedError):
        laptop.push(closed)
    with closing(lakes.connect(closed)) as lake:
        assert len(list(lake.commits())) == 1


@pytest.mark.parametrize("there", ["lakefs"], indirect=True)
def test_a_history_goes_from_server_to_server(laptop: Registry, lakefs_url: str, tmp_path: Path) -> None:
    everything(laptop, tmp_path)
    first, second = f"{lakefs_url}-a", f"{lakefs_url}-b"
    push(laptop, first)
    with headwater.open(first, actor="bob") as server:
        server.register("m", tmp_path / "model.bin")
        push(server, second)
        with headwater.open(second, actor="eve") as other:
            same(server, other)
            assert other.verify() == server.verify()
            other.register("m", tmp_path / "model.bin")
            server.register("n", tmp_path / "model.bin")
            with pytest.raises(ConflictError, match="has gone on both"):
                push(server, second)
            server.pull_from(second)
            push(server, second)
            same(server, other)
    laptop.pull_from(second)
    assert [each.name for each in laptop.models()] == ["big", "flight-delay", "m", "n"]


# -- what others wrote ------------------------------------------------------------------------------------------------
def test_a_number_that_only_a_tag_leads_to_is_in_use(
    laptop: Registry, there: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    laptop.create_branch("exp").register("m", artifact)
    laptop.create_tag("rel", "exp")
    laptop.delete_branch("exp", force=True)
    with headwater.open(there, actor="bob") as server:
        server.register("m", artifact)
        now = clashes.now_micros()
        monkeypatch.setattr(clashes, "now_micros", lambda: now + 25 * 3600 * 10**6)
        for move in (laptop.push, laptop.pull_from):
            with pytest.raises(ConflictError, match=r"m/2: here .* registered by ada .*, there .* registered by bob"):
                move(there)
        assert server.tags() == []


def test_paths_that_lead_elsewhere_are_not_brought(
    laptop: Registry, there: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.register("m", artifact)
    push(laptop, there)
    monkeypatch.setattr(local, "check_path", lambda path: None)
    lake = laptop._context.lake
    lake.put("main", "tables/events/../../../../../EVIL", b"evil")
    lake.commit("main", "m", {})
    with headwater.open(there) as server:
        head = server.head
        with pytest.raises(IntegrityError, match="could lead out of the lake: 'tables/events/") as refused:
            laptop.push(there)
        assert "do not trust" in refused.value.hint
        assert server.head == head
    with headwater.create(str(Path.cwd() / "victim")) as victim, pytest.raises(IntegrityError, match="lead out"):
        victim.pull_from(laptop.url)
    with pytest.raises(IntegrityError, match="lead out"):
        lake.delta(lake.head("main"), "tables/events")


def test_names_that_headwater_gives_to_nothing_are_not_brought(laptop: Registry, there: str, artifact: Path) -> None:
    laptop.register("m", artifact)
    lake = laptop._context.lake
    for name in ("../../x", "deadbeefdeadbeef", "\x1b]0;pwn\x07evil"):
        lake.create_branch(name, lake.head("main"))
    lake.create_tag("v\x1b[2J", lake.head("main"))
    with pytest.raises(IntegrityError) as refused:
        push(laptop, there)
    assert refused.value.message.endswith(
        r"branch '\x1b]0;pwn\x07evil', branch '../../x', branch 'deadbeefdeadbeef', tag 'v\x1b[2J'"
    )
    assert lakes.is_remote(there) or not Path(there).exists()
    with headwater.create(str(Path.cwd() / "victim")) as victim:
        with pytest.raises(IntegrityError, match="names that Headwater gives to nothing"):
            victim.pull_from(laptop.url)
        assert list(victim._context.lake.branches()) == ["main"]
    assert list(push(laptop, there, ["main"]).branches) == ["main"]


def test_a_push_that_is_refused_makes_no_lake(laptop: Registry, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no branch 'nope'"):
        laptop.push(str(tmp_path / "typo"), ["nope"])
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("value", ["not json", "{}[", "3", '[{"version_id": 1}]', '["x"]'])
def test_traffic_that_others_wrote_is_refused_in_words(
    laptop: Registry, artifact: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    laptop.register("m", artifact)
    event = Transaction.event

    def wrong(self: Transaction, subject: str, kind: str, said: str | None, **options: Any) -> Any:
        return event(self, subject, kind, value if kind == "traffic" else said, **options)

    monkeypatch.setattr(Transaction, "event", wrong)
    with suppress(IntegrityError):  # it has landed, and can't be read
        laptop.deploy("m/1", "prod")
    for ask in (laptop.deployments, lambda: laptop.diff("main~1", "main"), lambda: laptop.delete("m/1")):
        with pytest.raises(IntegrityError, match="an event of traffic says nothing that can be read"):
            ask()
