"""The part of a registry that is about branches of the whole of it; every method asks a service and has no rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from headwater.registry_services import Services

if TYPE_CHECKING:
    import pyarrow as pa

    from headwater.branching import Branch, Tag
    from headwater.collection import Collected
    from headwater.diffs import Diff
    from headwater.merge import Merge
    from headwater.undoing import Revert

__all__ = ["Branching"]


class Branching(Services):
    """Branches, tags, differences, merges and undo, as methods of a registry."""

    @property
    def default_branch(self) -> str:
        """The branch that a lake is born with."""
        return self._context.lake.default_branch

    def branches(self) -> dict[str, str]:
        """Return every branch with its head's commit ID; `branch_list` says more."""
        return self._context.lake.branches()

    def branch_list(self) -> list[Branch]:
        """Return every branch, by name: its head, its age, and what it has that the default branch lacks."""
        return self._branches.list()

    def delete_branch(self, name: str, *, force: bool = False) -> Branch:
        """Delete a branch; what it had stays readable by commit IDs until it is collected.

        Args:
            name: The branch.
            force: Delete it even if it has what neither the default branch nor this registry's has.

        Returns:
            The branch as it was; one made again at its `commit` is the same.

        Raises:
            ConflictError: It has what was not merged, or it is this registry's own branch.
            InvalidInputError: It is the lake's default branch.
            NotFoundError: There is no such branch.
        """
        return self._branches.delete(name, force=force)

    def tags(self) -> list[Tag]:
        """Return the lake's tags, by name; those that `tag` sets are of models and versions."""
        return self._branches.tags()

    def create_tag(self, name: str, ref: str | None = None) -> Tag:
        """Give a commit a name that never moves, and that is a ref everywhere: `reg.at("release-2026-11")`.

        Args:
            name: Such as `release-2026-11`.
            ref: What it names, by default what this registry reads.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
            InvalidInputError: The name can't be a tag's.
            NotFoundError: There is no such ref.
        """
        return self._branches.create_tag(name, ref)

    def delete_tag(self, name: str) -> str:
        """Delete a tag of the lake and return the commit ID that it named.

        Raises:
            NotFoundError: There is no such tag.
        """
        return self._branches.delete_tag(name)

    def diff(self, left: str, right: str | None = None) -> Diff:
        """Return what one ref has that another lacks: versions, runs, datasets, and all that was set anew.

        What it costs follows what was added, not how much there is.

        Args:
            left: Any ref: a branch, a tag, a commit, `main~3`, `main@{2026-11-01T00:00:00Z}`.
            right: Another; by default what this registry reads.

        Returns:
            What `right` has and `left` lacks, in the words of a registry. It is false where there is nothing. Its
            `lacking` says how many transactions there are the other way: `diff(right, left)` has those.

        Raises:
            NotFoundError: There is no such ref.
            InvalidInputError: It is malformed, or names a model or a dataset.
            ConflictError: The two have no common history.
        """
        return self._diffs.diff(left, right)

    def diff_tables(self, left: str, right: str | None = None) -> dict[str, pa.Table]:
        """Return the rows that one ref has and another lacks as Arrow, by table; tables without any are left out.

        Arguments and errors are those of `diff`.
        """
        return self._diffs.tables(left, right)

    def gc(
        self,
        *,
        grace: float | timedelta = 14,
        dry_run: bool = False,
        confirm: Callable[[Collected], bool] | None = None,
    ) -> Collected:
        """Delete what no branch, tag or row leads to any more, and what is left over in the cache.

        What a version, run or dataset refers to is kept, and so is what belonged to a branch or tag that was deleted
        no longer ago than the grace period. On a lakeFS server objects are left to the server's own collection.

        Args:
            grace: Days, or a duration.
            dry_run: Only find out what there is; nothing is deleted.
            confirm: Is told what would be deleted, and returns whether to go on.

        Raises:
            InvalidInputError: The grace period is negative.
            IntegrityError: The lake is damaged: something that is reached is missing. Nothing is deleted then.
            ConflictError: Another collection is at work on the lake.
        """
        return self._collection.gc(grace=grace, dry_run=dry_run, confirm=confirm)

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
        values since they parted (an alias, a description, a tag, what is in production) is a conflict. Where a model
        has gates or roles here, what the source decided about its production is decided again, under those, by the
        actor: in transactions that land with the merge. `ours` leaves that as it is here.

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
            GateFailedError: Gates here refuse what the source decided, or data that it added; nothing is merged, and
                the refusal is recorded.
            PermissionDeniedError: The actor may not decide here what the source decided.
            IntegrityError: The two have different rows under one key, or the artifact of what would be promoted is not
                what was registered.
        """
        return self._merges.merge(source, into, ours=ours, theirs=theirs, resolve=resolve, dry_run=dry_run)

    def revert(self, ref: str, *, reason: str | None = None, force: bool = False, dry_run: bool = False) -> Revert:
        """Undo what a commit brought: one transaction, or all of a merge, by new events; nothing is taken back.

        What it made is hidden from views and lookups, as deleted versions are: history keeps it, and its numbers stay
        taken. What it changed has the value again that it had before. Reverting the revert brings everything back.

        Args:
            ref: The commit, as `log` prints it, or any ref: the last transaction of the branch is `main`.
            reason: Why; kept with the change.
            force: Go on where something rests on what is hidden.
            dry_run: Say what would happen, and write nothing.

        Returns:
            What it undid and what that changed.

        Raises:
            ConflictError: Something was changed again since, rests on it, or it is undone already.
            NotFoundError: There is no such commit on this branch.
            InvalidInputError: It is no transaction, or nothing in it can be undone.
        """
        return self._undoing.revert(ref, reason=reason, force=force, dry_run=dry_run)
