"""Merging in a signed lake: what was decided elsewhere has no force here until somebody who may decides it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater import PermissionDeniedError, keys, production
from headwater.merge_model import MergeDeniedError, MergeRefusedError
from headwater.registry import Registry

As = Callable[..., Registry]
GATES = '[[production.gate]]\nmetric = "auc"\nmin = 0.8\n'


@pytest.fixture(params=["local", "lakefs"])
def signed_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a fresh signed registry, whose first admin is `root`."""
    url = request.getfixturevalue("lakefs_url") if request.param == "lakefs" else str(tmp_path / "lake")
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("LAKE", "BRANCH", "ACTOR", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    namespace = "local://" + url.rpartition("/")[2] if request.param == "lakefs" else None
    headwater.create(url, storage_namespace=namespace, actor="root", signed=True).close()
    return url


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
def root(acting: As, tmp_path: Path) -> Registry:
    """The registry of an admin, with `m/1` in production behind a gate; alice is an author and dan a deployer."""
    registry = acting("root")
    for who in ("alice", "dan"):
        keys.make(who)
    registry.grant("author", "alice", "m")
    registry.grant("deployer", "dan", "m")
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    registry.register("m", path, metrics={"auc": 0.9})
    registry.stage("m/1", "staging")
    registry.promote("m/1", "production")
    registry.set_gates("m", GATES)
    exp = registry.create_branch("exp")
    exp.register("m", path, metrics={"auc": 0.95})
    exp.stage("m/2", "staging")
    exp.promote("m/2", "production")
    return registry


def champion(registry: Registry) -> int:
    """Return what is in production; all faces of it agree."""
    with registry._context.reading() as fold:
        assert production.faces_agree(fold, registry.model("m").model_id)
    return registry.resolve("m@champion").version


def unmatched(registry: Registry) -> list[Any]:
    """Return what was refused in the branch's history and gives reason for alarm."""
    with registry._context.reading() as fold:
        return fold.rows("SELECT kind, key, reason FROM refused WHERE alarm")


def test_who_may_decides_it_again_by_merging(root: Registry, acting: As) -> None:
    assert champion(root.branch("exp")) == 2
    with pytest.raises(MergeDeniedError, match="alice may not promote m"):
        acting("alice").merge("exp")
    assert champion(root) == 1
    dan = acting("dan")
    planned = dan.merge("exp", dry_run=True)
    assert [(each.words(), each.passed) for each in planned.replayed] == [
        ("stage m/2 staging", True),
        ("promote m/2 to production", True),
    ]
    done = dan.merge("exp")
    assert [each.passed for each in done.replayed] == [True, True]
    assert champion(root) == champion(dan) == 2
    # a fold from nothing comes to the same: what landed is signed for main, by dan
    with headwater.open(root.url, actor="viewer") as fresh:
        assert champion(fresh) == 2
        assert unmatched(fresh) == []
    actors = root.sql("SELECT DISTINCT actor FROM lake.events WHERE kind = 'alias' AND reason = 'merge of exp'")
    assert actors.fetchall() == [("dan",)]


def test_what_is_left_has_no_force(root: Registry, acting: As) -> None:
    done = acting("alice").merge("exp", ours=True)
    assert done.left == ("alias:m@champion",)
    assert champion(root) == 1
    assert [each.version for each in root.versions("m")] == [2, 1]
    assert root.get("m/2").stage == "none"
    assert unmatched(root) == []
    with pytest.raises(headwater.GateFailedError, match="m/2 was never in production"):
        root.rollback("m", to=2)


def test_gates_and_roles_of_the_branch_have_none_either(root: Registry, acting: As, tmp_path: Path) -> None:
    exp = root.branch("exp")
    exp.delete_gates("m")
    exp.grant("admin", "alice")
    exp.register("m", tmp_path / "weights.bin", metrics={"auc": 0.5})
    exp.stage("m/3", "staging")
    exp.promote("m/3", "production")
    with pytest.raises((MergeDeniedError, MergeRefusedError), match=r"auc: required >= 0\.8, found 0\.5|may not"):
        acting("alice").merge("exp")
    with pytest.raises(MergeRefusedError, match=r"promote m/3 to production: 1 gate of 1 refused m/3"):
        root.merge("exp")
    assert champion(root) == 1
    acting("alice").merge("exp", ours=True)
    assert root.gates("m")[0].text == GATES
    with pytest.raises(PermissionDeniedError):
        acting("alice").delete_gates("m")
    assert unmatched(root) == []


def test_a_rehearsal_of_a_merge_signs_nothing(root: Registry, acting: As) -> None:
    before = root.head
    with root.rehearse() as rehearsal:
        rehearsal.merge("exp")
        assert champion(rehearsal) == 2
    assert root.head == before
    assert champion(root) == 1


def test_a_reviewer_takes_again_what_an_author_staged_and_he_promoted(
    root: Registry, acting: As, tmp_path: Path
) -> None:
    keys.make("carol")
    root.grant("reviewer", "carol", "m")
    root.create_branch("new")
    alice, carol = acting("alice", branch="new"), acting("carol", branch="new")
    alice.register("m", tmp_path / "weights.bin", metrics={"auc": 0.97})
    first = alice.versions("m")[0].version
    alice.stage(f"m/{first}", "staging")
    with pytest.raises(PermissionDeniedError, match="carol may not register or change m"):
        carol.stage(f"m/{first}", "archived")
    carol.promote(f"m/{first}", "production")
    with pytest.raises(MergeDeniedError, match="alice may not promote m"):
        acting("alice").merge("new")
    done = acting("carol").merge("new")
    assert [(each.words(), each.passed) for each in done.replayed] == [(f"promote m/{first} to production", True)]
    assert champion(root) == first
    assert root.get(f"m/{first}").stage == "production"
    assert unmatched(root) == []
    assert root.audit().clean
    # The gates of a stage that is not entered are asked all the same.
    root.create_branch("newer")
    root.set_gates("m", GATES + '[[staging.gate]]\nmetric = "auc"\nmin = 0.95\n')
    alice, carol = acting("alice", branch="newer"), acting("carol", branch="newer")
    alice.register("m", tmp_path / "weights.bin", metrics={"auc": 0.9})
    second = alice.versions("m")[0].version
    alice.stage(f"m/{second}", "staging")
    carol.promote(f"m/{second}", "production")
    with pytest.raises(MergeRefusedError, match=f"1 gate of 1 refused m/{second} for staging"):
        acting("carol").merge("newer")
    assert champion(root) == first
