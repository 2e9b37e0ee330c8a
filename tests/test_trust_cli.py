"""`init --signed`, `role` and `key` at the command line, on both lakes."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from tests.command_line import CommandLine

from headwater import keys


@pytest.fixture(params=["local", "lakefs"])
def cli(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line in an empty folder with a signed lake, made by `root`."""
    url = request.getfixturevalue("lakefs_url") if request.param == "lakefs" else None
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("LAKE", "BRANCH", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    monkeypatch.setenv("HEADWATER_ACTOR", "root")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    run = CommandLine()
    where = () if url is None else (url, "--storage-namespace", "local://" + url.rpartition("/")[2])
    made = run("init", "--signed", *where)
    assert re.search(r"made a key, which is the lake's first admin's: ed25519 \S{44} root", made.stderr)
    assert stat.S_IMODE((tmp_path / "config/headwater/keys/root.pem").stat().st_mode) == 0o600
    Path("model.bin").write_bytes(b"model")
    return run


def test_roles_are_given_and_taken_in_the_order_that_comes_to_mind(cli: CommandLine) -> None:
    line = cli.json("key", "new", "--name", "carol")["line"]
    assert cli.out("role", "list").splitlines()[1].split()[:3] == ["root", "admin", "*"]
    granted = cli("role", "grant", "carol", "reviewer", "m*", "--reason", "she knows")
    assert granted.stdout == "carol is reviewer on m*\n"
    assert "of carol is enrolled with it" in granted.stderr
    assert cli.json("role", "grant", "author", "carol", "--on", "m")[0]["enrolled"] is False
    found = [(each["name"], each["role"], each["pattern"]) for each in cli.json("role", "list")]
    assert found == [("carol", "author", "m"), ("carol", "reviewer", "m*"), ("root", "admin", "*")]
    cli("--actor", "carol", "register", "m", "model.bin")
    assert cli.error("--actor", "carol", "register", "other", "model.bin", status=3) == (
        "PermissionDeniedError",
        "carol may not register or change other: that needs the role author, deployer or admin",
        "root can give it: `headwater role grant author carol other`",
    )
    assert cli.out("role", "revoke", "author", "carol", "m") == "carol is not author on m any more\n"
    assert cli.json("role", "revoke", "reviewer", "carol", "--on", "m*")[0]["name"] == "carol"
    assert cli.error("role", "revoke", "admin", "root", status=4)[0] == "ConflictError"
    keys_of = {each["name"]: each for each in cli.json("key", "list")}
    assert keys_of["carol"]["line"] == line
    assert keys_of["carol"]["enrolled"]
    assert keys_of["root"]["local"]


def test_who_is_called_like_a_role_says_so(cli: CommandLine) -> None:
    cli("key", "new", "--name", "admin")
    assert "write actor:NAME" in cli("role", "grant", "admin", "viewer", status=2).stderr
    assert cli.out("role", "grant", "actor:admin", "viewer") == "admin is viewer on *\n"
    for words in (["reviewer"], ["reviewer", "carol", "m", "n"], ["reviewer", "carol", "m", "--on", "n"]):
        assert "write ROLE WHO" in cli("role", "grant", *words, status=2).stderr
    assert cli.error("role", "grant", "king", "carol", status=2)[1] == "not a role: 'king'"
    assert cli.error("role", "grant", "reviewer", "carol", "m?", status=2)[1] == "not a pattern of model names: 'm?'"


def test_a_key_is_made_enrolled_and_revoked(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_KEY_PASSPHRASE", "secret")
    made = cli("key", "new", "--name", "carol", "--passphrase")
    line = made.stdout.strip()
    assert made.stderr.strip() == f"an admin enrols it: headwater key add carol '{line}'"
    Path("carol.pub").write_text(line + "\n")
    assert cli.error("key", "new", "--name", "carol", status=1)[0] == "AlreadyExistsError"
    assert cli.out("key", "add", "carol", "carol.pub").endswith("of carol is enrolled\n")
    assert cli.json("key", "add", "carol", line)["name"] == "carol"
    assert cli.error("key", "add", "dora", line, status=2)[1] == "it is a key of 'carol'"
    assert cli.error("key", "add", "dora", status=1)[1].startswith("there is no public key of dora in ")
    cli("role", "grant", "author", "carol")
    cli("--actor", "carol", "register", "m", "model.bin")
    monkeypatch.delenv("HEADWATER_KEY_PASSPHRASE")
    assert "has a passphrase" in cli.error("--actor", "carol", "describe", "m", "it", status=3)[1]
    monkeypatch.setenv("HEADWATER_KEY_PASSPHRASE", "secret")
    key = keys.local_key("carol")
    assert key is not None
    revoked = cli.out("key", "revoke", key.key_id, "--reason", "lost")
    assert revoked == f"the key {key.key_id[:12]} of carol is revoked\n"
    assert cli.error("--actor", "carol", "describe", "m", "it", status=3)[1].startswith("the key of carol was revoked")
    assert [line.split()[:3] for line in cli.out("key", "list").splitlines()[1:2]] == [
        ["carol", key.key_id[:12], "revoked"]
    ]


def test_what_is_no_key_or_somebody_elses_is_told(cli: CommandLine) -> None:
    _, message, _ = cli.error("key", "add", "eve", "x" * 5000, status=2)
    assert "not a public key" in message
    for name in ("eve ", " eve"):
        for words in (("key", "add", name, "x"), ("role", "grant", "author", name)):
            _, message, hint = cli.error(*words, status=2)
            assert message == f"not somebody's name: {name!r}"
            assert hint == "give 1 to 250 printable characters, without blanks around them"
        _, message, _ = cli.error("status", "--actor", name, status=2)
        assert message == f"not somebody's name: {name!r}"
    cli("key", "new", "--name", "mallory")
    cli("role", "grant", "author", "mallory")
    folder = keys.folder()
    (folder / "eve.pub").write_text((folder / "mallory.pub").read_text())
    kind, message, hint = cli.error("role", "grant", "admin", "eve", status=4)
    assert kind == "ConflictError"
    assert "that this machine has of eve is enrolled for mallory" in message
    assert hint == "a key stands for one name: `headwater key add eve PUBLIC` enrols one of eve"
    cli("key", "revoke", "mallory")
    (folder / "zoe.pub").write_text((folder / "mallory.pub").read_text().replace("mallory", "zoe"))
    _, message, _ = cli.error("role", "grant", "author", "zoe", status=4)
    assert "is enrolled for mallory" in message
