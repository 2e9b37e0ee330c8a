"""The registry: the one object that people hold; composes the services and has no rules of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from headwater import active
from headwater.context import Context
from headwater.errors import HeadwaterError
from headwater.lake import refs
from headwater.model import LogEntry
from headwater.registry_branches import Branching
from headwater.registry_governance import Governance
from headwater.registry_moving import BetweenLakes
from headwater.registry_notifying import Notifying
from headwater.registry_runs import RunsPart
from headwater.registry_serving import Serving
from headwater.transaction import Writer

if TYPE_CHECKING:
    from headwater.diffs import Diff
    from headwater.export import Export
    from headwater.history import GraphRow
    from headwater.lineage import Lineage
    from headwater.query import QueryResult, Rows

__all__ = ["Registry", "Rehearsal"]


class Registry(RunsPart, Serving, Branching, Governance, BetweenLakes, Notifying):
    """A registry of models and datasets on one branch of a lake, or as it was at one commit.

    Safe to share between threads. Use it in a `with`, or call `close`; nothing is lost either way, since every method
    that writes has landed its change before it returns.
    """

    def __repr__(self) -> str:
        return f"<Registry {self._context.lake.url} at {self._context.ref}>"

    def _repr_html_(self) -> str:
        from headwater.hypertext import fields, frame, heading, paragraph, table

        parts = [heading("registry", self.url)]
        try:
            status = self.status()
            models, total = self._versions.first_models(20)
        except HeadwaterError as error:
            return frame(*parts, paragraph(error.message))
        parts.append(fields((key, status[key]) for key in ("ref", "commit", "actor", "datasets", "runs", "versions")))
        rows = [(each.name, each.latest_version, each.versions, each.aliases, each.description) for each in models]
        headers = ("model", "newest", "versions", "aliases", "description")
        return frame(*parts, table(headers, rows, total=total, right=(1, 2), most=20))

    def __enter__(self) -> Registry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._owner:
            active.end_all(self._context.lake, error)
        self.close()

    def close(self) -> None:
        """Let go of connections and files, unless another registry lent them (`branch` and `at` do).

        Runs that go on in this lake are ended first, and loggers of predictions that it made are closed, so that what
        they were given lands.
        """
        if self._owner:
            active.end_all(self._context.lake, None)
        for logger in list(self._loggers):
            logger.close()
        for router in list(self._routers):
            router.close()
        if "_queries" in self.__dict__:
            self._queries.close()
        if self._owner:
            self._context.writer.close()
            self._context.folds.close()
            self._context.lake.close()

    # -- views --------------------------------------------------------------------------------------------------
    def at(self, ref: str) -> Registry:
        """Return a read-only view of any ref: a branch, tag, commit, `main~3`, `main@{2026-11-01T00:00:00Z}`.

        Raises:
            NotFoundError: There is no such ref.
        """
        found = self._context.folds.resolve(ref)
        return self._view(found.branch or self._context.branch, found.commit, ref)

    def branch(self, name: str) -> Registry:
        """Return the registry on another branch that exists.

        Raises:
            NotFoundError: There is no such branch.
        """
        refs.head(self._context.lake, name)
        return self._view(name, None, name)

    def create_branch(self, name: str, source: str | None = None) -> Registry:
        """Make a branch of everything at a ref (by default what this registry reads), and return the registry on it.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
            InvalidInputError: The name can't be a branch's.
            NotFoundError: There is no such ref.
        """
        self._branches.create(name, source)
        return self._view(name, None, name)

    @contextmanager
    def rehearse(self) -> Iterator[Rehearsal]:
        """Hold a registry on a hidden copy of what this one reads; all that is written to it is thrown away at the end.

        Numbers and names that are given meanwhile are those that would be next, and none of them is reserved.

        Returns:
            The registry; its `difference()` says what was written so far.
        """
        it = self._context
        name = self._branches.begin_rehearsal()
        writer = Writer(it.lake, it.folds, only=name)
        context = replace(it, branch=name, commit=None, writer=writer, ref=Rehearsal.CALLED, stands_for=it.ref)
        rehearsal = Rehearsal(context, owner=False)
        rehearsal._of = it.commit or it.branch
        error: BaseException | None = None
        try:
            yield rehearsal
        except BaseException as caught:
            error = caught
            raise
        finally:
            for run in reversed(active.opened()):
                if run.is_on(context):
                    run.end(error)
            rehearsal.close()
            writer.close()
            self._branches.end_rehearsal(name)

    def _view(self, branch: str, commit: str | None, ref: str) -> Registry:
        it = self._context
        return Registry(Context(it.lake, it.folds, it.writer, branch, commit, ref, it.actor), owner=False)

    # -- lineage ------------------------------------------------------------------------------------------------
    def trace(self, urn: str) -> Lineage:
        """Return everything that a thing came from: from a prediction back to data and code.

        Args:
            urn: `prediction:ID`, `deployment:ID`, `model:NAME/7`, `run:ID`, `code:REPOSITORY@COMMIT`,
                `dataset:NAME@1.1.0`, `object:PATH@COMMIT`, or a reference such as `flight-delay@champion`.

        Returns:
            The graph. Of a prediction, stages and aliases are those of the moment that it was made.

        Raises:
            InvalidInputError: It is malformed, of an unknown kind, or means several things.
            NotFoundError: There is no such thing.
        """
        return self._tracing.trace(urn)

    def impact(self, urn: str, *, rows: str | None = None) -> Lineage:
        """Return everything that came of a thing: datasets, runs, versions, deployments, and counts of predictions.

        Args:
            urn: As for `trace`.
            rows: A condition such as `"origin = 'JFK' and month = 2"`: only what came of rows of this dataset version,
                of later ones and of what was derived from them that meet it. It is asked of the data itself.

        Raises:
            InvalidInputError: The URN or the condition is malformed, or there are no rows to ask about.
            NotFoundError: There is no such thing.
        """
        return self._tracing.impact(urn, rows)

    # -- history and SQL ----------------------------------------------------------------------------------------
    def log(
        self, reference: str | None = None, *, limit: int | None = None, every_branch: bool = False
    ) -> list[LogEntry]:
        """Return what happened, newest first.

        Args:
            reference: Only what concerns one thing: a model, version, alias or dataset, or a URN such as `run:ID`.
            limit: No more than so many.
            every_branch: What happened on any branch, not on this one alone.

        Raises:
            NotFoundError: There is no such thing.
            InvalidInputError: It is malformed, or means several things.
        """
        return self._history.log(reference, limit=limit, every_branch=every_branch)

    def log_graph(
        self, reference: str | None = None, *, limit: int | None = None, every_branch: bool = False
    ) -> list[GraphRow]:
        """Return what `log` does, and for each transaction those that it stands on, as a graph is drawn of."""
        return self._history.graph(reference, limit=limit, every_branch=every_branch)

    def sql(
        self,
        query: str,
        parameters: Mapping[str, object] | Sequence[object] | None = None,
        *,
        timeout: float = 300,
    ) -> QueryResult:
        """Run one query that reads, at the branch's head or the pinned commit.

        Args:
            query: DuckDB's SQL over the views of `sql/` and the tables of schema `lake`. `lake_at('main~5', 'models')`
                is a view as it was at another ref, `lake_at('main~5', 'lake.models')` a table.
            parameters: Values for `$name` (a mapping) or `?` (a sequence).
            timeout: Seconds until it is interrupted.

        Raises:
            InvalidInputError: It is not one statement that reads, or DuckDB refuses it.
            LakeError: It took too long, or has more rows, or took more memory, than it may.
        """
        return self._queries.sql(query, parameters, timeout=timeout)

    def sql_rows(
        self,
        query: str,
        parameters: Mapping[str, object] | Sequence[object] | None = None,
        *,
        timeout: float = 300,
    ) -> AbstractContextManager[Rows]:
        """Run one query whose rows need not fit into memory, and hand them out in Arrow batches: `with ... as rows`.

        Arguments and errors are those of `sql`; errors may come while the batches are read.
        """
        return self._queries.rows(query, parameters, timeout=timeout)

    def export(self, folder: str | os.PathLike[str]) -> Export:
        """Write what is read here as files that need no Headwater: plain Delta tables, objects, and `headwater.sql`.

        In the folder, the stock client of DuckDB reads the same tables and views: `duckdb -init headwater.sql`.

        Args:
            folder: A new or empty one; it appears when everything is in it.

        Raises:
            AlreadyExistsError: The folder holds something.
        """
        from headwater.export import export

        return export(self._context, folder)

    def status(self) -> dict[str, Any]:
        """Return where this is: lake, branch or ref, head, and how much there is.

        `ahead` and `behind` are how many transactions it has that the lake's default branch lacks, and the reverse.
        """
        stands = self._branches.standing()
        with self._context.reading() as fold:
            (models,) = fold.one("SELECT count(*) FROM models")
            (versions,) = fold.one("SELECT count(*) FROM versions")
            (datasets,) = fold.one("SELECT count(DISTINCT name) FROM datasets")
            (runs,) = fold.one("SELECT count(*) FROM runs")
            commit = fold.commit
        return {
            "lake": self.url,
            "ref": self.ref,
            "commit": commit,
            "ahead": len(stands.ahead) if stands is not None else 0,
            "behind": stands.behind if stands is not None else 0,
            "actor": self.actor,
            "models": models,
            "versions": versions,
            "datasets": datasets,
            "runs": runs,
        }


class Rehearsal(Registry):
    """A registry on a hidden branch that is thrown away; what is written to it, nobody else sees. See `rehearse`."""

    CALLED = "the rehearsal"
    _of = ""

    def difference(self) -> Diff:
        """Return what was written that the branch (or commit) it began with lacks."""
        return self._diffs.diff(self._of)
