"""The part of a registry that is about branches of the whole of it; every method asks a service and has no rules."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from headwater.registry_services import Services

if TYPE_CHECKING:
    from headwater.moving import Moved
    from headwater.replication import Sent

__all__ = ["Branching"]


class Branching(Services):
    """Branches, tags, differences, merges and undo, as methods of a registry."""

    def branches(self) -> dict[str, str]:
        """Return every branch with its head's commit ID."""
        return self._context.lake.branches()

    # -- other lakes --------------------------------------------------------------------------------------------
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
        self, url: str, branches: Collection[str] | None = None, *, tell: Callable[[Sent], None] | None = None
    ) -> Moved:
        """Bring the history of another lake to this one; the other direction of `push`.

        Args:
            url: A folder, or `lakefs://host:port/repository`.
            branches: The branches to bring; all of them, and the tags, if not given.
            tell: As for `push`.

        Raises:
            ConflictError: A branch has gone on in both lakes, or a number or name means different things.
            LakeError: The other lake is no copy of this one and this one is not new, or a lake can't be used.
            InvalidInputError: It is this lake.
            NotFoundError: There is no such branch or lake.
            IntegrityError: The other lake is damaged.
        """
        return self._moving.pull(url, branches, tell=tell or _ignore)


def _ignore(sent: Sent) -> None:
    pass
