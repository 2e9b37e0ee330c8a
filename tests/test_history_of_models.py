"""The story of a model, and what it was at a time: in words, in landing order, the same as `main@{time}`."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from tests.command_line import CommandLine

import headwater
from headwater import transaction
from headwater.errors import GateFailedError, InvalidInputError, NotFoundError
from headwater.history_model import Happening, HistoryEntry
from headwater.registry import Registry

POLICY = '[[production.gate]]\nmetric = "auc"\nmin = 0.8\n'


@pytest.fixture
def three(registry: Registry) -> Registry:
    """A registry with model `m` of three versions."""
    Path("artifact").write_text("weights")
    for number in range(3):
        registry.register("m", "artifact", metrics={"auc": 0.7 + number / 10})
    return registry


def texts(entry: HistoryEntry) -> list[str]:
    return [each.text for each in entry.happenings]


def find(entries: list[HistoryEntry], kind: str, text: str) -> tuple[HistoryEntry, Happening]:
    """The one happening of a kind with a text in it."""
    ((entry, found),) = [
        (entry, each) for entry in entries for each in entry.happenings if each.kind == kind and text in each.text
    ]
    return entry, found


def set_policy(registry: Registry, text: str, subject: str = "") -> None:
    model_id = registry.get("m/1").model_id
    registry._context.write("gates", lambda tx: tx.event(subject or model_id, "policy", text))


# -- the story --------------------------------------------------------------------------------------------------------
def test_the_whole_story_is_told_newest_first(three: Registry) -> None:
    three.promote("m/1", "staging")
    three.promote("m/1", "production", reason="the first")
    three.promote("m/2", "staging")
    three.promote("m/2", "production", traffic=5)
    three.set_traffic("m", 25)
    three.set_traffic("m", 100)
    three.rollback("m", reason="worse on JFK")
    three.set_alias("m", "stable", 1)
    story = three.history("m")
    assert [each.kind for each in story] == [
        *("alias", "rollback", "traffic", "traffic", "promote", "promote", "promote", "promote"),
        *("register", "register", "register"),
    ]
    log = three.log("m")
    assert [each.commit for each in story] == [each.commit for each in log]
    assert [each.message for each in story] == [each.message for each in log]
    assert {each.actor for each in story} == {"tester"}
    rollback = story[1]
    assert rollback.reason == "worse on JFK"
    assert "version 1: archived -> production" in texts(rollback)
    assert "version 2: production -> archived" in texts(rollback)
    assert "champion is 1, was 2" in texts(rollback)
    assert "production is served by 1 live 100 %" in texts(rollback)
    canary = story[4]
    assert [each for each in texts(canary) if "served" in each] == ["production is served by 1 live 95 %, 2 canary 5 %"]
    assert texts(story[-1]) == ["version 1 is registered", "it is called m"]
    assert texts(story[0]) == ["stable is 1"]
    alias = story[0].happenings[0]
    assert (alias.kind, alias.key, alias.version, alias.before, alias.mark) == ("alias", "stable", None, (), "")
    assert [each.commit for each in three.history("m", limit=3)] == [each.commit for each in story[:3]]
    assert not any(each.overridden for each in story)


def test_gates_refusals_and_overrides_stand_out(three: Registry) -> None:
    set_policy(three, POLICY)
    three.promote("m/1", "staging")
    with pytest.raises(GateFailedError):
        three.promote("m/1", "production")
    three.promote("m/1", "production", override="the demo is at nine")
    three.promote("m/3", "staging")
    three.promote("m/3", "production")
    story = three.history("m")
    entry, policy = find(story, "policy", "the policy is set, ")
    assert policy.value == POLICY
    entry, refusal = find(story, "refusal", "REFUSED for production")
    assert (refusal.mark, refusal.version) == ("refused", 1)
    assert "auc" in refusal.text
    entry, override = find(story, "override", "OVERRIDE: gates of production were passed over: the demo is at nine")
    assert (override.mark, override.version, entry.overridden) == ("override", 1, True)
    failed = [each for each in entry.happenings if each.kind == "gate"]
    assert [each.mark for each in failed] == ["failed"]
    assert "FAILED: required >= 0.8, found 0.7" in failed[0].text
    entry, passed = find(story, "gate", "passed: required >= 0.8, found 0.9")
    assert (passed.mark, passed.version, passed.value["passed"]) == ("", 3, True)


def test_every_kind_of_event_has_words(three: Registry) -> None:
    version_id, model_id = three.get("m/2").version_id, three.get("m/2").model_id

    def write(subject: str, kind: str, value: object, key: str = "") -> None:
        text = value if isinstance(value, str) or value is None else json.dumps(value)
        three._context.write("bench", lambda tx: tx.event(subject, kind, text, key=key))

    write(version_id, "check", {"passed": True, "url": "https://ci/1", "detail": "42 tests"}, "integration")
    write(version_id, "check", {"passed": False, "url": None, "detail": None}, "integration")
    write(version_id, "approval", {"given": True, "branch": "main"}, "production actor:bob")
    write(version_id, "approval", {"given": False, "branch": "main"}, "production actor:bob")
    write("actor:bob", "role", "granted", "reviewer m*")
    write("actor:bob", "role", "revoked", "reviewer m*")
    write("actor:bob", "role", "granted", "reviewer n*")  # of others
    write("pattern:m*", "policy", POLICY)
    write("pattern:m*", "policy", None)
    write("pattern:n*", "policy", POLICY)
    write(model_id, "action", {"command": ["true"]}, "tell")
    write(version_id, "check", "nonsense", "other")
    write(version_id, "wonder", "seen", "of the world")
    write(version_id, "wonder", None, "of the world")
    three.tag("m/2", {"team": "ops"})
    three.describe("m", "Says how late\na flight will be.")
    three.delete("m/3", reason="a mistake")
    three.undelete("m/3")
    three.set_alias("m", "stable", 2)
    three.delete_alias("m", "stable")
    three.rename("m", "n")
    digest = sha256(POLICY.encode()).hexdigest()[:12]
    found = [text for entry in three.history("n") for text in texts(entry)]
    assert found[: found.index("version 3 is registered")] == [
        *("it is called n, was m", "stable is no more, was 2", "stable is 2"),
        *("version 3: brought back", "version 3: deleted", "described: Says how late a flight will be."),
        *("version 2: tag team is ops", "version 2: wonder of the world is taken away"),
        *("version 2: wonder of the world is seen", "version 2: check other says what can't be read"),
        "action tell is set",
        *(f"the policy of pattern:n* is set, {digest}",),
        *("the policy of pattern:m* is taken away", f"the policy of pattern:m* is set, {digest}"),
        "bob is reviewer of n*",
        *("bob is reviewer of m* no more", "bob is reviewer of m*"),
        *("version 2: bob approves it no more for production", "version 2: bob approves it for production on main"),
        *("version 2: check integration FAILED", "version 2: check integration passed, https://ci/1, 42 tests"),
    ]
    marks = {each.mark for entry in three.history("n") for each in entry.happenings if "FAILED" in each.text}
    assert marks == {"failed"}


def test_what_a_merge_brought_is_told_where_it_landed(three: Registry) -> None:
    branch = three.create_branch("exp")
    branch.set_alias("m", "candidate", 2)
    before = datetime.now(UTC)
    time.sleep(0.002)
    three.set_alias("m", "other", 1)
    three.merge("exp")
    story = three.history("m")
    entry, _ = find(story, "alias", "candidate is 2")
    assert entry.recorded_at < before < entry.landed_at
    assert three.history("m", at=entry.landed_at - timedelta(microseconds=1)).aliases == {"other": 1}
    assert three.history("m", at=entry.landed_at).aliases == {"candidate": 2, "other": 1}


def test_what_is_asked_badly(three: Registry) -> None:
    with pytest.raises(NotFoundError, match="no model"):
        three.history("nowhere")
    with pytest.raises(InvalidInputError, match="a story is a model's"):
        three.history("m/1")
    with pytest.raises(InvalidInputError, match="not a time"):
        three.history("m", at="yesterday")
    with pytest.raises(InvalidInputError, match="time zone"):
        three.history("m", at=datetime(2026, 11, 1))
    with pytest.raises(NotFoundError, match="the history begins at"):
        three.history("m", at="2001-01-01")
    born = three.history("m")[-1].landed_at
    with pytest.raises(NotFoundError, match="there was no model m yet"):
        three.history("m", at=born - timedelta(microseconds=1))
    with pytest.raises(InvalidInputError, match="not a limit"):
        three.history("m", limit=-1)


# -- what was ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that says that every moment is two seconds before the last."""
    now = [int(time.time() * 1_000_000)]

    def micros() -> int:
        now[0] -= 2_000_000
        return now[0]

    monkeypatch.setattr(transaction, "now_micros", micros)


def story_of(registry: Registry) -> None:
    Path("artifact").write_text("weights")
    for _ in range(3):
        registry.register("m", "artifact")
    registry.promote("m/1", "staging")
    registry.promote("m/1", "production")
    registry.deploy("m/2", "staging-site")
    registry.promote("m/2", "staging")
    registry.promote("m/2", "production", traffic=20)
    registry.rename("m", "n")
    registry.set_traffic("n", 100)
    registry.rollback("n")
    registry.delete("n/3")


def check(registry: Registry) -> None:
    """At every landing, what was is what `main@{time}` has: by the library, and by SQL."""
    moments = registry.sql("SELECT landed_at FROM lake.commits WHERE landed = commit ORDER BY position").fetchall()
    seen = 0
    for (moment,) in moments:
        for when in (moment, moment + timedelta(microseconds=1)):
            ref = f"main@{{{when.isoformat()}}}"
            view = registry.at(ref)
            models = [each.name for each in view.models()]
            if not models:
                with pytest.raises(NotFoundError):
                    registry.history("n", at=when)
                continue
            (name,) = models
            then = registry.history("n", at=when)
            assert then == registry.history(name, at=when)
            assert then.name == name
            assert then.commit == view.head
            versions = {each.version: each for each in view.versions(name)}
            assert dict(then.stages) == {number: each.stage for number, each in sorted(versions.items())}
            aliases = {each.alias: each.version for each in view.aliases(name)}
            assert dict(then.aliases) == aliases
            assert then.champion == aliases.get("champion")
            by_sql = registry.sql("SELECT version FROM alias_at(?, 'champion', ?)", [name, when]).fetchall()
            assert [number for (number,) in by_sql] == ([then.champion] if then.champion else [])
            staged = registry.sql("SELECT version, stage FROM stage_at(?, ?)", [name, when]).fetchall()
            assert dict(staged) == dict(then.stages)
            shares = {
                (each.environment, each.version, each.mode, each.traffic, each.deployment_id) for each in view.serving()
            }
            told = {
                (environment, each.version, each.mode, each.percent, each.deployment_id)
                for environment, found in then.traffic.items()
                for each in found
            }
            assert told == shares
            assert [each.commit for each in then.entries] == [each.commit for each in view.log(name)]
            assert then.unsettled == ()
            seen += then.champion is not None
    assert seen > 6


def test_what_was_is_what_the_branch_had(registry: Registry) -> None:
    story_of(registry)
    check(registry)


@pytest.mark.usefixtures("backwards")
def test_clocks_that_run_backwards_change_nothing(registry: Registry) -> None:
    story_of(registry)
    check(registry)


def test_what_two_branches_disagreed_about_is_said(three: Registry) -> None:
    three._context.write(
        "a", lambda tx: tx.event(three.get("m/1").model_id, "alias", three.get("m/1").version_id, key="x")
    )
    three._context.write(
        "b", lambda tx: tx.event(three.get("m/1").model_id, "alias", three.get("m/2").version_id, key="x", prev=[])
    )
    then = three.history("m", at=datetime.now(UTC))
    assert then.unsettled == ("alias x stood at 2 values",)
    assert then.aliases == {}


# -- the command ------------------------------------------------------------------------------------------------------
def test_the_command_tells_what_the_library_does(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    line = CommandLine()
    with headwater.open(registry_url, actor="ann") as registry:
        story_of(registry)
        set_policy_of = registry.get("n/1").model_id
        registry._context.write("gates", lambda tx: tx.event(set_policy_of, "policy", POLICY))
        with pytest.raises(GateFailedError):
            registry.promote("n/2", "production") if registry.get("n/2").stage == "staging" else registry.promote(
                "n/2", "staging"
            )
        story = registry.history("n")
        assert [each["commit"] for each in line.json("history", "n")] == [each.commit for each in story]
        text = line.out("history", "n")
        for each in story:
            assert f"{each.commit[:12]}  ann  {each.message}" in text
        assert "    champion is 1, was 2" in text
        between = story[-6].landed_at.isoformat()
        then = line.json("history", "n", "--at", between)
        assert then["champion"] == 1
        assert then["stages"] == {"1": "production", "2": "none", "3": "none"}
        text = line.out("history", "m", "--at", between, "--limit", "1")
        assert text.startswith("m at ")
        assert "champion      1" in text
        assert line.out("history", "n", "--limit", "1").count("\n") >= 1
        assert line.error("history", "n", "--at", "noon", status=2)[0] == "InvalidInputError"


def test_an_override_is_red_on_a_terminal_for_ever(three: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.cli import output
    from headwater.cli.history import _story

    set_policy(three, POLICY)
    three.promote("m/1", "staging")
    three.promote("m/1", "production", override="no time")
    three.promote("m/3", "staging")
    three.promote("m/3", "production")
    three.rollback("m")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not any("\x1b" in each for each in _story(three.history("m")))
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    lines = list(_story(three.history("m")))
    assert [each for each in lines if "\x1b[1;31m" in each] == [
        "    \x1b[1;31mversion 1: OVERRIDE: gates of production were passed over: no time\x1b[0m"
    ]
