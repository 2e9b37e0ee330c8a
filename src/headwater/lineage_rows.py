"""Which dataset versions hold rows that meet a condition: asked of the data itself each time, and kept nowhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from headwater.content import Workbench
from headwater.errors import InvalidInputError
from headwater.lake.base import Lake
from headwater.lineage_nodes import Node
from headwater.model import DatasetVersion
from headwater.query_rows import count_rows, parse_condition
from headwater.state import Fold
from headwater.stored import Stored, build, parts, row_by_id

__all__ = ["Holdings", "later_versions"]


def later_versions(fold: Fold, key: str) -> list[str]:
    """Return the stored URNs of the versions of a dataset with higher numbers than one of them, in order."""
    dataset_id = key.partition(":")[2]
    rows = fold.rows(
        "SELECT dataset_id, semver FROM datasets WHERE name = (SELECT name FROM datasets WHERE dataset_id = ?)",
        dataset_id,
    )
    numbered = {each: parts(semver) for each, semver in rows}
    later = [each for each, number in numbered.items() if number > numbered[dataset_id]]
    return [f"dataset:{each}" for each in sorted(later, key=numbered.__getitem__)]


class Holdings:
    """How many rows that meet a condition each of some dataset versions holds.

    Attributes:
        rows: The counts by stored URN, of those that could be asked.
        reasons: Why the others could not.

    Args:
        lake: The lake.
        condition: What a WHERE would hold.

    Raises:
        InvalidInputError: It is not a condition on rows.
    """

    def __init__(self, lake: Lake, condition: str) -> None:
        self.rows: dict[str, int] = {}
        self.reasons: dict[str, str] = {}
        self._lake = lake
        self._condition = parse_condition(condition)

    def ask(self, fold: Fold, keys: Iterable[str]) -> None:
        """Ask dataset versions, the one that the question is about first.

        Raises:
            InvalidInputError: None of them could be asked.
        """
        errors: list[InvalidInputError] = []
        for key in keys:
            found = _version(fold, key)
            if found.schema is None:
                self.reasons[key] = "it is no table"
            elif missing := self._condition.missing(found.schema):
                self.reasons[key] = f"it has no column {', '.join(missing)}"
            else:
                try:
                    self.rows[key] = self._count(fold, key, found.reference)
                except InvalidInputError as error:
                    self.reasons[key] = error.message.partition(": ")[2] or error.message
                    errors.append(error)
        if not self.rows:
            if errors:
                raise errors[0]
            first, reason = next(iter(self.reasons.items()))
            reference = _version(fold, first)
            known = ", ".join(list(reference.schema or {})[:20])
            hint = f"its columns are {known}; text stands in single quotes" if known else "ask about a table"
            raise InvalidInputError(f"the condition can't be asked of {reference.reference}: {reason}", hint=hint)

    def _count(self, fold: Fold, key: str, reference: str) -> int:
        with Workbench(self._lake.cache) as bench:
            opened = Stored.of(fold, row_by_id(fold, key.partition(":")[2])).opened(self._lake, bench)
            if opened is None:
                raise InvalidInputError(f"the condition can't be asked of {reference}: it is no table")
            return count_rows(opened.table.attach, str(bench.folder), self._condition, what=reference)

    def told(self, key: str, node: Node) -> Node:
        """Return a node with what was found out about it."""
        if key in self.rows:
            return replace(node, facts={**node.facts, "matching_rows": self.rows[key]})
        if key in self.reasons:
            return replace(node, facts={**node.facts, "matching_rows": None, "not_asked": self.reasons[key]})
        return node

    def notes(self, fold: Fold) -> tuple[str, ...]:
        """Return a sentence for each version that could not be asked."""
        return tuple(
            f"{_version(fold, key).reference} can't be asked: {reason}" for key, reason in self.reasons.items()
        )


def _version(fold: Fold, key: str) -> DatasetVersion:
    return build(fold, row_by_id(fold, key.partition(":")[2]), None)
