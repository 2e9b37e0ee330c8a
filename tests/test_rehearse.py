"""Rehearsals: what a command or a program would change is shown, and nothing of it is kept."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.command_line import HEADWATER, CommandLine, run

import headwater
from headwater.errors import AlreadyExistsError, ConflictError, HeadwaterError, InvalidInputError
from headwater.ids import now_micros
from headwater.lake.base import REHEARSAL_PREFIX
from headwater.registry import Registry
from headwater.rehearsals import REFUSED

DAY = 24 * 3_600_000_000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def _swept(registry: Registry) -> int:
    """Return how many rehearsals are there, by sweeping them all."""
    return registry._context.lake.sweep(now_micros() + DAY)


# -- in Python --------------------------------------------------------------------------------------------------------
def test_what_is_written_in_a_rehearsal_is_shown_and_thrown_away(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    head, branches = registry.head, registry.branches()
    with registry.rehearse() as trial:
        version = trial.register("m", model, metrics={"auc": 0.9})
        trial.set_alias("m", "champion", version.version)
        assert trial.resolve("m@champion").version == 2
        assert len(trial.sql("FROM model_versions").fetchall()) == 2
        assert [each.version for each in registry.versions("m")] == [1]
        assert registry.branches() == branches
        found = trial.difference()
        assert [each.version for each in found.model_versions] == [2]
        assert [each.kind for each in found.events] == ["alias", "stage", "traffic"]
        assert (found.left, found.right, found.transactions) == ("main", "the rehearsal", 2)
        name = trial.working_branch
    assert registry.head == head
    assert registry.branches() == branches
    assert registry.aliases("m") == []
    assert _swept(registry) == 0
    with pytest.raises(HeadwaterError):
        registry._context.lake.head(name)
    assert registry.register("m", model).version == 2


def test_a_rehearsal_reserves_no_name_and_no_number(registry: Registry, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("id,x\n1,2\n")
    registry.register("m", model)
    before = registry._context.lake.reservations()
    with registry.rehearse() as trial:
        trial.rename("m", "zed")
        assert [trial.register("new", model).version for _ in range(3)] == [1, 2, 3]
        assert [trial.register("zed", model).version for _ in range(2)] == [2, 3]
        trial.rename("new", "newer")
        # A name that a model had is its own in a rehearsal too.
        with pytest.raises(AlreadyExistsError, match="the name new belongs to model newer"):
            trial.register("new", model)
        with pytest.raises(AlreadyExistsError, match="belongs to another model"):
            trial.rename("zed", "new")
        assert trial.add_dataset("d", data).semver == "1.0.0"
        data.write_text("id,x\n1,2\n2,3\n")
        assert trial.add_dataset("d", data).semver == "1.1.0"
    assert registry._context.lake.reservations() == before
    assert [registry.register(name, model).version for name in ("zed", "new", "newer", "m")] == [1, 1, 1, 2]
    assert registry.add_dataset("d", data).semver == "1.0.0"


def test_a_rehearsal_passes_over_what_other_branches_have(registry: Registry, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.csv"
    data.write_text("id,x\n1,2\n")
    registry.register("m", model)
    exp = registry.create_branch("exp")
    exp.register("m", model)
    exp.register("other", model)
    exp.rename("other", "another")
    exp.add_dataset("d", data)
    data.write_text("id,x\n1,2\n2,3\n")
    with registry.rehearse() as trial:
        assert trial.register("m", model).version == 3
        assert trial.add_dataset("d", data).semver == "2.0.0"
        with pytest.raises(AlreadyExistsError, match="the name another belongs to another model"):
            trial.rename("m", "another")
    assert registry.register("m", model).version == 3


def test_nothing_that_would_stay_is_done_in_a_rehearsal(registry: Registry, model: Path, tmp_path: Path) -> None:
    registry.register("m", model)
    registry.create_branch("exp")
    registry.create_tag("rel")
    branches, tags = registry.branches(), registry.tags()
    with registry.rehearse() as trial:
        calls: dict[str, list[Callable[[], object]]] = {
            "branch": [lambda: trial.create_branch("x"), lambda: trial.delete_branch("exp")],
            "tag": [lambda: trial.create_tag("x"), lambda: trial.delete_tag("rel")],
            "push": [lambda: trial.push(str(tmp_path / "there"))],
            "pull-from": [lambda: trial.pull_from(str(tmp_path / "there"))],
            "gc": [lambda: trial.gc(grace=0)],
        }
        for command, each in calls.items():
            for call in each:
                with pytest.raises(InvalidInputError, match=f"`headwater {command}` can't be rehearsed") as caught:
                    call()
                assert caught.value.hint == REFUSED[command]
        assert trial.gc(dry_run=True).dry_run
    assert (registry.branches(), registry.tags()) == (branches, tags)
    assert not (tmp_path / "there").exists()


def test_a_rehearsal_ends_whatever_happens(registry: Registry, model: Path) -> None:
    head = registry.head

    def failing(error: BaseException) -> None:
        with registry.rehearse() as trial:
            trial.register("m", model)
            raise error

    for error in (RuntimeError("no"), KeyboardInterrupt(), SystemExit(3)):
        with pytest.raises(type(error)):
            failing(error)
    assert registry.head == head
    assert _swept(registry) == 0


def test_a_rehearsal_writes_to_no_other_branch(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    exp = registry.create_branch("exp")
    exp.register("m", model)
    heads = registry.branches()
    with registry.rehearse() as trial:
        with pytest.raises(
            InvalidInputError, match="a rehearsal writes to a branch of its own, not to 'exp'"
        ) as caught:
            trial.merge(trial.register("m", model).commit, into="exp")
        assert "--branch exp" in caught.value.hint
        with pytest.raises(InvalidInputError, match="branch of its own"):
            trial.branch("exp").register("m", model)
        done = trial.merge("exp")
        assert (done.target, done.transactions) == ("the rehearsal", 1)
        assert trial.log(limit=1)[0].message == "merge exp into the rehearsal: 1 version"
    assert registry.branches() == heads


def test_a_merge_with_conflicts_is_rehearsed(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    registry.register("m", model)
    exp = registry.create_branch("exp")
    exp.set_alias("m", "champion", 1)
    registry.set_alias("m", "champion", 2)
    with registry.rehearse() as trial:
        with pytest.raises(ConflictError):
            trial.merge("exp")
        trial.merge("exp", theirs=True)
        assert trial.resolve("m@champion").version == 1
    assert registry.resolve("m@champion").version == 2


def test_other_processes_work_in_a_rehearsal(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    script = f"import headwater; headwater.open().register('m', {str(model)!r})"
    with registry.rehearse() as trial:
        # The name of the branch alone says what may be written.
        with (
            headwater.open(trial.url, branch=trial.working_branch) as other,
            pytest.raises(InvalidInputError, match="a rehearsal writes to a branch of its own, not to 'main'"),
        ):
            other.branch("main").set_alias("m", "champion", 1)
        where = {"HEADWATER_LAKE": trial.url, "HEADWATER_BRANCH": trial.working_branch, "HEADWATER_ACTOR": "child"}
        subprocess.run([sys.executable, "-c", script], env={**os.environ, **where}, check=True, timeout=120)
        assert [(each.version, each.actor) for each in trial.versions("m")] == [(2, "child"), (1, "tester")]
        assert len(trial.difference().model_versions) == 1
    assert len(registry.versions("m")) == 1


def test_a_run_that_goes_on_ends_with_its_rehearsal(registry: Registry) -> None:
    with registry.rehearse() as trial:
        started = trial.start_run("train", experiment="e")
        started.log_metric("auc", 0.5)
    assert started.ended
    assert registry.runs() == []
    assert registry.start_run("next", experiment="e").run_id != started.run_id
    assert [each.name for each in registry.runs()] == ["next"]


def test_what_is_read_at_a_commit_is_rehearsed_from_there(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    registry.register("m", model)
    with registry.at("main~1").rehearse() as trial:
        assert [each.version for each in trial.versions("m")] == [1]
        trial.set_alias("m", "champion", 1)
        assert trial.difference().transactions == 1


def test_a_rehearsal_leaves_no_state_behind(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    registry.versions("m")
    folder = registry._context.lake.cache / "state"
    before = {path.name for path in folder.glob("branch-*.db")}
    with registry.rehearse() as trial:
        trial.register("m", model)
        trial.versions("m")
        assert {path.name for path in folder.glob("branch-*.db")} > before
    assert {path.name for path in folder.glob("branch-*.db")} == before


# -- as a command -----------------------------------------------------------------------------------------------------
@pytest.fixture
def cli(registry_url: str, registry: Registry, model: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line on a registry with `m/1`."""
    registry.register("m", model)
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    return CommandLine()


def test_a_command_is_rehearsed(cli: CommandLine, registry: Registry, model: Path) -> None:
    head = registry.head
    result = cli("rehearse", "register", "m", model, "--metric", "auc=0.5")
    assert result.stdout.startswith("m/2\n")
    assert "the rehearsal has 1 transaction that main lacks" in result.stdout
    assert "+ m/2" in result.stdout
    assert result.stderr == "nothing of it is kept: this was a rehearsal\n"
    assert "+ alias m@champion: 1" in cli.out("rehearse", "alias", "set", "m", "champion", "1")
    assert "+ alias m@champion: 1" in cli.out("--actor", "ann", "rehearse", "alias", "set", "m", "champion", "1")
    cli("alias", "set", "m", "champion", "1")
    assert cli("rehearse", "alias", "set", "m", "champion", "1").stderr == "it would change nothing\n"
    cli("alias", "delete", "m", "champion")
    assert registry.at("main~2").head == head
    assert _swept(registry) == 0


def test_a_rehearsal_prints_one_document(cli: CommandLine, registry: Registry, model: Path) -> None:
    for words in (["--json", "rehearse", "register", "m", model], ["rehearse", "register", "m", model, "--json"]):
        found = json.loads(cli.out(*words))
        assert set(found) == {"result", "difference"}
        assert found["result"]["name"] == "m"
        assert [each["version"] for each in found["difference"]["model_versions"]] == [found["result"]["version"]]
    found = json.loads(cli.out("rehearse", "--json", "describe", "m", "a text"))
    assert found["result"]["description"] == "a text"
    assert found["difference"]["counts"] == {"events": 1}
    cli("describe", "m", "a text")
    # What reads prints what it always prints.
    assert [each["name"] for each in json.loads(cli.out("rehearse", "models", "--json"))] == ["m"]
    assert json.loads(cli.out("rehearse", "sql", "--json", "SELECT 1 AS n")) == [{"n": 1}]
    assert cli("rehearse", "log").stderr == ""


def test_a_merge_that_is_refused_in_a_rehearsal_names_the_branch(cli: CommandLine, registry: Registry) -> None:
    registry.create_branch("exp").describe("m", "theirs")
    registry.describe("m", "ours")
    result = run("rehearse", "merge", "exp")
    assert result.returncode == 4
    assert result.stderr.splitlines() == [
        "nothing of it is kept: this was a rehearsal",
        "error: main and exp disagree about description:m",
        "hint: take --ours (main) or --theirs (exp), or settle one: --resolve description:m=theirs",
    ]
    assert "the rehearsal" in cli.out("rehearse", "merge", "exp", "--theirs")
    assert registry.model("m").description == "ours"


def test_a_command_that_fails_in_a_rehearsal_fails_as_ever(cli: CommandLine, registry: Registry, model: Path) -> None:
    head = registry.head
    assert cli.error("rehearse", "alias", "set", "m", "champion", "9", status=1)[1] == "there is no version m/9"
    assert cli.error("rehearse", "register", "Bad Name", model, status=2)[0] == "InvalidInputError"
    assert cli.error("rehearse", "describe", "m", status=2)[2] == "`headwater describe --help` shows how it is used"
    assert cli.error("rehearse", "nonsense", status=2)[1] == "no such command 'nonsense'"
    assert cli.error("rehearse", status=2)[1] == "a command is missing"
    assert cli.error("rehearse", "merge", "main", "--branch", "nope", status=1)[0] == "NotFoundError"
    assert registry.head == head
    assert _swept(registry) == 0


def test_every_command_that_writes_finds_a_rehearsal(cli: CommandLine, registry: Registry, tmp_path: Path) -> None:
    """Whatever its options and arguments are called."""
    registry.set_alias("m", "champion", 1)
    last = registry.log(limit=1)[0].commit
    registry.create_branch("exp").describe("m", "tried")
    data = tmp_path / "data.csv"
    data.write_text("id,x\n1,2\n")
    heads = registry.branches()
    for words in (
        ["revert", last],
        ["merge", "exp"],
        ["alias", "set", "m", "best", "1"],
        ["alias", "delete", "m", "champion"],
        ["tag-model", "m/1", "a=b"],
        ["describe", "m/1", "text"],
        ["rename", "m", "renamed"],
        ["data", "add", "d", data],
        ["deploy", "m/1", "--to", "production"],
        ["register", "m", data],
    ):
        result = cli("rehearse", *words)
        assert "that main lacks" in result.stdout, words
        assert "nothing of it is kept" in result.stderr
        assert registry.branches() == heads, words
    assert _swept(registry) == 0


@pytest.mark.parametrize("command", ["init", "branch", "switch", "tag", "rehearse", "gc", "push", "pull-from"])
def test_what_is_not_about_a_branch_is_not_rehearsed(cli: CommandLine, command: str) -> None:
    kind, message, hint = cli.error("rehearse", command, "x", status=2)
    assert (kind, message) == ("InvalidInputError", f"`headwater {command}` can't be rehearsed")
    assert hint


def test_a_merge_with_conflicts_prints_them_in_a_rehearsal_too(
    cli: CommandLine, registry: Registry, model: Path
) -> None:
    registry.register("m", model)
    registry.create_branch("exp").set_alias("m", "champion", 1)
    registry.set_alias("m", "champion", 2)
    result = cli("rehearse", "merge", "exp", status=4)
    assert "alias:m@champion" in result.stdout + result.stderr
    found = json.loads(cli("--json", "rehearse", "merge", "exp", status=4).stdout)
    assert found["result"]["conflicts"][0]["name"] == "alias:m@champion"
    assert found["difference"] is None
    assert "alias m@champion: 2 -> 1" in cli.out("rehearse", "merge", "exp", "--theirs").replace("→", "->")
    kind, message, _ = cli.error("rehearse", "merge", "main", "--into", "exp", status=2)
    assert (kind, message) == ("InvalidInputError", "a rehearsal writes to a branch of its own, not to 'exp'")
    out = cli.out("rehearse", "merge", "main", "--branch", "exp", "--ours")
    assert "has 2 transactions" in out  # what main did, and the merge that settles it


def test_a_program_is_rehearsed_with_its_exit_status(cli: CommandLine, registry: Registry, model: Path) -> None:
    script = (
        "import sys, headwater\n"
        "run = headwater.current_run()\n"
        "run.log_metric('auc', 0.5)\n"
        f"run.register('m', {str(model)!r})\n"
        "print('trained')\n"
        "sys.exit(3)\n"
    )
    result = run("rehearse", "run", "--", sys.executable, "-c", script)
    assert result.returncode == 3, result.stderr
    assert result.stdout.startswith("trained\n")
    assert "+ m/2" in result.stdout
    assert "Runs" in result.stdout
    assert registry.runs() == []
    assert [each.version for each in registry.versions("m")] == [1]
    assert _swept(registry) == 0


def test_programs_in_a_rehearsal_change_nothing_outside_of_it(
    cli: CommandLine, registry: Registry, model: Path, tmp_path: Path
) -> None:
    registry.create_branch("exp")
    branches = registry.branches()
    headwater_ = shlex.join(HEADWATER)
    copy = tmp_path / "copy"
    lines = [
        "alias set m champion 1 --branch main",
        "tag rel",
        "branch exp -D",
        "branch new",
        f"push {copy}",
        f"pull-from {copy}",
        "gc --yes",
        f"init {tmp_path / 'made'}",
        "switch exp",
    ]
    script = "\n".join(
        [*(f"{headwater_} {line}; echo status $?" for line in lines), f"{headwater_} alias set m inner 1"]
    )
    result = run("rehearse", "run", "--", "sh", "-c", script)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("status 2\n") == len(lines), result.stdout + result.stderr
    assert "a rehearsal writes to a branch of its own, not to 'main'" in result.stderr
    assert result.stderr.count("`headwater branch` can't be rehearsed") == 2
    for command in ("tag", "branch", "push", "pull-from", "gc", "init", "switch"):
        assert f"`headwater {command}` can't be rehearsed" in result.stderr
    assert "alias m@inner: 1" in result.stdout
    assert (registry.branches(), registry.tags(), registry.aliases("m")) == (branches, [], [])
    assert not copy.exists()
    assert not (tmp_path / "made").exists()
    assert _swept(registry) == 0


def test_python_in_a_rehearsal_reads_other_branches_and_writes_none(cli: CommandLine, registry: Registry) -> None:
    script = (
        "import headwater\n"
        "reg = headwater.open(branch='main')\n"
        "print([each.version for each in reg.versions('m')])\n"
        "for call in (lambda: reg.set_alias('m', 'champion', 1), lambda: reg.create_tag('rel')):\n"
        "    try:\n"
        "        call()\n"
        "    except headwater.errors.InvalidInputError as error:\n"
        "        print(error.message)\n"
        "headwater.open().set_alias('m', 'inner', 1)\n"
    )
    result = run("rehearse", "run", "--", sys.executable, "-c", script)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(
        "[1]\na rehearsal writes to a branch of its own, not to 'main'\n`headwater tag` can't be rehearsed\n"
    )
    assert "alias m@inner: 1" in result.stdout
    assert (registry.tags(), registry.aliases("m")) == ([], [])


def _started(words: list[str], lake: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "HEADWATER_LAKE": lake}
    process = subprocess.Popen(
        [*HEADWATER, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


WAITS = ["rehearse", "run", "--", sys.executable, "-uc", "import time; print('ready'); time.sleep(60)"]


def test_an_interrupted_rehearsal_is_thrown_away(cli: CommandLine, registry: Registry) -> None:
    head = registry.head
    process = _started(WAITS, registry.url)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert registry.head == head
    assert _swept(registry) == 0


def test_a_rehearsal_goes_on_for_a_week(
    registry: Registry, registry_url: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever other writers' clocks say."""
    with registry.rehearse() as trial:
        for days, there in ((6, True), (8, False)):
            later = now_micros() + days * DAY
            with monkeypatch.context() as patched, headwater.open(registry_url) as other:
                patched.setattr("headwater.transaction.now_micros", lambda later=later: later)
                other.register(f"m{days}", model)
            lake = registry._context.lake
            assert (trial.working_branch in lake.branches(hidden=True)) == there


def test_a_killed_rehearsal_is_swept_in_the_end(cli: CommandLine, registry: Registry) -> None:
    head = registry.head
    process = _started(WAITS, registry.url)
    process.kill()
    process.communicate(timeout=60)
    lake = registry._context.lake
    assert lake.sweep(now_micros() - DAY) == 0
    assert _swept(registry) == 1
    assert registry.head == head
    assert list(registry.branches()) == ["main"]
    # What its run had not landed belongs to nobody, and is no bother to the next one.
    time.sleep(0.1)
    with registry.start_run("next", experiment="e"):
        pass
    assert [each.name for each in registry.runs()] == ["next"]
    assert list((lake.spool / "runs").iterdir()) == []


def test_the_branch_of_a_rehearsal_is_named_by_its_processes_alone(registry: Registry) -> None:
    with registry.rehearse() as trial:
        name = trial.working_branch
        assert name.startswith(REHEARSAL_PREFIX)
        assert name not in registry.branches()
        assert name not in [each.name for each in registry.branch_list()]
        with headwater.open(registry.url, branch=name) as other:
            assert other.head == trial.head
        for call in (
            lambda: registry.create_branch(name),
            lambda: registry.delete_branch(name),
            lambda: registry.create_tag(name),
        ):
            with pytest.raises(HeadwaterError):
                call()
