"""Figures on the embedded lake beside MLflow on SQLite: registering, aliases, listing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from report import Figure, median, percentile, shown, times
from worker import HERE, Worker

MODEL, ALIAS = "bench", "champion"
FEW = 10


@dataclass(frozen=True)
class Pair:
    """Headwater and MLflow, each in a process of its own that lives through the run, each with a lake of its own."""

    ours: Worker
    theirs: Worker
    our_lake: str
    their_lake: str
    artifact: str
    many: int


def prepare(folder: Path, ours: Worker, theirs: Worker, many: int) -> Pair:
    """Make both lakes with few versions, and a file of 100 KB."""
    folder.mkdir()
    artifact = folder / "model.bin"
    artifact.write_bytes(os.urandom(100_000))
    pair = Pair(ours, theirs, str(folder / "lake"), str(folder / "mlflow"), str(artifact), many)
    Path(pair.their_lake).mkdir()
    ours.call("create", lake=pair.our_lake)
    theirs.call("create", lake=pair.their_lake)
    theirs.call("create_model", lake=pair.their_lake, model=MODEL)
    _register(pair, FEW, seed=1)
    return pair


def _register(pair: Pair, count: int, seed: int) -> tuple[list[float], list[float]]:
    at = {"model": MODEL, "path": pair.artifact, "times": count, "seed": seed}
    return pair.ours.call("register", lake=pair.our_lake, **at), pair.theirs.call(
        "register", lake=pair.their_lake, **at
    )


def registering(pair: Pair, rounds: int) -> list[Figure]:
    """Register by turns, ten at a time on either side, so that work left behind for later falls into the next ones."""
    ours, theirs, coded, fluently = [], [], [], []
    for turn in range(rounds):
        mine, other = _register(pair, 10, seed=turn * 10)
        ours += mine
        theirs += other
        at = {"model": MODEL, "path": pair.artifact, "times": 5, "seed": turn * 10}
        coded += pair.ours.call("register", lake=pair.our_lake, code=str(HERE), **at)
        fluently += pair.theirs.call("register_fluently", lake=pair.their_lake, **at)
    mine, other = median(ours), median(theirs)
    return [
        Figure(
            f"register 100 KB, 5 params, 5 metrics, 3 tags: p50 of {len(ours)}",
            "≤ 10 ms, MLflow > 4×",
            shown(mine),
            shown(other),
            times(other / mine),
            mine <= 0.010 and mine < 0.25 * other,
        ),
        Figure("the same: p95", "", shown(percentile(ours, 95)), shown(percentile(theirs, 95))),
        Figure("the same: mean", "", shown(sum(ours) / len(ours)), shown(sum(theirs) / len(theirs))),
        Figure(
            "the same, with the state of this Git repository, MLflow by `with start_run()`: p50",
            "",
            shown(median(coded)),
            shown(median(fluently)),
            times(median(fluently) / median(coded)),
        ),
    ]


def _move(pair: Pair, ours: list[float], theirs: list[float], turn: int) -> None:
    at = {"model": MODEL, "alias": ALIAS, "times": 5, "seed": turn * 5}
    ours += pair.ours.call("move_alias", lake=pair.our_lake, **at)
    theirs += pair.theirs.call("move_alias", lake=pair.their_lake, **at)
    for worker, lake in ((pair.ours, pair.our_lake), (pair.theirs, pair.their_lake)):
        assert worker.call("resolved", lake=lake, model=MODEL, alias=ALIAS) == 1 + (turn * 5 + 4) % 10


def moving(pair: Pair, rounds: int) -> Iterator[Figure]:
    """Move an alias of a model of few versions by turns, five times each."""
    ours, theirs = [], []
    for turn in range(rounds):
        _move(pair, ours, theirs, turn)
    mine, other = median(ours), median(theirs)
    label = f"move an alias of a model of {FEW} versions: p50"
    yield Figure(label, "≤ 5 ms", shown(mine), shown(other), times(other / mine), mine <= 0.005)


def moving_many(few: Pair, pair: Pair, rounds: int) -> Iterator[Figure]:
    """Move an alias of a model of many versions by turns with one of few: their ratio counts."""
    ours, theirs, base, their_base = [], [], [], []
    for turn in range(rounds):
        _move(few, base, their_base, turn)
        _move(pair, ours, theirs, turn)
    mine, other = median(ours), median(theirs)
    growth, their_growth = mine / median(base), other / median(their_base)
    yield Figure(
        f"move an alias of a model of {pair.many:,} versions: p50 (that of {FEW}, by turns, being 1)",
        f"≤ 1.2× that of {FEW}",
        f"{shown(mine)} ({growth:.2f}×)",
        f"{shown(other)} ({their_growth:.2g}×)",
        times(other / mine),
        growth <= 1.2,
    )


def resolving(pair: Pair, rounds: int) -> list[Figure]:
    """Resolve an alias in a warm process by turns."""
    ours, theirs = [], []
    for _ in range(rounds):
        at = {"model": MODEL, "alias": ALIAS}
        ours += pair.ours.call("resolve", lake=pair.our_lake, times=200, **at)
        theirs += pair.theirs.call("resolve", lake=pair.their_lake, times=10, **at)
    mine, other = median(ours), median(theirs)
    return [
        Figure(
            f"resolve an alias in a warm process, {pair.many:,} versions: p50",
            "< 100 µs, MLflow ≥ 20×",
            shown(mine),
            shown(other),
            times(other / mine),
            mine < 100e-6 and other >= 20 * mine,
        )
    ]


def fill(pair: Pair) -> None:
    """Bring both to many versions, alike but for times and IDs: Headwater by registering, MLflow by SQL."""
    for have in range(FEW, pair.many, 500):
        count = min(500, pair.many - have)
        at = {"model": MODEL, "path": pair.artifact, "times": count, "seed": have + 1}
        pair.ours.call("register", lake=pair.our_lake, **at)
    assert pair.theirs.call("fill", lake=pair.their_lake, model=MODEL, count=pair.many) == pair.many


def registering_many(pair: Pair, rounds: int) -> list[Figure]:
    """Register further versions of a model that has many."""
    ours, theirs = [], []
    for turn in range(rounds):
        mine, other = _register(pair, 10, seed=turn * 10)
        ours += mine
        theirs += other
    mine, other = median(ours), median(theirs)
    label = f"register, at {pair.many:,} versions: p50"
    return [Figure(label, "", shown(mine), shown(other), times(other / mine))]


def listing(pair: Pair, rounds: int) -> Iterator[Figure]:
    """List all versions of a model of many, and find those with a tag: one in four, and one of all."""
    many = f"{pair.many:,} versions"
    quarter = {"key": "colour", "value": "red"}
    one = {"key": "round", "value": str(pair.many // 2)}
    wanted = "MLflow ≥ 20×"
    yield _search(pair, rounds, f"list {many}", wanted, "list_all", "list_all", {})
    yield _search(pair, rounds, f"find a quarter of {many} by a tag", wanted, "filter_by_tag", "filter_by_tag", quarter)
    yield _search(pair, rounds, "the same, by SQL", wanted, "query_by_tag", "filter_by_tag", quarter)
    yield _search(pair, rounds, f"find one of {many} by a tag", "", "filter_by_tag", "filter_by_tag", one)
    yield _search(pair, rounds, "the same, by SQL", "", "query_by_tag", "filter_by_tag", one)
    for op, label, arguments in (
        ("list_all", f"list {many}, the first time after a write", {}),
        ("query_by_tag", f"find a quarter of {many} by SQL, the first time after a write", quarter),
    ):
        took = pair.ours.call("after_a_write", lake=pair.our_lake, model=MODEL, what=op, times=5, **arguments)
        yield Figure(f"{label}: p50", "", shown(median(took)))


def _search(
    pair: Pair, rounds: int, label: str, target: str, our_op: str, their_op: str, arguments: dict[str, str]
) -> Figure:
    ours, theirs, found = [], [], set()
    for _ in range(rounds):
        for worker, lake, op, took in (
            (pair.ours, pair.our_lake, our_op, ours),
            (pair.theirs, pair.their_lake, their_op, theirs),
        ):
            answer = worker.call(op, lake=lake, model=MODEL, times=3, **arguments)
            took += answer["seconds"]
            found.add(answer["found"])
    assert len(found) == 1, f"{label}: {found} versions found"
    mine, other = median(ours), median(theirs)
    passed = other >= 20 * mine if target else None
    return Figure(f"{label}: p50", target, shown(mine), shown(other), times(other / mine), passed)
