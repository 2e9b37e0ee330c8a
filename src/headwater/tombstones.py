"""What a tombstone hides: IDs, and transactions whose rows have no ID of their own; knows no noun, and only reads."""

from __future__ import annotations

from dataclasses import dataclass

from headwater.errors import NotFoundError
from headwater.state import Fold

__all__ = [
    "HIDDEN",
    "RESTORED",
    "Tombstone",
    "gone",
    "hidden_transactions",
    "is_hidden",
    "shadowed",
    "tombstone_of",
    "visible",
]

HIDDEN = "hidden"
"""Value of a `tombstone` event that hides its subject."""

RESTORED = "restored"
"""Value of one that brings it back."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What hides something: since when (microseconds), by whom, why, and in which commit.

    Attributes:
        subject: What it hides.
        kind: What the log calls its transaction: `delete`, `revert`; None where the state has no log.
    """

    subject: str
    recorded_at: int
    actor: str
    reason: str | None
    kind: str | None
    commit: str | None


def is_hidden(fold: Fold, subject: str) -> bool:
    """Return whether a tombstone hides something; where two stand, hidden stands."""
    return any(value == HIDDEN for _, value in fold.standing(subject, "tombstone"))


def visible(column: str) -> str:
    """Return a condition of SQL: nothing hides the ID, or the transaction, in a column of a folded table."""
    return (
        "NOT EXISTS (SELECT 1 FROM events hiding WHERE hiding.standing AND hiding.kind = 'tombstone'"
        f" AND hiding.key = '' AND hiding.value = '{HIDDEN}' AND hiding.subject = {column})"
    )


def hidden_transactions(fold: Fold) -> dict[str, Tombstone]:
    """Return the transactions whose rows are hidden, with what hides them."""
    rows = fold.rows(
        "SELECT e.subject, e.recorded_at, e.actor, e.reason, b.kind, b.id FROM events e"
        " JOIN commits c ON c.tx = e.subject LEFT JOIN commits b ON b.tx = e.tx"
        " WHERE e.standing AND e.kind = 'tombstone' AND e.value = ? ORDER BY e.event_id DESC",
        HIDDEN,
    )
    return {row[0]: Tombstone(*row) for row in rows}


def shadowed(fold: Fold) -> list[str]:
    """Return the transactions whose predictions an earlier one has too, because two branches took in one file.

    An earlier one that is hidden shadows only what is hidden too.
    """
    rows = fold.rows(
        "SELECT DISTINCT b.tx FROM twice t JOIN batches b USING (deployment_id, digest) WHERE EXISTS (SELECT 1"
        " FROM batches e WHERE e.deployment_id = b.deployment_id AND e.digest = b.digest AND e.tx < b.tx"
        f" AND ({visible('e.tx')} OR NOT {visible('b.tx')})) ORDER BY b.tx"
    )
    return [str(tx) for (tx,) in rows]


def tombstone_of(fold: Fold, subject: str) -> Tombstone | None:
    """Return what hides something; None where nothing does."""
    row = fold.one(
        "SELECT e.subject, e.recorded_at, e.actor, e.reason, b.kind, b.id FROM events e"
        " LEFT JOIN commits b ON b.tx = e.tx WHERE e.standing AND e.subject = ? AND e.kind = 'tombstone'"
        " AND e.value = ? ORDER BY e.event_id",
        subject,
        HIDDEN,
    )
    return Tombstone(*row) if row is not None else None


def gone(what: str, tombstone: Tombstone) -> NotFoundError:
    """Return the error that says who hid a thing, and how it is brought back."""
    done = "reverted" if tombstone.kind == "revert" else "deleted"
    where = f" in commit {tombstone.commit[:12]}" if tombstone.commit is not None else ""
    why = f": {tombstone.reason}" if tombstone.reason else ""
    undo = f"delete {what} --undo" if tombstone.kind != "revert" else f"revert {(tombstone.commit or '')[:12]}"
    return NotFoundError(
        f"{what} was {done} by {tombstone.actor}{where}{why}", hint=f"`headwater {undo}` brings it back"
    )
