"""Taking a branch's decisions again where it is merged: by promotion's own path, under the gates and roles found there.

Works on a context on which the merge is done already, with production as it was on the target. Knows no conflicts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from headwater import production
from headwater.access import LABEL
from headwater.context import Context
from headwater.errors import GateFailedError, HeadwaterError, NotFoundError, PermissionDeniedError
from headwater.ids import new_id
from headwater.lookup import name_of
from headwater.merge_model import Replayed
from headwater.names import quote
from headwater.production import PRODUCTION, Entry
from headwater.promotion import Promotions
from headwater.promotion_rules import RefusedError, number_of
from headwater.protected import Production, Replay, Rule, production_state
from headwater.sealing import principal_of
from headwater.subjects import called
from headwater.transaction import Transaction

__all__ = ["Replaying", "record"]


@dataclass
class Replaying:
    """Takes decisions again, one transaction each.

    Attributes:
        context: Where.
        reason: What is written as the reason of each.
        measured: What gates measured in an earlier attempt at the same.
        found: What came of it so far.
    """

    context: Context
    reason: str
    measured: dict[Any, Any]
    found: list[Replayed] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._promotions = Promotions(self.context, self.measured)

    def run(self, replays: Iterable[Replay], rules: Iterable[Rule]) -> list[Replayed]:
        """Take all again: what is about models first, so that rules which came with them have no say in it."""
        for each in replays:
            for version_id, stage in each.stages:
                self._enter(version_id, stage)
            if each.production is not None:
                self._production(each.model_id, each.production)
        for rule in rules:
            self._rule(rule)
        return self.found

    # -- stages -------------------------------------------------------------------------------------------------
    def _enter(self, version_id: str, stage: str) -> bool:
        reference = self._reference(version_id)
        with self.context.reading() as fold:
            now = production.stage_of(fold, version_id)
        if now == stage:
            return True

        def work() -> Any:
            return self._promotions.stage(reference, stage, reason=self.reason)

        return self._do(work, Replayed("stage", reference, version_id, stage))

    def _production(self, model_id: str, wanted: Production) -> None:
        """Bring what is in production of a model to what the source had, by the steps that lead there."""
        now, name = self._now(model_id)
        shares = dict(wanted.canaries)
        for version_id, percent in now.canaries:
            less = shares.get(version_id, 0.0)
            if less < percent and version_id != wanted.version:
                self._less(model_id, version_id, less)
        chosen = wanted.version
        if chosen is None and (now.live or now.champion):
            self._withdraw(model_id, name)
        elif chosen is not None and (chosen != now.version or now.staged != {chosen}):
            self._promote(model_id, chosen)
        now, _ = self._now(model_id)
        if chosen is not None and now.version != chosen:
            return  # refused: then its canaries have nothing to stand beside
        for version_id, percent in wanted.canaries:
            if dict(now.canaries).get(version_id, 0.0) < percent:
                self._more(version_id, percent)
        if now.shadows != wanted.shadows:
            self._shadows(model_id, name, wanted)

    def _promote(self, model_id: str, version_id: str) -> None:
        reference, number = self._reference(version_id), self._number(version_id)
        with self.context.reading() as fold:
            now = production.stage_of(fold, version_id)
            goes_back = now == "archived" and production.was_in(fold, model_id, version_id)
        if goes_back:
            self._do(
                lambda: self._promotions.rollback(reference.rpartition("/")[0], number, reason=self.reason),
                Replayed("rollback", reference, version_id, PRODUCTION, 100.0),
            )
            return
        # Who may promote, and not stage, takes again the promotion: that others staged it on the branch was theirs.
        straight = now in production.UNSTAGED and not self._may_stage(model_id)
        if now in production.UNSTAGED and not straight and not self._enter(version_id, "staging"):
            return
        self._do(
            lambda: self._promotions.promote(reference, PRODUCTION, reason=self.reason, straight=straight),
            Replayed("promote", reference, version_id, PRODUCTION, 100.0),
        )

    def _may_stage(self, model_id: str) -> bool:
        with self.context.reading() as fold:
            judge = fold.judge()
            return judge.may(principal_of(fold, self.context.actor), LABEL, judge.name_of(model_id))

    def _withdraw(self, model_id: str, name: str) -> None:
        def work(tx: Transaction) -> None:
            production.withdraw(tx, model_id, reason=self.reason)
            tx.subject = name
            tx.message = f"take {name} out of production: {self.reason}"

        self._do(lambda: self.context.write("undeploy", work), Replayed("withdraw", name))

    # -- traffic ------------------------------------------------------------------------------------------------
    def _less(self, model_id: str, version_id: str, percent: float) -> None:
        reference = self._reference(version_id)

        def work(tx: Transaction) -> None:
            production.set_canary(tx, model_id, version_id, percent, reason=self.reason)
            tx.subject = reference
            tx.message = f"give {reference} {percent:g} % of production's requests: {self.reason}"

        self._do(lambda: self.context.write("traffic", work), Replayed("traffic", reference, version_id, None, percent))

    def _more(self, version_id: str, percent: float) -> None:
        reference = self._reference(version_id)
        with self.context.reading() as fold:
            now = production.stage_of(fold, version_id)
        if now in production.UNSTAGED and not self._enter(version_id, "staging"):
            return
        self._do(
            lambda: self._promotions.deploy(
                reference, percent=percent, canary=True, deployment_id=new_id(), reason=self.reason
            ),
            Replayed("promote", reference, version_id, PRODUCTION, percent),
        )

    def _shadows(self, model_id: str, name: str, wanted: Production) -> None:
        """Let the versions get copies of requests that the source let; that decides on no answer."""

        def work(tx: Transaction) -> None:
            kept = set(wanted.shadows)
            there = {e["version_id"] for e in production.serving_in(tx.fold, model_id) if e["mode"] == "shadow"}
            new: list[Entry] = [
                {"deployment_id": new_id(), "version_id": each, "mode": "shadow", "percent": 100.0}
                for each in sorted(kept - there)
            ]

            def change(entries: list[Entry]) -> list[Entry]:
                return [*(e for e in entries if e["mode"] != "shadow" or e["version_id"] in kept), *new]

            production.serve(tx, model_id, PRODUCTION, change, self.reason)
            for each in new:
                production.add_deployment(tx, model_id, each, PRODUCTION, 100.0)
            tx.subject = name
            tx.message = f"shadows of {name} in production: {self.reason}"

        self._do(lambda: self.context.write("deploy", work), Replayed("traffic", f"shadows of {name}", traffic=100.0))

    # -- rules --------------------------------------------------------------------------------------------------
    def _rule(self, rule: Rule) -> None:
        subject, kind, key = rule.place

        def work(tx: Transaction) -> None:
            values: tuple[str | None, ...] = rule.values or (None,)
            if kind == "role":
                values = ("granted",) if rule.values == ("granted",) else ("revoked",)
            standing = tx.fold.standing(subject, kind, key)
            if {value for _, value in standing} == set(values):
                return
            for value in values:
                tx.event(subject, kind, value, key=key, reason=self.reason, prev=[event for event, _ in standing])
            if tx.fold.one("SELECT 1 FROM models WHERE model_id = ?", subject) is not None:
                tx.fence(subject)
            else:
                tx.fence_all(always=True)
            tx.subject = rule.name
            tx.message = f"set {rule.name}: {self.reason}"

        self._do(lambda: self.context.write(_RULE_KINDS.get(kind, kind), work), Replayed("rule", rule.name))

    # -- how ----------------------------------------------------------------------------------------------------
    def _do(self, work: Callable[[], Any], what: Replayed) -> bool:
        """Take one decision again, and note what came of it."""
        said: dict[str, Any] = {}
        try:
            made = work()
            said = {"commit": getattr(made, "commit", None), "results": getattr(made, "results", ())}
        except RefusedError as error:
            said = {"passed": False, "refusal": error.message, "results": error.evaluation.results}
        except PermissionDeniedError as error:
            said = {"passed": False, "refusal": error.message, "denied": True}
        except (GateFailedError, NotFoundError) as error:
            said = {"passed": False, "refusal": error.message}
        self.found.append(replace(what, **said))
        return self.found[-1].passed

    def _now(self, model_id: str) -> tuple[Production, str]:
        with self.context.reading() as fold:
            return production_state(fold, model_id), quote(name_of(fold, model_id))

    def _reference(self, version_id: str) -> str:
        with self.context.reading() as fold:
            return called(fold, version_id)

    def _number(self, version_id: str) -> int:
        with self.context.reading() as fold:
            return number_of(fold, version_id)


_RULE_KINDS = {"policy": "gates", "action": "notify"}
"""What the log calls a transaction that sets a rule, where that is not the kind of its event."""


def record(context: Context, found: Iterable[Replayed], source: str) -> None:
    """Write that gates refused what a source had decided; whoever may not write that is told of the refusal alone."""

    def work(tx: Transaction) -> None:
        refused = [each for each in found if not each.passed and each.results]
        for each in refused:
            failed = [result.gate for result in each.results if not result.passed]
            value = {"gates": failed, "commit": tx.fold.commit, "source": source}
            assert each.version_id is not None
            tx.event(each.version_id, "refusal", json.dumps(value), key=each.stage or "", reason=f"merge of {source}")
        if refused:
            tx.subject = refused[0].name
            names = [r.gate for each in refused for r in each.results if not r.passed]
            tx.message = f"refuse merge of {source}: {refused[0].words()}: {', '.join(dict.fromkeys(names))}"

    with suppress(HeadwaterError):
        context.write("refuse", work)
