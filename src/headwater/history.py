"""The log: transactions in the registry's words, newest first, as a list or as a graph; reads only."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headwater.ancestry import commits_beyond
from headwater.commit_graph import contracted, newest_first
from headwater.context import Context
from headwater.errors import InvalidInputError, NotFoundError
from headwater.fold import ACTOR, KIND, SUBJECT, TX
from headwater.ids import from_micros
from headwater.lake import refs
from headwater.lake.base import Commit
from headwater.lookup import model_id_of, models_named, version_row
from headwater.model import LogEntry
from headwater.names import check_limit, parse_dataset, parse_model, quote, shown
from headwater.state import Fold
from headwater.urns import is_id, parse_urn

__all__ = ["Graph", "GraphRow", "History", "entry_of"]

_COLUMNS = "c.id, c.parents, c.micros, c.actor, c.kind, c.subject, c.message"


@dataclass(frozen=True, slots=True)
class GraphRow:
    """A transaction of the log as it stands in the graph of those that are shown.

    Attributes:
        entry: The transaction.
        onto: The commits of the transactions that it stands on directly, its own line's first; those that a limit cut
            off are among them.
        refs: The branches and tags that name it, `main` or `tag: release-1`; the default branch first.
    """

    entry: LogEntry
    onto: tuple[str, ...]
    refs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Node:
    """A commit of the graph. A parent that is none of the graph's is drawn as a line to the end."""

    entry: LogEntry
    micros: int
    is_transaction: bool


class Graph:
    """Commits with their parents, some of them shown, from which it is told which of these stands on which.

    Args:
        fold: Where commits that were not added are looked up, as far as they are asked about.
    """

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._parents: dict[str, tuple[str, ...]] = {}
        self._micros: dict[str, int] = {}
        self._shown: set[str] = set()

    def add(self, commit: str, parents: tuple[str, ...], micros: int, is_shown: bool) -> None:
        """Add a commit; one that is there already stays as it is."""
        if commit not in self._parents:
            self._parents[commit] = parents
            self._micros[commit] = micros
            if is_shown:
                self._shown.add(commit)

    def load(self, positions: Iterable[int]) -> None:
        """Add what landed at some positions, of which transactions are shown."""
        for part in _parts(sorted(positions)):
            self._load(f"c.position IN ({_marks(part)})", part)

    def load_range(self, first: int, last: int) -> None:
        """Add what landed from one position to another, of which transactions are shown."""
        self._load("c.position BETWEEN ? AND ?", (first, last))

    def _load(self, condition: str, values: Sequence[object]) -> None:
        rows = self._fold.rows(f"SELECT id, parents, micros, tx IS NOT NULL FROM commits c WHERE {condition}", *values)
        for commit, parents, micros, is_shown in rows:
            self.add(commit, tuple(parents.split()), micros, bool(is_shown))

    def contracted(self, wanted: Collection[str]) -> tuple[list[str], dict[str, tuple[str, ...]]]:
        """Return all commits, newest first, and of each the shown ones that it stands on directly.

        Args:
            wanted: Those of which it has to be right; what they stand on is looked up where it was not added.
        """
        while True:
            order = newest_first(self._parents, self._micros)
            onto = contracted(self._parents, order, self._shown)
            beyond = sorted({each for commit in wanted for each in onto[commit] if each not in self._parents})
            landed: set[int] = set()
            for part in _parts(beyond):
                sql = f"SELECT DISTINCT position FROM commits WHERE tx IS NULL AND id IN ({_marks(part)})"
                landed.update(position for (position,) in self._fold.rows(sql, *part))
            if not landed:
                return order, onto
            self.load(landed)


def _parts(values: list[Any]) -> Iterator[list[Any]]:
    """Yield some of the values after others, no more of them than a query takes."""
    return (values[first : first + 500] for first in range(0, len(values), 500))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


class History:
    """The service for the log."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def log(
        self, reference: str | None = None, *, limit: int | None = None, every_branch: bool = False
    ) -> list[LogEntry]:
        """Return the transactions, newest first. See `Registry.log`."""
        check_limit(limit)
        if every_branch:
            return [row.entry for row in self.graph(reference, limit=limit, every_branch=True)]
        with self._context.reading() as fold:
            condition, parameters = self._about(fold, reference)
            rows = fold.rows(
                f"SELECT {_COLUMNS}, c.position FROM commits c WHERE tx IS NOT NULL AND {condition}"
                " ORDER BY c.position DESC, c.micros DESC, c.id LIMIT ?",
                *parameters,
                -1 if limit is None else limit,
            )
            graph = Graph(fold)
            positions = {row[-1] for row in rows}
            if reference is None and rows:
                # What the last ones stand on is mostly what landed just before.
                graph.load_range(rows[-1][-1] - 1, rows[0][-1])
            else:
                graph.load(positions)
            _, onto = graph.contracted([row[0] for row in rows])
        return [replace(_entry(*row[:-1]), parents=onto[row[0]]) for row in rows]

    # -- the graph ----------------------------------------------------------------------------------------------
    def graph(
        self, reference: str | None = None, *, limit: int | None = None, every_branch: bool = False
    ) -> list[GraphRow]:
        """Return the transactions with what each stands on. See `Registry.log_graph`."""
        check_limit(limit)
        with self._context.reading() as fold:
            nodes, heads = self._nodes(fold, None if reference is not None else limit, every_branch)
            wanted = self._wanted(fold, reference, every_branch)
            drawn = {
                commit for commit, node in nodes.items() if node.is_transaction and (wanted is None or commit in wanted)
            }
            graph = Graph(fold)
            for commit, node in nodes.items():
                graph.add(commit, node.entry.parents, node.micros, commit in drawn)
            order, onto = graph.contracted(drawn)
        named = _named(heads, drawn, onto) if reference is None else {}
        rows = [
            GraphRow(replace(nodes[commit].entry, parents=onto[commit]), onto[commit], tuple(named.get(commit, ())))
            for commit in order
            if commit in drawn
        ]
        return rows[:limit]

    def _nodes(self, fold: Fold, limit: int | None, every_branch: bool) -> tuple[dict[str, _Node], dict[str, str]]:
        """Return commits by ID, those that a limited graph can show at least, and the heads of branches and tags."""
        lake = self._context.lake
        branches, tags = lake.branches(), lake.tags()
        here = self._context.branch if self._context.commit is None else None
        heads = {name: branches[name] for name in (lake.default_branch, here) if name in branches}
        heads |= branches | {f"tag: {name}": commit for name, commit in tags.items()}
        # Each landing brings a transaction, so as many landings as rows are wanted are enough.
        (newest,) = fold.one("SELECT max(position) FROM commits")
        oldest = 0 if limit is None else newest - limit
        rows = fold.rows(f"SELECT {_COLUMNS}, c.tx FROM commits c WHERE c.position >= ?", oldest)
        nodes = {row[0]: _Node(_entry(*row[:-1]), row[2], row[-1] is not None) for row in rows}
        for head in set(branches.values()) if every_branch else ():
            for commit in commits_beyond(lake, fold, head):
                nodes[commit.id] = _Node(entry_of(commit, commit.parents), commit.micros, TX in commit.metadata)
        return nodes, heads

    def _wanted(self, fold: Fold, reference: str | None, every_branch: bool) -> set[str] | None:
        """Return the commits that are about something, or None where everything is wanted."""
        if reference is None:
            return None
        if not every_branch:
            return set(self._commits_about(fold, reference))
        found: set[str] = set()
        missing: NotFoundError | None = None
        some = False
        for branch in self._context.lake.branches():
            # The thing may be on some branches only.
            with self._context.folds.at_head(branch) as other:
                try:
                    found.update(self._commits_about(other, reference))
                    some = True
                except NotFoundError as error:
                    missing = error
        if missing is not None and not some:
            raise missing
        return found

    def _commits_about(self, fold: Fold, reference: str) -> Iterator[str]:
        condition, parameters = self._about(fold, reference)
        for (commit,) in fold.rows(f"SELECT c.id FROM commits c WHERE tx IS NOT NULL AND {condition}", *parameters):
            yield commit

    # -- what it is about ---------------------------------------------------------------------------------------
    def _about(self, fold: Fold, reference: str | None) -> tuple[str, tuple[object, ...]]:
        """Return a condition on the commits `c`, and its parameters."""
        if reference is None:
            return "TRUE", ()
        urn = parse_urn(reference)
        if urn.kind in ("", "dataset"):
            dataset = parse_dataset(urn.name)
            found = fold.one(
                "SELECT 1 FROM datasets WHERE name = ? AND semver = coalesce(?, semver)", dataset.name, dataset.semver
            )
            if found and not urn.kind and models_named(fold, dataset.name):
                name = quote(dataset.name)
                raise InvalidInputError(
                    f"{name} is both a model and a dataset", hint=f"write model:{name} or dataset:{name}"
                )
            if found:
                return _DATASET, (dataset.name, dataset.semver) * 2
        if urn.kind == "model" or (urn.kind == "" and not self._is_run(fold, urn.name)):
            with contextlib.suppress(NotFoundError):
                return _about_model(fold, urn.name)
            if urn.kind == "" and (meant := refs.mistaken(self._context.folds.resolve, reference)) is not None:
                raise InvalidInputError(f"{shown(reference)} is {meant[0]}", hint=meant[1])
            return _about_model(fold, urn.name)
        return self._about_node(fold, reference if urn.kind else f"run:{urn.name}")

    def _is_run(self, fold: Fold, name: str) -> bool:
        return is_id(name) and fold.one("SELECT 1 FROM runs WHERE run_id = ?", name) is not None

    def _about_node(self, fold: Fold, urn: str) -> tuple[str, tuple[object, ...]]:
        """Return a condition for a node of the lineage that is no model."""
        from headwater.lineage_roots import find_start

        start = find_start(self._context, fold, urn)
        conditions, parameters = [], []
        for key in start.owners or (start.key,):
            kind, _, name = key.partition(":")
            if kind == "prediction":
                # Its own transaction is one of very many of its deployment's, and no index has it.
                kind, name = "deployment", str(start.node.facts["deployment_id"]) if start.node is not None else ""
            condition, count = _NODES[kind]
            conditions.append(condition)
            parameters += [key if kind == "code" else name] * count
        return "(" + " OR ".join(conditions) + ")", tuple(parameters)


def _about_model(fold: Fold, name: str) -> tuple[str, tuple[object, ...]]:
    ref = parse_model(name)
    if ref.alias is not None:
        model_id = model_id_of(fold, ref.name)
        if not fold.rows(
            "SELECT 1 FROM events WHERE kind = 'alias' AND subject = ? AND key = ? LIMIT 1", model_id, ref.alias
        ):
            version_row(fold, ref)
        return "c.tx IN (SELECT tx FROM events WHERE kind = 'alias' AND subject = ? AND key = ?)", (model_id, ref.alias)
    if ref.version is not None:
        return _VERSION, (version_row(fold, ref, deleted=True)[0],) * 4
    return _MODEL, (model_id_of(fold, ref.name, deleted=True),) * 3


def entry_of(commit: Commit, parents: tuple[str, ...]) -> LogEntry:
    """Return the row of the log for a commit as the lake has it, with what it is to stand on."""
    told = commit.metadata
    return LogEntry(
        commit.id,
        parents,
        from_micros(commit.micros),
        told.get(ACTOR),
        told.get(KIND),
        told.get(SUBJECT) or None,
        commit.message,
    )


def _entry(
    commit: str, parents: str, micros: int, actor: str | None, kind: str | None, subject: str | None, message: str
) -> LogEntry:
    return LogEntry(commit, tuple(parents.split()), from_micros(micros), actor, kind, subject or None, message)


def _named(
    heads: Mapping[str, str], drawn: Iterable[str], onto: Mapping[str, tuple[str, ...]]
) -> dict[str, dict[str, None]]:
    """Return the names of branches and tags by the transaction that they show last."""
    drawn = set(drawn)
    found: dict[str, dict[str, None]] = {}
    for name, head in heads.items():
        for commit in [head] if head in drawn else onto.get(head, ())[:1]:
            found.setdefault(commit, {})[name] = None
    return found


_DATASET = """c.tx IN (SELECT tx FROM datasets WHERE name = ? AND semver = coalesce(?, semver)
    UNION SELECT tx FROM events WHERE subject IN
        (SELECT dataset_id FROM datasets WHERE name = ? AND semver = coalesce(?, semver)))"""
_VERSION = """c.tx IN (SELECT tx FROM versions WHERE version_id = ?
    UNION SELECT tx FROM events WHERE subject = ? UNION SELECT tx FROM events WHERE value = ?
    UNION SELECT e.tx FROM events e, json_each(e.prev) p JOIN events q ON q.event_id = p.value WHERE q.value = ?)"""
_MODEL = """c.tx IN (SELECT tx FROM versions WHERE model_id = ?
    UNION SELECT tx FROM events WHERE subject = ?
    UNION SELECT tx FROM events WHERE subject IN (SELECT version_id FROM versions WHERE model_id = ?))"""
_NODES = {
    "model": (_VERSION, 4),
    "dataset": (
        "c.tx IN (SELECT tx FROM datasets WHERE dataset_id = ? UNION SELECT tx FROM events WHERE subject = ?)",
        2,
    ),
    "run": (
        """(c.subject = 'run:' || ? OR c.tx IN (SELECT tx FROM runs WHERE run_id = ?
            UNION SELECT tx FROM events WHERE subject = ?
            UNION SELECT tx FROM lineage WHERE source = 'run:' || ?))""",
        4,
    ),
    "deployment": (
        """c.tx IN (SELECT tx FROM deployments WHERE deployment_id = ?
            UNION SELECT tx FROM batches WHERE deployment_id = ?
            UNION SELECT tx FROM events WHERE kind = 'traffic' AND instr(value, ?)
            UNION SELECT e.tx FROM events e, json_each(e.prev) p JOIN events q ON q.event_id = p.value
                WHERE e.kind = 'traffic' AND instr(q.value, ?))""",
        4,
    ),
    "code": ("c.tx IN (SELECT tx FROM lineage WHERE source = ?)", 1),
}
"""By the kind of a lineage node: a condition on the commits `c`, and how often it takes the node's ID."""
