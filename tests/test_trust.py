"""A signed lake: who may do what, asked when it is written, and again of whatever lies in its tables; on both lakes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.forging import commit_of, event, events_of, put_rows, signed

import headwater
from headwater import keys
from headwater.errors import (
    AlreadyExistsError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
)
from headwater.ids import new_id
from headwater.registry import Registry
from headwater.state import Folds

As = Callable[..., Registry]


@pytest.fixture
def acting(signed_url: str) -> Iterator[As]:
    """A function that opens the registry as somebody, who gets a key if he has none."""
    opened: list[Registry] = []

    def as_(who: str, **named: Any) -> Registry:
        if keys.local_key(who) is None:
            keys.make(who)
        opened.append(headwater.open(signed_url, actor=who, **named))
        return opened[-1]

    yield as_
    for each in opened:
        each.close()


@pytest.fixture
def root(acting: As) -> Registry:
    """The first admin's registry, where carol reviews and alice writes `flight-*`, and mallory writes `mine-*`."""
    registry = acting("root")
    for who in ("alice", "carol", "mallory"):
        keys.make(who)
    Path("model.bin").write_bytes(b"model")
    Path("other.bin").write_bytes(b"other")
    registry.grant("author", "alice", "flight-*")
    registry.grant("reviewer", "carol", "flight-*")
    registry.grant("author", "mallory", "mine-*")
    return registry


@pytest.fixture
def flight(root: Registry, acting: As) -> Registry:
    """The registry with two versions of `flight-delay`, the first champion."""
    alice = acting("alice")
    alice.register("flight-delay", "model.bin")
    alice.register("flight-delay", "other.bin")
    for version in (1, 2):
        alice.stage(f"flight-delay/{version}", "staging")
    acting("carol").promote("flight-delay/1", "production")
    return root


def ids(registry: Registry) -> tuple[str, dict[int, str]]:
    found = registry.versions("flight-delay")
    return found[0].model_id, {each.version: each.version_id for each in found}


def refused(registry: Registry) -> list[tuple[str, str]]:
    """Return (kind, reason) of what has no force and somebody should look into."""
    return [
        (row[0], row[1])
        for row in registry.sql("SELECT kind, reason FROM refused_events WHERE alarm ORDER BY event_id").fetchall()
    ]


def cold(registry: Registry, folder: Path) -> dict[str, Any]:
    """Return what a fold from nothing knows of events."""
    folds = Folds(registry._context.lake)
    folds._folder = folder / new_id()
    with folds.at_head(registry.ref) as fold:
        found = state(fold)
    folds.close()
    return found


def state(fold: Any) -> dict[str, Any]:
    names = ("events", "superseded", "refused", "lines")
    return {name: sorted(fold.rows(f"SELECT * FROM {name}"), key=repr) for name in names}


# -- what people may ------------------------------------------------------------------------------------------------
def test_roles_are_asked_when_something_is_written(flight: Registry, acting: As) -> None:
    alice, carol, mallory = acting("alice"), acting("carol"), acting("mallory")
    keys.make("zoe")
    with pytest.raises(PermissionDeniedError) as caught:
        alice.promote("flight-delay/2", "production")
    assert caught.value.message == "alice may not promote flight-delay: that needs the role reviewer, deployer or admin"
    assert caught.value.hint == "root can give it: `headwater role grant reviewer alice flight-delay`"
    for attempt in (
        lambda: mallory.set_alias("flight-delay", "fast", 1),
        lambda: mallory.register("flight-delay", "model.bin"),
        lambda: mallory.register("other", "model.bin"),
        lambda: mallory.tag("flight-delay/1", {"a": "b"}),
        lambda: mallory.delete("flight-delay/2"),
        lambda: mallory.deploy("flight-delay/2", "testing"),
        lambda: mallory.grant("admin", "mallory"),
        lambda: mallory.add_key("zoe"),
        lambda: mallory.revoke_key("carol"),
        lambda: carol.register("flight-delay", "model.bin"),
        lambda: carol.grant("author", "carol", "flight-*"),
        lambda: alice.set_alias("flight-delay", "champion", 2),
        lambda: alice.rename("flight-delay", "theirs"),
    ):
        with pytest.raises(PermissionDeniedError, match="may not"):
            attempt()
    mallory.register("mine-a", "model.bin")
    alice.set_alias("flight-delay", "fast", 2)
    carol.promote("flight-delay/2", "production")
    assert flight.resolve("flight-delay@champion").version == 2
    assert refused(flight) == []


def test_who_has_no_key_or_one_that_is_not_his_writes_nothing(
    flight: Registry, acting: As, signed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with headwater.open(signed_url, actor="nobody") as nobody:
        assert nobody.resolve("flight-delay@champion").version == 1
        with pytest.raises(PermissionDeniedError, match="there is no key of nobody here"):
            nobody.tag("flight-delay", {"a": "b"})
    with pytest.raises(PermissionDeniedError, match="the key of stranger is not enrolled in this lake"):
        acting("stranger").tag("flight-delay", {"a": "b"})
    monkeypatch.setenv("HEADWATER_KEY", str(keys.folder() / "mallory.pem"))
    with pytest.raises(PermissionDeniedError, match="is enrolled for mallory, not for alice"):
        headwater.open(signed_url, actor="alice").tag("flight-delay", {"a": "b"})


def test_a_revoked_key_signs_nothing_more_and_what_it_signed_stays(
    flight: Registry, acting: As, tmp_path: Path
) -> None:
    assert [each.name for each in flight.revoke_key("carol", reason="stolen")] == ["carol"]
    assert flight.resolve("flight-delay@champion").version == 1
    with pytest.raises(PermissionDeniedError, match="the key of carol was revoked"):
        acting("carol").promote("flight-delay/2", "production")
    for attempt in (lambda: flight.add_key("carol"), lambda: flight.grant("reviewer", "carol")):
        with pytest.raises(ConflictError, match="was revoked, and stays so"):
            attempt()
    # Whoever stole it writes to the storage, and says that it was long ago.
    model_id, versions = ids(flight)
    (old,) = [row for row in events_of(flight) if row["kind"] == "alias"]
    row = event(model_id, "alias", versions[2], key="champion", prev=[old["event_id"]], recorded_at=1_000_000)
    row = signed(flight, row, "carol")
    put_rows(flight._context.lake, tmp_path, [row], commit_of([row], **{"headwater.at": "1000000"}))
    assert flight.resolve("flight-delay@champion").version == 1
    ((kind, reason),) = refused(flight)
    assert (kind, "of carol was revoked" in reason) == ("alias", True)
    assert cold(flight, tmp_path)["refused"]


def test_the_last_admin_stays(root: Registry, acting: As) -> None:
    for attempt in (lambda: root.revoke_role("admin", "root"), lambda: root.revoke_key("root")):
        with pytest.raises(ConflictError, match="root is the last admin of this lake"):
            attempt()
    root.grant("admin", "carol")
    root.revoke_role("admin", "root")
    assert [(each.name, each.role) for each in root.roles() if each.pattern == "*"] == [("carol", "admin")]
    with pytest.raises(PermissionDeniedError, match="root may not govern the lake"):
        root.grant("admin", "root")
    acting("carol").grant("viewer", "root")


def test_a_rename_gives_nobody_a_right(root: Registry, acting: As) -> None:
    mallory, alice = acting("mallory"), acting("alice")
    mallory.register("mine-a", "model.bin")
    with pytest.raises(PermissionDeniedError, match="mallory may not register or change flight-a"):
        mallory.rename("mine-a", "flight-a")
    root.rename("mine-a", "flight-a")
    with pytest.raises(PermissionDeniedError, match="alice may not register or change mine-a"):
        alice.tag("flight-a", {"a": "b"})
    mallory.tag("flight-a", {"a": "b"})
    (found,) = root.grant("author", "alice", "flight-a")
    assert found.pattern == "mine-a"
    alice.tag("flight-a", {"c": "d"})


@pytest.mark.parametrize("pattern", ["", "**", "flight-?", "flight-[a]", "Flight-*", "a b", "a/b", "x" * 129, "é"])
def test_a_pattern_means_what_it_says(root: Registry, pattern: str) -> None:
    with pytest.raises(InvalidInputError, match="not a pattern of model names"):
        root.grant("author", "alice", pattern)


def test_an_admin_of_some_models_governs_those_alone(root: Registry, acting: As) -> None:
    root.grant("admin", "carol", "flight-*")
    carol = acting("carol")
    carol.grant("author", "mallory", "flight-x*")
    carol.grant("author", "mallory", "flight-*")
    for pattern in ("*", "fl*", "*-delay", "mine-*"):
        with pytest.raises(PermissionDeniedError, match="carol may not govern"):
            carol.grant("deployer", "mallory", pattern)
    with pytest.raises(PermissionDeniedError, match="carol may not govern the lake"):
        carol.add_key("alice", keys.make("zoe").line.replace(" zoe", " alice"))


def test_roles_and_keys_are_listed(root: Registry) -> None:
    assert [(each.name, each.role, each.pattern, each.granted_by) for each in root.roles()] == [
        ("alice", "author", "flight-*", "root"),
        ("carol", "reviewer", "flight-*", "root"),
        ("mallory", "author", "mine-*", "root"),
        ("root", "admin", "*", "root"),
    ]
    keys.make("zoe")
    listed = root.keys()
    found = {each.name: (each.enrolled, each.revoked, each.local) for each in listed}
    assert found["zoe"] == (False, False, True)
    assert found["alice"] == (True, False, True)
    with pytest.raises(InvalidInputError, match="not a role: 'king'"):
        root.grant("king", "alice")
    with pytest.raises(NotFoundError, match="there is no key of 'nobody' in this lake"):
        root.grant("author", "nobody")
    with pytest.raises(NotFoundError, match="'alice' does not hold the role admin on \\*"):
        root.revoke_role("admin", "alice")
    with pytest.raises(ConflictError, match="is enrolled for alice"):
        root.add_key("bob", next(each.public for each in listed if each.name == "alice"))
    with pytest.raises(NotFoundError, match="there is no key 'nobody'"):
        root.revoke_key("nobody")
    head = root.head
    root.grant("author", "alice", "flight-*")
    assert root.head == head
    assert root.at("main~1").roles() != root.roles()


# -- what others put into the tables ----------------------------------------------------------------------------------
def test_what_nobody_signed_who_may_has_no_force(flight: Registry, acting: As, tmp_path: Path) -> None:
    model_id, versions = ids(flight)
    lake = flight._context.lake
    rows = events_of(flight)
    (champion,) = [row for row in rows if row["kind"] == "alias"]
    (grant,) = [row for row in rows if row["kind"] == "role" and row["key"] == "author mine-*"]
    to = {"key": "champion", "prev": [champion["event_id"]]}
    keys.make("stranger")
    carols = signed(flight, event(model_id, "alias", versions[2], **to), "carol")
    attacks = {
        "it is not signed": event(model_id, "alias", versions[2], **to, actor="carol"),
        "its key": signed(flight, event(model_id, "alias", versions[2], **to), "stranger"),
        "mallory may not promote": signed(flight, event(model_id, "alias", versions[2], **to), "mallory"),
        "it says carol, and is signed by mallory": signed(
            flight, event(model_id, "alias", versions[2], **to), "mallory", actor="carol"
        ),
        "mallory may not govern the lake": signed(
            flight, event(grant["subject"], "role", "granted", key="admin *"), "mallory"
        ),
        "it grants what is no role": signed(flight, event(grant["subject"], "role", "granted", key="admin **"), "root"),
        "it replaces an event of something else": signed(
            flight, event(model_id, "tag", "x", key="t", prev=[champion["event_id"]]), "alice"
        ),
        "it replaces an event that is not there": signed(
            flight, event(model_id, "tag", "x", key="t", prev=[new_id()]), "alice"
        ),
        "it was decided on an earlier state": signed(
            flight, event(model_id, "alias", versions[2], key="champion"), "carol"
        ),
        "the name flight-delay belongs to another model": signed(
            flight, event(new_id(), "name", "flight-delay"), "root"
        ),
        "its signature is not": {**carols, "value": versions[1]},
        "it was signed for branch exp": signed(flight, event(model_id, "alias", versions[2], **to), "carol", "exp"),
        "it is an approval in somebody": signed(
            flight, event(versions[2], "approval", "{}", key="production " + grant["subject"]), "carol"
        ),
    }
    before = flight.sql("FROM standing_events ORDER BY event_id").fetchall()
    for row in attacks.values():
        put_rows(lake, tmp_path, [row], commit_of([row]))
        assert flight.resolve("flight-delay@champion").version == 1
    found = [reason for _, reason in refused(flight)]
    for wanted in attacks:
        assert any(reason.startswith(wanted) for reason in found), (wanted, found)
    assert len(found) == len(attacks)
    assert flight.sql("FROM standing_events ORDER BY event_id").fetchall() == before
    assert flight.sql("SELECT count(*) FROM history WHERE refused IS NOT NULL").fetchall() == [(len(attacks),)]
    assert flight.sql("SELECT version FROM alias_at('flight-delay', 'champion', now())").fetchall() == [(1,)]
    with flight._context.reading() as fold:
        assert state(fold) == cold(flight, tmp_path)
    # The same people go on working.
    acting("carol").promote("flight-delay/2", "production")
    assert flight.resolve("flight-delay@champion").version == 2


def test_a_row_does_not_say_when_it_landed(flight: Registry, tmp_path: Path) -> None:
    model_id, versions = ids(flight)
    (champion,) = [row for row in events_of(flight) if row["kind"] == "alias"]
    to = {"key": "champion", "prev": [champion["event_id"]]}
    row = signed(flight, event(model_id, "alias", versions[2], **to), "carol")
    old = {**signed(flight, event(model_id, "alias", versions[2], tx=champion["tx"], **to), "carol")}
    impostor = {**champion, "value": versions[2]}
    put_rows(flight._context.lake, tmp_path, [row, old, impostor])
    assert flight.resolve("flight-delay@champion").version == 1
    reasons = sorted(reason.partition(" ")[0] for _, reason in refused(flight))
    assert reasons == ["commit", "commit", "no"]
    assert flight.sql("SELECT value FROM standing_events WHERE event_id = ?", [champion["event_id"]]).fetchall() == [
        (versions[1],)
    ]
    with flight._context.reading() as fold:
        now = state(fold)
    assert now == cold(flight, tmp_path)
    # Going back to before it forgets it.
    with flight.at("main~1")._context.reading() as fold:
        assert fold.rows("SELECT * FROM refused") == []


def test_what_was_done_once_is_not_done_again(flight: Registry, acting: As, tmp_path: Path) -> None:
    carol = acting("carol")
    first = [row for row in events_of(flight) if row["kind"] in ("alias", "traffic")]
    carol.promote("flight-delay/2", "production")
    # The rows of the earlier promotion, in a transaction that says that it is new.
    tx = new_id()
    again = [{**row, "tx": tx, "event_id": new_id()} for row in first]
    put_rows(flight._context.lake, tmp_path, again, commit_of(again))
    # And as they are, in another commit of their transaction.
    put_rows(flight._context.lake, tmp_path, first, commit_of(first))
    assert flight.resolve("flight-delay@champion").version == 2
    assert {reason for _, reason in refused(flight)} == {"its signature is not one of this event in this lake"}
    with flight._context.reading() as fold:
        assert state(fold) == cold(flight, tmp_path)


def test_what_was_signed_for_another_lake_has_no_force(
    flight: Registry, lakefs_or_folder: Callable[[], tuple[str, str | None]], tmp_path: Path
) -> None:
    url, namespace = lakefs_or_folder()
    with headwater.create(url, storage_namespace=namespace, actor="root", signed=True) as other:
        other.add_key("carol")
        rows = [row for row in events_of(flight) if row["kind"] == "role" and row["key"] == "reviewer flight-*"]
        put_rows(other._context.lake, tmp_path, rows, commit_of(rows))
        assert [each.name for each in other.roles()] == ["root"]
        assert refused(other) == [("role", "its signature is not one of this event in this lake")]


@pytest.fixture
def lakefs_or_folder(signed_url: str, tmp_path: Path) -> Callable[[], tuple[str, str | None]]:
    def make() -> tuple[str, str | None]:
        if "://" not in signed_url:
            return str(tmp_path / "another"), None
        return f"{signed_url}-b", "local://" + f"{signed_url}-b".rpartition("/")[2]

    return make


# -- branches ---------------------------------------------------------------------------------------------------------
def test_a_merge_brings_labels_to_force_and_nothing_that_is_protected(
    flight: Registry, acting: As, tmp_path: Path
) -> None:
    flight.create_branch("exp")
    alice, carol = acting("alice", branch="exp"), acting("carol", branch="exp")
    alice.register("flight-new", "model.bin")
    alice.set_alias("flight-new", "fast", 1)
    carol.promote("flight-delay/2", "production")
    exp = flight.branch("exp")
    assert exp.resolve("flight-delay@champion").version == 2
    exp.grant("admin", "alice")
    for who in ("alice", "carol"):
        with pytest.raises(PermissionDeniedError, match="what exp decided does not hold on main"):
            acting(who).merge("exp")
    flight.merge("exp")
    assert flight.resolve("flight-new@fast").version == 1
    # What was decided on the branch was decided again here, by who merged.
    assert flight.resolve("flight-delay@champion").version == 2
    assert ("alice", "admin", "root") in [(each.name, each.role, each.granted_by) for each in flight.roles()]
    assert refused(flight) == []
    rows = flight.sql("SELECT DISTINCT reason FROM refused_events").fetchall()
    assert rows == [("it was made for branch exp",)]
    with flight._context.reading() as fold:
        assert state(fold) == cold(flight, tmp_path)
    with exp._context.reading() as fold:
        assert fold.rows("SELECT branch FROM lines") == [("exp",)]


def test_a_merge_past_headwater_brings_nothing_to_force(flight: Registry, acting: As, tmp_path: Path) -> None:
    flight.create_branch("exp")
    acting("carol", branch="exp").promote("flight-delay/2", "production")
    rows = [row for row in events_of(flight.branch("exp")) if row["kind"] in ("alias", "traffic", "stage")]
    known = {row["event_id"] for row in events_of(flight)}
    new = [row for row in rows if row["event_id"] not in known]
    lake = flight._context.lake
    put_rows(lake, tmp_path, new, commit_of(new))
    assert flight.resolve("flight-delay@champion").version == 1
    assert {reason for _, reason in refused(flight)} == {"it was signed for branch exp"}
    # Nor may what main did later be put onto the branch, once that is on its own.
    with flight._context.reading() as fold:
        assert state(fold) == cold(flight, tmp_path)


def test_what_a_merge_brings_is_what_was_vouched_for(flight: Registry, acting: As, tmp_path: Path) -> None:
    flight.create_branch("exp")
    acting("alice", branch="exp").tag("flight-delay", {"a": "b"})
    model_id, _ = ids(flight)
    row = event(model_id, "tag", "forged", key="c")
    put_rows(flight._context.lake, tmp_path, [row], commit_of([row]), branch="exp")
    acting("alice").merge("exp")
    assert flight.models()[0].tags == {"a": "b"}
    assert [reason for _, reason in refused(flight)] == ["nobody who merged it vouches for it"]


# -- the lake itself --------------------------------------------------------------------------------------------------
def test_a_lake_is_not_lowered_silently(flight: Registry, signed_url: str, tmp_path: Path) -> None:
    lake = flight._context.lake
    said = json.loads(lake.read("main", "headwater.json"))
    assert said["signed"]
    assert said["root"]["name"] == "root"
    lake.put("main", "headwater.json", json.dumps({"format": said["format"], "lake": said["lake"]}).encode())
    lake.commit("main", "lower it", {})
    with pytest.raises(IntegrityError, match="was a lake signed by root, and is not signed now"):
        headwater.open(signed_url, actor="root")
    known = tmp_path / "config" / "headwater" / "known_lakes.json"
    known.unlink()
    with (
        headwater.open(signed_url, actor="somebody-new") as fresh,
        pytest.raises(IntegrityError, match="was made a signed lake by root"),
    ):
        fresh.status()


def test_another_lake_at_a_known_place_is_told(flight: Registry, signed_url: str, tmp_path: Path) -> None:
    known = tmp_path / "config" / "headwater" / "known_lakes.json"
    said = json.loads(known.read_text())
    said[flight.url]["root"] = "another"
    known.write_text(json.dumps(said))
    with pytest.raises(IntegrityError, match="is signed by the key of root now, another lake's"):
        headwater.open(signed_url)
    known.write_text("[]")
    with pytest.raises(IntegrityError, match="is not what was written"):
        headwater.open(signed_url)


def test_a_lake_is_signed_from_the_beginning_or_never(registry: Registry, registry_url: str) -> None:
    if "://" in registry_url:
        namespace = "local://" + registry_url.rpartition("/")[2]
        with pytest.raises(AlreadyExistsError, match="was made without signatures, and stays so"):
            headwater.create(registry_url, storage_namespace=namespace, actor="maker", signed=True)
    with pytest.raises(InvalidInputError, match="this lake is not signed, so it has no keys"):
        registry.add_key("carol", keys.make("carol").text)


def test_a_rehearsal_is_not_signed(flight: Registry, acting: As) -> None:
    with acting("alice").rehearse() as rehearsal:
        rehearsal.set_alias("flight-delay", "fast", 2)
        assert rehearsal.resolve("flight-delay@fast").version == 2
        assert [row["signature"] for row in events_of(rehearsal) if row["key"] == "fast"] == [None]
        with pytest.raises(PermissionDeniedError, match="alice may not promote"):
            rehearsal.promote("flight-delay/2", "production")
        with pytest.raises(PermissionDeniedError, match="alice may not govern"):
            rehearsal.grant("admin", "alice")
    with pytest.raises(NotFoundError):
        flight.resolve("flight-delay@fast")


# -- a lake that is not signed ----------------------------------------------------------------------------------------
def test_without_signatures_a_right_is_everybodys_until_somebody_holds_it(
    registry: Registry, registry_url: str
) -> None:
    Path("model.bin").write_bytes(b"model")
    registry.register("m", "model.bin")
    registry.register("other", "model.bin")
    registry.stage("m/1", "staging")
    registry.grant("reviewer", "carol", "m")
    registry.tag("m", {"a": "b"})
    with pytest.raises(PermissionDeniedError, match="tester may not promote m: that needs the role reviewer"):
        registry.promote("m/1", "production")
    registry.set_alias("other", "champion", 1)
    with headwater.open(registry_url, actor="carol") as carol:
        carol.promote("m/1", "production")
        carol.grant("admin", "carol")
    with pytest.raises(PermissionDeniedError, match="tester may not govern the lake"):
        registry.grant("admin", "tester")
    assert [each.principal for each in registry.roles()] == ["actor:carol", "actor:carol"]


# -- folding ----------------------------------------------------------------------------------------------------------
def test_any_commit_is_judged_the_same_from_whatever_there_is(
    flight: Registry, acting: As, tmp_path: Path, signed_url: str
) -> None:
    flight.create_branch("exp")
    alice = acting("alice", branch="exp")
    alice.tag("flight-delay", {"a": "b"})
    alice.stage("flight-delay/2", "archived")
    model_id, versions = ids(flight)
    lake = flight._context.lake
    forged = event(model_id, "tag", "forged", key="c")
    put_rows(lake, tmp_path, [forged], commit_of([forged]), branch="exp")
    acting("alice").set_alias("flight-delay", "fast", 2)
    acting("alice").merge("exp")
    flight.create_branch("other", "main~2")
    acting("alice", branch="other").set_alias("flight-delay", "slow", 2)
    alice.merge("main")
    acting("alice", branch="other").merge("exp")
    put_rows(lake, tmp_path, [event(versions[2], "stage", "production", key="", tx=forged["tx"])])
    flight.revoke_key("alice")
    flight.set_alias("flight-delay", "slow", 1)
    commits = sorted({each.id for head in lake.branches().values() for each in lake.log(head)})
    fresh, seeded = Folds(lake), Folds(lake)
    fresh._folder, seeded._folder = tmp_path / "fresh", tmp_path / "seeded"
    with seeded.at_head("main"):
        pass
    for number, commit in enumerate(commits[:: 6 if "://" in signed_url else 2]):
        with fresh.at(commit) as fold:
            expected = state(fold)
        fresh.close()
        for path in fresh._folder.iterdir():
            path.unlink()
        with seeded.at(commit) as fold:
            got = state(fold)
        for name in expected:
            assert set(got[name]) ^ set(expected[name]) == set(), (name, number)
        if number % 3 == 0:
            for path in seeded._folder.glob("commit-*"):
                seeded._drop(path.name)
    for branch in lake.branches():
        with seeded.at_head(branch) as fold, fresh.at_head(branch) as other:
            assert state(fold) == state(other), branch
        with flight.branch(branch)._context.reading() as fold, fresh.at_head(branch) as other:
            assert state(fold) == state(other), branch
    fresh.close()
    seeded.close()


# -- undoing --------------------------------------------------------------------------------------------------------
def test_a_grant_is_undone_by_revoking(flight: Registry, acting: As) -> None:
    keys.make("dora")
    flight.grant("deployer", "dora", "toy-*")
    granted = flight.head
    done = flight.revert(granted)
    assert [(each.kind, each.before, each.after) for each in done.changes] == [("role", "granted", "revoked")]
    assert [each for each in flight.roles() if each.name == "dora"] == []
    listed = flight.keys()
    assert [each.enrolled for each in listed if each.name == "dora"] == [True]
    assert refused(flight) == []
    with pytest.raises(PermissionDeniedError, match="dora may not"):
        acting("dora").register("toy-a", "model.bin")
    assert done.commit is not None
    flight.revert(done.commit)
    acting("dora").register("toy-a", "model.bin")
    flight.revoke_role("deployer", "dora", "toy-*")
    flight.revert(flight.head)
    assert [each.role for each in flight.roles() if each.name == "dora"] == ["deployer"]
    flight.revoke_key("dora")
    with pytest.raises(InvalidInputError, match="there is nothing in commit") as caught:
        flight.revert(flight.head)
    assert caught.value.hint == "`headwater key revoke` ends what a key may sign"


# -- what has no events ---------------------------------------------------------------------------------------------
def test_whatever_is_written_needs_a_key_and_a_role(flight: Registry, acting: As) -> None:
    """Rows without events are what gates read: datasets, metrics, predictions."""
    deployment = flight.serving("production")[0].deployment_id
    Path("rows.csv").write_text("a,b\n1,2\n")
    flight.add_dataset("rows", "rows.csv")
    Path("rows.csv").write_text("a,b\n3,4\n")
    keys.make("victor")
    flight.grant("viewer", "victor", "*")
    stranger = headwater.open(flight._context.lake.url, actor="nobody")

    def run_of(registry: Registry) -> None:
        with registry.start_run("train", experiment="e") as run:
            run.log_metric("auc", 0.9)

    Path("predictions.csv").write_text("id,output\nx1,1\n")
    attempts: list[Callable[[Registry], object]] = [
        lambda each: each.add_dataset("rows", "rows.csv"),
        lambda each: each.log_predictions("predictions.csv", deployment),
        run_of,
    ]
    for attempt in attempts:
        with pytest.raises(PermissionDeniedError, match="there is no key of nobody here"):
            attempt(stranger)
        with pytest.raises(PermissionDeniedError) as caught:
            attempt(acting("victor"))
        assert caught.value.message == (
            "victor may not write anything: that needs the role author, reviewer, deployer or admin"
        )
        assert caught.value.hint == (
            "root can give it: `headwater role grant author victor`;"
            " what serves writes with the key of a deployer or an author"
        )
        attempt(acting("alice"))
    stranger.close()
    flight.revoke_key("alice")
    Path("rows.csv").write_text("a,b\n5,6\n")
    with pytest.raises(PermissionDeniedError, match="the key of alice was revoked"):
        acting("alice").add_dataset("rows", "rows.csv")
    assert flight.sql("SELECT actor FROM lake.datasets ORDER BY dataset_id").fetchall() == [("root",), ("alice",)]
    # The lake's own branches and tags hold no rows.
    acting("victor").create_branch("mine")
    acting("victor").create_tag("today")
