"""The commands that say what serves where: `deploy`, `undeploy`, `deployments`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, limited, option
from headwater.cli.layout import fields, moment, table
from headwater.cli.output import note, strong

if TYPE_CHECKING:
    from headwater.registry import Registry
    from headwater.serving_model import Deployment

__all__ = ["deploy", "deployments", "show_deployment", "undeploy"]


@command(
    "deploy",
    example="""\
headwater deploy flight-delay/7 --to production
headwater deploy flight-delay/8 --to production --mode canary --traffic 5
headwater deploy flight-delay@challenger --to production --mode shadow""",
)
@argument("reference", "MODELREF", complete="version")
@option("--to", "environment", metavar="ENVIRONMENT", required=True, help="Where it serves, such as production.")
@option(
    "--mode",
    type=click.Choice(["live", "canary", "shadow"]),
    default="live",
    help="Answer requests, answer a part of them, or get copies of them. By default live.",
)
@option(
    "--traffic",
    metavar="PERCENT",
    type=float,
    help="Percent of the requests: of a canary 10 by default, of a shadow 100. The live version gets the rest.",
)
@option("--reason", metavar="TEXT", help="Why; kept with the change.")
def deploy(
    session: Session, reference: str, environment: str, mode: str, traffic: float | None, reason: str | None
) -> None:
    """Deploy a version to an environment.

    A live version replaces the one that is live there, and its own canary. What is live in production is the champion.
    """
    with session.open() as registry:
        found = registry.deploy(reference, environment, mode, traffic, reason=reason)
    share = "" if found.traffic is None else f" with {found.traffic:g} %"
    session.emit(
        found,
        lambda: [
            f"{strong(found.reference)} is {found.mode} in {strong(found.environment)}{share}",
            *fields([("deployment", found.deployment_id), ("commit", found.commit)]),
        ],
    )


@command("undeploy", example='headwater undeploy 01a1fe93-cc18-72a4-96c4-289d824ebd63 --reason "too slow"')
@argument("deployment", "DEPLOYMENT_ID")
@option("--reason", metavar="TEXT", help="Why; kept with the change.")
def undeploy(session: Session, deployment: str, reason: str | None) -> None:
    """End a deployment.

    With the live one of production goes the alias champion, and its version is archived.
    """
    with session.open() as registry:
        found = registry.undeploy(deployment, reason=reason)
    was_it = (found.mode, found.environment) == ("live", "production")
    rest = "; it is archived, and no champion" if was_it else ""
    session.emit(found, lambda: [f"{strong(found.reference)} is {found.mode} in {found.environment} no more{rest}"])


@command(
    "deployments",
    ref=True,
    example="headwater deployments\nheadwater deployments flight-delay --environment production --all",
)
@argument("name", "[NAME]", complete="model", required=False)
@option("--environment", metavar="ENVIRONMENT", help="Only in this environment.")
@option("--all", "ended", is_flag=True, help="Those that serve no more, too.")
@limited
def deployments(session: Session, name: str | None, environment: str | None, ended: bool, limit: int | None) -> None:
    """List what serves where, newest first."""
    with session.open() as registry:
        found = registry.deployments(name, environment=environment, ended=ended)[:limit]

    def lines() -> Iterable[str]:
        if not found:
            note("nothing is deployed: `headwater deploy MODELREF --to ENVIRONMENT` does it")
            return []
        headers = ("environment", "version", "mode", "traffic", "deployed (UTC)", "actor", "deployment")
        return table(
            (*headers, "ended (UTC)") if ended else headers,
            [
                (
                    each.environment,
                    each.reference + (f" ({each.gone})" if each.gone else ""),
                    each.mode,
                    f"{each.traffic:g} %" if each.traffic is not None else "",
                    moment(each.recorded_at),
                    each.actor,
                    each.deployment_id,
                    *([moment(each.ended_at) if each.ended_at is not None else ""] if ended else []),
                )
                for each in found
            ],
            right=("traffic",),
        )

    session.emit(found, lines)


def show_deployment(session: Session, registry: Registry, reference: str) -> None:
    """Print all about a deployment."""
    from headwater.model import as_json

    found = registry.deployment(reference)
    made = registry.predictions_of(found.deployment_id)
    session.emit({**as_json(found), "predictions": made}, lambda: _lines(found, made))


def _lines(found: Deployment, predictions: int) -> Iterator[str]:
    gone = f" ({found.gone})" if found.gone else ""
    yield f"{strong(found.reference)}{gone} in {strong(found.environment)}"
    ended = f"{moment(found.ended_at)} UTC by {found.ended_by}" if found.ended_at is not None else ""
    yield from fields(
        [
            ("mode", found.mode),
            ("traffic", f"{found.traffic:g} %" if found.traffic is not None else "none: it serves no more"),
            ("deployed", f"{moment(found.recorded_at)} UTC by {found.actor}"),
            ("reason", found.reason),
            ("predictions", f"{predictions:,}"),
            ("ended", ended),
            ("commit", found.commit),
            ("version", found.version_id),
            ("id", found.deployment_id),
        ]
    )
