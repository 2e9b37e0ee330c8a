"""`headwater merge`: what it prints, its exit status, and what it says to somebody who uses it wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater

CONFLICT = "alias:flight-delay@champion"


@pytest.fixture
def cli(registry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line on a registry whose branch `exp-42` and main have moved one alias to different versions."""
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    artifact = tmp_path / "m.bin"
    artifact.write_bytes(b"weights")
    with headwater.open(registry_url, actor="grace") as main:
        for _ in range(2):
            main.register("flight-delay", artifact)
        exp = main.create_branch("exp-42")
        with headwater.open(registry_url, actor="ada", branch="exp-42") as theirs:
            theirs.set_alias("flight-delay", "champion", 2)
        main.set_alias("flight-delay", "champion", 1)
        exp.register("flight-delay", artifact, metrics={"auc": 0.8})
    return CommandLine()


def test_a_conflict_is_shown_with_both_sides_and_ends_with_4(cli: CommandLine) -> None:
    result = cli("merge", "exp-42", status=4)
    table = [line.split()[:4] for line in result.stdout.splitlines()]
    assert table == [
        ["conflict", "side", "value", "by"],
        [CONFLICT, "ours", "flight-delay/1", "grace"],
        ["theirs", "flight-delay/2", "ada", table[2][3]],
    ]
    assert "error: main and exp-42 disagree about alias:flight-delay@champion" in result.stderr
    assert f"--resolve {CONFLICT}=theirs" in result.stderr
    structured = cli("--json", "merge", "exp-42", status=4)
    (conflict,) = json.loads(structured.stdout)["conflicts"]
    assert (conflict["name"], conflict["ours"]["actor"], conflict["theirs"]["actor"]) == (CONFLICT, "grace", "ada")
    assert json.loads(structured.stderr)["error"]["type"] == "MergeConflictError"


def test_a_dry_run_shows_what_would_come_and_ends_with_4_where_there_is_something_to_settle(cli: CommandLine) -> None:
    result = cli("merge", "exp-42", "--dry-run", status=4)
    assert "exp-42 would bring 1 version, 1 deployment, 3 changes, 1 metric into main" in result.stdout
    assert CONFLICT in result.stdout
    assert "exp-42 would bring" in cli.out("merge", "exp-42", "--dry-run", "--ours")
    assert [each["kind"] for each in cli.json("log")].count("merge") == 0


def test_a_settled_merge_says_what_it_took(cli: CommandLine) -> None:
    out = cli.out("merge", "exp-42", "--resolve", f"{CONFLICT}=theirs")
    assert "exp-42 brought 1 version, 1 deployment, 3 changes, 1 metric into main" in out
    assert f"{CONFLICT} is flight-delay/2 (theirs)" in out
    assert cli.json("resolve", "flight-delay@champion")["version"] == 2
    assert cli.out("merge", "exp-42") == "main has everything of exp-42 already\n"


def test_json_is_the_merge(cli: CommandLine) -> None:
    found = cli.json("merge", "main", "--into", "exp-42", "--theirs")
    assert (found["source"], found["target"], found["transactions"]) == ("main", "exp-42", 1)
    assert found["settled"] == {CONFLICT: "theirs"}
    assert found["rows"]["events"] == 4
    assert cli.json("log", "--ref", "exp-42", "--limit", 1)[0]["commit"] == found["commit"]
    assert cli.json("merge", "main", "--into", "exp-42")["up_to_date"] is True


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["main"], 2, "'main' can't be merged into itself"),
        (["nope"], 1, "there is no branch, tag or commit 'nope'"),
        (["exp-42", "--ours", "--theirs"], 2, "a merge takes ours or theirs, not both"),
        (["exp-42", "--resolve", "champion"], 2, "not a choice: 'champion'"),
        (["exp-42", "--resolve", f"{CONFLICT}=ours", "--resolve", f"{CONFLICT}=theirs"], 2, "is settled twice"),
        (["exp-42", "--resolve", f"{CONFLICT}=mine"], 2, "can't be 'mine'"),
    ],
)
def test_wrong_use(cli: CommandLine, words: list[str], status: int, message: str) -> None:
    assert message in cli.error("merge", *words, status=status)[1]
