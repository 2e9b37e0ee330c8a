"""The marker that makes a lake a registry: made with its tables, checked when it is opened; knows no models."""

from __future__ import annotations

import json

from headwater.context import Context
from headwater.errors import IntegrityError, LakeError, NotFoundError
from headwater.ids import new_id
from headwater.lake.base import Lake
from headwater.schema import TABLES
from headwater.transaction import Transaction

__all__ = ["FORMAT", "MARKER", "check", "found", "make"]

MARKER = "headwater.json"
"""Object at the root of every branch that says: this is a registry, of this format, with this ID."""

FORMAT = 1
"""The newest layout of tables and objects that this code reads and writes."""


def found(lake: Lake, ref: str | None = None) -> bytes | None:
    """Return the marker's bytes, at the default branch unless a ref is given; None where there is none.

    Raises:
        IntegrityError: The lake has not even a first commit.
    """
    try:
        return lake.read(lake.default_branch if ref is None else ref, MARKER)
    except NotFoundError:
        pass
    try:
        lake.get_commit(lake.head(lake.default_branch))
    except NotFoundError as error:
        raise IntegrityError(f"{lake.url} is damaged: {error.message}", hint="restore it from a copy") from error
    return None


def check(lake: Lake) -> None:
    """Make sure that a lake is a registry that this code can read.

    Raises:
        LakeError: It is none, or was made by a newer Headwater.
        IntegrityError: The marker is not what was written.
    """
    body = found(lake)
    if body is None:
        raise LakeError(f"{lake.url} is not a Headwater registry", hint=f"`headwater init {lake.url}` makes it one")
    try:
        made = json.loads(body)["format"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{MARKER} of {lake.url} is not what was written") from None
    if not isinstance(made, int) or made > FORMAT:
        raise LakeError(
            f"{lake.url} was made by a newer Headwater (format {made}; this one reads up to {FORMAT})",
            hint="upgrade Headwater",
        )


def make(context: Context) -> None:
    """Make a registry of a lake: the marker and every table, in one transaction; one that is there stays as it is."""

    def work(tx: Transaction) -> None:
        if found(context.lake, tx.fold.commit) is not None:
            return
        tx.put(MARKER, json.dumps({"format": FORMAT, "lake": new_id()}).encode())
        tx.message = "make a registry"
        for name in TABLES:
            tx.rows.setdefault(name, [])

    context.write("init", work)
