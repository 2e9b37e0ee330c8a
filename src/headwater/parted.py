"""Datasets that two branches went on from one version, so that the newest lacks what the other changed; reads only."""

from __future__ import annotations

import json
from dataclasses import dataclass

from headwater.difference import Difference
from headwater.names import quote
from headwater.state import Fold
from headwater.stored import parts
from headwater.tombstones import HIDDEN, is_hidden

__all__ = ["parted_datasets"]


@dataclass(frozen=True, slots=True)
class _Version:
    """A dataset version: where it is, what it was made from, and whether only one side has it."""

    dataset_id: str
    semver: str
    base: str | None
    ours: bool
    new: bool


def parted_datasets(fold: Fold, new: Difference) -> list[str]:
    """Return, in words, which datasets both sides went on from one version, so that the newest has but one's changes.

    Args:
        fold: The state of one side.
        new: What the other side adds.
    """
    return [
        text
        for name in sorted({row["name"] for row in new.rows.get("datasets", ())})
        for text in _of(name, _versions(fold, new, name))
    ]


def _versions(fold: Fold, new: Difference, name: str) -> dict[str, _Version]:
    """Return all versions of a dataset that can be seen after the union, by ID."""
    (parted,) = fold.one("SELECT position FROM commits WHERE id = ?", new.base) or (-1,)
    found = {}
    rows = fold.rows(
        "SELECT dataset_id, semver, row, (SELECT position FROM commits c WHERE c.tx = d.tx) FROM datasets d"
        " WHERE name = ?",
        name,
    )
    for dataset_id, semver, text, position in rows:
        base = json.loads(text).get("base_dataset_id")
        found[dataset_id] = _Version(dataset_id, semver, base, True, position is None or position > parted)
    for row in new.rows["datasets"]:
        if row["name"] == name and row["dataset_id"] not in found:
            found[row["dataset_id"]] = _Version(
                row["dataset_id"], row["semver"], row["base_dataset_id"], False, new=True
            )
    tombstones: dict[str, list[str | None]] = {}
    for event in new.standing():
        if event["kind"] == "tombstone":
            tombstones.setdefault(event["subject"], []).append(event["value"])
    return {
        id_: each
        for id_, each in found.items()
        if not (HIDDEN in tombstones[id_] if id_ in tombstones else each.ours and is_hidden(fold, id_))
    }


def _of(name: str, versions: dict[str, _Version]) -> list[str]:
    if not versions:
        return []
    newest = max(versions.values(), key=lambda each: parts(each.semver))
    line = set(_line(versions, newest))
    bases = {each.base for each in versions.values() if each.dataset_id not in line}
    found = []
    for each in sorted(versions.values(), key=lambda each: parts(each.semver)):
        # What one side alone has on both lines, it has so knowingly.
        if not each.new or each.ours == newest.ours or each.dataset_id in line or each.dataset_id in bases:
            continue
        common = next((id_ for id_ in _line(versions, each) if id_ in line), None)
        if common is not None and common != newest.dataset_id:
            named, other, base = (f"{quote(name)}@{v.semver}" for v in (newest, each, versions[common]))
            found.append(f"{named} does not have what {other} changed: both were made from {base}")
    return found


def _line(versions: dict[str, _Version], version: _Version) -> list[str]:
    """Return a version and what it was made from, as far as that can be seen, the newest first."""
    found: list[str] = []
    at: _Version | None = version
    while at is not None and at.dataset_id not in found:
        found.append(at.dataset_id)
        at = versions.get(at.base) if at.base is not None else None
    return found
