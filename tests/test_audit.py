"""The audit: what is damaged in one way is found, named, and found once; on both lakes."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.command_line import CommandLine
from tests.forging import commit_of, event, events_of, put_rows

import headwater
from headwater import audit_signatures, keys, production, tables
from headwater.fold import KIND, LANDED, TX
from headwater.ids import new_id, now_micros
from headwater.lake.base import AT, MOVE
from headwater.registry import Registry
from headwater.schema import arrow_schema
from headwater.signatures import EVENTS


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


# -- each kind of damage ----------------------------------------------------------------------------------------------
Make = Callable[..., Registry]


def rewrite(registry: Registry, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> str:
    """Write the table of events anew as somebody with access to the storage can, row by row; return the commit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lake, head = registry._context.lake, registry.head
    for path in tables.load(lake, head, "events").files:
        where = f"tables/events/{path}"
        before = [dict(row) for row in tables.rows(tables.read(lake, head, "events", [path]))]
        after = [row for row in (change(dict(each)) for each in before) if row is not None]
        if after != before:
            schema = arrow_schema("events")
            columns = {name: pa.array([row[name] for row in after], schema.field(name).type) for name in schema.names}
            out = pa.BufferOutputStream()
            pq.write_table(pa.table(columns, schema=schema), out)
            # Under another name, since what is immutable is read from this machine's cache.
            other = f"{path[:-8]}0.parquet"
            lake.put("main", f"tables/events/{other}", out.getvalue().to_pybytes())
            lake.delete("main", where)
            for info in lake.list(head, "tables/events/_delta_log/"):
                if info.path.endswith(".json"):
                    body = lake.read(head, info.path)
                    if path.encode() in body:
                        lake.put("main", info.path, body.replace(path.encode(), other.encode()))
    return lake.commit("main", "tidy up", {})


def of_kind(registry: Registry, kind: str) -> dict[str, Any]:
    return next(row for row in events_of(registry) if row["kind"] == kind)


@pytest.mark.parametrize("signed", [True, False])
def test_an_event_that_is_gone_is_a_gap(make: Make, signed: bool) -> None:
    registry = make(signed=signed)
    gone = next(row for row in events_of(registry) if row["kind"] == "stage" and row["value"] == "staging")
    rewrite(registry, lambda row: None if row["event_id"] == gone["event_id"] else row)
    found = registry.audit().findings
    (gap,) = [each for each in found if each.kind == "gap"]
    assert (gap.event_id, gap.actor, gap.tx) == (gone["event_id"], "root", gone["tx"])
    assert "is gone from the table" in str(gap)
    assert "table" in {each.kind for each in found}


@pytest.mark.parametrize("signed", [True, False])
def test_an_altered_event_is_found(make: Make, signed: bool) -> None:
    registry = make(signed=signed)
    tagged = of_kind(registry, "alias")
    rewrite(registry, lambda row: {**row, "reason": "better"} if row["event_id"] == tagged["event_id"] else row)
    found = registry.audit().findings
    assert tagged["event_id"] in {each.event_id for each in found}
    assert {each.kind for each in found} & {"altered", "forged"}


def test_one_id_with_two_contents_is_found(make: Make, tmp_path: Path) -> None:
    registry = make(signed=False)
    first = of_kind(registry, "alias")
    put_rows(registry._context.lake, tmp_path, [{**first, "value": None, "actor": "mallory"}])
    (finding,) = registry.audit().findings
    assert (finding.kind, finding.event_id) == ("altered", first["event_id"])
    assert str(finding).startswith(f"two events that differ have the ID {first['event_id']}")


def test_a_row_with_an_old_transaction_is_named(make: Make, tmp_path: Path) -> None:
    registry = make(signed=True)
    old = of_kind(registry, "alias")["tx"]
    forged(registry, tmp_path, tx=old)
    (finding,) = registry.audit().findings
    assert finding.kind == "forged"
    assert "did not hold it" in str(finding)


def test_a_list_of_events_that_the_commit_did_not_have_is_found(make: Make, tmp_path: Path) -> None:
    registry = make(signed=False)
    version = registry.get("flight-delay/2")
    row = event(version.model_id, "tag", "x", key="a")
    put_rows(registry._context.lake, tmp_path, [row], {TX: row["tx"], EVENTS: "2 00"})
    (finding,) = registry.audit().findings
    assert finding.kind == "altered"
    assert "counts 2 events of its transaction, and the table has 1 that are not those" in str(finding)


def test_commits_of_one_transaction_that_differ_are_found(make: Make) -> None:
    registry = make(signed=False)
    lake = registry._context.lake
    tx = of_kind(registry, "alias")["tx"]
    lake.put("main", "x", b"x")
    lake.commit("main", "again", {TX: tx, EVENTS: "0 00"})
    assert "history" in {each.subject for each in registry.audit().findings if each.kind == "altered"}


@pytest.mark.parametrize(
    ("prev", "message"), [(["nothing"], "replaces an event that is not there, nothing"), (None, "of something else")]
)
def test_what_an_event_replaces_has_to_be_of_its_place(
    make: Make, tmp_path: Path, prev: list[str] | None, message: str
) -> None:
    registry = make(signed=False)
    other = of_kind(registry, "name")["event_id"]
    row = event(registry.get("flight-delay/2").version_id, "tag", "x", key="a", prev=prev or [other])
    put_rows(registry._context.lake, tmp_path, [row], commit_of([row], **{LANDED: ""}))
    found = [each for each in registry.audit().findings if each.kind == "order"]
    assert [each.event_id for each in found] == [row["event_id"]]
    assert message in str(found[0])


def test_what_was_replaced_already_is_not_replaced_again(make: Make, tmp_path: Path) -> None:
    registry = make(signed=False)
    version = registry.get("flight-delay/2").version_id
    registry.tag("flight-delay/2", {"a": "1"})
    first = next(row for row in events_of(registry) if row["kind"] == "tag")
    registry.tag("flight-delay/2", {"a": "2"})
    assert registry.audit().clean
    row = event(version, "tag", "3", key="a", prev=[first["event_id"]])
    put_rows(registry._context.lake, tmp_path, [row], commit_of([row], **{LANDED: ""}))
    found = [each for each in registry.audit().findings if each.kind == "order"]
    assert [each.event_id for each in found] == [row["event_id"]]
    assert "was replaced before" in str(found[0])


def test_a_commit_that_says_it_landed_what_it_did_not_is_found(make: Make) -> None:
    registry = make(signed=False)
    lake = registry._context.lake
    lake.put("main", "x", b"x")
    commit = lake.commit("main", "landed", {LANDED: of_kind(registry, "alias")["tx"]})
    (finding,) = registry.audit().findings
    assert (finding.kind, finding.commit) == ("history", commit)
    assert "says that it landed transaction" in str(finding)


def test_rows_that_a_stranger_took_out_are_counted(make: Make) -> None:
    registry = make(signed=False)
    lake, head = registry._context.lake, registry.head
    newest = max(i.path for i in lake.list(head, "tables/model_versions/_delta_log/") if i.path.endswith(".json"))
    lake.put("main", newest, lake.read(head, newest).split(b'{"add"')[0])
    commit = lake.commit("main", "less is more", {})
    (finding,) = registry.audit().findings
    assert (finding.kind, finding.subject, finding.commit) == ("table", "model_versions", commit)
    assert str(finding) == f"a row is gone from the table model_versions: commit {commit[:12]} took them out"


def test_rows_that_are_gone_by_a_commit_in_headwaters_name_are_counted(make: Make) -> None:
    registry = make(signed=False)
    lake, head = registry._context.lake, registry.head
    newest = max(i.path for i in lake.list(head, "tables/runs/_delta_log/") if i.path.endswith(".json"))
    registry.start_run("r").__exit__(None, None, None)
    head = registry.head
    newest = max(i.path for i in lake.list(head, "tables/runs/_delta_log/") if i.path.endswith(".json"))
    lake.put("main", newest, lake.read(head, newest).split(b'{"add"')[0])
    lake.commit("main", "compact", {KIND: "run", LANDED: ""})
    found = [each for each in registry.audit().findings if each.kind == "table"]
    assert [each.subject for each in found] == ["runs"]
    assert f"commit {head[:12]} had them" in str(found[0])


def test_bytes_that_were_altered_are_found_where_somebody_may_load_them(make: Make) -> None:
    registry = make(signed=False)
    registry.register("other", "one.bin")
    lake = registry._context.lake
    for name in ("flight-delay/1", "other/1"):
        lake.put("main", f"{registry.get(name).path}one.bin", b"evil")
    lake.commit("main", "better weights", {})
    audit = registry.audit()
    (finding,) = audit.findings
    assert (finding.kind, finding.subject) == ("artifact", "flight-delay/1")
    assert (audit.artifacts, audit.unread) == (2, 1)
    audit = registry.audit(everything=True)
    assert [each.subject for each in audit.findings] == ["flight-delay/1", "other/1"]
    assert (audit.artifacts, audit.unread) == (3, 0)


def test_faces_of_production_that_disagree_are_found(make: Make, tmp_path: Path) -> None:
    registry = make(signed=False)
    version = registry.get("flight-delay/2")
    stands = next(row for row in events_of(registry) if row["kind"] == "stage" and row["subject"] == version.version_id)
    row = event(version.version_id, "stage", "production", prev=[stands["event_id"]])
    put_rows(registry._context.lake, tmp_path, [row], commit_of([row], **{LANDED: ""}))
    (finding,) = [each for each in registry.audit().findings if each.kind == "production"]
    assert finding.subject == "flight-delay"
    assert "stage says flight-delay/1 and flight-delay/2" in str(finding)


def test_a_promotion_past_its_gates_is_found_and_an_override_is_a_note(make: Make) -> None:
    registry = make(signed=True)
    registry.set_gates("flight-delay", '[[production.gate]]\nmetric = "auc"\nmin = 0.9\n')
    lake, model_id = registry._context.lake, registry.get("flight-delay/2").model_id
    assert lake is not None
    registry._context.write(
        "promote",
        lambda tx: production.put_in_production(tx, model_id, registry.get("flight-delay/2").version_id, reason=None),
    )
    (finding,) = registry.audit().findings
    assert (finding.kind, finding.subject, finding.actor) == ("promotion", "flight-delay/2", "root")
    assert "entered production without gate auc having been asked" in str(finding)
    registry.register("flight-delay", "one.bin")
    registry.stage("flight-delay/3", "staging")
    registry.promote("flight-delay/3", "production", override="the demo is today")
    audit = registry.audit()
    assert len(audit.findings) == 1
    (note,) = [each for each in audit.notes if each.kind == "override"]
    assert str(note) == "root let flight-delay/3 into production past its gates: the demo is today"


def test_a_version_is_not_brought_back_that_never_served(make: Make) -> None:
    registry = make(signed=True)
    version = registry.get("flight-delay/2")
    registry._context.write(
        "rollback", lambda tx: production.put_in_production(tx, version.model_id, version.version_id, reason=None)
    )
    (finding,) = registry.audit().findings
    assert "was brought back, and never served before" in str(finding)


def test_a_marker_that_was_lowered_is_found(make: Make) -> None:
    registry = make(signed=True)
    lake = registry._context.lake
    there = json.loads(lake.read("main", "headwater.json"))
    lake.put("main", "headwater.json", json.dumps({"format": there["format"], "lake": there["lake"]}).encode())
    lake.commit("main", "simpler", {})
    audit = registry.audit()
    assert [each.kind for each in audit.findings] == ["marker"]
    assert "was made a signed lake by root" in str(audit)


def test_a_table_that_cannot_be_read_ends_the_audit_with_a_finding(make: Make) -> None:
    registry = make(signed=False)
    lake, head = registry._context.lake, registry.head
    oldest = min(i.path for i in lake.list(head, "tables/events/_delta_log/") if i.path.endswith(".json"))
    lake.delete("main", oldest)
    lake.commit("main", "less is more", {})
    (finding,) = registry.audit().findings
    assert finding.kind == "history"
    assert "nothing beyond that could be audited" in str(finding)


def test_events_of_another_branch_are_notes(make: Make) -> None:
    registry = make(signed=True)
    exp = registry.create_branch("exp")
    exp.set_gates("flight-delay", '[[production.gate]]\nmetric = "auc"\nmin = 0.9\n')
    registry.merge("exp")
    audit = registry.audit()
    assert audit.clean
    assert {each.kind for each in audit.notes} == {"elsewhere"}
    assert "without force here: it was made for branch exp" in str(audit.notes[0])


def test_what_this_machine_has_cached_is_not_believed(make: Make) -> None:
    registry = make(signed=True)
    with registry._context.reading() as fold:
        assert fold.one("SELECT count(*) FROM refused") == (0,)
    for path in (registry._context.lake.cache / "state").glob("*.db"):
        with contextlib.closing(sqlite3.connect(path)) as held:
            held.execute("DELETE FROM events")
            held.commit()
    audit = registry.audit()
    assert audit.clean
    assert audit.events > 0


def test_a_second_process_verifies_what_the_audit_then_believes(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make(signed=True)
    row = of_kind(registry, "alias")
    copied = {**row, "event_id": new_id(), "tx": new_id(), "prev": [row["event_id"]]}
    put_rows(registry._context.lake, tmp_path, [copied], commit_of([copied], **{LANDED: ""}))
    lake, head = registry._context.lake, registry.head
    right = set(audit_signatures.right(lake, head))
    alone = registry.audit()
    assert len(right) == alone.signatures - 1
    monkeypatch.setattr(audit_signatures, "_MANY", 1)
    asked: list[bytes] = []
    with audit_signatures.beside(lake, head) as verifies:
        verified = verifies.__self__  # type: ignore[attr-defined]
        verified._reader.join()
        assert verified._right == right
        with monkeypatch.context() as patched:
            patched.setattr(keys, "verifies", lambda *given: asked.append(given[1]) or False)
            assert not verifies(b"r" * 32, b"s" * 64, b"what the child has not seen")
        assert asked == [b"s" * 64]
    assert registry.audit() == alone
    assert [each.event_id for each in alone.findings if each.kind == "forged"] == [copied["event_id"]]


def test_a_second_process_that_cannot_run_is_done_without(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = make(signed=True)
    alone = registry.audit()
    monkeypatch.setattr(audit_signatures, "_MANY", 1)
    for program in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(audit_signatures.sys, "executable", program)
        assert registry.audit() == alone


@pytest.mark.parametrize("covers", [False, True])
def test_a_commit_that_says_it_only_moved_the_branch_hides_nothing(
    make: Make, covers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = make(signed=True)
    lake, old = registry._context.lake, registry.head
    registry.promote("flight-delay/2", "production")
    source = "old"
    lake.create_branch(source, old)
    lake.put(source, "junk", b"x")
    lake.commit(source, "x", {})
    moves = {KIND: MOVE, AT: str(now_micros())}
    if covers:
        lake.create_branch("over", registry.head)
        lake.merge(source, "over", "x", moves, strategy="theirs")
        source = "over"
    lake.merge(source, "main", "x", moves, strategy="theirs")
    for machine in ("warm", "cold"):
        if machine == "cold":
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
            registry = headwater.open(registry.url, actor="root")
        assert registry.resolve("flight-delay@champion").version == 2
        assert [each.version for each in registry.serving("production")] == [2]
        assert registry.sql("SELECT * FROM refused_events").fetchall() == []
    (finding,) = registry.audit().findings
    assert finding.kind == "history"
    assert "leaves out what had landed there" in finding.message
    registry.close()
