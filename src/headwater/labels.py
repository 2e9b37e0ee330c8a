"""What can change about a model or version: aliases, tags, descriptions, names, tombstones; each change is an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from headwater.context import Context
from headwater.errors import AlreadyExistsError, ConflictError, InvalidInputError, NotFoundError
from headwater.fold import entries_of
from headwater.genuine import check_genuine
from headwater.ids import from_micros
from headwater.lookup import HIDDEN, is_hidden, model_id_of, name_of, version_row
from headwater.model import Alias
from headwater.names import (
    ModelRef,
    bare_model,
    because,
    check_alias,
    check_key,
    check_name,
    check_reason,
    check_text,
    parse_model,
    quote,
)
from headwater.production import CHAMPION, PRODUCTION, governed, last_in, live_in, stage_of
from headwater.transaction import Transaction

__all__ = ["Labels"]


class _Promotions(Protocol):
    """What decides on the alias `champion`, which names what is in production."""

    def champion(self, name: str, version: int, *, reason: str | None = None) -> None: ...
    def withdraw(self, name: str, *, kind: str, reason: str | None = None) -> None: ...


class Labels:
    """The service for aliases, tags, descriptions, names and tombstones.

    Args:
        context: What to work with.
        promotions: What decides on `champion`.
    """

    def __init__(self, context: Context, promotions: _Promotions) -> None:
        self._context = context
        self._promotions = promotions

    # -- aliases ------------------------------------------------------------------------------------------------
    def aliases(self, name: str) -> list[Alias]:
        """Return a model's aliases, by name."""
        with self._context.reading() as fold:
            model_id = model_id_of(fold, bare_model(name))
            rows = fold.rows(
                # Two branches may have moved it to one place: of rows with one value, that of the least ID is taken.
                "SELECT e.key, v.version, v.version_id, e.recorded_at, e.actor, e.reason, min(e.event_id),"
                " coalesce((SELECT id FROM commits c WHERE c.tx = e.tx), e.tx) FROM events e"
                " JOIN versions v ON v.version_id = e.value WHERE e.standing AND e.subject = ? AND e.kind = 'alias'"
                " GROUP BY e.key, e.value ORDER BY e.key, min(e.event_id)",
                model_id,
            )
            called = name_of(fold, model_id)
            return [
                Alias(key, number, version_id, from_micros(micros), actor, reason, called, model_id, commit)
                for key, number, version_id, micros, actor, reason, _, commit in rows
            ]

    def set_alias(self, name: str, alias: str, version: int, *, reason: str | None = None) -> None:
        """Point an alias at a version; where it points there already, only a new reason is written."""
        check_alias(alias)
        check_reason(reason)
        if alias == CHAMPION:
            return self._promotions.champion(name, version, reason=reason)
        ref = ModelRef(bare_model(name), version=version)

        def work(tx: Transaction) -> None:
            version_id, model_id, *_ = version_row(tx.fold, ref)
            check_genuine(tx.fold, version_id, str(ref), vouched=True)
            standing = tx.fold.standing(model_id, "alias", alias)
            if {value for _, value in standing} == {version_id} and reason is None:
                return
            tx.event(model_id, "alias", version_id, key=alias, reason=reason)
            tx.fence(model_id)
            before = [_number(tx, value) for value in dict.fromkeys(v for _, v in standing) if value is not None]
            was = f", was {' and '.join(before)}" if before else ""
            tx.subject = f"{quote(ref.name)}@{alias}"
            tx.message = f"alias {quote(ref.name)}@{alias} is version {version}{was}{because(reason)}"

        self._context.write("alias", work)

    def delete_alias(self, name: str, alias: str, *, reason: str | None = None) -> None:
        """Take an alias away.

        Raises:
            NotFoundError: The model has no such alias.
        """
        check_alias(alias)
        bare = bare_model(name)
        check_reason(reason)
        if alias == CHAMPION:
            return self._promotions.withdraw(name, kind="alias", reason=reason)

        def work(tx: Transaction) -> None:
            model_id = model_id_of(tx.fold, bare)
            if all(value is None for _, value in tx.fold.standing(model_id, "alias", alias)):
                raise NotFoundError(
                    f"{quote(bare)} has no alias {alias!r}", hint=f"`headwater alias list {quote(bare)}`"
                )
            tx.event(model_id, "alias", None, key=alias, reason=reason)
            tx.fence(model_id)
            tx.subject = f"{quote(bare)}@{alias}"
            tx.message = f"alias {quote(bare)}@{alias} is deleted{because(reason)}"

        self._context.write("alias", work)

    # -- tags and descriptions ----------------------------------------------------------------------------------
    def tag(self, reference: str, tags: Mapping[str, object | None]) -> None:
        """Set tags of a model or version; None takes one away."""
        checked = {
            check_key(key, "tag"): None if value is None else check_text(str(value), "tag")
            for key, value in tags.items()
        }
        if not checked:
            raise InvalidInputError("no tag was given", hint="write KEY=VALUE")
        ref = parse_model(reference)

        def work(tx: Transaction) -> None:
            subject = _subject(tx, ref)
            for key, value in checked.items():
                tx.event(subject, "tag", value, key=key)
            tx.subject = str(ref)
            tx.message = f"tag {ref}: " + ", ".join(
                f"{k}={v}" if v is not None else f"no {k}" for k, v in checked.items()
            )

        self._context.write("tag", work)

    def describe(self, reference: str, text: str) -> None:
        """Set the description of a model or version."""
        check_text(text, "description")
        ref = parse_model(reference)

        def work(tx: Transaction) -> None:
            tx.event(_subject(tx, ref), "description", text)
            tx.subject = str(ref)
            tx.message = f"describe {ref}"

        self._context.write("describe", work)

    # -- names and tombstones -----------------------------------------------------------------------------------
    def rename(self, name: str, new: str) -> None:
        """Give a model another name; its versions, aliases and history stay its own, and nobody else gets the old name.

        Raises:
            AlreadyExistsError: Another model has, or had, the new name.
        """
        check_name(new, "model")
        bare = bare_model(name)

        def work(tx: Transaction) -> None:
            model_id = model_id_of(tx.fold, bare)
            if bare == new:
                raise AlreadyExistsError(f"the model is called {quote(new)} already")
            holder = tx.claim(f"name/model/{new}", model_id)
            if holder != model_id:
                raise AlreadyExistsError(
                    f"the name {quote(new)} belongs to another model", hint="a name is never given to a second model"
                )
            tx.event(model_id, "name", new)
            tx.fence(model_id)
            tx.subject = quote(new)
            tx.message = f"rename {quote(bare)} to {quote(new)}"

        self._context.write("rename", work)

    def delete(self, reference: str, *, reason: str | None = None) -> None:
        """Hide a version, or a model with all its versions; history keeps them and their numbers stay taken.

        Raises:
            ConflictError: An alias points there, it serves somewhere, or it is one of the last three versions that were
                in production of a model that has gates or roles.
        """
        ref = parse_model(reference)
        check_reason(reason)

        def work(tx: Transaction) -> None:
            if ref.version is None and ref.alias is None:
                model_id = model_id_of(tx.fold, ref.name)
                subjects = [model_id, *_visible_versions(tx, model_id)]
                pointing = tx.fold.rows(_POINTING, model_id)
            else:
                version_id, model_id, *_ = version_row(tx.fold, ref)
                subjects = [version_id]
                pointing = tx.fold.rows(_POINTING + " AND value = ?", model_id, version_id)
                if not pointing and governed(tx.fold, model_id) and version_id in last_in(tx.fold, model_id):
                    raise ConflictError(
                        f"{ref} can't be deleted while it is one of the last three that were in production",
                        hint=f"it can be gone back to: `headwater rollback {quote(ref.name)}`",
                    )
            if pointing:
                alias = pointing[0][0]
                raise ConflictError(
                    f"{ref} can't be deleted while alias {alias!r} points at it",
                    hint=f"move it first, or `headwater alias delete {quote(ref.name)} {alias}`",
                )
            for environment, value in tx.fold.rows(_SERVING, model_id):
                if any(each["version_id"] in subjects for each in entries_of(value)):
                    raise ConflictError(
                        f"{ref} can't be deleted while it serves {environment}",
                        hint=f"end that first: `headwater deployments {quote(ref.name)}` lists what serves",
                    )
            for subject in subjects:
                tx.event(subject, "tombstone", HIDDEN, reason=reason)
            tx.fence(model_id)
            tx.subject = str(ref)
            tx.message = f"delete {ref}{because(reason)}"

        self._context.write("delete", work)

    def undelete(self, reference: str) -> None:
        """Bring back what `delete` hid: a version, or a model with the versions that were hidden with it.

        Raises:
            NotFoundError: It is not deleted.
        """
        ref = parse_model(reference)

        def work(tx: Transaction) -> None:
            model_id = model_id_of(tx.fold, ref.name, deleted=True)
            if ref.version is None and ref.alias is None:
                subjects = _hidden_together(tx, model_id)
            else:
                version_id = version_row(tx.fold, ref, deleted=True)[0]
                subjects = [version_id] if is_hidden(tx.fold, version_id) else []
                if subjects and is_hidden(tx.fold, model_id):
                    subjects.append(model_id)
            subjects += _registered_in(tx, subjects)
            if not subjects:
                raise NotFoundError(f"{ref} is not deleted")
            for subject in subjects:
                tx.event(subject, "tombstone", "restored")
                if stage_of(tx.fold, subject) == PRODUCTION and subject not in live_in(tx.fold, model_id):
                    # It was hidden with its promotion, and another version is in production now.
                    tx.event(subject, "stage", "archived")
            tx.fence(model_id)
            tx.subject = str(ref)
            tx.message = f"bring back {ref}"

        self._context.write("undelete", work)


_POINTING = "SELECT key FROM events WHERE standing AND subject = ? AND kind = 'alias' AND value IS NOT NULL"


_SERVING = "SELECT key, value FROM events WHERE standing AND subject = ? AND kind = 'traffic'"


def _subject(tx: Transaction, ref: ModelRef) -> str:
    if ref.version is None and ref.alias is None:
        return model_id_of(tx.fold, ref.name)
    return str(version_row(tx.fold, ref)[0])


def _number(tx: Transaction, version_id: str) -> str:
    row = tx.fold.one("SELECT version FROM versions WHERE version_id = ?", version_id)
    return str(row[0]) if row else version_id


def _visible_versions(tx: Transaction, model_id: str) -> list[str]:
    rows = tx.fold.rows("SELECT version_id FROM versions WHERE model_id = ?", model_id)
    return [version_id for (version_id,) in rows if not is_hidden(tx.fold, version_id)]


def _registered_in(tx: Transaction, subjects: list[str]) -> list[str]:
    """Return the hidden transactions that registered some versions: a revert hides their metrics and lineage too."""
    rows = (tx.fold.one("SELECT tx FROM versions WHERE version_id = ?", each) for each in subjects)
    return [row[0] for row in rows if row is not None and is_hidden(tx.fold, row[0])]


def _hidden_together(tx: Transaction, model_id: str) -> list[str]:
    """Return the model and those of its versions that one transaction hid, and that are hidden still."""
    hidden = tx.fold.one(
        "SELECT tx FROM events WHERE standing AND subject = ? AND kind = 'tombstone' AND value = ?", model_id, HIDDEN
    )
    if hidden is None:
        return []
    rows = tx.fold.rows(
        "SELECT subject FROM events WHERE standing AND kind = 'tombstone' AND value = ? AND tx = ? AND (subject = ?"
        " OR subject IN (SELECT version_id FROM versions WHERE model_id = ?))",
        *(HIDDEN, hidden[0], model_id, model_id),
    )
    return [subject for (subject,) in rows]
