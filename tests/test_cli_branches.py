"""`headwater branch`, `switch`, `tag`, and what `status` says of a branch."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from tests.command_line import CommandLine, run

from headwater.errors import NotFoundError

CONFIG = Path(".headwater/config.toml")


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line in a folder with an embedded lake and `m/1`."""
    for name in ("HEADWATER_LAKE", "HEADWATER_BRANCH", "HEADWATER_ACTOR", "HEADWATER_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    cli = CommandLine()
    cli("init")
    Path("model").write_text("weights")
    cli("register", "m", "model")
    return cli


def _current() -> object:
    return tomllib.loads(CONFIG.read_text())["branch"]


# -- branch -----------------------------------------------------------------------------------------------------------
def test_a_branch_is_made_listed_and_deleted(cli: CommandLine) -> None:
    head = cli.json("status")["commit"]
    assert cli.json("branch", "exp-42") == {"name": "exp-42", "commit": head}
    assert "headwater switch old" in cli.out("branch", "old", "--from", "main~1")
    cli("register", "m", "model", "--branch", "exp-42")
    cli("register", "m", "model", "--branch", "exp-42")
    lines = cli.out("branch").splitlines()
    assert lines[0].split() == ["branch", "commit", "age", "ahead", "behind", "what", "only", "it", "has"]
    rows = {line[3:].split()[0]: line for line in lines[1:]}
    assert rows["exp-42"].split("seconds")[-1].split() == ["2", "0", "2", "versions"] or "second" in rows["exp-42"]
    assert [name for name, line in rows.items() if line.startswith("*")] == ["main"]
    listed = {each["name"]: each for each in cli.json("branch")}
    assert {name: (each["ahead"], each["behind"], each["current"]) for name, each in listed.items()} == {
        "exp-42": (2, 0, False),
        "main": (0, 0, True),
        "old": (0, 1, False),
    }
    assert listed["exp-42"]["contents"] == {"version": 2}
    kind, message, hint = cli.error("branch", "--delete", "exp-42", status=4)
    assert (kind, message) == ("ConflictError", "branch 'exp-42' has what 'main' lacks: 2 versions")
    assert "--force" in hint
    assert cli.json("branch", "-d", "old")["name"] == "old"
    text = cli.out("branch", "-d", "exp-42", "--force")
    assert listed["exp-42"]["commit"][:12] in text
    assert "`headwater gc`" in text
    cli("branch", "exp-42", "--from", listed["exp-42"]["commit"][:12])
    assert cli.json("branch", "-D", "exp-42")["ahead"] == 2
    assert [each["name"] for each in cli.json("branch")] == ["main"]


def test_the_branches_that_stay_are_not_deleted(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.error("branch", "-d", "main", status=2)[0] == "InvalidInputError"
    cli("switch", "-c", "exp")
    for words in ([], ["--branch", "main"], ["--force"]):
        kind, message, hint = cli.error("branch", "-d", "exp", *words, status=4)
        assert (kind, message) == ("ConflictError", "branch 'exp' is the current one")
        assert "headwater switch" in hint
    cli("switch", "main")
    cli("branch", "-d", "exp")


def test_branch_used_wrongly_says_how(cli: CommandLine) -> None:
    for words, told in {
        ("--delete",): "name the branch",
        ("--from", "main"): "name the branch",
        ("x", "--delete", "--from", "main"): "--from",
        ("x", "--force"): "--force is for --delete",
        ("x", "y"): "unexpected extra argument",
    }.items():
        kind, message, _ = cli.error("branch", *words, status=2)
        assert kind == "UsageError"
        assert told in message
    assert cli.error("branch", "feature/x", status=2)[2].endswith("'feature-x', say")
    assert cli.error("branch", "--", "-x", status=2)[0] == "InvalidInputError"
    assert cli.error("branch", "main", status=1)[0] == "AlreadyExistsError"
    assert cli.error("branch", "x", "--from", "nope", status=1)[0] == "NotFoundError"
    assert [each["name"] for each in cli.json("branch")] == ["main"]


# -- switch -----------------------------------------------------------------------------------------------------------
def test_switch_goes_to_a_branch_and_commands_follow(cli: CommandLine) -> None:
    cli("branch", "exp")
    assert "on branch exp" in cli.out("switch", "exp")
    assert _current() == "exp"
    cli("register", "m", "model")
    assert cli.json("status")["ref"] == "exp"
    os.mkdir("deeper")
    os.chdir("deeper")
    assert len(cli.json("versions", "m")) == 2
    found = cli.json("switch", "main")
    assert found["name"] == "main"
    assert found["config"] == str(Path("..").resolve() / CONFIG)
    assert len(cli.json("versions", "m")) == 1
    assert cli.out("switch", "main").startswith("already on branch main")


def test_switch_makes_a_branch_as_git_does(cli: CommandLine) -> None:
    head = cli.json("status")["commit"]
    assert cli.json("switch", "-c", "exp")["commit"] == head
    assert _current() == "exp"
    cli("register", "m", "model")
    cli("switch", "--create", "next")
    assert len(cli.json("versions", "m")) == 2
    cli("switch", "-c", "old", "--from", "main~1")
    assert cli.json("models") == []
    assert _current() == "old"
    assert cli.error("switch", "-c", "exp", status=1)[0] == "AlreadyExistsError"
    assert cli.error("switch", "-c", "a/b", status=2)[0] == "InvalidInputError"
    assert cli.error("switch", "exp", "--from", "main", status=2)[0] == "UsageError"
    assert _current() == "old"


@pytest.mark.parametrize(
    "text",
    [
        'lake = "lake"\nbranch = "main"\n',
        "# mine\n\nbranch='main'   # where I work\nlake = 'lake'\nactor = \"ann\"",
        '"branch" = "main"\r\n"lake" = "lake"\r\n# end\r\n',
        'lake = "lake"',
        'lake = "lake"\n# branch = "none"\n\tbranch\t=\t"a\\"b"\n',
    ],
)
def test_switch_keeps_the_rest_of_the_file_as_it_is(cli: CommandLine, text: str) -> None:
    cli("branch", "exp")
    CONFIG.write_bytes(text.encode())
    CONFIG.chmod(0o640)
    cli("switch", "exp")
    kept = CONFIG.read_bytes().decode()
    assert tomllib.loads(kept) == {**tomllib.loads(text), "branch": "exp"}
    assert CONFIG.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in CONFIG.parent.iterdir() if "config" in path.name] == ["config.toml"]
    lines = [line for line in text.splitlines(keepends=True) if "branch" not in line or line.startswith("#")]
    assert all(line.rstrip("\n") in kept for line in lines)
    assert "# where I work" not in text or "branch='main'" not in kept
    assert "# where I work" not in text or "# where I work" in kept


def test_switch_does_not_guess_at_a_file_that_is_written_oddly(cli: CommandLine) -> None:
    cli("branch", "exp")
    text = 'lake = "lake"\nbranch = """main"""\n'
    CONFIG.write_text(text)
    kind, _, hint = cli.error("switch", "exp", status=2)
    assert kind == "InvalidInputError"
    assert 'branch = "exp"' in hint
    assert CONFIG.read_text() == text
    kind, _, _ = cli.error("switch", "-c", "new", status=2)
    assert [each["name"] for each in cli.json("branch", "--branch", "main")] == ["exp", "main"]


def test_a_switch_that_can_not_be_written_changes_nothing(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    text = CONFIG.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        kind, message, _ = cli.error("switch", "main", status=1)
    assert kind == "LakeError"
    assert "full" in message
    assert CONFIG.read_text() == text
    assert [path.name for path in CONFIG.parent.iterdir() if "config" in path.name] == ["config.toml"]


def test_switch_says_what_goes_before_it(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("branch", "exp")
    monkeypatch.setenv("HEADWATER_BRANCH", "main")
    assert "HEADWATER_BRANCH names main" in cli("switch", "exp").stderr
    assert _current() == "exp"
    monkeypatch.setenv("HEADWATER_BRANCH", "exp")
    assert cli("switch", "exp").stderr == ""
    monkeypatch.delenv("HEADWATER_BRANCH")
    assert "--branch names exp" in cli("switch", "main", "--branch", "exp").stderr


def test_switch_needs_a_file_that_names_the_lake(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = str(Path(".headwater/lake").resolve())
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for words, environment, named in ((["--lake", lake], None, "--lake"), ([], lake, "HEADWATER_LAKE")):
        if environment is not None:
            monkeypatch.setenv("HEADWATER_LAKE", environment)
        kind, message, hint = cli.error("switch", "main", *words, status=2)
        assert kind == "InvalidInputError"
        assert lake in message
        assert f"named by {named}" in hint
    monkeypatch.delenv("HEADWATER_LAKE")
    assert cli.error("switch", "main", status=1)[0] == "NotFoundError"
    cli("init")
    # A file that names another lake is no place for this one's branch.
    assert cli.error("switch", "main", "--lake", lake, status=2)[0] == "InvalidInputError"


def test_switch_leaves_a_branch_that_is_gone(cli: CommandLine) -> None:
    cli("switch", "-c", "exp")
    import headwater

    with headwater.open(branch="main") as registry:
        registry.delete_branch("exp")
    kind, message, hint = cli.error("status", status=1)
    assert (kind, message) == ("NotFoundError", "there is no branch 'exp', the current one here")
    assert hint == "`headwater switch main` goes back to the default branch"
    cli("switch", "main")
    assert cli.json("status")["ref"] == "main"


def test_a_branch_that_is_gone_is_told_with_what_names_it(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    import headwater

    cli("branch", "exp")
    monkeypatch.setenv("HEADWATER_BRANCH", "gone")
    for words in (["status"], ["branch", "new"], ["merge", "exp"]):
        kind, message, hint = cli.error(*words, status=1)
        assert (kind, message) == ("NotFoundError", "there is no branch 'gone', which HEADWATER_BRANCH names")
        assert hint == "set or unset it; `headwater branch` lists them"
    with pytest.raises(NotFoundError, match="which HEADWATER_BRANCH names"):
        headwater.open()
    # What is named in the command itself needs no telling.
    assert cli.error("status", "--branch", "nope", status=1)[1] == "there is no branch 'nope'"
    monkeypatch.setenv("HEADWATER_BRANCH", "exq")
    assert cli.error("status", status=1)[2] == "set or unset it; did you mean exp?"


def test_listing_and_leaving_need_no_branch_that_is_there(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_BRANCH", "gone")
    assert [(each["name"], each["current"]) for each in cli.json("branch")] == [("main", False)]
    listed = run("branch")
    assert listed.stderr == "the current branch, gone, is not there\n"
    assert [(each["name"], each["current"]) for each in cli.json("branch", "--branch", "main")] == [("main", True)]
    cli("switch", "-c", "exp", "--from", "main")
    assert _current() == "exp"
    cli("switch", "main")
    assert _current() == "main"
    monkeypatch.delenv("HEADWATER_BRANCH")
    assert run("branch").stderr == ""


def test_a_name_is_shown_as_it_was_typed(cli: CommandLine) -> None:
    found = run("branch", "ünï", env={**os.environ, "PYTHONIOENCODING": "utf-8"}, encoding="utf-8")
    assert "not a name for a branch: 'ünï'\n" in found.stderr
    assert found.stderr.endswith("'uni', say\n")
    found = run("branch", "ünï", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert "not a name for a branch: '\\xfcn\\xef'\n" in found.stderr
    assert "\\x1b[31m" in run("branch", "a\x1b[31m").stderr
    # What a letter is left of is not proposed.
    assert cli.error("branch", "日n本", status=2)[2].endswith("begin with")


def test_a_ref_where_a_model_is_wanted_is_told_apart(cli: CommandLine) -> None:
    cli("branch", "exp")
    cli("tag", "release-1")
    commit = cli.json("log", "--limit", "1")[0]["commit"][:12]
    after = "shows what happened up to it"
    told = {
        "exp": ("a branch", f"`headwater log --ref exp` {after}"),
        "release-1": ("a tag", f"`headwater log --ref release-1` {after}"),
        commit: ("a commit", f"`headwater log --ref {commit}` shows what led to it,"),
        "main~1": ("a commit", "`headwater log --ref main~1` shows what led to it,"),
        "HEAD": ("git's word", "name the branch instead, such as main: `headwater log --ref main`"),
        "main..exp": ("a range, as git writes it", "`headwater diff main exp` compares two refs"),
        "main...exp": ("a range, as git writes it", "`headwater diff main exp` compares two refs"),
        "..exp": ("a range, as git writes it", "`headwater diff REF REF` compares two refs"),
    }
    for given, (what, hint) in told.items():
        for command in ("show", "versions"):
            kind, message, said = cli.error(command, given, status=1)
            assert kind == "NotFoundError"
            assert message.startswith("there is no model ")
            assert message.endswith(f": that is {what}")
            assert said.startswith(hint)
        kind, message, said = cli.error("log", given, status=2)
        assert (kind, message) == ("InvalidInputError", f"'{given}' is {what}")
        assert said.startswith(hint)
    cli("log", "--ref", commit)
    cli("diff", f"{commit}~1", commit)
    # A model goes before a branch of its name, also when it is deleted.
    cli("branch", "m")
    assert cli.json("show", "m")["name"] == "m"
    cli("delete", "m")
    assert "that is" not in cli.error("show", "m", status=1)[1]


def test_switch_goes_to_branches_alone(cli: CommandLine) -> None:
    cli("tag", "release-1")
    head = cli.json("status")["commit"]
    for name in ("release-1", "nope", head, "main~1", "a b", "_hw_tx_1", ""):
        kind, message, hint = cli.error("switch", name, status=1)
        assert kind == "NotFoundError", name
        assert "there is no branch" in message
        assert hint
    assert "it is a tag" in cli.error("switch", "release-1", status=1)[2]
    assert _current() == "main"


# -- status and tags --------------------------------------------------------------------------------------------------
def test_status_shows_how_the_branch_stands(cli: CommandLine) -> None:
    assert "ahead" not in cli.out("status")
    cli("switch", "-c", "exp")
    assert "ahead" not in cli.out("status")
    cli("register", "m", "model")
    cli("register", "m", "model", "--branch", "main")
    cli("register", "m", "model", "--branch", "main")
    assert "1 transaction ahead of the default branch, 2 behind" in cli.out("status")
    found = cli.json("status")
    assert (found["ref"], found["ahead"], found["behind"]) == ("exp", 1, 2)


def test_a_tag_is_made_listed_and_deleted(cli: CommandLine) -> None:
    assert "no tags yet" in cli("tag").stderr
    head = cli.json("status")["commit"]
    made = cli.json("tag", "release-2026-11")
    assert (made["name"], made["commit"], made["message"]) == ("release-2026-11", head, "register m/1")
    assert "empty is at" in cli.out("tag", "empty", "main~1")
    cli("register", "m", "model")
    assert len(cli.json("versions", "m", "--ref", "release-2026-11")) == 1
    assert cli.json("models", "--ref", "empty") == []
    assert [line.split()[0] for line in cli.out("tag").splitlines()] == ["tag", "empty", "release-2026-11"]
    assert cli.json("tag")[1] == made
    assert cli.json("tag", "--delete", "empty")["name"] == "empty"
    assert f"it was at {head[:12]}" in cli.out("tag", "-d", "release-2026-11")
    assert cli.json("tag") == []


def test_tag_used_wrongly_says_how(cli: CommandLine) -> None:
    for words in (["--delete"], ["--delete", "a", "main"], ["a", "b", "c"]):
        assert cli.error("tag", *words, status=2)[0] == "UsageError"
    assert "'release-1.0', say" in cli.error("tag", "v1", status=2)[2]
    assert "small letters: 'release'" in cli.error("tag", "Release", status=2)[2]
    assert cli.error("tag", "main", status=1)[1] == "there is a branch 'main' already"
    assert cli.error("tag", "a", "nope", status=1)[0] == "NotFoundError"
    assert "it is a branch" in cli.error("tag", "-d", "main", status=1)[2]
    assert cli.json("tag") == []


def test_refs_of_all_kinds_are_completed(cli: CommandLine) -> None:
    cli("branch", "exp-1")
    cli("tag", "release-1")

    def completed(words: str) -> str:
        environment = {**os.environ, "_HEADWATER_COMPLETE": "bash_complete", "COMP_LINE": words}
        return run(env=environment).stdout

    assert completed("headwater switch e") == "plain,exp-1\n"
    assert completed("headwater tag -d r") == "plain,release-1\n"
    assert completed("headwater models --ref re") == "plain,release-1\n"


def test_the_commands_work_on_a_server(cli: CommandLine, lakefs_url: str, tmp_path: Path) -> None:
    os.mkdir("remote")
    os.chdir("remote")
    cli("init", lakefs_url, "--storage-namespace", f"local://{lakefs_url.rpartition('/')[2]}")
    cli("register", "m", "../model")
    cli("switch", "-c", "exp")
    cli("register", "m", "../model")
    cli("tag", "tried")
    cli("switch", "main")
    assert {each["name"]: each["ahead"] for each in cli.json("branch")} == {"exp": 1, "main": 0}
    assert cli.error("branch", "-d", "exp", status=4)[0] == "ConflictError"
    cli("branch", "-D", "exp")
    assert len(cli.json("versions", "m", "--ref", "tried")) == 2
