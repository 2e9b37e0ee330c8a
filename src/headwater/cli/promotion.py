"""The commands that move versions into production and out of it: `stage`, `promote`, `traffic`, `rollback`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import fields, table
from headwater.cli.output import strong

if TYPE_CHECKING:
    from headwater.governance_model import Promotion

__all__ = ["promote", "rollback", "stage", "traffic"]

_reason = option("--reason", metavar="TEXT", help="Why; kept with the change.")
_override = option(
    "--override", metavar="REASON", help="Pass over gates that fail; for admins, and shown for ever in red."
)


@command("stage", example='headwater stage flight-delay/7 staging --reason "for the load test"')
@argument("reference", "MODELREF", complete="version")
@argument("stage", "STAGE")
@_reason
def stage(session: Session, reference: str, stage: str, reason: str | None) -> None:
    """Move a version to a stage.

    Stages are development, staging, production and archived; production is entered as `headwater promote` does it.
    """
    with session.open() as registry:
        found = registry.stage(reference, stage, reason=reason)
    session.emit(found, lambda: _lines(found, f"is {'archived' if found.stage == 'archived' else 'in ' + found.stage}"))


@command(
    "promote",
    example="""\
headwater promote flight-delay/7 --to staging
headwater promote flight-delay/7 --to production --traffic 5""",
)
@argument("reference", "MODELREF", complete="version")
@option("--to", "stage", metavar="STAGE", required=True, help="The stage to enter, such as production.")
@option("--traffic", metavar="PERCENT", type=float, help="Begin as a canary with this share of production's requests.")
@_override
@_reason
def promote(
    session: Session, reference: str, stage: str, traffic: float | None, override: str | None, reason: str | None
) -> None:
    """Let a version enter a stage, if every gate passes.

    Entering production makes it live there and champion, and archives the version before, in one commit. What the
    gates found is recorded, also where they refuse, and then the exit status is 3.
    """
    with session.open() as registry:
        found = registry.promote(reference, stage, traffic=traffic, override=override, reason=reason)
    session.emit(found, lambda: _lines(found, _entered(found)))


@command("traffic", example="headwater traffic flight-delay 25\nheadwater traffic flight-delay 100")
@argument("name", "NAME", complete="model")
@argument("percent", "PERCENT", type=float)
@option("--version", metavar="N", type=click.IntRange(min=1), help="Which canary, where there are several.")
@_override
@_reason
def traffic(
    session: Session, name: str, percent: float, version: int | None, override: str | None, reason: str | None
) -> None:
    """Give a model's canary another share of production's requests.

    100 promotes it, 0 ends it. More than it has asks the gates again. Where there is no canary, the version behind the
    alias challenger becomes it.
    """
    with session.open() as registry:
        found = registry.set_traffic(name, percent, version=version, override=override, reason=reason)
    session.emit(found, lambda: _lines(found, _entered(found)))


@command("rollback", example='headwater rollback flight-delay --reason "delays at JFK"')
@argument("name", "NAME", complete="model")
@option(
    "--to", "version", metavar="VERSION", type=click.IntRange(min=1), help="Another version that was in production."
)
@_reason
def rollback(session: Session, name: str, version: int | None, reason: str | None) -> None:
    """Bring back the version that was in production before.

    It gets all requests. With a canary beside the version in production, the canary ends instead. No gate is asked.
    """
    with session.open() as registry:
        found = registry.rollback(name, version, reason=reason)
    session.emit(found, lambda: _lines(found, "is back in production, with all requests"))


def _entered(found: Promotion) -> str:
    if found.traffic is None:
        return f"is in {found.stage}"
    if found.stage == "production":
        return f"is in production, with {found.traffic:g} % of the requests"
    return f"gets {found.traffic:g} % of production's requests" if found.traffic else "is no canary any more"


def _lines(found: Promotion, what: str) -> Iterator[str]:
    from headwater.names import quote

    reference = f"{quote(found.name)}/{found.version}"
    yield f"{strong(reference)} {what}"
    if found.results:
        yield from table(
            ("gate", "required", "found", "passed"),
            [(each.gate, each.required, each.found, "yes" if each.passed else "NO") for each in found.results],
        )
    yield from fields(
        [
            ("was", f"{quote(found.name)}/{found.previous}" if found.previous is not None else ""),
            ("reason", found.reason),
            ("commit", found.commit),
        ]
    )
