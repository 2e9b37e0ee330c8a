"""`headwater notify`, and what other commands deliver before they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.command_line import HEADWATER, CommandLine, run
from tests.receiver import Receiver, Reply

SECRET = "a secret of sixteen bytes or more"

POLICY = """
[[production.gate]]
metric = "auc"
min = 0.9
"""


on_one_lake = pytest.mark.parametrize("registry_url", ["local"], indirect=True)
"""Marks what only this machine and its network have a part in."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def cli(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Commands on a lake that has model `m` of two versions."""
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    monkeypatch.setenv("HEADWATER_ACTOR", "tester")
    Path("artifact").write_text("weights")
    command_line = CommandLine()
    for _ in range(2):
        command_line("register", "m", "artifact")
    return command_line


def told(receiver: Receiver) -> list[tuple[str, int | None]]:
    documents = [json.loads(each.body) for each in receiver.requests]
    return [(each["event"], each["version"]) for each in documents]


def test_a_promotion_and_a_rollback_are_told_before_their_commands_end(cli: CommandLine, receiver: Receiver) -> None:
    made = cli.json("notify", "add", "m", "ops", "--webhook", receiver.url(), "--allow-private")
    assert (made["name"], made["model"], made["on"]) == ("ops", "m", ["promoted", "refused", "rolled-back"])
    assert (made["webhook"], made["secret"], made["command"]) == (receiver.url(), None, [])
    for version in (1, 2):
        cli("promote", f"m/{version}", "--to", "staging")
        cli("promote", f"m/{version}", "--to", "production", "--reason", "better")
    assert cli("rollback", "m").stderr == ""
    assert told(receiver) == [("promoted", 1)] * 2 + [("promoted", 2)] * 2 + [("rolled-back", 1)]
    last = json.loads(receiver.requests[3].body)
    assert (last["stage"], last["previous"], last["reason"]) == ("production", 1, "better")
    assert json.loads(receiver.requests[4].body)["previous"] == 2
    kinds = [each["kind"] for each in cli.json("log", "--limit", 2)]
    assert kinds == ["deliver", "rollback"]


@on_one_lake
def test_the_champion_that_is_set_by_hand_is_told_as_well(cli: CommandLine, receiver: Receiver) -> None:
    cli("notify", "add", "*", "ops", "--webhook", receiver.url(), "--allow-private")
    cli("alias", "set", "m", "champion", 1)
    cli("deploy", "m/2", "--to", "production")
    assert told(receiver) == [("promoted", 1), ("promoted", 2)]


def test_a_refusal_is_told_and_its_error_stays_alone(cli: CommandLine, receiver: Receiver) -> None:
    import headwater

    cli("notify", "add", "m", "ops", "--webhook", receiver.url(), "--allow-private", "--on", "refused")
    cli("promote", "m/1", "--to", "staging")
    with headwater.open() as registry:
        model_id = registry.get("m/1").model_id
        registry._context.write("gates", lambda tx: tx.event(model_id, "policy", POLICY) and None)
    receiver.replies = [Reply(503)]
    kind, _, _ = cli.error("promote", "m/1", "--to", "production", status=3)
    assert kind == "RefusedError"
    assert told(receiver)[0] == ("refused", 1)
    assert json.loads(receiver.requests[0].body)["gates"] == ["auc"]


@on_one_lake
def test_what_can_not_be_delivered_changes_neither_output_nor_status(cli: CommandLine, receiver: Receiver) -> None:
    cli("notify", "add", "m", "ops", "--webhook", receiver.url(), "--allow-private")
    receiver.replies = [Reply(503)]
    result = cli("--json", "promote", "m/1", "--to", "staging")
    assert json.loads(result.stdout)["stage"] == "staging"
    assert result.stderr.startswith("waiting ops: m/1 was promoted to staging by tester: HTTP 503 (again at ")
    assert "ops" in cli.out("notify", "list")
    (line,) = [each for each in cli.out("notify", "list").splitlines() if each.startswith("m ")]
    assert line.split() == ["m", "ops", "promoted,", "refused,", "rolled-back", "main", "1", receiver.url()]
    result = cli("notify", "deliver")
    assert (result.stdout, result.stderr) == ("", "1 notification wait for a later time: --now tries them\n")
    (made,) = cli.json("notify", "deliver", "--now")
    assert (made["outcome"], made["tries"], made["event"], made["version"]) == ("delivered", 2, "promoted", 1)
    assert made["idempotency_key"] == receiver.requests[0].headers["Idempotency-Key"]
    assert cli("notify", "deliver", "--once").stderr == "nothing is pending\n"
    assert cli.json("notify", "deliver") == []


@on_one_lake
def test_commands_are_named_when_they_are_added_and_run_where_they_are_allowed(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    out = tmp_path / "out"
    line = f"cp /dev/stdin '{out}'"
    result = cli("notify", "add", "m", "page", "--command", line)
    place = tmp_path / "headwater" / "allowed-commands"
    assert result.stderr == f"a machine runs it only where {place} has the line: cp /dev/stdin {out}\n"
    result = cli("promote", "m/1", "--to", "staging")
    assert "this machine does not allow the command: " in result.stderr
    assert not out.exists()
    kind, message, _ = cli.error("notify", "test", "m", "page", status=1)
    assert (kind, message[:27]) == ("LakeError", "the test was not delivered:")
    assert cli.out("notify", "test", "m", "page", "--allow-commands") == "the test was delivered to page\n"
    assert json.loads(out.read_text())["event"] == "test"
    assert cli("notify", "deliver", "--allow-commands").stdout.startswith("delivered page: m/1 was promoted to staging")
    assert json.loads(out.read_text())["event"] == "promoted"
    place.parent.mkdir()
    place.write_text(line)
    place.chmod(0o600)
    assert cli("promote", "m/2", "--to", "staging").stderr == ""
    assert json.loads(out.read_text())["version"] == 2


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    from headwater.action_command import run as run_command

    program = tmp_path / "hook"
    program.write_text(f"#!/bin/sh\nsleep 600 & echo $! > {tmp_path}/child\necho begun\nwait\n")
    program.chmod(0o700)
    began = time.monotonic()
    answer, output = run_command([str(program)], b"{}", {}, seconds=0.5)
    assert time.monotonic() - began < 30
    assert (answer.outcome, output) == ("waiting", "begun\n")
    assert answer.detail == "the command took longer than 0.5 seconds, and was killed"
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child lives on")


def test_a_command_that_reads_nothing_and_prints_without_end_is_no_harm(tmp_path: Path) -> None:
    from headwater.action_command import run as run_command

    big = b"x" * (1 << 20)
    answer, output = run_command(
        ["sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' y; echo; echo end"], big, {}, seconds=30
    )
    assert answer.outcome == "delivered"
    assert output.endswith("y\nend\n")
    assert len(output) == 8192


def test_watch_delivers_whatever_happens_until_it_is_interrupted(cli: CommandLine, receiver: Receiver) -> None:
    cli("notify", "add", "m", "ops", "--webhook", receiver.url(), "--allow-private")
    words = [*HEADWATER, "--json", "notify", "deliver", "--watch"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        import headwater

        with headwater.open() as registry:
            registry.promote("m/1", "staging")
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["outcome"], first["model"], first["version"]) == ("delivered", "m", 1)
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=30)
    assert (watching.returncode, out, err) == (130, "", "")


def test_a_rehearsed_promotion_tells_nobody(cli: CommandLine, receiver: Receiver) -> None:
    cli("notify", "add", "m", "ops", "--webhook", receiver.url(), "--allow-private")
    assert run("rehearse", "promote", "m/1", "--to", "staging").returncode == 0
    assert receiver.requests == []


def test_the_secret_is_in_no_output_and_not_in_the_lake(
    cli: CommandLine, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, registry_url: str
) -> None:
    monkeypatch.setenv("OPS_SECRET", SECRET)
    target = ["--webhook", receiver.url(), "--allow-private", "--secret-env", "OPS_SECRET"]
    results = [
        cli("notify", "add", "m", "ops", *target),
        cli("promote", "m/1", "--to", "staging"),
        cli("--json", "notify", "list"),
        cli("notify", "list"),
        cli("notify", "test", "m", "ops"),
        cli("log"),
    ]
    assert "X-Headwater-Signature" in receiver.requests[0].headers
    assert not any(SECRET in each.stdout + each.stderr for each in results)
    kind, message, hint = cli.error(
        "notify", "add", "m", "x", "--webhook", "https://a.b/", "--secret-env", SECRET, status=2
    )
    assert kind == "InvalidInputError"
    assert SECRET not in message + hint
    if "://" not in registry_url:
        for path in Path(registry_url).rglob("*"):
            assert path.is_dir() or SECRET.encode() not in path.read_bytes()


@on_one_lake
def test_actions_are_listed_and_taken_away(cli: CommandLine) -> None:
    assert (
        cli("notify", "list").stderr
        == "there are no actions: `headwater notify add MODEL ACTION --webhook URL` makes one\n"
    )
    assert cli.out("notify", "add", "m*", "a", "--webhook", "https://example.com/x", "--on", "refused, traffic") == (
        "a is told when m* is refused, traffic\n"
    )
    assert [each["name"] for each in cli.json("notify", "list")] == ["a"]
    assert cli.json("notify", "remove", "m*", "a") == {"model": "m*", "action": "a", "removed": True}
    assert cli.json("notify", "list") == []
    assert cli.error("notify", "remove", "m*", "a", status=1) == (
        "NotFoundError", '"m*" has no action \'a\'', "`headwater notify list`",
    )  # fmt: skip
    assert cli.error("notify", "deliver", "--once", "--watch", status=2)[0] == "InvalidInputError"
    kind, message, hint = cli.error("notify", "add", "m", "a", "--webhook", "https://127.1/", status=2)
    assert (kind, message) == ("InvalidInputError", "a webhook may not be at '127.1': that is the machine itself")
    assert hint == "--allow-private allows networks of your own"


def test_what_a_command_lands_on_another_branch_is_told_too(cli: CommandLine, receiver: Receiver) -> None:
    cli("notify", "add", "m", "ops", "--webhook", receiver.url(), "--allow-private")
    cli("branch", "exp")
    cli("--branch", "exp", "promote", "m/1", "--to", "staging")
    assert receiver.requests == []
    cli("--branch", "exp", "merge", "exp", "--into", "main")
    assert told(receiver) == [("promoted", 1)]
    assert json.loads(receiver.requests[0].body)["branch"] == "main"
