"""The commits of an embedded lake as a graph: those on disk, and those that only this process knows yet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256

from headwater.errors import ConflictError, NotFoundError
from headwater.ids import now_micros
from headwater.lake.base import AT, ORIGIN, Commit
from headwater.lake.local_db import Database
from headwater.lake.local_walk import Walk
from headwater.lake.pending import Hidden, Record, parse

__all__ = ["Graph"]


class Graph:
    """Commits and their ancestry.

    Args:
        database: Where commits are kept.
        hidden: The hidden branches of this process, by name; looked at, never changed.
    """

    def __init__(self, database: Database, hidden: Mapping[str, Hidden]) -> None:
        self._db = database
        self._hidden = hidden
        self._records: dict[str, Record] = {}

    def record(
        self,
        parents: tuple[str, ...],
        tree: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        micros: int | None = None,
    ) -> Record:
        """Return a new commit, which is kept nowhere yet."""
        micros = int(metadata.get(AT, now_micros())) if micros is None else micros
        generation = 1 + max((self.load(parent).generation for parent in parents), default=0)
        body = json.dumps(
            {
                "message": message,
                "metadata": dict(metadata),
                "micros": micros,
                "parents": parents,
                "tree": tree,
                "generation": generation,
            },
            sort_keys=True,
            ensure_ascii=False,
            separators=(",", ":"),
        )
        commit = Commit(sha256(body.encode()).hexdigest(), parents, message, dict(metadata), micros)
        return Record(commit, tree, generation, body)

    def load(self, commit: str) -> Record:
        """Return a commit by its full ID.

        Raises:
            NotFoundError: There is none.
            IntegrityError: It is not what was written.
        """
        record = self._records.get(commit)
        if record is not None:
            return record
        for hidden in list(self._hidden.values()):
            if commit in hidden.overlay.commits:
                return hidden.overlay.commits[commit]
        rows = self._db.query("SELECT body FROM commits WHERE id = ?", commit)
        if not rows:
            raise NotFoundError(f"there is no commit {commit!r}", hint="`headwater log` lists them")
        record = parse(commit, rows[0][0])
        if len(self._records) > 4096:
            self._records.clear()
        self._records[commit] = record
        return record

    def find_commit(self, key: str, value: str) -> Commit | None:
        """Return the commit whose metadata has a key at a value."""
        text = f"{json.dumps(key)}:{json.dumps(value)}"
        rows = self._db.query("SELECT id, body FROM commits WHERE instr(body, ?)", text)
        found = [parse(name, body).commit for name, body in rows]
        return next((commit for commit in found if commit.metadata.get(key) == value), None)

    def find_copies(self, prefix: str) -> list[str]:
        """Return at most two commits whose first ID, in another lake, begins with a prefix."""
        text = f'{json.dumps(ORIGIN)}:"{prefix}'
        rows = self._db.query("SELECT id, body FROM commits WHERE instr(body, ?)", text)
        found = {commit.metadata.get(ORIGIN, ""): commit.id for commit in (parse(*row).commit for row in rows)}
        return [copy for origin, copy in found.items() if origin.startswith(prefix)][:2]

    def commits(self) -> Iterator[Commit]:
        """Yield every commit on disk, parents first, also those that nothing reaches."""
        before = 0
        while rows := self._db.query("SELECT seq, id, body FROM commits WHERE seq > ? ORDER BY seq LIMIT 500", before):
            for seq, name, body in rows:
                before = seq
                yield parse(name, body).commit

    def log(self, commit: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """Yield a commit and its ancestors, every commit before its parents."""
        if first_parent:
            at: str | None = commit
            while at is not None:
                found = self.load(at).commit
                yield found
                at = found.parents[0] if found.parents else None
            return
        walk = Walk(self._db)
        pending = self._pending(commit)
        yield from pending
        ours = {each.id for each in pending}
        if not pending:
            self.load(commit)
            walk.add(commit)
        for each in pending:
            for parent in each.parents:
                if parent not in ours:
                    self.check_there(parent)
                    walk.add(parent)
        while walk:
            found = walk.take().commit
            yield found
            for parent in found.parents:
                walk.add(parent)

    def check_there(self, commit: str) -> None:
        """Make sure that a commit which something new builds on is still on disk.

        Raises:
            NotFoundError: It was collected.
        """
        if not self._is_there(commit):
            raise NotFoundError(
                f"commit {commit} is not in the lake any more", hint="it was collected; begin from a branch's head"
            )

    def _pending(self, commit: str) -> list[Commit]:
        """Return the commits from `commit` back that are not on disk yet, every commit before its parents."""
        for hidden in list(self._hidden.values()):
            commits = hidden.overlay.commits
            if commit in commits:
                wanted = {commit}
                found = []
                for record in reversed(list(commits.values())):
                    # What has landed stays in memory for a while, and what it descends from is on disk with it.
                    if record.commit.id in wanted and not self._is_there(record.commit.id):
                        found.append(record.commit)
                        wanted |= set(record.commit.parents)
                return found
        return []

    def _is_there(self, commit: str) -> bool:
        return bool(self._db.query("SELECT 1 FROM commits WHERE id = ?", commit))

    def merge_base(self, left: str, right: str) -> str:
        """Return a common ancestor that no other one descends from."""
        sides: dict[str, int] = {}
        walk = Walk(self._db)
        for side, head in ((1, left), (2, right)):
            self.load(head)
            pending = self._pending(head)
            mine = [each.id for each in pending]
            # What has not landed descends from what has.
            outer = {parent for each in pending for parent in each.parents} - set(mine)
            for name in mine or [head]:
                sides[name] = sides.get(name, 0) | side
            for name in outer:
                self.check_there(name)
                sides[name] = sides.get(name, 0) | side
            for name in outer if pending else [head]:
                walk.add(name)
            shared = next((name for name in mine if sides[name] == 3), None)
            if shared is not None:
                return shared
        while walk:
            found = walk.take().commit
            if sides[found.id] == 3:
                return found.id
            for parent in found.parents:
                sides[parent] = sides.get(parent, 0) | sides[found.id]
                walk.add(parent)
        raise ConflictError("the two commits have no common history", hint="they come from different lakes")

    def remember(self, records: list[Record]) -> None:
        """Keep commits at hand that have just landed."""
        self._records.update((each.commit.id, each) for each in records)

    def forget(self) -> None:
        """Keep none of the commits at hand that are on disk, because some may be there no more."""
        self._records.clear()
