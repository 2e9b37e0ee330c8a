"""Commands about who may do what: `role` and `key`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from headwater.access import ROLES
from headwater.cli.base import Session, argument, group, option
from headwater.cli.layout import moment, table
from headwater.cli.output import note, strong

if TYPE_CHECKING:
    from headwater.trust_model import Grant, Key

__all__ = ["key", "role"]

_reason = option("--reason", metavar="TEXT", help="Why; kept with the change.")
_on = option("--on", metavar="PATTERN", help="Which models: a name, or one with * such as flight-*; all by default.")


# -- roles ------------------------------------------------------------------------------------------------------------
@group("role", example="headwater role grant reviewer carol --on 'flight-*'\nheadwater role list")
def role() -> None:
    """Give and take roles: viewer, author, reviewer, deployer, admin.

    Authors register and label; reviewers approve and promote; deployers, such as a pipeline, promote, deploy and roll
    back; admins set gates, roles and keys, and alone may override a gate. Until somebody holds a role on a model, a
    lake that is not signed lets everybody do everything there.
    """


@role.group_command("grant", example="headwater role grant reviewer carol --on 'flight-*'")
@argument("words", "ROLE WHO [PATTERN]", nargs=-1, required=True)
@_on
@_reason
def role_grant(session: Session, words: tuple[str, ...], on: str | None, reason: str | None) -> None:
    """Give somebody a role.

    In a signed lake it is bound to his keys. If none is enrolled, and this machine has a public one of his, that is
    enrolled with it. An actor called like a role is written actor:NAME.
    """
    role, who, pattern = _understood(words, on)
    with session.open() as registry:
        found = registry.grant(role, who, pattern, reason=reason)
    for each in found:
        if each.enrolled:
            note(f"the key {each.principal[:12]} of {each.name} is enrolled with it")
    session.emit(found, lambda: [f"{strong(each.name)} is {each.role} on {each.pattern}" for each in found[:1]])


@role.group_command("revoke", example="headwater role revoke reviewer carol --on 'flight-*'")
@argument("words", "ROLE WHO [PATTERN]", nargs=-1, required=True)
@_on
@_reason
def role_revoke(session: Session, words: tuple[str, ...], on: str | None, reason: str | None) -> None:
    """Take a role from somebody; what he did while he held it stays."""
    role, who, pattern = _understood(words, on)
    with session.open() as registry:
        found = registry.revoke_role(role, who, pattern, reason=reason)
    session.emit(found, lambda: [f"{strong(found[0].name)} is not {role} on {found[0].pattern} any more"])


@role.group_command("list", ref=True, example="headwater role list")
def role_list(session: Session) -> None:
    """List who holds which role, and on what."""
    with session.open() as registry:
        found = registry.roles()

    def lines() -> Iterable[str]:
        if not found:
            note("nobody holds a role, so everybody may do everything: `headwater role grant ROLE WHO` changes that")
            return []
        return table(
            ("name", "role", "on", "since (UTC)", "granted by", "reason"),
            [_row(each) for each in found],
        )

    session.emit(found, lines)


def _row(grant: Grant) -> tuple[object, ...]:
    since = moment(grant.recorded_at) if grant.recorded_at is not None else ""
    return grant.name, grant.role, grant.pattern, since, grant.granted_by, grant.reason


def _understood(words: tuple[str, ...], on: str | None) -> tuple[str, str, str]:
    """Return the role, whose it is and the pattern; the first two in either order."""
    if not 2 <= len(words) <= 3 or (len(words) == 3 and on is not None):
        raise click.UsageError("write ROLE WHO, and maybe a PATTERN", click.get_current_context())
    first, second = words[:2]
    pattern = words[2] if len(words) == 3 else on if on is not None else "*"
    if first in ROLES and second in ROLES:
        raise click.UsageError(
            f"{first} and {second} are both roles: write actor:NAME for somebody who is called like one",
            click.get_current_context(),
        )
    return (second, first, pattern) if second in ROLES else (first, second, pattern)


# -- keys -------------------------------------------------------------------------------------------------------------
@group("key", example="headwater key new\nheadwater key add carol 'ed25519 3q2+7w... carol'")
def key() -> None:
    """Make, enrol, revoke and list the keys that sign.

    Keys are files in $HEADWATER_KEYS, or else ~/.config/headwater/keys; $HEADWATER_KEY names another private one.
    """


@key.group_command("new", example="headwater key new --passphrase")
@option("--name", metavar="NAME", help="Whose it is; who acts, by default.")
@option("--passphrase", is_flag=True, help="Ask for a passphrase, or take $HEADWATER_KEY_PASSPHRASE, to encrypt it.")
def key_new(session: Session, name: str | None, passphrase: bool) -> None:
    """Make a key on this machine, and print the public one.

    An admin enrols that in a lake: headwater key add.
    """
    import os

    from headwater import config, keys
    from headwater.trust_model import Key

    actor = config.load(lake=session.lake or ".", actor=name or session.actor).actor
    secret = None
    if passphrase:
        secret = os.environ.get(keys.PASSPHRASE) or click.prompt(
            "passphrase", hide_input=True, confirmation_prompt=True, err=True
        )
    made = keys.make(actor, secret)
    found = Key(made.key_id, made.name, made.text, enrolled=False, revoked=False, local=True)

    def lines() -> Iterable[str]:
        yield found.line
        note(f"an admin enrols it: headwater key add {actor} '{found.line}'")

    session.emit(_document(found), lines)


@key.group_command(
    "add", example="headwater key add carol 'ed25519 3q2+7w... carol'\nheadwater key add carol carol.pub"
)
@argument("name", "NAME")
@argument("public", "[PUBLIC|FILE]", required=False)
@_reason
def key_add(session: Session, name: str, public: str | None, reason: str | None) -> None:
    """Enrol somebody's public key in a signed lake.

    What it signs is his from now on. Without PUBLIC, the public key that this machine has of him.
    """
    import os
    from pathlib import Path

    from headwater import keys

    if public is not None and not public.startswith("ed25519 ") and os.path.isfile(public):
        public = keys.read_public(Path(public)).line
    with session.open() as registry:
        found = registry.add_key(name, public, reason=reason)
    session.emit(_document(found), lambda: [f"the key {strong(found.key_id[:12])} of {found.name} is enrolled"])


@key.group_command("revoke", example='headwater key revoke carol --reason "her laptop was stolen"')
@argument("which", "NAME|ID")
@_reason
def key_revoke(session: Session, which: str, reason: str | None) -> None:
    """Revoke somebody's keys, or one of them.

    What they signed before stays; what they sign from now on has no force.
    """
    with session.open() as registry:
        found = registry.revoke_key(which, reason=reason)
    session.emit(
        [_document(each) for each in found],
        lambda: [f"the key {strong(each.key_id[:12])} of {each.name} is revoked" for each in found],
    )


@key.group_command("list", ref=True, example="headwater key list")
def key_list(session: Session) -> None:
    """List the keys that the lake knows, and those of this machine."""
    with session.open() as registry:
        found = registry.keys()

    def lines() -> Iterable[str]:
        if not found:
            note("there are none: `headwater key new` makes one")
            return []
        return table(
            ("name", "key", "state", "here", "since (UTC)"),
            [
                (
                    *(each.name, each.key_id[:12]),
                    "revoked" if each.revoked else "enrolled" if each.enrolled else "not enrolled",
                    "private" if each.local else "",
                    moment(each.recorded_at) if each.recorded_at is not None else "",
                )
                for each in found
            ],
        )

    session.emit([_document(each) for each in found], lines)


def _document(found: Key) -> dict[str, object]:
    from dataclasses import asdict

    return {**asdict(found), "line": found.line}
