"""Runs: start, join, list and look at them; what a run logs while it goes on is `headwater.run`'s."""

from __future__ import annotations

import builtins
import os
import platform
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any

from headwater import active, capture, landing, points
from headwater.context import Context
from headwater.errors import HeadwaterError, InvalidInputError
from headwater.ids import new_id
from headwater.model import Metric, RunInfo
from headwater.names import as_texts, canonical_slice, check_key, check_limit, check_text, quote
from headwater.run import Home, Part, Run
from headwater.runinfo import build, find
from headwater.state import Fold
from headwater.stored import inputs_of
from headwater.tombstones import visible
from headwater.transaction import Transaction
from headwater.where import rewritten

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Runs"]

Query = Callable[[str], builtins.list[tuple[Any, ...]]]


class Runs:
    """The service for runs.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- starting -----------------------------------------------------------------------------------------------
    def start(
        self,
        home: Home,
        name: str | None,
        *,
        experiment: str,
        params: Mapping[str, object] | None,
        tags: Mapping[str, object] | None,
        description: str | None,
        code: str | os.PathLike[str] | None,
        parent: Run | RunInfo | str | None,
        nested: bool | None,
        command: Collection[str] | None = None,
    ) -> Run:
        """Start a run, or join the one that started this process. See `Registry.start_run`."""
        context = self._context
        context.check_writable()
        given_params, given_tags = as_texts(params, "param"), as_texts(tags, "tag")
        if name is not None:
            check_key(name, "run's name")
        check_key(experiment, "run's experiment")
        if description is not None:
            check_text(description, "description")
        first = parent is None and nested is None and command is None and active.claim(only_ask=True)
        if first and (joined := self._joined(home)) is not None:
            active.claim()
            joined.log_params(given_params)
            joined.set_tags(given_tags)
            if description is not None:
                joined.describe(description)
            return joined
        state = capture.code_of(code, context)
        with context.reading() as fold:
            parent_id = self._parent(fold, parent, nested)
        landing.take_in(context)
        run_id = new_id()
        host = platform.node()
        folder = capture.folder_of(state, code)
        words = capture.command_line() if command is None else builtins.list(command)
        seeds = capture.seeds()
        missing = capture.missing(state, words)
        # The spool first: a run that can be seen and has none would never be known to have died.
        spool = landing.make_spool(context, run_id, owner=True, host=host)

        def work(tx: Transaction) -> None:
            code_row = capture.keep_code(tx, state)
            tx.append(
                "runs",
                run_id=run_id,
                name=name,
                experiment=experiment,
                parent_run_id=parent_id,
                command=words,
                folder=folder,
                code=code_row,
                environment=capture.keep_environment(tx, context),
                host=host or None,
                seeds=seeds,
                started_at=tx.micros,
                params=given_params,
                tags=given_tags,
                description=description,
                missing=missing,
            )
            if code_row is not None and code_row["commit"] is not None:
                upstream = f"code:{code_row['repository']}@{code_row['commit']}"
                tx.append("lineage", source=upstream, relation="built", target=f"run:{run_id}")
            tx.subject = f"run:{run_id}"
            tx.message = f"run {run_id} of {experiment}" + (f": {name}" if name is not None else "")

        try:
            context.write("run", work)
            return Run(home, context, self.get(run_id, home), spool, Part(True, host))
        except BaseException:
            spool.remove()
            raise

    def _parent(self, fold: Fold, parent: Run | RunInfo | str | None, nested: bool | None) -> str | None:
        if isinstance(parent, str):
            return find(fold, parent)
        if parent is not None:
            return find(fold, parent.run_id)
        if nested is False:
            return None
        around = active.entered() or (active.current() if nested else None)
        run_id = around.run_id if around is not None else active.outer()
        if run_id is None and nested:
            raise InvalidInputError("there is no active run to be a part of", hint="start the outer run first")
        here = fold.one("SELECT run_id FROM runs WHERE run_id = ?", run_id)
        return str(here[0]) if here is not None else None

    def _joined(self, home: Home) -> Run | None:
        """Return this process's part of the run that started it, which is joined if need be."""
        for run in active.opened():
            if run.run_id == active.outer() and not run.ended:
                found: Run = run
                return found
        return self.join(home)

    def join(self, home: Home) -> Run | None:
        """Join the run that started this process (`HEADWATER_RUN_ID`); None where there is none in this lake."""
        run_id = active.outer()
        if run_id is None or self._context.commit is not None:
            return None
        with self._context.reading() as fold:
            if fold.one("SELECT 1 FROM runs WHERE run_id = ?", run_id) is None:
                return None
        info = self.get(run_id, home)
        spool = landing.make_spool(self._context, run_id, owner=False, host=info.host)
        return Run(home, self._context, info, spool, Part(False, info.host))

    # -- looking ------------------------------------------------------------------------------------------------
    def get(self, reference: str, owner: Any) -> RunInfo:
        """Return one run."""
        dead = self._take_in()
        with self._context.reading() as fold:
            return build(fold, [find(fold, reference)], owner=owner, dead=dead, load=self._load)[0]

    def list(
        self, owner: Any, *, experiment: str | None, where: str | None, limit: int | None, query: Query
    ) -> builtins.list[RunInfo]:
        """Return runs, newest first.

        Args:
            owner: The registry that their methods call.
            experiment: Only those of this experiment.
            where: Only those of which this condition holds.
            limit: At most so many.
            query: Runs SQL.
        """
        check_limit(limit)
        condition = None if where is None else rewritten(where)
        dead = self._take_in()
        wanted = None
        if condition is not None:
            wanted = {run_id for (run_id,) in query(f"SELECT run_id FROM runs WHERE {condition}")}
        with self._context.reading() as fold:
            rows = fold.rows(
                f"SELECT run_id FROM runs r WHERE experiment = coalesce(?, experiment) AND {visible('r.run_id')}"
                " ORDER BY run_id DESC LIMIT ?",
                experiment,
                -1 if limit is None or wanted is not None else limit,
            )
            ids = [run_id for (run_id,) in rows if wanted is None or run_id in wanted][:limit]
            return build(fold, ids, owner=owner, dead=dead, load=self._load)

    def _take_in(self) -> dict[str, int]:
        """Take in what crashed; where nothing can be written, return which runs have died, and when."""
        if self._context.commit is not None:
            return {}
        try:
            return landing.take_in(self._context)
        except (HeadwaterError, OSError):
            return {}

    def _load(self, ids: Collection[str]) -> Mapping[str, Mapping[str, float]]:
        with self._context.reading() as fold:
            return points.newest_of_runs(self._context.lake, fold, ids)

    def metrics(self, reference: str) -> builtins.list[Metric]:
        """Return the newest values of a run's metrics, over all rows and on slices."""
        with self._context.reading() as fold:
            run_id = find(fold, reference)
            return points.newest(self._context.lake, fold, {"run_id": (run_id, run_id), "version_id": None})

    def curve(self, reference: str, key: str, part: Mapping[str, object] | None) -> pa.Table:
        """Return every point of a metric of a run. See `Registry.curve`."""
        text = canonical_slice(dict(part)) if part else ""
        with self._context.reading() as fold:
            run_id = find(fold, reference)
            wanted = {"run_id": (run_id, run_id), "key": (key, key), "slice": (text, text), "version_id": None}
            return points.curve(self._context.lake, fold, wanted)

    def inputs(self, reference: str) -> builtins.list[str]:
        """Return the dataset versions that a run used, as references, in order."""
        with self._context.reading() as fold:
            found = []
            for dataset_id in inputs_of(fold, find(fold, reference)):
                row = fold.one("SELECT name, semver FROM datasets WHERE dataset_id = ?", dataset_id)
                if row is not None:
                    found.append(f"{quote(row[0])}@{row[1]}")
            return sorted(found)

    def versions(self, reference: str) -> builtins.list[str]:
        """Return the IDs of the model versions that a run made, the oldest first."""
        with self._context.reading() as fold:
            run_id = find(fold, reference)
            rows = fold.rows(
                "SELECT DISTINCT target FROM lineage l WHERE source = ? AND relation = 'produced'"
                f" AND {visible('l.tx')}",
                f"run:{run_id}",
            )
            return sorted(target.removeprefix("model:") for (target,) in rows if target.startswith("model:"))
