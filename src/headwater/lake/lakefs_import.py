"""Commits of another lake on their way into a lakeFS repository, and moving a branch to them; decides nothing.

lakeFS makes a commit only on a branch and a merge only by merging, so commits are made again one by one on hidden
branches. There is one for each commit that no other made here descends from, so whatever was made is found again
after a crash. A merge is lakeFS's own where that comes to the same tree; where not, a commit on top of it does.

A branch is moved by lakeFS's hard reset, which does not look where the branch is. So it is held meanwhile by an object
that is staged on it: lakeFS 1.84 merges nothing into a branch with staged changes, while a reset does not mind (tried).
"""

from __future__ import annotations

import io
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, cast

from headwater.errors import AlreadyExistsError, HeadwaterError, NotFoundError, RaceLostError
from headwater.ids import new_id, now_micros
from headwater.lake.base import AT, HIDDEN_PREFIX, IMPORT_PREFIX, Commit, Incoming, Strategy
from headwater.lake.lakefs_client import Client

if TYPE_CHECKING:
    from headwater.lake.lakefs import LakeFS

__all__ = ["LakeFSImport", "is_held", "move_branch"]

_HOLD = f"{HIDDEN_PREFIX}moving"
"""The object that holds a branch while it is moved: staged, never committed. It says since when, in microseconds."""

_LEASE = 20.0
"""Seconds after which a hold is taken for that of a dead process."""

_SETTLE = 0.25
"""Seconds for merges to end that began before the branch was held: one takes 2 ms to 50 ms (measured)."""

_SMALL = 1 << 20


class LakeFSImport:
    """Makes commits of another lake in a repository.

    Args:
        lake: The repository.
        client: Calls to its server.
    """

    def __init__(self, lake: LakeFS, client: Client) -> None:
        self._lake = lake
        self._client = client
        self._name = client.address.repository
        self._prefix = f"{IMPORT_PREFIX}{new_id()}"
        self._made = 0
        self._tips: dict[str, str] = {}
        self._free: list[str] = []

    def finish(self) -> None:
        """Delete the hidden branches: what was made is reached from elsewhere now, or is not wanted."""
        for name in [*self._free, *self._tips.values()]:
            with suppress(NotFoundError):
                self._lake.delete_branch(name)

    def commit(self, commit: Commit, changes: Mapping[str, Incoming | None], taken: Collection[str]) -> str:
        """Make a commit; see `headwater.lake.base.Importer`."""
        branch = self._branch_at(commit.parents[0])
        if len(commit.parents) == 1:
            self._stage(branch, changes)
            made = self._commit(branch, commit)
        else:
            made = self._merge(branch, commit, changes, taken)
        self._tips[made] = branch
        covered = self._tips.pop(commit.parents[1], None) if len(commit.parents) == 2 else None
        if covered is not None:
            self._free.append(covered)
        return made

    def _branch_at(self, commit: str) -> str:
        """Return a hidden branch at a commit, which is going to move on."""
        branch = self._tips.pop(commit, None)
        if branch is not None:
            return branch
        if self._free:
            branch = self._free.pop()
            _reset(self._client, branch, commit)
            return branch
        branch = f"{self._prefix}_{self._made}"
        self._made += 1
        self._lake.create_branch(branch, commit, hidden=True)
        return branch

    def _stage(self, branch: str, changes: Mapping[str, Incoming | None]) -> None:
        small: dict[str, bytes] = {}
        held = 0
        for path, incoming in changes.items():
            if incoming is None:
                continue
            with incoming.open() as stream:
                if incoming.size > _SMALL:
                    self._lake.put(branch, path, cast(BinaryIO, _Once(stream)))
                    continue
                small[path] = stream.read()
            held += incoming.size
            if held > 16 * _SMALL:
                self._lake.put_many(branch, small)
                small, held = {}, 0
        self._lake.put_many(branch, small)
        gone = [path for path, incoming in changes.items() if incoming is None]
        self._client.each(lambda path: self._lake.delete(branch, path), gone)

    def _commit(self, branch: str, commit: Commit) -> str:
        # No date of its own: the log of lakeFS goes by dates, and would have parents before their children (tried).
        wanted = {"message": commit.message, "metadata": dict(commit.metadata), "allow_empty": True}
        return self._client.run(
            f"commit on branch {branch!r}",
            lambda sdk: str(sdk.commits.commit(self._name, branch, wanted)["id"]),
            lands=True,
            missing=f"there is no branch {branch!r}",
        )

    def _merge(
        self, branch: str, commit: Commit, changes: Mapping[str, Incoming | None], taken: Collection[str]
    ) -> str:
        """Merge the second parent as lakeFS does; where that comes to another tree, set it right with a commit."""
        first, second = commit.parents
        strategies: tuple[Strategy, ...] = ("none", "ours")
        for strategy in strategies:
            try:
                made = self._lake.merge(second, branch, commit.message, commit.metadata, strategy=strategy)
                break
            except RaceLostError:  # both sides changed one path
                if strategy == "ours":
                    raise
        theirs = {each.path for each in self._lake.diff(second, made)}
        if not changes and not theirs:
            return made
        ours = {each.path for each in self._lake.diff(first, made)}
        as_first = ours - set(taken) - set(changes)
        as_second = theirs & set(taken)
        if not (as_first or as_second or changes):
            return made
        # the merge as lakeFS has it must not be taken for the one that is meant
        _reset(self._client, branch, first)
        kept = {key: value for key, value in commit.metadata.items() if key in (AT, "headwater.actor")}
        self._lake.merge(second, branch, "refresh", {**kept, "headwater.kind": "refresh"}, strategy=strategy)
        self._stage(branch, {**self._as_at(first, as_first), **self._as_at(second, as_second), **changes})
        return self._commit(branch, commit)

    def _as_at(self, commit: str, paths: Collection[str]) -> dict[str, Incoming | None]:
        found: dict[str, Incoming | None] = {}
        for path in paths:
            try:
                size = self._lake.stat(commit, path).size
            except NotFoundError:
                found[path] = None
                continue
            found[path] = Incoming(size, lambda path=path: self._lake.open(commit, path))  # type: ignore[misc]
        return found


class _Once(io.RawIOBase):
    """A stream that says that it can't go back, so that it is sent as it is read and not measured first."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return self._stream.read(size)


def _reset(client: Client, branch: str, commit: str) -> None:
    name = client.address.repository
    client.run(
        f"move branch {branch!r}",
        lambda sdk: sdk.experimental.hard_reset_branch(name, branch, commit),
        missing=f"there is no branch {branch!r}, or no commit {commit!r}",
    )


# -- moving a branch --------------------------------------------------------------------------------------------------
def move_branch(lake: LakeFS, client: Client, branch: str, commit: str, expected: str) -> None:
    """Make a branch point at a commit, if it is where it was expected, and lose no merge that is under way.

    Raises:
        RaceLostError: It has moved, or another process is moving it.
    """
    mine = str(now_micros())
    since = time.monotonic()
    try:
        client.run(
            f"hold branch {branch!r}",
            lambda sdk: client.upload(sdk, branch, _HOLD, mine.encode(), {"If-None-Match": "*"}),
            missing=f"there is no branch {branch!r}",
            meaning={412: lambda fault: AlreadyExistsError(f"branch {branch!r} is held")},
        )
    except AlreadyExistsError:
        is_held(lake, client, branch)
        raise RaceLostError(f"branch {branch!r} is being moved", hint="try again in a moment") from None
    try:
        time.sleep(_SETTLE)
        if lake.head(branch) != expected:
            raise RaceLostError(f"branch {branch!r} has moved meanwhile", hint="try again")
        if time.monotonic() - since > _LEASE / 4:
            raise RaceLostError(f"the server is too slow to move branch {branch!r} safely", hint="try again later")
        _reset(client, branch, commit)
    finally:
        _release(lake, client, branch)


def _release(lake: LakeFS, client: Client, branch: str) -> None:
    """Take back what is staged of the hold, so that nothing is staged."""
    name = client.address.repository
    client.run(
        f"let go of branch {branch!r}",
        lambda sdk: sdk.branches.reset_branch(name, branch, {"type": "object", "path": _HOLD}),
        missing=f"there is no branch {branch!r}",
    )


def is_held(lake: LakeFS, client: Client, branch: str) -> bool:
    """Return whether a branch is held by a process that moves it; a hold that a dead one left is taken away."""
    try:
        with client.stream(branch, _HOLD) as stream:
            since = stream.readall()
    except HeadwaterError:  # mostly that it is not there; else what was refused says more
        return False
    if not since.isdigit() or now_micros() - int(since) > _LEASE * 1_000_000:
        _release(lake, client, branch)
    return True
