"""Gates: a policy is set, every gate of it is asked of one commit, and what it finds is said and written down."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater import (
    GateFailedError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    PermissionDeniedError,
    Registry,
    gates,
)
from headwater.governance_model import GateResult
from headwater.transaction import Transaction

embedded = pytest.mark.parametrize("registry_url", ["local"], indirect=True)
"""For what rests on no lake's ways: gates read a fold and metric rows, which other tests read on both lakes."""

ACCURACY = '[[production.gate]]\nmetric = "accuracy"\nmin = 0.9\n'
BY_REGION = '[[production.gate]]\nmetric = "accuracy"\nslices = "region"\nmax_regression = 0.01\n'


@pytest.fixture
def model(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with version 1 of model `m`, by `tester`."""
    register(registry, tmp_path)
    return registry


def register(registry: Registry, tmp_path: Path, **given: Any) -> str:
    path = tmp_path / "model.bin"
    path.write_bytes(b"model")
    return registry.register("m", path, **given).version_id


def data(registry: Registry, tmp_path: Path, regions: Mapping[str, int], name: str = "test") -> str:
    """Add a dataset with so many rows of each region, and return its ID."""
    rows = [(region, number) for region, count in regions.items() for number in range(count)]
    path = tmp_path / f"{name}.csv"
    path.write_text("id,region\n" + "".join(f"{at},{region}\n" for at, (region, _) in enumerate(rows)))
    return registry.add_dataset(name, path).dataset_id


def measure(
    registry: Registry,
    version_id: str,
    values: Mapping[str, float],
    *,
    dataset_id: str | None = None,
    source: str = "claimed",
    key: str = "accuracy",
) -> None:
    """Write metric rows of a version, by slice, as `evaluate` and runs do."""

    def work(tx: Transaction) -> None:
        for ordinal, (part, value) in enumerate(values.items()):
            tx.append(
                "metrics",
                **{"ordinal": ordinal, "version_id": version_id, "key": key, "slice": part, "value": value},
                **{"dataset_id": dataset_id, "source": source},
            )
        tx.message = "measure"

    registry._context.write("evaluate", work)


def produce(registry: Registry, reference: str = "m/1") -> None:
    """Put a version into production before there are gates."""
    registry.stage(reference, "staging")
    registry.promote(reference, "production")


def asked(registry: Registry, text: str, reference: str = "m/2", **given: Any) -> GateResult:
    """Set a policy of one gate, and return what that finds."""
    registry.set_gates("m", text)
    (found,) = registry.check_gates(reference, **given).results
    json.dumps(dict(found.details), allow_nan=False)
    return found


# -- policies ---------------------------------------------------------------------------------------------------------
def test_a_policy_is_set_shown_versioned_and_deleted(model: Registry, tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(ACCURACY)
    first = model.set_gates("m", path, reason="after the outage")
    assert (first.subject, first.text, first.gates, first.actor) == ("m", ACCURACY, 1, "tester")
    assert first.commit == model.log(limit=1)[0].commit
    assert model.log(limit=1)[0].message == "set gates of m: 1 gate before production: after the outage"
    assert model.log(limit=1)[0].kind == "gates"
    head = model.head
    assert model.set_gates("m", ACCURACY) == first
    assert model.head == head
    both = f'{ACCURACY}\n[production]\napprovals = {{ count = 2, role = "reviewer" }}\n'
    assert model.set_gates("m", both).gates == 2
    assert model.log(limit=1)[0].message == "set gates of m: 1 gate and 2 approvals by reviewers before production"
    assert [each.text for each in model.gates("m")] == [both]
    assert [each.text for each in model.at(head).gates("m")] == [ACCURACY]
    assert model.sql("SELECT subject, text, digest FROM policies").fetchall() == [
        ("m", both, model.gates("m")[0].digest)
    ]
    model.delete_gates("m", reason="no more")
    assert model.log(limit=1)[0].message == "delete the gates of m: no more"
    assert model.gates("m") == model.gates() == []
    with pytest.raises(NotFoundError, match="m has no policy of its own"):
        model.delete_gates("m")


@embedded
def test_what_is_no_policy_is_not_set(model: Registry, tmp_path: Path) -> None:
    head = model.head
    with pytest.raises(InvalidInputError, match=r"^gates\.toml:2: "):
        model.set_gates("m", "[production]\nx = 1\n")
    (tmp_path / "mine.toml").write_text("[production]\n\nx = 1\n")
    with pytest.raises(InvalidInputError, match=r"^mine\.toml:3: "):
        model.set_gates("m", tmp_path / "mine.toml")
    with pytest.raises(InvalidInputError, match="it names no stage"):
        model.set_gates("m", "")
    with pytest.raises(NotFoundError, match="there is no file"):
        model.set_gates("m", str(tmp_path / "nowhere.toml"))
    with pytest.raises(LakeError, match="can't be read: Is a directory"):
        model.set_gates("m", tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe[")
    with pytest.raises(InvalidInputError, match=r"'binary\.toml' is not text in UTF-8"):
        model.set_gates("m", tmp_path / "binary.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 300_000)
    with pytest.raises(InvalidInputError, match="more than 262,144 bytes"):
        model.set_gates("m", tmp_path / "large.toml")
    with pytest.raises(NotFoundError, match="there is no model n"):
        model.set_gates("n", ACCURACY)
    data(model, tmp_path, {"EU": 1}, "flights")
    with pytest.raises(NotFoundError) as caught:
        model.set_gates("flights", ACCURACY)
    assert caught.value.hint == "for the dataset, write dataset:flights"
    for name in ("m/1", "m@champion", "dataset:flights@1.0.0"):
        with pytest.raises(InvalidInputError, match="is one version"):
            model.set_gates(name, ACCURACY)
    for name in ("pattern:", "m**", "pattern:m?", "m[a]*", "M*", "../*"):
        with pytest.raises(InvalidInputError, match="not a pattern of model names"):
            model.set_gates(name, ACCURACY)
    with pytest.raises(InvalidInputError, match="a dataset's policy has no 'production'"):
        model.set_gates("dataset:flights", ACCURACY)
    with pytest.raises(InvalidInputError, match="the reason has 10001 characters"):
        model.set_gates("m", ACCURACY, reason="x" * 10_001)
    with pytest.raises(InvalidInputError, match="can be read, not written"):
        model.at("main").set_gates("m", ACCURACY)
    assert model.head != head  # the dataset
    assert model.gates() == []


@embedded
def test_policies_of_patterns_hold_together_with_the_models_own(model: Registry) -> None:
    model.set_gates("*", '[[production.gate]]\nmetric = "accuracy"\nmin = 0.8\n')
    model.set_gates("pattern:m", '[[production.gate]]\ncheck = "integration"\n')
    model.set_gates("n*", '[[production.gate]]\ncheck = "other"\n')
    model.set_gates("m", ACCURACY)
    found = model.check_gates("m/1")
    assert [(each.gate, each.required) for each in found.results] == [
        ("accuracy", ">= 0.9"),
        (f"accuracy (pattern:* {model.gates('*')[0].digest[:8]})", ">= 0.8"),
        ("check integration", "integration passed"),
    ]
    assert [each.subject for each in model.gates("m")] == ["m", "pattern:*", "pattern:m"]
    assert [each.subject for each in model.gates()] == ["m", "pattern:*", "pattern:m", "pattern:n*"]
    assert len(found.policy or "") == 64
    assert found.policy != model.gates("m")[0].digest
    # The same gate twice is one gate; and a rename takes a model out of no pattern.
    model.set_gates("*", ACCURACY)
    model.rename("m", "other")
    assert [each.gate for each in model.check_gates("other/1").results] == ["accuracy", "check integration"]


@embedded
def test_who_decides_on_a_model_meanwhile_is_told_of_a_policy(model: Registry) -> None:
    """Each change writes what every decision that it is about writes too, so that only one of them lands."""
    model_id = model.model("m").model_id

    def fenced(set_gates: Callable[[], object]) -> set[str]:
        before = model.head
        set_gates()
        return {each.path.rpartition("/")[2] for each in model._context.lake.diff(before, model.head, "fence/")}

    assert fenced(lambda: model.set_gates("m", ACCURACY)) == {model_id}
    # Before there is a pattern, promotions look out for their own model alone.
    assert fenced(lambda: model.set_gates("*", ACCURACY)) == {model_id, "_all"}
    assert fenced(lambda: model.set_gates("n*", ACCURACY)) == {"_all"}
    assert fenced(lambda: model.delete_gates("*")) == {"_all"}
    assert fenced(lambda: model.record_check("m/1", "load", passed=True)) == {model_id}


@embedded
def test_two_branches_policies_hold_both_until_one_is_set(model: Registry) -> None:
    side = model.create_branch("side")
    model.set_gates("m", ACCURACY)
    side.set_gates("m", '[[production.gate]]\ncheck = "integration"\n')
    with model._context.reading() as fold:
        model_id = model.model("m").model_id
        assert [len(policy.stages["production"].gates) for _, policy in gates.policies_of(fold, model_id)] == [1]

    def both(tx: Transaction) -> None:
        tx.event(model_id, "policy", '[[production.gate]]\ncheck = "integration"\n', prev=[])

    model._context.write("gates", both)
    assert len(model.gates("m")) == 2
    assert [each.kind for each in model.check_gates("m/1").results] == ["metric", "check"]
    model.set_gates("m", ACCURACY)
    assert [each.kind for each in model.check_gates("m/1").results] == ["metric"]


@embedded
def test_a_stored_policy_that_cant_be_read_is_damage(model: Registry) -> None:
    model_id = model.model("m").model_id
    model._context.write("gates", lambda tx: tx.event(model_id, "policy", "[production]\nnew_kind = 1\n"))
    for call in (lambda: model.check_gates("m/1"), lambda: model.gates("m")):
        with pytest.raises(IntegrityError, match="a stored policy can't be read: the policy:2"):
            call()
    model.set_gates("m", ACCURACY)
    assert len(model.check_gates("m/1").results) == 1


@embedded
def test_what_is_asked_for_is_checked(model: Registry) -> None:
    with pytest.raises(InvalidInputError, match="no gates stand before 'archived'"):
        model.check_gates("m/1", "archived")
    with pytest.raises(InvalidInputError, match="only production has traffic"):
        model.check_gates("m/1", "staging", traffic=5)
    with pytest.raises(InvalidInputError, match="not a percentage"):
        model.check_gates("m/1", traffic=101)
    with pytest.raises(NotFoundError):
        model.check_gates("m/2")
    assert model.check_gates("m/1").passed
    assert model.check_gates("m/1").policy is None


@embedded
def test_a_gate_of_a_share_is_asked_from_that_share_on(model: Registry) -> None:
    model.set_gates("m", f"{ACCURACY}at_traffic = 25\n")
    assert [len(model.check_gates("m/1", traffic=each).results) for each in (5, 24.9, 25, 100)] == [0, 0, 1, 1]
    assert len(model.check_gates("m/1").results) == 1


# -- results ----------------------------------------------------------------------------------------------------------
def test_what_was_found_is_written_and_found_again_at_its_commit(model: Registry, tmp_path: Path) -> None:
    produce(model)
    second = register(model, tmp_path, metrics={"accuracy": 0.95})
    model.set_gates("m", f'{ACCURACY}[[production.gate]]\ncheck = "load"\n')
    model.stage("m/2", "staging")
    with pytest.raises(GateFailedError):
        model.promote("m/2", "production")
    model.record_check("m/2", "load", passed=True)
    found = model.promote("m/2", "production")
    with model._context.reading() as fold:
        assert gates.results_of(fold, second, "production") == sorted(found.results, key=lambda each: each.gate)
        assert gates.results_of(fold, second, "staging") == []
        events = [json.loads(v) for _, v in fold.standing(second, "gate", "production accuracy")]
    assert [set(each) for each in events] == [
        {"gate", "kind", "required", "found", "passed", "source", "details", "policy", "commit"}
    ]
    again = model.at(events[0]["commit"]).check_gates("m/2")
    assert again.results == found.results
    assert (again.commit, again.policy) == (events[0]["commit"], events[0]["policy"])
    rows = model.sql(
        "SELECT gate, passed, required, found FROM gate_results WHERE version = 2 ORDER BY gate"
    ).fetchall()
    assert rows == [("accuracy", True, ">= 0.9", "0.95"), ("check load", True, "load passed", "passed")]


@embedded
def test_a_result_that_cant_be_read_is_damage(model: Registry) -> None:
    version_id = model.get("m/1").version_id
    model._context.write("gates", lambda tx: tx.event(version_id, "gate", "[]", key="production x"))
    with model._context.reading() as fold, pytest.raises(IntegrityError, match="a gate's result that can't be read"):
        gates.results_of(fold, version_id, "production")


# -- thresholds -------------------------------------------------------------------------------------------------------
@embedded
def test_a_metric_is_at_least_and_at_most(model: Registry) -> None:
    measure(model, model.get("m/1").version_id, {"": 0.95})
    found = asked(model, ACCURACY, "m/1")
    assert (found.gate, found.required, found.found, found.passed) == ("accuracy", ">= 0.9", "0.95", True)
    assert found.source == f"metric row of commit {model.log()[1].commit[:12]}, claimed by tester, on no named dataset"
    assert not asked(model, ACCURACY.replace("0.9", "0.96"), "m/1").passed
    between = asked(model, f"{ACCURACY}max = 0.94\n", "m/1")
    assert (between.required, between.passed) == (">= 0.9 and <= 0.94", False)
    assert asked(model, ACCURACY.replace("0.9", "0.95"), "m/1").passed


@embedded
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_passes_no_gate(model: Registry, value: float) -> None:
    measure(model, model.get("m/1").version_id, {"": value})
    for limit in ("min = -1e300", "max = 1e300"):
        found = asked(model, f'[[production.gate]]\nmetric = "accuracy"\n{limit}\n', "m/1")
        assert (found.found, found.passed) == (str(value), False)


@embedded
def test_what_was_not_measured_passes_no_gate(model: Registry, tmp_path: Path) -> None:
    missing = asked(model, ACCURACY, "m/1")
    assert (missing.found, missing.passed, missing.source) == ("nothing", False, "no accuracy of m/1 was measured")
    on = ACCURACY + 'on = "test"\n'
    gone = asked(model, on, "m/1")
    assert (gone.found, gone.passed, gone.source) == ("nothing", False, "there is no dataset test")
    first = data(model, tmp_path, {"EU": 3})
    measure(model, model.get("m/1").version_id, {"": 0.95}, dataset_id=first)
    assert asked(model, on, "m/1").passed
    second = data(model, tmp_path, {"EU": 4})
    newer = asked(model, on, "m/1")
    assert (newer.found, newer.passed) == ("nothing", False)
    assert newer.source == "no accuracy of m/1 was measured on test@1.1.0; it is 0.95 on test@1.0.0"
    assert asked(model, ACCURACY + 'on = "test@1.0.0"\n', "m/1").passed
    measure(model, model.get("m/1").version_id, {"": 0.8}, dataset_id=second)
    assert asked(model, on, "m/1").found == "0.8"
    assert asked(model, ACCURACY, "m/1").found == "0.8"


@embedded
def test_the_row_that_landed_last_counts_and_claims_may_not(model: Registry, tmp_path: Path) -> None:
    version_id = model.get("m/1").version_id
    measure(model, version_id, {"": 0.95})
    demanded = asked(model, f"{ACCURACY}computed = true\n", "m/1")
    assert (demanded.found, demanded.passed) == ("0.95, claimed", False)
    assert demanded.source.startswith("a computed accuracy is demanded: metric row of commit")
    path = tmp_path / "test.csv"
    path.write_text("id,y\n" + "".join(f"{number},{number % 2}\n" for number in range(10)))
    model.add_dataset("test", path, key=["id"])
    model.evaluate("m/1", on="test", predict=lambda table: [1, 1, 1, 1, 1, 1, 0, 1, 0, 1])
    assert asked(model, f"{ACCURACY}computed = true\n", "m/1").found == "0.7"
    # Whoever writes a row beside no evaluation has computed nothing.
    measure(model, version_id, {"": 0.98}, source="computed")
    assert asked(model, f"{ACCURACY}computed = true\n", "m/1").found == "0.7"
    assert asked(model, ACCURACY, "m/1").found == "0.98"
    measure(model, version_id, {"": 0.99})
    assert asked(model, ACCURACY, "m/1").found == "0.99"
    assert asked(model, f"{ACCURACY}computed = true\n", "m/1").found == "0.7"
    newest = next(each for each in model.log() if each.message == "measure")
    model.revert(newest.commit)
    assert asked(model, ACCURACY, "m/1").found == "0.98"


@embedded
def test_a_threshold_holds_on_every_slice(model: Registry, tmp_path: Path) -> None:
    text = f'{ACCURACY}slices = "region"\n'
    nothing = asked(model, text, "m/1")
    assert (nothing.found, nothing.source) == ("nothing", "no accuracy by region of m/1 was measured")
    dataset_id = data(model, tmp_path, {"EU": 40, "US": 40, "tiny": 5})
    slices = {"region=EU": 0.95, "region=US": 0.91, "region=tiny": 0.1, "origin=JFK": 0.1}
    measure(model, model.get("m/1").version_id, slices, dataset_id=dataset_id)
    found = asked(model, text, "m/1")
    assert (found.found, found.passed) == (
        "worst: region=US 0.91 (too few rows to judge: region=tiny)",
        True,
    )
    assert asked(model, f"{text}min_rows = 5\n", "m/1").found == "region=tiny 0.1"
    assert not asked(model, text.replace("0.9\n", "0.92\n"), "m/1").passed
    assert asked(model, f"{text}min_rows = 50\n", "m/1").found.startswith("nothing: no slice has 50 rows (region=EU;")
    # Who leaves a slice out has not measured it.
    other = data(model, tmp_path, {"EU": 40, "US": 41})
    measure(model, model.get("m/1").version_id, {"region=EU": 0.95}, dataset_id=other)
    left_out = asked(model, text, "m/1")
    assert (left_out.found, left_out.passed) == ("region=US nothing", False)


# -- regressions ------------------------------------------------------------------------------------------------------
@embedded
def test_nothing_is_compared_where_nothing_is_in_production(model: Registry) -> None:
    found = asked(model, BY_REGION, "m/1")
    assert (found.gate, found.passed, found.source) == (
        "accuracy by region",
        True,
        "nothing is in production to compare with",
    )
    model.delete_gates("m")
    produce(model)
    assert asked(model, BY_REGION, "m/1").source == "this version is in production itself"


def test_a_candidate_that_is_better_overall_and_worse_on_a_slice_is_refused(model: Registry, tmp_path: Path) -> None:
    measure(model, model.get("m/1").version_id, {"": 0.8, "region=EU": 0.8, "region=US": 0.8})
    produce(model)
    register(
        model,
        tmp_path,
        metrics={"accuracy": 0.85},
        slices=[("accuracy", {"region": "EU"}, 0.95), ("accuracy", {"region": "US"}, 0.75)],
    )
    found = asked(model, BY_REGION)
    assert found.required == "no more than 0.01 below production by region"
    assert (found.found, found.passed) == ("region=US 0.8 → 0.75", False)
    assert found.source == (
        "metric rows on no named dataset, some of them claimed, against m/1;"
        " the values as they are, since how sure they are is not known"
    )
    assert found.details["failing"]["region=US"]["drop"] == pytest.approx(0.05)
    assert list(found.details["passing"]) == ["region=EU"]
    overall = asked(model, '[[production.gate]]\nmetric = "accuracy"\nmax_regression = 0\n')
    assert (overall.gate, overall.found, overall.passed) == ("accuracy against production", "0.8 → 0.85", True)
    model.stage("m/2", "staging")
    model.set_gates("m", BY_REGION)
    with pytest.raises(GateFailedError, match="accuracy by region"):
        model.promote("m/2", "production")


@embedded
def test_slices_of_one_side_only(model: Registry, tmp_path: Path) -> None:
    first = model.get("m/1").version_id
    produce(model)
    second = register(model, tmp_path)
    nothing = asked(model, BY_REGION)
    assert (nothing.found, nothing.source) == ("nothing", "no accuracy by region of m/2 was measured")
    measure(model, second, {"region=EU": 0.9, "region=new": 0.1})
    alone = asked(model, BY_REGION)
    assert (alone.found, alone.passed) == ("nothing to compare with", False)
    assert alone.source == (
        "no accuracy by region of m/1, which is in production, was measured on no named dataset:"
        " `headwater evaluate m/1`"
    )
    measure(model, first, {"region=EU": 0.9})
    both = asked(model, BY_REGION)
    assert (both.found, both.passed) == ("worst: region=EU 0.9 → 0.9 (not in production: region=new)", True)
    assert both.details["only_in_candidate"] == ["region=new"]
    measure(model, first, {"region=US": 0.9})
    lost = asked(model, BY_REGION)
    assert (lost.found, lost.passed) == ("region=US 0.9 → nothing (not in production: region=new)", False)
    measure(model, second, {"region=US": float("nan")})
    assert asked(model, BY_REGION).found.startswith("region=US 0.9 → nan")
    measure(model, first, {"region=US": float("nan")})
    assert not asked(model, BY_REGION).passed
    measure(model, second, {"region=US": 0.5})
    assert not asked(model, BY_REGION).passed
    demanded = asked(model, f"{BY_REGION}computed = true\n")
    assert (demanded.found, demanded.source) == ("nothing", "no computed accuracy by region of m/2 was measured")


@embedded
def test_a_tolerance_is_met_by_what_people_type(model: Registry, tmp_path: Path) -> None:
    measure(model, model.get("m/1").version_id, {"": 0.8, "a=1,b=2": 0.8}, key="auc")
    produce(model)
    second = register(model, tmp_path)
    measure(model, second, {"": 0.79, "a=1,b=2": 0.78}, key="auc")
    text = '[[production.gate]]\nmetric = "auc"\nmax_regression = 0.01\n'
    assert asked(model, text).passed
    joined = asked(model, f'{text}slices = "b+a"\n')
    assert (joined.gate, joined.found) == ("auc by a+b", "a=1,b=2 0.8 → 0.78")


@embedded
@pytest.mark.parametrize(
    ("key", "extra", "passed"),
    [
        ("rmse", "", True),
        ("val_loss", "", True),
        ("log-loss", "", True),
        ("auc", "", False),
        ("auc", "lower_is_better = true\n", True),
        ("misclassification_rate", "", True),
        ("false_positive_rate", "", True),
        ("negative_log_likelihood", "", True),
        ("SMAPE", "", True),
        ("neg_log_loss", "", False),
        ("neg_mean_squared_error", "", False),
        ("error_free_rate", "", False),
        ("error_recall", "", False),
        ("loss_reduction", "", False),
        ("recall_error", "", True),
        ("f1_loss", "", True),
        ("rmse", "lower_is_better = false\n", False),
    ],
)
def test_less_is_better_for_errors(model: Registry, tmp_path: Path, key: str, extra: str, passed: bool) -> None:
    measure(model, model.get("m/1").version_id, {"": 0.8}, key=key)
    produce(model)
    measure(model, register(model, tmp_path), {"": 0.5}, key=key)
    found = asked(model, f'[[production.gate]]\nmetric = "{key}"\nmax_regression = 0.01\n{extra}')
    assert found.passed is passed
    assert (" above " in found.required) is passed


@embedded
def test_where_all_slices_are_small_values_are_compared_as_they_are(model: Registry, tmp_path: Path) -> None:
    dataset_id = data(model, tmp_path, {"EU": 4, "US": 3})
    measure(model, model.get("m/1").version_id, {"region=EU": 0.8, "region=US": 0.8}, dataset_id=dataset_id)
    produce(model)
    second = register(model, tmp_path)
    measure(model, second, {"region=EU": 0.9, "region=US": 0.7}, dataset_id=dataset_id)
    found = asked(model, BY_REGION)
    assert (found.passed, found.found) == (False, "region=US 0.8 → 0.7")
    assert asked(model, f"{BY_REGION}min_rows = 5\n").found.startswith("nothing: no slice has 5 rows")
    measure(model, second, {"region=US": 0.8}, dataset_id=dataset_id)
    assert asked(model, BY_REGION).passed


@embedded
def test_rows_say_how_sure_a_claimed_rate_is(model: Registry, tmp_path: Path) -> None:
    dataset_id = data(model, tmp_path, {"EU": 1000, "US": 40, "tiny": 3})
    measure(
        model,
        model.get("m/1").version_id,
        {"region=EU": 0.8, "region=US": 0.8, "region=tiny": 0.9},
        dataset_id=dataset_id,
    )
    produce(model)
    second = register(model, tmp_path)
    measure(model, second, {"region=EU": 0.7, "region=US": 0.7, "region=tiny": 0.1}, dataset_id=dataset_id)
    found = asked(model, BY_REGION)
    assert found.found.startswith("region=EU 0.8 → 0.7 (worse by 0.0")
    assert found.found.endswith("(too few rows to judge: region=tiny)")
    assert list(found.details["within_noise"]) == ["region=US"]
    assert "Newcombe's interval of rates over the dataset's rows, one-sided at 0.95" in found.source
    measure(model, second, {"region=EU": 0.8}, dataset_id=dataset_id)
    noise = asked(model, BY_REGION)
    assert noise.passed
    assert noise.found.startswith("worst: region=US 0.8 → 0.7, which may be noise")
    few = asked(model, f"{BY_REGION}min_rows = 2000\n")
    assert (few.passed, few.found) == (
        False,
        "nothing: no slice has 2000 rows (region=EU; region=US; region=tiny)",
    )
    # Of an area under a curve rows say nothing.
    measure(model, model.get("m/1").version_id, {"region=US": 0.8}, dataset_id=dataset_id, key="auc")
    measure(model, second, {"region=US": 0.7}, dataset_id=dataset_id, key="auc")
    assert not asked(model, BY_REGION.replace("accuracy", "auc")).passed


# -- checks and approvals ---------------------------------------------------------------------------------------------
def test_a_check_is_recorded_and_a_failure_stands(model: Registry) -> None:
    text = '[[production.gate]]\ncheck = "integration"\n'
    missing = asked(model, text, "m/1")
    assert (missing.gate, missing.found, missing.passed) == ("check integration", "nothing", False)
    assert missing.source == "no such check is recorded: `headwater check record m/1 integration --passed`"
    said = model.record_check("m/1", "integration", passed=True, url="https://ci.example.com/8", detail="412 tests")
    assert (said.check, said.passed, said.url, said.detail, said.actor) == (
        *("integration", True, "https://ci.example.com/8"),
        *("412 tests", "tester"),
    )
    assert model.log(limit=1)[0].message == "check integration of m/1 passed"
    found = asked(model, text, "m/1")
    assert (found.found, found.passed) == ("passed", True)
    assert found.source == f"check of commit {said.commit[:12]} by tester, https://ci.example.com/8"
    model.record_check("m/1", "integration", passed=False, detail="flaky")
    failed = asked(model, text, "m/1")
    assert (failed.found, failed.passed, dict(failed.details)) == ("failed", False, {"detail": "flaky"})
    assert [(each.check, each.passed) for each in model.checks("m/1")] == [("integration", False)]
    rows = model.sql("SELECT name, version, check_name, passed, detail FROM checks").fetchall()
    assert rows == [("m", 1, "integration", False, "flaky")]


@embedded
def test_of_two_records_that_stand_a_failure_counts(model: Registry) -> None:
    version_id = model.get("m/1").version_id
    for passed in (False, True):
        value = json.dumps({"passed": passed, "url": None, "detail": str(passed)})
        model._context.write("check", lambda tx, v=value: tx.event(version_id, "check", v, key="load", prev=[]))
    (stands,) = model.checks("m/1")
    assert (stands.passed, stands.detail) == (False, "False")
    assert not asked(model, '[[production.gate]]\ncheck = "load"\n', "m/1").passed
    model.record_check("m/1", "load", passed=True)
    assert asked(model, '[[production.gate]]\ncheck = "load"\n', "m/1").passed


@embedded
def test_what_is_no_check_is_not_recorded(model: Registry) -> None:
    head = model.head
    with pytest.raises(InvalidInputError, match="not a name for a check"):
        model.record_check("m/1", "", passed=True)
    for url in ("ftp://x", "javascript:alert(1)", "/etc/passwd", "x" * 20_000):
        with pytest.raises(InvalidInputError, match="not a URL"):
            model.record_check("m/1", "load", passed=True, url=url)
    with pytest.raises(InvalidInputError, match="the detail has 10001 characters"):
        model.record_check("m/1", "load", passed=True, detail="x" * 10_001)
    with pytest.raises(InvalidInputError, match="not a result: 'None'"):
        model.record_check("m/1", "load", passed=None)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        model.record_check("m/9", "load", passed=True)
    assert model.head == head
    assert model.checks("m/1") == []
    version_id = model.get("m/1").version_id
    model._context.write("check", lambda tx: tx.event(version_id, "check", "true", key="load"))
    with pytest.raises(IntegrityError, match="says a check that can't be read"):
        model.checks("m/1")


APPROVED = '[production]\napprovals = { count = 1, role = "reviewer" }\n'


def test_people_approve_what_others_made(model: Registry, registry_url: str) -> None:
    with pytest.raises(PermissionDeniedError, match="tester made m/1, and nobody approves what he made himself"):
        model.approve("m/1", "production")
    none = asked(model, APPROVED, "m/1")
    assert (none.gate, none.required, none.found, none.passed) == ("approvals", "1 by a reviewer", "0", False)
    with headwater.open(registry_url, actor="ann") as ann:
        said = ann.approve("m/1", "production", reason="compared by hand")
        assert (said.name, said.version, said.stage, said.principal) == ("m", 1, "production", "actor:ann")
        assert (said.given, said.branch, said.reason, said.actor) == (True, "main", "compared by hand", "ann")
        head = ann.head
        ann.approve("m/1", "production")
        assert ann.head == head
        found = asked(model, APPROVED, "m/1")
        assert (found.found, found.passed) == ("1 (ann)", True)
        two = asked(model, APPROVED.replace("1", "2"), "m/1")
        assert (two.required, two.found, two.passed) == ("2 by reviewers", "1 (ann)", False)
        # Another stage is another matter, and so is another branch.
        assert not asked(model, APPROVED.replace("[production]", "[staging]"), "m/1", to="staging").passed
        model.set_gates("m", APPROVED)
        side = model.create_branch("side").check_gates("m/1")
        assert not side.passed
        assert side.results[0].source.endswith("on branch side; not counted: ann (given for branch main)")
        taken = ann.approve("m/1", "production", withdraw=True)
        assert (taken.given, taken.actor) == (False, "ann")
        with pytest.raises(NotFoundError, match="ann has given no approval of m/1 for production on main"):
            ann.approve("m/1", "production", withdraw=True)
    assert not model.check_gates("m/1").passed
    assert [(each.principal, each.given) for each in model.approvals("m/1")] == [("actor:ann", False)]
    rows = model.sql("SELECT name, version, stage, actor, given, branch FROM approvals").fetchall()
    assert rows == [("m", 1, "production", "ann", False, "main")]


@embedded
def test_only_those_count_who_hold_the_role_now(model: Registry, registry_url: str) -> None:
    for who in ("ann", "bob"):
        with headwater.open(registry_url, actor=who) as registry:
            registry.approve("m/1", "production")
    assert asked(model, APPROVED, "m/1").found == "2 (ann, bob)"

    def say(who: str, key: str, value: str) -> None:
        model._context.write("role", lambda tx: tx.event(f"actor:{who}", "role", value, key=key))

    say("tester", "admin *", "granted")
    assert asked(model, APPROVED, "m/1").found == "0"
    say("ann", "reviewer m*", "granted")
    say("bob", "reviewer n*", "granted")
    found = asked(model, APPROVED, "m/1")
    assert (found.found, found.source) == (
        "1 (ann)",
        "approvals for production on branch main; not counted: bob (no reviewer now)",
    )
    say("ann", "reviewer m*", "revoked")
    assert asked(model, APPROVED, "m/1").found == "0"


@embedded
def test_who_ran_the_training_is_an_author_too(registry_url: str, tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(b"m")
    with headwater.open(registry_url, actor="ann") as ann, ann.start_run("train", experiment="e") as run:
        run_id = run.run_id
    with headwater.open(registry_url, actor="bob") as bob:
        bob.register("m", path, run=run_id)
    with headwater.open(registry_url, actor="ann") as ann, pytest.raises(PermissionDeniedError, match="ann made m/1"):
        ann.approve("m/1", "production")


@embedded
def test_what_is_no_approval(model: Registry) -> None:
    for stage in ("archived", "none", "x"):
        with pytest.raises(InvalidInputError, match="nothing is approved for"):
            model.approve("m/1", stage)
    with pytest.raises(NotFoundError):
        model.approve("m/3", "production")
    with pytest.raises(InvalidInputError, match="the reason has 10001 characters"):
        model.approve("m/1", "production", reason="x" * 10_001)


# -- signatures and cards ---------------------------------------------------------------------------------------------
def signed(registry: Registry, tmp_path: Path, signature: str | None, *, on: str | None = None) -> None:
    """Register a version with a signature, by a run that used a dataset."""
    params = {} if signature is None else {"input_schema": signature}
    with registry.start_run("train", experiment="e", params=params) as run:
        if on is not None:
            run.use(on)
        path = tmp_path / "s.bin"
        path.write_bytes(b"s")
        run.register("m", path)


@embedded
def test_a_signature_names_columns_that_the_training_data_has(model: Registry, tmp_path: Path) -> None:
    text = "[[production.gate]]\nsignature = true\n"
    none = asked(model, text, "m/1")
    assert (none.found, none.source) == ("nothing", "the version was registered without one")
    data(model, tmp_path, {"EU": 2}, "train")
    signed(model, tmp_path, '{"inputs": {"columns": {"id": "int64", "region": "object"}}}', on="train")
    found = asked(model, text)
    assert (found.found, found.passed) == ("2 inputs", True)
    assert found.source == "the version's row; its columns are those of train@1.0.0"
    signed(model, tmp_path, '{"inputs": {"columns": {"id": "int64", "speed": "float64"}}}', on="train")
    wrong = asked(model, text, "m/3")
    assert (wrong.passed, wrong.source) == (False, "train@1.0.0, which it was trained on, has no column 'speed'")
    signed(model, tmp_path, '{"inputs": {"dtype": "float64", "columns": 4}}')
    assert asked(model, text, "m/4").found == "4 inputs"
    signed(model, tmp_path, '{"inputs": "[{\\"name\\": \\"id\\"}]"}')
    assert asked(model, text, "m/5").found == "1 input"
    for at, odd in enumerate(["[]", "no", '{"inputs": {"columns": {}}}']):
        signed(model, tmp_path, odd)
        assert "its signature can't be read" in asked(model, text, f"m/{6 + at}").source


def test_a_card_says_what_it_lacks(model: Registry, tmp_path: Path) -> None:
    found = model.check_card("m/1")
    fields = ["description", "owner", "intended use", "training data", "code", "metrics"]
    assert (list(found.missing), found.complete) == (fields, False)
    assert [each.found for each in found.fields][1] == "`headwater tag-model m/1 owner=TEAM`"
    text = "[[production.gate]]\ncard = true\n"
    gate = asked(model, text, "m/1")
    assert (gate.found, gate.passed) == (f"no {', '.join(fields)}", False)
    trained, held = data(model, tmp_path, {"EU": 2}, "train"), data(model, tmp_path, {"EU": 1}, "held")
    register(model, tmp_path, data=["train"], description="predicts delays", tags={"owner": "ops"})
    model.tag("m", {"intended-use": "planning"})
    measure(model, model.get("m/2").version_id, {"": 0.9}, dataset_id=trained)
    assert list(model.check_card("m/2").missing) == ["code", "metrics"]
    measure(model, model.get("m/2").version_id, {"": 0.9}, dataset_id=held)
    told = {each.field: each.found for each in model.check_card("m/2").fields}
    assert told["metrics"] == "accuracy on held@1.0.0"
    assert told["training data"] == "train@1.0.0"
    assert told["intended use"] == "planning"
    assert not asked(model, text).passed
    with pytest.raises(NotFoundError):
        model.check_card("m/9")


# -- stored predictions -----------------------------------------------------------------------------------------------
def old(table: Any) -> Any:
    return table.column("old")


def new(table: Any) -> Any:
    return table.column("new")


def alike(table: Any) -> Any:
    return table.column("alike")


@embedded
def test_stored_predictions_are_compared_row_by_row(model: Registry, tmp_path: Path) -> None:
    """Better overall and worse on JFK is refused, on a column that nobody measured; of the same quality is not."""
    draw = random.Random(7)
    lines = ["id,origin,even,label,old,new,alike"]
    for number in range(600):
        origin, label = "JFK" if number % 3 == 0 else "LGA", draw.choice([0, 1])
        right = {"old": 0.8, "new": 0.65 if origin == "JFK" else 0.97, "alike": 0.8}
        said = [label if draw.random() < share else 1 - label for share in right.values()]
        lines.append(f"{number},{origin},{number % 2 == 0},{label},{','.join(map(str, said))}")
    (tmp_path / "test.csv").write_text("\n".join(lines) + "\n")
    model.add_dataset("test", tmp_path / "test.csv", key=["id"])
    model.evaluate("m/1", on="test", predict=old)
    produce(model)
    for number, predict in ((2, new), (3, alike)):
        register(model, tmp_path)
        model.evaluate(f"m/{number}", on="test", predict=predict)
    text = BY_REGION.replace("region", "origin") + 'on = "test"\n'
    found = asked(model, text)
    assert found.passed is False
    assert found.found.startswith("origin=JFK 0.")
    assert "(worse by 0." in found.found
    assert found.source == (
        "stored predictions for the same rows, bootstrap of 500 resamples, one-sided at 0.95 on test@1.0.0, against m/1"
    )
    detail = found.details["failing"]["origin=JFK"]
    assert detail["rows"] == 200
    assert 0.01 < detail["least_drop"] < detail["drop"]
    assert found.details["passing"]["origin=LGA"]["drop"] < 0
    assert asked(model, text.replace("origin", "even+origin").replace("0.01", "0.5")).passed
    assert asked(model, text.replace('slices = "origin"\n', "")).passed
    assert asked(model, text, "m/3").passed
    assert asked(model, text) == found
    # A column that the data lacks has no slices, whatever else was measured.
    assert not asked(model, text.replace('"origin"', '"carrier"')).passed
    assert asked(model, f"{text}min_rows = 1000\n").found.startswith("nothing: no slice has 1000 rows")


@embedded
def test_what_is_expensive_is_measured_once_for_a_decision(model: Registry, tmp_path: Path) -> None:
    dataset_id = data(model, tmp_path, {"EU": 40})
    measure(model, model.get("m/1").version_id, {"region=EU": 0.8}, dataset_id=dataset_id)
    produce(model)
    second = register(model, tmp_path)
    measure(model, second, {"region=EU": 0.8}, dataset_id=dataset_id)
    model.set_gates("m", BY_REGION)
    memo: dict[Any, Any] = {}
    for value in (0.8, 0.1):
        measure(model, second, {"region=EU": value}, dataset_id=dataset_id)
        with model._context.reading() as fold:
            found = gates.evaluate(model._context, fold, version_id=second, stage="production", memo=memo)
        # Rows of the dataset are counted once; what was measured meanwhile is seen.
        assert found.passed is (value == 0.8)
    assert [key[0] for key in memo].count("rows of slices") == 1


@embedded
def test_an_approval_of_another_branch_takes_nothing_from_this_one(model: Registry, registry_url: str) -> None:
    side = model.create_branch("side")
    with headwater.open(registry_url, actor="ann") as ann:
        ann.approve("m/1", "production")
        there = ann.branch("side").approve("m/1", "production", reason="there too")
        assert (there.branch, there.reason) == ("side", "there too")
        model.merge("side")
        assert [(each.branch, each.given) for each in model.approvals("m/1")] == [("main", True), ("side", True)]
        assert asked(model, APPROVED, "m/1").found == "1 (ann)"
        assert ann.approve("m/1", "production", withdraw=True).given is False
    told = {("main", False), ("side", True)}
    assert {(each.branch, each.given) for each in model.approvals("m/1")} == told
    assert set(model.sql("SELECT branch, given FROM approvals").fetchall()) == told
    assert asked(model, APPROVED, "m/1").found == "0"
    assert [(each.branch, each.given) for each in side.approvals("m/1")] == [("side", True)]
