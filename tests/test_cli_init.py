"""`headwater init`: an embedded lake, a lakeFS repository made or joined, and what is refused."""

from __future__ import annotations

import os
import shutil
import tomllib
from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line in an empty folder, with nothing set."""
    for name in ("HEADWATER_LAKE", "HEADWATER_BRANCH", "HEADWATER_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return CommandLine()


def _kept() -> dict[str, object]:
    return tomllib.loads(Path(".headwater/config.toml").read_text())


def test_init_makes_an_embedded_lake_and_says_what_to_do_next(cli: CommandLine) -> None:
    text = cli.out("init")
    assert "headwater register" in text
    assert _kept() == {"lake": "lake", "branch": "main"}
    assert sorted(path.name for path in Path().iterdir()) == [".headwater"]
    assert cli.json("status")["models"] == 0
    os.mkdir("deeper")
    os.chdir("deeper")
    assert cli.json("status")["lake"] == str(Path("../.headwater/lake").resolve())


def test_init_prints_where_it_is_as_json(cli: CommandLine) -> None:
    found = cli.json("init", "--actor", "ann")
    assert found["lake"] == str(Path(".headwater/lake").resolve())
    assert found["config"] == str(Path(".headwater/config.toml").resolve())
    assert (found["ref"], found["actor"], found["models"]) == ("main", "ann", 0)


def test_the_folder_may_be_moved(cli: CommandLine, tmp_path: Path) -> None:
    cli("init")
    Path("m").write_text("m")
    cli("register", "m", "m")
    os.chdir(tmp_path)
    (tmp_path / "work").rename(tmp_path / "moved")
    os.chdir(tmp_path / "moved")
    assert cli.out("verify", "m/1").splitlines()[0] == "ok     m/1"


def test_git_does_not_see_an_embedded_lake(cli: CommandLine) -> None:
    import pygit2

    repository = pygit2.init_repository(".")
    cli("init")
    assert repository.status() == {}
    Path("m").write_text("m")
    assert list(repository.status()) == ["m"]


def test_init_again_is_refused_and_changes_nothing(cli: CommandLine) -> None:
    cli("init")
    commit = cli.json("status")["commit"]
    for words in ([], ["elsewhere"], ["--actor", "x"]):
        assert cli.error("init", *words, status=1)[0] == "AlreadyExistsError"
    assert cli.json("status")["commit"] == commit
    assert sorted(path.name for path in Path().iterdir()) == [".headwater"]
    shutil.rmtree(".headwater")
    Path(".headwater").write_text("a file")
    assert cli.error("init", status=1)[0] == "AlreadyExistsError"


def test_init_in_a_folder_of_ones_own_choice(cli: CommandLine, tmp_path: Path) -> None:
    cli("init", tmp_path / "somewhere")
    assert _kept() == {"lake": str(tmp_path / "somewhere"), "branch": "main"}
    assert cli.json("status")["lake"] == str(tmp_path / "somewhere")
    os.mkdir("other")
    os.chdir("other")
    cli("--lake", "relative", "init")
    assert _kept()["lake"] == str(Path("relative").resolve())


def test_an_init_that_fails_leaves_nothing(cli: CommandLine, tmp_path: Path) -> None:
    headwater.create(str(tmp_path / "taken")).close()
    assert cli.error("init", tmp_path / "taken", status=1)[0] == "AlreadyExistsError"
    assert cli.error("init", "https://example.org", status=2)[0] == "InvalidInputError"
    assert cli.error("init", "--storage-namespace", "s3://bucket", "lake", status=2)[0] == "InvalidInputError"
    assert cli.error("init", "--storage-namespace", "s3://bucket", status=2)[0] == "InvalidInputError"
    assert cli.error("init", "--branch", "nope", status=1)[0] == "NotFoundError"
    assert cli.error("init", "a", "--lake", "b", status=2)[0] == "UsageError"
    assert list(Path().iterdir()) == []


def test_init_makes_a_lakefs_repository_and_others_join_it(cli: CommandLine, lakefs_url: str) -> None:
    namespace = f"local://{lakefs_url.rpartition('/')[2]}"
    assert lakefs_url in cli.out("init", lakefs_url, "--storage-namespace", namespace)
    assert _kept() == {"lake": lakefs_url, "branch": "main"}
    assert not Path(".headwater/.gitignore").exists()
    Path("m").write_text("m")
    cli("register", "m", "m")
    assert cli.json("init", lakefs_url)["models"] == 1
    assert cli.error("init", f"{lakefs_url}-other", status=1)[0] == "AlreadyExistsError"
    os.mkdir("second")
    os.chdir("second")
    assert cli.json("init", lakefs_url)["versions"] == 1
    assert cli.out("resolve", "m/1") == "m/1\n"
    for path in Path(".headwater").rglob("*"):
        assert "SECRET" not in path.read_text().upper()


def test_a_lakefs_repository_can_not_be_made_without_its_namespace(cli: CommandLine, lakefs_url: str) -> None:
    assert cli.error("init", lakefs_url, status=2)[0] in ("InvalidInputError", "LakeError")
    assert list(Path().iterdir()) == []


def test_the_folder_of_a_project_stands_for_its_lake(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("init")
    Path("m").write_text("m")
    cli("register", "m", "m")
    lake = str(Path(".headwater/lake").resolve())
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    for url in ("../work", str(tmp_path / "work"), f"file://{tmp_path / 'work'}", "../work/", lake):
        assert cli.json("status", "--lake", url)["lake"] == lake
    monkeypatch.setenv("HEADWATER_LAKE", "../work")
    assert cli.json("status")["lake"] == lake
    monkeypatch.delenv("HEADWATER_LAKE")
    with headwater.open("../work") as registry:
        assert registry.url == lake
    cli("init")
    assert cli.json("pull-from", "../work")["url"] == lake
    assert cli.json("versions", "m")[0]["version"] == 1
    cli("alias", "set", "m", "champion", "1")
    assert cli.json("push", "../work")["url"] == lake
    assert cli.out("resolve", "m@champion", "--lake", "../work") == "m/1\n"
    assert cli.error("push", ".", status=2)[1].endswith("is this lake itself")
    for empty in ("", " "):
        assert cli.error("push", empty, status=2)[:2] == ("InvalidInputError", "the URL of the other lake is empty")
        assert cli.error("pull-from", empty, status=2)[0] == "InvalidInputError"
    # One file is followed, and no more, so none can lead around.
    Path(".headwater/config.toml").write_text('lake = ".."\nbranch = "main"\n')
    assert cli.error("status", "--lake", ".", status=1)[0] in ("LakeError", "NotFoundError")


def test_a_lake_that_is_there_is_not_made_again_and_how_to_open_it_is_told(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("init")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    for url in ("../work/.headwater/lake", "../work"):
        kind, message, hint = cli.error("init", url, status=1)
        assert kind == "AlreadyExistsError"
        assert ".headwater/lake" in message
        assert "--lake" in hint
        assert "HEADWATER_LAKE" in hint
    assert list(Path().iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [".headwater"]


def test_a_configuration_that_is_not_ours_is_refused(cli: CommandLine) -> None:
    cli("init")
    for text in ("lake = [", 'lake = "lake"\npassword = "x"\n', "lake = 7\n"):
        Path(".headwater/config.toml").write_text(text)
        assert cli.error("status", status=2)[0] == "InvalidInputError"
