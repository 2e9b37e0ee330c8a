"""The service for policies: set, show and delete them, and ask their gates without promoting; knows no kind of gate."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from headwater import gates, production
from headwater.access import check_pattern, matches
from headwater.context import Context
from headwater.errors import InvalidInputError, LakeError, NotFoundError
from headwater.governance_model import Evaluation, PolicyText
from headwater.ids import from_micros
from headwater.lookup import model_id_of, models_named, name_of, version_row
from headwater.names import (
    because,
    check_name,
    check_reason,
    counted,
    parse_dataset,
    parse_model,
    quote,
    shown,
)
from headwater.policy import STAGES, Policy, parse_policy
from headwater.state import Fold
from headwater.tombstones import is_hidden
from headwater.transaction import Transaction
from headwater.trust import DATASET, PATTERN

__all__ = ["Policies", "read_policy"]

_LARGEST = 256 << 10


def read_policy(given: str | os.PathLike[str]) -> tuple[str, str]:
    """Return the text of a policy and what errors call it.

    Args:
        given: A file; or the TOML itself, which, unlike the name of a file, has a `[` or a line break.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: It is no text, or too large to be a policy.
        LakeError: It can't be read.
    """
    if isinstance(given, str) and ("[" in given or "\n" in given or not given.strip()):
        return given, "gates.toml"
    path = Path(given)
    try:
        with path.open("rb") as file:
            body = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {shown(str(path))}", hint="give the path of a TOML file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise LakeError(f"{shown(str(path))} can't be read: {reason}") from error
    if len(body) > _LARGEST:
        raise InvalidInputError(f"{shown(path.name)} has more than {_LARGEST:,} bytes: that is no policy")
    try:
        return body.decode(), path.name
    except UnicodeDecodeError:
        raise InvalidInputError(f"{shown(path.name)} is not text in UTF-8", hint="write the policy as TOML") from None


class Policies:
    """The service for policies.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    # -- changing -----------------------------------------------------------------------------------------------
    def set(self, name: str, policy: str | os.PathLike[str], *, reason: str | None = None) -> PolicyText:
        """Make a policy hold. See `Registry.set_gates`."""
        text, source = read_policy(policy)
        target = _Target.of(name)
        parsed = parse_policy(text, source=source, dataset=target.is_dataset)
        _check_conditions(parsed, source)
        check_reason(reason)

        def work(tx: Transaction) -> str:
            subject = target.subject(tx.fold)
            if reason is None and {value for _, value in tx.fold.standing(subject, "policy")} == {text}:
                return subject
            tx.event(subject, "policy", text, reason=reason)
            self._fence(tx, target, subject)
            tx.subject = target.called
            tx.message = f"set gates of {target.called}: {_counts(parsed)}{because(reason)}"
            return subject

        subject = self._context.write("gates", work).result
        with self._context.reading() as fold:
            return _texts(fold, [subject])[0]

    def delete(self, name: str, *, reason: str | None = None) -> None:
        """Take a policy away. See `Registry.delete_gates`."""
        target = _Target.of(name)
        check_reason(reason)

        def work(tx: Transaction) -> None:
            subject = target.subject(tx.fold)
            if all(value is None for _, value in tx.fold.standing(subject, "policy")):
                raise NotFoundError(f"{target.called} has no policy of its own", hint="`headwater gates list`")
            tx.event(subject, "policy", None, reason=reason)
            self._fence(tx, target, subject)
            tx.subject = target.called
            tx.message = f"delete the gates of {target.called}{because(reason)}"

        self._context.write("gates", work)

    def _fence(self, tx: Transaction, target: _Target, subject: str) -> None:
        if target.is_dataset:
            # A merge or an addition that asks these gates must not pass by them.
            tx.fence_all(always=True)
        elif not target.glob:
            tx.fence(subject)
        else:
            tx.fence_all(always=True)
            known = tx.fold.one("SELECT 1 FROM events WHERE standing AND kind = 'policy' AND subject LIKE 'pattern:%'")
            if known is None:
                # Before the first pattern nobody fenced against patterns, only against his own model.
                named = tx.fold.rows("SELECT DISTINCT subject, value FROM events WHERE kind = 'name'")
                for model_id in {subject for subject, name in named if name and matches(target.glob, name)}:
                    tx.fence(model_id)

    # -- reading ------------------------------------------------------------------------------------------------
    def show(self, name: str) -> list[PolicyText]:
        """Return the policies that hold for a model, a pattern or a dataset. See `Registry.gates`."""
        target = _Target.of(name)
        with self._context.reading() as fold:
            subject = target.subject(fold)
            if target.is_dataset or target.glob:
                return _texts(fold, [subject])
            subjects = [subject, *dict.fromkeys(each for each, _ in production.matching(fold, "policy", subject))]
            return _texts(fold, subjects)

    def list(self) -> list[PolicyText]:
        """Return every policy that holds."""
        with self._context.reading() as fold:
            rows = fold.rows(
                "SELECT DISTINCT subject FROM events WHERE standing AND kind = 'policy' AND value IS NOT NULL"
            )
            found = _texts(fold, [subject for (subject,) in rows if not is_hidden(fold, subject)])
        return sorted(found, key=lambda each: each.subject)

    def check(self, reference: str, to: str, *, traffic: float | None = None) -> Evaluation:
        """Ask the gates before a stage; nothing is written. See `Registry.check_gates`."""
        ref = parse_model(reference)
        if to not in STAGES:
            raise InvalidInputError(f"no gates stand before {shown(to)}", hint=f"choose {', '.join(STAGES)}")
        if traffic is not None:
            traffic = _share(traffic, to)
        with self._context.reading() as fold:
            version_id = version_row(fold, ref)[0]
            return gates.evaluate(self._context, fold, version_id=version_id, stage=to, traffic=traffic)


class _Target:
    """What a policy is set for: a model, the models that a pattern matches, or a dataset."""

    def __init__(self, *, model: str = "", glob: str = "", dataset: str = "") -> None:
        self.model = model
        self.glob = glob
        self.dataset = dataset
        self.is_dataset = bool(dataset)
        self.called = quote(model) if model else f"{PATTERN}{glob}" if glob else f"{DATASET}{quote(dataset)}"

    @classmethod
    def of(cls, name: str) -> _Target:
        """Read what a person wrote.

        Raises:
            InvalidInputError: It is no name of a model or dataset, and no pattern.
        """
        if name.startswith(DATASET):
            ref = parse_dataset(name)
            if ref.semver is not None:
                raise InvalidInputError(f"{ref} is one version", hint=f"write {DATASET}{quote(ref.name)}")
            return cls(dataset=ref.name)
        if name.startswith(PATTERN) or "*" in name:
            return cls(glob=check_pattern(name.removeprefix(PATTERN)))
        model = parse_model(name)
        if model.version is not None or model.alias is not None:
            raise InvalidInputError(f"{model} is one version", hint=f"name the model: {quote(model.name)}")
        return cls(model=model.name)

    def subject(self, fold: Fold) -> str:
        """Return the subject of its events.

        Raises:
            NotFoundError: There is no such model.
        """
        if self.glob:
            return f"{PATTERN}{self.glob}"
        if self.dataset:
            known = fold.one("SELECT 1 FROM datasets WHERE name = ?", self.dataset)
            # One that an import brought keeps the name that it has.
            return f"{DATASET}{self.dataset if known is not None else check_name(self.dataset, 'dataset')}"
        try:
            return model_id_of(fold, self.model)
        except NotFoundError as error:
            if fold.one("SELECT 1 FROM datasets WHERE name = ?", self.model) is None or models_named(fold, self.model):
                raise
            raise NotFoundError(error.message, hint=f"for the dataset, write {DATASET}{quote(self.model)}") from None


def _check_conditions(policy: Policy, source: str) -> None:
    """Make sure that what a dataset's gates ask in SQL is one expression each.

    Raises:
        InvalidInputError: One is not; the message names its line.
    """
    for gate in policy.datasets:
        if gate.kind == "condition":
            from headwater.query_condition import check_condition

            try:
                check_condition(gate.options["condition"])
            except InvalidInputError as error:
                raise InvalidInputError(f"{source}:{gate.line}: {error.message}", hint=error.hint) from None


def _texts(fold: Fold, subjects: Iterable[str]) -> list[PolicyText]:
    """Return the policies that stand for some subjects; several of one where two branches disagree."""
    found = []
    for subject in subjects:
        model_id = None if subject.startswith((PATTERN, DATASET)) else subject
        name = name_of(fold, model_id) if model_id is not None else None
        for text, micros, actor, reason, commit, tx, _ in fold.rows(
            "SELECT e.value, e.recorded_at, e.actor, e.reason, (SELECT id FROM commits c WHERE c.tx = e.tx), e.tx,"
            " min(e.event_id) FROM events e WHERE standing AND subject = ? AND kind = 'policy' AND value IS NOT NULL"
            " GROUP BY value ORDER BY min(e.event_id)",
            subject,
        ):
            policy = gates.stored_policy(text, dataset=subject.startswith(DATASET))
            found.append(
                PolicyText(
                    subject=name or subject,
                    name=name,
                    model_id=model_id,
                    text=text,
                    digest=policy.digest,
                    gates=_count(policy),
                    commit=commit or tx,
                    recorded_at=from_micros(micros),
                    actor=actor,
                    reason=reason,
                )
            )
    return found


def _count(policy: Policy) -> int:
    stages = policy.stages.values()
    asked = sum(len(each.gates) + (each.approvals is not None) for each in stages)
    return asked + len(policy.datasets)


def _counts(policy: Policy) -> str:
    if policy.datasets:
        return counted(len(policy.datasets), "gate")
    parts = []
    for stage, each in policy.stages.items():
        said = [counted(len(each.gates), "gate")] if each.gates else []
        if each.approvals is not None:
            said.append(f"{counted(each.approvals.count, 'approval')} by {each.approvals.role}s")
        parts.append(f"{' and '.join(said)} before {stage}")
    return ", ".join(parts)


def _share(traffic: float, to: str) -> float:
    from headwater.promotion_rules import check_percent

    if to != "production":
        raise InvalidInputError(f"only production has traffic, not {to}", hint="leave --traffic out")
    return check_percent(traffic)
