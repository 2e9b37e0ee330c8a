"""What somebody tries in a signed lake who has storage access, or a key with few rights; on both lakes."""

# ruff: noqa: F811

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.forging import commit_of, drop_rows, event, events_of, put_rows, signed
from tests.test_trust import As, acting, cold, flight, ids, refused, root, state  # noqa: F401

from headwater import keys
from headwater.errors import HeadwaterError, IntegrityError, NotFoundError, PermissionDeniedError
from headwater.fold import KIND
from headwater.ids import new_id, now_micros
from headwater.lake.base import AT, MOVE
from headwater.registry import Registry
from headwater.state import Folds
from headwater.transaction import Transaction


def write(registry: Registry, *events: tuple[Any, ...], kind: str = "alias", **rows: dict[str, Any]) -> str:
    """Write events (subject, kind, value, key, reason) by a script of one's own, and the rows of other tables."""

    def work(tx: Transaction) -> None:
        for subject, kind, value, *more in events:
            key, reason = [*more, *("", None)[len(more) :]]
            tx.event(subject, kind, value, key=key, reason=reason)
        for table, row in rows.items():
            tx.append(table, **row)
        tx.message = "by a script"

    commit = registry._context.write(kind, work).commit
    assert commit is not None
    return commit


def same(registry: Registry, tmp_path: Path) -> None:
    """Make sure that who reads from nothing answers what a warm reader answers."""
    with registry._context.reading() as fold:
        assert state(fold) == cold(registry, tmp_path)


def standing(registry: Registry, subject: str, kind: str, key: str = "") -> list[tuple[str, str | None]]:
    with registry._context.reading() as fold:
        return fold.standing(subject, kind, key)


def tx_of(registry: Registry, kind: str) -> str:
    """Return the newest transaction of a kind."""
    with registry._context.reading() as fold:
        return str(fold.one("SELECT tx FROM commits WHERE kind = ? ORDER BY position DESC", kind)[0])


# -- IDs of events ----------------------------------------------------------------------------------------------------
def test_nobody_takes_an_event_away_by_its_id(flight: Registry, acting: As, tmp_path: Path) -> None:
    model_id, _ = ids(flight)
    lake = flight._context.lake
    flight.set_gates("flight-delay", '[[production.gate]]\nmetric = "auc"\nmin = 0.7\n')
    flight.grant("admin", "carol")
    acting("carol").revoke_key("root")
    key_id = keys.signer("root").key_id
    with flight._context.reading() as fold:
        victims = [
            *fold.standing(model_id, "alias", "champion"),
            *fold.standing(model_id, "policy"),
            *fold.standing(key_id, "key"),
        ]
        before = fold.rows("SELECT event_id FROM events WHERE standing ORDER BY event_id")
    assert len(victims) == 3
    for victim, _ in victims:
        subject = new_id()
        first = event(subject, "param", "1", key="k", event_id=victim)
        second = event(subject, "param", "2", key="k", tx=first["tx"], prev=[victim])
        put_rows(lake, tmp_path, [first, second], commit_of([first, second]))
    assert flight.resolve("flight-delay@champion").version == 1
    with flight._context.reading() as fold:
        assert fold.rows("SELECT event_id FROM events WHERE standing ORDER BY event_id") == before
        assert fold.judge().key(key_id)["revoked"]
    assert {reason.partition(":")[0] for _, reason in refused(flight)} == {
        "its ID is that of another event", "it replaces an event of something else"
    }  # fmt: skip
    assert len(refused(flight)) == 6
    same(flight, tmp_path)


def test_an_id_is_taken_by_no_key_either(flight: Registry, acting: As, tmp_path: Path) -> None:
    model_id, _ = ids(flight)
    mallory = acting("mallory")
    mallory.register("mine-a", "model.bin")
    mine = mallory.versions("mine-a")[0].model_id
    ((champion, _),) = standing(flight, model_id, "alias", "champion")
    rows = [signed(flight, event(mine, "tag", "1", key="t", event_id=champion), "mallory")]
    rows.append(signed(flight, event(mine, "tag", "2", key="t", tx=rows[0]["tx"], prev=[champion]), "mallory"))
    put_rows(flight._context.lake, tmp_path, rows, commit_of(rows))
    assert flight.resolve("flight-delay@champion").version == 1
    assert len(refused(flight)) == 2
    same(flight, tmp_path)

    def again(tx: Transaction) -> None:
        tx.event(mine, "tag", "1", key="t")
        tx.rows["events"][-1]["event_id"] = champion

    with pytest.raises(PermissionDeniedError, match="its ID is that of another event"):
        mallory._context.write("tag", again)


def test_a_merge_that_brings_an_id_that_was_taken_is_refused(flight: Registry, acting: As, tmp_path: Path) -> None:
    flight.create_branch("exp")
    acting("alice", branch="exp").tag("flight-delay", {"a": "b"})
    (coming,) = [row["event_id"] for row in events_of(flight.branch("exp")) if row["kind"] == "tag"]
    squatter = event(new_id(), "param", "1", key="k", event_id=coming)
    put_rows(flight._context.lake, tmp_path, [squatter], commit_of([squatter]))
    with pytest.raises((IntegrityError, PermissionDeniedError), match="event"):
        acting("alice").merge("exp")
    same(flight, tmp_path)


def test_the_marker_is_not_gone_back_to(flight: Registry, acting: As) -> None:
    flight.grant("admin", "carol")
    acting("carol").revoke_role("admin", "root")
    with flight._context.reading() as fold:
        judge, key_id = fold.judge(), keys.signer("root").key_id
        assert (judge.roles(key_id), judge.key(key_id)["name"]) == ([], "root")
        # Whatever became of the events that said so.
        bare = fold.judge()
        bare.rows = lambda sql, *given: [] if "standing AND" in sql else fold.rows(sql, *given)
        assert (bare.roles(key_id), bare.key(key_id)) == ([], None)


# -- rows that are gone -----------------------------------------------------------------------------------------------
def test_rows_that_are_gone_are_read_from_their_commits(flight: Registry, acting: As, tmp_path: Path) -> None:
    acting("carol").promote("flight-delay/2", "production")
    flight.revoke_key("carol")
    gone = {tx_of(flight, "promote"), tx_of(flight, "key"), tx_of(flight, "stage")}
    lake = flight._context.lake
    # Of one transaction a part, of the others all.
    part = tx_of(flight, "stage")
    assert (
        drop_rows(lake, tmp_path, lambda row: row["tx"] in gone and (row["tx"] != part or row["kind"] == "stage")) > 2
    )
    with flight._context.reading() as fold:
        warm = state(fold)
        assert fold.value(ids(flight)[0], "alias", "champion") == ids(flight)[1][2]
    assert cold(flight, tmp_path) == warm
    # A colder reader is as strict as everybody else, and the audit tells what is gone.
    fresh = Folds(lake, tmp_path / "fresh")
    with fresh.at_head("main") as fold:
        assert fold.judge().key(keys.signer("carol").key_id)["revoked"]
    fresh.close()
    found = flight.audit()
    assert {each.kind for each in found.findings} >= {"gap"}
    # Going back from there, and writing on, is the same for both.
    with flight.at("main~2")._context.reading() as fold:
        assert fold.value(ids(flight)[0], "alias", "champion") == ids(flight)[1][2]
    acting("alice").tag("flight-delay", {"a": "b"})
    same(flight, tmp_path)


def test_a_branch_is_not_moved_past_decisions(flight: Registry, acting: As, tmp_path: Path) -> None:
    lake, old = flight._context.lake, flight.head
    acting("carol").promote("flight-delay/2", "production")
    flight.revoke_key("carol")
    lake.create_branch("old", old)
    lake.put("old", "junk", b"x")
    lake.commit("old", "x", {})
    lake.merge("old", "main", "x", {KIND: MOVE, AT: str(now_micros())}, strategy="theirs")
    # Such a move is not followed, and what the table lacks then is read from its commits.
    assert flight.resolve("flight-delay@champion").version == 2
    same(flight, tmp_path)
    with pytest.raises(PermissionDeniedError, match="the key of carol was revoked"):
        acting("carol").tag("flight-delay", {"a": "b"})
    assert flight.audit().findings


@pytest.mark.parametrize("seed", range(3))
def test_cold_and_warm_agree_whatever_is_forged(flight: Registry, acting: As, tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    lake, (model_id, versions) = flight._context.lake, ids(flight)
    flight.create_branch("exp")
    alice, beyond = acting("alice"), acting("alice", branch="exp")
    beyond.register("flight-new", "model.bin")
    new = beyond.versions("flight-new")[0]

    def forged(branch: str) -> None:
        rows = events_of(flight.branch(branch))
        made: list[dict[str, Any]] = []
        for _ in range(choose.choice((1, 1, 2))):
            old = choose.choice(rows + made)
            row = event(
                choose.choice((model_id, versions[2], new.model_id, new.version_id, old["subject"])),
                choose.choice(("alias", "stage", "tag", "param", "tombstone", "policy", "key", old["kind"])),
                choose.choice((versions[1], versions[2], new.version_id, "production", None, "hidden", old["value"])),
                key=choose.choice(("", "champion", "t", old["key"])),
                prev=choose.choice(([], [old["event_id"]], [choose.choice(rows)["event_id"]])),
            )
            if choose.random() < 0.3:
                row["event_id"] = choose.choice(rows + made)["event_id"]
            row["tx"] = made[0]["tx"] if made else choose.choice((row["tx"], row["tx"], old["tx"]))
            if choose.random() < 0.7:
                row = signed(flight.branch(branch), row, choose.choice(("alice", "carol", "root", "mallory")), branch)
            made.append(row)
        metadata = commit_of(made) if choose.random() < 0.8 else None
        put_rows(lake, tmp_path, made, metadata, branch=branch)

    def dropped() -> None:
        gone = choose.choice([row["tx"] for row in events_of(flight)])
        drop_rows(lake, tmp_path, lambda row: row["tx"] == gone and choose.random() < 0.8)

    def merged() -> None:
        with suppress(HeadwaterError):
            alice.merge("exp", ours=True)

    def honest() -> None:
        with suppress(HeadwaterError):
            choose.choice((alice, beyond)).tag("flight-delay", {"t": str(choose.random())})

    moves = [lambda: forged("main"), lambda: forged("exp"), dropped, merged, honest]
    for _ in range(8):
        choose.choices(moves, (4, 3, 1, 2, 2))[0]()
        if choose.random() < 0.5:
            for branch in ("main", "exp"):
                with flight.branch(branch)._context.reading():
                    pass
    for branch in ("main", "exp"):
        with flight.branch(branch)._context.reading() as fold:
            warm = state(fold)
        found = cold(flight.branch(branch), tmp_path)
        # Rows of no transaction, that were taken out again, are remembered by who has seen them.
        for each in (warm, found):
            each["refused"] = [row for row in each["refused"] if not row[5]]
        assert warm == found
    # Who comes from a later head to an earlier commit, as when he is asked about the past.
    earlier = [each.id for each in lake.log(lake.head("main"), first_parent=True)][3]
    back, fresh = Folds(lake, tmp_path / "back"), Folds(lake, tmp_path / "fresh")
    with back.at_head("main"):
        pass
    with back.at(earlier) as fold, fresh.at(earlier) as other:
        assert [state(fold)[name] for name in ("events", "lines")] == [
            state(other)[name] for name in ("events", "lines")
        ]
    back.close()
    fresh.close()


# -- what is not there ------------------------------------------------------------------------------------------------
def test_nobody_decides_about_what_comes_later(flight: Registry, acting: As, tmp_path: Path) -> None:
    for who in ("bob", "pat"):
        keys.make(who)
    flight.grant("deployer", "bob", "toy-*")
    flight.grant("admin", "pat", "toy-*")
    bob = acting("bob")
    bob.register("toy-a", "other.bin")
    toy = bob.versions("toy-a")[0]
    flight.create_branch("exp")
    alice = acting("alice", branch="exp")
    alice.register("flight-new", "model.bin")
    new = alice.versions("flight-new")[0]
    traffic = [{"deployment_id": new_id(), "version_id": new.version_id, "mode": "live", "percent": 100.0}]
    attempts: list[tuple[str, tuple[Any, ...]]] = [
        ("bob", (new.model_id, "alias", toy.version_id, "champion")),
        ("bob", (new.model_id, "alias", new.version_id, "champion")),
        ("bob", (new.model_id, "traffic", json.dumps(traffic), "production")),
        ("bob", (new.version_id, "stage", "production")),
        ("bob", (new.version_id, "tag", "bob's", "owner")),
        ("pat", (new.model_id, "policy", "[production]\n")),
    ]
    for who, what in attempts:
        with pytest.raises(PermissionDeniedError, match="it is about something that is not there"):
            write(acting(who), what)
        row = event(what[0], what[1], what[2], key=(*what, "")[3])
        row = signed(flight, row, who)
        put_rows(flight._context.lake, tmp_path, [row], commit_of([row]))
    assert len(refused(flight)) == len(attempts)
    acting("alice").merge("exp")
    with pytest.raises(NotFoundError):
        flight.resolve("flight-new@champion")
    assert flight.get("flight-new/1").tags == {}
    assert standing(flight, new.model_id, "policy") == standing(flight, new.version_id, "stage") == []
    same(flight, tmp_path)


def test_what_is_served_is_a_version_of_the_model(flight: Registry, acting: As, tmp_path: Path) -> None:
    root, (model_id, _) = flight, ids(flight)
    root.register("toy-a", "other.bin")
    toy = root.versions("toy-a")[0].version_id
    ((champion, _),) = standing(root, model_id, "alias", "champion")
    entry = {"deployment_id": new_id(), "version_id": toy, "mode": "live", "percent": 100.0}
    for what in (
        (model_id, "alias", toy, "champion"),
        (model_id, "alias", new_id(), "fast"),
        (model_id, "traffic", json.dumps([entry]), "production"),
        (model_id, "traffic", "[1]", "production"),
    ):
        with pytest.raises(PermissionDeniedError, match=r"no version of its model|nothing that can be read"):
            write(root, what)
    row = signed(root, event(model_id, "alias", toy, key="champion", prev=[champion]), "root")
    put_rows(root._context.lake, tmp_path, [row], commit_of([row]))
    assert root.resolve("flight-delay@champion").version == 1
    assert [reason.partition(":")[0] for _, reason in refused(root)] == ["it names what is no version of its model"]
    same(root, tmp_path)


# -- branches ---------------------------------------------------------------------------------------------------------
def test_a_branch_whose_name_comes_again_is_written_to(flight: Registry, acting: As, tmp_path: Path) -> None:
    flight.create_branch("a")
    acting("alice", branch="a").tag("flight-delay/1", {"k": "1"})
    flight.create_branch("b", "a")
    acting("alice", branch="b").tag("flight-delay/1", {"k": "2"})
    flight.delete_branch("a", force=True)
    flight.create_branch("a", "b")
    again = acting("alice", branch="a")
    again.tag("flight-delay/1", {"k": "3"})
    assert again.get("flight-delay/1").tags == {"k": "3"}
    assert refused(again) == []
    same(again, tmp_path)


def test_an_event_for_another_branch_does_not_ruin_one(flight: Registry, acting: As, tmp_path: Path) -> None:
    flight.create_branch("exp")
    alice = acting("alice", branch="exp")
    alice.tag("flight-delay/1", {"k": "1"})
    acting("mallory").register("mine-a", "model.bin")
    alice.merge("main")
    mine = acting("mallory").versions("mine-a")[0].model_id
    lake = flight._context.lake
    row = signed(flight, event(mine, "tag", "x", key="t"), "mallory", "zzz")
    put_rows(lake, tmp_path, [row], commit_of([row]), branch="exp")
    # Nor does telemetry, whose signature nobody looks at.
    row = event(new_id(), "param", "x", key="t", signature=f"1 {'0' * 64} yyy AAAA")
    put_rows(lake, tmp_path, [row], commit_of([row]), branch="exp")
    alice.tag("flight-delay/1", {"k": "2"})
    acting("carol", branch="exp").promote("flight-delay/2", "production")
    exp = flight.branch("exp")
    assert (exp.get("flight-delay/1").tags, exp.resolve("flight-delay@champion").version) == ({"k": "2"}, 2)
    assert refused(exp) == []
    with exp._context.reading() as fold:
        assert [each for (each,) in fold.rows("SELECT branch FROM lines ORDER BY position")] == ["exp", "zzz", "exp"]
    same(exp, tmp_path)


def test_the_default_branch_is_judged_as_such_wherever_it_is_moved(
    flight: Registry, acting: As, tmp_path: Path
) -> None:
    flight.create_branch("exp")
    acting("alice", branch="exp").tag("flight-delay", {"a": "b"})
    exp = flight.branch("exp")
    assert exp.models()[0].tags == {"a": "b"}
    lake = flight._context.lake
    lake.move_branch("main", exp.head, expected=lake.head("main"))
    folds = Folds(lake, tmp_path / "seeded")
    with folds.at_head("exp"):
        pass
    with folds.at_head("main") as fold:
        assert state(fold) == cold(flight, tmp_path)
        assert fold.rows("SELECT reason FROM refused") == [("it was signed for branch exp",)]
    folds.close()
    acting("alice").tag("flight-delay", {"c": "d"})
    assert flight.models()[0].tags == {"c": "d"}


# -- rights -----------------------------------------------------------------------------------------------------------
def test_a_key_is_revoked_by_who_governs_though_nobody_has_it(root: Registry, acting: As, tmp_path: Path) -> None:
    dave = keys.make("dave")
    said = json.dumps({"public": dave.text, "name": "dave", "revoked": True})
    with pytest.raises(PermissionDeniedError, match="mallory may not govern the lake"):
        write(acting("mallory"), (dave.key_id, "key", said))
    row = signed(root, event(dave.key_id, "key", said), "mallory")
    put_rows(root._context.lake, tmp_path, [row], commit_of([row]))
    root.add_key("dave")
    root.grant("author", "dave", "x-*")
    assert len(refused(root)) == 1


def test_who_restates_a_decision_needs_the_right_to_take_it(flight: Registry, acting: As, tmp_path: Path) -> None:
    model_id, versions = ids(flight)
    mallory = acting("mallory")
    for what in (
        (model_id, "alias", versions[1], "champion", "because I say so"),
        (versions[1], "stage", "production", "", "mine"),
        (versions[2], "override", None, "production"),
        (versions[2], "gate", None, "production auc"),
        (versions[2], "refusal", None, "production"),
        (model_id, "policy", None),
    ):
        with pytest.raises(PermissionDeniedError, match="mallory may not"):
            write(mallory, what)
    ((champion, _),) = standing(flight, model_id, "alias", "champion")
    row = event(model_id, "alias", versions[1], key="champion", prev=[champion])
    row = signed(flight, row, "mallory")
    put_rows(flight._context.lake, tmp_path, [row], commit_of([row]))
    assert flight.sql("SELECT actor FROM aliases WHERE alias = 'champion'").fetchall() == [("carol",)]
    assert [reason for _, reason in refused(flight)] == [
        "mallory may not promote flight-delay: that needs the role reviewer, deployer or admin"
    ]
    acting("carol").promote("flight-delay/2", "production")


def test_what_serves_is_hidden_by_who_may_promote(flight: Registry, acting: As, tmp_path: Path) -> None:
    model_id, versions = ids(flight)
    for subject in (versions[1], model_id):
        with pytest.raises(PermissionDeniedError, match="alice may not promote flight-delay"):
            write(acting("alice"), (subject, "tombstone", "hidden"))
        row = signed(flight, event(subject, "tombstone", "hidden"), "alice")
        put_rows(flight._context.lake, tmp_path, [row], commit_of([row]))
    assert flight.resolve("flight-delay@champion").version == 1
    assert len(refused(flight)) == 2
    acting("alice").delete("flight-delay/2")
    acting("alice").undelete("flight-delay/2")
    write(flight, (versions[1], "tombstone", "hidden"))
    same(flight, tmp_path)


def test_a_transaction_is_hidden_by_who_may_do_what_it_did(flight: Registry, acting: As, tmp_path: Path) -> None:
    mallory = acting("mallory")
    attempts = {
        tx_of(flight, "promote"): "promote flight-delay",
        tx_of(flight, "role"): "govern the lake",
        tx_of(flight, "init"): "govern the lake",
        tx_of(flight, "register"): "register or change flight-delay",
    }
    for tx, what in attempts.items():
        with pytest.raises(PermissionDeniedError, match=f"mallory may not {what}"):
            write(mallory, (tx, "tombstone", "hidden"))
    with pytest.raises(PermissionDeniedError, match="alice may not promote"):
        write(acting("alice"), (tx_of(flight, "promote"), "tombstone", "hidden"))
    with pytest.raises(PermissionDeniedError, match="it is about something that is not there"):
        write(mallory, (keys.signer("root").key_id, "tombstone", "hidden"))
    alice = acting("alice")
    alice.register("flight-other", "model.bin", metrics={"auc": 0.5})
    alice.revert(alice.head)
    with pytest.raises(NotFoundError):
        alice.get("flight-other/1")
    same(flight, tmp_path)


def test_a_run_is_hidden_by_its_author_and_who_has_its_model(flight: Registry, acting: As, tmp_path: Path) -> None:
    alice, mallory = acting("alice"), acting("mallory")
    with alice.start_run("good") as run:
        run.log_metric("auc", 0.9)
        run.register("flight-delay", "model.bin")
    with mallory.start_run("mine") as own:
        own.log_metric("auc", 0.1)
    # How a run stands is telemetry, which is not judged; what it measured is.
    mine = [each for each in flight.log() if each.subject == f"run:{run.run_id}"]
    runs = [each.commit for each in mine if "point" in each.message]
    assert runs
    for commit in runs:
        with pytest.raises(PermissionDeniedError, match="mallory may not register or change flight-delay"):
            mallory.revert(commit, force=True)
    with pytest.raises(PermissionDeniedError, match="mallory may not register or change flight-delay"):
        write(mallory, (run.run_id, "tombstone", "hidden"))
    with pytest.raises(PermissionDeniedError, match="alice may not govern the lake"):
        write(alice, (own.run_id, "tombstone", "hidden"))
    write(mallory, (own.run_id, "tombstone", "hidden"))
    alice.revert(runs[0], force=True)
    same(flight, tmp_path)
