"""Undoing a transaction, or all that a merge brought, by new events: no row and no file is taken back.

Undoing the undoing is no other thing, and brings everything back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from headwater import production
from headwater.brought import Brought, brought_by
from headwater.context import Context
from headwater.errors import ConflictError, GateFailedError, InvalidInputError
from headwater.lookup import name_of
from headwater.names import check_text, quote
from headwater.production import CHAMPION, PRODUCTION
from headwater.reverts import REVERTED
from headwater.state import Fold
from headwater.subjects import model_of
from headwater.tombstones import HIDDEN
from headwater.transaction import Transaction
from headwater.undo_plan import Plan, Reverted

__all__ = ["Revert", "Reverted", "Undoing"]


@dataclass(frozen=True, slots=True)
class Revert:
    """What a revert came to, or would come to.

    Attributes:
        commit: The revert's commit; None where nothing was written.
        undone: The commit of what it undid.
        message: What the log says of that.
        transactions: How many transactions it undid: more than one for a merge.
        changes: What it changed.
        dependents: What rests on something that is hidden now, in words.
        reason: Why.
        dry_run: Whether it was only asked for.
    """

    commit: str | None
    undone: str
    message: str
    transactions: int
    changes: tuple[Reverted, ...]
    dependents: tuple[str, ...]
    reason: str | None = None
    dry_run: bool = False


class Undoing:
    """The service that undoes transactions.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def revert(self, ref: str, *, reason: str | None = None, force: bool = False, dry_run: bool = False) -> Revert:
        """Undo what a commit brought. See `Registry.revert`."""
        context = self._context
        context.check_writable()
        if reason is not None and len(check_text(reason, "reason")) > 10_000:
            raise InvalidInputError(f"the reason has {len(reason)} characters, and 10000 are allowed")
        commit = context.folds.resolve(ref).commit

        def decide(fold: Fold) -> tuple[Brought, Plan, Revert]:
            found = brought_by(fold, commit, context.branch)
            plan = Plan(context.lake, fold, found)
            plan.check()
            _check_production(fold, plan)
            if plan.dependents and not force and not dry_run:
                raise _rested_on(found, plan.dependents)
            done = Revert(
                None,
                found.commit,
                found.message,
                len(found.transactions),
                tuple(plan.told()),
                tuple(plan.dependents),
                reason,
                dry_run,
            )
            return found, plan, done

        def work(tx: Transaction) -> Revert:
            found, plan, done = decide(tx.fold)
            for write in plan.writes:
                subject, kind, key = write.place
                for value in write.values:
                    tx.event(subject, kind, value, key=key, reason=reason, prev=write.prev)
            for model_id in plan.models():
                tx.fence(model_id)
            tx.subject = found.commit[:12]
            tx.message = f"revert {found.commit[:8]}: {found.message}" + (f": {reason}" if reason else "")
            tx.metadata = {REVERTED: found.tx}
            return done

        if dry_run:
            with context.reading() as fold:
                return decide(fold)[2]
        landing = context.write("revert", work)
        return replace(landing.result, commit=landing.commit)


def _check_production(fold: Fold, plan: Plan) -> None:
    """Make sure that what is in production of a model with gates or roles stays there: a revert asks none of them.

    Raises:
        GateFailedError: It would change.
    """
    for write in plan.writes:
        subject, kind, key = write.place
        model_id = model_of(fold, subject)
        if model_id is None or not production.governed(fold, model_id):
            continue
        changes = (kind, key) in (("alias", CHAMPION), ("traffic", PRODUCTION))
        changes |= kind == "stage" and PRODUCTION in (*write.values, *write.before)
        if kind == "tombstone" and HIDDEN in write.values:
            serving = {each["version_id"] for each in production.serving_in(fold, model_id)}
            changes |= subject in serving or (subject == model_id and bool(serving))
        if changes:
            name = quote(name_of(fold, model_id))
            raise GateFailedError(
                f"a revert can't change what is in production of {name}, which has gates or roles",
                hint=f"`headwater rollback {name}` goes back to the version before; `headwater promote` asks the gates",
            )


def _rested_on(found: Brought, names: list[str]) -> ConflictError:
    return ConflictError(
        f"{found.message!r} can't be undone while something rests on it: {_listed(names)}",
        hint="undo or move that first, or --force undoes it all the same; these then point at something hidden",
    )


def _listed(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")
