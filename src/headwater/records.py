"""The service for what people record of a version: checks, approvals, and whether its card is complete."""

from __future__ import annotations

import builtins
import json

from headwater import gate_records
from headwater.context import Context
from headwater.errors import InvalidInputError, NotFoundError, PermissionDeniedError
from headwater.governance_model import Approval, CardCheck, Check
from headwater.ids import from_micros
from headwater.lookup import name_of, version_row
from headwater.names import because, check_label, check_reason, check_text, parse_model, quote, shown
from headwater.policy import STAGES
from headwater.sealing import principal_of
from headwater.state import Fold
from headwater.transaction import Transaction

__all__ = ["Records"]

_LONGEST = 10_000
_SCHEMES = ("https://", "http://")


class Records:
    """The service for checks, approvals and cards.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- checks -------------------------------------------------------------------------------------------------
    def record(
        self, reference: str, name: str, *, passed: bool, url: str | None = None, detail: str | None = None
    ) -> Check:
        """Record a named result for a version. See `Registry.record_check`."""
        ref = parse_model(reference)
        check_label(name, "check")
        if not isinstance(passed, bool):
            raise InvalidInputError(f"not a result: {shown(repr(passed))}", hint="give passed=True or passed=False")
        if url is not None and (len(url) > _LONGEST or not check_text(url, "URL").startswith(_SCHEMES)):
            raise InvalidInputError(f"not a URL: {shown(url)}", hint="begin it with https:// or http://")
        check_reason(detail, "detail")
        value = json.dumps({"passed": passed, "url": url, "detail": detail}, ensure_ascii=False)

        def work(tx: Transaction) -> str:
            version_id, model_id, number, *_ = version_row(tx.fold, ref)
            tx.event(version_id, "check", value, key=name)
            tx.fence(model_id)
            tx.subject = f"{quote(name_of(tx.fold, model_id))}/{number}"
            tx.message = f"check {name} of {tx.subject} {'passed' if passed else 'failed'}"
            return str(version_id)

        version_id = self._context.write("check", work).result
        with self._context.reading() as fold:
            return _checks(fold, version_id, name)[0]

    def checks(self, reference: str) -> list[Check]:
        """Return what was recorded for a version, by name. See `Registry.checks`."""
        with self._context.reading() as fold:
            return _checks(fold, version_row(fold, parse_model(reference))[0])

    # -- approvals ----------------------------------------------------------------------------------------------
    def approve(self, reference: str, to: str, *, withdraw: bool = False, reason: str | None = None) -> Approval:
        """Say that a version may enter a stage, or take that back. See `Registry.approve`."""
        ref = parse_model(reference)
        if to not in STAGES:
            raise InvalidInputError(f"nothing is approved for {shown(to)}", hint=f"choose {', '.join(STAGES)}")
        check_reason(reason)
        branch = gate_records.branch_of(self._context)

        def work(tx: Transaction) -> tuple[str, str]:
            version_id, model_id, number, *_ = version_row(tx.fold, ref)
            principal = self._principal(tx.fold)
            reference = f"{quote(name_of(tx.fold, model_id))}/{number}"
            mine = [
                each
                for each in gate_records.approvals_of(tx.fold, version_id, to)
                if (each["principal"], each["branch"]) == (principal, branch) and each["given"]
            ]
            if withdraw and not mine:
                raise NotFoundError(
                    f"{self._context.actor} has given no approval of {reference} for {to} on {branch}",
                    hint=f"`headwater approvals {reference}` lists them",
                )
            if not withdraw and self._context.actor in gate_records.authors_of(tx.fold, version_id):
                raise PermissionDeniedError(
                    f"{self._context.actor} made {reference}, and nobody approves what he made himself",
                    hint="ask somebody else",
                )
            if not withdraw and reason is None and mine:
                return str(version_id), principal
            value = {"given": not withdraw, "branch": branch}
            tx.event(version_id, "approval", json.dumps(value), key=f"{to} {principal}", reason=reason)
            tx.fence(model_id)
            tx.subject = reference
            done = f"withdraw the approval of {reference} for" if withdraw else f"approve {reference} for"
            tx.message = f"{done} {to}{because(reason)}"
            return str(version_id), principal

        version_id, principal = self._context.write("approve", work).result
        with self._context.reading() as fold:
            wanted = (to, principal, branch)
            every = _approvals(fold, version_id)
            return next(each for each in every if (each.stage, each.principal, each.branch) == wanted)

    def _principal(self, fold: Fold) -> str:
        """Return as whom the actor approves: as the key that signs, which may be one of several of his."""
        writer = self._context.writer
        if fold.signed and writer.only is None:
            return writer.signer(self._context.actor).key_id
        return principal_of(fold, self._context.actor)

    def approvals(self, reference: str) -> builtins.list[Approval]:
        """Return what people said of a version, oldest first. See `Registry.approvals`."""
        with self._context.reading() as fold:
            return _approvals(fold, version_row(fold, parse_model(reference))[0])

    # -- cards --------------------------------------------------------------------------------------------------
    def check_card(self, reference: str) -> CardCheck:
        """Return what a version's card says, and what it lacks. See `Registry.check_card`."""
        with self._context.reading() as fold:
            return gate_records.card_of(self._context, fold, version_row(fold, parse_model(reference))[0])


def _checks(fold: Fold, version_id: str, name: str | None = None) -> list[Check]:
    model_id, number = fold.one("SELECT model_id, version FROM versions WHERE version_id = ?", version_id)
    model = name_of(fold, model_id)
    return [
        Check(
            name=model,
            version=number,
            version_id=version_id,
            model_id=model_id,
            check=key,
            check_name=key,
            passed=said["passed"],
            url=said["url"],
            detail=said["detail"],
            commit=said["commit"],
            recorded_at=from_micros(said["micros"]),
            actor=said["actor"],
        )
        for key, said in gate_records.checks_of(fold, version_id, name).items()
    ]


def _approvals(fold: Fold, version_id: str) -> list[Approval]:
    model_id, number = fold.one("SELECT model_id, version FROM versions WHERE version_id = ?", version_id)
    name = name_of(fold, model_id)
    return [
        Approval(
            name=name,
            version=number,
            version_id=version_id,
            model_id=model_id,
            stage=said["stage"],
            principal=said["principal"],
            given=said["given"],
            branch=said["branch"],
            commit=said["commit"],
            recorded_at=from_micros(said["micros"]),
            actor=said["actor"],
            reason=said["reason"],
        )
        for said in gate_records.approvals_of(fold, version_id)
    ]
