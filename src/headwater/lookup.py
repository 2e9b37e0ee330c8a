"""Finding models and versions in a folded state, and making of its rows what people hold; reads only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from headwater.errors import InvalidInputError, NotFoundError
from headwater.ids import from_micros
from headwater.model import ArtifactFile, Model, ModelVersion
from headwater.names import ModelRef, quote
from headwater.state import Fold
from headwater.tombstones import HIDDEN, gone, is_hidden, tombstone_of, visible

__all__ = [
    "HIDDEN",
    "VERSION_COLUMNS",
    "build_model",
    "build_version",
    "files_of",
    "is_hidden",
    "known_files",
    "labelled",
    "labels_by_version",
    "labels_of",
    "model_id_of",
    "models_named",
    "name_of",
    "version_row",
]

VERSION_COLUMNS = "v.version_id, v.model_id, v.version, v.tx, v.row, (SELECT id FROM commits c WHERE c.tx = v.tx)"
"""What `build_version` takes, over `versions v`."""


def models_named(fold: Fold, name: str) -> list[str]:
    """Return the IDs of the models that have a name now, deleted ones included."""
    rows = fold.rows("SELECT subject FROM events WHERE standing AND kind = 'name' AND value = ?", name)
    return [str(model_id) for (model_id,) in rows]


def model_id_of(fold: Fold, name: str, *, deleted: bool = False) -> str:
    """Return the ID of the model that has a name now.

    Raises:
        NotFoundError: There is none; the hint says what comes near.
    """
    for model_id in models_named(fold, name):
        if deleted or not is_hidden(fold, model_id):
            return model_id
    raise NotFoundError(f"there is no model {quote(name)}", hint=_nearest(fold, name))


def _nearest(fold: Fold, name: str) -> str:
    import difflib

    renamed = fold.one("SELECT subject FROM events WHERE NOT standing AND kind = 'name' AND value = ?", name)
    if renamed is not None and (now := name_of(fold, renamed[0])) != name:
        return f"it is called {now} now"
    rows = fold.rows("SELECT subject, value FROM events WHERE standing AND kind = 'name' LIMIT 2000")
    hiding = next((found for s, value in rows if value == name and (found := tombstone_of(fold, s)) is not None), None)
    if hiding is not None:
        told = gone(quote(name), hiding)
        return f"it {told.message.removeprefix(quote(name)).strip()}; {told.hint}"
    names = [value for subject, value in rows if not is_hidden(fold, subject)]
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]}?" if close else "`headwater models` lists them"


def name_of(fold: Fold, model_id: str) -> str:
    """Return a model's name: where two branches renamed it differently, the oldest that stands."""
    standing = fold.standing(model_id, "name")
    return standing[0][1] or model_id if standing else model_id


def version_row(fold: Fold, ref: ModelRef, *, deleted: bool = False) -> Any:
    """Return the row of `VERSION_COLUMNS` of one version.

    Raises:
        NotFoundError: There is no such model, version or alias.
        InvalidInputError: The reference names no version.
        ConflictError: The alias stands at two versions.
    """
    model_id = model_id_of(fold, ref.name, deleted=deleted)
    if ref.alias is not None:
        version_id = fold.value(model_id, "alias", ref.alias)
        if version_id is None:
            _check_refused(fold, model_id, ref)
            raise NotFoundError(
                f"{quote(ref.name)} has no alias {ref.alias!r}", hint=f"`headwater alias list {quote(ref.name)}`"
            )
        row = fold.one(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?", version_id)
    elif ref.version is not None:
        row = fold.one(
            f"SELECT {VERSION_COLUMNS} FROM versions v WHERE model_id = ? AND version = ?", model_id, ref.version
        )
    else:
        raise InvalidInputError(
            f"{ref} is a model, and a version is needed",
            hint=f"write {quote(ref.name)}/{_newest(fold, model_id)}, say",
        )
    if row is not None and not deleted and (hiding := tombstone_of(fold, row[0])) is not None:
        raise gone(f"{quote(ref.name)}/{row[2]}", hiding)
    if row is None:
        raise NotFoundError(f"there is no version {ref}", hint=f"`headwater versions {quote(ref.name)}` lists them")
    return row


def _check_refused(fold: Fold, model_id: str, ref: ModelRef) -> None:
    """Make sure that an alias is not gone because somebody changed the row of the version that it pointed at.

    Raises:
        IntegrityError: It is.
    """
    from headwater.genuine import check_genuine

    for version_id, number in fold.rows(
        "SELECT v.version_id, v.version FROM refused r JOIN versions v ON v.version_id = json_extract(r.row, '$.value')"
        " WHERE r.alarm AND r.subject = ? AND r.kind = 'alias' AND r.key = ? ORDER BY 1",
        *(model_id, ref.alias),
    ):
        check_genuine(fold, version_id, f"{quote(ref.name)}/{number}", vouched=True)


def _newest(fold: Fold, model_id: str) -> int:
    return fold.one("SELECT max(version) FROM versions WHERE model_id = ?", model_id)[0] or 1


def files_of(fold: Fold, version_id: str) -> list[ArtifactFile]:
    """Return the files of a version."""
    (text,) = fold.one("SELECT files FROM versions WHERE version_id = ?", version_id)
    return [ArtifactFile(file["path"], file["size"], file["sha256"]) for file in json.loads(text)]


def known_files(fold: Fold, model_id: str) -> list[dict[str, str]]:
    """Return the files of every version of a model, as sha256 by path."""
    rows = fold.rows("SELECT DISTINCT files FROM versions WHERE model_id = ?", model_id)
    return [{file["path"]: file["sha256"] for file in json.loads(text)} for (text,) in rows]


def labels_by_version(fold: Fold, model_id: str) -> dict[str, list[Any]]:
    """Return what `labelled` takes, for every version of a model that has any."""
    found: dict[str, list[Any]] = {}
    for subject, kind, key, value in fold.rows(
        "SELECT e.subject, e.kind, e.key, e.value FROM events e JOIN versions v ON v.version_id = e.subject"
        " WHERE v.model_id = ? AND e.standing AND e.kind IN ('tag', 'description', 'stage', 'registered')"
        " ORDER BY e.event_id",
        model_id,
    ):
        found.setdefault(subject, []).append((kind, key, value))
    for alias, version_id in fold.rows(
        "SELECT key, value FROM events WHERE standing AND subject = ? AND kind = 'alias' AND value IS NOT NULL",
        model_id,
    ):
        found.setdefault(version_id, []).append(("alias", alias, version_id))
    return found


def labels_of(fold: Fold, model_id: str, version_id: str) -> list[Any]:
    """Return what `labelled` takes, for one version."""
    own = fold.rows(
        "SELECT kind, key, value FROM events WHERE standing AND subject = ?"
        " AND kind IN ('tag', 'description', 'stage', 'tombstone', 'registered') ORDER BY event_id",
        version_id,
    )
    return own + fold.rows(
        "SELECT kind, key, value FROM events WHERE standing AND kind = 'alias' AND value = ? AND subject = ?",
        version_id,
        model_id,
    )


def build_version(row: Any, name: str, owner: Any, data: Any = None) -> ModelVersion:
    """Return a version as it was registered, from a row of `VERSION_COLUMNS`.

    Args:
        row: The row.
        name: The model's name now.
        owner: The registry that its methods call.
        data: The row's JSON, where it was parsed already.
    """
    version_id, model_id, version, tx, text, commit = row
    data = json.loads(text) if data is None else data
    kept = data.get("missing")
    missing = tuple(kept) if kept is not None else ("it was registered before this was looked at",)
    return ModelVersion(
        name=name,
        version=version,
        version_id=version_id,
        commit=commit or tx,
        model_id=model_id,
        recorded_at=from_micros(data["recorded_at"]),
        actor=data["actor"],
        digest=data["digest"],
        size=data["size"],
        aliases=(),
        stage="none",
        description=data["description"],
        params=data["params"],
        tags=data["tags"],
        run_id=data["run_id"],
        external_url=data["external_url"],
        flavors=tuple(data["flavors"]),
        signature=data["signature"],
        code=data["code"],
        environment=data["environment"],
        base_version_id=data["base_version_id"],
        path=data["path"],
        deleted=False,
        reproducible=missing == (),
        missing=missing,
        _owner=owner,
    )


def labelled(version: ModelVersion, labels: list[Any], *, signed: bool = False) -> ModelVersion:
    """Return a version with what changed about it since.

    Args:
        version: As it was registered.
        labels: (kind, key, value) of its standing events, oldest first.
        signed: Whether the lake is signed.
    """
    if not labels and not signed:
        return version
    tags = dict(version.tags)
    changes: dict[str, Any] = {"registered": False} if signed else {}
    aliases = []
    for kind, key, value in labels:
        if kind == "tag":
            if value is None:
                tags.pop(key, None)
            else:
                tags[key] = value
        elif kind == "alias":
            aliases.append(key)
        elif kind == "tombstone":
            changes["deleted"] = changes.get("deleted", False) or value == HIDDEN
        elif kind == "stage":
            changes["stage"] = value or "none"
        elif kind == "registered":
            changes["registered"] = value == version.digest
        else:
            changes[kind] = value
    return replace(version, tags=tags, aliases=tuple(sorted(set(aliases))), **changes)


def build_model(fold: Fold, model_id: str) -> Model:
    """Return a registered model by its ID."""
    tx, micros, actor, commit = fold.one(
        "SELECT tx, recorded_at, actor, (SELECT id FROM commits c WHERE c.tx = m.tx) FROM models m WHERE model_id = ?",
        model_id,
    )
    count, newest = fold.one(
        f"SELECT count(*), max(version) FROM versions v WHERE model_id = ? AND {visible('v.version_id')}",
        model_id,
    )
    labels = fold.rows(
        "SELECT kind, key, value FROM events WHERE standing AND subject = ? AND kind IN ('tag', 'description')"
        " AND value IS NOT NULL ORDER BY event_id",
        model_id,
    )
    aliases = fold.rows(
        "SELECT e.key, v.version FROM events e JOIN versions v ON v.version_id = e.value"
        " WHERE e.standing AND e.subject = ? AND e.kind = 'alias' ORDER BY e.key",
        model_id,
    )
    return Model(
        name=name_of(fold, model_id),
        model_id=model_id,
        commit=commit or tx,
        recorded_at=from_micros(micros),
        actor=actor,
        versions=count,
        latest_version=newest,
        aliases=dict(aliases),
        description=next((value for kind, _, value in labels if kind == "description"), None),
        tags={key: value for kind, key, value in labels if kind == "tag"},
    )
