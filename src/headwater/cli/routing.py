"""The command that says who answers a request: `route`."""

from __future__ import annotations

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import fields
from headwater.cli.output import strong

__all__ = ["route"]


@command(
    "route",
    ref=True,
    example="headwater route flight-delay customer-1089\nheadwater route flight-delay 4711 --environment staging",
)
@argument("name", "NAME", complete="model")
@argument("key", "KEY")
@option(
    "--environment",
    metavar="ENVIRONMENT",
    default="production",
    help="Where the request came in. By default production.",
)
def route(session: Session, name: str, key: str, environment: str) -> None:
    """Show which version answers for a key.

    It is the one that Registry.route gives to serving code: the same for a key until the shares are changed.
    """
    with session.open() as registry:
        found = registry.route(name, key, environment)
    share = f" with {found.traffic:g} %" if found.traffic < 100 else ""
    session.emit(
        found,
        lambda: [
            f"{strong(found.reference)} answers in {strong(found.environment)}, {found.mode}{share}",
            *fields(
                [
                    ("deployment", found.deployment_id),
                    ("copied to", ", ".join(each.reference for each in found.shadows)),
                    ("version", found.version_id),
                ]
            ),
        ],
    )
