"""Folding the events of a signed lake: each is judged as it lands, and what has no force never stands; knows no lake.

Landings are judged in the order of the branch's first parents, each by the state before it. Where a row says that it
landed is not believed: the commit of its transaction says which events that had.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headwater.access import TELEMETRY
from headwater.access import protected as is_protected
from headwater.keys import Verifier, verifies
from headwater.lake.base import MOVE
from headwater.signatures import Signature, digest_of, parse, summary
from headwater.trust import Judge, Root, names_of, places_of

__all__ = [
    "ENDORSEMENT",
    "Landings",
    "RefoldError",
    "fold_judged",
    "has_strays",
    "unfold_refused",
]

ENDORSEMENT = "endorsement"
"""Kind of an event of a merge that says which of the events that it brought the one who merged vouches for."""

Row = Mapping[str, Any]


class RefoldError(Exception):
    """Rows came that belong before what was judged already: all has to be judged anew."""


@dataclass(frozen=True, slots=True)
class Landings:
    """What judging needs to know of the branch besides its rows and commits.

    Attributes:
        root: What the lake's trust begins with.
        after: The position up to which all was judged already.
        trunk: The position up to which the branch is the lake's default one.
        rehearsed: Whether what is beyond that is a rehearsal, whose own events are not signed.
        held: Returns the events of a commit, where these have to be read from it.
        verifies: Tells whether a signature is one of a message.
    """

    root: Root
    after: int
    trunk: int
    rehearsed: bool
    held: Callable[[str], Iterable[Row]]
    verifies: Verifier = verifies


@dataclass(frozen=True, slots=True)
class _Verdict:
    row: Row
    seal: str
    reason: str | None = None
    alarm: bool = True


def fold_judged(connection: sqlite3.Connection, rows: Iterable[Row], landings: Landings) -> None:
    """Add events, of which those that have no force never stand; the commits that brought them are there already.

    Raises:
        RefoldError: They can't be added to what was judged: begin with an empty state.
    """
    if connection.execute(_BEFORE_ITS_LANDING, (landings.after,)).fetchone():
        raise RefoldError
    new: dict[str, dict[str, Row]] = {tx: {} for (tx,) in connection.execute(_COUNTED, (landings.after,))}
    held = _Held(connection, landings, set(new))
    for row in rows:
        seal = digest_of(row)
        if not connection.execute(_KNOWN, (row["event_id"], seal)).fetchone():
            new.setdefault(row["tx"], {})[seal] = row
    placed: dict[int, list[tuple[bool, dict[str, Row]]]] = {}
    strays: list[_Verdict] = []
    # The newest first: where rows are gone, its commit is likely to hold those of the others too.
    for tx, found in reversed(new.items()):
        genuine, position, direct = _placed(connection, tx, found, landings, held, strays)
        if genuine:
            if position <= landings.after:
                raise RefoldError
            placed.setdefault(position, []).append((direct, genuine))
    for position in sorted(placed):
        _land(connection, position, placed[position], landings)
    for each in strays:
        _refuse(connection, each, stray=True)


_KNOWN = """SELECT 1 FROM events WHERE (event_id, seal) = (?1, ?2)
    UNION ALL SELECT 1 FROM refused WHERE (event_id, seal) = (?1, ?2)"""


_COUNTED = """SELECT c.tx FROM commits c WHERE c.tx IS NOT NULL AND c.position > ?1 AND c.events NOT LIKE '0 %'
    AND NOT EXISTS (SELECT 1 FROM commits o WHERE o.tx = c.tx AND o.position <= ?1)
    GROUP BY c.tx ORDER BY min(c.position)"""
"""Transactions that landed after a position and say that they have events."""

_MOVED = "SELECT id FROM commits WHERE position = ? AND landed = id AND kind = ?"

_BEFORE_ITS_LANDING = """SELECT 1 FROM refused r JOIN commits c ON c.tx = r.tx WHERE r.stray AND c.position > ?1
    AND NOT EXISTS (SELECT 1 FROM commits o WHERE o.tx = r.tx AND o.position <= ?1)"""
"""Rows that nobody knew what to make of, and whose transaction has landed now."""


class _Held:
    """Events of transactions as their commits hold them, read where the rows of the events are not those."""

    def __init__(self, connection: sqlite3.Connection, landings: Landings, wanted: set[str]) -> None:
        self._connection = connection
        self._landings = landings
        self._wanted = wanted
        self._rows: dict[str, dict[str, Row]] = {}

    def of(self, tx: str, commit: str, said: str | None) -> dict[str, Row] | None:
        """Return a transaction's events by digest, or None where its commit does not hold what it says."""
        if summary(self._rows.get(tx, ())) != said:
            here: dict[str, dict[str, Row]] = {tx: {}}
            for row in self._landings.held(commit):
                if row["tx"] == tx or row["tx"] in self._wanted:
                    here.setdefault(row["tx"], {})[digest_of(row)] = row
            # What this commit has of other transactions is a guess: theirs is asked where it does not add up.
            self._rows = {**here, **self._rows, tx: here[tx]}
        found = self._rows[tx]
        return found if summary(found) == said else None


def _placed(
    connection: sqlite3.Connection,
    tx: str,
    found: dict[str, Row],
    landings: Landings,
    held: _Held,
    strays: list[_Verdict],
) -> tuple[dict[str, Row], int, bool]:
    """Return which events of a transaction its commit held, the position of that, and if it landed by itself."""
    commit = connection.execute(
        "SELECT c.id, c.position, c.events, l.brought IS c.tx OR c.landed = c.id FROM commits c"
        " LEFT JOIN commits l ON l.id = c.landed WHERE c.tx = ? ORDER BY c.position, c.id LIMIT 1",
        (tx,),
    ).fetchone()
    if commit is None or commit[1] is None:
        strays += [_Verdict(row, seal, "no commit has its transaction") for seal, row in found.items()]
        return {}, -1, False
    name, position, said, direct = commit
    if summary(found) == said:
        return found, position, bool(direct)
    there = held.of(tx, name, said)
    if there is None:
        reason = f"commit {name[:12]} does not hold the events that it says"
        strays += [_Verdict(row, seal, reason) for seal, row in found.items()]
        return {}, -1, False
    reason = f"commit {name[:12]} did not hold it"
    strays += [_Verdict(row, seal, reason) for seal, row in found.items() if seal not in there]
    # Whose rows are gone from the table has force all the same: who has read them already goes on as before.
    late = position <= landings.after
    return {seal: row for seal, row in there.items() if not late or seal in found}, position, bool(direct)


def _land(
    connection: sqlite3.Connection, position: int, parts: list[tuple[bool, dict[str, Row]]], landings: Landings
) -> None:
    """Judge all events of one landing by the state before it, then let those stand that have force."""
    line = _Line(connection, position, landings)
    new = [row for _, rows in parts for row in rows.values()]
    judge = Judge(
        lambda sql, *given: connection.execute(sql, given).fetchall(),
        landings.root,
        names=names_of(new),
        events=places_of(new),
        brought={row["event_id"] for direct, rows in parts if not direct for row in rows.values()},
        until=position,
        verifies=landings.verifies,
    )
    verdicts: list[_Verdict] = []
    vouched: dict[str, tuple[str, str]] = {}
    for direct, rows in parts:
        for seal, row in rows.items() if direct else ():
            signature = parse(row["signature"])
            reason = line.reason(judge, row, signature)
            verdicts.append(_Verdict(row, seal, reason))
            if reason is None and row["kind"] == ENDORSEMENT:
                who = "" if signature is None else signature.key_id
                vouched |= {event: (digest, who) for event, digest in _endorsed(row).items()}
    moved = connection.execute(_MOVED, (position, MOVE)).fetchone()
    for direct, rows in parts:
        if moved is not None and not direct:
            # An honest move goes on from what was there, and so leaves nothing behind.
            reason = f"commit {moved[0][:12]} moved the branch past it"
            verdicts += [_Verdict(row, seal, reason, row["kind"] not in TELEMETRY) for seal, row in rows.items()]
            continue
        verdicts += [] if direct else [_brought(judge, row, seal, vouched) for seal, row in rows.items()]
    verdicts = list(_once(verdicts))
    _apply(connection, verdicts)
    line.keep(verdicts)


class _Line:
    """The branches for which events of a line of first parents may be signed, one after another."""

    def __init__(self, connection: sqlite3.Connection, position: int, landings: Landings) -> None:
        self._connection = connection
        self._position = position
        self._landings = landings
        found = connection.execute("SELECT branch FROM lines ORDER BY position DESC LIMIT 1").fetchone()
        self._current = landings.root.branch if found is None else str(found[0])

    def reason(self, judge: Judge, row: Row, signature: Signature | None) -> str | None:
        """Return why an event that landed by itself has no force."""
        apart = self._position > self._landings.trunk
        if row["kind"] in TELEMETRY or (self._landings.rehearsed and apart and signature is None):
            return _place(judge, row)
        if signature is None:
            return "it is not signed"
        key = judge.key(signature.key_id)
        if key is None:
            return f"its key {signature.key_id[:12]} is not enrolled"
        if key["revoked"]:
            return f"the key {signature.key_id[:12]} of {key['name']} was revoked"
        if key["name"] != row["actor"]:
            return f"it says {row['actor']}, and is signed by {key['name']}"
        if not judge.verified(row, signature, key["public"]):
            return "its signature is not one of this event in this lake"
        # Which of the other branches a line is, nothing tells that nobody could forge; and if one name alone counted,
        # one event for another would end a branch, and a name that is used again would be nobody's.
        if signature.branch != self._current and (not apart or signature.branch == self._landings.root.branch):
            return f"it was signed for branch {signature.branch}"
        found = judge.refusal(row, signature.key_id)
        return None if found is None else found.message

    def keep(self, verdicts: Iterable[_Verdict]) -> None:
        """Note the branch that the line is from now on, by what has force."""
        for each in verdicts:
            # Of telemetry, and of what a merge brought, nobody has verified that it was signed for that branch.
            own = each.reason is None and each.alarm and each.row["kind"] not in TELEMETRY
            signature = parse(each.row["signature"]) if own else None
            if signature is not None and signature.branch != self._current:
                self._connection.execute(
                    "INSERT OR IGNORE INTO lines VALUES (?, ?)", (self._position, signature.branch)
                )


def _place(judge: Judge, row: Row) -> str | None:
    found = judge.misplaced(row)
    return None if found is None else found.message


def _brought(judge: Judge, row: Row, seal: str, vouched: Mapping[str, tuple[str, str]]) -> _Verdict:
    """Judge an event that a merge brought: by who merged, if he vouches for it."""
    signature = parse(row["signature"])
    if is_protected(row["kind"], row["key"]):
        if signature is None:
            return _Verdict(row, seal, "it is not signed")
        return _Verdict(row, seal, f"it was made for branch {signature.branch}", alarm=False)
    reason = _place(judge, row)
    if reason is None and row["kind"] not in TELEMETRY:
        digest, who = vouched.get(row["event_id"], ("", ""))
        if digest != seal:
            return _Verdict(row, seal, "nobody who merged it vouches for it")
        found = judge.refusal_of_brought(row, who) if who else None
        reason = None if found is None else found.message
    return _Verdict(row, seal, reason, alarm=reason is not None)


def _once(verdicts: Iterable[_Verdict]) -> Iterator[_Verdict]:
    """Yield verdicts, where of several events of one ID one alone may have force: one that is signed, if there is."""
    taken = set()
    for each in sorted(verdicts, key=lambda each: (each.row["kind"] in TELEMETRY, each.seal)):
        event = each.row["event_id"]
        if each.reason is None and event in taken:
            yield _Verdict(each.row, each.seal, "its ID is that of another event")
            continue
        taken |= set() if each.reason is not None else {event}
        yield each


def _endorsed(row: Row) -> dict[str, str]:
    try:
        return {str(event): str(digest) for event, digest in json.loads(row["value"] or "{}").items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def _apply(connection: sqlite3.Connection, verdicts: Iterable[_Verdict]) -> None:
    honoured = [each for each in verdicts if each.reason is None]
    replaced = [
        (event, row["subject"], row["kind"], row["key"])
        for row in (each.row for each in honoured)
        for event in row["prev"] or ()
    ]
    connection.executemany("INSERT OR IGNORE INTO superseded VALUES (?1)", [each[:1] for each in replaced])
    connection.executemany(
        "UPDATE events SET standing = 0 WHERE event_id = ? AND subject = ? AND kind = ? AND key = ?", replaced
    )
    connection.executemany(
        "INSERT OR IGNORE INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 1, ?11)",
        [
            (
                *(row["event_id"], row["subject"], row["kind"], row["key"], row["value"], json.dumps(row["prev"])),
                *(row["reason"], row["tx"], row["recorded_at"], row["actor"], each.seal),
            )
            for each in honoured
            for row in (each.row,)
        ],
    )
    connection.executemany(
        "UPDATE events SET standing = 0 WHERE event_id = ?1 AND ?1 IN (SELECT event_id FROM superseded) AND EXISTS"
        " (SELECT 1 FROM events o, json_each(o.prev) p WHERE p.value = ?1"
        " AND (o.subject, o.kind, o.key) = (events.subject, events.kind, events.key))",
        [(each.row["event_id"],) for each in honoured],
    )
    for each in verdicts:
        if each.reason is not None:
            _refuse(connection, each, stray=False)


def _refuse(connection: sqlite3.Connection, verdict: _Verdict, *, stray: bool) -> None:
    row = verdict.row
    connection.execute(
        "INSERT OR IGNORE INTO refused VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(row["event_id"], verdict.seal, row["tx"], verdict.reason, verdict.alarm, stray),
            *(row["subject"], row["kind"], row["key"]),
            json.dumps({name: row[name] for name in _KEPT}, ensure_ascii=False),
        ),
    )


_KEPT = ("value", "prev", "reason", "actor", "recorded_at", "signature")


# -- going back -------------------------------------------------------------------------------------------------------
def has_strays(connection: sqlite3.Connection) -> bool:
    """Return whether there are refused events of which no landing says since when they are there."""
    return connection.execute("SELECT 1 FROM refused WHERE stray").fetchone() is not None


def unfold_refused(connection: sqlite3.Connection, position: int, gone: Iterable[str]) -> None:
    """Forget what was judged of landings after a position, which had these transactions."""
    connection.execute("DELETE FROM lines WHERE position > ?", (position,))
    connection.executemany("DELETE FROM refused WHERE tx = ?", [(tx,) for tx in gone])
