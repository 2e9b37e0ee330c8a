"""The commands for what people record of a version: `check`, `approve`, `approvals`, `check-card`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, group, option
from headwater.cli.layout import moment, table
from headwater.cli.output import note, strong
from headwater.errors import GateFailedError

if TYPE_CHECKING:
    from headwater.governance_model import Approval, CardCheck, Check

__all__ = ["approvals", "approve", "check", "check_card"]


# -- checks -----------------------------------------------------------------------------------------------------------
@group("check", example="headwater check record flight-delay/7 integration --passed")
def check() -> None:
    """Record a named result of a version, and list them."""


@check.group_command(
    "record",
    example="""\
headwater check record flight-delay/7 integration --passed --url https://ci.example.com/runs/812
headwater check record flight-delay/7 load --failed --detail "p99 of 900 ms at 200 requests a second\"""",
)
@argument("reference", "MODELREF", complete="version")
@argument("name", "CHECK")
@option("--passed/--failed", "passed", default=None, help="How it went.")
@option("--url", metavar="URL", help="Where more is to be seen.")
@option("--detail", metavar="TEXT", help="What there is to say about it.")
def check_record(
    session: Session, reference: str, name: str, passed: bool | None, url: str | None, detail: str | None
) -> None:
    """Record how a check of a version went, such as integration tests.

    A later record takes the place of the earlier one. A gate with check = "CHECK" asks for it.
    """
    if passed is None:
        raise click.UsageError("say how it went: --passed or --failed", click.get_current_context())
    with session.open() as registry:
        found = registry.record_check(reference, name, passed=passed, url=url, detail=detail)
    session.emit(found, lambda: [f"{strong(reference)}: {name} {'passed' if found.passed else 'failed'}"])


@check.group_command("list", ref=True, example="headwater check list flight-delay/7")
@argument("reference", "MODELREF", complete="version")
def check_list(session: Session, reference: str) -> None:
    """List the checks that were recorded for a version."""
    with session.open() as registry:
        found = registry.checks(reference)
    session.emit(found, lambda: _checks(found))


def _checks(found: list[Check]) -> Iterable[str]:
    if not found:
        note("no check is recorded: `headwater check record MODELREF CHECK --passed` records one")
        return []
    rows = [
        (each.check, "passed" if each.passed else "FAILED", moment(each.recorded_at), each.actor, each.url, each.detail)
        for each in found
    ]
    return table(("check", "result", "since (UTC)", "actor", "url", "detail"), rows)


# -- approvals --------------------------------------------------------------------------------------------------------
@command(
    "approve",
    example="""\
headwater approve flight-delay/7 --to production --reason "compared on JFK, looks right"
headwater approve flight-delay/7 --to production --withdraw""",
)
@argument("reference", "MODELREF", complete="version")
@option("--to", "stage", metavar="STAGE", required=True, help="The stage that it may enter.")
@option("--withdraw", is_flag=True, help="Take your approval back.")
@option("--reason", metavar="TEXT", help="Why; kept with it.")
def approve(session: Session, reference: str, stage: str, withdraw: bool, reason: str | None) -> None:
    """Say that a version may enter a stage.

    It counts on this branch, for as long as you hold the role that the policy asks for. Nobody approves what he made
    himself.
    """
    with session.open() as registry:
        found = registry.approve(reference, stage, withdraw=withdraw, reason=reason)
    done = "approves" if found.given else "approves no more that"
    session.emit(found, lambda: [f"{found.actor} {done} {strong(reference)} for {stage} on {found.branch}"])


@command("approvals", ref=True, example="headwater approvals flight-delay/7")
@argument("reference", "MODELREF", complete="version")
def approvals(session: Session, reference: str) -> None:
    """List who said that a version may enter a stage."""
    with session.open() as registry:
        found = registry.approvals(reference)
    session.emit(found, lambda: _approvals(found))


def _approvals(found: list[Approval]) -> Iterable[str]:
    if not found:
        note("nobody has approved it: `headwater approve MODELREF --to STAGE`")
        return []
    headers = ("stage", "actor", "approval", "branch", "since (UTC)", "reason")
    rows = []
    for each in found:
        said = "given" if each.given else "withdrawn"
        rows.append((each.stage, each.actor, said, each.branch, moment(each.recorded_at), each.reason))
    return table(headers, rows)


# -- cards ------------------------------------------------------------------------------------------------------------
@command("check-card", ref=True, example="headwater check-card flight-delay/7")
@argument("reference", "MODELREF", complete="version")
def check_card(session: Session, reference: str) -> None:
    """Show what a version's card says, and what it lacks.

    Exit status 3 if something is missing.
    """
    from headwater.model import as_json

    with session.open() as registry:
        found = registry.check_card(reference)
    session.emit({**as_json(found), "complete": found.complete}, lambda: _card(found))
    if not found.complete:
        from headwater.names import quote

        raise GateFailedError(
            f"the card of {quote(found.name)}/{found.version} lacks {', '.join(found.missing)}",
            hint="what to do about each is above",
        )


def _card(found: CardCheck) -> Iterator[str]:
    from headwater.names import quote

    reference = f"{quote(found.name)}/{found.version}"
    rows = [(each.field, "yes" if each.present else "NO", each.found) for each in found.fields]
    yield from table(("field", "there", "what it says, or what to do"), rows)
    lacks = f"the card lacks {', '.join(found.missing)}" if found.missing else "the card is complete"
    yield f"{strong(reference)}: {lacks}"
