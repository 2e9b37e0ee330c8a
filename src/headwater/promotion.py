"""Promotion: which version may enter which stage, and who serves; every way into production goes through here.

A promotion is checked twice: before the transaction, so that what takes long is measured while others can write, and
again inside it, on the head that it lands on. What is written is `headwater.production`'s matter.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any

from headwater import gates, production
from headwater.context import Context
from headwater.errors import ConflictError, HeadwaterError, InvalidInputError, NotFoundError
from headwater.genuine import check_genuine
from headwater.governance_model import Evaluation, GateResult, Promotion
from headwater.ids import from_micros
from headwater.lookup import files_of, model_id_of, name_of, version_row
from headwater.names import ModelRef, bare_model, because, check_reason, check_text, parse_model, quote, shown
from headwater.production import CHAMPION, PRODUCTION, STAGES, stage_of
from headwater.promotion_rules import (
    RefusedError,
    Wish,
    canary_meant,
    check_percent,
    check_share,
    check_unmoved,
    decide,
    in_production,
    instead_of,
    number_of,
    production_before,
    target_of,
)
from headwater.state import Fold
from headwater.transaction import Transaction
from headwater.versions import Versions

__all__ = ["Promotions"]

_LOOKED_FOR = 100
"""Files of an artifact up to which a rollback looks whether they are there; whoever loads them checks their bytes."""

_READ_AT_ONCE = 64 << 20
"""Bytes of an artifact that are read before it goes into production, also where nobody asked for gates."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What a transaction did, before its commit is known."""

    name: str
    number: int
    version_id: str
    stage: str
    traffic: float | None
    previous: int | None
    micros: int
    results: tuple[GateResult, ...] = ()


class Promotions:
    """The service that moves versions from stage to stage, and requests from version to version.

    Args:
        context: What to work with.
        measured: What gates measured for the same promotion before, and measure now; by what they measured it of.
    """

    def __init__(self, context: Context, measured: dict[Any, Any] | None = None) -> None:
        self._context = context
        self._versions = Versions(context)
        self._measured = measured

    # -- promoting ----------------------------------------------------------------------------------------------
    def promote(
        self,
        reference: str,
        to: str,
        *,
        traffic: float | None = None,
        override: str | None = None,
        reason: str | None = None,
        kind: str = "promote",
        straight: bool = False,
    ) -> Promotion:
        """Let a version enter a stage. See `Registry.promote`.

        Args:
            reference: The version.
            to: The stage.
            traffic: Percent of production's requests; less than 100 makes it a canary.
            override: Why gates that fail are passed over.
            reason: Why.
            kind: What the log calls it.
            straight: Whether it enters production from where it is: staging's gates are asked, and it is not written
                that it was there. So somebody who may promote takes again what others did on another branch.
        """
        ref = parse_model(reference)
        if to not in STAGES or to == "none":
            raise InvalidInputError(f"not a stage: {shown(to)}", hint=f"choose {', '.join(STAGES[1:])}")
        percent = None if traffic is None else check_percent(traffic)
        if percent is not None and to != PRODUCTION:
            raise InvalidInputError(f"only production has traffic, not {to}", hint="leave --traffic out")
        if percent == 0:
            raise InvalidInputError("a canary with 0 % gets no request", hint="give it more, or deploy it as a shadow")
        check_reason(reason)
        if override is not None and not check_text(override, "reason").strip():
            raise InvalidInputError("an override needs a reason", hint='write --override "why"')
        if to == PRODUCTION:
            self._check_bytes(ref)
        return self._run(kind, Wish(ref, to, percent, override, reason, straight=straight))

    def stage(self, reference: str, stage: str, *, reason: str | None = None) -> Promotion:
        """Move a version to a stage by hand. See `Registry.stage`."""
        if stage == "none":
            raise InvalidInputError(
                "no version goes back to no stage", hint="`headwater stage MODELREF archived` puts it aside"
            )
        return self.promote(reference, stage, reason=reason, kind="promote" if stage == PRODUCTION else "stage")

    def champion(self, name: str, version: int, *, reason: str | None = None) -> None:
        """Make a version the champion, which is to put it into production."""
        ref = ModelRef(bare_model(name), version=version)
        check_reason(reason)
        self._check_bytes(ref, quickly=True)
        self._run("alias", Wish(ref, PRODUCTION, None, None, reason, by_alias=True))

    def deploy(
        self, reference: str, *, percent: float | None, canary: bool, deployment_id: str, reason: str | None
    ) -> None:
        """Deploy a version to production, live or as a canary: the same as to promote it."""
        ref = parse_model(reference)
        self._check_bytes(ref, quickly=True)
        share = percent if canary else None
        wish = Wish(ref, PRODUCTION, share, None, reason, deployment_id=deployment_id, given=percent)
        self._run("deploy", wish)

    def withdraw(self, name: str, *, kind: str, reason: str | None = None) -> None:
        """Take a model's version out of production, so that none is there.

        Raises:
            NotFoundError: There is none.
        """
        bare = bare_model(name)
        check_reason(reason)

        def work(tx: Transaction) -> None:
            model_id = model_id_of(tx.fold, bare)
            if all(value is None for _, value in tx.fold.standing(model_id, "alias", CHAMPION)):
                raise NotFoundError(
                    f"{quote(bare)} has no alias {CHAMPION!r}", hint=f"`headwater alias list {quote(bare)}`"
                )
            production.withdraw(tx, model_id, reason=reason)
            tx.subject = f"{quote(bare)}@{CHAMPION}"
            tx.message = f"alias {quote(bare)}@{CHAMPION} is deleted{because(reason)}"

        self._context.write(kind, work)

    def _check_bytes(self, ref: ModelRef, *, quickly: bool = False) -> None:
        """Make sure that the artifact is what was registered.

        Args:
            ref: The version.
            quickly: Whether, where a model has no rules, bytes that take long to read are left to those who pull them.

        Raises:
            IntegrityError: It is not.
        """
        with self._context.reading() as fold:
            _, model_id, _, _, row, *_ = version_row(fold, ref)
            size = json.loads(row)["size"]
            quickly = quickly and not production.ruled(fold, model_id)
        if not quickly or (size is not None and size <= _READ_AT_ONCE):
            self._versions.verify(str(ref))

    # -- traffic ------------------------------------------------------------------------------------------------
    def traffic(
        self,
        name: str,
        percent: float,
        *,
        version: int | None = None,
        override: str | None = None,
        reason: str | None = None,
    ) -> Promotion:
        """Give a model's canary another share of the requests. See `Registry.set_traffic`."""
        bare = bare_model(name)
        share = check_percent(percent)
        check_reason(reason)
        with self._context.reading() as fold:
            ref = ModelRef(bare, version=canary_meant(fold, model_id_of(fold, bare), version, is_end=share == 0))
        if share == 0:
            return self._end_canary(ref, reason)
        self._check_bytes(ref)
        return self._run("traffic", Wish(ref, PRODUCTION, share, override, reason, by_traffic=True))

    def _end_canary(self, ref: ModelRef, reason: str | None) -> Promotion:
        def work(tx: Transaction) -> _Done:
            version_id, model_id, number, *_ = version_row(tx.fold, ref)
            if production.set_canary(tx, model_id, version_id, 0.0, reason=reason) is None:
                raise ConflictError(f"{ref} is no canary any more", hint="`headwater deployments` lists what serves")
            tx.fence(model_id)
            tx.subject = str(ref)
            tx.message = f"end the canary {ref}{because(reason)}"
            now = stage_of(tx.fold, version_id)
            return _Done(name_of(tx.fold, model_id), number, version_id, now, 0.0, None, tx.micros)

        landing = self._context.write("traffic", work)
        return self._promotion(landing.result, landing.commit, reason, overridden=False)

    # -- rolling back -------------------------------------------------------------------------------------------
    def rollback(
        self, name: str, to: int | None = None, *, reason: str | None = None, failed: str | None = None
    ) -> Promotion:
        """Bring the version back that was in production before. See `Registry.rollback`.

        Args:
            name: The model.
            to: The version, if another.
            reason: Why.
            failed: The deployment that is to serve no more. Where it does not serve by then, somebody else was faster,
                and to roll back once more would be to roll back what they chose.
        """
        bare = bare_model(name)
        check_reason(reason)

        def work(tx: Transaction) -> _Done:
            fold = tx.fold
            model_id = model_id_of(fold, bare)
            version_id = target_of(fold, model_id, to) if failed is None else instead_of(fold, model_id, failed)
            number = number_of(fold, version_id)
            self._check_there(fold, version_id, f"{quote(bare)}/{number}")
            before = next((each for each in production.live_in(fold, model_id) if each != version_id), None)
            canaries = production.canaries_of(fold, model_id)
            written = production.put_in_production(tx, model_id, version_id, reason=reason, alone=True)
            if written is None:
                raise ConflictError(
                    f"{quote(bare)}/{number} is in production already, and gets all requests",
                    hint="`headwater rollback NAME --to VERSION` names another one",
                )
            left = before or (canaries[-1]["version_id"] if canaries else None)
            previous = number_of(fold, left) if left is not None else None
            tx.fence(model_id)
            tx.subject = f"{quote(bare)}/{number}"
            gone = f" from {previous}" if previous is not None else ""
            tx.message = f"roll back {quote(bare)} to {number}{gone}{because(reason)}"
            return _Done(name_of(fold, model_id), number, version_id, PRODUCTION, 100.0, previous, tx.micros)

        landing = self._context.write("rollback", work)
        return self._promotion(landing.result, landing.commit, reason, overridden=False)

    def _check_there(self, fold: Fold, version_id: str, reference: str) -> None:
        """Make sure that the files of a version are there, without reading them.

        Raises:
            ConflictError: One is not.
            IntegrityError: The version is not what was registered.
        """
        check_genuine(fold, version_id, reference, vouched=True)
        row = json.loads(fold.one("SELECT row FROM versions WHERE version_id = ?", version_id)[0])
        if row["path"] is None:
            return
        for file in files_of(fold, version_id)[:_LOOKED_FOR]:
            try:
                self._context.lake.stat(fold.commit, row["path"] + file.path)
            except NotFoundError:
                raise ConflictError(
                    f"{reference} can't come back: its {shown(file.path)} is gone",
                    hint="`headwater rollback NAME --to VERSION` names another one",
                ) from None

    # -- how ----------------------------------------------------------------------------------------------------
    def _run(self, kind: str, wish: Wish) -> Promotion:
        """Decide outside the transaction, then again inside it, and land what was decided or record the refusal."""
        memo: dict[Any, Any] = {} if self._measured is None else self._measured
        try:
            self._context.check_writable()
            with self._context.reading() as fold:
                decide(self._context, fold, wish, memo)
                seen = in_production(fold, wish)

            def work(tx: Transaction) -> _Done:
                check_unmoved(tx.fold, wish, seen)
                return self._work(tx, wish, memo)

            landing = self._context.write(kind, work)
        except RefusedError as error:
            self._record(error.evaluation, wish)
            raise
        return self._promotion(landing.result, landing.commit, wish.reason, overridden=wish.override is not None)

    def _work(self, tx: Transaction, wish: Wish, memo: dict[Any, Any]) -> _Done:
        fold = tx.fold
        evaluation = decide(self._context, fold, wish, memo)
        version_id, model_id, number, *_ = version_row(fold, wish.ref)
        name = name_of(fold, model_id)
        reference = f"{quote(name)}/{number}"
        tx.fence(model_id)
        tx.fence_all()
        if evaluation is not None:
            gates.write_results(tx, evaluation)
            if wish.override is not None:
                tx.event(version_id, "override", wish.override, key=wish.to)
        takes_over = wish.to == PRODUCTION and not wish.is_canary
        before = production_before(fold, model_id, version_id) if takes_over else None
        previous = number_of(fold, before) if before is not None else None
        was = f", was {previous}" if previous is not None else ""
        share: float | None = None
        tx.subject = reference
        if wish.to != PRODUCTION:
            tx.event(version_id, "stage", wish.to, reason=wish.reason)
            tx.message = f"stage {reference} {wish.to}"
        elif wish.is_canary:
            assert wish.percent is not None
            production.set_canary(
                tx, model_id, version_id, wish.percent, reason=wish.reason, deployment_id=wish.deployment_id
            )
            share = wish.percent
            tx.message = f"promote {reference} to production with {share:g} %"
            if wish.deployment_id is not None:
                tx.message = f"deploy {reference} to production, canary with {share:g} %"
            elif wish.by_traffic:
                tx.message = f"give {reference} {share:g} % of production's requests"
        else:
            made = production.put_in_production(
                tx,
                model_id,
                version_id,
                reason=wish.reason,
                deployment_id=wish.deployment_id,
                straight=wish.straight,
            )
            if made is None and wish.reason is not None:
                tx.event(model_id, "alias", version_id, key=CHAMPION, reason=wish.reason)
            share = 100.0 - sum(
                each["percent"] for each in production.canaries_of(fold, model_id) if each["version_id"] != version_id
            )
            check_share(wish, share)
            tx.message = f"promote {reference} to production{was}"
            if wish.deployment_id is not None:
                tx.message = f"deploy {reference} to production, live"
            elif wish.by_alias:
                tx.subject = f"{quote(name)}@{CHAMPION}"
                tx.message = f"alias {quote(name)}@{CHAMPION} is version {number}{was}"
        if wish.override is not None:
            tx.message += f", OVERRIDE: {wish.override}"
        tx.message += because(wish.reason)
        if not tx.rows:
            tx.objects.clear()
        stage = wish.to if not wish.is_canary else stage_of(fold, version_id)
        stage = "staging" if wish.is_canary and stage in production.STAGED_AS_CANARY else stage
        results = evaluation.results if evaluation is not None else ()
        return _Done(name, number, version_id, stage, share, previous, tx.micros, results)

    def _record(self, evaluation: Evaluation, wish: Wish) -> None:
        """Write that gates refused a version; whoever may not write that either is told of the refusal alone."""

        def work(tx: Transaction) -> None:
            gates.write_results(tx, evaluation)
            failed = [each.gate for each in evaluation.failed]
            value = {"gates": failed, "commit": evaluation.commit, "policy": evaluation.policy}
            tx.event(evaluation.version_id, "refusal", json.dumps(value), key=evaluation.stage, reason=wish.reason)
            tx.subject = f"{quote(evaluation.name)}/{evaluation.version}"
            tx.message = f"refuse {tx.subject} for {evaluation.stage}: {', '.join(failed)}"

        with contextlib.suppress(HeadwaterError):
            self._context.write("refuse", work)

    def _promotion(self, done: _Done, commit: str | None, reason: str | None, *, overridden: bool) -> Promotion:
        micros = done.micros
        with self._context.reading() as fold:
            if commit is None:
                # Nothing was to be done: then it is what made it so.
                row = fold.one(
                    "SELECT c.id, e.recorded_at FROM events e JOIN commits c ON c.tx = e.tx"
                    " WHERE e.subject = ? AND e.kind = 'stage' AND e.standing ORDER BY e.event_id DESC",
                    done.version_id,
                )
                commit, micros = row if row is not None else (fold.commit, micros)
        return Promotion(
            name=done.name,
            version=done.number,
            version_id=done.version_id,
            stage=done.stage,
            traffic=done.traffic,
            previous=done.previous,
            commit=str(commit),
            recorded_at=from_micros(micros),
            actor=self._context.actor,
            reason=reason,
            overridden=overridden,
            results=done.results,
        )
