"""The command that tells the story of a model: `history`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from headwater.cli.base import Session, argument, command, limited, option
from headwater.cli.layout import fields, moment, short, table
from headwater.cli.output import clean, dim, note, paint, strong

if TYPE_CHECKING:
    from headwater.history_model import Happening, HistoryEntry, ModelMoment

__all__ = ["history"]

_LOUD = {"override": "1;31", "refused": "31", "failed": "31", "no force": "31"}
"""How what has a mark is shown on a terminal."""


@command(
    "history",
    ref=True,
    example="headwater history flight-delay\nheadwater history flight-delay --at 2026-11-01\n"
    "headwater history flight-delay --at 2026-11-01T12:30:00Z --limit 5",
)
@argument("name", "NAME", complete="model")
@option("--at", metavar="TIME", help="Show what was then: champion, stages and traffic, and what led to it.")
@limited
def history(session: Session, name: str, at: str | None, limit: int | None) -> None:
    """Tell the story of a model, newest first.

    Registrations, promotions with what their gates found, approvals, overrides, aliases, traffic and rollbacks, a
    paragraph for each commit. With --at it is what stood at that time, and the story until then: as main@{TIME} had
    it, whatever any clock said.
    """
    with session.open() as registry:
        if at is None:
            entries = registry.history(name, limit=limit)
            session.emit(entries, lambda: _story(entries))
        else:
            then = registry.history(name, at=at, limit=limit)
            session.emit(then, lambda: _then(then))


def _story(entries: Iterable[HistoryEntry]) -> Iterator[str]:
    for entry in entries:
        who, what = clean(entry.actor), clean(entry.message)
        commit = strong(short(entry.commit)) if entry.commit is not None else paint("no commit   ", _LOUD["no force"])
        yield f"{dim(moment(entry.landed_at))}  {commit}  {who}  {what}"
        for each in entry.happenings:
            if each.kind not in ("registered", "deployed"):
                yield "    " + _told(each)


def _told(happening: Happening) -> str:
    style = _LOUD.get(happening.mark)
    return clean(happening.text) if style is None else paint(happening.text, style)


def _then(found: ModelMoment) -> Iterator[str]:
    yield f"{strong(found.name)} at {moment(found.time)} UTC" + (", deleted" if found.deleted else "")
    serving = [
        (
            environment,
            ", ".join(
                f"{each.version} {each.mode}" + (f" {each.percent:g} %" if each.percent is not None else "")
                for each in shares
            ),
        )
        for environment, shares in found.traffic.items()
    ]
    yield from fields(
        [
            ("champion", found.champion if found.champion is not None else "none"),
            ("aliases", ", ".join(f"{alias} = {number}" for alias, number in found.aliases.items())),
            *serving,
            ("unsettled", "; ".join(found.unsettled)),
            ("commit", found.commit),
        ]
    )
    staged = [(number, stage) for number, stage in reversed(list(found.stages.items())) if stage != "none"]
    if staged:
        yield ""
        yield from table(("version", "stage"), staged, right=("version",))
    if found.entries:
        yield ""
        yield from _story(found.entries)
    else:
        note("nothing had happened yet")
