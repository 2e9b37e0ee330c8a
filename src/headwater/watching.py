"""Watching what serves: asks the live gates of a policy of what answers now, and rolls back what fails them.

Only what a gate found on enough predictions counts, and only those that were logged for what serves now: what was
rolled back, and what came back for it, begin with none. Whatever else goes wrong is no reason to change who serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headwater import gate_live
from headwater.context import Context
from headwater.errors import ConflictError, InvalidInputError, NotFoundError
from headwater.gates import Ask, Finding, gates_of
from headwater.governance_model import GateResult
from headwater.ids import from_micros, now_micros
from headwater.lookup import model_id_of, name_of
from headwater.names import parse_model, quote
from headwater.policy import Gate
from headwater.production import PRODUCTION, production_of, serving_in
from headwater.promotion import Promotions
from headwater.state import Fold
from headwater.watch_model import Look, Watched

__all__ = ["Watching"]

_LONGEST_REASON = 2_000


class Watching:
    """The service that looks at what serves.

    Args:
        context: What to work with.
        promotions: Rolls back.
    """

    def __init__(self, context: Context, promotions: Promotions) -> None:
        self._context = context
        self._promotions = promotions

    def look(self, name: str, *, rollback: bool = True) -> Watched:
        """Look once at what serves of a model. See `Registry.watch`."""
        ref = parse_model(name)
        if ref.version is not None or ref.alias is not None:
            raise InvalidInputError(f"{ref} is a version", hint=f"name the model: {quote(ref.name)}")
        with self._context.reading() as fold:
            model_id = model_id_of(fold, ref.name)
            gates = [each for each in gates_of(fold, model_id, PRODUCTION)[1] if _asked_live(each) is not None]
            if not gates:
                raise NotFoundError(
                    f"the policy of {quote(ref.name)} has no live gate to watch",
                    hint='`headwater gates set`, with [[production.gate]] live = "accuracy", say',
                )
            found = Watched(
                name=name_of(fold, model_id),
                commit=fold.commit,
                looked_at=from_micros(now_micros()),
                looks=tuple(self._looks(fold, model_id, gates)),
                failed=False,
                rolled_back=None,
                note=None,
            )
        failing = [each for each in found.looks if each.verdict == "failed" and each.mode != "shadow"]
        if not failing:
            return found
        found = replace(found, failed=True)
        if not rollback:
            return replace(found, note="rolling back was not asked for")
        # What is live first: with it, canaries end too.
        worst = sorted(failing, key=lambda each: (each.mode != "live", each.deployment_id))
        notes = []
        for number, each in enumerate(worst):
            try:
                done = self._promotions.rollback(ref.name, failed=each.deployment_id, reason=_reason(worst[number:]))
            except ConflictError as error:
                # Nothing to go back to, or somebody else was faster: it goes on serving, and is looked at again. A
                # canary that fails beside it ends none the less.
                notes.append(error.message)
                continue
            return replace(found, rolled_back=done, note="; ".join(notes) or None)
        return replace(found, note="; ".join(dict.fromkeys(notes)))

    def _looks(self, fold: Fold, model_id: str, gates: Sequence[Gate]) -> list[Look]:
        current = production_of(fold, model_id)
        name = name_of(fold, model_id)
        memo: dict[Any, Any] = {}
        looks = []
        serving = sorted(serving_in(fold, model_id), key=lambda each: (_ORDER[each["mode"]], each["deployment_id"]))
        for each in serving:
            row = fold.one("SELECT version FROM versions WHERE version_id = ?", each["version_id"])
            if row is None:
                continue
            share = each["percent"]
            results = []
            for gate in gates:
                # From which share on a promotion asks it does not matter here: what fails already gets no more.
                asked = _asked_live(gate)
                assert asked is not None
                is_for_shadows = asked.kind == "shadow"
                if is_for_shadows is not (each["mode"] == "shadow"):
                    continue
                ask = Ask(
                    self._context,
                    fold,
                    asked,
                    PRODUCTION,
                    share,
                    str(each["version_id"]),
                    model_id,
                    row[0],
                    name,
                    current,
                    memo,
                )
                results.append(_result(ask, gate))
            looks.append(
                Look(
                    version=row[0],
                    version_id=str(each["version_id"]),
                    mode=each["mode"],
                    traffic=share,
                    deployment_id=str(each["deployment_id"]),
                    verdict=_verdict(results),
                    results=tuple(results),
                )
            )
        return looks


_ORDER: Mapping[str, int] = {"live": 0, "canary": 1, "shadow": 2}


def _asked_live(gate: Gate) -> Gate | None:
    """Return the gate that is asked of what serves for one of a policy's; None for one that is not about that."""
    if gate.kind in ("live", "shadow"):
        return gate
    if gate.kind == "latency" and gate.options.get("from") == "live":
        options = {key: gate.options[key] for key in ("window", "min_predictions") if key in gate.options}
        options |= {"live": f"latency_{gate.options['latency']}", "max": gate.options["max_ms"]}
        return Gate(gate.name, "live", options, gate.line, gate.at_traffic)
    return None


def _result(ask: Ask, gate: Gate) -> GateResult:
    try:
        finding = gate_live.shadow(ask) if ask.gate.kind == "shadow" else gate_live.live(ask)
    except (NotFoundError, InvalidInputError) as error:
        # A gate that can't be asked refuses a promotion; who serves already is not to blame.
        finding = Finding("an answer", "nothing", False, error.message)
    return GateResult(
        gate.name,
        gate.kind,
        finding.required,
        finding.found,
        finding.passed,
        finding.source,
        dict(finding.details),
    )


def _verdict(results: Sequence[GateResult]) -> str:
    if not results:
        return "no gates"
    if any(not each.passed and each.details.get("enough") is True for each in results):
        return "failed"
    return "ok" if all(each.passed for each in results) else "not yet"


def _reason(failing: Sequence[Look]) -> str:
    parts = [
        f"version {look.version}, {look.mode}: {each.gate}: required {each.required}, found {each.found}"
        f" ({each.source})"
        for look in failing
        for each in look.results
        if not each.passed and each.details.get("enough") is True
    ]
    text = f"live gate failed: {'; '.join(parts)}"
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"
