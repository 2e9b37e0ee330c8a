"""Gates over what people recorded: checks, approvals, a signature, a model card; measures nothing.

Approvals are counted by the roles that people hold now, and only on the branch that they were given for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from headwater import points, roles_held
from headwater.context import Context
from headwater.errors import IntegrityError
from headwater.gates import Ask, Finding
from headwater.governance_model import CardCheck, CardField
from headwater.lookup import VERSION_COLUMNS, build_version, labelled, labels_of, name_of
from headwater.model import ModelVersion
from headwater.names import counted, quote, shown
from headwater.state import Fold
from headwater.stored import row_by_id
from headwater.tombstones import visible

__all__ = [
    "approvals",
    "approvals_of",
    "authors_of",
    "branch_of",
    "card",
    "card_of",
    "check",
    "checks_of",
    "signature",
]


# -- checks -----------------------------------------------------------------------------------------------------------
def checks_of(fold: Fold, version_id: str, name: str | None = None) -> dict[str, Any]:
    """Return what stands for each named check of a version, by name: passed, url, detail, commit, micros, actor.

    Where two branches recorded one differently, a failure stands.
    """
    found: dict[str, Any] = {}
    for key, value, micros, actor, commit in fold.rows(
        "SELECT e.key, e.value, e.recorded_at, e.actor, coalesce((SELECT id FROM commits c WHERE c.tx = e.tx), e.tx)"
        " FROM events e WHERE e.standing AND e.subject = ? AND e.kind = 'check' AND e.key = coalesce(?, e.key)"
        " AND e.value IS NOT NULL ORDER BY e.key, e.event_id",
        version_id,
        name,
    ):
        said = _read(value, "a check")
        each = {"passed": said.get("passed") is True, "url": said.get("url"), "detail": said.get("detail")}
        if key not in found or not each["passed"] or found[key]["passed"]:
            found[key] = {**each, "commit": commit, "micros": micros, "actor": actor}
    return found


def _read(value: str | None, what: str) -> dict[str, Any]:
    try:
        found = json.loads(value or "null")
        if isinstance(found, dict):
            return found
    except (ValueError, RecursionError):
        pass
    raise IntegrityError(f"an event says {what} that can't be read: {shown(value or '')}", hint="record it again")


def check(ask: Ask) -> Finding:
    """Ask whether a named check was recorded as passed."""
    name = ask.gate.options["check"]
    required = f"{name} passed"
    found = checks_of(ask.fold, ask.version_id, name).get(name)
    if found is None:
        hint = f"`headwater check record {quote(ask.name)}/{ask.number} {name} --passed`"
        return Finding(required, "nothing", False, f"no such check is recorded: {hint}")
    source = f"check of commit {found['commit'][:12]} by {found['actor']}"
    if found["url"]:
        source += f", {found['url']}"
    details = {key: found[key] for key in ("url", "detail") if found[key] is not None}
    return Finding(required, "passed" if found["passed"] else "failed", found["passed"], source, details)


# -- approvals --------------------------------------------------------------------------------------------------------
def branch_of(context: Context) -> str:
    """Return the branch that approvals count on: in a rehearsal, the one that is rehearsed."""
    return context.stands_for or context.branch


def approvals_of(fold: Fold, version_id: str, stage: str | None = None) -> list[dict[str, Any]]:
    """Return what stands for each person, stage and branch, oldest first; where two disagree, withdrawn stands.

    What was said on one branch takes nothing back of what was said on another, also once the one is merged.

    Each says: stage, principal, given, branch, commit, micros, actor, reason.
    """
    rows = fold.rows(
        "SELECT e.event_id, e.key, e.value, e.prev, e.recorded_at, e.actor, e.reason,"
        " coalesce((SELECT id FROM commits c WHERE c.tx = e.tx), e.tx) FROM events e"
        " WHERE e.subject = ? AND e.kind = 'approval' ORDER BY e.event_id",
        version_id,
    )
    branches: dict[str, str | None] = {}
    later: dict[str, list[str]] = {}
    for event_id, _, value, prev, *_ in rows:
        branches[event_id] = None if value is None else str(_read(value, "an approval").get("branch", ""))
        for each in json.loads(prev):
            later.setdefault(each, []).append(event_id)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for event_id, key, value, _, micros, actor, reason, commit in rows:
        branch = branches[event_id]
        entered, _, principal = key.partition(" ")
        if branch is None or stage not in (None, entered) or _is_said_anew(event_id, branches, later):
            continue
        given = _read(value, "an approval").get("given") is True
        if (key, branch) not in found or not given:
            found[key, branch] = {
                **{"stage": entered, "principal": principal, "given": given, "branch": branch},
                **{"commit": commit, "micros": micros, "actor": actor, "reason": reason},
            }
    return list(found.values())


def _is_said_anew(event_id: str, branches: Mapping[str, str | None], later: Mapping[str, list[str]]) -> bool:
    """Return whether an approval was replaced, directly or not, by one of its branch, or by nothing at all."""
    todo, seen = list(later.get(event_id, ())), set[str]()
    while todo:
        each = todo.pop()
        if branches.get(each) in (branches[event_id], None):
            return True
        if each not in seen:
            seen.add(each)
            todo += later.get(each, ())
    return False


def authors_of(fold: Fold, version_id: str) -> set[str]:
    """Return the names of those who made a version: who registered it, and who made the run that it came from."""
    row = json.loads(fold.one("SELECT row FROM versions WHERE version_id = ?", version_id)[0])
    found = {row["actor"]}
    run = fold.one("SELECT row FROM runs WHERE run_id = ?", row["run_id"]) if row["run_id"] is not None else None
    if run is not None:
        found.add(json.loads(run[0])["actor"])
    # In a signed lake the names of keys are the actors; who signed the registration counts, whatever the row says.
    found |= {
        actor
        for (actor,) in fold.rows(
            "SELECT actor FROM events WHERE standing AND subject = ? AND kind = 'registered'", version_id
        )
    }
    return found


def approvals(ask: Ask) -> Finding:
    """Count the people who agree: each once, with the role now, on this branch, and not the version's author."""
    count, role = ask.gate.options["count"], ask.gate.options["role"]
    branch = branch_of(ask.context)
    authors = authors_of(ask.fold, ask.version_id)
    counting: set[str] = set()
    passed_over: dict[str, str] = {}
    for each in approvals_of(ask.fold, ask.version_id, ask.stage):
        who = roles_held.person(ask.fold, each["principal"])
        if not each["given"]:
            continue
        if each["branch"] != branch:
            passed_over[who] = f"given for branch {each['branch']}"
        elif who in authors:
            passed_over[who] = "its author"
        elif not roles_held.counts(ask.fold, each["principal"], role, ask.model_id):
            passed_over[who] = f"no {role} now"
        else:
            counting.add(who)
    source = f"approvals for {ask.stage} on branch {branch}"
    if passed_over:
        source += "; not counted: " + ", ".join(f"{who} ({why})" for who, why in sorted(passed_over.items()))
    found = f"{len(counting)} ({', '.join(sorted(counting))})" if counting else "0"
    details = {"approved_by": sorted(counting), "not_counted": passed_over}
    return Finding(
        f"{count} by a {role}" if count == 1 else f"{count} by {role}s", found, len(counting) >= count, source, details
    )


# -- signature --------------------------------------------------------------------------------------------------------
def signature(ask: Ask) -> Finding:
    """Ask for a signature of inputs, which the data that it was trained on must have; and in a signed lake for a key's.

    Columns are compared by name: what a frame calls `int64` a dataset may call `BIGINT`.
    """
    required = "a signature of its inputs"
    row = json.loads(ask.fold.one("SELECT row FROM versions WHERE version_id = ?", ask.version_id)[0])
    text = row["signature"]
    if text is None:
        return Finding(required, "nothing", False, "the version was registered without one")
    columns = _input_columns(text)
    if columns is None:
        return Finding(required, "nothing", False, f"its signature can't be read: {shown(text)}")
    if ask.fold.signed:
        required += ", registered with a key"
        if {value for _, value in ask.fold.standing(ask.version_id, "registered")} != {row["digest"]}:
            return Finding(required, "no key", False, "no key that may register has signed its registration")
    trained = _trained_on(ask.fold, ask.version_id)
    known = {name: json.loads(data["schema"]) for name, data in trained.items() if data.get("schema") is not None}
    names = columns if isinstance(columns, list) else []
    have = {column for schema in known.values() for column in schema}
    missing = [name for name in names if name not in have] if known else []
    found = counted(len(names) if isinstance(columns, list) else columns, "input")
    if missing:
        some = ", ".join(map(shown, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        source = f"{' and '.join(sorted(known))}, which it was trained on, has no column {some}"
        return Finding(required, found, False, source, {"missing": missing})
    source = f"the version's row; its columns are those of {' and '.join(sorted(known))}" if known and names else ""
    return Finding(required, found, True, source or "the version's row")


def _input_columns(text: str) -> list[str] | int | None:
    """Return the columns of a signature, by name, or how many there are; None where it says neither.

    Read are what runs record, and the signatures of MLflow, whose inputs are a list of `{"name": …}` as JSON.
    """
    try:
        inputs = json.loads(text)["inputs"]
        inputs = json.loads(inputs) if isinstance(inputs, str) else inputs
        columns = inputs["columns"] if isinstance(inputs, dict) else [each["name"] for each in inputs]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if isinstance(columns, int) and columns > 0:
        return columns
    return [str(each) for each in columns] if isinstance(columns, dict | list) and columns else None


def _trained_on(fold: Fold, version_id: str) -> dict[str, dict[str, Any]]:
    """Return the rows of the dataset versions that a version was trained on, by what they are called."""
    rows = fold.rows(
        "SELECT DISTINCT substr(l.source, 9) FROM lineage l WHERE l.target = ? AND l.relation = 'trained'"
        f" AND l.source LIKE 'dataset:%' AND {visible('l.tx')}",
        f"model:{version_id}",
    )
    found = {}
    for (dataset_id,) in rows:
        row = row_by_id(fold, dataset_id)
        if row is not None:
            data = json.loads(row[3])
            found[f"{quote(data['name'])}@{row[1]}"] = {**data, "dataset_id": dataset_id}
    return found


# -- the card ---------------------------------------------------------------------------------------------------------
_USE = ("intended-use", "intended_use", "use")


def card_of(context: Context, fold: Fold, version_id: str) -> CardCheck:
    """Return what a version's card says, and what it lacks. See `docs/gates.md` for what a complete one says."""
    row = fold.one(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?", version_id)
    model_id = row[1]
    name = name_of(fold, model_id)
    version = labelled(build_version(row, name, None), labels_of(fold, model_id, version_id))
    return CardCheck(name, version.version, version_id, fold.commit, tuple(_fields(context, fold, version)))


def _fields(context: Context, fold: Fold, version: ModelVersion) -> Iterable[CardField]:
    reference = f"{quote(version.name)}/{version.version}"
    of_model = {
        (kind, key): value
        for kind, key, value in fold.rows(
            "SELECT kind, key, value FROM events WHERE standing AND subject = ? AND kind IN ('tag', 'description')"
            " ORDER BY event_id",
            version.model_id,
        )
    }
    tags = {key: value for (kind, key), value in of_model.items() if kind == "tag"} | dict(version.tags)
    description = version.description or of_model.get(("description", ""))
    yield _field("description", description, f'`headwater describe {reference} "what it does"`')
    yield _field("owner", tags.get("owner"), f"`headwater tag-model {reference} owner=TEAM`")
    use = next((tags[each] for each in _USE if tags.get(each)), None)
    yield _field("intended use", use, f'`headwater tag-model {reference} intended-use="who may use it for what"`')
    trained = _trained_on(fold, version.version_id)
    yield _field("training data", " and ".join(sorted(trained)), "register with --data, or from a run that used it")
    code = (version.code or {}).get("commit")
    yield _field("code", code, "register from a repository, with --code, or from a run in one")
    yield _field(
        "metrics", _held_out(context, fold, version, trained), f"`headwater evaluate {reference} --on DATASET`"
    )


def _field(name: str, found: str | None, hint: str) -> CardField:
    text = (found or "").strip()
    return CardField(name, bool(text), text if text else hint)


def _held_out(context: Context, fold: Fold, version: ModelVersion, trained: dict[str, dict[str, Any]]) -> str:
    """Return the metrics of a version on datasets that it was not trained on, in words."""
    learned = {data["dataset_id"] for data in trained.values()}
    found = set()
    for row in points.of_version(context.lake, fold, version.version_id):
        if row["slice"] == "" and row["dataset_id"] is not None and row["dataset_id"] not in learned:
            data = row_by_id(fold, row["dataset_id"])
            if data is not None:
                found.add(f"{row['key']} on {quote(json.loads(data[3])['name'])}@{data[1]}")
    return ", ".join(sorted(found))


def card(ask: Ask) -> Finding:
    """Ask for a complete model card."""
    found = card_of(ask.context, ask.fold, ask.version_id)
    missing = list(found.missing)
    text = "complete" if not missing else f"no {', '.join(missing)}"
    source = f"`headwater check-card {quote(ask.name)}/{ask.number}` at commit {ask.fold.commit[:12]}"
    return Finding("complete", text, not missing, source, {"missing": missing})
