"""Decisions about production that race, or whose process dies: each is taken on what it lands on, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater import ConflictError, GateFailedError, HeadwaterError, gates, production
from headwater.merge_model import MergeRefusedError
from headwater.registry import Registry

POLICY = '[production]\napprovals = {{ count = 1, role = "reviewer" }}\n[[production.gate]]\nmetric = "auc"\nmin = {}\n'


@pytest.fixture
def other(registry: Registry, registry_url: str) -> Iterator[Registry]:
    """The same lake, opened by somebody else."""
    with headwater.open(registry_url, actor="rita") as opened:
        yield opened


@pytest.fixture
def ready(registry: Registry, other: Registry, tmp_path: Path) -> Registry:
    """A registry with version 1 in production, and 2 and 3 that are approved and pass."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    for _ in range(3):
        registry.register("m", path, metrics={"auc": 0.9})
    registry.set_alias("m", "champion", 1)
    for number in (2, 3):
        registry.stage(f"m/{number}", "staging")
        other.approve(f"m/{number}", "production")
    registry.set_gates("m", POLICY.format(0.8))
    return registry


def champion(registry: Registry) -> int:
    """Return what is in production; all faces of it agree."""
    with registry._context.reading() as fold:
        assert production.faces_agree(fold, registry.model("m").model_id)
    (live,) = [each.version for each in registry.serving("production") if each.mode == "live"]
    assert registry.resolve("m@champion").version == live
    return live


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that has something done after the n-th time that gates were asked, before what they said is used."""

    def arrange(number: int, act: Callable[[], object]) -> None:
        asked, true = [0], gates.evaluate

        def evaluate(*given: Any, **named: Any) -> Any:
            found = true(*given, **named)
            asked[0] += 1
            if asked[0] == number:
                act()
            return found

        monkeypatch.setattr(gates, "evaluate", evaluate)

    return arrange


def unqueue(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let writers of this machine race, as those of several machines do."""
    monkeypatch.setattr(type(registry._context.lake), "exclusive", lambda self: nullcontext())


CHANGES: dict[str, Callable[[Registry], object]] = {
    "the policy": lambda other: other.set_gates("m", POLICY.format(0.95)),
    "an approval": lambda other: other.approve("m/2", "production", withdraw=True),
    "a metric": lambda other: measure(other),
}


def measure(registry: Registry) -> None:
    """Write a newer value of the metric of version 2."""

    def work(tx: Any) -> None:
        version_id = registry.get("m/2").version_id
        tx.append("metrics", version_id=version_id, key="auc", value=0.1, slice="", source="claimed", ordinal=0)
        tx.fence(registry.model("m").model_id)
        tx.subject, tx.message = "m/2", "measured again"

    registry._context.write("evaluate", work)


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("number", [1, 2], ids=["before the transaction", "within it"])
def test_what_gates_read_can_not_change_before_it_lands(
    ready: Registry, other: Registry, between: Any, monkeypatch: pytest.MonkeyPatch, what: str, number: int
) -> None:
    if number == 2:
        unqueue(ready, monkeypatch)
    between(number, lambda: CHANGES[what](other))
    with pytest.raises(GateFailedError):
        ready.promote("m/2", "production")
    assert champion(ready) == 1


@pytest.mark.parametrize("number", [1, 2], ids=["before the transaction", "within it"])
def test_of_two_promotions_one_wins_and_the_other_is_told(
    ready: Registry, other: Registry, between: Any, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    if number == 2:
        unqueue(ready, monkeypatch)
    between(number, lambda: other.promote("m/3", "production"))
    with pytest.raises(ConflictError, match="somebody else decided first: m/3 is in production of m now"):
        ready.promote("m/2", "production")
    assert champion(ready) == 3
    assert ready.promote("m/2", "production").previous == 3
    assert champion(ready) == 2


def test_nothing_in_between_is_ever_seen(ready: Registry, registry_url: str) -> None:
    """Two that promote by turns, and one that looks."""
    seen: set[int] = set()
    done = threading.Event()
    errors: list[HeadwaterError] = []

    def promote(actor: str, numbers: list[int]) -> None:
        with headwater.open(registry_url, actor=actor) as registry:
            for number in numbers:
                try:
                    registry.rollback("m", to=number)
                except ConflictError as error:
                    errors.append(error)

    for number in (2, 3):
        ready.promote(f"m/{number}", "production")
    threads = [threading.Thread(target=promote, args=(who, list(each))) for who, each in (("a", (1, 2)), ("b", (3, 1)))]

    def look() -> None:
        with headwater.open(registry_url, actor="viewer") as registry:
            while not done.is_set():
                with registry._context.reading() as fold:
                    model_id = fold.one("SELECT model_id FROM models")[0]
                    assert production.faces_agree(fold, model_id)
                    found = production.production_of(fold, model_id)
                    seen.add(fold.one("SELECT version FROM versions WHERE version_id = ?", found)[0])

    looking = threading.Thread(target=look)
    for each in (looking, *threads):
        each.start()
    for each in threads:
        each.join()
    done.set()
    looking.join()
    assert seen <= {1, 2, 3}
    assert champion(ready) in (1, 2, 3)


# -- merges -----------------------------------------------------------------------------------------------------------
def branched(registry: Registry) -> Registry:
    """Make a branch on which version 2 is in production."""
    exp = registry.create_branch("exp")
    with headwater.open(registry.url, actor="rita", branch="exp") as rita:
        rita.approve("m/2", "production")
    exp.promote("m/2", "production")
    return exp


@pytest.mark.parametrize("what", CHANGES)
def test_a_merge_decides_on_what_it_lands_on(ready: Registry, other: Registry, between: Any, what: str) -> None:
    branched(ready)
    between(1, lambda: CHANGES[what](other))
    with pytest.raises(MergeRefusedError):
        ready.merge("exp")
    assert champion(ready) == 1
    assert ready.log(limit=1)[0].kind == "refuse"


def test_a_merge_that_others_overtake_is_made_again(ready: Registry, other: Registry, between: Any) -> None:
    branched(ready)
    between(1, lambda: other.tag("m", {"k": "v"}))
    done = ready.merge("exp")
    assert [each.action for each in done.replayed] == ["promote"]
    assert champion(ready) == 2
    assert ready.model("m").tags == {"k": "v"}
    assert [each.kind for each in ready.log(limit=2)] == ["promote", "merge"]
    assert not [name for name in ready._context.lake.branches() if name.startswith("_hw_")]


KILLED = """
import os, signal, sys
import headwater
from headwater import promotion, together

def die(*given, **named):
    os.kill(os.getpid(), signal.SIGKILL)

place, url = sys.argv[1:]
if place == "before the promotion":
    promotion.Promotions.promote = die
elif place == "within it":
    promotion.gates.write_results = die
else:
    with headwater.open(url) as registry:
        type(registry._context.lake).move_branch = die
with headwater.open(url, actor="tester") as registry:
    registry.merge("exp")
"""


@pytest.mark.parametrize("place", ["before the promotion", "within it", "before it lands"])
def test_a_merge_that_is_killed_leaves_nothing(ready: Registry, registry_url: str, place: str) -> None:
    branched(ready)
    before = ready.head
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, place, registry_url], env=dict(os.environ), capture_output=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert ready.head == before
    assert champion(ready) == 1
    ready.merge("exp")
    assert champion(ready) == 2
