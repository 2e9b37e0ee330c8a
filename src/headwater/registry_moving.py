"""The part of a registry that is about other lakes; every method asks a service and has no rules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from headwater.registry_services import Services

if TYPE_CHECKING:
    from headwater.moving import Moved
    from headwater.replication import Sent

__all__ = ["BetweenLakes"]


class BetweenLakes(Services):
    """Push and pull, as methods of a registry."""

    def push(
        self,
        url: str,
        branches: Collection[str] | None = None,
        *,
        storage_namespace: str | None = None,
        tell: Callable[[Sent], None] | None = None,
    ) -> Moved:
        """Bring the history of this lake to another lake, where every row, byte, number and name is the same.

        Only what the other lake lacks is sent. Interrupted anywhere, it changes nothing that can be seen there, and
        called again it goes on. Commits may have other IDs there; those of this lake are found there too.

        Args:
            url: A folder, which is made if it is missing, or `lakefs://host:port/repository`.
            branches: The branches to bring; all of them, and the tags, if not given.
            storage_namespace: Where a lakeFS repository that is made for this keeps its objects.
            tell: Called with what has been sent so far, after each commit.

        Raises:
            ConflictError: A branch has gone on there too, or a number or name means another thing there.
            LakeError: The other lake is no copy of this one, nor new, or can't be used.
            InvalidInputError: It is this lake.
            NotFoundError: There is no such branch, or no such repository.
            PermissionDeniedError: The credentials do not allow writing there.
            IntegrityError: This lake is damaged.
        """
        return self._moving.push(url, branches, storage_namespace=storage_namespace, tell=tell or _ignore)

    def pull_from(
        self,
        url: str,
        branches: Collection[str] | None = None,
        *,
        ours: bool = False,
        theirs: bool = False,
        resolve: Mapping[str, str] | None = None,
        tell: Callable[[Sent], None] | None = None,
    ) -> Moved:
        """Bring the history of another lake to this one; a branch that has gone on in both is merged.

        Args:
            url: A folder, or `lakefs://host:port/repository`.
            branches: The branches to bring; all of them, and the tags, if not given.
            ours: Settle conflicts as this lake has it.
            theirs: Settle them as the other lake has it.
            resolve: Settle single ones: `{"alias:flight-delay@champion": "theirs"}`.
            tell: As for `push`.

        Raises:
            MergeConflictError: A branch has gone on in both lakes, and there is something to settle.
            ConflictError: A number or name means different things.
            LakeError: The other lake is no copy of this one and this one is not new, or a lake can't be used.
            InvalidInputError: It is this lake, or `resolve` names no conflict.
            NotFoundError: There is no such branch or lake.
            IntegrityError: The other lake is damaged.
        """
        settle = {"ours": ours, "theirs": theirs, "resolve": resolve}
        return self._moving.pull(url, branches, settle=settle, tell=tell or _ignore)


def _ignore(sent: Sent) -> None:
    pass
