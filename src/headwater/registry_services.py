"""The services that a registry is composed of, made when they are asked for; no method that people call."""

from __future__ import annotations

import weakref
from functools import cached_property
from typing import TYPE_CHECKING

from headwater.context import Context
from headwater.model import ModelVersion
from headwater.versions import Versions

if TYPE_CHECKING:
    from headwater.audit import Audits
    from headwater.branching import Branches
    from headwater.chronicle import Chronicle
    from headwater.collection import Collection
    from headwater.dataset_gates import DatasetGates
    from headwater.datasets import Datasets
    from headwater.diffs import Diffs
    from headwater.evaluations import Evaluations
    from headwater.history import History
    from headwater.labels import Labels
    from headwater.lineage import Tracing
    from headwater.merge import Merges
    from headwater.moving import Moving
    from headwater.notifications import Notifications
    from headwater.policies import Policies
    from headwater.prediction_log import PredictionLogger
    from headwater.predictions import Predictions
    from headwater.promotion import Promotions
    from headwater.query import Queries
    from headwater.readers import Readers
    from headwater.records import Records
    from headwater.registration import Registration
    from headwater.reproduction import Reproductions
    from headwater.roles import Roles
    from headwater.routing import Router
    from headwater.runfiles import RunFiles
    from headwater.serving import Deployments
    from headwater.tracking import Runs
    from headwater.undoing import Undoing
    from headwater.watching import Watching

__all__ = ["Services"]


class Services:
    """What the parts of a registry have in common: a context, the services over it, and where it is."""

    def __init__(self, context: Context, *, owner: bool = True) -> None:
        self._context = context
        self._owner = owner
        self._versions = Versions(context)
        self._resolved: tuple[str, dict[str, ModelVersion]] = ("", {})
        self._loggers: weakref.WeakSet[PredictionLogger] = weakref.WeakSet()
        self._routers: weakref.WeakSet[Router] = weakref.WeakSet()

    # What reading a model does not need is imported when it is used: a command has to feel instant.
    @cached_property
    def _datasets(self) -> Datasets:
        from headwater.datasets import Datasets

        return Datasets(self._context)

    @cached_property
    def _registration(self) -> Registration:
        from headwater.registration import Registration

        return Registration(self._context, self._datasets)

    @cached_property
    def _reproductions(self) -> Reproductions:
        from headwater.reproduction import Reproductions

        return Reproductions(self._context, self._versions, self._datasets)

    @cached_property
    def _evaluations(self) -> Evaluations:
        from headwater.evaluations import Evaluations

        return Evaluations(self._context, self._versions, self._datasets)

    @cached_property
    def _labels(self) -> Labels:
        from headwater.labels import Labels

        return Labels(self._context, self._promotions)

    @cached_property
    def _history(self) -> History:
        from headwater.history import History

        return History(self._context)

    @cached_property
    def _chronicle(self) -> Chronicle:
        from headwater.chronicle import Chronicle

        return Chronicle(self._context)

    @cached_property
    def _branches(self) -> Branches:
        from headwater.branching import Branches

        return Branches(self._context)

    @cached_property
    def _tracing(self) -> Tracing:
        from headwater.lineage import Tracing

        return Tracing(self._context)

    @cached_property
    def _diffs(self) -> Diffs:
        from headwater.diffs import Diffs

        return Diffs(self._context)

    @cached_property
    def _merges(self) -> Merges:
        from headwater.merge import Merges

        return Merges(self._context)

    @cached_property
    def _moving(self) -> Moving:
        from headwater.moving import Moving

        return Moving(self._context, self._merges)

    @cached_property
    def _notifications(self) -> Notifications:
        from headwater.notifications import Notifications

        return Notifications(self._context)

    @cached_property
    def _queries(self) -> Queries:
        from headwater.query import Queries

        return Queries(self._context.lake, self._context.folds, self._context.reading)

    @cached_property
    def _runs(self) -> Runs:
        from headwater.tracking import Runs

        return Runs(self._context)

    @cached_property
    def _run_files(self) -> RunFiles:
        from headwater.runfiles import RunFiles

        return RunFiles(self._context)

    @cached_property
    def _readers(self) -> Readers:
        from headwater.readers import Readers

        return Readers(self._context, self._datasets)

    @cached_property
    def _deployments(self) -> Deployments:
        from headwater.serving import Deployments

        return Deployments(self._context, self._promotions)

    @cached_property
    def _promotions(self) -> Promotions:
        from headwater.promotion import Promotions

        return Promotions(self._context)

    @cached_property
    def _dataset_gates(self) -> DatasetGates:
        from headwater.dataset_gates import DatasetGates

        return DatasetGates(self._context)

    @cached_property
    def _policies(self) -> Policies:
        from headwater.policies import Policies

        return Policies(self._context)

    @cached_property
    def _records(self) -> Records:
        from headwater.records import Records

        return Records(self._context)

    @cached_property
    def _watching(self) -> Watching:
        from headwater.watching import Watching

        return Watching(self._context, self._promotions)

    @cached_property
    def _roles(self) -> Roles:
        from headwater.roles import Roles

        return Roles(self._context)

    @cached_property
    def _audits(self) -> Audits:
        from headwater.audit import Audits

        return Audits(self._context)

    @cached_property
    def _router(self) -> Router:
        from headwater.routing import Router

        router = Router(self._context)
        self._routers.add(router)
        return router

    @cached_property
    def _collection(self) -> Collection:
        from headwater.collection import Collection

        return Collection(self._context)

    @cached_property
    def _predictions(self) -> Predictions:
        from headwater.predictions import Predictions

        return Predictions(self._context)

    @cached_property
    def _undoing(self) -> Undoing:
        from headwater.undoing import Undoing

        return Undoing(self._context)

    def _active_run(self) -> str | None:
        """Return the ID of the run that what is made here belongs to; None where there is none."""
        return None

    @property
    def url(self) -> str:
        """Where the lake is."""
        return self._context.lake.url

    @property
    def ref(self) -> str:
        """The branch or ref that is read."""
        return self._context.ref

    @property
    def working_branch(self) -> str:
        """The branch that is written to, by the name under which other processes find it."""
        return self._context.branch

    @property
    def actor(self) -> str:
        """Who acts."""
        return self._context.actor

    @property
    def head(self) -> str:
        """The commit ID that is read now: the branch's head, or the pinned commit."""
        return self._context.commit or self._context.lake.head(self._context.branch)
