"""What IDs, events and their values are called: the registry's words for what stands in rows; reads only."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

from headwater.evaluation_model import evaluation_called
from headwater.fold import entries_of
from headwater.lookup import name_of
from headwater.names import quote
from headwater.state import Fold

__all__ = ["action_called", "called", "event_called", "model_of", "traffic_called", "value_called"]


def called(fold: Fold, subject: str) -> str:
    """Return what people call a model, version, dataset version, run, deployment or transaction, by its ID."""
    version = fold.one("SELECT model_id, version FROM versions WHERE version_id = ?", subject)
    if version is not None:
        return f"{quote(name_of(fold, version[0]))}/{version[1]}"
    if fold.one("SELECT 1 FROM models WHERE model_id = ?", subject) is not None:
        return quote(name_of(fold, subject))
    dataset = fold.one("SELECT name, semver FROM datasets WHERE dataset_id = ?", subject)
    if dataset is not None:
        return f"{quote(dataset[0])}@{dataset[1]}"
    for kind in ("run", "deployment"):
        if fold.one(f"SELECT 1 FROM {kind}s WHERE {kind}_id = ?", subject) is not None:
            return f"{kind} {subject}"
    commit = fold.one("SELECT id, message FROM commits WHERE tx = ?", subject)
    return f"what commit {commit[0][:12]} recorded ({commit[1]})" if commit is not None else subject


def event_called(fold: Fold, subject: str, kind: str, key: str) -> str:
    """Return what people call that which events of a subject, kind and key change."""
    name = called(fold, subject)
    if kind == "tombstone":
        return name
    if kind == "alias":
        return f"{name}@{quote(key)}"
    if kind == "traffic":
        return f"what serves {key} of {name}"
    if kind == "evaluation":
        return f"evaluation of {name} on {called(fold, key)}"
    return f"{kind}{f' {key}' if key else ''} of {name}"


def value_called(fold: Fold, kind: str, value: str | None) -> str | None:
    """Return the value of an event as people write it; None where it takes something away."""
    if value is None:
        return None
    if kind == "alias":
        return called(fold, value)
    if kind == "status":
        return str(json.loads(value).get("status"))
    if kind == "traffic":
        return traffic_called(value, lambda version_id: called(fold, version_id)) or None
    if kind == "action":
        return action_called(value)
    if kind == "evaluation":
        return evaluation_called(value)
    return value


def action_called(value: str) -> str:
    """Return the value of an event of an action as people write it: what it does, and when."""
    try:
        kept = json.loads(value)
        does = f"run {shlex.join(kept['command'])}" if kept.get("command") else f"post to {kept['webhook']}"
        return f"{does} on {', '.join(kept['on'])}"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return value


def traffic_called(value: str, version_called: Callable[[str], str]) -> str:
    """Return the value of an event of traffic as people write it; empty where nothing serves.

    Args:
        value: The value.
        version_called: Returns what people call a version, by its ID.

    Raises:
        IntegrityError: It is not what Headwater writes.
    """
    return ", ".join(
        f"{version_called(each['version_id'])} {each['mode']}"
        + (f" {each['percent']:g} %" if each["percent"] is not None else "")
        for each in entries_of(value)
    )


def model_of(fold: Fold, subject: str) -> str | None:
    """Return the ID of the model that a model, version or deployment belongs to; None of anything else."""
    found = (
        fold.one("SELECT model_id FROM models WHERE model_id = ?", subject)
        or fold.one("SELECT model_id FROM versions WHERE version_id = ?", subject)
        or fold.one("SELECT model_id FROM deployments WHERE deployment_id = ?", subject)
    )
    return str(found[0]) if found is not None else None
