"""The marker that makes a lake a registry: made with its tables, checked when it is opened; knows no models."""

from __future__ import annotations

import json

from headwater.context import Context
from headwater.errors import AlreadyExistsError, IntegrityError, LakeError
from headwater.ids import new_id
from headwater.lake.base import Lake
from headwater.marking import MARKER, body, found, root_of
from headwater.schema import TABLES
from headwater.transaction import Transaction
from headwater.trust import Root

__all__ = ["FORMAT", "MARKER", "check", "check_mode", "found", "make"]

FORMAT = 1
"""The newest layout of tables and objects that this code reads and writes."""


def check(lake: Lake) -> bytes:
    """Make sure that a lake is a registry that this code can read, and return its marker.

    Raises:
        LakeError: It is none, or was made by a newer Headwater.
        IntegrityError: The marker is not what was written.
    """
    there = found(lake)
    if there is None:
        raise LakeError(f"{lake.url} is not a Headwater registry", hint=f"`headwater init {lake.url}` makes it one")
    try:
        made = json.loads(there)["format"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{MARKER} of {lake.url} is not what was written") from None
    if not isinstance(made, int) or made > FORMAT:
        raise LakeError(
            f"{lake.url} was made by a newer Headwater (format {made}; this one reads up to {FORMAT})",
            hint="upgrade Headwater",
        )
    return there


def make(context: Context, *, signed: bool = False) -> None:
    """Make a registry of a lake: the marker and every table, in one transaction; one that is there stays as it is.

    Args:
        context: The lake's default branch, and who acts.
        signed: Whether every event is signed from now on, by keys that the actor's key enrols.

    Raises:
        AlreadyExistsError: Somebody made it meanwhile, signed where this is not, or the reverse.
    """

    def work(tx: Transaction) -> None:
        there = found(context.lake, tx.fold.commit)
        if there is not None:
            check_mode(context.lake, there, signed=signed)
            return
        lake = new_id()
        if signed:
            public = context.writer.signer(context.actor).public
            tx.root = Root(lake, public.text, context.actor, context.branch)
            record = {"public": public.text, "name": context.actor, "revoked": False}
            tx.event(public.key_id, "key", json.dumps(record, ensure_ascii=False, sort_keys=True))
            tx.event(public.key_id, "role", "granted", key="admin *")
        tx.put(MARKER, body(FORMAT, lake, tx.root))
        tx.message = "make a signed registry" if signed else "make a registry"
        for name in TABLES:
            tx.rows.setdefault(name, [])

    context.write("init", work)


def check_mode(lake: Lake, marker: bytes, *, signed: bool) -> None:
    """Make sure that a registry that is there is what is asked for: its mode never changes.

    Raises:
        AlreadyExistsError: It is not signed, and is to be.
    """
    if signed and root_of(marker) is None:
        raise AlreadyExistsError(
            f"{lake.url} was made without signatures, and stays so",
            hint="make a new lake with `headwater init --signed`, and register there anew what is to be trusted",
        )
