"""Which gates a dataset's new versions have to pass, and where: policies, results and refusals; asks no gate itself.

On the lake's default branch data is judged when it is added. Elsewhere anything may be tried, and what a branch has is
judged when it is merged into one that has a policy for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from headwater import gate_dataset
from headwater.content import Opened, Workbench
from headwater.context import Context
from headwater.dataset_evaluation import DatasetEvaluation
from headwater.errors import HeadwaterError, IntegrityError, InvalidInputError
from headwater.lake.base import Lake
from headwater.names import quote
from headwater.policy import Gate, parse_policy
from headwater.state import Fold
from headwater.stored import Stored, row_of
from headwater.transaction import Transaction

__all__ = ["DatasetGates", "Wanted", "is_judged_at_once", "judge", "judge_stored", "record", "wanted", "write"]

SUBJECT = "dataset:"
"""What the subject of a dataset's policy, and of refusals of its versions, begins with."""

STAGE = "dataset"
"""What the key of a result begins with, where that of a version's has the stage."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The gates of a dataset, and the digest of the policies that hold them."""

    digest: str
    gates: tuple[Gate, ...]


class DatasetGates:
    """The service that asks a dataset's gates.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, reference: str) -> DatasetEvaluation:
        """Return what the gates find of a version; nothing is written. See `Registry.check_dataset`."""
        with self._context.reading() as fold:
            stored = Stored.of(fold, row_of(fold, reference))
            found, commit = wanted(fold, stored.version.name), fold.commit
        return judge_stored(self._context.lake, stored, found, commit, {})


def is_judged_at_once(context: Context) -> bool:
    """Return whether what is added to a branch is judged then; a rehearsal is what it stands for."""
    return (context.stands_for or context.branch) == context.lake.default_branch


def wanted(fold: Fold, name: str) -> Wanted | None:
    """Return the gates that a state has for a dataset; None where there are none.

    Where two branches set its policy differently, both hold until somebody sets it anew.

    Raises:
        IntegrityError: A policy can't be read.
    """
    texts = sorted({text for _, text in fold.standing(f"{SUBJECT}{name}", "policy") if text is not None})
    if not texts:
        return None
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    digest = digests[0] if len(texts) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
    gates = [gate for text in texts for gate in _gates(text)]
    return Wanted(digest, tuple(gate for at, gate in enumerate(gates) if not _is_among(gate, gates[:at])))


def _is_among(gate: Gate, others: Iterable[Gate]) -> bool:
    return any((each.name, each.kind, each.options) == (gate.name, gate.kind, gate.options) for each in others)


@lru_cache(maxsize=64)
def _gates(text: str) -> tuple[Gate, ...]:
    try:
        return parse_policy(text, source="the policy", dataset=True).datasets
    except InvalidInputError as error:
        raise IntegrityError(
            f"a stored policy can't be read: {error.message}", hint="set it again, or use a newer Headwater"
        ) from error


# -- judging ----------------------------------------------------------------------------------------------------------
def judge(
    name: str, opened: Opened | None, bench: Workbench, found: Wanted | None, commit: str, memo: dict[Any, Any]
) -> DatasetEvaluation:
    """Return what the gates find of a table that may become a version.

    Args:
        name: The dataset.
        opened: The table, on `bench`; None for a folder of anything.
        bench: Where rows are read.
        found: The gates.
        commit: The commit whose gates they are.
        memo: What an earlier attempt at the same table found, by policy.
    """
    if found is None:
        return DatasetEvaluation(name, quote(name), None, commit, None, ())
    if found.digest not in memo:
        memo[found.digest] = gate_dataset.ask(found.gates, opened, bench, source=f"{quote(name)}, as it would be added")
    return DatasetEvaluation(name, quote(name), None, commit, found.digest, memo[found.digest])


def judge_stored(
    lake: Lake, stored: Stored, found: Wanted | None, commit: str, memo: dict[Any, Any]
) -> DatasetEvaluation:
    """Return what the gates find of a version that is in the lake.

    Args:
        lake: The lake.
        stored: The version.
        found: The gates.
        commit: The commit whose gates they are.
        memo: What earlier attempts found, by version and policy.
    """
    version = stored.version
    results: tuple[Any, ...] = ()
    if found is not None:
        known = (version.dataset_id, found.digest)
        if known not in memo:
            with Workbench(lake.cache) as bench:
                opened = stored.opened(lake, bench)
                memo[known] = gate_dataset.ask(found.gates, opened, bench, source=f"{version.reference}, its rows")
        results = memo[known]
    digest = found.digest if found is not None else None
    return DatasetEvaluation(version.name, version.reference, version.dataset_id, commit, digest, results)


# -- recording --------------------------------------------------------------------------------------------------------
def write(tx: Transaction, evaluation: DatasetEvaluation, dataset_id: str) -> None:
    """Write what the gates found of a version as events of it, in the transaction that brings it."""
    for each in evaluation.results:
        value = {**asdict(each), "policy": evaluation.policy, "commit": evaluation.commit}
        tx.event(dataset_id, "gate", _json(value), key=f"{STAGE} {each.gate}")


def record(context: Context, evaluations: Sequence[DatasetEvaluation], what: str) -> None:
    """Write that gates refused data; whoever may not write that either is told of the refusal alone.

    Args:
        context: The branch that it would have come to.
        evaluations: What was refused.
        what: What was tried, such as `data add flights`.
    """

    def work(tx: Transaction) -> None:
        for each in evaluations:
            value = {
                "gates": [result.gate for result in each.failed],
                "found": {result.gate: result.found for result in each.failed},
                "commit": each.commit,
                "policy": each.policy,
                "version": each.reference,
                "dataset_id": each.dataset_id,
            }
            tx.event(f"{SUBJECT}{each.name}", "refusal", _json(value), key=STAGE, reason=what)
        tx.subject = evaluations[0].reference
        failed = ", ".join(dict.fromkeys(result.gate for each in evaluations for result in each.failed))
        tx.message = f"refuse {what}: {failed}"

    with contextlib.suppress(HeadwaterError):
        context.write("refuse", work)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
