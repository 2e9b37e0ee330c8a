"""Deployments: which version serves in which environment, with what share of its requests, now and at any time.

What serves is one `traffic` event of a model and an environment, which lists all that serves there. Every change writes
it anew; what answers requests in production is for `headwater.promotion` to decide. Knows nothing of predictions.
"""

from __future__ import annotations

import builtins
import json
from datetime import UTC, datetime
from typing import Any

from headwater.context import Context
from headwater.errors import ConflictError, InvalidInputError, NotFoundError
from headwater.fold import entries_of
from headwater.genuine import check_genuine
from headwater.ids import from_micros, new_id
from headwater.lookup import model_id_of, name_of, version_row
from headwater.names import because, check_environment, check_reason, parse_model, quote, shown
from headwater.production import PRODUCTION, Entry, add_deployment, replaces, serve, serving_in, withdraw
from headwater.promotion import Promotions
from headwater.promotion_rules import check_percent
from headwater.serving_model import Deployment
from headwater.state import Fold
from headwater.tombstones import gone, tombstone_of, visible
from headwater.transaction import Transaction

__all__ = ["MODES", "Deployments", "deployment_of"]

MODES = ("live", "canary", "shadow")
_DEFAULT_CANARY = 10.0

_COLUMNS = (
    "d.deployment_id, d.model_id, d.version_id, d.environment, d.mode, d.recorded_at, d.actor,"
    " coalesce((SELECT id FROM commits c WHERE c.tx = d.tx), d.tx),"
    " (SELECT version FROM versions v WHERE v.version_id = d.version_id)"
)


class Deployments:
    """The service for deployments.

    Args:
        context: What to work with.
        promotions: What decides on what is in production.
    """

    def __init__(self, context: Context, promotions: Promotions) -> None:
        self._context = context
        self._promotions = promotions

    # -- changing -----------------------------------------------------------------------------------------------
    def deploy(
        self,
        reference: str,
        environment: str,
        *,
        mode: str = "live",
        traffic: float | None = None,
        reason: str | None = None,
    ) -> Deployment:
        """Deploy a version. See `Registry.deploy`."""
        ref = parse_model(reference)
        check_environment(environment)
        percent = _check_traffic(mode, traffic)
        check_reason(reason)
        deployment_id = new_id()
        if environment == PRODUCTION and mode != "shadow":
            self._promotions.deploy(
                reference,
                percent=percent if mode == "canary" else traffic,
                canary=mode == "canary",
                deployment_id=deployment_id,
                reason=reason,
            )
            return self.get(deployment_id)

        def work(tx: Transaction) -> None:
            version_id, model_id, number, *_ = version_row(tx.fold, ref)
            check_genuine(tx.fold, version_id, str(ref), vouched=True)
            new = {"deployment_id": deployment_id, "version_id": version_id, "mode": mode, "percent": percent}

            def change(entries: list[Entry]) -> list[Entry]:
                kept = [each for each in entries if not replaces(new, each)]
                return [*kept, new]

            entries = serve(tx, model_id, environment, change, reason)
            given = next(each["percent"] for each in entries if each["deployment_id"] == deployment_id)
            if mode == "live" and traffic is not None and float(traffic) != given:
                raise InvalidInputError(
                    f"the live version gets what canaries leave, {given:g} %, not {traffic:g}",
                    hint=f"a part of the requests goes to a canary: --mode canary --traffic {traffic:g}",
                )
            add_deployment(tx, model_id, new, environment, given)
            named = f"{quote(name_of(tx.fold, model_id))}/{number}"
            share = "" if mode == "live" else f" with {given:g} %"
            tx.subject = named
            tx.message = f"deploy {named} to {environment}, {mode}{share}{because(reason)}"

        self._context.write("deploy", work)
        return self.get(deployment_id)

    def undeploy(self, deployment: str, *, reason: str | None = None) -> Deployment:
        """End a deployment. See `Registry.undeploy`."""
        deployment_id = _bare(deployment)
        check_reason(reason)

        def work(tx: Transaction) -> None:
            found = deployment_of(tx.fold, deployment_id)
            if not found.live:
                raise ConflictError(
                    f"deployment {deployment_id} serves no more", hint="`headwater deployments` lists what serves"
                )
            live = [each for each in serving_in(tx.fold, found.model_id, found.environment) if each["mode"] == "live"]
            if found.environment == PRODUCTION and found.mode == "live" and len(live) == 1:
                withdraw(tx, found.model_id, reason=reason)
            else:
                serve(
                    tx,
                    found.model_id,
                    found.environment,
                    lambda entries: [each for each in entries if each["deployment_id"] != deployment_id],
                    reason,
                )
            tx.subject = found.reference
            tx.message = f"end {found.mode} {found.reference} in {found.environment}{because(reason)}"

        self._context.write("undeploy", work)
        return self.get(deployment_id)

    # -- reading ------------------------------------------------------------------------------------------------
    def predictions_of(self, deployment_id: str) -> int:
        """Return how many predictions of a deployment have landed; no prediction is read for that."""
        with self._context.reading() as fold:
            (count,) = fold.one(
                "SELECT sum(rows) FROM (SELECT digest, max(rows) AS rows FROM batches b"
                f" WHERE deployment_id = ? AND {visible('b.tx')} GROUP BY digest)",
                deployment_id,
            )
        return int(count or 0)

    def get(self, deployment: str) -> Deployment:
        """Return one deployment.

        Raises:
            NotFoundError: There is none of that ID.
        """
        with self._context.reading() as fold:
            return deployment_of(fold, _bare(deployment))

    def list(self, name: str | None = None, *, environment: str | None = None, ended: bool = True) -> list[Deployment]:
        """Return deployments, newest first. See `Registry.deployments`."""
        with self._context.reading() as fold:
            model_id = model_id_of(fold, parse_model(name).name, deleted=True) if name is not None else None
            rows = fold.rows(
                f"SELECT {_COLUMNS} FROM deployments d WHERE model_id = coalesce(?, model_id)"
                f" AND environment = coalesce(?, environment) AND {visible('d.deployment_id')}"
                " ORDER BY deployment_id DESC",
                model_id,
                environment,
            )
            traffic = _Traffic(fold)
            found = [_build(fold, row, traffic) for row in rows]
        return found if ended else [each for each in found if each.live]

    def serving(
        self, environment: str | None = None, *, name: str | None = None, time: datetime | None = None
    ) -> builtins.list[Deployment]:
        """Return what serves, or what served at a time. See `Registry.serving`."""
        if time is None:
            return self.list(name, environment=environment, ended=False)
        if time.tzinfo is None:
            raise InvalidInputError(f"{time} does not say its time zone", hint="use datetime(..., tzinfo=UTC)")
        micros = int(time.astimezone(UTC).timestamp() * 1_000_000)
        with self._context.reading() as fold:
            (position,) = fold.one("SELECT max(position) FROM commits WHERE landed_micros <= ?", micros)
            if position is None:
                return []
            model_id = model_id_of(fold, parse_model(name).name, deleted=True) if name is not None else None
            traffic = _Traffic(fold, position)
            rows = fold.rows(f"SELECT {_COLUMNS} FROM deployments d ORDER BY deployment_id DESC")
            found = [_build(fold, row, traffic) for row in rows]
        return [
            each
            for each in found
            if each.live and environment in (None, each.environment) and model_id in (None, each.model_id)
        ]


def deployment_of(fold: Fold, deployment_id: str, *, hidden: bool = False) -> Deployment:
    """Return a deployment of a folded state.

    Args:
        fold: The state.
        deployment_id: The whole ID.
        hidden: Whether it may be one that a tombstone hides.

    Raises:
        NotFoundError: There is none of that ID, or it is hidden.
    """
    row = fold.one(f"SELECT {_COLUMNS} FROM deployments d WHERE deployment_id = ?", deployment_id)
    if row is None:
        raise NotFoundError(
            f"there is no deployment {shown(deployment_id)}", hint="`headwater deployments --all` lists them"
        )
    if not hidden and (hiding := tombstone_of(fold, deployment_id)) is not None:
        raise gone(f"deployment {deployment_id}", hiding)
    return _build(fold, row, _Traffic(fold, model_id=row[1]))


class _Traffic:
    """What the `traffic` events of a state say: who serves with what share, and when and by whom one was ended.

    Args:
        fold: The state.
        position: Only what had landed by then, as `lake.commits` counts landings.
        model_id: Only of this model.
    """

    def __init__(self, fold: Fold, position: int | None = None, model_id: str | None = None) -> None:
        rows = fold.rows(
            "SELECT e.event_id, e.subject, e.key, e.value, e.prev, e.actor, e.reason, c.position, c.landed_micros"
            " FROM events e LEFT JOIN commits c ON c.tx = e.tx WHERE e.kind = 'traffic'"
            + (" AND e.subject = ?" if model_id is not None else "")
            + " ORDER BY c.position, e.event_id",
            *([model_id] if model_id is not None else []),
        )
        rows = [row for row in rows if position is None or (row[7] is not None and row[7] <= position)]
        replaced = {prev for row in rows for prev in json.loads(row[4])}
        self.percent: dict[str, float] = {}
        self.reason: dict[str, str | None] = {}
        self.ended: dict[str, tuple[int | None, str]] = {}
        serving: dict[tuple[str, str], set[str]] = {}
        for event_id, subject, key, value, _, actor, reason, _, landed in rows:
            listed = {each["deployment_id"]: each["percent"] for each in entries_of(value)}
            known = serving.setdefault((subject, key), set())
            for each in known - listed.keys():
                self.ended.setdefault(each, (landed, actor))
            for each, percent in listed.items():
                if each not in known:
                    self.reason.setdefault(each, reason)
                known.add(each)
                if event_id not in replaced:
                    self.percent[each] = percent
        for each in self.percent:
            self.ended.pop(each, None)


def _build(fold: Fold, row: Any, traffic: _Traffic) -> Deployment:
    deployment_id, model_id, version_id, environment, mode, micros, actor, commit, version = row
    ended, by = traffic.ended.get(deployment_id, (None, None))
    hiding = tombstone_of(fold, version_id) or tombstone_of(fold, model_id)
    return Deployment(
        deployment_id=deployment_id,
        name=name_of(fold, model_id),
        version=version,
        version_id=version_id,
        model_id=model_id,
        environment=environment,
        mode=mode,
        traffic=traffic.percent.get(deployment_id),
        live=deployment_id in traffic.percent,
        commit=commit,
        recorded_at=from_micros(micros),
        actor=actor,
        ended_at=from_micros(ended) if ended is not None else None,
        ended_by=by,
        reason=traffic.reason.get(deployment_id),
        gone=None if hiding is None else "reverted" if hiding.kind == "revert" else "deleted",
    )


# -- rules ------------------------------------------------------------------------------------------------------------
def _check_traffic(mode: str, traffic: float | None) -> float:
    if mode not in MODES:
        raise InvalidInputError(f"not a mode: {shown(mode)}", hint=f"choose {', '.join(MODES)}")
    if traffic is None:
        return _DEFAULT_CANARY if mode == "canary" else 100.0
    return check_percent(traffic)


def _bare(deployment: str) -> str:
    return deployment.removeprefix("deployment:")
