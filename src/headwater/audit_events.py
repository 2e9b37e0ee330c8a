"""Checking the rows of the events against the commits that brought them; knows no signatures, roles or gates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from headwater import tables
from headwater.access import TELEMETRY
from headwater.audit_model import Finding
from headwater.lake.base import Lake
from headwater.signatures import digest_of, parse, summary
from headwater.state import Fold

__all__ = ["EventRows", "check_events"]

_FILES = 64
"""Data files whose rows are held at a time."""

_LOOKED_INTO = 100
"""Transactions of which the events that they held are read at their commits, to say which one is gone."""

Words = Callable[[Mapping[str, Any]], str]
Place = tuple[str, str, str]


@dataclass
class EventRows:
    """What there is of events in the table, as far as checking it needs.

    Attributes:
        rows: By event ID: its digest, transaction, actor, and what it replaces.
        places: By event ID: subject, kind and key.
        twice: IDs that rows of different content have, and those rows.
        by_tx: By transaction: the digests of its events, and their IDs.
        signatures: How many rows have a signature.
    """

    rows: dict[str, tuple[str, str, str, tuple[str, ...]]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    twice: dict[str, list[Mapping[str, Any]]] = field(default_factory=dict)
    by_tx: dict[str, dict[str, str]] = field(default_factory=dict)
    signatures: int = 0

    @classmethod
    def read(cls, lake: Lake, fold: Fold) -> EventRows:
        """Read all rows of the events at a commit.

        Raises:
            IntegrityError: A data file is missing or cannot be read.
        """
        found = cls()
        known: dict[Place, Place] = {}
        paths = iter(sorted(fold.table("events").files))
        while some := list(islice(paths, _FILES)):
            for row in tables.rows(tables.read(lake, fold.commit, "events", some)):
                found._add(row, known)
        return found

    def _add(self, row: Mapping[str, Any], known: dict[Place, Place]) -> None:
        event, seal = row["event_id"], digest_of(row)
        of_tx = self.by_tx.setdefault(row["tx"], {})
        if seal in of_tx:
            return
        of_tx[seal] = event
        if event in self.rows:
            self.twice.setdefault(event, []).append(row)
            return
        self.signatures += row["kind"] not in TELEMETRY and parse(row["signature"]) is not None
        place = (row["subject"], row["kind"], row["key"])
        self.places[event] = known.setdefault(place, place)
        self.rows[event] = (seal, row["tx"], row["actor"], tuple(row["prev"] or ()))


def check_events(lake: Lake, fold: Fold, found: EventRows, known: set[str], words: Words) -> Iterator[Finding]:
    """Yield what is wrong with events by the commits of their transactions, and by what they replace.

    Args:
        lake: The lake.
        fold: The state of the commit that is audited.
        found: Its events.
        known: Events that were found to be wrong already; those that are found here are added.
        words: Tells what an event's row claims.
    """
    yield from _check_twice(found, known, words)
    yield from _check_counted(lake, fold, found, known, words)
    yield from _check_replaced(fold, found, known)


def _check_twice(found: EventRows, known: set[str], words: Words) -> Iterator[Finding]:
    for event, rows in found.twice.items():
        if event not in known:
            known.add(event)
            row = rows[0]
            yield Finding(
                "altered",
                "event",
                f"two events that differ have the ID {event}; one is by {row['actor']} and claims that {words(row)}",
                *(event, row["tx"], None, row["actor"]),
            )


def _check_counted(lake: Lake, fold: Fold, found: EventRows, known: set[str], words: Words) -> Iterator[Finding]:
    """Compare the events of each transaction with what its commit says of them."""
    said: dict[str, list[tuple[str, str]]] = {}
    committed = set()
    for tx, commit, events in fold.rows("SELECT tx, id, events FROM commits WHERE tx IS NOT NULL ORDER BY position"):
        committed.add(tx)
        if events is not None:
            said.setdefault(tx, []).append((commit, events))
    forged = [event for tx, events in found.by_tx.items() if tx not in committed for event in events.values()]
    left = _LOOKED_INTO
    for tx, commits in said.items():
        commit, events = commits[0]
        if any(other != events for _, other in commits[1:]):
            yield Finding(
                "altered", "history", f"commits of transaction {tx} differ in which events it has", None, tx, commit
            )
        of_tx = found.by_tx.get(tx, {})
        if summary(of_tx) == events:
            continue
        left -= 1
        held = {digest_of(row): row for row in _held(lake, commit, tx)} if left >= 0 else None
        yield from _differing(tx, commit, events, of_tx, held, found, known)
        forged += [event for seal, event in of_tx.items() if held is not None and seal not in held]
    wanted = set(forged) - known
    if wanted:
        yield from _forged(lake, fold, found, wanted, committed, known, words)


def _held(lake: Lake, commit: str, tx: str) -> Iterator[Mapping[str, Any]]:
    files = tables.load(lake, commit, "events").files
    yield from (row for row in tables.rows(tables.read(lake, commit, "events", files)) if row["tx"] == tx)


def _differing(
    tx: str,
    commit: str,
    said: str,
    of_tx: Mapping[str, str],
    held: Mapping[str, Mapping[str, Any]] | None,
    found: EventRows,
    known: set[str],
) -> Iterator[Finding]:
    """Yield what a transaction lacks of the events that its commit counts."""
    if held is None or summary(held) != said:
        if not set(of_tx.values()) & known:
            known |= set(of_tx.values())
            count = said.partition(" ")[0]
            yield Finding(
                "altered",
                f"transaction {tx}",
                f"commit {commit[:12]} counts {count} events of its transaction, and the table has {len(of_tx)} that"
                " are not those",
                *(None, tx, commit),
            )
        return
    for seal, row in held.items():
        if seal in of_tx:
            continue
        event = row["event_id"]
        gone = "was altered since" if event in found.rows else "is gone from the table"
        yield Finding(
            "altered" if event in found.rows else "gap",
            f"{row['kind']} {row['key']}".strip(),
            f"an event that commit {commit[:12]} by {row['actor']} wrote {gone}: {row['kind']} {event}",
            *(event, tx, commit, row["actor"]),
        )
        if event in found.rows:
            known.add(event)


def _forged(
    lake: Lake,
    fold: Fold,
    found: EventRows,
    wanted: set[str],
    committed: set[str],
    known: set[str],
    words: Words,
) -> Iterator[Finding]:
    """Yield events that no commit wrote, with what they claim."""
    force = "it has no force" if fold.signed else "this lake is not signed, so it has force"
    for row in tables.rows(tables.read(lake, fold.commit, "events", sorted(fold.table("events").files))):
        event = row["event_id"]
        if event not in wanted or event in known:
            continue
        known.add(event)
        why = "its commit did not hold it" if row["tx"] in committed else "no commit has its transaction"
        yield Finding(
            "forged",
            f"{row['kind']} {row['key']}".strip(),
            f"an event in the name of {row['actor']} claims that {words(row)}: {why}; {force}",
            *(event, row["tx"], None, row["actor"]),
        )


def _check_replaced(fold: Fold, found: EventRows, known: set[str]) -> Iterator[Finding]:
    """Look at what events replace: it is there, of the same place, and replaced once on each line."""
    replacing: dict[str, list[str]] = {}
    without_force = {event for (event,) in fold.rows("SELECT event_id FROM refused")}
    for event, (_, tx, actor, prev) in found.rows.items():
        if event in known or event in without_force:
            continue
        for each in prev:
            wrong = None
            if each not in found.rows:
                wrong = f"an event that is not there, {each}"
            elif found.places[each] != found.places[event]:
                wrong = "an event of something else"
            if wrong is not None:
                known.add(event)
                what = " ".join(found.places[event][1:]).strip()
                yield Finding("order", what, f"{what}, an event by {actor}, replaces {wrong}", event, tx, None, actor)
                break
            replacing.setdefault(each, []).append(event)
    several = {each: events for each, events in replacing.items() if len(events) > 1}
    yield from _replaced_twice(fold, found, several, known)


def _replaced_twice(
    fold: Fold, found: EventRows, several: Mapping[str, list[str]], known: set[str]
) -> Iterator[Finding]:
    """Yield events that replace what was replaced already in the state that they were made on."""
    if not several:
        return
    commit_of: dict[str, str] = {}
    parents: dict[str, list[str]] = {}
    for commit, tx, above in fold.rows("SELECT id, tx, parents FROM commits ORDER BY position DESC"):
        parents[commit] = above.split()
        if tx is not None:
            commit_of[tx] = commit
    for each, events in several.items():
        places = [(commit_of.get(found.rows[event][1]), event) for event in sorted(events)]
        for commit, event in places:
            if commit is None or event in known:
                continue
            settled = _settled(found, event)
            others = {other for other, by in places if other is not None and other != commit and by not in settled}
            if not _descends(parents, commit, others):
                continue
            known.add(event)
            _, tx, actor, _ = found.rows[event]
            what = " ".join(found.places[event][1:]).strip()
            yield Finding(
                "order",
                what,
                f"{what}, an event by {actor}, replaces {each}, which was replaced before: replayed, or out of order",
                *(event, tx, commit, actor),
            )


def _settled(found: EventRows, event: str) -> set[str]:
    """Return all events that an event replaces, and those that these replaced, and so on."""
    todo, seen = [event], set[str]()
    while todo:
        for each in found.rows[todo.pop()][3]:
            if each not in seen and each in found.rows:
                seen.add(each)
                todo.append(each)
    return seen


def _descends(parents: Mapping[str, Iterable[str]], commit: str, others: set[str]) -> bool:
    todo, seen = [commit], {commit}
    while todo and others:
        for parent in parents.get(todo.pop(), ()):
            if parent in others:
                return True
            if parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return False
