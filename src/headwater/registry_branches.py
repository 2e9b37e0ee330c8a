"""The part of a registry that is about branches of the whole of it; every method asks a service and has no rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from headwater.registry_services import Services

if TYPE_CHECKING:
    from headwater.merge import Merge

__all__ = ["Branching"]


class Branching(Services):
    """Branches, tags, differences, merges and undo, as methods of a registry."""

    def branches(self) -> dict[str, str]:
        """Return every branch with its head's commit ID."""
        return self._context.lake.branches()

    def merge(
        self,
        source: str,
        into: str | None = None,
        *,
        ours: bool = False,
        theirs: bool = False,
        resolve: Mapping[str, str] | None = None,
        dry_run: bool = False,
    ) -> Merge:
        """Merge a branch (or any ref) into this registry's branch: everything that it has and this one lacks.

        It lands as one commit, with both in its ancestry. Numbers never clash. What both sides changed to different
        values since they parted (an alias, a stage, a description, a tag, traffic) is a conflict.

        Args:
            source: A branch, or any other ref.
            into: Another branch to merge into.
            ours: Settle conflicts as the branch that is merged into has it.
            theirs: Settle them as the source has it.
            resolve: Settle single ones: `{"alias:flight-delay@champion": "theirs"}`.
            dry_run: Say what would happen, conflicts among it, and write nothing.

        Returns:
            What it brought; with `up_to_date` where there was nothing to bring.

        Raises:
            MergeConflictError: There is something to settle; its `conflicts` say what, with both sides' values.
            InvalidInputError: The source is the branch itself, the target is no branch, or `resolve` names no conflict.
            NotFoundError: There is no such ref or branch.
            IntegrityError: The two have different rows under one key.
        """
        return self._merges.merge(source, into, ours=ours, theirs=theirs, resolve=resolve, dry_run=dry_run)
