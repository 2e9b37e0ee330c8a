"""What decides on a promotion: transitions, gates, shares, and what a rollback goes back to; only reads a state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from headwater import gates, production
from headwater.context import Context
from headwater.errors import ConflictError, GateFailedError, InvalidInputError, NotFoundError
from headwater.genuine import check_genuine
from headwater.governance_model import Evaluation
from headwater.lookup import name_of, version_row
from headwater.names import ModelRef, counted, quote, shown
from headwater.production import LEGAL, PRODUCTION, STAGES, production_of, stage_of
from headwater.state import Fold

__all__ = [
    "RefusedError",
    "Wish",
    "canary_meant",
    "check_percent",
    "check_serves_not",
    "check_share",
    "check_transition",
    "check_unmoved",
    "decide",
    "in_production",
    "instead_of",
    "number_of",
    "production_before",
    "share_of",
    "target_of",
]


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
class Wish:
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


def decide(context: Context, fold: Fold, wish: Wish, memo: dict[Any, Any]) -> Evaluation | None:
    """Return what the gates found; None where there is nothing to ask.

    Raises:
        RefusedError: A gate did not pass, and no override was given.
        GateFailedError: The stage can't be entered from the one that the version is in.
        ConflictError: It would be a canary beside nothing.
        IntegrityError: The version is not what was registered.
    """
    version_id, model_id, number, *_ = version_row(fold, wish.ref)
    is_ruled = production.ruled(fold, model_id)
    now = stage_of(fold, version_id)
    reference = f"{quote(name_of(fold, model_id))}/{number}"
    check_genuine(fold, version_id, reference, vouched=True)
    by_deployment = wish.by_alias or wish.deployment_id is not None
    if wish.straight and now in production.UNSTAGED:
        staged = gates.evaluate(context, fold, version_id=version_id, stage="staging", traffic=None, memo=memo)
        if not staged.passed:
            raise RefusedError(staged)
    elif is_ruled or not (by_deployment or wish.by_traffic):
        check_transition(reference, now, wish.to)
    if wish.to == "archived" and now != wish.to:
        check_serves_not(fold, model_id, version_id, reference)
    if wish.is_canary and (is_ruled or not by_deployment):
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
    if wish.is_canary and share is not None and share <= share_of(fold, model_id, version_id):
        return None  # it gets no more than it has
    evaluation = gates.evaluate(context, fold, version_id=version_id, stage=wish.to, traffic=share, memo=memo)
    if not evaluation.passed and wish.override is None:
        raise RefusedError(evaluation)
    return evaluation if evaluation.results or wish.override is not None else None


def in_production(fold: Fold, wish: Wish) -> set[str]:
    """Return the versions that are in production of the model that a wish is about."""
    return set(production.live_in(fold, version_row(fold, wish.ref)[1]))


def check_unmoved(fold: Fold, wish: Wish, seen: set[str]) -> None:
    """Make sure that a promotion takes the place of what whoever asked for it saw there.

    Raises:
        ConflictError: Somebody else's promotion landed first.
    """
    now = in_production(fold, wish)
    asked = wish.to == PRODUCTION and not wish.by_alias and wish.deployment_id is None
    if asked and now != seen:
        model_id = version_row(fold, wish.ref)[1]
        name = quote(name_of(fold, model_id))
        there = " and ".join(f"{name}/{number_of(fold, each)}" for each in sorted(now)) or "nothing"
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


def check_serves_not(fold: Fold, model_id: str, version_id: str, reference: str) -> None:
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
    there = [*production.live_in(fold, model_id), *production.champions_of(fold, model_id)]
    return next((each for each in there if each != version_id), None)


def share_of(fold: Fold, model_id: str, version_id: str) -> float:
    """Return the percentage of requests that a version's canary gets; 0 where it is none."""
    found = [each for each in production.canaries_of(fold, model_id) if each["version_id"] == version_id]
    return float(found[-1]["percent"]) if found else 0.0


def check_share(wish: Wish, share: float) -> None:
    """Make sure that a live version gets the share that somebody named.

    Raises:
        InvalidInputError: It does not.
    """
    if wish.given is not None and wish.given != share:
        raise InvalidInputError(
            f"the live version gets what canaries leave, {share:g} %, not {wish.given:g}",
            hint=f"a part of the requests goes to a canary: --mode canary --traffic {wish.given:g}",
        )


def canary_meant(fold: Fold, model_id: str, version: int | None, *, is_end: bool) -> int:
    """Return the number of the canary that is meant, or of the challenger that becomes one, unless it is to end."""
    name = quote(name_of(fold, model_id))
    found = [number_of(fold, each["version_id"]) for each in production.canaries_of(fold, model_id)]
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
    return sorted(number_of(fold, each) for each in values if each != current)


def target_of(fold: Fold, model_id: str, to: int | None) -> str:
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


def instead_of(fold: Fold, model_id: str, failed: str) -> str:
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
        return target_of(fold, model_id, None) if mode != "live" else _before(fold, model_id)
    except NotFoundError as error:
        # Whoever looks after what serves can't bring back what is not there, and looks again.
        raise ConflictError(error.message, hint=error.hint) from None


def number_of(fold: Fold, version_id: str) -> int:
    """Return the number of a version."""
    return int(fold.one("SELECT version FROM versions WHERE version_id = ?", version_id)[0])
