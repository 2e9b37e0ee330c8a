"""The audit: reads all commits and events of a lake anew, trusts no cache, and names what is not as it should be.

In a signed lake events are judged by the same code that judges them whenever they are read, from an empty state and in
the order in which they landed. What commits and rows say of each other is compared besides. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from headwater import marking
from headwater.audit_events import EventRows, check_events
from headwater.audit_history import check_history
from headwater.audit_model import Audit, Finding, Note
from headwater.audit_production import check_faces, check_promotions
from headwater.audit_signatures import beside
from headwater.audit_tables import Growth
from headwater.context import Context
from headwater.datasets import Datasets
from headwater.errors import HeadwaterError, IntegrityError, NotFoundError
from headwater.fold import entries_of
from headwater.genuine import check_genuine
from headwater.history_words import told
from headwater.lookup import name_of
from headwater.names import quote
from headwater.state import Fold, Folds
from headwater.subjects import called
from headwater.tables import scratch
from headwater.versions import Versions

__all__ = ["Audits"]


class Audits:
    """The service that audits.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def audit(self, *, everything: bool = False) -> Audit:
        """Audit what the context reads. See `Registry.audit`."""
        context = self._context
        head = context.commit or context.lake.head(context.branch)
        with scratch(context.lake.cache) as folder, ExitStack() as stack:
            try:
                verifies = stack.enter_context(beside(context.lake, head))
            except (IntegrityError, NotFoundError) as error:
                return self._unreadable(error)
            folds = Folds(context.lake, folder, verifies)
            try:
                cold = replace(self._context, folds=folds)
                try:
                    with cold.reading() as fold:
                        return _Auditing(cold, fold).audit(everything)
                except (IntegrityError, NotFoundError) as error:
                    return self._unreadable(error)
            finally:
                folds.close()

    def _unreadable(self, error: HeadwaterError) -> Audit:
        """Return the audit of a history that can't be read to its end."""
        context = self._context
        head = context.commit or context.lake.head(context.branch)
        kind = "marker" if marking.MARKER in error.message else "history"
        finding = Finding(kind, context.ref, f"{error.message}; nothing beyond that could be audited", commit=head)
        return Audit(context.ref, head, "", False, None, *(0,) * 6, (finding,), ())


class _Auditing:
    """One audit of one commit."""

    def __init__(self, context: Context, fold: Fold) -> None:
        self._context = context
        self._lake = context.lake
        self._fold = fold
        self._known: set[str] = set()
        self._findings: list[Finding] = []
        self._notes: list[Note] = []

    def audit(self, everything: bool) -> Audit:
        """Audit it; `everything` is for the bytes of artifacts."""
        fold, root = self._fold, self._fold.root
        marker = marking.found(self._lake, fold.commit)
        rows = EventRows.read(self._lake, fold)
        self._findings += self._refused()
        self._findings += check_events(self._lake, fold, rows, self._known, self._claim)
        self._findings += check_history(fold)
        self._tables()
        self._findings += check_faces(fold, self._known)
        self._findings += check_promotions(fold, self._known)
        read, unread = self._bytes(everything)
        self._notes += self._overrides()
        self._notes += self._elsewhere()
        (commits,) = fold.one("SELECT count(*) FROM commits")
        (transactions,) = fold.one("SELECT count(DISTINCT tx) FROM commits WHERE tx IS NOT NULL")
        return Audit(
            ref=self._context.ref,
            commit=fold.commit,
            lake=str(json.loads(marker or b"{}").get("lake", "")),
            signed=root is not None,
            root=None if root is None else root.key_id,
            commits=commits,
            transactions=transactions,
            events=len(rows.rows),
            signatures=0 if root is None else rows.signatures,
            artifacts=read,
            unread=unread,
            findings=tuple(self._findings),
            notes=tuple(self._notes),
        )

    # -- events -------------------------------------------------------------------------------------------------
    def _claim(self, row: Mapping[str, Any]) -> str:
        """Return what an event claims, in words."""
        fold, value = self._fold, row["value"]
        text, _ = told(row["kind"], row["subject"], row["key"], value, (), self._number)
        return f"{text} of {called(fold, row['subject'])}"

    def _number(self, version_id: str | None) -> str:
        return "nothing" if version_id is None else called(self._fold, version_id)

    def _refused(self) -> Iterator[Finding]:
        """Yield the events that have no force and should have: somebody forged them."""
        query = (
            "SELECT event_id, tx, reason, subject, kind, key, row FROM refused WHERE alarm AND event_id NOT IN"
            " (SELECT event_id FROM events) ORDER BY stray, event_id"
        )
        for event, tx, reason, subject, kind, key, text in self._fold.rows(query):
            row = {"event_id": event, "tx": tx, "subject": subject, "kind": kind, "key": key, **json.loads(text)}
            self._known.add(event)
            commit = self._fold.one("SELECT id FROM commits WHERE tx = ?", tx)
            yield Finding(
                "forged",
                f"{kind} {key}".strip(),
                f"an event in the name of {row['actor']} claims that {self._claim(row)}: {reason}; it has no force",
                *(event, tx, None if commit is None else commit[0], row["actor"]),
            )

    def _elsewhere(self) -> Iterator[Note]:
        """Yield the events that came with merges, and have force on the branch alone that they were made for."""
        query = "SELECT kind, reason, count(*) FROM refused WHERE NOT alarm GROUP BY kind, reason ORDER BY kind, reason"
        for kind, reason, count in self._fold.rows(query):
            yield Note("elsewhere", kind, f"{count} of kind {kind} without force here: {reason}")

    # -- what lies in the lake ----------------------------------------------------------------------------------
    def _tables(self) -> None:
        """Look for rows that are gone, and say of forged ones which commit brought them."""
        growth = Growth(self._lake, self._fold)
        for each in growth.check():
            (self._findings if isinstance(each, Finding) else self._notes).append(each)  # type: ignore[arg-type]
        self._findings = [
            replace(each, commit=growth.brought.get(each.tx or "")) if each.commit is None else each
            for each in self._findings
        ]

    def _bytes(self, everything: bool) -> tuple[int, int]:
        """Read artifacts; return of how many versions, and how many were not read."""
        fold = self._fold
        pinned = replace(self._context, commit=fold.commit)
        versions, datasets = Versions(pinned), Datasets(pinned)
        chosen = {str(each) for (each,) in fold.rows(_CHOSEN)}
        chosen |= {each["version_id"] for (value,) in fold.rows(_SERVING) for each in _entries(value)}
        read = unread = 0
        for version_id, model_id, number, external in fold.rows(_VERSIONS):
            wrong = self._not_genuine(version_id, f"{quote(name_of(fold, model_id))}/{number}")
            self._findings += wrong
            if wrong or external is not None or not (everything or version_id in chosen):
                unread += 1
                continue
            reference = f"{quote(name_of(fold, model_id))}/{number}"
            read += 1
            self._findings += self._altered(reference, versions.verify)
        for name, semver in fold.rows("SELECT name, semver FROM datasets ORDER BY name, semver"):
            read, unread = read + everything, unread + (not everything)
            if everything:
                self._findings += self._altered(f"{quote(name)}@{semver}", datasets.verify)
        return read, unread

    def _not_genuine(self, version_id: str, reference: str) -> list[Finding]:
        tx, actor, commit = self._fold.one(
            "SELECT tx, json_extract(row, '$.actor'), (SELECT id FROM commits c WHERE c.tx = v.tx) FROM versions v"
            " WHERE version_id = ?",
            version_id,
        )
        for vouched, kind in ((False, "artifact"), (True, "forged")):
            try:
                check_genuine(self._fold, version_id, reference, vouched=vouched)
            except IntegrityError as error:
                return [Finding(kind, reference, error.message, None, tx, commit, actor)]
        return []

    def _altered(self, reference: str, verify: Callable[[str], None]) -> list[Finding]:
        try:
            verify(reference)
        except (IntegrityError, NotFoundError) as error:
            return [Finding("artifact", reference, f"{reference} is not what was registered: {error.message}")]
        return []

    # -- what people want to know of ----------------------------------------------------------------------------
    def _overrides(self) -> Iterator[Note]:
        query = (
            "SELECT e.event_id, e.subject, e.key, e.value, e.actor, c.id FROM events e LEFT JOIN commits c"
            " ON c.tx = e.tx WHERE e.kind = 'override' AND e.event_id NOT IN (SELECT event_id FROM refused)"
            " GROUP BY e.event_id ORDER BY c.position, e.event_id"
        )
        for event, subject, stage, why, actor, commit in self._fold.rows(query):
            name = called(self._fold, subject)
            yield Note("override", name, f"{actor} let {name} into {stage} past its gates: {why}", event, commit, actor)


_CHOSEN = """SELECT value FROM events WHERE standing AND kind = 'alias' AND value IS NOT NULL
    UNION SELECT subject FROM events WHERE standing AND kind = 'stage' AND value IN ('staging', 'production')"""
"""The versions that somebody may load."""

_SERVING = "SELECT value FROM events WHERE standing AND kind = 'traffic'"

_VERSIONS = (
    "SELECT version_id, model_id, version, json_extract(row, '$.external_url') FROM versions ORDER BY model_id, version"
)


def _entries(value: str | None) -> list[dict[str, Any]]:
    try:
        return entries_of(value)
    except IntegrityError:
        return []
