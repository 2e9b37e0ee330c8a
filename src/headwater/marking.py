"""The marker object of a registry: what it says of the format and of trust; makes none, and knows no tables."""

from __future__ import annotations

import json

from headwater.errors import IntegrityError, NotFoundError
from headwater.lake.base import Lake
from headwater.trust import Root

__all__ = ["MARKER", "body", "check_unchanged", "found", "root_of"]

MARKER = "headwater.json"
"""Object at the root of every branch that says: this is a registry, of this format, with this ID."""


def body(form: int, lake: str, root: Root | None) -> bytes:
    """Return the marker of a new registry.

    Args:
        form: The format of its tables.
        lake: Its own ID.
        root: What its trust begins with, if it is signed.
    """
    said: dict[str, object] = {"format": form, "lake": lake}
    if root is not None:
        said |= {"signed": True, "root": {"public": root.public, "name": root.name, "branch": root.branch}}
    return json.dumps(said).encode()


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


def root_of(marker: bytes) -> Root | None:
    """Return what a marker says that trust begins with; None where the lake is not signed.

    Raises:
        IntegrityError: It is not what was written.
    """
    try:
        said = json.loads(marker)
        if not said.get("signed", False):
            return None
        root = said["root"]
        made = Root(str(said["lake"]), str(root["public"]), str(root["name"]), str(root["branch"]))
        assert made.key_id
    except (ValueError, KeyError, TypeError, AttributeError):
        raise IntegrityError(f"{MARKER} is not what was written") from None
    return made


def check_unchanged(lake: Lake, commit: str, root: Root) -> None:
    """Make sure that a commit of a signed lake says of it what its first landing said.

    Raises:
        IntegrityError: Somebody lowered it to unsigned, gave it another root, or took the marker away.
    """
    said = found(lake, commit)
    if said is None or root_of(said) != root:
        raise IntegrityError(
            f"{lake.url} was made a signed lake by {root.name}, and {MARKER} of commit {commit[:12]} says otherwise",
            hint="somebody with access to its storage wrote that: move the branch back to the commit before it",
        )
