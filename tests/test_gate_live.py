"""Gates over logged predictions: what counts, from when to when, against whom, and as of which commit."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headwater import gates
from headwater.errors import IntegrityError
from headwater.gate_live import LIVE_METRICS, shadow
from headwater.governance_model import GateResult
from headwater.policy import Gate, parse_policy
from headwater.registry import Registry
from headwater.serving_model import Deployment

ONE_LAKE = pytest.mark.parametrize("registry_url", ["local"], indirect=True)
"""What a query over rows finds does not depend on where their files lie; some tests ask on each kind of lake."""

NOW = datetime.now(UTC).replace(microsecond=0)
Evaluate = Callable[..., GateResult]


@pytest.fixture
def served(registry: Registry) -> Registry:
    """A registry with model `m`: version 1 is live, 2 its canary, 3 a shadow."""
    Path("artifact").write_text("weights")
    for _ in range(3):
        registry.register("m", "artifact")
    registry.deploy("m/1", "production")
    registry.deploy("m/2", "production", "canary", 10)
    registry.deploy("m/3", "production", "shadow")
    return registry


@pytest.fixture
def ask(served: Registry) -> Evaluate:
    """Evaluates one gate of a policy on a version."""

    def evaluate(version: int, toml: str, memo: dict[Any, Any] | None = None) -> GateResult:
        text = f"[[production.gate]]\n{toml}\n"
        model_id = served.get("m/1").model_id
        served._context.write("policy", lambda tx: tx.event(model_id, "policy", text))
        version_id = served.get(f"m/{version}").version_id
        with served._context.reading() as fold:
            found = gates.evaluate(
                served._context, fold, version_id=version_id, stage="production", traffic=25, memo=memo
            )
        (result,) = found.results
        assert result.kind in ("live", "shadow")
        return result

    return evaluate


def deployed(registry: Registry, version: int) -> Deployment:
    return next(each for each in registry.deployments("m") if each.version == version)


def log(
    registry: Registry,
    version: int,
    outputs: list[Any],
    labels: list[Any] | None = None,
    *,
    prefix: str = "r",
    hours: float = 1,
    **columns: list[Any],
) -> Deployment:
    """Log predictions of a version, the last so many hours ago, a minute apart, with outcomes for those that have."""
    deployment = deployed(registry, version)
    ids = [f"{prefix}{number}" for number in range(len(outputs))]
    times = [NOW - timedelta(hours=hours, minutes=len(outputs) - number) for number in range(len(outputs))]
    named = {"external_id": ids, "predicted_at": times, "output": [str(each) for each in outputs], **columns}
    registry.log_predictions(pa.table(named), deployment)
    known = [(key, str(label)) for key, label in zip(ids, labels or [], strict=False) if label is not None]
    if known:
        table = pa.table({"external_id": [key for key, _ in known], "label": [label for _, label in known]})
        registry.log_outcomes(table, deployment)
    return deployment


# -- live -------------------------------------------------------------------------------------------------------------
@ONE_LAKE
def test_each_metric_is_made_of_what_it_says(served: Registry, ask: Evaluate) -> None:
    latencies = [float(each) for each in range(1, 101)]
    outputs, labels = [1.0] * 100, [1.0] * 80 + [3.0] * 10 + [None] * 10
    log(served, 2, outputs, labels, score=[0.25] * 50 + [0.75] * 50, latency_ms=latencies)
    expected = {
        "accuracy": (80 / 90, 90),
        "error_rate": (10 / 90, 90),
        "mae": (20 / 90, 90),
        "rmse": (math.sqrt(40 / 90), 90),
        "mean_score": (0.5, 100),
        "latency_mean": (50.5, 100),
        "latency_p50": (50.5, 100),
        "latency_p95": (95.05, 100),
        "latency_p99": (99.01, 100),
    }
    assert set(expected) == set(LIVE_METRICS)
    memo: dict[Any, Any] = {}
    for metric, (value, count) in expected.items():
        found = ask(2, f'live = "{metric}"\nmin = 0\nmax = 1000', memo)
        assert found.passed, found
        assert found.details["value"] == pytest.approx(value)
        assert found.details["predictions"] == count
        assert found.source.startswith(f"{count} predictions")
        assert " of m/2 from " in found.source
    assert len(memo) == 1  # they are read once


def test_a_bound_and_too_few_predictions(served: Registry, ask: Evaluate) -> None:
    nothing = ask(2, 'live = "accuracy"\nmin = 0.5')
    assert (nothing.passed, nothing.found) == (False, "0 of 1 predictions with an outcome")
    assert nothing.details["enough"] is False
    log(served, 2, [1] * 10, [1] * 9 + [0])
    found = ask(2, 'live = "accuracy"\nmin = 0.9\nmin_predictions = 10')
    assert (found.passed, found.found) == (True, "0.9")
    assert found.required == ">= 0.9, on 10 or more predictions with an outcome"
    assert found.details["commit"] == served.head
    assert found.source.endswith(f"as of commit {served.head[:12]}")
    assert not ask(2, 'live = "accuracy"\nmin = 0.91').passed
    assert ask(2, 'live = "error_rate"\nmax = 0.1').passed
    assert not ask(2, 'live = "error_rate"\nmax = 0.09').passed
    few = ask(2, 'live = "accuracy"\nmin = 0.9\nmin_predictions = 11')
    assert (few.passed, few.found) == (False, "10 of 11 predictions with an outcome")
    # Predictions there are; but none of them says how sure it is, and what is missing never passes.
    scores = ask(2, 'live = "mean_score"\nmin = 0')
    assert (scores.passed, scores.found) == (False, "0 of 1 predictions with a score")


@ONE_LAKE
def test_nan_never_passes(served: Registry, ask: Evaluate) -> None:
    log(served, 2, [1, 2], score=[math.nan, 0.5])
    found = ask(2, 'live = "mean_score"\nmin = 0')
    assert (found.passed, found.found, found.details["value"]) == (False, "nan", None)
    assert not ask(2, 'live = "mean_score"\nmax = 1').passed


@ONE_LAKE
def test_a_metric_that_there_is_not_is_refused_with_the_policy(ask: Evaluate) -> None:
    with pytest.raises(IntegrityError, match="did you mean accuracy"):
        ask(2, 'live = "accurate"\nmin = 0')
    for metric in LIVE_METRICS:
        parse_policy(f'[[production.gate]]\nlive = "{metric}"\nmin = 0\n')


@ONE_LAKE
def test_only_the_window_counts(served: Registry, ask: Evaluate) -> None:
    log(served, 2, [0] * 5, [1] * 5, prefix="old", hours=30)
    log(served, 2, [1] * 5, [1] * 5, hours=1)
    assert ask(2, 'live = "accuracy"\nmin = 0').details["value"] == 0.5
    found = ask(2, 'live = "accuracy"\nmin = 0\nwindow = "24h"')
    assert (found.details["value"], found.details["predictions"]) == (1.0, 5)
    assert ask(2, 'live = "accuracy"\nmin = 0\nwindow = "10m"').details["predictions"] == 0


@ONE_LAKE
def test_what_claims_to_come_later_does_not_count(served: Registry, ask: Evaluate) -> None:
    log(served, 2, [1] * 5, [1] * 5, hours=-3)
    assert ask(2, 'live = "accuracy"\nmin = 0').details["predictions"] == 0


@ONE_LAKE
def test_a_drop_against_what_is_live_beside_it_in_the_same_time(served: Registry, ask: Evaluate) -> None:
    log(served, 1, [1] * 20, [1] * 20, prefix="before", hours=40)
    log(served, 2, [1] * 20, [1] * 17 + [0] * 3)
    nothing = ask(2, 'live = "accuracy"\nmax_drop = 0.5')
    assert (nothing.passed, nothing.details["enough"]) == (False, False)
    assert "0 of 1 predictions with an outcome of m/1 to compare with" in nothing.found
    log(served, 1, [1] * 20, [1] * 18 + [0] * 2)
    found = ask(2, 'live = "accuracy"\nmax_drop = 0.05')
    assert (found.passed, found.found) == (True, "0.85, m/1 0.9")
    assert not ask(2, 'live = "accuracy"\nmax_drop = 0.04').passed
    # Of an error, more is a drop.
    assert ask(2, 'live = "error_rate"\nmax_drop = 0.05').passed
    assert not ask(2, 'live = "error_rate"\nmax_drop = 0.04').passed
    # What is in production is compared with nobody.
    alone = ask(1, 'live = "accuracy"\nmax_drop = 0')
    assert alone.passed
    assert "nothing else in production to compare with" in alone.found


@ONE_LAKE
def test_only_predictions_of_what_serves_now_count(served: Registry, ask: Evaluate) -> None:
    log(served, 2, [0] * 5, [1] * 5)
    served.undeploy(deployed(served, 2).deployment_id)
    assert ask(2, 'live = "accuracy"\nmin = 0').details["value"] == 0  # it serves no more: all that it made
    served.deploy("m/2", "production", "canary", 10)
    assert ask(2, 'live = "accuracy"\nmin = 0').details["predictions"] == 0
    log(served, 2, [1] * 5, [1] * 5, prefix="again")
    assert ask(2, 'live = "accuracy"\nmin = 0').details["value"] == 1
    # Predictions of its shadow, or elsewhere, are none of these.
    assert ask(3, 'live = "accuracy"\nmin = 0').details["predictions"] == 0


@ONE_LAKE
def test_reverted_predictions_and_outcomes_do_not_count(served: Registry, ask: Evaluate) -> None:
    log(served, 2, [1] * 5, [1] * 5)
    deployment = deployed(served, 2)
    wrong = served.log_predictions(
        pa.table({"external_id": ["x"], "predicted_at": [NOW - timedelta(hours=1)], "output": ["1"]}), deployment
    )
    outcome = served.log_outcomes(pa.table({"external_id": ["r0"], "label": ["0"]}), deployment)
    assert ask(2, 'live = "accuracy"\nmin = 0').details["value"] == 0.8
    assert ask(2, 'live = "accuracy"\nmin = 0').details["predictions"] == 5
    served.revert(outcome.commit)
    served.revert(wrong.commit)
    assert ask(2, 'live = "accuracy"\nmin = 0').details["value"] == 1


@ONE_LAKE
def test_it_is_pinned_to_the_commit_that_was_read(served: Registry, ask: Evaluate) -> None:
    log(served, 2, [1] * 5, [1] * 5)
    memo: dict[Any, Any] = {}
    first = ask(2, 'live = "accuracy"\nmin = 0.9', memo)
    log(served, 2, [0] * 5, [1] * 5, prefix="later")
    again = ask(2, 'live = "accuracy"\nmin = 0.9', memo)
    # The same decision, on a newer head: it stands on what was read first, and says so.
    assert again.details == first.details
    assert again.source == first.source
    assert not ask(2, 'live = "accuracy"\nmin = 0.9').passed


# -- shadow -----------------------------------------------------------------------------------------------------------
@ONE_LAKE
def test_a_shadow_that_made_enough_for_long_enough(served: Registry, ask: Evaluate) -> None:
    assert ask(3, "shadow = true\nmin_predictions = 1").found == "0 over 0 h"
    log(served, 3, [1] * 61)
    found = ask(3, "shadow = true\nmin_predictions = 61\nmin_hours = 1")
    assert (found.passed, found.found, found.required) == (True, "61 over 1 h", "61 shadow predictions over 1 h")
    assert " of m/3 from " in found.source
    assert not ask(3, "shadow = true\nmin_predictions = 62").passed
    longer = ask(3, "shadow = true\nmin_hours = 1.1")
    assert (longer.passed, longer.details["enough"]) == (False, False)


def test_agreement_is_on_the_same_inputs(served: Registry, ask: Evaluate) -> None:
    toml = "shadow = true\nmin_predictions = 10\nmin_agreement = 0.8"
    log(served, 3, [1] * 10)
    few = ask(3, toml)
    assert (few.passed, few.details["enough"]) == (False, False)
    assert "0 of 10 on inputs that m/1 had too" in few.found
    log(served, 1, ["1.0"] * 8 + [0] * 2 + [0] * 20)  # as numbers they agree
    found = ask(3, toml)
    assert (found.passed, found.details["agreement"], found.details["pairs"]) == (True, 0.8, 10)
    assert "agreement 0.8 on 10" in found.found
    assert not ask(3, toml.replace("0.8", "0.81")).passed


@ONE_LAKE
def test_without_external_ids_inputs_are_compared(served: Registry, ask: Evaluate) -> None:
    def rows(outputs: list[int]) -> pa.Table:
        times = [NOW - timedelta(hours=1)] * len(outputs)
        return pa.table({"origin": [f"A{i}" for i in range(len(outputs))], "predicted_at": times,
                         "output": [str(each) for each in outputs]})  # fmt: skip

    served.log_predictions(rows([1, 1, 1, 1]), deployed(served, 3))
    served.log_predictions(rows([1, 1, 0, 1, 1]), deployed(served, 1))
    found = ask(3, "shadow = true\nmin_agreement = 0.75")
    assert (found.passed, found.details["pairs"], found.details["agreement"]) == (True, 4, 0.75)


@ONE_LAKE
def test_the_last_of_several_predictions_of_one_input_counts(served: Registry, ask: Evaluate) -> None:
    log(served, 3, [0, 0, 0], prefix="r", hours=3)
    log(served, 3, [1, 1, 1], prefix="r", hours=1)
    log(served, 1, [0, 0, 0], prefix="r", hours=3)
    log(served, 1, [1, 1, 0], prefix="r", hours=1)
    found = ask(3, "shadow = true\nmin_agreement = 0.1")
    assert (found.details["pairs"], found.details["agreement"]) == (3, pytest.approx(2 / 3))


@ONE_LAKE
def test_the_shadows_accuracy_against_the_champions_on_the_same_inputs(served: Registry, ask: Evaluate) -> None:
    log(served, 3, [1] * 10, [1] * 4)  # an outcome of either is one of both
    log(served, 1, [1] * 8 + [0] * 2, [None] * 4 + [1] * 6)
    found = ask(3, "shadow = true\nmin_predictions = 10\nmax_drop = 0")
    assert (found.passed, found.details["accuracy"], found.details["other"]) == (True, 1.0, 0.8)
    log(served, 2, [1])  # a canary is not what is compared with
    log(served, 1, [1] * 10, prefix="r", hours=0.5)
    log(served, 3, [0] * 2, prefix="r", hours=0.5)
    worse = ask(3, "shadow = true\nmin_predictions = 10\nmax_drop = 0.1")
    assert not worse.passed
    assert "accuracy 0.8, m/1 1" in worse.found
    assert ask(3, "shadow = true\nmin_predictions = 10\nmax_drop = 0.2").passed


@ONE_LAKE
def test_outcomes_have_to_be_as_many(served: Registry, ask: Evaluate) -> None:
    log(served, 3, [1] * 10, [1] * 4)
    log(served, 1, [1] * 10)
    found = ask(3, "shadow = true\nmin_predictions = 10\nmax_drop = 0")
    assert (found.passed, found.details["enough"]) == (False, False)
    assert "4 of 10 with outcomes" in found.found


@ONE_LAKE
def test_the_first_of_a_model_has_nobody_to_fall_behind(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "artifact").write_text("weights")
    registry.register("m", tmp_path / "artifact")
    registry.stage("m/1", "staging")
    registry.set_gates("m", '[[production.gate]]\nlive = "accuracy"\nmax_drop = 0.1\nmin_predictions = 5\n')
    (result,) = registry.promote("m/1", "production").results
    assert (result.passed, result.found) == (True, "nothing is in production to compare with")


def test_nobody_to_compare_with_never_passes(served: Registry, ask: Evaluate) -> None:
    log(served, 3, [1] * 10)
    served.undeploy(deployed(served, 1).deployment_id)
    for alias in served.aliases("m"):
        served.delete_alias("m", alias.alias)
    found = ask(3, "shadow = true\nmin_agreement = 0.5")
    assert not found.passed
    assert "nothing else in production to compare with" in found.found


@ONE_LAKE
def test_a_champion_that_logged_nothing_is_nobody_to_agree_with(registry: Registry) -> None:
    Path("artifact").write_text("weights")
    for _ in range(3):
        registry.register("m", "artifact")
    registry.deploy("m/3", "production", "shadow")
    model_id, version_id = registry.get("m/1").model_id, registry.get("m/1").version_id
    registry._context.write("bench", lambda tx: tx.event(model_id, "alias", version_id, key="champion"))
    log(registry, 3, [1] * 10)
    gate = Gate("shadow", "shadow", {"shadow": True, "min_agreement": 0.1}, 1)
    with registry._context.reading() as fold:
        found = shadow(
            gates.Ask(
                *(registry._context, fold, gate, "production", None, registry.get("m/3").version_id, model_id, 3, "m"),
                *(version_id, {}),
            )
        )
    assert not found.passed
    assert "0 of 1 on inputs that m/1 had too" in found.found


@ONE_LAKE
def test_few_files_are_read(served: Registry, ask: Evaluate, monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.query import Session

    read: list[Any] = []
    sql = Session.sql

    def spy(self: Session, *arguments: Any, **named: Any) -> Any:
        found = sql(self, *arguments, **named)
        read.append(found.files_read)
        return found

    monkeypatch.setattr(Session, "sql", spy)
    for day in range(5):
        log(served, 1, [1] * 3, [1] * 3, prefix=f"d{day}-", hours=24 * day + 1)
    assert ask(2, 'live = "accuracy"\nmin = 0\nmin_predictions = 1').details["predictions"] == 0
    assert read == []  # none landed for it: nothing is read
    log(served, 2, [1] * 3, [1] * 3)
    assert ask(2, 'live = "accuracy"\nmin = 0').passed
    assert read[-1] == {"predictions": (1, 6), "outcomes": (2, 6)}
