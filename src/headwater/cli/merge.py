"""The command that merges branches, and how what they disagree about is shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import moment, table
from headwater.cli.output import clean, dim, note, paint, strong
from headwater.names import counted, shown

if TYPE_CHECKING:
    from headwater.conflicts import Conflict, Side
    from headwater.merge import Merge
    from headwater.merge_model import Replayed

__all__ = ["listed", "merge", "merged", "sides"]


@command(
    "merge",
    example="headwater merge exp-42\n"
    "headwater merge main --into exp-42\n"
    "headwater merge exp-42 --resolve alias:flight-delay@champion=theirs",
)
@argument("source", "SOURCE", complete="ref")
@option("--into", metavar="BRANCH", help="Merge into this branch; by default the current one.")
@option("--ours", is_flag=True, help="Settle what both changed as the branch that is merged into has it.")
@option("--theirs", is_flag=True, help="Settle what both changed as SOURCE has it.")
@option("--resolve", metavar="NAME=SIDE", multiple=True, help="Settle one: ours or theirs. Can be given again.")
@option("--dry-run", is_flag=True, help="Say what would happen, and write nothing.")
def merge(
    session: Session,
    source: str,
    into: str | None,
    ours: bool,
    theirs: bool,
    resolve: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Bring everything that another branch has into this one.

    Versions, runs, datasets, metrics and predictions of both stay, with the numbers they have. What both changed to
    different values since they parted is listed, and nothing is merged until it is settled. What is in production of a
    model is settled as one. Where the model has gates or roles, a promotion on SOURCE is made again here, under the
    gates and roles found here, by whoever merges; --ours leaves production as it is. Gates of datasets are asked of
    every version that comes along.
    """
    from headwater.conflicts import MergeConflictError
    from headwater.model import as_json

    settle = sides(resolve)
    with session.open() as registry:
        try:
            done = registry.merge(source, into, ours=ours, theirs=theirs, resolve=settle, dry_run=dry_run)
        except MergeConflictError as error:
            # What the two disagree about is what was asked for; the error says in a line what to do about it.
            found = error.conflicts
            session.emit({"source": source, "commit": None, "conflicts": found}, lambda: listed(found))
            raise
    session.emit({**as_json(done), "up_to_date": done.up_to_date}, lambda: merged(done))
    if not session.json:
        note(*(clean(text) for text in done.notes))
    left = [each for each in done.conflicts if each.name not in done.settled]
    if left:
        raise MergeConflictError(left, done.source, done.target)
    done.check()


def sides(resolve: tuple[str, ...]) -> dict[str, str]:
    """Return what `--resolve` chooses: a side by the name of a conflict."""
    from headwater.errors import InvalidInputError

    found: dict[str, str] = {}
    for text in resolve:
        # The key of a tag may hold a `=`; a side never does.
        name, equals, side = text.rpartition("=")
        if not equals or not name:
            raise InvalidInputError(f"not a choice: {shown(text)}", hint="write NAME=ours or NAME=theirs")
        if found.setdefault(name, side) != side:
            raise InvalidInputError(f"{shown(name)} is settled twice", hint="settle it once")
    return found


def merged(done: Merge) -> Iterable[str]:
    """Yield what a merge came to, or would come to, in lines for eyes."""
    if done.up_to_date:
        yield f"{strong(done.target)} has everything of {strong(done.source)} already"
        return
    verb = "would bring" if done.dry_run else "brought"
    yield f"{strong(done.source)} {verb} {done.words()} into {strong(done.target)}" + (
        "" if done.commit is None else dim(f"  {done.commit[:12]}")
    )
    for each in done.conflicts:
        if each.name in done.settled:
            side = each.ours if done.settled[each.name] == "ours" else each.theirs
            yield f"  {clean(_settled(each, side))} ({done.settled[each.name]})"
    verb = "passes" if done.dry_run else "passed"
    for data in done.datasets:
        gates = counted(len(data.results), "gate")
        yield f"  {clean(data.reference)} {f'{verb} {gates}' if data.passed else paint('fails its gates', 'red')}"
    for again in done.replayed:
        yield f"  {'would ' if done.dry_run else ''}{clean(again.words())}" + (
            paint(f": {clean(again.refusal or '')}", "red") if not again.passed else f": {_passed(again)}"
        )
    yield from listed([each for each in done.conflicts if each.name not in done.settled])


def _passed(again: Replayed) -> str:
    return f"{counted(len(again.results), 'gate')} passed" if again.results else "decided again"


def listed(conflicts: Sequence[Conflict]) -> list[str]:
    """Return a table of conflicts with both sides' values."""
    if not conflicts:
        return []
    rows = [
        (each.name if side is each.ours else "", which, _value(side), side.actor, moment(side.recorded_at))
        for each in conflicts
        for which, side in (("ours", each.ours), ("theirs", each.theirs))
    ]
    return table(("conflict", "side", "value", "by", "when"), rows)


def _settled(conflict: Conflict, side: Side) -> str:
    if conflict.kind == "tombstone":
        kept = "stays deleted" if side.raw == "hidden" else "is kept"
        return f"{conflict.name.removeprefix('tombstone:')} {kept}"
    return f"{conflict.name} is {_value(side)}"


def _value(side: Side) -> str:
    return "none" if side.value is None else clean(side.value)
