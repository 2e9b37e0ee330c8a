"""What bad input gets at the command line: one line, a status, and nothing written; on both lakes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater
from headwater.registry import Registry

Refused = Callable[..., tuple[str, str, str]]

NAMES = {
    "empty": "",
    "too long": "a" * 129,
    "slash": "a/b",
    "dots": "..",
    "path": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "space": "a b",
    "NUL": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[31mb",
    "bidirectional": "a\u202eb",
    "no width": "a\u200bb",
    "case": "Flight-Delay",
    "Unicode form": "\ufb02ight-delay",
    "full width": "\uff46light-delay",
    "accent": "flïght",
    "dash": ".hidden",
}
VERSIONS = ["0", "-1", "1.0", "01", "+1", " 1", "1 ", "1e0", "\u0663", "9" * 30, "", "one", "1/2"]
ALIASES = ["latest", "7", "v7", "1.2.0", "v1.2", "", "a/b", "..", "Champion", "a b", "é", "a\x1b", "x" * 129]
MISSING = [
    ["versions", "nope"],
    ["show", "nope"],
    ["show", "nope/1"],
    ["show", "dataset:nope"],
    ["resolve", "nope@champion"],
    ["resolve", "flight-delay@nope"],
    ["resolve", "flight-delay/2"],
    ["pull", "flight-delay/2", "out"],
    ["pull", "flight-delay@nope", "out"],
    ["verify", "flight-delay/2"],
    ["verify", "flights@9.9.9"],
    ["alias", "set", "nope", "champion", "1"],
    ["alias", "set", "flight-delay", "champion", "2"],
    ["alias", "delete", "flight-delay", "nope"],
    ["alias", "list", "nope"],
    ["tag-model", "nope/1", "a=b"],
    ["describe", "flight-delay/2", "text"],
    ["rename", "nope", "new"],
    ["delete", "flight-delay/2"],
    ["log", "nope"],
    ["log", "flight-delay/2"],
    ["data", "show", "nope"],
    ["data", "show", "flights@1.0.1"],
    ["data", "versions", "nope"],
    ["data", "pull", "nope", "out"],
    ["data", "diff", "flights", "nope"],
    ["data", "add", "more", "flights.csv.missing"],
    ["register", "more", "missing"],
    ["models", "--ref", "nope"],
    ["models", "--ref", "deadbeef"],
    ["models", "--ref", "main~99"],
    ["models", "--branch", "nope"],
]
OPTIONS = [
    ["--metric", "auc"],
    ["--metric", "auc=high"],
    ["--metric", "=1"],
    ["--metric", "auc="],
    ["--metric", "auc=1_0"],
    ["--metric", "auc=1", "--metric", "auc=2"],
    ["--slice", "auc=1"],
    ["--slice", "auc[origin]=1"],
    ["--slice", "auc[]=1"],
    ["--slice", "auc[origin=JFK]=x"],
    ["--slice", "auc[origin=JFK]=1", "--slice", "auc[origin=JFK]=2"],
    ["--param", "depth"],
    ["--param", "=6"],
    ["--tag", "a\x1bb=1"],
    ["--description", "a\0b"],
    ["--external", "ftp://example.org/m.onnx", "--sha256", "0" * 64],
    ["--external", "https://user:secret@example.org/m.onnx", "--sha256", "0" * 64],
    ["--external", "https://example.org/m.onnx", "--sha256", "0" * 63],
]
HARMFUL = {
    "copy": "COPY (SELECT 1) TO 'stolen.csv'",
    "copy a database": "COPY FROM DATABASE memory TO other",
    "attach": "ATTACH 'new.db'",
    "install": "INSTALL httpfs",
    "load": "LOAD httpfs",
    "set": "SET enable_external_access = true",
    "reset": "RESET ALL",
    "pragma": "PRAGMA database_list",
    "read_text": "SELECT * FROM read_text('/etc/passwd')",
    "read_csv": "SELECT * FROM read_csv('/etc/passwd')",
    "a file as a table": "SELECT * FROM '/etc/passwd'",
    "glob": "SELECT * FROM glob('/*')",
    "create": "CREATE TABLE t AS SELECT 1",
    "insert": "INSERT INTO lake.models SELECT * FROM lake.models",
    "delete": "DELETE FROM lake.models",
    "drop": "DROP VIEW models",
    "several": "SELECT 1; SELECT 2",
    "hidden second": "SELECT 1; COPY (SELECT 1) TO 'stolen.csv'",
    "explain analyze": "EXPLAIN ANALYZE COPY (SELECT 1) TO 'stolen.csv'",
    "export": "EXPORT DATABASE 'stolen'",
    "call": "CALL pragma_version()",
    "nothing": "",
    "comment": "-- nothing",
    "nonsense": "SELEC 1",
    "unknown": "SELECT * FROM nowhere",
}


@pytest.fixture
def cli(registry_url: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A command line on a registry with `flight-delay/1`, its alias `champion`, and `flights@1.0.0`."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"weights")
    (tmp_path / "flights.csv").write_text("id\n1\n")
    registry.register("flight-delay", tmp_path / "model")
    registry.set_alias("flight-delay", "champion", 1)
    registry.add_dataset("flights", tmp_path / "flights.csv")
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    return CommandLine()


@pytest.fixture
def refused(cli: CommandLine, registry: Registry, tmp_path: Path) -> Iterator[Refused]:
    """Run a command that must fail; whatever it was, the lake and the folder are as they were."""
    head, branches, files = registry.head, registry.branches(), _files(tmp_path)
    yield cli.error
    assert (registry.head, registry.branches()) == (head, branches)
    assert _files(tmp_path) == files


def _files(folder: Path) -> dict[str, str]:
    """Return the digest of every file but those of caches and of a database that somebody reads."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and "cache/" not in name and not name.startswith("lake/lake.db"):
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


# -- what is not there ------------------------------------------------------------------------------------------------
def test_what_is_not_there_is_not_found(refused: Refused) -> None:
    for words in MISSING:
        assert refused(*words, status=1)[0] == "NotFoundError", words


def test_a_hint_says_what_comes_near(refused: Refused) -> None:
    assert "flight-delay" in refused("versions", "flight-dely", status=1)[2]
    assert "alias list flight-delay" in refused("resolve", "flight-delay@champ", status=1)[2]


# -- malformed names --------------------------------------------------------------------------------------------------
def test_a_malformed_name_is_refused(refused: Refused, tmp_path: Path) -> None:
    for what, name in NAMES.items():
        assert refused("register", name, tmp_path / "model", status=2)[0] == "InvalidInputError", what
        assert refused("data", "add", name, tmp_path / "flights.csv", status=2)[0] == "InvalidInputError", what
        assert refused("rename", "flight-delay", name, status=2)[0] == "InvalidInputError", what


def test_a_name_that_differs_in_case_or_form_is_asked_about(refused: Refused, tmp_path: Path) -> None:
    for what in ("case", "Unicode form", "full width"):
        assert "flight-delay" in refused("register", NAMES[what], tmp_path / "model", status=2)[2], what


def test_a_malformed_alias_is_refused(refused: Refused) -> None:
    for alias in ALIASES:
        assert refused("alias", "set", "flight-delay", alias, "1", status=2)[0] == "InvalidInputError", alias


def test_a_malformed_version_is_refused(refused: Refused) -> None:
    for version in VERSIONS:
        for command in ("resolve", "show", "versions", "delete", "log", "verify"):
            kind, _, _ = refused(command, f"flight-delay/{version}", status=2)
            assert kind == "InvalidInputError", (command, version)
        assert refused("pull", f"flight-delay/{version}", "out", status=2)[0] == "InvalidInputError", version
        kind, _, _ = refused("alias", "set", "flight-delay", "other", version, status=2)
        assert kind == ("UsageError" if version == "-1" else "InvalidInputError"), version


def test_a_malformed_reference_is_refused(refused: Refused) -> None:
    for reference in ("flight-delay@latest", "flight-delay@", "@champion", "/1", "", '"unclosed', "../../etc/passwd"):
        assert refused("resolve", reference, status=2)[0] == "InvalidInputError", reference
    for semver in ("1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-rc1", "-1.0.0"):
        assert refused("data", "show", f"flights@{semver}", status=2)[0] == "InvalidInputError", semver
    for ref in ("a b", " ", "main~x", "main@{tomorrow}", "x" * 2000, "~1"):
        assert refused("models", "--ref", ref, status=2)[0] == "InvalidInputError", ref


# -- malformed values -------------------------------------------------------------------------------------------------
def test_a_malformed_option_of_register_is_refused(refused: Refused, tmp_path: Path) -> None:
    for words in OPTIONS:
        path = [] if "--external" in words else [tmp_path / "model"]
        kind, message, hint = refused("register", "flight-delay", *path, *words, status=2)
        assert kind == "InvalidInputError", words
        assert "secret" not in message + hint


def test_what_to_register_is_a_path_or_a_url(refused: Refused, tmp_path: Path) -> None:
    digest = "0" * 64
    assert refused("register", "m", status=2)[0] == "InvalidInputError"
    assert refused("register", "m", "--sha256", digest, status=2)[0] == "UsageError"
    assert refused("register", "m", "--external", "https://example.org/m", status=2)[0] == "UsageError"
    words = ["--external", "https://example.org/m", "--sha256", digest]
    assert refused("register", "m", tmp_path / "model", *words, status=2)[0] == "InvalidInputError"
    assert refused("register", "m", tmp_path / "model", "--data", "nope@1.0.0", status=1)[0] == "NotFoundError"


def test_what_is_no_plain_file_is_refused(cli: CommandLine, registry: Registry, tmp_path: Path) -> None:
    head = registry.head
    empty, linked = tmp_path / "empty", tmp_path / "linked"
    (empty / "deeper").mkdir(parents=True)
    linked.mkdir()
    (linked / "passwd").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "model")
    for path in (empty, linked, tmp_path / "fifo", tmp_path / "link"):
        assert cli.error("register", "flight-delay", path, status=2)[0] == "InvalidInputError"
        assert cli.error("data", "add", "flights", path, status=2)[0] == "InvalidInputError"
    assert registry.head == head


def test_wrong_usage_is_said_in_the_same_form(refused: Refused) -> None:
    for words in (
        ["frobnicate", "m", "x"],
        ["resolve"],
        ["resolve", "a@b", "c"],
        ["models", "--nope"],
        ["models", "--limit", "0"],
        ["models", "--limit", "many"],
        ["alias", "move", "m"],
        ["alias", "set", "m", "champion"],
        ["sql", "SELECT 1", "--format", "xml"],
        ["sql", "SELECT 1", "--timeout", "-1"],
        ["data", "add", "x", "y", "--bump", "huge"],
        ["completion", "cmd"],
        ["delete", "flight-delay/1", "--undo", "--reason", "x"],
        ["tag-model", "flight-delay"],
    ):
        kind, message, hint = refused(*words, status=2)
        assert kind == "UsageError", words
        assert message
        assert "--help" in hint


def test_a_missing_command_is_wrong_usage(cli: CommandLine) -> None:
    for words in ([], ["alias"], ["data"]):
        found = cli(*words, status=2)
        assert found.stdout == ""
        assert "Usage: headwater" in found.stderr


# -- who, where -------------------------------------------------------------------------------------------------------
def test_what_is_not_unicode_is_refused(cli: CommandLine, registry: Registry) -> None:
    head = registry.head
    for words in (
        ["show"],
        ["log"],
        ["sql"],
        ["versions"],
        ["describe", "flight-delay"],
        ["tag-model", "flight-delay"],
        ["init"],
        ["status", "--actor"],
        ["models", "--limit"],
        ["sql", "SELECT 1", "--param"],
    ):
        cli.error(*words, "\udcff", status=2)
    for words in (["models", "--branch"], ["models", "--ref"], ["status", "--lake"], ["sql", "--file"]):
        cli.error(*words, "\udcff", status=1)
    assert registry.head == head


def test_what_can_be_no_branch_is_not_found(refused: Refused) -> None:
    for name in ("../main", "a b", "main~1", "_hw_tx", "x/../main", "ma\x00in", "*"):
        assert refused("models", "--branch", name, status=1)[0] == "NotFoundError", name


def test_a_malformed_actor_is_refused(refused: Refused) -> None:
    for actor in ("a\x1b[31m", " ", "x" * 300):
        assert refused("status", "--actor", actor, status=2)[0] == "InvalidInputError"


def test_a_lake_that_is_none_is_said_so(refused: Refused, tmp_path: Path) -> None:
    kind, _, _ = refused("status", "--lake", tmp_path / "nowhere", status=1)
    assert kind in ("LakeError", "NotFoundError")
    assert refused("status", "--lake", tmp_path / "model", status=1)[0] == "LakeError"
    assert refused("status", "--lake", "https://example.org/lake", status=2)[0] == "InvalidInputError"
    assert refused("status", "--lake", "lakefs://127.0.0.1:1/../x", status=2)[0] == "InvalidInputError"


def test_without_a_lake_the_hint_is_to_make_one(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWATER_LAKE")
    kind, _, hint = refused("models", status=1)
    assert kind == "NotFoundError"
    assert "headwater init" in hint


# -- integrity --------------------------------------------------------------------------------------------------------
def test_an_altered_artifact_is_status_5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli = CommandLine()
    cli("init")
    for name in ("small.bin", "big.bin"):
        Path(name).write_bytes(os.urandom(3_000_000 if name == "big.bin" else 100))
        cli("register", "m", name)
    files = (path for path in Path(".headwater").rglob("*") if path.is_file())
    stored = max(files, key=lambda path: path.stat().st_size)
    stored.chmod(0o600)
    with stored.open("r+b") as stream:
        stream.write(b"altered")
    found = cli("verify", status=5)
    first, second = found.stdout.splitlines()
    assert first.startswith("fault  m/2: ")
    assert second == "ok     m/1"
    assert found.stderr.startswith("error: ")
    assert json.loads(cli("verify", "--json", status=5).stderr)["error"]["type"] == "IntegrityError"
    assert cli.error("pull", "m/2", "out", status=5)[0] == "IntegrityError"
    assert not Path("out").exists()


# -- queries that would do harm ---------------------------------------------------------------------------------------
def test_a_query_that_is_not_one_that_reads_is_refused(refused: Refused) -> None:
    for what, query in HARMFUL.items():
        assert refused("sql", query, status=2)[0] == "InvalidInputError", what


def test_a_query_that_takes_too_long_is_stopped(refused: Refused) -> None:
    query = "SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range % 7 = b.range % 5"
    assert refused("sql", query, "--timeout", "0.2", status=1)[0] == "LakeError"


def test_output_and_format_that_contradict_are_wrong_usage(cli: CommandLine) -> None:
    cli("--json", "sql", "SELECT 1", "--format", "csv", status=2)


def test_a_bug_keeps_its_traceback(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def models(self: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(headwater.Registry, "models", models)
    with pytest.raises(RuntimeError, match="a bug"):
        cli("models")
