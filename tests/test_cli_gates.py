"""The commands for gates, checks and approvals: what they print, for eyes and as JSON, and how they exit."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.command_line import CommandLine

POLICY = '[production]\napprovals = { count = 1, role = "reviewer" }\n[[production.gate]]\nmetric = "auc"\nmin = 0.9\n'


@pytest.fixture
def cli(registry_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    monkeypatch.setenv("HEADWATER_ACTOR", "ann")
    (tmp_path / "work" / "gates.toml").write_text(POLICY)
    (tmp_path / "work" / "m.bin").write_bytes(b"m")
    cli = CommandLine()
    cli("register", "m", "m.bin", "--metric", "auc=0.95")
    return cli


def agrees(cli: CommandLine, document: dict[str, object], query: str) -> None:
    """What is printed as JSON has the columns of the view, and says the same."""
    (row,) = cli.json("sql", query, "--format", "json")
    assert {key: document.get(key, "nothing") for key in row} == row


def test_aliases_as_json_have_the_columns_of_the_view(cli: CommandLine) -> None:
    document = cli.json("alias", "set", "m", "tried", "1", "--reason", "why")
    agrees(cli, document, "SELECT name, alias, version, version_id, model_id, actor, reason, commit FROM aliases")
    assert cli.json("alias", "list", "m") == [document]


def test_gates_are_set_shown_asked_and_deleted(cli: CommandLine) -> None:
    assert cli.out("gates", "list") == ""
    assert cli.out("gates", "check", "m/1") == "no gate stands between m/1 and production\n"
    assert cli.out("gates", "set", "m", "gates.toml", "--reason", "policy of the team") == "m has 2 gates now\n"
    shown = cli.out("gates", "show", "m").splitlines()
    assert shown[0].startswith("# m, set by ann at ")
    assert shown[0].endswith(": policy of the team")
    assert "\n".join(shown[1:]) + "\n" == POLICY
    (document,) = cli.json("gates", "show", "m")
    agrees(cli, document, "SELECT subject, name, text, digest, actor, reason, model_id, commit FROM policies")
    assert document["reason"] == "policy of the team"
    failed = cli("gates", "check", "m/1", "--to", "production", status=3)
    lines = failed.stdout.splitlines()
    assert lines[0].split() == ["gate", "required", "found", "result", "source"]
    assert lines[1].split()[:5] == ["auc", ">=", "0.9", "0.95", "pass"]
    assert lines[2].split()[:6] == ["approvals", "1", "by", "a", "reviewer", "0"]
    assert lines[3].endswith(": 1 gate of 2 failed")
    assert failed.stderr.splitlines()[0].endswith("1 gate of 2 refused m/1 for production")
    checked = cli.json("gates", "check", "m/1", status=3)
    assert (checked["passed"], [each["passed"] for each in checked["results"]]) == (False, [True, False])
    cli("--actor", "bob", "approve", "m/1", "--to", "production")
    assert cli.out("gates", "check", "m/1", "--traffic", "5").endswith(": all gates passed\n")
    assert cli.json("gates", "check", "m/1")["passed"] is True
    assert cli.json("gates", "delete", "m", "--reason", "r") == {"subject": "m", "deleted": True}
    assert cli.out("gates", "show", "m") == ""
    dataset = "[[gate]]\nmin_rows = 10\n"
    assert cli("gates", "set", "dataset:flights", "-", stdin=dataset).stdout == "dataset:flights has 1 gate now\n"
    assert [each["subject"] for each in cli.json("gates", "list")] == ["dataset:flights"]
    assert cli.out("gates", "list").splitlines()[1].split()[:2] == ["dataset:flights", "1"]


@pytest.mark.parametrize("registry_url", ["local"], indirect=True)
def test_a_datasets_gates_are_asked(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "work" / "flights.csv").write_text("id\n1\n2\n")
    cli("data", "add", "flights", "flights.csv")
    assert cli.out("gates", "check", "flights@1.0.0") == "no gate stands before flights@1.0.0\n"
    cli("gates", "set", "dataset:flights", "-", stdin="[[gate]]\nmin_rows = 3\n")
    for reference in ("flights@1.0.0", "dataset:flights", "dataset:flights@1.0.0"):
        lines = cli("gates", "check", reference, status=3).stdout.splitlines()
        assert lines[1].split()[0] == "min_rows"
        assert "FAIL" in lines[1]
        assert lines[2].startswith("flights@1.0.0 at commit ")
        assert lines[2].endswith(": 1 gate of 1 failed")
    document = cli.json("gates", "check", "flights@1.0.0", status=3)
    assert (document["reference"], document["passed"]) == ("flights@1.0.0", False)
    assert "enters no stage" in cli("gates", "check", "flights@1.0.0", "--to", "staging", status=2).stderr


@pytest.mark.parametrize("registry_url", ["local"], indirect=True)
def test_what_is_wrong_is_said_in_one_line_with_its_own(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "work" / "wrong.toml").write_text("[production]\n[[production.gate]]\nmetrc = 'auc'\n")
    kind, message, _ = cli.error("gates", "set", "m", "wrong.toml", status=2)
    assert (kind, message) == (
        "InvalidInputError",
        "wrong.toml:2: a gate is of one kind, and nothing tells its kind; did you mean metric?",
    )
    assert cli.error("gates", "set", "m", "none.toml", status=1)[1] == "there is no file 'none.toml'"
    assert "names no stage" in cli.error("gates", "set", "m", "-", status=2, stdin="")[1]
    assert cli.error("gates", "set", "n", "gates.toml", status=1)[0] == "NotFoundError"
    assert cli.error("gates", "check", "m/1", "--to", "archived", status=2)[0] == "InvalidInputError"
    assert cli.error("gates", "delete", "m", status=1)[1] == "m has no policy of its own"
    assert cli.error("approve", "m/1", "--to", "production", status=3)[0] == "PermissionDeniedError"
    for name in ("Bad Name", "../x", "v2", "latest", ""):
        assert "not a name for a check" in cli.error("check", "record", "m/1", name, "--passed", status=2)[1]
    (tmp_path / "work" / "check.toml").write_text('[production]\n[[production.gate]]\ncheck = "A b"\n')
    said = cli.error("gates", "set", "m", "check.toml", status=2)[1]
    assert said.startswith("check.toml:3: check ")
    assert "the name of a check" in said
    for pattern in (".*", "-*", "a..*"):
        assert "not a pattern" in cli.error("role", "grant", "viewer", "grace", "--on", pattern, status=2)[1]
    assert "--passed or --failed" in cli("check", "record", "m/1", "load", status=2).stderr


def test_checks_and_approvals_are_recorded_and_listed(cli: CommandLine) -> None:
    assert cli.out("check", "list", "m/1") == ""
    assert cli.out("check", "record", "m/1", "load", "--failed", "--detail", "slow") == "m/1: load failed\n"
    found = cli.json("check", "record", "m/1", "load", "--passed", "--url", "https://ci.example.com/8")
    assert (found["check"], found["passed"], found["url"], found["detail"]) == (
        *("load", True, "https://ci.example.com/8"),
        None,
    )
    assert cli.json("check", "list", "m/1") == [found]
    said = "name, version, check_name, passed, url, detail, actor, version_id, model_id, commit"
    agrees(cli, found, f"SELECT {said} FROM checks")
    assert found["check"] == found["check_name"]
    assert cli.out("check", "list", "m/1").splitlines()[1].split()[:2] == ["load", "passed"]
    assert cli.out("approvals", "m/1") == ""
    bob = ("--actor", "bob", "approve", "m/1", "--to", "production")
    assert cli.out(*bob, "--reason", "fine") == "bob approves m/1 for production on main\n"
    (approval,) = cli.json("approvals", "m/1")
    said = "name, version, stage, actor, given, branch, reason, principal, version_id, model_id, commit"
    agrees(cli, approval, f"SELECT {said} FROM approvals")
    assert (approval["stage"], approval["actor"], approval["given"], approval["branch"], approval["reason"]) == (
        *("production", "bob", True),
        *("main", "fine"),
    )
    assert cli.out(*bob, "--withdraw") == "bob approves no more that m/1 for production on main\n"
    assert cli.out("approvals", "m/1").splitlines()[1].split()[:4] == ["production", "bob", "withdrawn", "main"]


@pytest.mark.parametrize("registry_url", ["local"], indirect=True)
def test_a_card_is_checked(cli: CommandLine) -> None:
    found = cli("check-card", "m/1", status=3).stdout.splitlines()
    assert found[1].split()[:2] == ["description", "NO"]
    assert found[-1] == "m/1: the card lacks description, owner, intended use, training data, code, metrics"
    document = cli.json("check-card", "m/1", status=3)
    assert document["complete"] is False
    assert document["fields"][1] == {
        **{"field": "owner", "present": False},
        "found": "`headwater tag-model m/1 owner=TEAM`",
    }
