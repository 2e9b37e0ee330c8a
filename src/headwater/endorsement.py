"""Vouching for what a merge takes in: events that were signed for another branch, named anew for this one.

What nobody may bring by a merge alone is left out (`access.protected`), and so is what has no force on the other one.
"""

from __future__ import annotations

import json

from headwater.access import TELEMETRY, protected
from headwater.signatures import digest_of
from headwater.state import Folds
from headwater.transaction import Transaction
from headwater.verdicts import ENDORSEMENT

__all__ = ["endorse"]


def endorse(tx: Transaction, folds: Folds, source: str) -> None:
    """Add the event by which whoever merges vouches for what the merge brings; in a signed lake alone.

    Args:
        tx: The transaction, which the other commit was joined to.
        folds: The lake's folded states.
        source: The commit that is merged.
    """
    if tx.root is None:
        return
    with folds.at(source) as fold:
        refused = {tuple(row) for row in fold.rows("SELECT event_id, seal FROM refused")}
    named = {}
    for row in tx.rows.get("events", ()):
        if row["tx"] == tx.tx or row["kind"] in TELEMETRY or protected(row["kind"], row["key"]):
            continue
        digest = digest_of(row)
        if (row["event_id"], digest) not in refused:
            named[row["event_id"]] = digest
    if named:
        tx.event(tx.tx, ENDORSEMENT, json.dumps(named, sort_keys=True, separators=(",", ":")))
