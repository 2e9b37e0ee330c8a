"""Who may: whether an event has force, by the keys and roles of a folded state; pure questions, asked of its tables.

Asked twice: when an event is written (`headwater.transaction`), and when it is folded (`headwater.verdicts`), there of
the state before the landing that brought it. No clock is asked. See ADR 0019.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.access import (
    RIGHTS,
    ROLES,
    TELEMETRY,
    WORDS,
    WRITE,
    covers,
    is_pattern,
    matches,
    right_for,
    says_nothing,
)
from headwater.access import protected as is_protected
from headwater.keys import Verifier, key_id, raw_of, verifies
from headwater.names import quote, shown
from headwater.signatures import Signature, named_versions, parse, verify

__all__ = ["ACTOR", "DATASET", "PATTERN", "Judge", "Refusal", "Root", "Rows", "first_name"]

Rows = Callable[..., list[Any]]
"""Asks a folded state: SQL and its parameters, for rows."""

ACTOR = "actor:"
"""Before the name of a principal that is no key."""

PATTERN, DATASET = "pattern:", "dataset:"
"""Before the subject of what holds for a pattern of models, or for a dataset."""


@dataclass(frozen=True, slots=True)
class Root:
    """What a signed lake's trust begins with, as its marker says.

    Attributes:
        lake: The lake's own ID.
        public: The key that made the lake, in Base64.
        name: Whose it is.
        branch: What the default branch was called.
    """

    lake: str
    public: str
    name: str
    branch: str

    @property
    def key_id(self) -> str:
        """The key's ID."""
        return key_id(raw_of(self.public))

    @classmethod
    def parse(cls, text: str | None) -> Root | None:
        """Return what `text` made a text of."""
        return None if text is None else cls(**json.loads(text))

    @property
    def text(self) -> str:
        """All of it, as JSON."""
        return json.dumps({"lake": self.lake, "public": self.public, "name": self.name, "branch": self.branch})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event has no force, and what would give it."""

    message: str
    hint: str = ""


def first_name(rows: Rows, model_id: str) -> str | None:
    """Return the name that a model was made with: the one that patterns of grants match, whatever it is called now."""
    found = rows(
        "SELECT e.value FROM events e JOIN commits c ON c.tx = e.tx WHERE e.subject = ? AND e.kind = 'name'"
        " ORDER BY c.position, e.event_id LIMIT 1",
        model_id,
    )
    return str(found[0][0]) if found else None


def _key_of(value: str | None, principal: str) -> dict[str, Any] | None:
    """Return what the value of an event of kind `key` says of the key that it is about; None where it is none."""
    try:
        said = json.loads(value or "null")
        if key_id(raw_of(str(said["public"]))) == principal:
            return {"public": str(said["public"]), "name": str(said["name"]), "revoked": bool(said["revoked"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


_PLACE = """SELECT subject, kind, key FROM events WHERE event_id = ?1
    UNION ALL SELECT subject, kind, key FROM refused WHERE event_id = ?1"""
"""What was refused here may have force elsewhere, and who settles that names it."""


@dataclass
class Judge:
    """Judges events by one state.

    Args:
        rows: Asks the state.
        root: What the lake's trust begins with; None where it is not signed.
        versions: Of versions that the state lacks: model and digest.
        names: Of models that the state lacks: the name.
        events: Of events that the state lacks: subject, kind and key.
        verifies: Tells whether a signature is one of a message.
    """

    rows: Rows
    root: Root | None
    versions: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    verifies: Verifier = verifies
    _first: dict[str, str | None] = field(default_factory=dict)
    _held: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _keys: dict[str, dict[str, Any] | None] = field(default_factory=dict)

    # -- who ----------------------------------------------------------------------------------------------------
    def key(self, principal: str) -> dict[str, Any] | None:
        """Return what is enrolled as a key: `public`, `name`, `revoked`; where two stand, revoked stands."""
        if principal not in self._keys:
            self._keys[principal] = self._enrolled(principal)
        return self._keys[principal]

    def _enrolled(self, principal: str) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = []
        for (value,) in self.rows(
            "SELECT value FROM events WHERE standing AND kind = 'key' AND subject = ? AND key = ''", principal
        ):
            said = _key_of(value, principal)
            found += [] if said is None else [said]
        if not found and self.root is not None and self.root.key_id == principal:
            return {"public": self.root.public, "name": self.root.name, "revoked": False}
        return max(found, key=lambda each: bool(each["revoked"]), default=None)

    def roles(self, principal: str) -> list[tuple[str, str]]:
        """Return the (role, pattern) pairs that a principal holds; where two stand, revoked stands."""
        if principal not in self._held:
            said: dict[str, set[str | None]] = {}
            for key, value in self.rows(
                "SELECT key, value FROM events WHERE standing AND kind = 'role' AND subject = ?", principal
            ):
                said.setdefault(key, set()).add(value)
            if self.root is not None and self.root.key_id == principal:
                said.setdefault("admin *", {"granted"})
            self._held[principal] = [
                (role, pattern)
                for key, values in sorted(said.items())
                if values == {"granted"}
                for role, _, pattern in (key.partition(" "),)
            ]
        return self._held[principal]

    def grants(self) -> list[tuple[str, str, str]]:
        """Return every (principal, role, pattern) that is granted."""
        principals = {str(who) for (who,) in self.rows("SELECT DISTINCT subject FROM events WHERE kind = 'role'")}
        if self.root is not None:
            principals.add(self.root.key_id)
        return [(who, *each) for who in sorted(principals) for each in self.roles(who)]

    def has(self, principal: str, right: str, target: str | None) -> bool:
        """Return whether a principal has a right.

        Args:
            principal: Who.
            right: One of `access.RIGHTS`.
            target: The first name of a model, or a pattern; None: for anything at all.
        """
        return any(
            role in RIGHTS[right] and (target is None or covers(pattern, target))
            for role, pattern in self.roles(principal)
        )

    def is_open(self, right: str, target: str | None) -> bool:
        """Return whether a right is everybody's: in an unsigned lake, until somebody was granted a role that has it."""
        if self.root is not None:
            return False
        return not any(
            role in RIGHTS[right] and (target is None or matches(pattern, target) or target == pattern)
            for _, role, pattern in self.grants()
        )

    def may(self, principal: str, right: str, target: str | None) -> bool:
        """Return whether a principal has a right, or everybody has it. Arguments are those of `has`."""
        return self.has(principal, right, target) or self.is_open(right, target)

    # -- what ---------------------------------------------------------------------------------------------------
    def name_of(self, model_id: str) -> str | None:
        """Return the name by which a model's grants are found: its first."""
        if model_id not in self._first:
            self._first[model_id] = first_name(self.rows, model_id) or self.names.get(model_id)
        return self._first[model_id]

    def version(self, version_id: str) -> tuple[str, str | None] | None:
        """Return the model and the artifact's digest of a version, or None where there is none."""
        if version_id in self.versions:
            return self.versions[version_id]
        found = self.rows(
            "SELECT model_id, json_extract(row, '$.digest') FROM versions WHERE version_id = ?", version_id
        )
        return (str(found[0][0]), found[0][1]) if found else None

    def digests(self, versions: Iterable[str]) -> dict[str, str | None]:
        """Return the digests of those of some IDs that are versions'."""
        found = {each: self.version(each) for each in versions}
        return {each: what[1] for each, what in found.items() if what is not None}

    def _targets(self, row: Mapping[str, Any]) -> list[str | None]:
        """Return what an event's right is needed on: names or patterns; None for the lake at large."""
        subject, kind = str(row["subject"]), row["kind"]
        if kind == "key":
            return ["*"]
        if kind == "role":
            return [str(row["key"]).partition(" ")[2]]
        if kind == "delivered":
            # Who records that something was told could keep it from being told: he has to do with that model.
            return [self.name_of(str(row["key"])) or "*"]
        if subject.startswith(PATTERN):
            return [subject.removeprefix(PATTERN)]
        if subject.startswith(DATASET):
            return ["*"] if kind == "policy" else [None]
        version = self.version(subject)
        model = version[0] if version is not None else subject
        name = self.name_of(model)
        if name is not None:
            # Who renames a model gives it to those who hold the new name, so he has to hold it too.
            return [name, row["value"]] if kind == "name" else [name]
        if kind == "tombstone":
            # A transaction: what hides it hides the versions that it registered.
            models = self.rows("SELECT DISTINCT model_id FROM versions WHERE tx = ?", subject)
            return [self.name_of(each) or "*" for (each,) in models] or [None]
        return [None]

    def verified(self, row: Mapping[str, Any], signature: Signature, public: str) -> bool:
        """Return whether a signature is of this event, of this lake, and of the artifacts that it is about."""
        assert self.root is not None
        digests = self.digests(named_versions(row))
        raw = raw_of(public)
        return verify(row, signature, raw, lake=self.root.lake, digests=digests, verifies=self.verifies)

    def misplaced(self, row: Mapping[str, Any]) -> Refusal | None:
        """Return what is wrong with what an event replaces: it may only be what is of the same place as itself."""
        place = (row["subject"], row["kind"], row["key"])
        for each in row["prev"] or ():
            found = self.events.get(each)
            if found is None:
                rows = self.rows(_PLACE, each)
                found = tuple(rows[0]) if rows else None
            if found is None:
                return Refusal(f"it replaces an event that is not there: {shown(str(each))}")
            if found != place:
                return Refusal(f"it replaces an event of something else: {shown(str(each))}")
        return None

    def refusal(self, row: Mapping[str, Any], principal: str) -> Refusal | None:
        """Return why an event has no force, or None where it has.

        Args:
            row: The event.
            principal: Who made it; that the signature is his is not asked here.
        """
        kind, value, prev = row["kind"], row["value"], list(row["prev"] or ())
        place = (row["subject"], kind, row["key"])
        misplaced = self.misplaced(row)
        if misplaced is not None or kind in TELEMETRY:
            return misplaced
        standing = self.rows(
            "SELECT event_id, value FROM events WHERE standing AND subject = ? AND kind = ? AND key = ?", *place
        )
        if is_protected(kind, row["key"]) and not {event for event, _ in standing} <= set(prev):
            return Refusal("it was decided on an earlier state, and something else stands now", hint="decide it again")
        odd = self._odd(row, principal)
        if odd is not None:
            return odd
        same = {each for _, each in standing} == {value} if standing else says_nothing(kind, value)
        if same and self.may(principal, WRITE, None):
            return None  # it changes nothing
        before = [each for _, each in standing]
        stands = "production" if "production" in before else next(iter(before), None)
        right = right_for(kind, row["key"], value, stands)
        for target in self._targets(row):
            if not self.may(principal, right, target):
                return self._denied(principal, right, target)
        return None

    def refusal_of_brought(self, row: Mapping[str, Any], merger: str) -> Refusal | None:
        """Return why an event that a merge brought has no force, or None where it has.

        It has if whoever merged it may do the same here, or whoever signed it for the other branch may.

        Args:
            row: The event.
            merger: Who merged, and vouches for it.
        """
        refusal = self.refusal(row, merger)
        signature = None if refusal is None else parse(row["signature"])
        key = None if signature is None else self.key(signature.key_id)
        if signature is None or key is None or key["revoked"] or key["name"] != row["actor"]:
            return refusal
        return self.refusal(row, signature.key_id) if self.verified(row, signature, key["public"]) else refusal

    def _odd(self, row: Mapping[str, Any], principal: str) -> Refusal | None:
        """Return what is wrong with what an event says, whoever says it."""
        kind, key, value = row["kind"], str(row["key"]), row["value"]
        if kind == "approval" and key.partition(" ")[2] != principal:
            return Refusal("it is an approval in somebody else's name")
        if kind == "role":
            role, _, pattern = key.partition(" ")
            if role not in ROLES or not is_pattern(pattern) or value not in ("granted", "revoked"):
                return Refusal(f"it grants what is no role on what is no pattern: {shown(key)}")
        if kind == "key":
            said, stands = _key_of(value, str(row["subject"])), self.key(str(row["subject"]))
            if said is None or key:
                return Refusal("it enrols what is no key")
            if stands is not None and (said["name"] != stands["name"] or (stands["revoked"] and not said["revoked"])):
                return Refusal("a key stands for one name, and once it was revoked, for nobody")
        if kind == "name" and value is not None:
            others = self.rows(
                "SELECT 1 FROM events WHERE kind = 'name' AND value = ? AND subject <> ?",
                *(value, row["subject"]),
            )
            if others or any(name == value and model != row["subject"] for model, name in self.names.items()):
                return Refusal(f"the name {quote(str(value))} belongs to another model")
        return None

    def called(self, principal: str) -> str:
        """Return what a principal is called."""
        if principal.startswith(ACTOR):
            return principal.removeprefix(ACTOR)
        key = self.key(principal)
        return principal if key is None else str(key["name"])

    def lacking(self, principal: str, right: str) -> Refusal | None:
        """Return why somebody may not do something at all, on whatever model; None where he may on one."""
        return None if self.may(principal, right, None) else self._denied(principal, right, None)

    def _denied(self, principal: str, right: str, target: str | None) -> Refusal:
        name = self.called(principal)
        what = "anything" if target is None else "the lake" if target == "*" else quote(target)
        roles = [role for role in ROLES if role in RIGHTS[right]]
        wanted = f"{', '.join(roles[:-1])} or {roles[-1]}" if len(roles) > 1 else roles[0]
        admins = {
            self.called(who)
            for who, role, pattern in self.grants()
            if role == "admin" and (target is None or covers(pattern, target))
        }
        on = "" if target in (None, "*") else f" {target}"
        return Refusal(
            f"{name} may not {WORDS[right]} {what}: that needs the role {wanted}",
            hint=f"{' or '.join(sorted(admins)[:3]) or 'an admin'} can give it:"
            f" `headwater role grant {roles[0]} {name}{on}`",
        )
