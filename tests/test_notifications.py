"""Actions and deliveries: what is told, in which order, at least once, also after a crash; and what is never told."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.receiver import Receiver, Reply

import headwater
from headwater.errors import ConflictError, HeadwaterError, InvalidInputError, NotFoundError
from headwater.ids import now_micros
from headwater.lookup import version_row
from headwater.names import parse_model
from headwater.notification_model import Delivery
from headwater.outbox import Progress, cursor_subject
from headwater.registry import Registry
from headwater.transaction import Transaction

SECRET = "a secret of sixteen bytes or more"
DAY = 24 * 3600 * 1_000_000

on_one_lake = pytest.mark.parametrize("registry_url", ["local"], indirect=True)
"""Marks what only this machine and its network have a part in."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


@pytest.fixture
def three(registry: Registry) -> Registry:
    """A registry with model `m` of three versions."""
    Path("artifact").write_text("weights")
    for _ in range(3):
        registry.register("m", "artifact")
    return registry


def decide(
    registry: Registry,
    kind: str,
    *stages: tuple[str, str | None],
    shares: dict[str, float] | None = None,
    reason: str | None = None,
    more: tuple[tuple[str, str, str, str], ...] = (),
) -> str:
    """Write what a decision writes, without asking whether it may be made; return its commit."""

    def work(tx: Transaction) -> None:
        for reference, stage in stages:
            tx.event(version_row(tx.fold, parse_model(reference))[0], "stage", stage, reason=reason)
        for reference, percent in (shares or {}).items():
            version_id, model_id = version_row(tx.fold, parse_model(reference))[:2]
            entry = {"deployment_id": version_id, "version_id": version_id, "mode": "live", "percent": percent}
            tx.event(model_id, "traffic", json.dumps([entry]), key="production", reason=reason)
        for reference, event, key, value in more:
            tx.event(version_row(tx.fold, parse_model(reference))[0], event, value, key=key, reason=reason)

    commit = registry._context.write(kind, work).commit
    assert commit is not None
    return commit


def promote(registry: Registry, reference: str, *before: str, reason: str | None = None) -> str:
    stages = [(reference, "production"), *((each, "archived") for each in before)]
    return decide(registry, "promote", *stages, shares={reference: 100.0}, reason=reason)


def refuse(registry: Registry, reference: str, *gates: str) -> str:
    value = json.dumps({"gates": gates, "commit": "c"})
    return decide(registry, "refuse", more=((reference, "refusal", "production", value),))


def check_view(registry: Registry, *made: Delivery) -> None:
    """Compare what SQL says of notifications with the outbox, and with what deliveries came to."""
    columns = "SELECT tx, model_id, event, action, status, tries, error FROM notifications"
    found = registry.sql(f"{columns} WHERE branch = ? ORDER BY ALL", [registry.ref]).fetchall()
    expected = [
        (it.tx, it.model_id, it.event, it.action, it.status, it.tries, it.error) for it in registry.notifications()
    ]
    for each in made:
        it = each.notification
        if each.outcome in ("delivered", "failed"):
            expected.append((it.tx, it.model_id, it.event, it.action, each.outcome, it.tries, each.detail))
    assert found == sorted(expected, key=lambda row: tuple(str(each) for each in row))


def told(receiver: Receiver) -> list[tuple[str, str, int | None]]:
    documents = [json.loads(each.body) for each in receiver.requests]
    return [(each["event"], each["model"], each["version"]) for each in documents]


def hook(registry: Registry, receiver: Receiver, model: str = "m", name: str = "ops", **named: Any) -> None:
    registry.add_action(model, name, webhook=receiver.url(), allow_private=True, **named)


# -- what is told -----------------------------------------------------------------------------------------------------
def test_a_promotion_is_told_with_everything_about_it(three: Registry, receiver: Receiver) -> None:
    promote(three, "m/1")
    hook(three, receiver)
    commit = promote(three, "m/2", "m/1", reason="better on JFK")
    (pending,) = three.notifications()
    assert (pending.status, pending.tries, pending.event, pending.version) == ("pending", 0, "promoted", 2)
    (made,) = three.deliver_notifications()
    assert (made.outcome, made.detail, made.notification.key) == ("delivered", None, pending.key)
    (got,) = receiver.requests
    document = json.loads(got.body)
    ((position,),) = three.sql("SELECT position FROM lake.commits WHERE commit = ?", [commit]).fetchall()
    landed = three.sql(
        "SELECT strftime(landed_at, '%Y-%m-%dT%H:%M:%S.%fZ') FROM lake.commits WHERE commit = ?", [commit]
    )
    version = three.get("m/2")
    assert document == {
        "event": "promoted",
        "text": "m/2 was promoted to production with 100 % of the requests by tester: better on JFK",
        "model": "m",
        "version": 2,
        "stage": "production",
        "previous": 1,
        "traffic": 100.0,
        "gates": [],
        "actor": "tester",
        "reason": "better on JFK",
        "commit": commit,
        "time": landed.fetchall()[0][0],
        "position": position,
        "branch": "main",
        "lake": json.loads(three._context.lake.read("main", "headwater.json"))["lake"],
        "model_id": version.model_id,
        "version_id": version.version_id,
        "action": "ops",
        "idempotency_key": pending.key,
    }
    assert got.headers["Idempotency-Key"] == pending.key
    assert len(pending.key) == 64
    assert three.notifications() == []
    assert three.deliver_notifications() == []
    assert len(receiver.requests) == 1


def test_refusals_rollbacks_traffic_and_approvals_are_told_to_whoever_wants_them(
    three: Registry, receiver: Receiver
) -> None:
    hook(three, receiver, on=["promoted", "refused", "rolled-back", "traffic", "approved"])
    with Receiver() as other:
        hook(three, other, name="bad-news", on=["refused", "rolled-back"])
        decide(three, "stage", ("m/1", "development"))
        decide(three, "promote", ("m/1", "staging"))
        promote(three, "m/1")
        refuse(three, "m/2", "auc on flights-test", "auc by origin")
        given = json.dumps({"given": True, "branch": "main"})
        withdrawn = json.dumps({"given": False, "branch": "main"})
        elsewhere = json.dumps({"given": True, "branch": "exp"})
        for value in (elsewhere, given, withdrawn):
            decide(three, "approve", more=(("m/2", "approval", "production actor:ann", value),))
        promote(three, "m/2", "m/1")
        decide(three, "rollback", ("m/1", "production"), ("m/2", "archived"), shares={"m/1": 100.0}, reason="slow")
        decide(three, "traffic", shares={"m/1": 75.0})
        check_view(three)
        check_view(three, *three.deliver_notifications())
        assert told(receiver) == [
            ("promoted", "m", 1), ("promoted", "m", 1), ("refused", "m", 2), ("approved", "m", 2), ("promoted", "m", 2),
            ("rolled-back", "m", 1), ("traffic", "m", 1),
        ]  # fmt: skip
        texts = [json.loads(each.body)["text"] for each in receiver.requests]
        assert texts[0] == "m/1 was promoted to staging by tester"
        assert texts[2] == "m/2 was refused for production by tester: auc on flights-test, auc by origin"
        assert texts[3] == "m/2 was approved for production by tester"
        assert texts[5] == "m was rolled back to m/1 by tester: slow"
        assert texts[6] == "m/1 serves with 75 % of the requests by tester"
        assert json.loads(receiver.requests[5].body)["previous"] == 2
        assert told(other) == [("refused", "m", 2), ("rolled-back", "m", 1)]


def test_positions_and_keys_tell_a_receiver_what_is_newer_and_what_it_has(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    for version in (1, 2, 3):
        promote(three, f"m/{version}")
    three.deliver_notifications()
    documents = [json.loads(each.body) for each in receiver.requests]
    assert [each["version"] for each in documents] == [1, 2, 3]
    positions = [each["position"] for each in documents]
    assert positions == sorted(positions)
    assert len({each["idempotency_key"] for each in documents}) == 3


def test_only_what_lands_after_an_action_was_added_is_told(three: Registry, receiver: Receiver) -> None:
    promote(three, "m/1")
    hook(three, receiver)
    promote(three, "m/2", "m/1")
    hook(three, receiver, on=["promoted"])  # replaced: it goes on with what it has not told
    made = three.deliver_notifications()
    assert told(receiver) == [("promoted", "m", 2)]
    three.remove_action("m", "ops")
    assert three.actions() == []
    promote(three, "m/3", "m/2")
    hook(three, receiver)
    assert three.deliver_notifications() == []
    promote(three, "m/1", "m/3")
    check_view(three, *made)
    three.deliver_notifications()
    assert told(receiver)[1:] == [("promoted", "m", 1)]


def test_a_pattern_is_for_every_model_whose_name_matches(three: Registry, receiver: Receiver) -> None:
    for name in ("fraud-eu", "fraud-us", "fraudulent"):
        three.register(name, "artifact")
    hook(three, receiver, "fraud-*", "all")
    for name in ("fraud-eu", "fraudulent", "m", "fraud-us"):
        promote(three, f"{name}/1")
    check_view(three)
    three.deliver_notifications()
    assert sorted(told(receiver)) == [("promoted", "fraud-eu", 1), ("promoted", "fraud-us", 1)]
    (action,) = three.actions()
    assert (action.model, action.name, action.branch, action.actor) == ("fraud-*", "all", "main", "tester")


def test_a_renamed_model_keeps_its_actions(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    three.rename("m", "renamed")
    promote(three, "renamed/1")
    three.deliver_notifications()
    assert told(receiver) == [("promoted", "renamed", 1)]
    assert three.actions()[0].model == "renamed"
    three.remove_action("renamed", "ops")


def test_what_happens_on_another_branch_is_told_when_it_takes_force_here(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver, on=["promoted", "refused"])
    exp = three.create_branch("exp")
    refuse(exp, "m/3", "auc")
    promote(exp, "m/1")
    promote(exp, "m/2", "m/1")
    assert exp.notifications() == []
    assert exp.deliver_notifications() == []
    three.merge("exp")
    check_view(three)
    three.deliver_notifications()
    # m/1 was never in production here, and a refusal on a branch of one's own concerns nobody.
    assert told(receiver) == [("promoted", "m", 2)]


def test_an_action_does_nothing_on_the_branch_that_it_is_not_for(three: Registry, receiver: Receiver) -> None:
    exp = three.create_branch("exp")
    hook(exp, receiver)
    promote(exp, "m/1")
    exp.deliver_notifications()
    assert told(receiver) == [("promoted", "m", 1)]
    assert json.loads(receiver.requests[0].body)["branch"] == "exp"
    three.merge("exp")
    assert three.actions()[0].branch == "exp"
    promote(three, "m/2", "m/1")
    assert three.deliver_notifications() == []
    assert len(receiver.requests) == 1


def test_a_rehearsal_tells_nobody(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    with three.rehearse() as rehearsal:
        promote(rehearsal, "m/1")
        assert rehearsal.deliver_notifications(now=True) == []
        with pytest.raises(InvalidInputError, match="a test can't be rehearsed"):
            rehearsal.test_action("m", "ops")
    assert three.notifications() == []
    assert receiver.requests == []


def test_a_reverted_promotion_is_told_as_a_rollback(three: Registry, receiver: Receiver) -> None:
    promote(three, "m/1")
    hook(three, receiver)
    commit = promote(three, "m/2", "m/1")
    three.revert(commit)
    check_view(three)
    three.deliver_notifications()
    assert told(receiver) == [("promoted", "m", 2), ("rolled-back", "m", 1)]
    assert json.loads(receiver.requests[1].body)["previous"] == 2


def test_a_delivery_is_no_change_that_is_compared_merged_or_undone(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    exp = three.create_branch("exp")
    promote(three, "m/1")
    three.deliver_notifications()
    deliver = three.log(limit=1)[0]
    assert (deliver.kind, deliver.subject, deliver.message) == ("deliver", "m", "record 1 notification")
    changed = {(each.kind, each.key) for each in three.diff("exp").events}
    assert "delivered" not in {kind for kind, _ in changed}
    exp.merge("main")
    assert exp.deliver_notifications() == []
    with pytest.raises(HeadwaterError):
        three.revert(deliver.commit)
    assert three.notifications() == []


@on_one_lake
def test_what_an_action_does_is_said_in_words(three: Registry) -> None:
    three.create_branch("before")
    three.add_action("m", "ops", webhook="https://example.com/x", on=["refused"])
    three.add_action("m", "page", command="page 'fraud team'", on=["promoted", "traffic"])
    said = {each.key: each.after for each in three.diff("before").events if each.kind == "action"}
    assert said == {
        "ops": "post to https://example.com/x on refused",
        "page": "run page 'fraud team' on promoted, traffic",
    }


# -- at least once, in order ------------------------------------------------------------------------------------------
def test_what_fails_is_tried_again_later_and_holds_up_its_own_model_only(three: Registry, receiver: Receiver) -> None:
    three.register("n", "artifact")
    with Receiver() as other:
        hook(three, receiver, "*", "all")
        hook(three, other, "*", "second")
        receiver.before = lambda request: Reply(503) if b'"model":"m"' in request.body else None
        promote(three, "m/1")
        promote(three, "m/2", "m/1")
        promote(three, "n/1")
        made = three.deliver_notifications()
        outcomes = {(each.notification.action, each.notification.text[:3], each.outcome) for each in made}
        assert outcomes == {
            ("all", "m/1", "waiting"), ("all", "n/1", "delivered"),
            ("second", "m/1", "delivered"), ("second", "m/2", "delivered"), ("second", "n/1", "delivered"),
        }  # fmt: skip
        waiting = next(each for each in made if each.outcome == "waiting")
        assert waiting.detail == "HTTP 503"
        assert waiting.next_try_at is not None
        check_view(three, *made)
        assert three.deliver_notifications() == []  # not yet
        first, second = three.notifications()
        assert (first.status, first.tries, first.error) == ("waiting", 1, "HTTP 503")
        assert first.next_try_at == waiting.next_try_at
        assert (second.status, second.tries, second.version) == ("pending", 0, 2)
        (again,) = three.deliver_notifications(now=True)
        assert (again.outcome, again.notification.tries) == ("waiting", 2)
        receiver.before = lambda request: None
        made = three.deliver_notifications(now=True)
        assert [(each.notification.version, each.outcome) for each in made] == [(1, "delivered"), (2, "delivered")]
        keys = [each.headers["Idempotency-Key"] for each in receiver.requests if b'"m"' in each.body]
        assert keys[0] == keys[1] == keys[2] != keys[3]
        assert told(other) in ([("promoted", "m", 1), ("promoted", "n", 1), ("promoted", "m", 2)],
                               [("promoted", "n", 1), ("promoted", "m", 1), ("promoted", "m", 2)])  # fmt: skip


@on_one_lake
def test_pauses_grow_and_a_server_may_ask_for_longer_ones(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    for seconds in (5, 15, 45):
        receiver.replies = [Reply(500)]
        before = now_micros()
        (made,) = three.deliver_notifications(now=True)
        assert made.next_try_at is not None
        pause = made.next_try_at.timestamp() - before / 1e6
        assert seconds * 0.5 - 1 <= pause <= seconds * 1.5 + 10
    receiver.replies = [Reply(429, {"Retry-After": "3000"})]
    (made,) = three.deliver_notifications(now=True)
    assert made.next_try_at is not None
    assert 2990 <= made.next_try_at.timestamp() - time.time() <= 3001


def test_what_is_refused_is_given_up_and_the_next_is_told(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    promote(three, "m/2", "m/1")
    receiver.replies = [Reply(404)]
    made = three.deliver_notifications()
    assert [(each.outcome, each.detail) for each in made] == [("failed", "HTTP 404"), ("delivered", None)]
    check_view(three, *made)
    assert three.notifications() == []


@on_one_lake
@pytest.mark.parametrize(
    ("tries", "age", "outcome"), [(9, DAY + 1, "failed"), (8, DAY + 1, "waiting"), (9, 0, "waiting")]
)
def test_after_ten_tries_and_a_day_it_is_given_up(
    three: Registry, receiver: Receiver, tries: int, age: int, outcome: str
) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    it = three.notifications()[0]
    progress = Progress(it.tx, "waiting", tries, now_micros() - age, now_micros(), "HTTP 503")

    def work(tx: Transaction) -> None:
        tx.event(cursor_subject(it.model_id, "ops"), "delivered", progress.text(), key=it.model_id)

    three._context.write("deliver", work)
    receiver.replies = [Reply(503)]
    (made,) = three.deliver_notifications()
    assert made.outcome == outcome
    assert made.detail == ("HTTP 503; given up after 10 tries" if outcome == "failed" else "HTTP 503")


CRASHING = """
import os, signal, sys, headwater
from headwater.notifications import Notifications

def die(self, results):
    print("sent", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

Notifications._record = die
with headwater.open(sys.argv[1]) as registry:
    registry.deliver_notifications()
"""


def test_what_was_sent_and_not_recorded_is_sent_again_with_the_same_key(
    three: Registry, registry_url: str, receiver: Receiver
) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    promote(three, "m/2", "m/1")
    ran = subprocess.run(
        [sys.executable, "-c", CRASHING, registry_url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stdout) == (-signal.SIGKILL, "sent\n"), ran.stderr
    assert told(receiver) == [("promoted", "m", 1)]
    assert len(three.notifications()) == 2
    three.deliver_notifications()
    assert told(receiver) == [("promoted", "m", 1), ("promoted", "m", 1), ("promoted", "m", 2)]
    keys = [each.headers["Idempotency-Key"] for each in receiver.requests]
    assert keys[0] == keys[1] != keys[2]


def test_two_deliverers_of_one_machine_take_turns(three: Registry, registry_url: str, receiver: Receiver) -> None:
    hook(three, receiver)
    for version in (1, 2, 3):
        promote(three, f"m/{version}")
    receiver.before = lambda request: time.sleep(0.1)

    def deliver() -> None:
        with headwater.open(registry_url, actor="other") as other:
            other.deliver_notifications()

    threads = [threading.Thread(target=deliver) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert told(receiver) == [("promoted", "m", 1), ("promoted", "m", 2), ("promoted", "m", 3)]
    assert three.notifications() == []


@on_one_lake
def test_who_waits_too_long_for_another_deliverer_is_told_so(
    three: Registry, registry_url: str, receiver: Receiver
) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    said: list[str] = []

    def meanwhile(_request: object) -> None:
        with headwater.open(registry_url) as other:
            try:
                other.deliver_notifications(wait=0.05)
            except ConflictError as error:
                said.append(error.message)

    receiver.before = meanwhile
    three.deliver_notifications()
    assert said == ["another process delivers notifications"]
    assert len(receiver.requests) == 1


def test_deliverers_on_two_machines_lose_and_reorder_nothing(
    three: Registry, registry_url: str, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share no lock, so a notification may come twice; the first time that each key comes is in order."""
    from headwater import notifications

    hook(three, receiver)
    for version in (1, 2, 3):
        promote(three, f"m/{version}")
    monkeypatch.setattr(notifications.fcntl, "flock", lambda *_: None)
    receiver.before = lambda request: time.sleep(0.05)
    threads = [threading.Thread(target=three.deliver_notifications) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    first = list(dict.fromkeys(each.headers["Idempotency-Key"] for each in receiver.requests))
    order = {each.headers["Idempotency-Key"]: json.loads(each.body)["version"] for each in receiver.requests}
    assert [order[key] for key in first] == [1, 2, 3]
    assert three.notifications() == []
    model_id = three.get("m/1").model_id
    with three._context.reading() as fold:
        standing = fold.standing(cursor_subject(model_id, "ops"), "delivered", model_id)
    assert len(standing) == 1


def test_a_deliverer_that_is_behind_does_not_set_another_one_back(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    promote(three, "m/2", "m/1")
    service = three._notifications
    with three._context.reading() as fold:
        (queue,) = service._outbox(fold).queues()
    three.deliver_notifications()
    late = Progress(queue.steps[0].tx, "waiting", 1, now_micros(), now_micros(), "HTTP 503")
    service._record([(queue, late)])
    assert three.notifications() == []


@on_one_lake
def test_no_more_is_begun_when_the_time_is_up(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    assert three.deliver_notifications(within=0.0) == []
    assert len(three.notifications()) == 1
    assert receiver.requests == []


def test_an_unreadable_cursor_or_action_stops_nothing(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    promote(three, "m/1")
    model_id = three.get("m/1").model_id
    deep = "[" * 100_000

    def work(tx: Transaction) -> None:
        for text in ("nonsense", "[]", '{"tx": 1, "outcome": "delivered", "tries": 1, "since": 1}', deep):
            tx.event(cursor_subject(model_id, "ops"), "delivered", text, key=model_id, prev=[])
            tx.event(model_id, "action", text, key=f"bad-{len(text)}")
        tx.event(model_id, "action", '{"on": ["promoted"], "branch": "main"}', key="empty")

    three._context.write("forged", work)
    made = three.deliver_notifications()
    assert told(receiver) == [("promoted", "m", 1)]
    assert [each.outcome for each in made] == ["delivered"]
    three.sql("FROM notifications")
    assert {each.name for each in three.actions()} == {"ops", "empty"}
    promote(three, "m/2", "m/1")
    blocked = next(each for each in three.deliver_notifications() if each.outcome == "blocked")
    assert blocked.detail == "the action says neither URL nor command"


# -- secrets ----------------------------------------------------------------------------------------------------------
def test_a_secret_stays_on_the_machine(
    three: Registry, registry_url: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPS_SECRET", SECRET)
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    hook(three, receiver, secret_env="OPS_SECRET")
    hook(three, receiver, name="by-file", secret_file=file)
    promote(three, "m/1")
    made = three.deliver_notifications()
    assert [each.outcome for each in made] == ["delivered", "delivered"]
    signatures = [each.headers["X-Headwater-Signature"] for each in receiver.requests]
    assert all(each.startswith("t=") for each in signatures)
    assert {each.secret for each in three.actions()} == {"env OPS_SECRET", f"file {file}"}
    assert SECRET not in repr((made, three.actions(), three.notifications()))
    assert three.sql("SELECT count(*) FROM lake.events WHERE contains(value, ?)", [SECRET]).fetchall() == [(0,)]


@on_one_lake
def test_a_machine_without_the_secret_leaves_it_to_another_one(
    three: Registry, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    monkeypatch.delenv("OPS_SECRET", raising=False)
    hook(three, receiver, secret_env="OPS_SECRET")
    hook(three, receiver, name="by-file", secret_file=file)
    promote(three, "m/1")

    def details() -> set[str | None]:
        made = three.deliver_notifications(now=True)
        assert {each.outcome for each in made} == {"blocked"}
        return {each.detail for each in made}

    assert details() == {
        "this machine has no secret in the variable 'OPS_SECRET'",
        f"this machine has no secret in the file '{file}': No such file or directory",
    }
    monkeypatch.setenv("OPS_SECRET", "short")
    file.write_text(SECRET)
    file.chmod(0o640)
    assert details() == {
        "the secret in the variable 'OPS_SECRET' has not 16 to 4096 bytes",
        f"the secret in the file '{file}' is open to others: chmod 600",
    }
    file.unlink()
    os.mkfifo(file, 0o600)
    assert f"the secret in the file '{file}' is open to others: chmod 600" in details()
    file.unlink()
    file.write_text("x" * 5000)
    file.chmod(0o600)
    assert f"the secret in the file '{file}' has not 16 to 4096 bytes" in details()
    assert receiver.requests == []
    assert {each.tries for each in three.notifications()} == {0}
    monkeypatch.setenv("OPS_SECRET", SECRET)
    assert {each.outcome for each in three.deliver_notifications()} == {"delivered", "blocked"}


# -- commands ---------------------------------------------------------------------------------------------------------
def script(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def allow(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    place = tmp_path / "config" / "headwater" / "allowed-commands"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    place.chmod(0o600)
    return place


@on_one_lake
def test_a_command_runs_only_where_the_machine_allows_it(
    three: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.json"
    program = script(
        tmp_path / "hook",
        "import json, os, sys\n"
        f"kept = {{k: v for k, v in os.environ.items() if k.startswith('HEADWATER_')}}\n"
        f"json.dump([sys.argv[1:], sys.stdin.read(), kept], open({str(out)!r}, 'w'))\nprint('done')\n",
    )
    command = f"{program} --team 'fraud team' '$(touch evil)'"
    three.add_action("m", "page", command=command)
    promote(three, "m/1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (made,) = three.deliver_notifications()
    assert (made.outcome, made.detail) == ("blocked", f"this machine does not allow the command: {command}")
    place = allow(f"# what actions may run here\n\n{program} --team fraud\n", monkeypatch, tmp_path)
    assert three.deliver_notifications()[0].outcome == "blocked"
    place.write_text(f"{program} --team other\n  {command}  \n")
    place.chmod(0o666)
    (made,) = three.deliver_notifications()
    assert (made.outcome, made.detail) == ("blocked", f"others can write {place}, so it allows nothing")
    assert not out.exists()
    assert three.notifications()[0].tries == 0
    place.chmod(0o600)
    (made,) = three.deliver_notifications()
    assert (made.outcome, made.output) == ("delivered", "done\n")
    words, text, variables = json.loads(out.read_text())
    assert words == ["--team", "fraud team", "$(touch evil)"]
    document = json.loads(text)
    assert (document["event"], document["model"], document["version"]) == ("promoted", "m", 1)
    assert json.loads(variables["HEADWATER_NOTIFICATION"]) == document
    assert variables["HEADWATER_EVENT"] == "promoted"
    assert (variables["HEADWATER_MODEL"], variables["HEADWATER_VERSION"]) == ("m", "1")
    assert variables["HEADWATER_STAGE"] == "production"
    assert variables["HEADWATER_IDEMPOTENCY_KEY"] == document["idempotency_key"] == made.notification.key
    assert variables["HEADWATER_DELIVERING"] == "1"


@on_one_lake
def test_a_command_that_fails_is_tried_again_and_what_it_printed_stays_here(three: Registry, tmp_path: Path) -> None:
    program = script(tmp_path / "hook", "import sys\nprint('the password is 1234')\nsys.exit(3)\n")
    three.add_action("m", "page", command=str(program))
    promote(three, "m/1")
    (made,) = three.deliver_notifications(allow_commands=True)
    assert (made.outcome, made.detail) == ("waiting", "the command ended with exit status 3")
    assert made.output == "the password is 1234\n"
    assert three.sql("SELECT count(*) FROM lake.events WHERE contains(value, '1234')").fetchall() == [(0,)]
    script(program, "import os\nos.kill(os.getpid(), 9)\n")
    (made,) = three.deliver_notifications(allow_commands=True, now=True)
    assert made.detail == "the command ended with signal 9"
    program.unlink()
    (made,) = three.deliver_notifications(allow_commands=True, now=True)
    assert (made.outcome, made.detail) == ("blocked", f"this machine has no program '{program}'")


# -- bad input --------------------------------------------------------------------------------------------------------
BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "an action posts to a URL or runs a command"),
    ({"webhook": "https://example.com/", "command": "true"}, "an action posts to a URL or runs a command"),
    ({"command": "true", "secret_env": "X"}, "a secret and a private address are for URLs"),
    ({"command": "true", "allow_private": True}, "a secret and a private address are for URLs"),
    ({"command": "bin/hook"}, "bin/hook depends on the folder that it is run in"),
    ({"command": "echo 'x"}, "not a command: echo 'x"),
    ({"command": ""}, "not a command: "),
    ({"command": "true\nfalse"}, r"not a command: true\nfalse"),
    ({"webhook": "https://10.0.0.1/"}, "a webhook may not be at 10.0.0.1: that is a private or reserved address"),
    ({"webhook": "https://example.com/", "secret_env": SECRET}, "that is not the name of an environment variable"),
    ({"webhook": "https://example.com/", "secret_env": "X", "secret_file": "/x"}, "a secret is in one place"),
    ({"webhook": "https://example.com/", "secret_file": "x"}, "the file of a secret is named by its whole path"),
    ({"webhook": "https://example.com/", "on": []}, "an action is for something"),
    ({"webhook": "https://example.com/", "on": ["promoted", "sold"]}, "nothing is called sold"),
    ({"webhook": "https://example.com/", "name": "../x"}, "not a name for an action"),
    ({"webhook": "https://example.com/", "model": "m/1"}, "m/1 is a version"),
    ({"webhook": "https://example.com/", "model": "M*"}, "not a pattern of model names: M*"),
    ({"webhook": "https://example.com/", "model": "m[a-z]*"}, "not a pattern of model names: m[a-z]*"),
]


@on_one_lake
def test_actions_that_can_not_be(registry: Registry) -> None:
    Path("artifact").write_text("weights")
    registry.register("m", "artifact")
    for named, said in BAD:
        arguments = {"model": "*", "name": "ops", **named}
        with pytest.raises(InvalidInputError) as caught:
            registry.add_action(**arguments)
        assert said.replace("'", "") in caught.value.message.replace('"', "").replace("'", ""), named
        assert SECRET not in caught.value.message + caught.value.hint
    assert registry.actions() == []


def test_what_is_not_there_is_said(three: Registry) -> None:
    with pytest.raises(NotFoundError, match="there is no model nope"):
        three.add_action("nope", "ops", webhook="https://example.com/")
    for call in (three.remove_action, three.test_action):
        with pytest.raises(NotFoundError, match="m has no action 'ops'"):
            call("m", "ops")
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        three.at("main").deliver_notifications()


def test_a_test_is_delivered_and_recorded_nowhere(three: Registry, receiver: Receiver) -> None:
    hook(three, receiver)
    head = three.head
    made = three.test_action("m", "ops")
    assert made.outcome == "delivered"
    assert three.head == head
    document = json.loads(receiver.requests[0].body)
    assert (document["event"], document["model"], document["version"]) == ("test", "m", None)
    receiver.replies = [Reply(500)]
    assert three.test_action("m", "ops").detail == "HTTP 500"
    assert three.head == head
