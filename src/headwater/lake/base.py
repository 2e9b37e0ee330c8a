"""The lake port: what every lake can do, in the words of a versioned object store; knows nothing of models or tables.

A lake holds objects at paths on branches. Changes are staged on a branch with `put` and `delete`, made permanent by
`commit`, and carried to another branch by `merge`. Readers name a commit, so they never see half of a change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

from headwater.errors import IntegrityError, InvalidInputError
from headwater.names import shown

__all__ = [
    "ABANDONED",
    "AT",
    "CHUNK",
    "HIDDEN_PREFIX",
    "IMPORT_PREFIX",
    "MOVE",
    "ORIGIN",
    "PIN_PREFIX",
    "REHEARSAL_ABANDONED",
    "REHEARSAL_PREFIX",
    "TRANSACTION_PREFIX",
    "Change",
    "Commit",
    "Garbage",
    "Importer",
    "Incoming",
    "Lake",
    "Mentions",
    "ObjectInfo",
    "Reservation",
    "Retention",
    "Source",
    "Strategy",
    "check_found",
    "check_lasting",
    "check_path",
]

CHUNK = 1 << 20
"""Bytes that are held at a time when an object is streamed."""

HIDDEN_PREFIX = "_hw_"
"""Branches whose name begins so belong to Headwater: never listed, never named by a user."""

TRANSACTION_PREFIX = f"{HIDDEN_PREFIX}tx_"
"""Hidden branches of transactions: the prefix, the transaction's UUIDv7, and a number."""

IMPORT_PREFIX = f"{HIDDEN_PREFIX}import_"
"""Hidden branches that hold what another lake sends until a branch moves there: the prefix, a UUIDv7 and a number."""

PIN_PREFIX = f"{HIDDEN_PREFIX}pin_"
"""Hidden branches that keep copies of commits which rows name and no other branch reaches."""

ORIGIN = "headwater.origin"
"""Commit metadata of a copy: the ID that the commit has in the lake that made it first."""

MOVE = "move"
"""`headwater.kind` of a merge that only moved a branch to its second parent: it says nothing, and stays in its lake."""

Reservation = tuple[str, int]
"""A sequence and a number of it; or the key of a claim, and 0."""

REHEARSAL_PREFIX = f"{HIDDEN_PREFIX}rehearsal_"
"""Lasting hidden branches of rehearsals: the prefix and a UUIDv7. Other processes may work on one by its name."""
ABANDONED = 24 * 3600 * 1_000_000
"""Microseconds after which a writer that has not landed is taken for dead."""

REHEARSAL_ABANDONED = 7 * ABANDONED
"""Microseconds after which a rehearsal is taken for dead: it may be a training of days, seen by another's clock."""

AT = "headwater.at"
"""Commit metadata: when the commit was made, in microseconds since 1970-01-01 UTC, never before its parents'."""

Source = bytes | BinaryIO
Strategy = Literal["none", "ours", "theirs"]


_REHEARSAL = re.compile(REHEARSAL_PREFIX + "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")


def check_lasting(name: str, *, hidden: bool) -> None:
    """Make sure that a branch may be hidden and lasting by its name.

    Raises:
        InvalidInputError: It is not hidden, or its name does not say since when it is there.
    """
    if not hidden or not _REHEARSAL.fullmatch(name):
        raise InvalidInputError(f"not a name for a branch that is hidden and lasts: {name!r}")


def check_path(path: str) -> None:
    """Make sure that an object may have a path, in this lake and on a disk: it leads down, and nowhere else.

    Raises:
        InvalidInputError: It does not.
    """
    if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise InvalidInputError(f"not a path of an object: {shown(path)}", hint="write names, with / between them")


def check_found(path: str) -> None:
    """Make sure that the path of an object that others wrote is one.

    Raises:
        IntegrityError: It is not.
    """
    try:
        check_path(path)
    except InvalidInputError:
        raise IntegrityError(
            f"an object's path could lead out of the lake: {shown(path)}", hint="do not trust who wrote it"
        ) from None


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """An object at a commit. `sha256` is None where only a stranger's upload is known to the lake."""

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit: its ID (64 hex digits), the IDs of its parents (first parent first), message and metadata."""

    id: str
    parents: tuple[str, ...]
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    micros: int = 0
    """When it was made, in microseconds since 1970-01-01 UTC: `headwater.at`, else the lake's own date."""


@dataclass(frozen=True, slots=True)
class Change:
    """A path that differs between two commits, seen from left to right."""

    path: str
    kind: Literal["added", "removed", "changed"]
    size: int = field(default=0, compare=False)
    """Bytes of the object on the right; of one that is removed it means nothing."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """An object of another lake that is to be brought in: its size in bytes, and how its bytes are read."""

    size: int
    open: Callable[[], BinaryIO]


class Importer(Protocol):
    """Copies commits of another lake into this one, where no branch shows them until it is moved there."""

    def commit(self, commit: Commit, changes: Mapping[str, Incoming | None], taken: Collection[str]) -> str:
        """Make a commit with given parents, message and metadata, and return the ID that it has here.

        It is where `Lake.commits` finds it, also if this process dies right after.

        Args:
            commit: What to make. Its parents are commits of this lake; its ID means nothing here.
            changes: In what its tree differs from its first parent's: objects by path, None where one is removed.
            taken: Paths at which the tree is as that of the second parent, be there an object or none.
        """


@dataclass(frozen=True, slots=True)
class Garbage:
    """What a lake can do without, or has been freed of.

    Attributes:
        commits: Commits that no branch, tag or row leads to.
        chunks: Trees and small objects that only those have.
        objects: Large objects that only those have, and those of writers that died.
        bytes: What chunks and large objects take on the disk.
        branches: The deleted branches and tags that the commits are from, as far as that is known.
        waiting: Commits that only the grace period keeps.
        waiting_branches: The deleted branches and tags that those are from.
        hidden: Hidden branches that dead writers left.
        shrunk: Bytes by which the file of a database got smaller; None where others were at work on it.
    """

    commits: int = 0
    chunks: int = 0
    objects: int = 0
    bytes: int = 0
    branches: tuple[str, ...] = ()
    waiting: int = 0
    waiting_branches: tuple[str, ...] = ()
    hidden: int = 0
    shrunk: int | None = 0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a server keeps what no branch's head has any more, where its owner has set rules.

    Attributes:
        days: Days that commits are kept, by branch.
        default: Days for the other branches.
    """

    days: Mapping[str, int]
    default: int


Mentions = Callable[[Iterable[str]], Iterable[str]]
"""Returns the commit IDs (or their first 8 or more digits) that the rows at some commits mention."""


class Lake(Protocol):
    """A versioned object store with branches, tags, commits and three-way merges.

    `commit` arguments named `ref` in these methods take a commit ID of 64 hex digits or the name of a branch or tag,
    and always mean what is committed there. Richer refs (`main~3`, short IDs) are resolved by `headwater.lake.refs`.
    Every method raises `LakeError` when the lake cannot be reached or used, `NotFoundError` for a ref, branch or
    path that is not there, and `PermissionDeniedError` when the credentials do not allow the call.
    """

    url: str
    """Where it is, as a person would name it again; without credentials."""

    default_branch: str

    cache: Path
    """A local folder of this lake's that may be deleted at any time."""

    spool: Path
    """A local folder of this lake's for what has not landed in it yet; what lies there is nowhere else."""

    # -- refs ---------------------------------------------------------------------------------------------------
    def head(self, branch: str) -> str:
        """Return the commit ID that a branch points at."""

    def branches(self, *, hidden: bool = False) -> dict[str, str]:
        """Return every branch with its head's commit ID, in order of name; hidden ones that last where asked for."""

    def create_branch(self, name: str, source: str, *, hidden: bool = False, lasting: bool = False) -> str:
        """Make a branch at commit `source` and return that commit's ID. A hidden one may die with this process.

        A hidden branch that is `lasting` does not, and other processes see it; its name is `REHEARSAL_PREFIX` and a
        UUIDv7, by which `sweep` knows how old it is.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
            InvalidInputError: It shall be lasting and hidden, and its name is not such a one's.
        """

    def delete_branch(self, name: str) -> None:
        """Delete a branch and what is staged on it. Its commits stay readable by their IDs until collected."""

    def tags(self) -> dict[str, str]:
        """Return every tag with its commit ID, in order of name."""

    def create_tag(self, name: str, commit: str) -> None:
        """Make a tag.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
        """

    def delete_tag(self, name: str) -> None:
        """Delete a tag."""

    def find_commits(self, prefix: str) -> list[str]:
        """Return the IDs (at most two are needed) of commits that begin with `prefix`, 8 or more hex digits."""

    def find_copies(self, prefix: str) -> list[str]:
        """Return the IDs (at most two are needed) of copies of commits whose first ID begins with `prefix`."""

    # -- history ------------------------------------------------------------------------------------------------
    def get_commit(self, commit: str) -> Commit:
        """Return one commit by its full ID.

        Raises:
            IntegrityError: Its content does not match its ID.
        """

    def find_commit(self, key: str, value: str) -> Commit | None:
        """Return the commit whose metadata has a key at a value, where the lake can tell without reading its log.

        None means that there is none, or that the lake can't tell.
        """

    def commits(self) -> Iterator[Commit]:
        """Yield, each once and after its parents, the commits that can be found: also those that no branch shows yet.

        Those that only imports hold come before what branches and tags have besides.
        """

    def log(self, commit: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """Yield `commit` and its ancestors, each once, every commit before its parents; fetched page by page."""

    def merge_base(self, left: str, right: str) -> str:
        """Return a best common ancestor of two commits."""

    def diff(self, left: str, right: str, prefix: str = "") -> Iterator[Change]:
        """Yield, in order of path, what differs from commit `left` to commit `right` (two-dot) under a prefix."""

    # -- writing ------------------------------------------------------------------------------------------------
    def put(self, branch: str, path: str, source: Source) -> ObjectInfo:
        """Stage an object, streamed in bounded memory, and return its size and sha256."""

    def put_many(self, branch: str, objects: Mapping[str, bytes]) -> None:
        """Stage several small objects, side by side where that is faster."""

    def delete(self, branch: str, path: str) -> None:
        """Stage the removal of an object; removing what is not there does nothing."""

    def delete_many(self, branch: str, paths: Iterable[str]) -> None:
        """Stage the removal of several objects, as `delete` does, in few calls where that is faster."""

    def restore(self, branch: str, commit: str, paths: Iterable[str]) -> None:
        """Stage objects as they are at a commit.

        Raises:
            NotFoundError: The commit has no such object.
        """

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> str:
        """Commit what is staged on a branch and return the new commit's ID.

        Raises:
            ConflictError: Nothing is staged.
        """

    def merge(
        self, source: str, into: str, message: str, metadata: Mapping[str, str], *, strategy: Strategy = "none"
    ) -> str:
        """Merge the commits of `source` (a branch or commit) into branch `into` and return the merge commit's ID.

        The merge commit's parents are the head of `into`, then the head of `source`. With strategy "ours" (or
        "theirs") a path that both sides changed is taken from `into` (or from `source`).

        Raises:
            RaceLostError: Both sides changed one path, or `into` moved while it was being merged.
            ConflictError: There is nothing to merge.
        """

    def claim(self, key: str, value: str, *, on: str | None = None) -> str:
        """Reserve `key` with `value` for the whole lake, unless it is reserved; return the value that stands.

        Where `on` names a hidden branch the reservation may become final only when that branch is merged, and the
        merge raises `RaceLostError` if another claim came first.
        """

    def cut(self, sequence: str, value: str, *, after: int = 0, on: str | None = None) -> int:
        """Reserve the lowest free number above `after` in a sequence, for the whole lake, and return it.

        Numbers of a sequence are cut only here. `on` is as for `claim`. Where numbers are
        final at once, a `value` that this process has a number for gets the same again, so that an operation that runs
        anew after a lost race leaves no gap.
        """

    def claimed(self, key: str) -> str | None:
        """Return the value that a key is reserved with; None where it is free. Nothing is reserved."""

    def newest(self, sequence: str) -> int:
        """Return the highest number of a sequence that is reserved, 0 where none is. Nothing is reserved."""

    def reservations(self) -> dict[Reservation, str]:
        """Return every claim and number that is final, with its value."""

    def reserve(self, wanted: Mapping[Reservation, str]) -> dict[Reservation, str]:
        """Reserve what another lake has reserved, and return those that stand at another value here."""

    def importing(self) -> AbstractContextManager[Importer]:
        """Copy commits of another lake into this one, all of whose parents are here."""

    def move_branch(self, name: str, commit: str, *, expected: str, over: bool = False) -> str:
        """Bring a branch to a commit that descends from where it is expected, and return where it is then.

        That is the commit, or a merge of kind `MOVE` on top. What another writer lands at this moment is never lost:
        it stops the move, or is in the merge too.

        Args:
            name: The branch.
            commit: What it is brought to.
            expected: Where it is now.
            over: Whether what the branch has besides may be covered up.

        Raises:
            RaceLostError: It has moved.
        """

    def exclusive(self) -> AbstractContextManager[object]:
        """Queue behind this machine's other writers of the lake. A courtesy that saves lost races, not a guarantee."""

    def sweep(self, before: int, *, rehearsals: int | None = None) -> int:
        """Delete what writers left that died before a time, and return how many things that were.

        Args:
            before: Microseconds since 1970-01-01 UTC; transactions that began later are left alone.
            rehearsals: The same for rehearsals, which may take longer; `before` if not given.
        """

    def collect(self, before: int, mentions: Mentions, confirm: Callable[[Garbage], bool]) -> Garbage:
        """Delete what no branch, tag or row leads to; where a server collects, only what dead writers left there.

        Args:
            before: Microseconds since 1970-01-01 UTC: what was deleted later is kept.
            mentions: Which commits are mentioned at given ones: those are kept, with their ancestors.
            confirm: Is told what there is to be deleted; where it returns False, nothing is.

        Returns:
            What was deleted, or what would have been.

        Raises:
            IntegrityError: Something that is reached is missing or damaged; nothing is deleted then.
            ConflictError: Another collection is at work.
        """

    def retention(self) -> Retention | None:
        """Return the rules by which a server forgets; None where there are none, and everything reached is kept."""

    # -- reading ------------------------------------------------------------------------------------------------
    def stat(self, ref: str, path: str) -> ObjectInfo:
        """Return an object's size and, where known, its sha256."""

    def list(self, ref: str, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose path begins with `prefix`, in order of the path's UTF-8 bytes."""

    def open(self, ref: str, path: str) -> BinaryIO:
        """Open an object for streaming reads.

        Raises:
            IntegrityError: While reading: the bytes are not those that were put.
        """

    def read(self, ref: str, path: str) -> bytes:
        """Return the bytes of a small object, checked as `open` does."""

    def read_many(self, ref: str, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of several small objects, fetched side by side where that is faster."""

    def localize(self, ref: str, paths: Iterable[str]) -> dict[str, Path]:
        """Return local files that hold these objects; read-only, never changed, and valid until `close`."""

    def places(self, ref: str, sizes: Mapping[str, int]) -> dict[str, Path]:
        """Return where `localize` puts data files of tables, which need not be there yet; fetches nothing.

        Args:
            ref: A commit ID.
            sizes: Their sizes in bytes, by path.
        """

    def delta(self, ref: str, path: str) -> tuple[str, dict[str, str]]:
        """Return a URI and storage options with which a stock Delta client opens the table at `path`."""

    def close(self) -> None:
        """Let go of connections; later calls may fail."""
