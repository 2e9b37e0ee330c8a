"""What is in production: the one place where stage, `champion`, deployments and traffic change, always together.

The truth is a model's `traffic` event for the environment `production`. The stage of the version that is live there,
the alias `champion` and the rows of deployments are written with it, in one transaction. Decides nothing: whether a
change is allowed is asked before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headwater.access import matches
from headwater.errors import ConflictError, InvalidInputError
from headwater.fold import entries_of
from headwater.ids import new_id
from headwater.lookup import name_of
from headwater.state import Fold
from headwater.tombstones import is_hidden
from headwater.transaction import Transaction

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "LEGAL",
    "PRODUCTION",
    "STAGED_AS_CANARY",
    "STAGES",
    "UNSTAGED",
    "Entry",
    "add_deployment",
    "canaries_of",
    "champions_of",
    "entered",
    "faces",
    "faces_agree",
    "governed",
    "is_there",
    "last_in",
    "live_in",
    "matching",
    "production_of",
    "put_in_production",
    "replaces",
    "ruled",
    "serve",
    "serving_in",
    "set_canary",
    "shared",
    "stage_of",
    "traffic_value",
    "was_in",
    "withdraw",
]

PRODUCTION = "production"
"""The environment, and the stage, of what answers requests."""

CHAMPION = "champion"
"""The alias of the version that is live in production."""

CHALLENGER = "challenger"
"""The alias of the version that is tried beside it."""

STAGES = ("none", "development", "staging", "production", "archived")

LEGAL: Mapping[str, frozenset[str]] = {
    "none": frozenset({"development", "staging", "archived"}),
    "development": frozenset({"staging", "archived"}),
    "staging": frozenset({"production", "archived"}),
    "production": frozenset(),
    "archived": frozenset(),
}
"""By stage, those that a version may enter from it by hand. A promotion archives the version that was in production
before, and a rollback alone brings an archived one back to production."""

UNSTAGED = frozenset({"none", "development"})
"""The stages from which production is entered by way of `staging`."""

STAGED_AS_CANARY = frozenset({"none", "development", "archived"})
"""The stages that a version leaves for `staging` when it becomes a canary: in these nothing serves."""

Entry = Mapping[str, Any]
"""What serves, as a `traffic` event lists it: deployment_id, version_id, mode, percent."""


# -- reading ----------------------------------------------------------------------------------------------------------
def serving_in(fold: Fold, model_id: str, environment: str = PRODUCTION) -> list[Entry]:
    """Return what serves in an environment; where two branches changed it, what either has."""
    known: dict[str, Entry] = {}
    for _, value in fold.standing(model_id, "traffic", environment):
        known.update((each["deployment_id"], each) for each in entries_of(value))
    return list(known.values())


def live_in(fold: Fold, model_id: str) -> list[str]:
    """Return the versions that are live in production: one, none, or several where two branches deployed one each."""
    return [each["version_id"] for each in serving_in(fold, model_id) if each["mode"] == "live"]


def champions_of(fold: Fold, model_id: str) -> list[str]:
    """Return the versions that `champion` names: one, none, or several where two branches moved it differently."""
    return list(dict.fromkeys(value for _, value in fold.standing(model_id, "alias", CHAMPION) if value is not None))


def production_of(fold: Fold, model_id: str) -> str | None:
    """Return the version_id of the version in production; None where there is none.

    Where nothing is deployed to production it is what `champion` names: so it was before one implied the other.

    Raises:
        ConflictError: Two branches have put one there each, and nobody settled it.
    """
    live = set(live_in(fold, model_id) or champions_of(fold, model_id))
    if len(live) > 1:
        raise ConflictError(
            f"two versions of {name_of(fold, model_id)} stand in production, since two branches put one there each",
            hint="promote, or make champion, the one that is to stay",
        )
    return next(iter(live), None)


def canaries_of(fold: Fold, model_id: str) -> list[Entry]:
    """Return the canaries in production, the oldest first."""
    return [each for each in serving_in(fold, model_id) if each["mode"] == "canary"]


def stage_of(fold: Fold, version_id: str) -> str:
    """Return the stage of a version; where two branches moved it differently, the one that was written last."""
    standing = fold.standing(version_id, "stage")
    return (standing[-1][1] or "none") if standing else "none"


def entered(fold: Fold, model_id: str) -> list[str]:
    """Return the versions that were in production, the latest last, without those that were rolled back.

    A rollback takes the newest ones away until the one that it went back to is the last.
    """
    rows = fold.rows(
        f"SELECT e.value, c.kind {_STOOD} AND e.value IS NOT NULL ORDER BY c.position, e.event_id",
        model_id,
        CHAMPION,
    )
    stack: list[str] = []
    for version_id, kind in rows:
        if kind == "rollback" and version_id in stack:
            while stack[-1] != version_id:
                stack.pop()
        elif not stack or stack[-1] != version_id:
            stack.append(version_id)
    return stack


def last_in(fold: Fold, model_id: str) -> list[str]:
    """Return the versions that are kept because a rollback may need them: the last three that were in production.

    Those that were rolled back count among them, and do not crowd out what can be gone back to.
    """
    rows = fold.rows(
        f"SELECT e.value {_STOOD} AND e.value IS NOT NULL ORDER BY c.position DESC, e.event_id DESC", model_id, CHAMPION
    )
    latest = list(dict.fromkeys(version_id for (version_id,) in rows))[:_KEPT]
    return list(dict.fromkeys([*latest, *reversed(entered(fold, model_id)[-_KEPT:])]))


_KEPT = 3


def was_in(fold: Fold, model_id: str, version_id: str) -> bool:
    """Return whether a version was in production at any time: then a rollback may go back to it."""
    return fold.one(f"SELECT 1 {_STOOD} AND e.value = ?", model_id, CHAMPION, version_id) is not None


_STOOD = """FROM events e LEFT JOIN commits c ON c.tx = e.tx WHERE e.subject = ? AND e.kind = 'alias' AND e.key = ?
    AND ((SELECT l.brought FROM commits l WHERE l.id = c.landed) IS c.tx OR NOT EXISTS (
        SELECT 1 FROM events o JOIN commits d ON d.tx = o.tx, json_each(o.prev) p WHERE o.subject = e.subject
        AND o.kind = e.kind AND o.key = e.key AND p.value = e.event_id AND d.position = c.position))"""
"""Events of an alias that stood on this branch: what came with a merge that settled it otherwise never did."""


def faces(fold: Fold, model_id: str) -> dict[str, set[str]]:
    """Return the versions that stand in production by each of the faces of that truth, which must be the same sets.

    A version that was hidden with its promotion, as a revert does it, is in no stage until it comes back.
    """
    live = [each for each in serving_in(fold, model_id) if each["mode"] == "live"]
    staged = fold.rows(
        "SELECT e.subject FROM versions v JOIN events e ON e.subject = v.version_id"
        " WHERE v.model_id = ? AND e.standing AND e.kind = 'stage' AND e.value = ?",
        model_id,
        PRODUCTION,
    )
    deployed = [
        fold.one("SELECT version_id FROM deployments WHERE deployment_id = ?", each["deployment_id"]) for each in live
    ]
    serves = {each["version_id"] for each in live}
    return {
        "traffic": serves,
        "stage": {subject for (subject,) in staged if subject in serves or not is_hidden(fold, subject)},
        CHAMPION: set(champions_of(fold, model_id)),
        "deployments": {row[0] for row in deployed if row is not None},
    }


def faces_agree(fold: Fold, model_id: str) -> bool:
    """Return whether all faces name the same version, or none."""
    found = {frozenset(each) for each in faces(fold, model_id).values()}
    return len(found) == 1 and len(next(iter(found))) <= 1


def matching(fold: Fold, kind: str, model_id: str) -> Iterable[tuple[str, str]]:
    """Yield (subject, value) of the standing events of a kind whose pattern (`pattern:GLOB`) matches a model.

    It does by any name that the model has or had: a rename takes no model out of what was set for it.
    """
    rows = fold.rows(
        "SELECT subject, value FROM events WHERE standing AND kind = ? AND value IS NOT NULL"
        " AND subject >= 'pattern:' AND subject < 'pattern;' ORDER BY subject, event_id",
        kind,
    )
    names = _names_of(fold, model_id) if rows else []
    for subject, value in rows:
        if any(matches(subject.removeprefix("pattern:"), name) for name in names):
            yield subject, value


def _names_of(fold: Fold, model_id: str) -> list[str]:
    """Return every name that a model has or had."""
    rows = fold.rows("SELECT DISTINCT value FROM events WHERE subject = ? AND kind = 'name'", model_id)
    return [name for (name,) in rows if name is not None]


def governed(fold: Fold, model_id: str) -> bool:
    """Return whether what is in production of a model is decided by more than whoever asks: by rules, or by keys."""
    return fold.signed or ruled(fold, model_id)


def ruled(fold: Fold, model_id: str) -> bool:
    """Return whether a model has gates or roles: where it has none, nothing that one may do is refused.

    That whoever made a signed lake is its first admin is no rule yet.
    """
    if any(value is not None for _, value in fold.standing(model_id, "policy")):
        return True
    if next(iter(matching(fold, "policy", model_id)), None) is not None:
        return True
    maker = fold.root.key_id if fold.root is not None else None
    rows = fold.rows("SELECT DISTINCT subject, key FROM events WHERE standing AND kind = 'role' AND value = 'granted'")
    patterns = {key.partition(" ")[2] for subject, key in rows if subject != maker}
    return any(
        matches(pattern, name) for name in (_names_of(fold, model_id) if patterns else ()) for pattern in patterns
    )


# -- changing ---------------------------------------------------------------------------------------------------------
def put_in_production(
    tx: Transaction,
    model_id: str,
    version_id: str,
    *,
    reason: str | None,
    deployment_id: str | None = None,
    alone: bool = False,
    straight: bool = False,
) -> str | None:
    """Make a version the one in production: live, champion, and in that stage; the one before is archived.

    Args:
        tx: The transaction.
        model_id: The model.
        version_id: Its version.
        reason: Why.
        deployment_id: The ID of its deployment; a new one by default.
        alone: Whether canaries end.
        straight: Whether a version that is not in `staging` enters production without entering that first.

    Returns:
        The deployment's ID; None where the version is in production already, and nothing was written.
    """
    before = serving_in(tx.fold, model_id)
    champions = {value for _, value in tx.fold.standing(model_id, "alias", CHAMPION)}
    live = [each for each in before if each["mode"] == "live"]
    as_is = [each["version_id"] for each in live] == [version_id] and champions == {version_id}
    if as_is and deployment_id is None and stage_of(tx.fold, version_id) == PRODUCTION:
        if alone and len(before) > len(live):
            serve(tx, model_id, PRODUCTION, lambda entries: [e for e in entries if e["mode"] != "canary"], reason)
            return str(live[0]["deployment_id"])
        return None
    deployment_id = deployment_id or new_id()
    new = {"deployment_id": deployment_id, "version_id": version_id, "mode": "live", "percent": 100.0}

    def change(entries: list[Entry]) -> list[Entry]:
        kept = [each for each in entries if not replaces(new, each) and not (alone and each["mode"] == "canary")]
        return [*kept, new]

    entries = serve(tx, model_id, PRODUCTION, change, reason)
    given = next(each["percent"] for each in entries if each["deployment_id"] == deployment_id)
    add_deployment(tx, model_id, new, PRODUCTION, given)
    for other in dict.fromkeys([*(each["version_id"] for each in live), *filter(None, champions)]):
        if other != version_id and stage_of(tx.fold, other) != "archived":
            tx.event(other, "stage", "archived", reason=reason)
    _enter(tx, version_id, PRODUCTION, reason, straight=straight)
    tx.event(model_id, "alias", version_id, key=CHAMPION, reason=reason)
    return deployment_id


def set_canary(
    tx: Transaction,
    model_id: str,
    version_id: str,
    percent: float,
    *,
    reason: str | None,
    deployment_id: str | None = None,
) -> str | None:
    """Give a version a part of production's requests; the live version gets what canaries leave.

    Args:
        tx: The transaction.
        model_id: The model.
        version_id: Its version.
        percent: From 0, which ends its canary, to 100.
        reason: Why.
        deployment_id: The ID of a new deployment; by default the canary that the version has goes on.

    Returns:
        The deployment's ID; None where nothing was written.
    """
    known = [each for each in canaries_of(tx.fold, model_id) if each["version_id"] == version_id]
    if percent == 0 and not known:
        return None
    if known and deployment_id is None and [each["percent"] for each in known] == [percent]:
        return None
    is_new = deployment_id is not None or not known
    chosen = deployment_id or (known[-1]["deployment_id"] if known else new_id())
    new = {"deployment_id": chosen, "version_id": version_id, "mode": "canary", "percent": percent}

    def change(entries: list[Entry]) -> list[Entry]:
        kept = [each for each in entries if not replaces(new, each)]
        return [*kept, new] if percent else kept

    serve(tx, model_id, PRODUCTION, change, reason)
    if is_new:
        add_deployment(tx, model_id, new, PRODUCTION, percent)
        if stage_of(tx.fold, version_id) in STAGED_AS_CANARY:
            _enter(tx, version_id, "staging", reason)
    return chosen


def withdraw(tx: Transaction, model_id: str, *, reason: str | None) -> None:
    """Take the version in production out of it, so that none is; it is archived, and canaries go on."""
    live, champions = live_in(tx.fold, model_id), champions_of(tx.fold, model_id)
    if live:
        serve(tx, model_id, PRODUCTION, lambda entries: [e for e in entries if e["mode"] != "live"], reason)
    for version_id in dict.fromkeys([*live, *champions]):
        if stage_of(tx.fold, version_id) == PRODUCTION:
            tx.event(version_id, "stage", "archived", reason=reason)
    if champions:
        tx.event(model_id, "alias", None, key=CHAMPION, reason=reason)
    tx.fence(model_id)


def replaces(new: Entry, old: Entry) -> bool:
    """Return whether a deployment ends another: the live one, the same version in the same mode, or its canary."""
    if new["mode"] == "live" and old["mode"] == "live":
        return True
    same = bool(new["version_id"] == old["version_id"])
    return same and (new["mode"] == old["mode"] or (new["mode"] == "live" and old["mode"] == "canary"))


def serve(
    tx: Transaction, model_id: str, environment: str, change: Callable[[list[Entry]], list[Entry]], reason: str | None
) -> list[Entry]:
    """Write what serves after a change, and return it.

    Raises:
        InvalidInputError: The canaries would get more than all requests.
        ConflictError: Two branches deployed a live version each, and the change does not say which one stays.
    """
    entries = change(serving_in(tx.fold, model_id, environment))
    canaries = sum(each["percent"] for each in entries if each["mode"] == "canary")
    if canaries > 100:
        raise InvalidInputError(
            f"the canaries in {environment} would get {canaries:g} % of the requests",
            hint="give this one less, or end another: `headwater undeploy DEPLOYMENT_ID`",
        )
    if sum(each["mode"] == "live" for each in entries) > 1:
        raise ConflictError(
            f"two live versions stand in {environment}, since two branches deployed one each",
            hint="deploy the one that is to stay, live",
        )
    entries = shared(entries)
    tx.event(model_id, "traffic", traffic_value(entries), key=environment, reason=reason)
    tx.fence(model_id)
    return entries


def shared(entries: Iterable[Entry]) -> list[Entry]:
    """Return what serves, of which the live version gets what canaries leave."""
    entries = list(entries)
    rest = 100.0 - sum(each["percent"] for each in entries if each["mode"] == "canary")
    return [{**each, "percent": rest} if each["mode"] == "live" else each for each in entries]


def traffic_value(entries: list[Entry]) -> str:
    """Return the value of an event of traffic."""
    return json.dumps(entries, separators=(",", ":"))


def add_deployment(tx: Transaction, model_id: str, entry: Entry, environment: str, percent: float) -> None:
    """Write the row and the edge of a deployment, as `entry` lists it."""
    tx.append(
        "deployments",
        deployment_id=entry["deployment_id"],
        model_id=model_id,
        version_id=entry["version_id"],
        environment=environment,
        mode=entry["mode"],
        traffic=percent,
    )
    source, target = f"model:{entry['version_id']}", f"deployment:{entry['deployment_id']}"
    tx.append("lineage", source=source, relation="deployed", target=target)


def _enter(tx: Transaction, version_id: str, stage: str, reason: str | None, *, straight: bool = False) -> None:
    """Write that a version enters a stage, and unless it goes straight, first that it entered `staging`."""
    now = stage_of(tx.fold, version_id)
    prev: list[str] | None = None
    if now == stage and len(tx.fold.standing(version_id, "stage")) == 1:
        return
    if stage == PRODUCTION and now in UNSTAGED and not straight:
        prev = [tx.event(version_id, "stage", "staging", reason=reason)]
    tx.event(version_id, "stage", stage, reason=reason, prev=prev)


def is_there(fold: Fold, version_id: str) -> bool:
    """Return whether a version can be gone back to: nothing hides it or its model."""
    row = fold.one("SELECT model_id FROM versions WHERE version_id = ?", version_id)
    return row is not None and not is_hidden(fold, version_id) and not is_hidden(fold, row[0])
