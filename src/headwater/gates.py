"""Evaluating a policy's gates on a version at one commit; knows which module asks which kind, and no kind itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from importlib import import_module
from typing import Any

from headwater import production
from headwater.context import Context
from headwater.errors import IntegrityError, InvalidInputError, NotFoundError
from headwater.governance_model import Evaluation, GateResult
from headwater.lookup import name_of
from headwater.model import as_json
from headwater.policy import Gate, Policy, parse_policy
from headwater.state import Fold
from headwater.transaction import Transaction

__all__ = [
    "EVALUATORS",
    "Ask",
    "Finding",
    "evaluate",
    "gates_among",
    "gates_of",
    "policies_of",
    "results_of",
    "stored_policy",
    "write_results",
]

EVALUATORS: Mapping[str, str] = {
    "metric": "headwater.gate_metrics:metric",
    "regression": "headwater.gate_regression:regression",
    "latency": "headwater.gate_latency:latency",
    "bias": "headwater.gate_bias:bias",
    "data": "headwater.gate_data:data",
    "shadow": "headwater.gate_live:shadow",
    "live": "headwater.gate_live:live",
    "check": "headwater.gate_records:check",
    "card": "headwater.gate_records:card",
    "signature": "headwater.gate_records:signature",
    "approvals": "headwater.gate_records:approvals",
}
"""By a gate's kind: the function `(ask: Ask) -> Finding` that answers it, imported when it is asked."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One gate, asked of one version.

    Attributes:
        context: What to work with; nothing is written through it.
        fold: The state that is judged; numbers are read at `fold.commit`.
        gate: The gate.
        stage: The stage that the version would enter.
        traffic: Percent of production's requests that it would get; None where nothing was said of it.
        version_id: The version that is asked about.
        model_id: Its model.
        number: Its number.
        name: Its model's name now.
        production: The ID of the version that is in production; None where there is none.
        memo: What was expensive to measure, by what it was measured of: an evaluation that runs again on a newer head
            has the same one, and must not measure again.
    """

    context: Context
    fold: Fold
    gate: Gate
    stage: str
    traffic: float | None
    version_id: str
    model_id: str
    number: int
    name: str
    production: str | None
    memo: dict[Any, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a gate found; see `GateResult`."""

    required: str
    found: str
    passed: bool
    source: str
    details: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    context: Context,
    fold: Fold,
    *,
    version_id: str,
    stage: str,
    traffic: float | None = None,
    memo: dict[Any, Any] | None = None,
) -> Evaluation:
    """Ask every gate that stands before a stage; nothing is written.

    Args:
        context: What to work with.
        fold: The state that is judged.
        version_id: The version.
        stage: The stage that it would enter.
        traffic: Percent of production's requests that it would get; all of them unless given.
        memo: What an earlier evaluation of the same decision measured, to be used and added to.

    Raises:
        IntegrityError: A policy, or what a gate reads, is not what was written.
        ConflictError: Two branches put a version into production each, so there is none to compare with.
        LakeError: What a gate reads can't be read now.
    """
    model_id, number = fold.one("SELECT model_id, version FROM versions WHERE version_id = ?", version_id)
    digest, gates = gates_of(fold, model_id, stage)
    name = name_of(fold, model_id)
    current = production.production_of(fold, model_id)
    memo = {} if memo is None else memo
    share = 100.0 if traffic is None else traffic
    results = []
    for gate in gates:
        if gate.at_traffic is None or share >= gate.at_traffic:
            ask = Ask(context, fold, gate, stage, traffic, version_id, model_id, number, name, current, memo)
            results.append(_asked(ask))
    return Evaluation(name, number, version_id, stage, fold.commit, digest, tuple(results))


def _asked(ask: Ask) -> GateResult:
    try:
        finding = _evaluator(ask.gate.kind)(ask)
    except (NotFoundError, InvalidInputError) as error:
        # What a gate names may be gone, or never have been: then there is no number, and no number never passes.
        finding = Finding("an answer", "nothing", False, error.message)
    return GateResult(
        ask.gate.name,
        ask.gate.kind,
        finding.required,
        finding.found,
        finding.passed,
        finding.source,
        as_json(finding.details),
    )


def _evaluator(kind: str) -> Callable[[Ask], Finding]:
    module, _, function = EVALUATORS[kind].partition(":")
    found: Callable[[Ask], Finding] = getattr(import_module(module), function)
    return found


# -- policies ---------------------------------------------------------------------------------------------------------
def policies_of(fold: Fold, model_id: str) -> list[tuple[str, Policy]]:
    """Return the policies that hold for a model, with their subjects: its own first, then those of patterns.

    A pattern matches by any name that the model has or had: a rename does not take a model out of its gates. Where two
    branches set one policy differently, both hold until somebody sets it anew.

    Raises:
        IntegrityError: One was not written by Headwater, or by a newer one.
    """
    own = [(model_id, text) for _, text in fold.standing(model_id, "policy") if text is not None]
    held: dict[tuple[str, str], Policy] = {}
    for subject, text in [*own, *production.matching(fold, "policy", model_id)]:
        held.setdefault((subject, text), stored_policy(text))
    return [(subject, policy) for (subject, _), policy in held.items()]


@lru_cache(maxsize=256)
def stored_policy(text: str, *, dataset: bool = False) -> Policy:
    """Read a policy that is in the lake.

    Raises:
        IntegrityError: It can't be read: something else than Headwater wrote it, or a newer Headwater.
    """
    try:
        return parse_policy(text, source="the policy", dataset=dataset)
    except InvalidInputError as error:
        raise IntegrityError(
            f"a stored policy can't be read: {error.message}", hint="set it again, or use a newer Headwater"
        ) from error


def gates_of(fold: Fold, model_id: str, stage: str) -> tuple[str | None, list[Gate]]:
    """Return the digest of all policies that hold for a model, and the gates before one stage.

    A gate that two policies have in the same words is asked once; where only its name is the same, the second is called
    by its policy too.

    Raises:
        IntegrityError: A policy can't be read.
    """
    return gates_among(policies_of(fold, model_id), stage)


def gates_among(held: list[tuple[str, Policy]], stage: str) -> tuple[str | None, list[Gate]]:
    """Return the digest of policies that hold together, and their gates before one stage; see `gates_of`.

    Args:
        held: The policies with their subjects, the model's own first.
        stage: The stage.
    """
    found: dict[str, Gate] = {}
    for subject, policy in held:
        for gate in _of_stage(policy, stage):
            same = found.get(gate.name)
            if same is not None and (same.kind, same.options, same.at_traffic) == (
                gate.kind,
                gate.options,
                gate.at_traffic,
            ):
                continue
            name = gate.name if same is None else f"{gate.name} ({subject} {policy.digest[:8]})"
            found[name] = Gate(name, gate.kind, gate.options, gate.line, gate.at_traffic)
    return _digest([policy for _, policy in held]), list(found.values())


def _of_stage(policy: Policy, stage: str) -> list[Gate]:
    wanted = policy.stages.get(stage)
    if wanted is None:
        return []
    gates = list(wanted.gates)
    if wanted.approvals is not None:
        # Asked last: people look at what the others found.
        options = {"count": wanted.approvals.count, "role": wanted.approvals.role}
        gates.append(Gate("approvals", "approvals", options, 0))
    return gates


def _digest(policies: list[Policy]) -> str | None:
    if len(policies) == 1:
        return policies[0].digest
    together = "\n".join(sorted({policy.digest for policy in policies}))
    return hashlib.sha256(together.encode()).hexdigest() if policies else None


# -- results ----------------------------------------------------------------------------------------------------------
def write_results(tx: Transaction, evaluation: Evaluation) -> None:
    """Write what gates found as events of the version; each supersedes the gate's earlier result for that stage."""
    for each in evaluation.results:
        value = {**asdict(each), "policy": evaluation.policy, "commit": evaluation.commit}
        tx.event(
            evaluation.version_id,
            "gate",
            json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")),
            key=f"{evaluation.stage} {each.gate}",
        )


def results_of(fold: Fold, version_id: str, stage: str) -> list[GateResult]:
    """Return the results that stand for a version and a stage, by gate; where two branches disagree, both."""
    rows = fold.rows(
        "SELECT DISTINCT value FROM events WHERE standing AND subject = ? AND kind = 'gate'"
        " AND substr(key, 1, ?) = ? ORDER BY key, value",
        *(version_id, len(stage) + 1, f"{stage} "),
    )
    return [_result(value) for (value,) in rows]


def _result(value: str) -> GateResult:
    try:
        found = json.loads(value)
        return GateResult(
            gate=str(found["gate"]),
            kind=str(found["kind"]),
            required=str(found["required"]),
            found=str(found["found"]),
            passed=found["passed"] is True,
            source=str(found["source"]),
            details=dict(found["details"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IntegrityError("an event says a gate's result that can't be read", hint="evaluate it again") from None
