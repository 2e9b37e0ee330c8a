"""Registering, finding, pulling and verifying models: what a person does with a registry, on both lakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

import headwater
from headwater.errors import (
    AlreadyExistsError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
)
from headwater.registry import Registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(os.urandom(200_000))
    (folder / "deep" / "a b\\c é.txt").write_text("text")
    (folder / "empty").write_bytes(b"")
    return folder


def test_registering_gives_numbers_from_one_and_a_commit_that_holds_everything(registry: Registry, model: Path) -> None:
    first = registry.register("flight-delay", model, metrics={"auc": 0.8}, params={"depth": 6}, tags={"team": "ops"})
    second = registry.register("flight-delay", model / "weights.bin")
    assert (first.name, first.version, second.version) == ("flight-delay", 1, 2)
    assert first.actor == "tester"
    then = registry.at(first.commit)
    assert [each.version for each in then.versions("flight-delay")] == [1]
    assert (
        then.pull("flight-delay/1", model.parent / "then").joinpath("weights.bin").read_bytes()
        == (model / "weights.bin").read_bytes()
    )
    assert then.sql("SELECT version, commit FROM model_versions").fetchall() == [(1, first.commit)]
    with pytest.raises(NotFoundError, match="flight-delay/2"):
        then.get("flight-delay/2")


def test_registering_the_same_bytes_again_makes_a_new_version(registry: Registry, model: Path) -> None:
    first, second = registry.register("m", model), registry.register("m", model)
    assert (first.version, second.version) == (1, 2)
    assert first.digest == second.digest
    assert first.commit != second.commit


def test_the_digest_of_a_folder_is_what_sha256sum_says(registry: Registry, model: Path) -> None:
    version = registry.register("m", model)
    command = r"find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    printed = subprocess.run(command, shell=True, cwd=model, capture_output=True, text=True, check=True).stdout
    assert version.digest == printed.split()[0]
    single = registry.register("m", model / "weights.bin")
    assert single.digest == sha256((model / "weights.bin").read_bytes()).hexdigest()


def test_everything_given_at_registration_is_kept(registry: Registry, model: Path) -> None:
    version = registry.register(
        "m",
        model,
        metrics={"auc": 0.8, "nan": float("nan"), "inf": float("inf")},
        slices=[("auc", {"origin": "JFK"}, 0.7), ("auc", {"origin": "a=b,c", "carrier": "B6"}, 0.6)],
        params={"C": 1},
        tags={"team": "ops"},
        description="first",
    )
    assert version.params == {"C": "1"}
    assert version.tags == {"team": "ops"}
    assert version.description == "first"
    assert version.metrics["auc"] == 0.8
    assert {each.slice: each.value for each in registry.metrics("m/1") if each.slice} == {
        "origin=JFK": 0.7,
        r"carrier=B6,origin=a\=b\,c": 0.6,
    }
    assert version.size == sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
    assert {file.path for file in version.files} == {"weights.bin", "deep/a b\\c é.txt", "empty"}
    assert version.environment is not None
    assert version.environment["python"].startswith("3.")
    assert registry.sql("SELECT slice, value FROM slice_metrics WHERE key = 'auc' ORDER BY 2").fetchall() == [
        (r"carrier=B6,origin=a\=b\,c", 0.6),
        ("origin=JFK", 0.7),
    ]


def test_the_source_code_in_use_is_recorded_with_what_was_not_committed(registry: Registry, model: Path) -> None:
    repository = model.parent / "repository"
    repository.mkdir()
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(repository)]
    subprocess.run([*git, "init", "-q", "-b", "trunk"], check=True)
    (repository / "train.py").write_text("one\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    subprocess.run([*git, "tag", "v1"], check=True)
    subprocess.run([*git, "remote", "add", "origin", "https://me:secret@example.org/team/code.git"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    clean = registry.register("m", model, code=repository).code
    assert clean is not None
    assert clean["commit"] == commit
    assert (clean["branch"], clean["tags"], clean["dirty"]) == ("trunk", ["v1"], False)
    assert clean["repository"] == "https://example.org/team/code.git"
    (repository / "train.py").write_text("two\n")
    (repository / "new.py").write_text("new\n")
    dirty = registry.register("m", model, code=repository)
    assert dirty.code is not None
    assert dirty.code["dirty"] is True
    digest = dirty.code["patch"]
    patch = registry._context.lake.read(dirty.commit, f"patches/{digest[-2:]}/{digest}.patch")
    assert sha256(patch).hexdigest() == digest
    assert b"+two" in patch
    assert b"+new" in patch
    edges = registry.sql("SELECT source, relation FROM lake.lineage").fetchall()
    assert (f"code:https://example.org/team/code.git@{commit}", "built") in edges


def test_listing_is_newest_first_and_can_be_limited(registry: Registry, model: Path) -> None:
    for _ in range(3):
        registry.register("m", model / "empty")
    registry.register("other", model / "empty")
    registry.tag("m/2", {"colour": "red"})
    assert [each.version for each in registry.versions("m", tags={"colour": "red"})] == [2]
    assert registry.versions("m", tags={"colour": "blue"}) == []
    assert [each.version for each in registry.versions("m")] == [3, 2, 1]
    assert [each.version for each in registry.versions("m", limit=1)] == [3]
    assert [(each.name, each.versions, each.latest_version) for each in registry.models()] == [
        ("m", 3, 3),
        ("other", 1, 1),
    ]


def test_an_alias_moves_and_its_history_is_kept(registry: Registry, model: Path) -> None:
    for _ in range(2):
        registry.register("m", model / "empty")
    registry.set_alias("m", "champion", 1)
    assert registry.resolve("m@champion").version == 1
    assert registry.resolve("models:/m@champion").aliases == ("champion",)
    registry.set_alias("m", "champion", 2, reason="better")
    assert registry.resolve("m@champion").version == 2
    assert registry.get("m/1").aliases == ()
    assert [(each.alias, each.version, each.reason) for each in registry.aliases("m")] == [("champion", 2, "better")]
    messages = [each.message for each in registry.log("m@champion")]
    assert messages == ["alias m@champion is version 2, was 1: better", "alias m@champion is version 1"]
    assert {each.message for each in registry.log("m")} >= set(messages)
    assert registry.at("main~1").resolve("m@champion").version == 1
    registry.delete_alias("m", "champion")
    with pytest.raises(NotFoundError, match="champion"):
        registry.resolve("m@champion")
    with pytest.raises(NotFoundError, match="champion"):
        registry.delete_alias("m", "champion")


def test_setting_an_alias_where_it_is_writes_nothing(registry: Registry, model: Path) -> None:
    registry.register("m", model / "empty")
    registry.set_alias("m", "champion", 1)
    head = registry.head
    registry.set_alias("m", "champion", 1)
    assert registry.head == head


def test_alias_at_says_what_an_alias_was_at_any_time(registry: Registry, model: Path) -> None:
    for _ in range(2):
        registry.register("m", model / "empty")
    times = []
    for version in (1, 2):
        registry.set_alias("m", "champion", version)
        times.append(registry.log(limit=1)[0].recorded_at)
    registry.delete_alias("m", "champion")
    was = "SELECT version FROM alias_at('m', 'champion', $time)"
    assert registry.sql(was, {"time": times[0]}).fetchall() == [(1,)]
    assert registry.sql(was, {"time": times[1]}).fetchall() == [(2,)]
    assert registry.sql("SELECT version FROM alias_at('m', 'champion', now())").fetchall() == []
    for moment, version in zip(times, (1, 2), strict=True):
        assert registry.at(f"main@{{{moment.isoformat()}}}").resolve("m@champion").version == version


def test_tags_and_descriptions_change_and_the_past_stays(registry: Registry, model: Path) -> None:
    version = registry.register("m", model / "empty", tags={"a": "1", "b": "2"}, description="old")
    registry.tag("m/1", {"a": "3", "b": None, "c": "4"})
    registry.describe("m/1", "new")
    registry.tag("m", {"owner": "me"})
    now = registry.get("m/1")
    assert (now.tags, now.description) == ({"a": "3", "c": "4"}, "new")
    assert registry.sql("SELECT tags, description FROM model_versions").dicts() == [
        {"tags": {"a": "3", "c": "4"}, "description": "new"}
    ]
    assert registry.model("m").tags == {"owner": "me"}
    assert registry.at(version.commit).get("m/1").tags == {"a": "1", "b": "2"}


def test_a_renamed_model_keeps_its_versions_and_nobody_gets_its_old_name(registry: Registry, model: Path) -> None:
    registry.register("old", model / "empty")
    registry.set_alias("old", "champion", 1)
    registry.rename("old", "new")
    assert registry.resolve("new@champion").version == 1
    with pytest.raises(NotFoundError) as caught:
        registry.versions("old")
    assert "new" in caught.value.hint
    registry.register("other", model / "empty")
    with pytest.raises(AlreadyExistsError):
        registry.rename("other", "new")
    with pytest.raises(AlreadyExistsError):
        registry.rename("other", "old")
    with pytest.raises(AlreadyExistsError, match="new"):
        registry.register("old", model / "empty")
    registry.rename("new", "old")
    assert registry.resolve("old@champion").version == 1


def test_a_deleted_version_is_hidden_and_its_number_stays_taken(registry: Registry, model: Path) -> None:
    for _ in range(2):
        registry.register("m", model / "empty")
    registry.set_alias("m", "champion", 2)
    with pytest.raises(ConflictError, match="champion"):
        registry.delete("m/2")
    registry.delete_alias("m", "champion")
    registry.delete("m/2", reason="wrong data")
    with pytest.raises(NotFoundError):
        registry.get("m/2")
    with pytest.raises(NotFoundError):
        registry.set_alias("m", "champion", 2)
    assert [each.version for each in registry.versions("m")] == [1]
    assert registry.sql("SELECT version FROM model_versions").fetchall() == [(1,)]
    assert registry.register("m", model / "empty").version == 3
    registry.undelete("m/2")
    assert registry.get("m/2").version == 2
    with pytest.raises(NotFoundError, match="not deleted"):
        registry.undelete("m/2")


def test_a_deleted_model_comes_back_with_what_was_hidden_with_it(registry: Registry, model: Path) -> None:
    for _ in range(3):
        registry.register("m", model / "empty")
    registry.delete("m/1")
    registry.delete("m")
    assert registry.models() == []
    with pytest.raises(NotFoundError):
        registry.versions("m")
    registry.undelete("m")
    assert [each.version for each in registry.versions("m")] == [3, 2]


def test_a_model_made_again_after_deletion_goes_on_counting(registry: Registry, model: Path) -> None:
    first = registry.register("m", model / "empty")
    registry.delete("m")
    again = registry.register("m", model / "empty")
    assert again.version == 2
    assert again.model_id == first.model_id
    assert [each.version for each in registry.versions("m")] == [2]


def test_a_number_is_cut_once_for_all_branches(registry: Registry, model: Path) -> None:
    registry.register("m", model / "empty")
    branch = registry.create_branch("exp-42")
    assert branch.register("m", model / "empty").version == 2
    assert registry.register("m", model / "empty").version == 3
    assert branch.register("m", model / "empty").version == 4
    assert [each.version for each in registry.versions("m")] == [3, 1]
    one, other = branch.register("n", model / "empty"), registry.register("n", model / "empty")
    assert one.model_id == other.model_id
    assert (one.version, other.version) == (1, 2)


# -- pulling and verifying --------------------------------------------------------------------------------------------
def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_pull_gives_back_the_same_files(registry: Registry, model: Path, tmp_path: Path) -> None:
    version = registry.register("m", model)
    assert contents(version.pull(tmp_path / "out")) == contents(model)
    single = registry.register("m", model / "weights.bin")
    assert contents(single.pull(tmp_path / "single")) == {"weights.bin": (model / "weights.bin").read_bytes()}
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_pull_replaces_an_earlier_pull_and_leaves_strangers_alone(
    registry: Registry, model: Path, tmp_path: Path
) -> None:
    registry.register("m", model)
    (model / "weights.bin").write_bytes(b"other")
    (model / "empty").unlink()
    registry.register("m", model)
    out = registry.pull("m/1", tmp_path / "out")
    registry.pull("m/2", out)
    assert contents(out) == contents(model)
    (out / "mine.txt").write_text("mine")
    registry.pull("m/1", out)
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "empty").exists()
    registry.pull("m/2", out)
    assert not (out / "empty").exists()
    (out / "weights.bin").write_bytes(b"edited by a person")
    with pytest.raises(AlreadyExistsError, match=r"weights\.bin"):
        registry.pull("m/1", out)
    assert (out / "weights.bin").read_bytes() == b"edited by a person"
    registry.pull("m/1", out, force=True)
    assert len((out / "weights.bin").read_bytes()) == 200_000
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "empty").write_bytes(b"")  # as in version 1, but nobody pulled it
    (tmp_path / "link").symlink_to(mine)
    registry.pull("m/2", tmp_path / "link")
    assert (mine / "empty").exists()
    assert (tmp_path / "link").is_symlink()
    assert (mine / "weights.bin").read_bytes() == b"other"


@pytest.mark.parametrize("damage", ["changed", "missing", "extra"])
def test_a_byte_that_changed_in_the_lake_is_found(registry: Registry, model: Path, tmp_path: Path, damage: str) -> None:
    version = registry.register("m", model)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept").write_text("kept")
    lake = registry._context.lake
    if damage == "missing":
        lake.delete("main", f"{version.path}weights.bin")
    else:
        lake.put("main", f"{version.path}{'weights.bin' if damage == 'changed' else 'more'}", os.urandom(200_000))
    lake.commit("main", "damage", {})
    with pytest.raises(IntegrityError, match=r"weights\.bin|more"):
        registry.pull("m/1", tmp_path / "out")
    assert contents(tmp_path / "out") == {"kept": b"kept"}
    with pytest.raises(IntegrityError, match="m/1"):
        registry.verify("m/1")
    with pytest.raises(IntegrityError):
        registry.verify()
    assert registry.at(version.commit).verify() == 1


def test_an_external_artifact_is_fetched_and_checked(registry: Registry, model: Path, tmp_path: Path) -> None:
    weights = model / "weights.bin"
    digest = sha256(weights.read_bytes()).hexdigest()
    version = registry.register("m", external=(weights.as_uri(), digest))
    assert (version.external_url, version.digest, version.path) == (weights.as_uri(), digest, None)
    assert contents(version.pull(tmp_path / "out")) == {"weights.bin": weights.read_bytes()}
    assert registry.verify("m/1") == 1
    weights.write_bytes(b"changed")
    with pytest.raises(IntegrityError, match=r"weights\.bin"):
        registry.verify("m/1")
    weights.unlink()
    with pytest.raises(LakeError, match="fetched"):
        registry.verify("m/1")
    registry.register("m", external=("oci://registry/model:1", digest))
    with pytest.raises(LakeError, match="oci"):
        registry.pull("m/2", tmp_path / "out2")


@pytest.mark.parametrize(
    ("url", "digest"),
    [
        ("ftp://host/file", "0" * 64),
        ("https://me:secret@host/file", "0" * 64),
        ("https://host/file", "12"),
        ("no url", "0" * 64),
    ],
)
def test_an_external_artifact_needs_a_known_scheme_and_a_sha256(registry: Registry, url: str, digest: str) -> None:
    with pytest.raises(InvalidInputError):
        registry.register("m", external=(url, digest))


# -- opening ----------------------------------------------------------------------------------------------------------
def test_what_one_registry_writes_another_reads(registry: Registry, registry_url: str, model: Path) -> None:
    with headwater.open(registry_url) as other:
        assert other.models() == []
        registry.register("m", model / "empty")
        assert [each.name for each in other.models()] == ["m"]


def test_a_lake_that_is_no_registry_is_refused(lake_factory: object) -> None:
    lake = lake_factory()  # type: ignore[operator]
    with pytest.raises(LakeError, match="not a Headwater registry"):
        headwater.open(lake.url)


def test_a_registry_made_by_a_newer_headwater_is_refused(registry: Registry, registry_url: str) -> None:
    lake = registry._context.lake
    marker = json.loads(lake.read("main", "headwater.json"))
    lake.put("main", "headwater.json", json.dumps(marker | {"format": 99}).encode())
    lake.commit("main", "from the future", {})
    with pytest.raises(LakeError, match="newer Headwater"):
        headwater.open(registry_url)


def test_a_pinned_view_cannot_be_written(registry: Registry, model: Path) -> None:
    registry.register("m", model / "empty")
    with pytest.raises(InvalidInputError, match="read, not written"):
        registry.at("main~1").register("m", model / "empty")


def test_importing_headwater_imports_nothing_heavy() -> None:
    heavy = "pyarrow duckdb deltalake polars lakefs_sdk pygit2 numpy click yaml"
    code = f"import sys, headwater; print([m for m in '{heavy}'.split() if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_all_names_the_public_names_in_order() -> None:
    assert headwater.__all__ == sorted(headwater.__all__)
    assert all(getattr(headwater, name) is not None for name in headwater.__all__)
    assert set(headwater.__all__) <= set(dir(headwater))
    with pytest.raises(AttributeError):
        _ = headwater.nothing_of_this_name


def test_a_cold_process_gets_the_same_answers_and_leaves_a_fold(
    registry: Registry, registry_url: str, model: Path
) -> None:
    for number in (1, 2, 3):
        registry.register("m", model / "empty", tags={"n": str(number)})
    registry.set_alias("m", "champion", 2)
    registry.tag("m/2", {"n": None, "more": "yes"})
    registry.delete("m/3")
    warm = {reference: registry.get(reference) for reference in ("m@champion", "m/1", "m/2")}
    state = registry._context.lake.cache / "state"
    for reference, expected in [*warm.items(), *warm.items()]:
        for _ in range(2):
            with headwater.open(registry_url) as cold:
                assert cold.get(reference) == expected
        assert list(state.glob("branch-*.db"))
        for left in state.iterdir():
            left.unlink()
    for missing in ("m/3", "m/9", "m@other", "nothing/1"):
        with headwater.open(registry_url) as cold, pytest.raises(NotFoundError):
            cold.get(missing)
        for left in state.iterdir():
            left.unlink()


def test_pull_never_writes_through_a_link_and_changes_nothing_where_it_fails(
    registry: Registry, tmp_path: Path
) -> None:
    artifact = tmp_path / "artifact"
    (artifact / "sub").mkdir(parents=True)
    (artifact / "a.txt").write_text("a")
    (artifact / "sub" / "x").write_text("x")
    registry.register("m", artifact)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "x").write_text("precious")
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "sub").symlink_to(victim)
    with pytest.raises(AlreadyExistsError, match="sub"):
        registry.pull("m/1", dest)
    assert [path.name for path in dest.iterdir()] == ["sub"]
    registry.pull("m/1", dest, force=True)
    assert (victim / "x").read_text() == "precious"
    assert contents(dest) == contents(artifact)
    for obstacle in ("file", "folder"):
        other = tmp_path / obstacle
        other.mkdir()
        if obstacle == "file":
            (other / "sub").write_text("mine")
        else:
            (other / "a.txt").mkdir()
            (other / "a.txt" / "mine").write_text("mine")
        before = contents(other)
        with pytest.raises(AlreadyExistsError):
            registry.pull("m/1", other)
        assert contents(other) == before
    assert registry.pull("m/1", ".") == Path.cwd()
    assert contents(Path.cwd()) == contents(artifact)
    registry.pull("m/1", ".")
    assert contents(Path.cwd()) == contents(artifact)


def test_alias_at_knows_names_and_deletions_of_its_time(registry: Registry, model: Path) -> None:
    registry.register("m", model / "empty")
    registry.set_alias("m", "champion", 1)
    then = registry.log(limit=1)[0].recorded_at
    registry.rename("m", "n")
    after = registry.log(limit=1)[0].recorded_at
    registry.delete_alias("n", "champion")
    registry.delete("n")
    query = "SELECT version FROM alias_at($name, 'champion', $time)"
    for moment, name, rows in [(then, "m", [(1,)]), (then, "n", []), (after, "m", []), (after, "n", [(1,)])]:
        assert registry.sql(query, {"name": name, "time": moment}).fetchall() == rows
        past = registry.at(f"main@{{{moment.isoformat()}}}")
        if rows:
            assert past.resolve(f"{name}@champion").version == 1
        else:
            with pytest.raises(NotFoundError):
                past.resolve(f"{name}@champion")


def test_an_init_that_died_before_its_marker_is_taken_up(tmp_path: Path, model: Path) -> None:
    from headwater.lake.local import LocalLake

    LocalLake.create(tmp_path / "half").close()
    with pytest.raises(LakeError, match="not a Headwater registry"):
        headwater.open(str(tmp_path / "half"))
    with headwater.create(str(tmp_path / "half")) as registry:
        assert registry.register("m", model / "empty").version == 1
    with pytest.raises(AlreadyExistsError):
        headwater.create(str(tmp_path / "half"))


def test_sql_goes_on_when_the_cache_is_deleted(registry: Registry, model: Path) -> None:
    import shutil

    registry.register("m", model / "empty", metrics={"auc": 0.5})
    count = "SELECT count(*) FROM lake.metrics"
    assert registry.sql(count).fetchall() == [(1,)]
    shutil.rmtree(registry._context.lake.cache)
    assert registry.sql(count).fetchall() == [(1,)]
