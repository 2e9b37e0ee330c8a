"""The command `register`."""

from __future__ import annotations

import click

from headwater.cli.base import Session, argument, command, option, pairs
from headwater.cli.layout import verdict
from headwater.cli.output import busy, clean, dim, strong
from headwater.names import parse_number, parse_slice

__all__ = ["register"]


@command(
    "register",
    example="""\
headwater register flight-delay model/ --data flights@1.1.0 --metric auc=0.81 --slice 'auc[origin=JFK]=0.78' \\
    --param depth=6 --tag team=ops --description "until August"
headwater register resnet --external s3://models/resnet.onnx --sha256 9f86d081884c7d65...""",
)
@argument("name", "NAME", complete="model")
@argument("path", "[PATH]", required=False, type=click.Path())
@option("--external", metavar="URL", help="Keep a reference to a file elsewhere (file:, s3:, https:, oci:).")
@option("--sha256", metavar="HEX", help="The sha256 of that file.")
@option(
    "--data",
    metavar="DATASET",
    multiple=True,
    help="A dataset version that it was trained on. Repeatable, as are --metric to --tag.",
)
@option("--run", metavar="ID", help="The run that made it: what it used and measured is recorded.")
@option("--metric", metavar="KEY=VALUE", multiple=True, help="A metric over all rows.")
@option("--slice", "slices", metavar="KEY[COL=VAL]=VALUE", multiple=True, help="A metric on a slice.")
@option("--param", metavar="K=V", multiple=True, help="A parameter.")
@option("--tag", metavar="K=V", multiple=True, help="A tag.")
@option("--description", metavar="TEXT", help="What it is.")
@option(
    "--code", metavar="DIR", type=click.Path(), help="A folder of the Git repository that made it; by default this one."
)
def register(
    session: Session,
    name: str,
    path: str | None,
    external: str | None,
    sha256: str | None,
    data: tuple[str, ...],
    run: str | None,
    metric: tuple[str, ...],
    slices: tuple[str, ...],
    param: tuple[str, ...],
    tag: tuple[str, ...],
    description: str | None,
    code: str | None,
) -> None:
    """Register a version of a model, and all that is known of it.

    PATH is a file or a folder of any size. All of it becomes visible at once, or none of it; the number is the next
    one. The Git commit of this folder, Python's version and the installed packages are recorded with it.
    """
    if (external is None) != (sha256 is None):
        raise click.UsageError("--external and --sha256 go together", click.get_current_context())
    metrics = {key: parse_number(value) for key, value in pairs(metric, "metric").items()}
    parsed = [parse_slice(text) for text in slices]
    params, tags = pairs(param, "param"), pairs(tag, "tag")
    with session.open() as registry, busy(f"registering {name}"):
        found = registry.register(
            name,
            path,
            external=(external, sha256) if external is not None and sha256 is not None else None,
            data=data,
            metrics=metrics,
            slices=parsed,
            params=params,
            tags=tags,
            description=description,
            code=code,
            run=run,
        )

    def lines() -> list[str]:
        return [
            strong(found.reference),
            f"{dim('commit')} {found.commit}",
            f"{dim('reproducible')} {clean(verdict(found.missing))}",
        ]

    session.emit(found, lines)
