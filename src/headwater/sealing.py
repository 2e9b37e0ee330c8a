"""What a transaction's own events need before they are written: judged by the head's state, signed and counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headwater.access import WRITE
from headwater.errors import PermissionDeniedError
from headwater.keys import Signer
from headwater.signatures import digest_of, named_versions, sign, summary
from headwater.state import Fold
from headwater.trust import ACTOR, Judge, Root, names_of, places_of
from headwater.verdicts import ENDORSEMENT

__all__ = ["principal_of", "rows_endorsed", "seal"]


def seal(
    fold: Fold,
    rows: Mapping[str, Sequence[Any]],
    *,
    tx: str,
    actor: str,
    branch: str,
    root: Root | None,
    signer: Callable[[], Signer] | None,
) -> str:
    """Judge and sign a transaction's own events, and return what its commit says of them.

    Args:
        fold: The state that the transaction decided on.
        rows: All that it writes, by table; signatures are put into the events.
        tx: Its ID: rows that it brings from elsewhere have another one.
        actor: Who acts.
        branch: The branch that it lands on, as people call it.
        root: What the lake's trust begins with; None where it is not signed.
        signer: Gives the key; None in a rehearsal, which is never signed.

    Raises:
        PermissionDeniedError: Who acts lacks a role, or a key: in a signed lake for whatever he writes.
    """
    own = [row for row in rows.get("events", ()) if row["tx"] == tx]
    key = signer() if root is not None and signer is not None else None
    if key is not None or (own and (root is not None or _has_roles(fold))):
        judge = _judge(fold, rows, tx, root)
        principal = _checked(judge, key, actor) if key is not None else principal_of(fold, actor)
        _check(judge, own, rows.get("events", ()), principal)
        if key is not None and root is not None:
            _check_writes(judge, principal)
            for row in own:
                digests = judge.digests(named_versions(row))
                row["signature"] = sign(row, key, lake=root.lake, branch=branch, digests=digests)
    return summary(digest_of(row) for row in own)


def _has_roles(fold: Fold) -> bool:
    return fold.one("SELECT 1 FROM events WHERE standing AND kind = 'role' AND value = 'granted' LIMIT 1") is not None


def _judge(fold: Fold, rows: Mapping[str, Sequence[Any]], tx: str, root: Root | None) -> Judge:
    """Return what judges a transaction by the state that it decided on, and by what it adds."""
    events = rows.get("events", ())
    return fold.judge(
        root=root,
        versions={
            each["version_id"]: (each["model_id"], each["digest"])
            for each in rows.get("model_versions", ())
            if not isinstance(each, str)
        },
        names=names_of(events),
        events=places_of(events),
        things={
            each[column]
            for table, column in (("runs", "run_id"), ("datasets", "dataset_id"), ("deployments", "deployment_id"))
            for each in rows.get(table, ())
            if not isinstance(each, str)
        },
        brought={each["event_id"] for each in events if each["tx"] != tx},
    )


def _check(judge: Judge, own: Sequence[Any], events: Sequence[Any], principal: str) -> None:
    """Make sure that somebody may write some events.

    Raises:
        PermissionDeniedError: He lacks a role, for one of them or for one that a merge brings with it.
    """
    for row in own:
        refusal = judge.refusal(row, principal)
        if refusal is not None:
            raise PermissionDeniedError(refusal.message, hint=refusal.hint)
        for each in rows_endorsed(row, events):
            refusal = judge.refusal_of_brought(each, principal)
            if refusal is not None:
                raise PermissionDeniedError(f"the merge brings a {each['kind']}: {refusal.message}", hint=refusal.hint)


def _check_writes(judge: Judge, principal: str) -> None:
    """Make sure that somebody may write at all: rows without an event, such as metrics, are what gates read.

    Raises:
        PermissionDeniedError: He may not.
    """
    refusal = judge.lacking(principal, WRITE)
    if refusal is not None:
        raise PermissionDeniedError(
            refusal.message, hint=f"{refusal.hint}; what serves writes with the key of a deployer or an author"
        )


def principal_of(fold: Fold, actor: str) -> str:
    """Return as whom an actor is judged: in a signed lake his enrolled key, else his name."""
    if fold.root is None:
        return f"{ACTOR}{actor}"
    judge = fold.judge()
    keys = {str(subject) for (subject,) in fold.rows("SELECT DISTINCT subject FROM events WHERE kind = 'key'")}
    for each in sorted({*keys, fold.root.key_id}):
        found = judge.key(each)
        if found is not None and found["name"] == actor and not found["revoked"]:
            return each
    return f"{ACTOR}{actor}"


def _checked(judge: Judge, key: Signer, actor: str) -> str:
    """Return the principal of a key that may sign for an actor.

    Raises:
        PermissionDeniedError: It may not.
    """
    found = judge.key(key.key_id)
    if found is None:
        raise PermissionDeniedError(
            f"the key of {actor} is not enrolled in this lake: {key.key_id}",
            hint=f"an admin enrols it: `headwater key add {actor} {key.public.text}`",
        )
    if found["revoked"]:
        raise PermissionDeniedError(
            f"the key of {found['name']} was revoked: {key.key_id}",
            hint="`headwater key new` makes another one, which an admin enrols",
        )
    if found["name"] != actor:
        raise PermissionDeniedError(
            f"the key {key.key_id[:12]} is enrolled for {found['name']}, not for {actor}",
            hint=f"act as --actor {found['name']}, or sign with a key of {actor}",
        )
    return key.key_id


def rows_endorsed(row: Any, events: Sequence[Any]) -> list[Any]:
    """Return those of some events that an event vouches for."""
    if row["kind"] != ENDORSEMENT:
        return []
    named = json.loads(row["value"])
    return [each for each in events if each["event_id"] in named]
