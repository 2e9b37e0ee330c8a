"""What rests on something that is going to be hidden: aliases, what serves, and what was made from it; reads only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from headwater.fold import entries_of
from headwater.state import Fold
from headwater.subjects import called, event_called, value_called
from headwater.tombstones import is_hidden, visible

__all__ = ["dependents"]

Place = tuple[str, str, str]
"""Subject, kind and key of events."""

_RELATIONS = {
    "trained": "trained on",
    "derived": "derived from",
    "produced": "made by",
    "used": "which used",
    "evaluated": "measured on",
    "built": "built from",
}


def dependents(
    fold: Fold,
    hidden: Collection[str],
    back: Collection[str],
    changed: Mapping[Place, Collection[str | None]],
    inside: Collection[str],
) -> list[str]:
    """Return, in words, what would still stand and rest on something hidden.

    Args:
        fold: The state before.
        hidden: The IDs that are going to be hidden.
        back: The IDs that are going to be hidden no more.
        changed: The values that events are going to have.
        inside: Transactions whose edges, predictions and events go with what is hidden.
    """
    gone = set(hidden)
    return list(dict.fromkeys([*_pointing(fold, gone, set(back), changed), *_made_from(fold, gone, set(inside))]))


def _pointing(
    fold: Fold, gone: set[str], back: set[str], changed: Mapping[Place, Collection[str | None]]
) -> Iterator[str]:
    """Yield aliases and traffic that name what is hidden, as they will be."""
    named = {}
    for each in sorted(gone):
        for subject, key in fold.rows(
            "SELECT DISTINCT subject, key FROM events WHERE standing AND kind = 'alias' AND value = ?", each
        ):
            named[subject, "alias", key] = {each}
        for (subject,) in fold.rows(
            "SELECT model_id FROM versions WHERE version_id = ?1 UNION"
            " SELECT model_id FROM deployments WHERE deployment_id = ?1",
            each,
        ):
            for key, value in fold.rows(
                "SELECT key, value FROM events WHERE standing AND subject = ? AND kind = 'traffic'", subject
            ):
                named.setdefault((subject, "traffic", key), set()).add(value)
    for place, values in {**named, **changed}.items():
        subject, kind, key = place
        for value in values:
            for version in _named_by(kind, value):
                if version in gone or (place in changed and version not in back and is_hidden(fold, version)):
                    told = value_called(fold, "alias", version)
                    yield f"{event_called(fold, subject, kind, key)} ({told})"


def _named_by(kind: str, value: str | None) -> list[str]:
    if value is None or kind not in ("alias", "traffic"):
        return []
    if kind == "alias":
        return [value]
    return [each[name] for each in entries_of(value) for name in ("version_id", "deployment_id")]


def _made_from(fold: Fold, gone: set[str], inside: set[str]) -> Iterator[str]:
    """Yield what was made from what is hidden, by edges that stay, and is not hidden itself."""
    for each in sorted(gone):
        for kind in ("model", "dataset", "run"):
            for relation, target, tx in fold.rows(
                f"SELECT relation, target, tx FROM lineage l WHERE source = ? AND {visible('l.tx')} ORDER BY target",
                f"{kind}:{each}",
            ):
                made = target.partition(":")[2]
                if tx not in inside and tx not in gone and made not in gone and not is_hidden(fold, made):
                    what = called(fold, made)
                    if relation == "deployed":
                        row = fold.one("SELECT environment FROM deployments WHERE deployment_id = ?", made)
                        yield f"{what} of {called(fold, each)}" + (f" in {row[0]}" if row is not None else "")
                    else:
                        yield f"{what} ({_RELATIONS.get(relation, relation)} {called(fold, each)})"
        for (run_id,) in fold.rows("SELECT run_id FROM runs WHERE parent_run_id = ?", each):
            if run_id not in gone and not is_hidden(fold, run_id):
                yield f"run {run_id} (a part of run {each})"
        rows = fold.rows(f"SELECT digest, rows, tx FROM batches b WHERE deployment_id = ? AND {visible('b.tx')}", each)
        # Two branches may have taken in the same file.
        if count := sum({digest: rows for digest, rows, tx in rows if tx not in inside}.values()):
            yield f"{count:,} predictions of deployment {each}"
