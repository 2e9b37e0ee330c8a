"""The commands that bring a history to another lake, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import count, size
from headwater.cli.merge import listed, merged, sides
from headwater.cli.output import busy, clean, dim, note, strong

if TYPE_CHECKING:
    from headwater.moving import Moved
    from headwater.registry import Registry
    from headwater.replication import Sent

__all__ = ["pull_from", "push"]


@command(
    "push",
    example="headwater push lakefs://127.0.0.1:8000/ml --storage-namespace s3://bucket/ml\n"
    "headwater push ../copy --branch main",
)
@argument("url", "URL")
@option("--storage-namespace", metavar="NS", help="Where a lakeFS repository that is made for this keeps its objects.")
def push(session: Session, url: str, storage_namespace: str | None) -> None:
    """Bring the history of this lake to another lake.

    All branches and tags, or only --branch. Only what the other lake lacks is sent; where this is interrupted, the
    same command goes on. Rows, bytes, numbers and names are the same there; so a number that means something else
    there stops it, before anything is written. The other lake is a copy of this one, or new, or missing; a new one
    gets the default branch too. Branches and tags that were deleted here are not deleted there.
    """
    with _open(session) as registry, _progress("pushing") as tell:
        done = registry.push(url, _branches(session), storage_namespace=storage_namespace, tell=tell)
    session.emit(done, lambda: _lines(done, f"{strong(clean(done.url))} has everything already"))


@command(
    "pull-from",
    example="headwater pull-from lakefs://127.0.0.1:8000/ml\n"
    "headwater pull-from ../copy --resolve alias:flight-delay@champion=theirs",
)
@argument("url", "URL")
@option("--ours", is_flag=True, help="Settle what was changed in both lakes as this one has it.")
@option("--theirs", is_flag=True, help="Settle what was changed in both lakes as the other has it.")
@option("--resolve", metavar="NAME=SIDE", multiple=True, help="Settle one: ours or theirs. Can be given again.")
def pull_from(session: Session, url: str, ours: bool, theirs: bool, resolve: tuple[str, ...]) -> None:
    """Bring the history of another lake to this one.

    All branches and tags, or only --branch. A branch that has gone on in both lakes is merged, as by `headwater merge`.
    This lake is a copy of the other one, or `headwater init` has just made it. Branches and tags that were deleted
    there are not deleted here.
    """
    from headwater.conflicts import MergeConflictError

    settle = sides(resolve)
    with _open(session) as registry, _progress("pulling") as tell:
        try:
            done = registry.pull_from(url, _branches(session), ours=ours, theirs=theirs, resolve=settle, tell=tell)
        except MergeConflictError as error:
            found = error.conflicts
            session.emit({"url": url, "conflicts": found}, lambda: listed(found))
            raise
    session.emit(done, lambda: _lines(done, f"there is nothing in {strong(clean(done.url))} that is not here"))


def _branches(session: Session) -> list[str] | None:
    return [session.branch] if session.branch is not None else None


@contextmanager
def _open(session: Session) -> Iterator[Registry]:
    """Open the registry on its current branch: `--branch` names one that may be in the other lake only."""
    from headwater import open

    with open(session.lake, actor=session.actor) as registry:
        yield registry


@contextmanager
def _progress(what: str) -> Iterator[Callable[[Sent], None]]:
    """Show on a terminal how much has been sent, and hand out what is told so."""
    told = {"text": what}

    def tell(sent: Sent) -> None:
        told["text"] = f"{what}: {sent.commits:,} of {count(sent.total, 'commit')}, {size(sent.bytes)}"

    with busy(lambda: told["text"]):
        yield tell


def _lines(done: Moved, nothing: str) -> Iterable[str]:
    if not (done.branches or done.tags):
        note(nothing)
        return
    for kind, refs in (("branch", done.branches), ("tag", done.tags)):
        for name, commit in refs.items():
            yield f"{kind} {strong(name)} is at {commit[:12]}"
    for merge in done.merges:
        yield from merged(merge)
    sent: dict[str, Any] = {"commit": done.commits, "object": done.objects}
    counts = " and ".join(count(number, noun) for noun, number in sent.items())
    yield dim(f"{counts} ({size(done.bytes)}) copied")
    note("branches and tags that were deleted in one lake are not deleted in the other")
