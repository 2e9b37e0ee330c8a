"""The log: transactions in the registry's words, newest first; reads only."""

from __future__ import annotations

import contextlib

from headwater.context import Context
from headwater.errors import InvalidInputError
from headwater.ids import from_micros
from headwater.lookup import model_id_of, version_row
from headwater.model import LogEntry
from headwater.names import check_limit, parse_dataset, parse_model
from headwater.state import Fold

__all__ = ["History"]

_COLUMNS = "c.id, c.parents, c.micros, c.actor, c.kind, c.subject, c.message"


class History:
    """The service for the log."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def log(self, reference: str | None = None, *, limit: int | None = None) -> list[LogEntry]:
        """Return the transactions, newest first: of the whole lake, or of a model, version or alias.

        Raises:
            NotFoundError: There is no such model, version or alias.
        """
        check_limit(limit)
        with self._context.reading() as fold:
            condition, parameters = _about(fold, reference)
            rows = fold.rows(
                f"SELECT {_COLUMNS} FROM commits c WHERE tx IS NOT NULL AND {condition}"
                " ORDER BY c.position DESC, c.micros DESC, c.id LIMIT ?",
                *parameters,
                -1 if limit is None else limit,
            )
        return [
            LogEntry(commit, tuple(parents.split()), from_micros(micros), actor, kind, subject or None, message)
            for commit, parents, micros, actor, kind, subject, message in rows
        ]


def _about(fold: Fold, reference: str | None) -> tuple[str, tuple[object, ...]]:
    """Return a condition on the commits `c`, and its parameters."""
    if reference is None:
        return "TRUE", ()
    with contextlib.suppress(InvalidInputError):
        dataset = parse_dataset(reference)
        found = fold.rows(
            "SELECT 1 FROM datasets WHERE name = ? AND semver = coalesce(?, semver)", dataset.name, dataset.semver
        )
        if found:
            return _DATASET, (dataset.name, dataset.semver) * 2
    ref = parse_model(reference)
    if ref.alias is not None:
        model_id = model_id_of(fold, ref.name)
        if not fold.rows(
            "SELECT 1 FROM events WHERE kind = 'alias' AND subject = ? AND key = ? LIMIT 1", model_id, ref.alias
        ):
            version_row(fold, ref)
        return "c.tx IN (SELECT tx FROM events WHERE kind = 'alias' AND subject = ? AND key = ?)", (model_id, ref.alias)
    if ref.version is not None:
        version_id = version_row(fold, ref, deleted=True)[0]
        return _VERSION, (version_id,) * 4
    model_id = model_id_of(fold, ref.name, deleted=True)
    return _MODEL, (model_id,) * 3


_DATASET = """c.tx IN (SELECT tx FROM datasets WHERE name = ? AND semver = coalesce(?, semver)
    UNION SELECT tx FROM events WHERE subject IN
        (SELECT dataset_id FROM datasets WHERE name = ? AND semver = coalesce(?, semver)))"""
_VERSION = """c.tx IN (SELECT tx FROM versions WHERE version_id = ?
    UNION SELECT tx FROM events WHERE subject = ? UNION SELECT tx FROM events WHERE value = ?
    UNION SELECT e.tx FROM events e, json_each(e.prev) p JOIN events q ON q.event_id = p.value WHERE q.value = ?)"""
_MODEL = """c.tx IN (SELECT tx FROM versions WHERE model_id = ?
    UNION SELECT tx FROM events WHERE subject = ?
    UNION SELECT tx FROM events WHERE subject IN (SELECT version_id FROM versions WHERE model_id = ?))"""
