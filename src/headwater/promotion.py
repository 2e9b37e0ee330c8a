"""Promotion: which version may enter which stage, and who serves; every way into production goes through here.

A promotion is checked twice: before the transaction, so that what takes long is measured while others can write, and
again inside it, on the head that it lands on. What is written is `headwater.production`'s matter.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headwater import gates, production
from headwater.context import Context
from headwater.errors import ConflictError, GateFailedError, HeadwaterError, InvalidInputError, NotFoundError
from headwater.genuine import check_genuine
from headwater.governance_model import Evaluation, GateResult, Promotion
from headwater.ids import from_micros
from headwater.lookup import files_of, model_id_of, name_of, version_row
from headwater.names import ModelRef, bare_model, because, check_reason, check_text, counted, parse_model, quote, shown
from headwater.production import CHAMPION, LEGAL, PRODUCTION, STAGES, production_of, stage_of
from headwater.state import Fold
from headwater.transaction import Transaction
from headwater.versions import Versions

__all__ = ["Promotions", "RefusedError", "check_percent", "check_transition", "refused"]

_LOOKED_FOR = 100
"""Files of an artifact up to which a rollback looks whether they are there; whoever loads them checks their bytes."""


_READ_AT_ONCE = 64 << 20
"""Bytes of an artifact that are read before it goes into production, also where nobody asked for gates."""


class RefusedError(GateFailedError):
    """Gates did not pass; nothing was promoted, and the refusal was recorded.

    Attributes:
        evaluation: What each gate found.
    """

    def __init__(self, evaluation: Evaluation) -> None:
        failed = evaluation.failed
        told = "; ".join(f"{each.gate}: required {each.required}, found {each.found}" for each in failed[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        reference = f"{quote(evaluation.name)}/{evaluation.version}"
        super().__init__(
            f"{counted(len(failed), 'gate')} of {len(evaluation.results)} refused {reference} for {evaluation.stage}:"
            f" {told}{more}",
            hint=f"`headwater gates check {reference} --to {evaluation.stage}` shows all of them",
        )
        self.evaluation = evaluation


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
        return self._run(kind, _Wish(ref, to, percent, override, reason, straight=straight))

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
        self._run("alias", _Wish(ref, PRODUCTION, None, None, reason, by_alias=True))

    def deploy(
        self, reference: str, *, percent: float | None, canary: bool, deployment_id: str, reason: str | None
    ) -> None:
        """Deploy a version to production, live or as a canary: the same as to promote it."""
        ref = parse_model(reference)
        self._check_bytes(ref, quickly=True)
        share = percent if canary else None
        wish = _Wish(ref, PRODUCTION, share, None, reason, deployment_id=deployment_id, given=percent)
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
            ref = ModelRef(bare, version=_canary(fold, model_id_of(fold, bare), version, is_end=share == 0))
        if share == 0:
            return self._end_canary(ref, reason)
        self._check_bytes(ref)
        return self._run("traffic", _Wish(ref, PRODUCTION, share, override, reason, by_traffic=True))

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
            version_id = _target(fold, model_id, to) if failed is None else _instead_of(fold, model_id, failed)
            number = _number(fold, version_id)
            self._check_there(fold, version_id, f"{quote(bare)}/{number}")
            live = [each for each in production.serving_in(fold, model_id) if each["mode"] == "live"]
            before = next((each["version_id"] for each in live if each["version_id"] != version_id), None)
            canaries = production.canaries_of(fold, model_id)
            written = production.put_in_production(tx, model_id, version_id, reason=reason, alone=True)
            if written is None:
                raise ConflictError(
                    f"{quote(bare)}/{number} is in production already, and gets all requests",
                    hint="`headwater rollback NAME --to VERSION` names another one",
                )
            left = before or (canaries[-1]["version_id"] if canaries else None)
            previous = _number(fold, left) if left is not None else None
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
    def _run(self, kind: str, wish: _Wish) -> Promotion:
        """Decide outside the transaction, then again inside it, and land what was decided or record the refusal."""
        memo: dict[Any, Any] = {} if self._measured is None else self._measured
        try:
            self._context.check_writable()
            with self._context.reading() as fold:
                _decide(self._context, fold, wish, memo)
                seen = _in_production(fold, wish)

            def work(tx: Transaction) -> _Done:
                _check_unmoved(tx.fold, wish, seen)
                return self._work(tx, wish, memo)

            landing = self._context.write(kind, work)
        except RefusedError as error:
            self._record(error.evaluation, wish)
            raise
        return self._promotion(landing.result, landing.commit, wish.reason, overridden=wish.override is not None)

    def _work(self, tx: Transaction, wish: _Wish, memo: dict[Any, Any]) -> _Done:
        fold = tx.fold
        evaluation = _decide(self._context, fold, wish, memo)
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
        previous = _number(fold, before) if before is not None else None
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
            _check_share(wish, share)
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

    def _record(self, evaluation: Evaluation, wish: _Wish) -> None:
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
                    " WHERE e.subject = ? AND e.kind IN ('stage') AND e.standing ORDER BY e.event_id DESC",
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


@dataclass(frozen=True, slots=True)
class _Wish:
    """What somebody wants to enter where, and by which command."""

    ref: ModelRef
    to: str
    percent: float | None
    override: str | None
    reason: str | None
    by_alias: bool = False
    by_traffic: bool = False
    straight: bool = False
    deployment_id: str | None = None
    given: float | None = None
    """Of a live deployment: the share that somebody named."""

    @property
    def is_canary(self) -> bool:
        """Whether it is to get a part of the requests beside the version in production."""
        if self.percent is None:
            return False
        return self.percent < 100 or self.deployment_id is not None


def _decide(context: Context, fold: Fold, wish: _Wish, memo: dict[Any, Any]) -> Evaluation | None:
    """Return what the gates found; None where there is nothing to ask.

    Raises:
        RefusedError: A gate did not pass, and no override was given.
        GateFailedError: The stage can't be entered from the one that the version is in.
        ConflictError: It would be a canary beside nothing.
        IntegrityError: The version is not what was registered.
    """
    version_id, model_id, number, *_ = version_row(fold, wish.ref)
    is_governed = production.ruled(fold, model_id)
    now = stage_of(fold, version_id)
    reference = f"{quote(name_of(fold, model_id))}/{number}"
    check_genuine(fold, version_id, reference, vouched=True)
    by_deployment = wish.by_alias or wish.deployment_id is not None
    if wish.straight and now in ("none", "development"):
        staged = gates.evaluate(context, fold, version_id=version_id, stage="staging", traffic=None, memo=memo)
        if not staged.passed:
            raise RefusedError(staged)
    elif is_governed or not (by_deployment or wish.by_traffic):
        check_transition(reference, now, wish.to)
    if wish.to == "archived" and now != wish.to:
        _check_serves_not(fold, model_id, version_id, reference)
    if wish.is_canary and (is_governed or not by_deployment):
        current = production_of(fold, model_id)
        if current is None:
            raise ConflictError(
                f"{reference} would be a canary beside nothing: no version is in production",
                hint=f"`headwater promote {reference} --to production` gives it all requests",
            )
        if current == version_id:
            raise ConflictError(f"{reference} is in production already", hint="a canary is another version")
    if now == wish.to and not wish.is_canary:
        return None
    share = wish.percent if wish.percent is not None else (100.0 if wish.to == PRODUCTION else None)
    if wish.is_canary and share is not None and share <= _share_of(fold, model_id, version_id):
        return None  # it gets no more than it has
    evaluation = gates.evaluate(context, fold, version_id=version_id, stage=wish.to, traffic=share, memo=memo)
    if not evaluation.passed and wish.override is None:
        raise RefusedError(evaluation)
    return evaluation if evaluation.results or wish.override is not None else None


def _in_production(fold: Fold, wish: _Wish) -> set[str]:
    """Return the versions that are in production of the model that a wish is about."""
    return production.faces(fold, version_row(fold, wish.ref)[1])["traffic"]


def _check_unmoved(fold: Fold, wish: _Wish, seen: set[str]) -> None:
    """Make sure that a promotion takes the place of what whoever asked for it saw there.

    Raises:
        ConflictError: Somebody else's promotion landed first.
    """
    now = _in_production(fold, wish)
    asked = wish.to == PRODUCTION and not wish.by_alias and wish.deployment_id is None
    if asked and now != seen:
        model_id = version_row(fold, wish.ref)[1]
        name = quote(name_of(fold, model_id))
        there = " and ".join(f"{name}/{_number(fold, each)}" for each in sorted(now)) or "nothing"
        raise ConflictError(
            f"somebody else decided first: {there} is in production of {name} now",
            hint=f"`headwater history {name}` tells who did; promote again if that is to be replaced",
        )


def check_transition(reference: str, now: str, to: str) -> None:
    """Make sure that a version may enter a stage by hand from the one that it is in; the one that it is in, always.

    Raises:
        GateFailedError: It may not.
    """
    if now == to or to in LEGAL[now]:
        return
    name = reference.rpartition("/")[0]
    if now == "archived" and to == PRODUCTION:
        hint = f"`headwater rollback {name} --to {reference.rpartition('/')[2]}` brings back what was in production"
    elif now == PRODUCTION:
        hint = f"promote another version, or `headwater rollback {name}`"
    elif to == PRODUCTION:
        hint = f"`headwater stage {reference} staging` comes first"
    else:
        allowed = [each for each in STAGES if each in LEGAL[now]]
        hint = f"from {now} a version enters {' or '.join(allowed)}" if allowed else f"nothing is entered from {now}"
    where = "in no stage" if now == "none" else f"in {now}" if now != "archived" else "archived"
    raise GateFailedError(f"{reference} is {where}, and can't enter {to} from there", hint=hint)


def _check_serves_not(fold: Fold, model_id: str, version_id: str, reference: str) -> None:
    """Make sure that a version which is to be put aside answers no requests in production.

    Raises:
        GateFailedError: It does, live or as a canary.
    """
    found = next(
        (
            each
            for each in production.serving_in(fold, model_id)
            if each["version_id"] == version_id and each["mode"] in ("live", "canary")
        ),
        None,
    )
    if found is None:
        return
    name = reference.rpartition("/")[0]
    if found["mode"] == "live":
        hint = f"promote another version, or `headwater rollback {name}`"
    else:
        several = len({each["version_id"] for each in production.canaries_of(fold, model_id)}) > 1
        which = f" --version {reference.rpartition('/')[2]}" if several else ""
        hint = f"`headwater traffic {name} 0{which}` ends it as a canary"
    raise GateFailedError(
        f"{reference} gets {found['percent']:g} % of production's requests, and can't be archived", hint=hint
    )


def check_percent(percent: object) -> float:
    """Return a share of requests, in percent.

    Raises:
        InvalidInputError: It is no number from 0 to 100.
    """
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not math.isfinite(percent):
        raise InvalidInputError(f"not a percentage: {shown(repr(percent))}", hint="give a number from 0 to 100")
    if not 0 <= percent <= 100:
        raise InvalidInputError(f"not a percentage: {percent:g}", hint="give a number from 0 to 100")
    return float(percent)


def production_before(fold: Fold, model_id: str, version_id: str) -> str | None:
    """Return the version in production that another one would take the place of."""
    live = [each["version_id"] for each in production.serving_in(fold, model_id) if each["mode"] == "live"]
    live += [value for _, value in fold.standing(model_id, "alias", CHAMPION) if value is not None]
    return next((each for each in live if each != version_id), None)


def refused(error: GateFailedError) -> Mapping[str, Any] | None:
    """Return what the gates found, where an error tells."""
    evaluation = getattr(error, "evaluation", None)
    return None if evaluation is None else {"results": evaluation.results}


def _share_of(fold: Fold, model_id: str, version_id: str) -> float:
    found = [each for each in production.canaries_of(fold, model_id) if each["version_id"] == version_id]
    return float(found[-1]["percent"]) if found else 0.0


def _check_share(wish: _Wish, share: float) -> None:
    if wish.given is not None and wish.given != share:
        raise InvalidInputError(
            f"the live version gets what canaries leave, {share:g} %, not {wish.given:g}",
            hint=f"a part of the requests goes to a canary: --mode canary --traffic {wish.given:g}",
        )


def _canary(fold: Fold, model_id: str, version: int | None, *, is_end: bool) -> int:
    """Return the number of the canary that is meant, or of the challenger that becomes one, unless it is to end."""
    name = quote(name_of(fold, model_id))
    found = [_number(fold, each["version_id"]) for each in production.canaries_of(fold, model_id)]
    challengers = [] if is_end else _challengers(fold, model_id)
    if is_end and not found:
        raise NotFoundError(f"{name} has no canary to end", hint="`headwater deployments` lists what serves")
    if version is not None:
        if version in found or version in challengers:
            return version
        raise NotFoundError(
            f"{name}/{version} is no canary", hint=f"`headwater promote {name}/{version} --to production --traffic 5`"
        )
    chosen = found or challengers
    if not chosen:
        raise NotFoundError(
            f"{name} has no canary whose traffic could be set",
            hint=f"`headwater promote {name}/VERSION --to production --traffic 5` begins with one",
        )
    if len(chosen) > 1:
        numbers = " and ".join(str(each) for each in chosen)
        raise InvalidInputError(f"versions {numbers} of {name} are canaries", hint="say which: --version N")
    return chosen[0]


def _challengers(fold: Fold, model_id: str) -> list[int]:
    values = {value for _, value in fold.standing(model_id, "alias", production.CHALLENGER) if value is not None}
    current = production_of(fold, model_id)
    return sorted(_number(fold, each) for each in values if each != current)


def _target(fold: Fold, model_id: str, to: int | None) -> str:
    """Return the version that a rollback goes back to.

    With a canary beside it that is the version in production itself, which gets all requests again.
    """
    name = quote(name_of(fold, model_id))
    if to is not None:
        row = fold.one("SELECT version_id FROM versions WHERE model_id = ? AND version = ?", model_id, to)
        if row is None or not production.is_there(fold, row[0]):
            raise NotFoundError(f"there is no version {name}/{to}", hint=f"`headwater versions {name}` lists them")
        if not production.was_in(fold, model_id, row[0]):
            raise GateFailedError(
                f"{name}/{to} was never in production, and only what was can be rolled back to: no gate is asked",
                hint=f"`headwater promote {name}/{to} --to production` asks its gates",
            )
        return str(row[0])
    current = production_of(fold, model_id)
    if current is not None and production.canaries_of(fold, model_id):
        return current
    return _before(fold, model_id)


def _before(fold: Fold, model_id: str) -> str:
    """Return the version that was in production before the one that is.

    Raises:
        NotFoundError: There is none that can come back.
    """
    current = production_of(fold, model_id)
    # Where nothing is in production, the last that was comes back.
    for version_id in reversed(production.entered(fold, model_id)):
        if version_id != current and production.is_there(fold, version_id):
            return version_id
    raise NotFoundError(
        f"there is nothing to roll {quote(name_of(fold, model_id))} back to: no other version was in production before",
        hint=f"`headwater history {quote(name_of(fold, model_id))}` tells its story",
    )


def _instead_of(fold: Fold, model_id: str, failed: str) -> str:
    """Return the version that gets all requests where a deployment failed.

    Raises:
        ConflictError: The deployment serves no more, or nothing else was in production before.
    """
    serving = production.serving_in(fold, model_id)
    mode = next((each["mode"] for each in serving if each["deployment_id"] == failed), None)
    if mode is None:
        raise ConflictError(
            f"deployment {failed} of {quote(name_of(fold, model_id))} serves no more",
            hint="`headwater deployments` lists what serves",
        )
    try:
        return _target(fold, model_id, None) if mode != "live" else _before(fold, model_id)
    except NotFoundError as error:
        # Whoever looks after what serves can't bring back what is not there, and looks again.
        raise ConflictError(error.message, hint=error.hint) from None


def _number(fold: Fold, version_id: str) -> int:
    return int(fold.one("SELECT version FROM versions WHERE version_id = ?", version_id)[0])
