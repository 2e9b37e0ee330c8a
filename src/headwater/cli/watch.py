"""The command that looks after what serves: `watch`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import moment, short, table
from headwater.cli.notify import tell_news
from headwater.cli.output import clean, flush, note, paint, strong
from headwater.errors import ConflictError, GateFailedError, IntegrityError, LakeError
from headwater.names import quote

if TYPE_CHECKING:
    from headwater.registry import Registry
    from headwater.watch_model import Watched

__all__ = ["watch"]


@command(
    "watch",
    example="headwater watch flight-delay\nheadwater watch flight-delay --once --no-rollback",
)
@argument("name", "NAME", complete="model")
@option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(min=0.1, max=86_400),
    default=60.0,
    help="How long to wait from one look to the next. By default 60.",
)
@option("--once", is_flag=True, help="Look once; exit with 3 if a gate failed.")
@option("--rollback/--no-rollback", default=True, help="Roll back what fails, or only tell. By default roll back.")
def watch(session: Session, name: str, interval: float, once: bool, rollback: bool) -> None:
    """Look after what serves, and roll back what fails a live gate.

    The gates of production over live predictions are asked of what is live and of canaries. A canary that fails
    ends; where what is live fails, the version before comes back. What has too few predictions is not judged yet, and a
    lake that can't be read is no reason to change anything.
    """
    with session.open() as registry:
        if once:
            found = registry.watch(name, rollback=rollback)
            session.emit(found, lambda: _lines(found))
            if found.failed:
                failing = [each for each in found.looks if each.verdict == "failed" and each.mode != "shadow"]
                versions = " and ".join(dict.fromkeys(f"{quote(found.name)}/{each.version}" for each in failing))
                raise GateFailedError(
                    f"a live gate failed of {versions}", hint="what each found, and what was done, is above"
                )
            return
        _keep_looking(session, registry, name, interval, rollback)


def _keep_looking(session: Session, registry: Registry, name: str, interval: float, rollback: bool) -> None:
    seen = ""
    while True:
        try:
            if registry.head != seen:
                found = registry.watch(name, rollback=rollback)
                # What a rollback wrote is looked at too: what came back has to do well as well.
                seen = found.commit
                session.emit(found, lambda found=found: _lines(found))  # type: ignore[misc]
                flush()
                tell_news(registry, registry.take_news())
        except (LakeError, IntegrityError, ConflictError) as error:
            seen = ""
            note(f"can't look now, and nothing is changed: {clean(error.message)}")
        time.sleep(interval)


def _lines(found: Watched) -> Iterator[str]:
    yield f"{strong(found.name)} at {moment(found.looked_at)} UTC, as of commit {short(found.commit)}"
    rows = [
        (
            look.version,
            look.mode,
            f"{look.traffic:g} %" if look.traffic is not None else "",
            result.gate if result is not None else "",
            result.required if result is not None else "",
            result.found if result is not None else "",
            look.verdict if result is None else _verdict(result.passed, result.details.get("enough") is True),
        )
        for look in found.looks
        for result in (look.results or (None,))
    ]
    if rows:
        headers = ("version", "mode", "traffic", "gate", "required", "found", "verdict")
        yield from table(headers, rows, right=("version", "traffic"))
    else:
        yield "nothing serves production"
    if found.rolled_back is not None:
        back = f"rolled back to version {found.rolled_back.version}, in commit {short(found.rolled_back.commit)}"
        yield paint(back, "1;31")
    elif found.note is not None:
        yield paint(f"not rolled back: {found.note}", "31")


def _verdict(passed: bool, enough: bool) -> str:
    return "ok" if passed else "FAILED" if enough else "not yet"
