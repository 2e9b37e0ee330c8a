"""Atomic writes: everything that one operation writes reaches its branch by one merge, or not at all.

A transaction works on a hidden branch. Artifacts are uploaded there first; then, queued behind this machine's other
writers, the operation looks at the branch's head, decides, and its rows are committed and merged. If another writer
landed first the operation runs again on the new head; what was uploaded, and the numbers that were cut, are kept.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from headwater.deltalog import TableFiles
from headwater.difference import Difference
from headwater.errors import ConflictError, HeadwaterError, InvalidInputError, LakeError, RaceLostError
from headwater.fold import ACTOR, FOLDED, KIND, LANDED, SUBJECT, TX
from headwater.ids import new_id, now_micros
from headwater.keys import Signer
from headwater.keys import signer as load_signer
from headwater.lake.base import (
    ABANDONED,
    AT,
    REHEARSAL_ABANDONED,
    REHEARSAL_PREFIX,
    TRANSACTION_PREFIX,
    Commit,
    Lake,
    ObjectInfo,
    Source,
)
from headwater.names import shown
from headwater.schema import TABLES
from headwater.sealing import seal
from headwater.signatures import EVENTS
from headwater.state import Fold, Folds
from headwater.tables import Append, DataBody, Row, folder, prepare, sweep

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import pyarrow as pa

__all__ = ["Landing", "Transaction", "Upload", "Writer"]

Result = TypeVar("Result")

_ATTEMPTS = 200
_LONGEST_PAUSE = 1.0
_TAKEN_AS_THEY_ARE = 1 << 20
"""Bytes from which on a data file of another branch is not written again."""


class Upload(Protocol):
    """Puts one object on the transaction's branch and returns what it is."""

    @property
    def tx(self) -> str:
        """The transaction's UUIDv7, for rows that are uploaded as whole data files."""

    @property
    def micros(self) -> int:
        """When it began, in microseconds since 1970-01-01 UTC."""

    @property
    def actor(self) -> str:
        """Who acts."""

    def __call__(self, path: str, source: Source, /) -> ObjectInfo:
        """Stream an object to a path."""


@dataclass(frozen=True, slots=True)
class Landing(Generic[Result]):
    """What a transaction came to: the operation's result, and the commit that holds its rows (None: it wrote none)."""

    result: Result
    commit: str | None


class Transaction:
    """One attempt at an operation: the state that it decides on, and what it is going to write.

    Attributes:
        tx: UUIDv7 of the transaction, the same in every attempt.
        fold: The state of the branch's head.
        micros: When it is, for every row; later than the head's commit.
        actor: Who acts.
        subject: What the log says this is about; the operation sets it.
        message: What the log says has happened; the operation sets it.
        metadata: What else the commit's metadata holds.
        root: What the trust of the lake begins with; None where it is not signed.
    """

    def __init__(self, lake: Lake, fold: Fold, hidden: str, tx: str, actor: str, *, rehearsed: bool = False) -> None:
        self.tx = tx
        self.fold = fold
        self.actor = actor
        self.micros = max(now_micros(), fold.micros() + 1)
        self.subject = ""
        self.message = ""
        self.rows: dict[str, list[Row]] = {}
        self.bulk: dict[str, pa.Table] = {}
        self.files: dict[str, Sequence[DataBody]] = {}
        self.objects: dict[str, bytes] = {}
        self.joined: Difference | None = None
        self.kept: set[str] = set()
        self.metadata: dict[str, str] = {}
        self.root = fold.root
        self._lake = lake
        self._hidden = hidden
        self._rehearsed = rehearsed

    def append(self, table: str, **values: object) -> None:
        """Add a row; columns that are not given are null."""
        row: dict[str, Any] = dict.fromkeys(TABLES[table].names)
        row.update(values, tx=self.tx, recorded_at=self.micros, actor=self.actor)
        self.rows.setdefault(table, []).append(row)

    def append_arrow(self, table: str, columns: Mapping[str, pa.Array]) -> None:
        """Add many rows of a table that is not folded, once in a transaction.

        Args:
            table: A name of `schema.TABLES`; nothing is appended to it row by row in this transaction.
            columns: Arrays of one length, dictionary-encoded where values repeat; columns not given are null.
        """
        from headwater.tables import bulk_rows

        self.bulk[table] = bulk_rows(table, columns, self.tx, self.micros, self.actor)

    def append_files(self, table: str, files: Sequence[DataBody]) -> None:
        """Make data files that `uploads` put into the lake part of a table that is not folded, once in a transaction.

        Args:
            table: A name of `schema.TABLES`; nothing else is appended to it in this transaction.
            files: What `tables.encode` made of rows that have this transaction's `tx`.
        """
        self.files[table] = files

    def join(self, new: Difference) -> None:
        """Bring everything that another commit has and the head lacks, as it is; once, and before anything is added.

        Objects come by a merge of the lake's own. Tables are sets, which a lake can't merge: they stay the head's, and
        the new rows are added to them. Data files that are large, and new as a whole, are taken as they are.
        """
        self.joined = new
        self.micros = max(self.micros, max(commit.micros for commit in new.commits) + 1)
        for table, parts in new.parts.items():
            large = [part for part in parts if part.whole and part.size >= _TAKEN_AS_THEY_ARE]
            small = [part for part in parts if part not in large]
            if table in FOLDED:
                # What is folded is read in any case, and one file of a table is better than many.
                self.rows.setdefault(table, []).extend(new.rows[table])
                continue
            if small:
                self.bulk[table] = new.arrow(table, small)
            if large:
                self.files[table] = [DataBody(part.path, b"", part.size, part.statistics) for part in large]
                self.kept |= {folder(table) + part.path for part in large}

    def event(
        self,
        subject: str,
        kind: str,
        value: str | None,
        *,
        key: str = "",
        reason: str | None = None,
        prev: Sequence[str] | None = None,
    ) -> str:
        """Add an event that supersedes whatever stands for its subject, kind and key, or `prev`; return its ID."""
        if prev is None:
            prev = [event for event, _ in self.fold.standing(subject, kind, key)]
        self.append(
            "events",
            event_id=(event_id := new_id()),
            subject=subject,
            kind=kind,
            key=key,
            value=value,
            prev=list(prev),
            reason=reason or None,
        )
        return event_id

    def put(self, path: str, body: bytes) -> None:
        """Add a small object."""
        self.objects[path] = body

    def fence(self, model_id: str) -> None:
        """Make this transaction conflict with any other that decides on the same model."""
        self.objects[f"fence/{model_id[-1]}/{model_id}"] = self.tx.encode()

    def fence_all(self, *, always: bool = False) -> None:
        """Make this transaction conflict with any other that changes roles, or policies of more than one model.

        Args:
            always: Also where there are none, because this makes one. Else nothing is done there: those that decide on
                different models need not wait for each other.
        """
        rule = (
            "SELECT 1 FROM events WHERE standing AND (kind = 'role'"
            " OR (kind = 'policy' AND subject >= 'pattern:' AND subject < 'pattern;'))"
        )
        if always or self.fold.signed or self.fold.one(rule) is not None:
            self.objects["fence/_all"] = self.tx.encode()

    def claim(self, key: str, value: str) -> str:
        """Reserve a key for the whole lake and return what stands; in a rehearsal, return what would stand."""
        if self._rehearsed:
            stands = self._lake.claimed(key)
            return stands if stands is not None else self._claimed_here(key) or value
        return self._lake.claim(key, value, on=self._hidden)

    def cut(self, sequence: str, *, after: int) -> int:
        """Reserve the next number of a sequence for the whole lake; in a rehearsal, return what it would be.

        Args:
            sequence: What is numbered.
            after: The newest number that the fold has.
        """
        if self._rehearsed:
            return max(after, self._lake.newest(sequence)) + 1
        return self._lake.cut(sequence, self.tx, after=after, on=self._hidden)

    def _claimed_here(self, key: str) -> str | None:
        """Return who has a key by what the branch holds: a rehearsal's own rows are all that tells what it took."""
        kind, _, rest = key.partition("/")
        if kind == "name":
            found = self.fold.one(
                "SELECT subject FROM events WHERE kind = 'name' AND value = ? ORDER BY recorded_at LIMIT 1",
                rest.partition("/")[2],
            )
        elif kind == "semver":
            name, _, semver = rest.rpartition("/")
            found = self.fold.one("SELECT dataset_id FROM datasets WHERE name = ? AND semver = ?", name, semver)
        else:
            raise AssertionError(f"nothing says who has {key!r} in a rehearsal")
        return str(found[0]) if found else None


class Writer:
    """Runs transactions on a lake.

    Args:
        lake: The lake.
        folds: Its folded states.
        only: The one branch that may be written to, if not all may.
    """

    def __init__(self, lake: Lake, folds: Folds, *, only: str | None = None) -> None:
        self._lake = lake
        self._folds = folds
        self.only = only
        self.signs_for = ""
        self._queued = False
        self.signed = False
        self.landed: dict[str, set[str]] = {}
        """By branch: kinds of the events that it has landed there."""
        self._cleaner: tuple[int, ThreadPoolExecutor] | None = None
        self._signers: dict[str, Signer] = {}

    def signer(self, actor: str) -> Signer:
        """Return the key that signs for an actor, read once.

        Raises:
            PermissionDeniedError: There is none here that may be used.
            InvalidInputError: Its file or passphrase is wrong.
        """
        if actor not in self._signers:
            self._signers[actor] = load_signer(actor)
        return self._signers[actor]

    def beside(self, branch: str, *, signs_for: str, queued: bool) -> Writer:
        """Return a writer of one hidden branch, to which another one is moved when all is written.

        Args:
            branch: The hidden branch.
            signs_for: The branch that events are signed for; empty: they are not, as in any rehearsal.
            queued: Whether the caller has this machine's other writers wait already.
        """
        made = Writer(self._lake, self._folds, only=branch)
        made.signs_for, made._queued, made.signed = signs_for, queued, self.signed and bool(signs_for)
        made._signers = self._signers
        made.landed = self.landed if signs_for else {}
        return made

    def run(
        self,
        branch: str,
        *,
        kind: str,
        actor: str,
        work: Callable[[Transaction], Result],
        uploads: Callable[[Upload], None] | None = None,
    ) -> Landing[Result]:
        """Run an operation and land what it writes on a branch.

        Args:
            branch: The branch that it lands on.
            kind: What the log calls it, such as `register`.
            actor: Who acts.
            work: Looks at the state and adds rows; called again if another writer lands first.
            uploads: Puts large objects on the transaction's branch; called once, before `work`.

        Raises:
            ConflictError: Others kept landing first for as long as it was worth trying.
            InvalidInputError: The branch is not the one that may be written to.
            HeadwaterError: Whatever `work` or `uploads` raise; nothing is written then.
        """
        if self.only not in (None, branch):
            raise InvalidInputError(
                f"a rehearsal writes to a branch of its own, not to {shown(branch)}",
                hint=f"`headwater rehearse ... --branch {branch}` rehearses what would happen there",
            )
        tx = new_id()
        if self.signed and not branch.startswith(REHEARSAL_PREFIX):
            # Who is asked for a passphrase keeps nobody waiting; what writes nothing needs no key.
            with contextlib.suppress(HeadwaterError):
                self.signer(actor)
        with _Branches(self._lake, self._delete, f"{TRANSACTION_PREFIX}{tx}") as branches:
            if uploads is not None:
                metadata = {ACTOR: actor, AT: str(now_micros())}
                branches.upload(self._lake.head(branch), uploads, metadata, tx)
            prepare()  # before others have to wait for it
            for attempt in range(_ATTEMPTS):
                try:
                    with contextlib.nullcontext() if self._queued else self._lake.exclusive():
                        with self._folds.at_head(branch) as fold:
                            landing, forward = self._attempt(branch, fold, branches, tx, kind, actor, work)
                        forward()
                        return landing
                except RaceLostError:
                    branches.spoil()
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.01 * 1.5**attempt)))
        raise ConflictError(
            f"other writers of branch {branch!r} landed first {_ATTEMPTS} times", hint="try again when it is quieter"
        )

    def _attempt(
        self,
        branch: str,
        fold: Fold,
        branches: _Branches,
        tx: str,
        kind: str,
        actor: str,
        work: Callable[[Transaction], Result],
    ) -> tuple[Landing[Result], Callable[[], None]]:
        """Try once; return what came of it, and what brings the fold forward when it is no longer being read."""
        branches.bring_to(fold.commit, {ACTOR: actor, AT: str(max(now_micros(), fold.micros()))})
        rehearsed = branch.startswith(REHEARSAL_PREFIX) and not self.signs_for
        transaction = Transaction(self._lake, fold, branches.name, tx, actor, rehearsed=rehearsed)
        result = work(transaction)
        if not (transaction.rows or transaction.bulk or transaction.files or transaction.objects):
            return Landing(result, None), _nothing
        events = seal(
            fold,
            transaction.rows,
            tx=tx,
            actor=actor,
            branch=self.signs_for or branch,
            root=transaction.root,
            signer=None if rehearsed else partial(self.signer, actor),
        )
        at = str(transaction.micros)
        parent = branches.start or fold.commit
        brought: list[Commit] = []
        if transaction.joined is not None:
            parent = branches.join(transaction.joined.right, fold.commit, transaction.kept, {ACTOR: actor, AT: at})
            brought = list(transaction.joined.commits)
        puts = dict(transaction.objects)
        deletes: list[str] = []
        after: dict[str, TableFiles] = {}
        written_rows: dict[str, list[Row] | pa.Table] = {
            **{name: [] for name in transaction.files},
            **transaction.rows,
            **transaction.bulk,
        }
        for name, rows in written_rows.items():
            stored = transaction.files.get(name, ())
            append = Append(self._lake, fold.commit, name, fold.table(name), rows, transaction.micros, stored)
            puts |= append.puts
            after[name] = append.files
            deletes += append.deletes
        self._lake.delete_many(branches.name, deletes)
        self._lake.put_many(branches.name, puts)
        message = transaction.message or kind
        metadata = {TX: tx, KIND: kind, SUBJECT: transaction.subject, ACTOR: actor, AT: at, EVENTS: events}
        metadata |= transaction.metadata
        commit = self._lake.commit(branches.name, message, metadata)
        written = _made(commit, (parent,), message, metadata)
        landing = self._merge(branch, branches.name, fold.commit, message, {LANDED: tx, ACTOR: actor, AT: at})
        before = fold.commit
        merged = self._lake.get_commit(landing)
        kinds = {row["kind"] for row in transaction.rows.get("events", ())}
        self.landed.setdefault(self.signs_for or branch, set()).update(kinds)
        # Another writer's disjoint change may have landed in between; then the next reader of the fold catches up.
        new = [*brought, *branches.commits, written, merged] if merged.parents[0] == before else []
        return Landing(result, commit), lambda: self._forward(branch, before, new, transaction.rows, after)

    def _forward(
        self,
        branch: str,
        before: str,
        new: list[Commit],
        rows: Mapping[str, list[Row]],
        after: Mapping[str, TableFiles],
    ) -> None:
        if new:
            with contextlib.suppress(HeadwaterError):
                self._folds.landed(branch, before, new, rows, after)

    def _merge(self, branch: str, hidden: str, head: str, message: str, metadata: Mapping[str, str]) -> str:
        try:
            return self._lake.merge(hidden, branch, message, metadata)
        except LakeError:
            # The answer was lost, not the question: look whether the merge has landed.
            for commit in self._lake.log(self._lake.head(branch), first_parent=True):
                if commit.metadata.get(LANDED) == metadata[LANDED]:
                    return commit.id
                if commit.id == head:
                    break
            raise

    def _delete(self, name: str) -> None:
        """Delete a hidden branch in the background; nobody waits for it."""
        from concurrent.futures import ThreadPoolExecutor

        try:
            if self._cleaner is None or self._cleaner[0] != os.getpid():
                self._cleaner = os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="headwater-cleaner")
                self._cleaner[1].submit(_quietly, self._sweep, now_micros())
                self._cleaner[1].submit(sweep, self._lake.cache, time.time())
            self._cleaner[1].submit(_quietly, self._lake.delete_branch, name)
        except RuntimeError:
            # The interpreter ends, and starts nothing in the background any more: a run lands its last points now.
            _quietly(self._lake.delete_branch, name)

    def _sweep(self, now: int) -> None:
        self._lake.sweep(now - ABANDONED, rehearsals=now - REHEARSAL_ABANDONED)

    def close(self) -> None:
        """Wait until the branches of ended transactions are gone."""
        if self._cleaner is not None and self._cleaner[0] == os.getpid():
            self._cleaner[1].shutdown(wait=True)
            self._cleaner = None


@dataclass(frozen=True, slots=True)
class _Upload:
    """See `Upload`."""

    lake: Lake
    branch: str
    tx: str
    micros: int
    actor: str

    def __call__(self, path: str, source: Source, /) -> ObjectInfo:
        return self.lake.put(self.branch, path, source)


class _Branches:
    """The hidden branches of one transaction: one at a time, deleted in the background, all gone at the end."""

    def __init__(self, lake: Lake, delete: Callable[[str], None], prefix: str) -> None:
        self.name = ""
        self.commits: list[Commit] = []
        self._lake = lake
        self._delete = delete
        self._prefix = prefix
        self._made = 0
        self._base = ""
        self.start: str | None = None
        self._spoiled = False

    def __enter__(self) -> _Branches:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.name:
            self._delete(self.name)

    def upload(self, base: str, uploads: Callable[[Upload], None], metadata: Mapping[str, str], tx: str) -> None:
        """Put objects on a first branch, in a commit of their own that every attempt starts from."""
        self._make(base)
        self._base = base
        uploads(_Upload(self._lake, self.name, tx, int(metadata[AT]), metadata[ACTOR]))
        metadata = {KIND: "upload", **metadata}
        self.start = self._lake.commit(self.name, "upload", metadata)
        self.commits.append(_made(self.start, (base,), "upload", metadata))

    def bring_to(self, head: str, metadata: Mapping[str, str]) -> None:
        """Make the branch hold the target's head and what was uploaded, and nothing else."""
        if self.start is None:
            self._make(head)
            return
        if self._spoiled:
            self._make(self.start)
        if self._base != head:
            before, metadata = self.start, {KIND: "refresh", **metadata}
            self.start = self._lake.merge(head, self.name, "refresh", metadata)
            self.commits.append(_made(self.start, (before, head), "refresh", metadata))
            self._base = head

    def join(self, source: str, head: str, kept: set[str], metadata: Mapping[str, str]) -> str:
        """Take another commit into the branch's ancestry, with its objects and without its tables; return the merge's.

        Args:
            source: The other commit.
            head: The commit whose tables stay.
            kept: Paths of the other's data files that are wanted all the same.
            metadata: The merge commit's.
        """
        lake, before = self._lake, self.start or head
        metadata = {KIND: "join", **metadata}
        joined = lake.merge(source, self.name, "join", metadata, strategy="ours")
        changes = list(lake.diff(before, joined, "tables/"))
        lake.delete_many(self.name, [c.path for c in changes if c.kind == "added" and c.path not in kept])
        lake.restore(self.name, head, [c.path for c in changes if c.kind != "added"])
        self.commits.append(_made(joined, (before, source), "join", metadata))
        return joined

    def spoil(self) -> None:
        """Note that rows were written that must not stay."""
        self._spoiled = True

    def _make(self, source: str) -> None:
        # The old branch goes last: until then its commits are sure to be there.
        old, name = self.name, f"{self._prefix}_{self._made}"
        self._lake.create_branch(name, source, hidden=True)
        self._made += 1
        self.name = name
        self._spoiled = False
        if old:
            self._delete(old)


def _made(commit: str, parents: tuple[str, ...], message: str, metadata: Mapping[str, str]) -> Commit:
    """Return a commit that this transaction made, as the lake would tell it."""
    return Commit(commit, parents, message, dict(metadata), int(metadata[AT]))


def _nothing() -> None:
    """Do what follows a transaction that wrote nothing."""


Argument = TypeVar("Argument")


def _quietly(call: Callable[[Argument], object], argument: Argument) -> None:
    with contextlib.suppress(HeadwaterError):
        call(argument)
