"""Commands that change what a model is called or said to be: aliases, tags, descriptions, names, deletion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.base import Session, argument, command, group, option, pairs
from headwater.cli.layout import moment, table
from headwater.cli.output import clean, note, strong
from headwater.names import parse_model, parse_version, quote

if TYPE_CHECKING:
    from headwater.model import Alias, Model, ModelVersion
    from headwater.registry import Registry

__all__ = ["alias", "delete", "describe", "rename", "tag_model"]


# -- aliases ----------------------------------------------------------------------------------------------------------
@group("alias", example="headwater alias set flight-delay champion 7\nheadwater alias list flight-delay")
def alias() -> None:
    """Name versions: set, delete and list aliases."""


@alias.group_command("set", example='headwater alias set flight-delay champion 7 --reason "better on JFK"')
@argument("name", "NAME", complete="model")
@argument("alias", "ALIAS", complete="alias")
@argument("version", "VERSION", complete="number")
@option("--reason", metavar="TEXT", help="Why; kept with the change.")
def alias_set(session: Session, name: str, alias: str, version: str, reason: str | None) -> None:
    """Point an alias at a version.

    Where it pointed before is kept in the history. The champion is the version in production: it is deployed there,
    live, and the one before is archived.
    """
    number = parse_version(version)
    with session.open() as registry:
        registry.set_alias(name, alias, number, reason=reason)
        found = [each for each in registry.aliases(name) if each.alias == alias]
    bare = parse_model(name).name
    document = _row(found[0]) if found else {"name": bare, "alias": alias, "version": number}
    session.emit(document, lambda: [f"{strong(f'{quote(bare)}@{alias}')} is version {number}"])


@alias.group_command("delete", example="headwater alias delete flight-delay champion")
@argument("name", "NAME", complete="model")
@argument("alias", "ALIAS", complete="alias")
@option("--reason", metavar="TEXT", help="Why; kept with the change.")
def alias_delete(session: Session, name: str, alias: str, reason: str | None) -> None:
    """Take an alias away.

    With champion goes what it names: that version is in production no more, its deployment ends, and it is archived.
    """
    from headwater.production import CHAMPION

    bare = parse_model(name).name
    with session.open() as registry:
        before = [each for each in registry.aliases(name) if each.alias == alias]
        registry.delete_alias(name, alias, reason=reason)
    document: dict[str, Any] = {"name": bare, "alias": alias, "deleted": True}
    left = [each.version for each in before] if alias == CHAMPION else []
    if left:
        document["archived"] = left

    def lines() -> Iterator[str]:
        yield f"{strong(f'{quote(bare)}@{alias}')} is gone"
        for version in left:
            yield f"{quote(bare)}/{version} is in production no more, and archived"

    session.emit(document, lines)


@alias.group_command("list", ref=True, example="headwater alias list flight-delay")
@argument("name", "NAME", complete="model")
def alias_list(session: Session, name: str) -> None:
    """List a model's aliases and the versions behind them."""
    with session.open() as registry:
        found = registry.aliases(name)

    def lines() -> Iterable[str]:
        if not found:
            note("it has no aliases: `headwater alias set NAME ALIAS VERSION` makes one")
            return []
        return table(
            ("alias", "version", "since (UTC)", "actor", "reason"),
            [(each.alias, each.version, moment(each.recorded_at), each.actor, each.reason) for each in found],
            right=("version",),
        )

    session.emit([_row(each) for each in found], lines)


def _row(alias: Alias) -> dict[str, Any]:
    from headwater.model import as_json

    return {"name": alias.name, **as_json(alias)}


# -- tags, descriptions, names ----------------------------------------------------------------------------------------
@command("tag-model", example="headwater tag-model flight-delay/7 team=ops reviewed=yes")
@argument("reference", "MODELREF", complete="version")
@argument("tags", "K=V...", nargs=-1, required=True)
def tag_model(session: Session, reference: str, tags: tuple[str, ...]) -> None:
    """Set tags of a model or a version.

    A tag that is there already gets the new value.
    """
    given = pairs(tags, "tag")
    with session.open() as registry:
        registry.tag(reference, given)
        found = _thing(registry, reference)
    session.emit(found, lambda: [f"{strong(reference)}: {clean('  '.join(f'{k}={v}' for k, v in found.tags.items()))}"])


@command("describe", example='headwater describe flight-delay/7 "trained until August; for the winter timetable"')
@argument("reference", "MODELREF", complete="version")
@argument("text", "TEXT")
def describe(session: Session, reference: str, text: str) -> None:
    """Set the description of a model or a version."""
    with session.open() as registry:
        registry.describe(reference, text)
        found = _thing(registry, reference)
    session.emit(found, lambda: [f"{strong(reference)}: {clean(text)}"])


def _thing(registry: Registry, reference: str) -> Model | ModelVersion:
    ref = parse_model(reference)
    if ref.version is None and ref.alias is None:
        return registry.model(reference)
    return registry.get(reference)


@command("rename", example="headwater rename flight-delay late-flights")
@argument("name", "NAME", complete="model")
@argument("new", "NEW")
def rename(session: Session, name: str, new: str) -> None:
    """Give a model another name.

    Its versions, aliases and history stay its own, and no other model gets the old name.
    """
    with session.open() as registry:
        registry.rename(name, new)
        found = registry.model(new)
    session.emit(found, lambda: [f"{clean(name)} is called {strong(new)} now"])


# -- deletion ---------------------------------------------------------------------------------------------------------
@command(
    "delete",
    example="""\
headwater delete flight-delay/3 --reason "trained on the wrong month"
headwater delete flight-delay/3 --undo""",
)
@argument("reference", "MODELREF", complete="version")
@option("--reason", metavar="TEXT", help="Why; kept with the change.")
@option("--undo", is_flag=True, help="Bring back what was deleted.")
def delete(session: Session, reference: str, reason: str | None, undo: bool) -> None:
    """Hide a version or a model, or bring it back.

    Nothing is erased: history keeps it, and its numbers stay taken. What an alias points at can't be deleted.
    """
    if undo and reason is not None:
        raise click.UsageError("--reason is for a deletion, not for --undo", click.get_current_context())
    with session.open() as registry:
        found: object
        if undo:
            registry.undelete(reference)
            found = _thing(registry, reference)
        else:
            registry.delete(reference, reason=reason)
            found = {"reference": str(parse_model(reference)), "deleted": True, "reason": reason}
    after = "is back" if undo else f"is deleted; `headwater delete {clean(reference)} --undo` brings it back"
    session.emit(found, lambda: [f"{strong(reference)} {after}"])
