"""Commands that find and fetch models: `models`, `versions`, `pull`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, limited, option
from headwater.cli.layout import count, moment, pairs, short, size, table
from headwater.cli.output import busy, note, strong

if TYPE_CHECKING:
    from headwater.model import ModelVersion

__all__ = ["models", "pull", "versions"]


@command("models", ref=True, example="headwater models")
@limited
def models(session: Session, limit: int | None) -> None:
    """List the registered models."""
    with session.open() as registry:
        found = registry.models()[:limit]

    def lines() -> Iterable[str]:
        if not found:
            note("there are no models yet: `headwater register NAME PATH` makes one")
            return []
        return table(
            ("name", "versions", "newest", "aliases", "registered (UTC)", "description"),
            [
                (
                    model.name,
                    model.versions,
                    model.latest_version,
                    pairs(model.aliases.items()),
                    moment(model.recorded_at),
                    model.description,
                )
                for model in found
            ],
            right=("versions", "newest"),
        )

    session.emit(found, lines)


@command("versions", ref=True, example="headwater versions flight-delay --limit 5")
@argument("name", "NAME", complete="model")
@limited
def versions(session: Session, name: str, limit: int | None) -> None:
    """List a model's versions, newest first."""
    with session.open() as registry:
        found = registry.versions(name, limit=limit)

    def lines() -> Iterable[str]:
        if not found:
            note("it has no versions: `headwater register NAME PATH` makes one")
            return []
        return table(
            ("version", "aliases", "registered (UTC)", "actor", "size", "commit", "description"),
            [
                (
                    each.version,
                    " ".join(each.aliases),
                    moment(each.recorded_at),
                    each.actor if each.registered is not False else f"{each.actor}?",
                    size(each.size) if each.external_url is None else "elsewhere",
                    short(each.commit),
                    each.description,
                )
                for each in found
            ],
            right=("version", "size"),
        )

    session.emit(found, lines)
    for each in found:
        if each.registered is False:
            note(f"nobody signed for the registration of {each.reference}: `headwater audit` tells more")


@command(
    "pull",
    ref=True,
    example="""\
headwater pull flight-delay@champion serving/
headwater pull flight-delay/7 /tmp/seven --ref main~3""",
)
@argument("reference", "MODELREF", complete="version")
@argument("dest", "DEST", type=click.Path())
@option("--force", is_flag=True, help="Replace files in DEST that Headwater did not put there.")
def pull(session: Session, reference: str, dest: str, force: bool) -> None:
    """Fetch a version's files into a folder, every digest checked.

    The folder changes when all the files are right, or not at all.
    """
    with session.open() as registry:
        found = registry.get(reference)
        with busy(f"fetching {found.reference}"):
            place = found.pull(dest, force=force)
        files = found.files
    document = {**_columns(found), "dest": str(place)}

    def lines() -> Iterable[str]:
        what = count(len(files), "file") if files else "the file"
        return [f"{strong(found.reference)}: {what}, {size(found.size)} in {strong(place)}"]

    session.emit(document, lines)


def _columns(version: ModelVersion) -> dict[str, object]:
    from headwater.model import as_json

    return dict(as_json(version))
