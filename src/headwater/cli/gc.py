"""The command `gc`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, command, option
from headwater.cli.layout import count, size
from headwater.cli.output import busy, clean, is_terminal, note, strong

if TYPE_CHECKING:
    from headwater.collection import Collected

__all__ = ["gc"]

_UNITS = {"": 1.0, "d": 1.0, "h": 1 / 24, "m": 1 / 1440, "w": 7.0}


@command(
    "gc",
    example="""\
headwater gc --dry-run
headwater gc --yes
headwater gc --grace 30""",
)
@option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@option(
    "--grace", metavar="DAYS", default="14", help="Keep what was deleted in so many days (or 12h, 2w). Default: 14."
)
@option("--yes", is_flag=True, help="Don't ask.")
def gc(session: Session, dry_run: bool, grace: str, yes: bool) -> None:
    """Delete what no branch, tag or row leads to any more.

    What a version, run or dataset refers to is never touched, on whatever branch it was made. A branch that was deleted
    goes after the grace period. Says how much it is, and asks, before anything is deleted. On a lakeFS server, objects
    are left to the server's own collection; docs/gc.md has the rules to set there.
    """
    days = _days(grace)
    if not (dry_run or yes or (is_terminal(sys.stdin) and is_terminal(sys.stderr))):
        raise click.UsageError("say --yes or --dry-run where nobody can be asked", click.get_current_context())

    def confirm(found: Collected) -> bool:
        note(*_told(found, "would delete"))
        return click.confirm("Delete it?", default=False, err=True)

    with session.open() as registry, busy("looking") if yes or dry_run else nullcontext():
        found = registry.gc(grace=days, dry_run=dry_run, confirm=None if yes else confirm)
    session.emit(found, lambda: _lines(found, declined=not yes and not dry_run and found.dry_run))


def _days(text: str) -> float:
    """Return the days of `14`, `12h` or `2w`."""
    number, unit = (text[:-1], text[-1]) if text[-1:].isalpha() else (text, "")
    try:
        days = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        days = float("nan")
    if not 0 <= days <= 100_000:
        raise click.UsageError(f"--grace takes days, or 12h or 2w, and not {text!r}", click.get_current_context())
    return days


def _lines(found: Collected, *, declined: bool) -> Iterable[str]:
    if declined:
        yield "Nothing was deleted."
    else:
        yield from _told(found, "would delete" if found.dry_run else "deleted")
        if found.shrunk is None:
            yield "Others are at work on the lake: its file keeps the room, and uses it again."
        elif found.shrunk:
            yield f"The lake's database is {size(found.shrunk)} smaller."
    if found.waiting:
        kept = _of(found.waiting_branches)
        days = f"{found.grace_days:g} {'day' if found.grace_days == 1 else 'days'}"
        yield f"{count(found.waiting, 'commit')}{kept} may go after {days} without a branch or tag (--grace)."
    if found.server:
        yield from _retention(found)


def _told(found: Collected, verb: str) -> Iterable[str]:
    if found.is_empty:
        yield "There is nothing to delete."
        return
    if found.commits or found.chunks or found.objects:
        yield (
            f"{verb} {strong(size(found.bytes))}: {count(found.commits, 'commit')}{_of(found.branches)},"
            f" {count(found.chunks, 'small object')} (with trees), {count(found.objects, 'large object')}"
        )
    if found.hidden_branches:
        yield f"{verb} what dead writers left: {found.hidden_branches:,} hidden branches"
    if found.cached:
        yield f"{verb} {strong(size(found.cached_bytes))} of the cache: {count(found.cached, 'leftover')}"


def _of(branches: tuple[str, ...]) -> str:
    if not branches:
        return ""
    named = ", ".join(map(clean, branches[:5])) + (", …" if len(branches) > 5 else "")
    return f" of {named}"


def _retention(found: Collected) -> Iterable[str]:
    if found.retention is None:
        yield "The server has no rules of garbage collection: whatever was committed is kept for ever."
        return
    named = ", ".join(f"{clean(name)} {days} days" for name, days in found.retention.items())
    yield f"The server forgets what no branch's head has, by its rules: {named} (docs/gc.md)."
