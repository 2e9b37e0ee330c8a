"""Actions in a signed lake: who may add them, who may say that something was told, and what forged rows come to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.forging import event, put_rows
from tests.receiver import Receiver

import headwater
from headwater import keys
from headwater.errors import PermissionDeniedError
from headwater.outbox import Progress, cursor_subject
from headwater.registry import Registry
from headwater.transaction import Transaction

As = Callable[[str], Registry]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def acting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[As]:
    """A function that opens a signed registry as somebody: ann writes `m`, ray reviews it, and mal has `mine`."""
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("LAKE", "BRANCH", "ACTOR", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    url = str(tmp_path / "lake")
    headwater.create(url, actor="root", signed=True).close()
    opened: dict[str, Registry] = {}

    def as_(who: str) -> Registry:
        if who not in opened:
            opened[who] = headwater.open(url, actor=who)
        return opened[who]

    Path("artifact").write_text("weights")
    for who, role, pattern in (("ann", "author", "m"), ("ray", "reviewer", "m"), ("mal", "author", "mine")):
        keys.make(who)
        as_("root").grant(role, who, pattern)
    for _ in range(2):
        as_("ann").register("m", "artifact")
    yield as_
    for each in opened.values():
        each.close()


def hook(registry: Registry, receiver: Receiver, model: str = "m") -> None:
    registry.add_action(model, "ops", webhook=receiver.url(), allow_private=True)


def test_only_an_admin_adds_and_removes_actions_and_who_promotes_delivers(acting: As, receiver: Receiver) -> None:
    for who in ("ann", "ray"):
        with pytest.raises(PermissionDeniedError, match=f"{who} may not govern m"):
            hook(acting(who), receiver)
    hook(acting("root"), receiver, "*")
    with pytest.raises(PermissionDeniedError, match="ray may not govern"):
        acting("ray").remove_action("*", "ops")
    acting("ann").promote("m/1", "staging")
    acting("ray").promote("m/1", "production")
    made = acting("ray").deliver_notifications()
    assert [each.outcome for each in made] == ["delivered", "delivered"]
    assert [json.loads(each.body)["actor"] for each in receiver.requests] == ["ann", "ray"]


def test_who_has_nothing_to_do_with_a_model_neither_delivers_nor_silences_it(acting: As, receiver: Receiver) -> None:
    hook(acting("root"), receiver)
    acting("ann").promote("m/1", "staging")
    mal = acting("mal")
    (made,) = mal.deliver_notifications()
    assert (made.outcome, receiver.requests) == ("blocked", [])
    assert made.detail == "mal may not record deliveries of m: that needs a role"
    it = mal.notifications()[0]
    done = Progress(it.tx, "delivered", 1, 1).text()

    def silence(tx: Transaction) -> None:
        tx.event(cursor_subject(it.model_id, "ops"), "delivered", done, key=it.model_id)

    with pytest.raises(PermissionDeniedError, match="mal may not write m"):
        mal._context.write("deliver", silence)
    assert len(mal.notifications()) == 1


def test_forged_rows_are_neither_told_nor_believed(acting: As, receiver: Receiver, tmp_path: Path) -> None:
    root = acting("root")
    hook(root, receiver)
    acting("ann").promote("m/1", "staging")
    it = root.notifications()[0]
    version = root.get("m/2")
    with Receiver() as other:
        action: dict[str, Any] = {"on": ["promoted"], "branch": "main", "webhook": other.url(), "allow_private": True}
        forged = [
            event(version.version_id, "stage", "production"),
            event(version.model_id, "action", json.dumps(action), key="mine"),
            event(cursor_subject(version.model_id, "ops"), "delivered", Progress(it.tx, "delivered", 1, 1).text(),
                  key=version.model_id),
        ]  # fmt: skip
        put_rows(root._context.lake, tmp_path, forged)
        assert [each.name for each in root.actions()] == ["ops"]
        assert [each.version for each in root.notifications()] == [1]
        rows = root.sql("SELECT version, status FROM notifications").fetchall()
        assert rows == [(1, "pending")]
        root.deliver_notifications()
        assert [json.loads(each.body)["version"] for each in receiver.requests] == [1]
        assert other.requests == []
