"""Who may: whether an event has force, by the keys and roles of a folded state; pure questions, asked of its tables.

Asked twice: when an event is written (`headwater.transaction`), and when it is folded (`headwater.verdicts`), there of
the state before the landing that brought it. No clock is asked. See ADR 0019.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from headwater.access import (
    GOVERN,
    LABEL,
    PROMOTE,
    RIGHTS,
    ROLES,
    SERVE,
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

__all__ = [
    "ACTOR",
    "DATASET",
    "PATTERN",
    "Judge",
    "Place",
    "Refusal",
    "Root",
    "Rows",
    "first_name",
    "names_of",
    "places_of",
]

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


Place = tuple[str, str, str]
"""Subject, kind and key of an event."""

_LAST = 1 << 62


_PLACE = "SELECT subject, kind, key FROM {} WHERE event_id = ?"

_DEPLOYMENTS = "SELECT model_id, environment FROM deployments"

_BATCHES = "SELECT deployment_id FROM batches WHERE tx = ?"

_RUN = "run:"

_THINGS = (("runs", "run_id"), ("datasets", "dataset_id"), ("deployments", "deployment_id"))


def places_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, set[Place]]:
    """Return the places that events claim, by their IDs."""
    found: dict[str, set[Place]] = {}
    for row in rows:
        found.setdefault(row["event_id"], set()).add((row["subject"], row["kind"], row["key"]))
    return found


def names_of(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the first names that events give, by model."""
    found: dict[str, str] = {}
    for row in sorted((each for each in rows if each["kind"] == "name" and not each["prev"]), key=_by_id):
        found.setdefault(row["subject"], row["value"])
    return found


def _versions_in(kind: str, value: str | None) -> set[str]:
    """Return the versions that the value of an alias or of traffic names.

    Raises:
        ValueError: It can't be read.
    """
    if kind == "alias":
        return set() if value is None else {value}
    try:
        return {str(each["version_id"]) for each in json.loads(value or "[]")}
    except (KeyError, TypeError, RecursionError):
        raise ValueError from None


def _by_id(row: Mapping[str, Any]) -> str:
    return str(row["event_id"])


@dataclass
class Judge:
    """Judges events by one state.

    Args:
        rows: Asks the state.
        root: What the lake's trust begins with; None where it is not signed.
        versions: Of versions that the state lacks: model and digest.
        names: Of models that the state lacks: the name.
        events: Of events that the state lacks: the places that they claim.
        things: IDs of runs, datasets and deployments that the state lacks.
        brought: Those of the events that a merge brings.
        until: The position of the last landing whose versions, runs and the like count.
        verifies: Tells whether a signature is one of a message.
    """

    rows: Rows
    root: Root | None
    versions: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    events: Mapping[str, Collection[Place]] = field(default_factory=dict)
    things: Collection[str] = frozenset()
    brought: Collection[str] = frozenset()
    until: int = _LAST
    verifies: Verifier = verifies
    _asked: str = ""
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
        if not found and self._is_root(principal, "key", ""):
            assert self.root is not None
            return {"public": self.root.public, "name": self.root.name, "revoked": False}
        return max(found, key=lambda each: bool(each["revoked"]), default=None)

    def _is_root(self, principal: str, kind: str, key: str) -> bool:
        """Return whether the marker's word on a key holds: it is the root's, and no event ever said anything of it."""
        if self.root is None or self.root.key_id != principal:
            return False
        return not self.rows("SELECT 1 FROM events WHERE subject = ? AND kind = ? AND key = ?", principal, kind, key)

    def roles(self, principal: str) -> list[tuple[str, str]]:
        """Return the (role, pattern) pairs that a principal holds; where two stand, revoked stands."""
        if principal not in self._held:
            said: dict[str, set[str | None]] = {}
            for key, value in self.rows(
                "SELECT key, value FROM events WHERE standing AND kind = 'role' AND subject = ?", principal
            ):
                said.setdefault(key, set()).add(value)
            if "admin *" not in said and self._is_root(principal, "role", "admin *"):
                said["admin *"] = {"granted"}
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
        found = self.rows(
            f"SELECT model_id, json_extract(row, '$.digest') FROM versions t WHERE version_id = ?1{self._landed}",
            *(version_id, self.until),
        )
        return (str(found[0][0]), found[0][1]) if found else self.versions.get(version_id)

    @property
    def _landed(self) -> str:
        """A condition of SQL: a row of `t` landed. What other programs put there, or lands later, is not seen."""
        if self.root is None:
            return " AND ?2 IS NOT NULL"
        return " AND EXISTS (SELECT 1 FROM commits c WHERE c.tx = t.tx AND c.position <= ?2)"

    def _is_there(self, row: Mapping[str, Any]) -> bool:
        """Return whether what an event is about is known: nobody decides about what comes to a branch later."""
        subject, kind = str(row["subject"]), row["kind"]
        if self.root is None or kind in ("key", "role", "delivered", "endorsement"):
            return True
        if subject.startswith((PATTERN, DATASET)) or subject in self.things:
            return True
        version = self.version(subject)
        if self.name_of(subject if version is None else version[0]) is not None:
            return True
        found = (f"SELECT 1 FROM {table} t WHERE {column} = ?1{self._landed}" for table, column in _THINGS)
        return any(
            self.rows(sql, subject, self.until)
            for sql in (*found, "SELECT 1 FROM commits WHERE tx = ?1 AND position <= ?2")
        )

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
        return [None]

    def _needs(self, row: Mapping[str, Any], standing: str | None) -> list[tuple[str, str | None]]:
        """Return the rights that an event needs, each with what it is needed on.

        Args:
            row: The event.
            standing: What stands in its place now.
        """
        right = right_for(row["kind"], row["key"], row["value"], standing)
        found = [(right, target) for target in self._targets(row)]
        return found if row["kind"] != "tombstone" else self._needs_of_tombstone(row, found)

    def _needs_of_tombstone(
        self, row: Mapping[str, Any], found: list[tuple[str, str | None]]
    ) -> list[tuple[str, str | None]]:
        """Return the rights that it takes to hide something, or to bring it back: those on all that this is about."""
        subject, hides = str(row["subject"]), row["value"] != "restored"
        version = self.version(subject)
        model = subject if version is None else version[0]
        if self.name_of(model) is not None:
            serves = hides and self._serves(model, None if version is None else subject)
            return [*found, *((PROMOTE, target) for _, target in (found if serves else ()))]
        deployments = self.rows(f"{_DEPLOYMENTS} WHERE deployment_id = ?", subject)
        runs = self.rows("SELECT run_id FROM runs WHERE run_id = ?", subject)
        transaction = self.rows("SELECT kind, subject, actor FROM commits WHERE tx = ? ORDER BY position", subject)
        if not (deployments or runs or transaction):
            return found
        needs: list[tuple[str, str | None]] = []
        for kind, about, _ in transaction[:1]:
            needs += [(GOVERN, "*")] if kind == "init" else []
            runs += [(about.removeprefix(_RUN),)] if str(about).startswith(_RUN) else []
            runs += self.rows("SELECT run_id FROM runs WHERE tx = ?", subject)
            deployments += self.rows(f"{_DEPLOYMENTS} WHERE tx = ?", subject)
            deployments += self.rows(f"{_DEPLOYMENTS} WHERE deployment_id IN ({_BATCHES})", subject)
            for each, model in self.rows("SELECT version_id, model_id FROM versions WHERE tx = ?", subject):
                target = self.name_of(model) or "*"
                needs += [(LABEL, target), *([(PROMOTE, target)] if hides and self._serves(model, each) else [])]
            for about, kind, key, value in self.rows(
                "SELECT subject, kind, key, value FROM events WHERE tx = ?", subject
            ):
                if kind in ("role", "key"):
                    needs.append((GOVERN, "*"))
                elif kind not in TELEMETRY and kind != "tombstone":
                    inner = {"subject": about, "kind": kind, "key": key, "value": value}
                    needs += self._needs(inner, None)
        for model, environment in deployments:
            needs.append((PROMOTE if environment == "production" else SERVE, self.name_of(model) or "*"))
        for (run,) in dict.fromkeys(runs):
            needs += self._needs_of_run(str(run), row)
        if not needs and transaction and self.called(self._asked) != transaction[0][2]:
            needs.append((GOVERN, "*"))
        return list(dict.fromkeys(needs)) or found

    def _needs_of_run(self, run: str, row: Mapping[str, Any]) -> list[tuple[str, str | None]]:
        """Return the rights that it takes to hide a run or what it measured: his own is everybody's."""
        by = self.rows("SELECT json_extract(row, '$.actor') FROM runs WHERE run_id = ?", run)
        if not by or by[0][0] == self.called(self._asked):
            return []
        made = self.rows("SELECT DISTINCT model_id FROM versions WHERE json_extract(row, '$.run_id') = ?", run)
        return [(LABEL, self.name_of(model) or "*") for (model,) in made] or [(GOVERN, "*")]

    def _serves(self, model: str, version: str | None) -> bool:
        """Return whether a model, or a version of it, is champion, in production or a canary there."""
        mine = (
            [version]
            if version is not None
            else [str(each) for (each,) in self.rows("SELECT version_id FROM versions WHERE model_id = ?", model)]
        )
        standing = self.rows(
            "SELECT kind, value FROM events WHERE standing AND subject = ? AND (kind, key) IN"
            " (VALUES ('alias', 'champion'), ('traffic', 'production'))",
            model,
        )
        named = {each for kind, value in standing for each in _versions_in(kind, value)}
        return any(
            each in named
            or self.rows(
                "SELECT 1 FROM events WHERE standing AND subject = ? AND kind = 'stage' AND value = 'production'", each
            )
            for each in mine
        )

    def verified(self, row: Mapping[str, Any], signature: Signature, public: str) -> bool:
        """Return whether a signature is of this event, of this lake, and of the artifacts that it is about."""
        assert self.root is not None
        digests = self.digests(named_versions(row))
        raw = raw_of(public)
        return verify(row, signature, raw, lake=self.root.lake, digests=digests, verifies=self.verifies)

    def misplaced(self, row: Mapping[str, Any]) -> Refusal | None:
        """Return what is wrong with an event's ID, or with what it replaces: that is of the same place as itself."""
        if self.rows("SELECT 1 FROM events WHERE event_id = ?", row.get("event_id")):
            return Refusal("its ID is that of another event")
        place = (row["subject"], row["kind"], row["key"])
        for each in row["prev"] or ():
            # What has force says itself where it belongs, whatever else claims its ID.
            found = {tuple(stands) for stands in self.rows(_PLACE.format("events"), each)}
            if not found:
                # What was refused here may have force elsewhere, and who settles that names it.
                refused = self.rows(_PLACE.format("refused") + " AND NOT stray", each)
                found = {*self.events.get(each, ()), *(tuple(other) for other in refused)}
            if not found:
                return Refusal(f"it replaces an event that is not there: {shown(str(each))}")
            if place not in found:
                return Refusal(f"it replaces an event of something else: {shown(str(each))}")
        return None

    def refusal(self, row: Mapping[str, Any], principal: str) -> Refusal | None:
        """Return why an event has no force, or None where it has.

        Args:
            row: The event.
            principal: Who made it; that the signature is his is not asked here.
        """
        kind, prev = row["kind"], list(row["prev"] or ())
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
        if self._says_the_same(row, standing) and self.may(principal, WRITE, None):
            return None
        before = [each for _, each in standing]
        stands = "production" if "production" in before else next(iter(before), None)
        self._asked = principal
        for right, target in self._needs(row, stands):
            if not self.may(principal, right, target):
                return self._denied(principal, right, target)
        return None

    def _says_the_same(self, row: Mapping[str, Any], standing: Collection[tuple[str, str | None]]) -> bool:
        """Return whether an event changes nothing, so that everybody may write it who may write at all.

        Who decides anew what governance protects takes it upon himself: only a merge does so for what it keeps.
        """
        kind, value = row["kind"], row["value"]
        if kind == "key" or {each for _, each in standing} != ({value} if standing else set()):
            return False
        if not standing and not says_nothing(kind, value):
            return False
        if not is_protected(kind, row["key"]):
            return True
        return kind not in ("override", "gate", "refusal") and any(each in self.brought for each in row["prev"] or ())

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
        if not self._is_there(row):
            return Refusal(f"it is about something that is not there: {shown(str(row['subject']))}")
        if self.root is not None and kind in ("alias", "traffic"):
            try:
                named = _versions_in(kind, value)
            except ValueError:
                return Refusal(f"it says nothing that can be read: {shown(str(value))}")
            for each in sorted(named):
                if (self.version(each) or (None,))[0] != row["subject"]:
                    return Refusal(f"it names what is no version of its model: {shown(each)}")
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
