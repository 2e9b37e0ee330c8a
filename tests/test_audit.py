"""The audit: what is damaged in one way is found, named, and found once; on both lakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import CommandLine
from tests.forging import event, put_rows

import headwater
from headwater import keys
from headwater.registry import Registry


@pytest.fixture(params=["local", "lakefs"])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Registry]]:
    """A function that makes a registry of two staged versions, the first of which is champion."""
    url = request.getfixturevalue("lakefs_url") if request.param == "lakefs" else str(tmp_path / "lake")
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("LAKE", "BRANCH", "ACTOR", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("one.bin").write_bytes(b"one")
    Path("two.bin").write_bytes(b"two")
    namespace = "local://" + url.rpartition("/")[2] if request.param == "lakefs" else None
    opened: list[Registry] = []

    def made(*, signed: bool) -> Registry:
        registry = headwater.create(url, storage_namespace=namespace, actor="root", signed=signed)
        opened.append(registry)
        for number, name in ((1, "one.bin"), (2, "two.bin")):
            registry.register("flight-delay", name)
            registry.stage(f"flight-delay/{number}", "staging")
        registry.promote("flight-delay/1", "production")
        return registry

    yield made
    for each in opened:
        each.close()


def champion(registry: Registry) -> str:
    query = "SELECT event_id FROM standing_events WHERE kind = 'alias' AND key = 'champion'"
    return str(registry.sql(query).fetchall()[0][0])


def forged(registry: Registry, folder: Path, **more: Any) -> dict[str, Any]:
    """Put an event into the table that makes version 2 the champion."""
    version = registry.get("flight-delay/2")
    given = {"key": "champion", "prev": [champion(registry)], "actor": "pipeline", **more}
    row = event(version.model_id, "alias", version.version_id, **given)
    put_rows(registry._context.lake, folder, [row])
    return row


def kinds(registry: Registry) -> list[str]:
    return [each.kind for each in registry.audit().findings]


def test_what_only_headwater_wrote_is_clean(make: Callable[..., Registry]) -> None:
    registry = make(signed=True)
    registry.create_branch("exp").register("flight-delay", "two.bin")
    registry.merge("exp")
    registry.rollback("flight-delay", 1) if registry.resolve("flight-delay@champion").version != 1 else None
    audit = registry.audit()
    assert audit.clean
    assert audit.findings == ()
    assert (audit.ref, audit.commit, audit.signed) == ("main", registry.head, True)
    assert audit.events == audit.signatures == registry.sql("SELECT count(*) FROM lake.events").fetchall()[0][0]
    assert audit.root == keys.local_key("root").key_id  # type: ignore[union-attr]
    assert str(audit).endswith("signatures: clean")


@pytest.mark.parametrize("signed", [True, False])
def test_a_forged_row_is_the_one_finding(make: Callable[..., Registry], tmp_path: Path, signed: bool) -> None:
    registry = make(signed=signed)
    assert registry.audit().clean
    row = forged(registry, tmp_path)
    audit = registry.audit()
    (finding,) = audit.findings
    assert not audit.clean
    assert (finding.kind, finding.event_id, finding.actor) == ("forged", row["event_id"], "pipeline")
    assert "in the name of pipeline claims that champion is flight-delay/2" in str(finding)
    assert "no commit has its transaction" in str(finding)
    assert finding.commit == audit.commit == registry.head
    assert [note.kind for note in audit.notes] == ["stranger"]
    assert ("it has no force" in str(finding)) == signed
    assert ("this lake is not signed, so it has force" in str(finding)) != signed
    assert registry.resolve("flight-delay@champion").version == (1 if signed else 2)
    assert str(finding) in str(audit)


def test_the_command_exits_5_and_names_it(
    make: Callable[..., Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make(signed=True)
    monkeypatch.setenv("HEADWATER_LAKE", registry.url)
    cli = CommandLine()
    said = cli("audit")
    assert said.stdout.splitlines()[-1].split() == ["result", "clean"]
    assert cli.json("audit")["clean"] is True
    row = forged(registry, tmp_path)
    said = cli("audit", status=5)
    assert said.stdout.splitlines()[0].startswith("stranger  commit ")
    assert said.stdout.splitlines()[1].startswith(
        "forged  an event in the name of pipeline claims that champion is flight-delay/2"
    )
    assert "error: the audit found 1 thing in main" in said.stderr
    document = json.loads(cli("audit", "--json", status=5).stdout)
    assert (document["clean"], document["findings"][0]["event_id"]) == (False, row["event_id"])
    assert cli.json("audit", "--ref", "main~1")["clean"] is True
