"""Against what label, and for which class, a computed number was measured, and whether a gate takes it; no thresholds.

Who evaluates chooses the label, the task and the positive class. A number of another label than the policy's, or than
production's, says something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headwater import evaluation_store
from headwater.errors import InvalidInputError
from headwater.evaluation_rows import pick_label
from headwater.gates import Ask
from headwater.names import shown
from headwater.stored import Stored, row_by_id

if TYPE_CHECKING:
    from headwater.evaluation_model import Evaluated

__all__ = ["Scored", "class_of", "objection", "of_evaluation", "scored_as"]

_OF_ALL_CLASSES = ("accuracy", "error_rate")
"""Of these it makes no difference which class is the positive one."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What predictions were compared with, and as what."""

    label: str
    task: str
    positive: str | None

    def __str__(self) -> str:
        of = f", positive {shown(self.positive)}" if self.positive is not None else ""
        return f"label {shown(self.label)} ({self.task}{of})"


def of_evaluation(found: Evaluated) -> Scored:
    """Return how stored predictions were scored."""
    return Scored(found.label, found.task, found.positive)


def scored_as(ask: Ask, version_id: str, dataset_id: str | None, tx: str) -> Scored | None:
    """Return what a computed metric row of a version says something of; None where no evaluation is behind it.

    In a signed lake that is the evaluation which confirms the row: the transaction that a row names is not signed.
    """
    value = _value(ask, version_id, dataset_id, tx)
    return None if value is None else Scored(value["label"], value["task"], value["positive"])


def class_of(positive: object) -> str:
    """Return the text of a class as a policy writes it."""
    if isinstance(positive, float) and positive.is_integer():
        positive = int(positive)
    return str(positive).lower() if isinstance(positive, bool) else str(positive)


def objection(ask: Ask, version_id: str, key: str, dataset_id: str | None, tx: str, scored: Scored | None) -> str:
    """Return why a computed number does not count; empty where it does.

    Args:
        ask: The gate: what its policy says of `label` and `positive` holds. Where it says nothing and demands computed
            numbers, the label is the dataset's default one, and the class is the default one, or both are production's.
        version_id: The version that was measured.
        key: The metric.
        dataset_id: The dataset version.
        tx: The transaction that wrote the number.
        scored: What `scored_as` returned.
    """
    options = ask.gate.options
    says = [name for name in ("label", "positive") if name in options]
    if not says and not options.get("computed"):
        return ""
    if scored is None or dataset_id is None:
        return "no evaluation is stored that says against which label it was computed"
    of_class = key.lower() not in _OF_ALL_CLASSES and scored.task == "binary"
    if "label" in options and scored.label != options["label"]:
        return f"it was computed for {scored}, and the policy says label {shown(options['label'])}"
    if "positive" in options and scored.positive != class_of(options["positive"]):
        return f"it was computed for {scored}, and the policy says positive {shown(class_of(options['positive']))}"
    if not options.get("computed"):
        return ""
    same = [each for each in _of_production(ask, dataset_id) if each.label == scored.label]
    if "label" not in options and not same and scored.label != _default_label(ask, dataset_id):
        hint = f"the policy may say label = {shown(scored.label)}"
        return f"it was computed for {scored}, which is neither the dataset's default label nor production's: {hint}"
    if "positive" in options or not of_class or any(each.positive == scored.positive for each in same):
        return ""
    usual = _usual_positive(ask, version_id, dataset_id, tx)
    if scored.positive != usual:
        hint = f"the policy may say positive = {shown(scored.positive or '')}"
        return f"it was computed for {scored}, and positive is {shown(usual or '')} unless somebody says so: {hint}"
    return ""


# -- evaluations ------------------------------------------------------------------------------------------------------
def _value(ask: Ask, version_id: str, dataset_id: str | None, tx: str) -> Mapping[str, Any] | None:
    if dataset_id is None:
        return None
    memo = ("evaluation behind", ask.fold.commit, version_id, dataset_id, "" if ask.fold.signed else tx)
    if memo not in ask.memo:
        ask.memo[memo] = evaluation_store.behind(ask.fold, version_id, dataset_id, None if ask.fold.signed else tx)
    found: Mapping[str, Any] | None = ask.memo[memo]
    return found


def _of_production(ask: Ask, dataset_id: str) -> Sequence[Scored]:
    """Return how the version in production was evaluated on any version of the same dataset."""
    if ask.production is None or ask.production == ask.version_id:
        return []
    keys = ask.fold.rows(
        "SELECT DISTINCT e.key FROM events e JOIN datasets d ON d.dataset_id = e.key WHERE e.standing"
        " AND e.subject = ? AND e.kind = 'evaluation' AND e.value IS NOT NULL"
        " AND d.name = (SELECT name FROM datasets WHERE dataset_id = ?)",
        *(ask.production, dataset_id),
    )
    values = [evaluation_store.behind(ask.fold, ask.production, key, None) for (key,) in keys]
    return [Scored(each["label"], each["task"], each["positive"]) for each in values if each is not None]


def _data(ask: Ask, dataset_id: str) -> Stored | None:
    row = row_by_id(ask.fold, dataset_id)
    return None if row is None else Stored.of(ask.fold, row)


def _default_label(ask: Ask, dataset_id: str) -> str | None:
    data = _data(ask, dataset_id)
    try:
        return None if data is None else pick_label(data.version, None)
    except InvalidInputError:
        return None


def _usual_positive(ask: Ask, version_id: str, dataset_id: str, tx: str) -> str | None:
    """Return the class that is looked for where nobody names one."""
    from headwater.evaluation_metrics import usual_positive

    value, data = _value(ask, version_id, dataset_id, tx), _data(ask, dataset_id)
    if value is None or data is None:
        return None
    memo = ("usual positive", value["digest"], dataset_id)
    if memo not in ask.memo:
        table = evaluation_store.predictions(ask.context, ask.fold, value, data)
        type_ = (data.version.schema or {})[value["label"]].partition("(")[0]
        kind = "bool" if type_ == "BOOLEAN" else "text" if type_ in ("VARCHAR", "ENUM") else "int"
        ask.memo[memo] = usual_positive(kind, table.column("label"), table.column("prediction"))
    found: str | None = ask.memo[memo]
    return found
