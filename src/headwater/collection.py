"""Collecting garbage: what rows refer to, how long the lake keeps what, and the cache's leftovers; deletes by the lake.

What is reached is the lake's to say, by its branches and tags. What rows refer to is said here: a row that mentions a
commit keeps it, in whatever column it does so.
"""

from __future__ import annotations

import contextlib
import math
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from headwater import tables
from headwater.context import Context
from headwater.errors import InvalidInputError, NotFoundError
from headwater.fold import FOLDED
from headwater.ids import now_micros
from headwater.lake.base import Garbage, Lake, Retention
from headwater.schema import TABLES

__all__ = ["CACHE_LIMIT", "GRACE", "Collected", "Collection"]

GRACE = 14
"""Days: long enough to come back from a holiday and find that the wrong branch was deleted."""

CACHE_LIMIT = 10_000_000_000
"""Bytes that the cache may take; what was used least lately goes first."""

_IN_USE = 24 * 3600
"""Seconds after its last use for which something in the cache is taken to be in use."""

_NO_COMMITS = frozenset({"tx", "actor", "digest", "content", "relation", "external_url"})
"""Columns of text that hold no commit of the lake; those whose names end in `_id` hold none either."""

_COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_OBJECT = re.compile(r"object:.+@([0-9a-f]{8,64})")


@dataclass(frozen=True, slots=True)
class Collected:
    """What `Registry.gc` deleted, or would delete.

    Attributes:
        dry_run: Whether nothing was deleted.
        commits: Commits that no branch, tag or row leads to.
        chunks: Trees and small objects that only those have.
        objects: Large objects that only those have, and those of writers that died.
        bytes: What chunks and objects take.
        branches: The deleted branches and tags that the commits are from, as far as that is known.
        hidden_branches: Hidden branches that dead writers left on a server.
        cached: Files and folders of the cache that are left over.
        cached_bytes: What those take.
        waiting: Commits that only the grace period keeps.
        waiting_branches: The deleted branches and tags that those are from.
        grace_days: The grace period.
        shrunk: Bytes by which the lake's database got smaller; None where others were at work on it, and the room is
            used again.
        retention: What a server forgets by its own rules: days by branch, and `default`; None where it has no rules.
        server: Whether objects are left to a server's own collection.
    """

    dry_run: bool
    commits: int
    chunks: int
    objects: int
    bytes: int
    branches: tuple[str, ...]
    hidden_branches: int
    cached: int
    cached_bytes: int
    waiting: int
    waiting_branches: tuple[str, ...]
    grace_days: float
    shrunk: int | None
    retention: dict[str, int] | None
    server: bool

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to delete."""
        return not (self.commits or self.chunks or self.objects or self.hidden_branches or self.cached)


class Collection:
    """The service that collects.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def gc(
        self,
        *,
        grace: float | timedelta = GRACE,
        dry_run: bool = False,
        confirm: Callable[[Collected], bool] | None = None,
        cache_limit: int = CACHE_LIMIT,
    ) -> Collected:
        """Delete what nothing leads to. See `Registry.gc`."""
        if not dry_run:
            self._context.check_real("gc")
        lake = self._context.lake
        days = _days(grace)
        before = now_micros() - int(days * 86_400_000_000)
        cache = _Cache(self._context, cache_limit)
        leftovers = cache.trim(dry_run=True)
        rules = lake.retention()
        going = False

        def told(garbage: Garbage, cached: tuple[int, int]) -> Collected:
            return _collected(garbage, cached, days, rules, dry_run=not going, server="://" in lake.url)

        def decide(garbage: Garbage) -> bool:
            nonlocal going
            found = told(garbage, leftovers)
            going = not dry_run and (found.is_empty or confirm is None or confirm(found))
            return going

        garbage = lake.collect(before, _Mentions(lake), decide)
        if not going:
            return told(garbage, leftovers)
        return told(garbage, cache.trim())


def _days(grace: float | timedelta) -> float:
    days = grace / timedelta(days=1) if isinstance(grace, timedelta) else float(grace)
    if not math.isfinite(days) or not 0 <= days <= 100_000:
        raise InvalidInputError(f"not a grace period: {days:g} days", hint="give days from 0 on, such as 14")
    return days


def _collected(
    garbage: Garbage,
    cached: tuple[int, int],
    days: float,
    rules: Retention | None,
    *,
    dry_run: bool,
    server: bool,
) -> Collected:
    return Collected(
        dry_run=dry_run,
        commits=garbage.commits,
        chunks=garbage.chunks,
        objects=garbage.objects,
        bytes=garbage.bytes,
        branches=garbage.branches,
        hidden_branches=garbage.hidden,
        cached=cached[0],
        cached_bytes=cached[1],
        waiting=garbage.waiting,
        waiting_branches=garbage.waiting_branches,
        grace_days=days,
        shrunk=garbage.shrunk,
        retention=None if rules is None else {**rules.days, "default": rules.default},
        server=server,
    )


class _Mentions:
    """Says which commits the rows at some commits mention; no data file is read twice."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._read: set[tuple[str, str]] = set()
        self._found: set[str] = set()

    def __call__(self, heads: Iterable[str]) -> set[str]:
        for head in heads:
            for table in FOLDED:
                # Rows are never changed and files have names of their own: a branch adds to what another one has.
                files = [each for each in tables.load(self._lake, head, table).files if (table, each) not in self._read]
                self._read.update((table, each) for each in files)
                for text in self._texts(head, table, files):
                    self._found.update(_COMMIT.findall(text))
                    if text.startswith("object:") and (named := _OBJECT.fullmatch(text)):
                        self._found.add(named[1])
        return self._found

    def _texts(self, head: str, table: str, files: list[str]) -> Iterator[str]:
        """Yield every text of some data files that may mention a commit, each once."""
        if not files:
            return
        arrow = tables.read(self._lake, head, table, files)
        for column in TABLES[table].columns:
            if column.type == "string" and column.name not in _NO_COMMITS and not column.name.endswith("_id"):
                yield from (text for text in arrow.column(column.name).unique().to_pylist() if text is not None)


# -- the cache --------------------------------------------------------------------------------------------------------
class _Cache:
    """What the cache holds that nobody needs: folds of what is gone, and copies beyond a size."""

    def __init__(self, context: Context, limit: int) -> None:
        self._context = context
        self._limit = limit

    def trim(self, *, dry_run: bool = False) -> tuple[int, int]:
        """Delete it; return how many files and folders there were, and their bytes."""
        count, freed = self._context.folds.trim(
            self._context.lake.branches(hidden=True), self._is_there, dry_run=dry_run
        )
        total = 0
        oldest_needed = time.time() - _IN_USE
        for used, size, path in sorted(self._copies(), reverse=True):
            total += size
            if total > self._limit and used < oldest_needed:
                count, freed = count + 1, freed + size
                if not dry_run:
                    _remove(path)
        return count, freed

    def _is_there(self, commit: str) -> bool:
        with contextlib.suppress(NotFoundError):
            self._context.lake.get_commit(commit)
            return True
        return False

    def _copies(self) -> Iterator[tuple[float, int, Path]]:
        """Yield what was copied into the cache: when it was last used, its bytes, and what to delete as a whole."""
        cache = self._context.lake.cache
        for path in (cache / "objects").rglob("*"):
            if path.is_file():
                yield *_use(path), path
        for kind in ("delta", "datasets"):
            for folder in (cache / kind).glob("*"):
                uses = [_use(path) for path in folder.rglob("*") if path.is_file()]
                yield max((used for used, _ in uses), default=0.0), sum(size for _, size in uses), folder


def _use(path: Path) -> tuple[float, int]:
    with contextlib.suppress(OSError):
        found = path.stat()
        return max(found.st_atime, found.st_mtime), found.st_size
    return time.time(), 0


def _remove(path: Path) -> None:
    if path.is_dir():
        # Under another name first, so that nobody finds half of it.
        with contextlib.suppress(OSError):
            path = path.rename(path.with_name(f".{path.name}"))
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()
