"""Granting and revoking roles, enrolling and revoking keys; who may do it is judged where it is written."""

from __future__ import annotations

import json
from typing import Any

from headwater import keys
from headwater.access import check_pattern, check_role
from headwater.context import Context
from headwater.errors import ConflictError, InvalidInputError, NotFoundError
from headwater.ids import from_micros
from headwater.keys import PublicKey
from headwater.lookup import models_named
from headwater.names import because, check_reason, shown
from headwater.state import Fold
from headwater.transaction import Transaction
from headwater.trust import ACTOR, first_name
from headwater.trust_model import Grant, Key

__all__ = ["Roles"]

GRANTED, REVOKED = "granted", "revoked"

_EVERYTHING = "admin *"


class Roles:
    """The service for roles and keys.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- roles --------------------------------------------------------------------------------------------------
    def grant(self, role: str, who: str, on: str, *, reason: str | None = None) -> list[Grant]:
        """Give somebody a role. See `Registry.grant`."""
        check_role(role)
        check_pattern(on)
        name = _checked_name(who)
        check_reason(reason)

        def work(tx: Transaction) -> list[Grant]:
            pattern = _first(tx.fold, on)
            principals, new = _principals(tx.fold, name), None
            if not principals and tx.root is not None:
                new = keys.local_key(name)
                if new is None:
                    raise NotFoundError(
                        f"there is no key of {shown(name)} in this lake",
                        hint=f"`headwater key add {name} PUBLIC` takes the line that his `headwater key new` printed",
                    )
                known = tx.fold.judge().key(new.key_id)
                if known is not None and known["name"] != name:
                    raise ConflictError(
                        f"the key {new.key_id[:12]} that this machine has of {name} is enrolled for {known['name']}",
                        hint=f"a key stands for one name: `headwater key add {name} PUBLIC` enrols one of {name}",
                    )
                if known is not None:
                    raise ConflictError(
                        f"the key {new.key_id[:12]} of {name} was revoked, and stays so",
                        hint="`headwater key new` makes another one",
                    )
                _enrol(tx, new, name)
                principals = [new.key_id]
            key = f"{role} {pattern}"
            for each in principals:
                if {value for _, value in tx.fold.standing(each, "role", key)} != {GRANTED}:
                    tx.event(each, "role", GRANTED, key=key, reason=reason)
            if tx.rows:
                tx.fence_all(always=True)
            tx.subject = f"role {role}"
            tx.message = f"{name} is {role} on {pattern}{because(reason)}"
            return [
                Grant(role, name, pattern, each, from_micros(tx.micros), tx.actor, reason, new is not None)
                for each in principals
            ]

        return self._context.write("role", work).result

    def revoke(self, role: str, who: str, on: str, *, reason: str | None = None) -> list[Grant]:
        """Take a role from somebody. See `Registry.revoke_role`."""
        check_role(role)
        check_pattern(on)
        name = _checked_name(who)
        check_reason(reason)

        def work(tx: Transaction) -> list[Grant]:
            pattern = _first(tx.fold, on)
            key = f"{role} {pattern}"
            judge = tx.fold.judge()
            held = [each for each in _principals(tx.fold, name, revoked=True) if (role, pattern) in judge.roles(each)]
            if not held:
                raise NotFoundError(
                    f"{shown(name)} does not hold the role {role} on {pattern}", hint="`headwater role list` shows all"
                )
            if key == _EVERYTHING:
                _check_last(tx.fold, set(held))
            for each in held:
                tx.event(each, "role", REVOKED, key=key, reason=reason)
            tx.fence_all(always=True)
            tx.subject = f"role {role}"
            tx.message = f"{name} is not {role} on {pattern} any more{because(reason)}"
            return [Grant(role, name, pattern, each, from_micros(tx.micros), tx.actor, reason) for each in held]

        return self._context.write("role", work).result

    def granted(self) -> list[Grant]:
        """Return who holds which role, by name."""
        with self._context.reading() as fold:
            judge = fold.judge()
            found = []
            for principal, role, pattern in judge.grants():
                row = fold.one(
                    "SELECT recorded_at, actor, reason FROM events WHERE standing AND kind = 'role' AND subject = ?"
                    " AND key = ? ORDER BY event_id LIMIT 1",
                    principal,
                    f"{role} {pattern}",
                )
                since, by, reason = row if row is not None else (None, None, None)
                when = from_micros(since) if since is not None else None
                found.append(Grant(role, judge.called(principal), pattern, principal, when, by, reason))
            return sorted(found, key=lambda each: (each.name, each.pattern, each.role, each.principal))

    # -- keys ---------------------------------------------------------------------------------------------------
    def add_key(self, name: str, public: str | None, *, reason: str | None = None) -> Key:
        """Enrol a public key. See `Registry.add_key`."""
        name = _checked_name(name)
        check_reason(reason)
        key = keys.check_found(keys.local_key(name), name) if public is None else _read(public, name)

        def work(tx: Transaction) -> Key:
            if tx.root is None:
                raise InvalidInputError(
                    "this lake is not signed, so it has no keys",
                    hint="`headwater init --signed` makes one that is; roles can be granted to names here",
                )
            stands = tx.fold.judge().key(key.key_id)
            if stands is not None and stands["revoked"]:
                raise ConflictError(
                    f"the key {key.key_id[:12]} was revoked, and stays so", hint="`headwater key new` makes another one"
                )
            if stands is not None and stands["name"] != name:
                raise ConflictError(
                    f"the key {key.key_id[:12]} is enrolled for {stands['name']}", hint="a key stands for one name"
                )
            if stands is None:
                _enrol(tx, key, name, reason=reason)
                tx.fence_all(always=True)
            tx.subject = f"key {key.key_id[:12]}"
            tx.message = f"enrol the key {key.key_id[:12]} of {name}"
            return Key(key.key_id, name, key.text, True, False, False, from_micros(tx.micros), tx.actor)

        return self._context.write("key", work).result

    def revoke_key(self, which: str, *, reason: str | None = None) -> list[Key]:
        """Revoke somebody's keys, or one. See `Registry.revoke_key`."""
        check_reason(reason)

        def work(tx: Transaction) -> list[Key]:
            found = [
                each
                for each in _every_key(tx.fold)
                if each["key_id"] == which or each["name"] == which.removeprefix(ACTOR)
            ]
            if not found:
                raise NotFoundError(f"there is no key {shown(which)} in this lake", hint="`headwater key list`")
            open_ones = [each for each in found if not each["revoked"]]
            _check_last(tx.fold, {each["key_id"] for each in open_ones})
            for each in open_ones:
                record = {"public": each["public"], "name": each["name"], "revoked": True}
                tx.event(each["key_id"], "key", _text(record), reason=reason)
            if open_ones:
                tx.fence_all(always=True)
            tx.subject = f"key {found[0]['key_id'][:12]}"
            tx.message = f"revoke {len(open_ones)} of the keys of {found[0]['name']}{because(reason)}"
            now = from_micros(tx.micros)
            return [Key(e["key_id"], e["name"], e["public"], True, True, False, now, tx.actor) for e in found]

        return self._context.write("key", work).result

    def keys(self) -> list[Key]:
        """Return the keys that the lake knows, and those that are on this machine only, by name."""
        local = {public.key_id: (public, private) for public, private in keys.local_keys()}
        with self._context.reading() as fold:
            found = []
            for each in _every_key(fold):
                row = fold.one(
                    "SELECT recorded_at, actor FROM events WHERE standing AND kind = 'key' AND subject = ?",
                    each["key_id"],
                )
                here = local.pop(each["key_id"], None)
                found.append(
                    Key(
                        each["key_id"],
                        each["name"],
                        each["public"],
                        enrolled=True,
                        revoked=each["revoked"],
                        local=here is not None and here[1],
                        recorded_at=from_micros(row[0]) if row is not None else None,
                        actor=row[1] if row is not None else None,
                    )
                )
        found += [
            Key(key_id, public.name, public.text, False, False, private) for key_id, (public, private) in local.items()
        ]
        return sorted(found, key=lambda each: (each.name, each.key_id))


def _every_key(fold: Fold) -> list[dict[str, Any]]:
    judge = fold.judge()
    ids = {str(subject) for (subject,) in fold.rows("SELECT DISTINCT subject FROM events WHERE kind = 'key'")}
    ids |= {fold.root.key_id} if fold.root is not None else set()
    found = [(each, judge.key(each)) for each in sorted(ids)]
    return [{**key, "key_id": each} for each, key in found if key is not None]


def _principals(fold: Fold, name: str, *, revoked: bool = False) -> list[str]:
    """Return whom grants to somebody are bound to: his keys; in a lake that is not signed, his name."""
    if fold.root is None:
        return [f"{ACTOR}{name}"]
    found = [each for each in _every_key(fold) if name in (each["name"], each["key_id"])]
    return [each["key_id"] for each in found if revoked or not each["revoked"]]


def _enrol(tx: Transaction, key: PublicKey, name: str, *, reason: str | None = None) -> None:
    tx.event(key.key_id, "key", _text({"public": key.text, "name": name, "revoked": False}), reason=reason)


def _text(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, sort_keys=True)


def _check_last(fold: Fold, gone: set[str]) -> None:
    """Make sure that somebody is left who may govern the lake.

    Raises:
        ConflictError: Nobody would be.
    """
    judge = fold.judge()
    admins = {who for who, role, pattern in judge.grants() if f"{role} {pattern}" == _EVERYTHING}
    if fold.root is not None:
        admins = {who for who in admins if (key := judge.key(who)) is not None and not key["revoked"]}
    if admins and admins <= gone:
        raise ConflictError(
            f"{judge.called(next(iter(admins)))} is the last admin of this lake, which nobody could govern then",
            hint="make somebody else admin first: `headwater role grant admin NAME`",
        )


def _first(fold: Fold, pattern: str) -> str:
    """Return a pattern; for the name of a model that was renamed, the one that it was made with."""
    for model_id in models_named(fold, pattern) if "*" not in pattern else ():
        return first_name(fold.rows, model_id) or pattern
    return pattern


def _read(public: str, name: str) -> PublicKey:
    """Return a public key from what was given of it: its line, or its Base64 alone."""
    if public.strip().startswith("ed25519 "):
        found = PublicKey.parse(public)
        if found.name != name:
            raise InvalidInputError(f"it is a key of {shown(found.name)}", hint=f"enrol it for {found.name}")
        return found
    return PublicKey(keys.raw_of(public.strip()), name)


def _checked_name(who: str) -> str:
    name = who.removeprefix(ACTOR)
    if not name or name != name.strip() or len(name) > 250 or not name.isprintable():
        raise InvalidInputError(
            f"not somebody's name: {shown(who)}", hint="give 1 to 250 printable characters, without blanks around them"
        )
    return name
