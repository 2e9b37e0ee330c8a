"""Finding the node that a URN means: names, numbers, aliases and parts of IDs become the URN that is stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headwater.context import Context
from headwater.errors import InvalidInputError, NotFoundError
from headwater.lineage_facts import prediction_node
from headwater.lineage_nodes import Node
from headwater.lookup import model_id_of as model_named
from headwater.lookup import models_named, version_row
from headwater.names import ModelRef, parse_dataset, parse_model, quote
from headwater.prediction_lookup import look_up
from headwater.state import Fold
from headwater.stored import row_of
from headwater.tombstones import gone, visible
from headwater.urns import Urn, is_id, parse_urn

__all__ = ["Start", "find_start"]

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHA256 = re.compile(r"(?:patches|environments)/.*?([0-9a-f]{64})\.[a-z]+")
_OWNERS = {"model": "versions WHERE version_id", "dataset": "datasets WHERE dataset_id", "run": "runs WHERE run_id"}


@dataclass(frozen=True, slots=True)
class Start:
    """Where a walk begins.

    Attributes:
        key: The stored URN of the root; see `lineage_facts` for a registered model's.
        upstream: Stored edges into the root that no table of edges has: (source, relation).
        owners: Stored URNs of what an object is a part of.
        node: The root's node, where the folded state can't tell it.
        moment: When the stages and aliases are wanted, in microseconds; None for now.
        files_read: Data files that were read to find it, of `files_total`.
    """

    key: str
    upstream: tuple[tuple[str, str], ...] = ()
    owners: tuple[str, ...] = ()
    node: Node | None = None
    moment: int | None = None
    files_read: int = 0
    files_total: int = 0


def find_start(context: Context, fold: Fold, text: str) -> Start:
    """Return where the walk from a URN, or from a reference to a model or dataset, begins.

    Raises:
        InvalidInputError: It is malformed, of an unknown kind, or means several things.
        NotFoundError: There is no such thing.
    """
    urn = parse_urn(text)
    if urn.kind == "prediction":
        return _prediction(context, fold, urn.name)
    if urn.kind == "object":
        return _object(context, fold, urn)
    if urn.kind == "code":
        return Start(_code(fold, urn))
    if urn.kind in ("run", "deployment"):
        return Start(f"{urn.kind}:{_by_id(fold, urn.kind, urn.name)}")
    return Start(_dataset(fold, urn) if _is_dataset(fold, urn) else _model(fold, urn))


def _is_dataset(fold: Fold, urn: Urn) -> bool:
    if urn.kind:
        return urn.kind == "dataset"
    name = parse_model(urn.name).name
    models = models_named(fold, name)
    # One whose every version was reverted is found where nothing else has its name.
    seen = f" AND {visible('d.dataset_id')}" if models else ""
    found = fold.one(f"SELECT 1 FROM datasets d WHERE name = ?{seen}", name) is not None
    if found and models:
        raise InvalidInputError(
            f"{quote(name)} is both a model and a dataset",
            hint=f"write model:{quote(name)} or dataset:{quote(name)}",
        )
    return found


def _model(fold: Fold, urn: Urn) -> str:
    ref = parse_model(urn.name)
    if not models_named(fold, ref.name) and ref == ModelRef(ref.name) and is_id(ref.name):
        for sql, key in (
            ("SELECT 1 FROM versions WHERE version_id = ?", "model"),
            ("SELECT 1 FROM models WHERE model_id = ?", "models"),
        ):
            if fold.one(sql, ref.name):
                return f"{key}:{ref.name}"
        raise NotFoundError(f"there is no model {ref.name}", hint="`headwater models` lists them")
    if ref.version is None and ref.alias is None:
        return f"models:{model_named(fold, ref.name, deleted=True)}"
    return f"model:{version_row(fold, ref, deleted=True)[0]}"


def _dataset(fold: Fold, urn: Urn) -> str:
    ref = parse_dataset(urn.name)
    if is_id(ref.name) and fold.one("SELECT 1 FROM datasets WHERE dataset_id = ?", ref.name):
        return f"dataset:{ref.name}"
    return f"dataset:{row_of(fold, urn.name, hidden=True)[0]}"


def _by_id(fold: Fold, kind: str, part: str) -> str:
    """Return the ID of a run or deployment that begins so."""
    rows = fold.rows(f"SELECT {kind}_id FROM {kind}s WHERE {kind}_id >= ? AND {kind}_id < ? LIMIT 3", part, part + "g")
    found = [str(each) for (each,) in rows]
    if len(found) > 1:
        raise InvalidInputError(
            f"several {kind}s have an ID that begins with {part}", hint=f"{found[0]} or {found[1]}, say; give it whole"
        )
    if not found:
        raise NotFoundError(f"there is no {kind} {part}", hint=f"`headwater {kind}s` lists them")
    return found[0]


def _code(fold: Fold, urn: Urn) -> str:
    begins = f"code:{urn.name}@{urn.commit}"
    rows = fold.rows(
        "SELECT DISTINCT source FROM lineage WHERE source >= ? AND source < ? LIMIT 3", begins, begins + "g"
    )
    found = [str(each) for (each,) in rows]
    if len(found) > 1:
        raise InvalidInputError(
            f"several commits of {urn.name} begin with {urn.commit}", hint=f"give more digits: {found[0]}, say"
        )
    if not found:
        known = fold.one(
            "SELECT source FROM lineage WHERE source >= ? AND source < ?", f"code:{urn.name}@", f"code:{urn.name}A"
        )
        hint = f"there is {known[0]}, say" if known else "`headwater show` names the code of a model version or run"
        raise NotFoundError(f"nothing was made with {begins}", hint=hint)
    return found[0]


# -- predictions ------------------------------------------------------------------------------------------------------
def _prediction(context: Context, fold: Fold, prediction_id: str) -> Start:
    if not is_id(prediction_id):
        raise InvalidInputError(
            f"not the ID of a prediction: {prediction_id}", hint="the whole ID is needed, which logging it gave back"
        )
    found = look_up(context.lake, fold, "predictions", prediction_id)
    if found.hidden is not None:
        raise gone(f"prediction {prediction_id}", found.hidden)
    if not found.rows:
        raise NotFoundError(
            f"there is no prediction {prediction_id}", hint="one that was logged is found once it has landed"
        )
    row = found.rows[0]
    upstream = [_origin(fold, row)]
    if row["dataset_id"]:
        upstream.append((f"dataset:{row['dataset_id']}", "described"))
    return Start(
        f"prediction:{prediction_id}",
        upstream=tuple(upstream),
        node=prediction_node(row),
        moment=row["predicted_at"],
        files_read=found.files_read,
        files_total=found.files_total,
    )


def _origin(fold: Fold, row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what made a prediction: its deployment, or its version where the deployment is not known here."""
    if fold.one("SELECT 1 FROM deployments WHERE deployment_id = ?", row["deployment_id"]):
        return f"deployment:{row['deployment_id']}", "predicted"
    return f"model:{row['version_id']}", "predicted"


# -- objects ----------------------------------------------------------------------------------------------------------
def _object(context: Context, fold: Fold, urn: Urn) -> Start:
    commit = context.folds.resolve(urn.commit).commit
    info = context.lake.stat(commit, urn.name)
    owners = _owners(fold, urn.name, info.sha256)
    if not owners:
        raise NotFoundError(
            f"object {urn.name} is no part of a model, dataset or run", hint="an artifact's or a dataset's file is"
        )
    key = f"object:{urn.name}@{commit}"
    facts = {"path": urn.name, "commit": commit, "size": info.size, "sha256": info.sha256}
    label = urn.name.rpartition("/")[2] or urn.name
    return Start(key, owners=tuple(owners), node=Node(key, "object", commit, label, facts))


def _owners(fold: Fold, path: str, sha256: str | None) -> list[str]:
    """Return the stored URNs of what an object belongs to: artifacts, data, patches, lists of packages."""
    found = []
    for uuid in _UUID.findall(path):
        for kind, where in _OWNERS.items():
            if fold.one(f"SELECT 1 FROM {where} = ?", uuid):
                found.append(f"{kind}:{uuid}")
    if not found and (digest := _SHA256.fullmatch(path)):
        for kind, where in (("model", "version_id FROM versions"), ("run", "run_id FROM runs")):
            rows = fold.rows(f"SELECT {where} WHERE instr(row, ?)", digest[1])
            found += [f"{kind}:{each}" for (each,) in rows]
    return found or _named_in_place(fold, path, sha256)


def _named_in_place(fold: Fold, path: str, sha256: str | None) -> list[str]:
    """Return the datasets that name a path of the lake where these bytes lie; another commit's may be others."""
    found = []
    for dataset_id, folder, files in fold.rows("SELECT dataset_id, json_extract(row, '$.path'), files FROM datasets"):
        if path.startswith(folder) and any(
            folder + file["path"] == path and sha256 in (None, file["sha256"]) for file in json.loads(files)
        ):
            found.append(f"dataset:{dataset_id}")
    return found
