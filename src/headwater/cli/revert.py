"""The command that undoes what a commit brought."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import count
from headwater.cli.output import clean, dim, note, strong

if TYPE_CHECKING:
    from headwater.undoing import Revert, Reverted

__all__ = ["revert"]

_MOST = 40
"""Changes that are printed one by one."""


@command(
    "revert",
    example="headwater log --limit 5\n"
    'headwater revert 1c4e9a7bd2f0 --reason "trained on the wrong month"\n'
    "headwater revert main --dry-run",
)
@argument("ref", "COMMIT", complete="ref")
@option("--reason", metavar="TEXT", help="Why; kept with the change.")
@option("--force", is_flag=True, help="Go on where something rests on what is reverted by this.")
@option("--dry-run", is_flag=True, help="Say what would happen, and write nothing.")
def revert(session: Session, ref: str, reason: str | None, force: bool, dry_run: bool) -> None:
    """Undo what a commit did; of a merge, all that it brought.

    What it made is hidden, and what it changed is again what it was. Nothing is erased: history keeps both, numbers
    stay taken, and reverting the revert brings everything back.
    """
    with session.open() as registry:
        done = registry.revert(ref, reason=reason, force=force, dry_run=dry_run)
    session.emit(done, lambda: _lines(done))
    if done.dependents and not session.json:
        note(("something would rest" if dry_run else "something rests") + " on what is reverted:")
        for each in done.dependents[:_MOST]:
            note(f"  {clean(each)}")


def _lines(done: Revert) -> Iterable[str]:
    several = f" ({count(done.transactions, 'transaction')})" if done.transactions > 1 else ""
    verb, by = ("would be", "") if done.commit is None else ("is", dim(f"  {done.commit[:12]}"))
    yield f"{strong(done.undone[:12])} {verb} undone: {clean(done.message)}{several}{by}"
    # What has its value from others too is written again, and stays as it was.
    changes = [each for each in done.changes if each.before != each.after]
    for each in changes[:_MOST]:
        yield f"  {_line(each)}"
    if len(changes) > _MOST:
        yield f"  and {len(changes) - _MOST:,} more"


def _line(change: Reverted) -> str:
    name = clean(change.name)
    if change.kind == "tombstone":
        return f"{name}: {'reverted' if change.after == 'hidden' else 'brought back'}"
    after = "none" if change.after is None else clean(change.after)
    return f"{name}: {after}, was {'none' if change.before is None else clean(change.before)}"
