"""Gates that are measured: bias as fairlearn has it, latency of a child or of the log, and what was learned from."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import fairlearn.metrics as fl
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

import headwater
from headwater.gate_latency import percentile
from headwater.gates import EVALUATORS, Ask, Finding
from headwater.policy import parse_policy
from headwater.registry import Registry

SOME = random.Random(6)
ROWS: list[dict[str, Any]] = [
    {
        "id": number,
        "carrier": SOME.choice(["AA", "B6", "UA"]),
        "guess": SOME.choice([0, 1]),
        "label": SOME.choice([0, 0, 1]),
    }
    for number in range(120)
] + [{"id": 1000, "carrier": "HA", "guess": 1, "label": 0}]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An embedded registry, for what is the same on every lake."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with headwater.create(str(tmp_path / "lake"), actor="tester") as registry:
        yield registry


def add(registry: Registry, name: str, rows: list[dict[str, Any]], key: list[str] | None = None) -> None:
    pl.DataFrame(rows).write_parquet("rows.parquet")
    registry.add_dataset(name, "rows.parquet", key=key or [])


def register(registry: Registry, *data: str, files: Mapping[str, str] | None = None) -> None:
    Path("model").mkdir(exist_ok=True)
    Path("model/weights").write_text("w")
    for name, text in (files or {}).items():
        Path("model", name).write_text(text)
    registry.register("m", "model", data=data)


def asked(registry: Registry, memo: dict[Any, Any] | None = None, at: str | None = None, **options: Any) -> Finding:
    """Ask one gate of m/1, as the TOML of a policy has it."""
    lines = [f"{key} = {toml(value)}" for key, value in options.items()]
    policy = parse_policy("\n".join(["[[production.gate]]", *lines]))
    (gate,) = policy.stages["production"].gates
    module, _, name = EVALUATORS[gate.kind].partition(":")
    view = registry if at is None else registry.at(at)
    context = view._context
    with context.reading() as fold:
        version_id, model_id = fold.one("SELECT version_id, model_id FROM versions WHERE version = 1")
        held = {} if memo is None else memo
        ask = Ask(context, fold, gate, "production", None, version_id, model_id, 1, "m", None, held)
        found = getattr(import_module(module), name)(ask)
    assert isinstance(found, Finding)
    json.dumps(found.details)
    return found


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + " }"
    return json.dumps(value)


# -- bias -------------------------------------------------------------------------------------------------------------
def guess(table: Any) -> Any:
    return table.column("guess")


def columns(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "y_true": [row["label"] for row in rows],
        "y_pred": [row["guess"] for row in rows],
        "sensitive_features": [row["carrier"] for row in rows],
    }


def test_gaps_between_groups_are_those_of_fairlearn(registry: Registry) -> None:
    add(registry, "test", ROWS, ["id"])
    register(registry)
    found = registry.evaluate("m/1", on="test", predict=guess)
    for kind, expected in {
        "demographic_parity": fl.demographic_parity_difference,
        "equalized_odds": fl.equalized_odds_difference,
        "accuracy": lambda **named: frame(sk.accuracy_score, named),
    }.items():
        gap = expected(**columns(ROWS))
        passed = asked(registry, bias=kind, groups="carrier", max_gap=gap + 1e-9, on="test", min_rows=1)
        assert passed.passed, kind
        failed = asked(registry, bias=kind, groups="carrier", max_gap=max(gap - 1e-9, 0), on="test@1.0.0", min_rows=1)
        assert not failed.passed, kind
        assert failed.found.startswith(f"{gap:.4g} ("), kind
        assert failed.required == f"a gap of at most {max(gap - 1e-9, 0):g}"
        assert failed.source == f"predictions of commit {found.commit[:12]} on test@1.0.0"
        assert max(failed.details["gaps"].values()) == pytest.approx(gap, abs=1e-12)


def frame(metric: Any, named: Mapping[str, Any]) -> float:
    return float(fl.MetricFrame(metrics=metric, **named).difference())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from("abc")), min_size=4, max_size=40))
def test_rates_by_group_are_those_of_fairlearn_whatever_the_rows(tmp_path: Path, rows: list[Any]) -> None:
    import pyarrow as pa

    from headwater.evaluation_metrics import by_group, scored
    from headwater.gate_bias import gaps

    label, prediction, group = ([row[at] for row in rows] for at in range(3))
    assume(len(set(group)) > 1)
    assume(len({*label, *prediction}) == 2)
    scoring, table = scored(pa.array(label), pa.array(prediction), None)
    groups = by_group(tmp_path, table.append_column("g", pa.array(group)), scoring, ["g"])
    named: Any = {"y_true": label, "y_pred": prediction, "sensitive_features": group}
    rates = gaps(groups, ["selection_rate", "true_positive_rate", "false_positive_rate"])
    assert rates["selection_rate"] == pytest.approx(fl.demographic_parity_difference(**named), abs=1e-12)
    odds = max(rates["true_positive_rate"], rates["false_positive_rate"])
    assert odds == pytest.approx(fl.equalized_odds_difference(**named), abs=1e-12)


def test_small_groups_are_noted_and_not_judged(here: Registry) -> None:
    add(here, "test", ROWS, ["id"])
    register(here)
    here.evaluate("m/1", on="test", predict=guess)
    found = asked(here, bias="demographic_parity", groups="carrier", max_gap=1, on="test")
    large = [row for row in ROWS if row["carrier"] != "HA"]
    assert found.details["gaps"]["selection_rate"] == pytest.approx(fl.demographic_parity_difference(**columns(large)))
    assert found.details["notes"] == ["carrier=HA is not judged: it has 1 row"]
    assert found.details["groups"]["HA"] == {"rows": 1, "selection_rate": 1.0}
    none = asked(here, bias="demographic_parity", groups="carrier", max_gap=1, min_rows=1000)
    assert (none.passed, none.found) == (False, "0 groups of carrier to compare")


def test_a_rate_without_rows_counts_as_nothing_and_is_said(here: Registry) -> None:
    rows = [{"carrier": "AA", "guess": 1, "label": 1}] * 3 + [{"carrier": "HA", "guess": 1, "label": 0}] * 3
    add(here, "test", rows)
    register(here)
    here.evaluate("m/1", on="test", predict=guess)
    found = asked(here, bias="equalized_odds", groups="carrier", max_gap=0.5, min_rows=1)
    assert found.details["gaps"] == {"true_positive_rate": 1.0, "false_positive_rate": 1.0}
    assert fl.equalized_odds_difference(**columns(rows)) == 1
    assert found.found == "1 (true positive rate: carrier=HA 0 and carrier=AA 1)"
    assert found.details["notes"] == [
        "the false positive rate of carrier=AA counts as 0: it has no negatives",
        "the true positive rate of carrier=HA counts as 0: it has no positives",
    ]
    auc = asked(here, bias="auc", groups="carrier", max_gap=0.5, min_rows=1)
    assert auc.found == "0 groups of carrier to compare"
    assert auc.details["notes"][0] == "carrier=AA is not judged: auc can't be told of it"


def test_bias_without_predictions_or_of_another_task_fails(here: Registry) -> None:
    add(here, "test", ROWS, ["id"])
    add(here, "other", [{"id": 1, "carrier": "AA", "y": 0.5}, {"id": 2, "carrier": "AA", "y": 1.5}])
    register(here)
    nothing = asked(here, bias="demographic_parity", groups="carrier", max_gap=1, on="test")
    assert (nothing.passed, nothing.found) == (False, "nothing")
    assert nothing.source == "no evaluation on test@1.0.0 is stored: headwater evaluate makes one"
    anywhere = asked(here, bias="demographic_parity", groups="carrier", max_gap=1)
    assert anywhere.source == "no evaluation is stored: headwater evaluate makes one"
    here.evaluate("m/1", on="other", predict=lambda table: table.column("y"))
    odd = asked(here, bias="equalized_odds", groups="carrier", max_gap=1)
    assert not odd.passed
    assert odd.source.startswith("equalized_odds is not measured of a regression task; predictions of commit")
    add(here, "test", ROWS[:50], ["id"])
    newer = asked(here, bias="demographic_parity", groups="carrier", max_gap=1, on="test")
    assert not newer.passed
    assert newer.source.startswith("no evaluation on test@1.0.1 is stored")


def test_the_positive_class_may_be_named_and_has_to_be_one(here: Registry) -> None:
    add(here, "test", ROWS, ["id"])
    register(here)
    here.evaluate("m/1", on="test", predict=guess)
    named = columns([{**row, "label": 1 - row["label"], "guess": 1 - row["guess"]} for row in ROWS])
    found = asked(here, bias="equalized_odds", groups="carrier", max_gap=1, min_rows=1, positive=0)
    assert max(found.details["gaps"].values()) == pytest.approx(fl.equalized_odds_difference(**named))
    nobody = asked(here, bias="equalized_odds", groups="carrier", max_gap=1, min_rows=1, positive="yes")
    assert not nobody.passed
    assert nobody.source.startswith("no label or prediction is yes, which is to be the positive class; predictions of")


# -- data -------------------------------------------------------------------------------------------------------------
def test_training_data_has_the_columns_that_are_demanded(registry: Registry) -> None:
    add(registry, "train", ROWS, ["id"])
    register(registry, "train")
    good = asked(registry, data="schema", schema={"carrier": "text", "id": "BIGINT"})
    assert good.passed
    assert (good.required, good.found, good.source) == (
        "columns carrier text, id BIGINT",
        "all of them",
        "trained on train@1.0.0",
    )
    bad = asked(registry, data="schema", schema={"carrier": "INT", "origin": "text", "id": "nonsense"}, on="train")
    assert not bad.passed
    assert bad.details["problems"] == [
        "carrier of train@1.0.0 is VARCHAR, not INT",
        "train@1.0.0 has no column origin",
        "id of train@1.0.0 is BIGINT, not nonsense",
    ]
    assert bad.found == "; ".join(bad.details["problems"])


def test_without_recorded_training_data_every_gate_on_it_fails(here: Registry) -> None:
    add(here, "test", ROWS, ["id"])
    register(here)
    for options in (
        {"data": "schema", "schema": {"id": "BIGINT"}},
        {"data": "age", "max_days": 1},
        {"data": "rows", "min_rows": 1},
        {"data": "leakage", "against": "test"},
    ):
        found = asked(here, **options)
        assert (found.passed, found.found) == (False, "nothing")
        assert found.source == "no training data is recorded in the lineage"
    register_two = asked(here, data="rows", min_rows=1, on="weather")
    assert register_two.source == "no training data of weather is recorded in the lineage"


def test_the_data_of_a_run_is_what_its_versions_learned_from(here: Registry) -> None:
    add(here, "train", ROWS, ["id"])
    Path("weights").write_text("w")
    with here.start_run("train") as run:
        run.use("train")
        run.register("m", "weights")
    found = asked(here, data="rows", min_rows=121)
    assert (found.passed, found.found, found.required) == (True, "121 rows", "at least 121 rows")
    assert not asked(here, data="rows", min_rows=122).passed
    Path("folder").mkdir()
    Path("folder/a.txt").write_text("x")


def test_data_is_as_old_as_it_was_at_the_judged_commit(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    add(registry, "train", ROWS, ["id"])
    register(registry, "train")
    then = registry.head
    assert asked(registry, data="age", max_days=1).passed
    later = int((datetime.now(UTC) + timedelta(days=10)).timestamp() * 1e6)
    with monkeypatch.context() as patched:
        patched.setattr("headwater.transaction.now_micros", lambda: later)
        registry.tag("m", {"seen": "yes"})
    old = asked(registry, data="age", max_days=9.5)
    assert not old.passed
    assert old.found == "10.0 days (train@1.0.0)"
    assert old.required == "at most 9.5 days old"
    assert asked(registry, data="age", max_days=10.5).passed
    # What is judged again at an earlier commit agrees with what was found then, whenever that is done.
    assert asked(registry, at=then, data="age", max_days=1).passed


def test_rows_that_are_in_the_test_set_too_are_counted_and_named(registry: Registry) -> None:
    add(registry, "train", ROWS[:100], ["id"])
    add(registry, "test", ROWS[98:], ["id"])
    add(registry, "clean", ROWS[100:], ["id"])
    register(registry, "train")
    found = asked(registry, data="leakage", against="test")
    assert not found.passed
    assert found.found == "2 rows of test@1.0.0 in train@1.0.0, such as id=98"
    assert found.source == "trained on train@1.0.0, by key id"
    assert found.details["shared"]["train@1.0.0"] == {"rows": 2, "examples": ["id=98", "id=99"]}
    clean = asked(registry, data="leakage", against="clean")
    assert (clean.passed, clean.found, clean.required) == (True, "none", "no row in common with clean")
    by_carrier = asked(registry, data="leakage", against="clean", key="carrier")
    assert not by_carrier.passed
    assert by_carrier.details["shared"]["train@1.0.0"]["rows"] == 20


def test_whole_rows_are_compared_where_there_is_no_key(here: Registry) -> None:
    rows = [{"a": 1, "b": None}, {"a": 2, "b": "x"}]
    add(here, "train", [{**row, "more": 1} for row in rows])
    add(here, "test", [*rows, {"a": 1, "b": "x"}])
    register(here, "train")
    found = asked(here, data="leakage", against="test")
    assert found.details["shared"]["train@1.0.0"]["rows"] == 2
    assert found.source == "trained on train@1.0.0, by whole rows"
    # A null is no value of a key, so rows whose key is missing are not the same.
    assert asked(here, data="leakage", against="test", key="b").details["shared"]["train@1.0.0"]["rows"] == 2


def test_keys_of_two_types_are_compared_by_value(here: Registry) -> None:
    add(here, "train", [{"id": 7, "x": 1}], ["id"])
    Path("test.csv").write_text("id,x\n007,1\n8,2\n")
    here.add_dataset("test", "test.csv", key=["id"])
    add(here, "small", [{"id": 7.0, "x": 1}], ["id"])
    register(here, "train")
    assert asked(here, data="leakage", against="test").passed
    assert not asked(here, data="leakage", against="small").passed


def test_data_that_cannot_be_compared_fails(here: Registry) -> None:
    add(here, "train", [{"a": 1}])
    add(here, "test", [{"b": 1}])
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("x")
    here.add_dataset("folder", "folder")
    register(here, "train", "folder")
    found = asked(here, data="leakage", against="test")
    assert not found.passed
    assert (
        found.found
        == "folder@1.0.0 is a folder of files, not a table; train@1.0.0 and test@1.0.0 have no column in common"
    )
    keyed = asked(here, data="leakage", against="test", key="a")
    assert "test@1.0.0 has no column a" in keyed.found
    assert asked(here, data="rows", min_rows=1).source == "folder@1.0.0 is a folder of files, which has no rows"
    assert "folder@1.0.0 is a folder of files" in asked(here, data="schema", schema={"a": "BIGINT"}).found


# -- latency ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "code",
    [
        "while True: print(1)",
        "print('ready'); [print(1) for _ in sys.stdin]",
        "[print(1, 2, sep='\\n') for _ in sys.stdin]",
        "print(*range(50), sep='\\n'); [(time.sleep(0.1), print(1)) for _ in sys.stdin]",
    ],
    ids=["yes", "banner", "two", "ahead"],
)
def test_answers_that_were_there_before_the_question_are_no_answers(here: Registry, code: str) -> None:
    add(here, "test", ROWS)
    register(here)
    words = [sys.executable, "-c", f"import sys, time\n{code}"]
    found = asked(here, latency="p99", max_ms=60_000, command=words, sample="test", runs=20, warmup=3)
    assert (found.passed, found.found) == (False, "nothing")
    assert "the command wrote more than a line for each line that it was sent" in found.source


ANSWER = "import sys, time\nfor line in sys.stdin:\n    time.sleep({seconds})\n    print('1', flush=True)\n"


def test_a_command_is_measured_line_by_line_and_once(registry: Registry) -> None:
    add(registry, "test", ROWS, ["id"])
    register(registry, files={"answer.py": ANSWER.format(seconds=0.005)})
    memo: dict[Any, Any] = {}
    options: dict[str, Any] = {"on": "test", "runs": 20, "warmup": 1}
    words = [sys.executable, "{model}/answer.py"]
    slow = asked(registry, memo, latency="p50", max_ms=4, command=words, **options)
    assert not slow.passed
    assert slow.required == "p50 of at most 4 ms"
    assert slow.details["count"] == 20
    assert 5 <= slow.details["p50"] <= slow.details["p95"] <= slow.details["p99"]
    assert slow.found == f"{slow.details['p50']:.4g} ms"
    assert slow.source.startswith("20 answers to rows of test@1.0.0, measured on ")
    assert len(memo) == 1
    kept = asked(registry, memo, latency="p99", max_ms=60_000, command=words, **options)
    assert kept.passed
    assert (kept.details["p50"], len(memo)) == (slow.details["p50"], 1)


def test_a_callable_gets_rows_and_may_print(here: Registry) -> None:
    add(here, "train", ROWS, ["id"])
    body = "print('noise')\n    assert set(row) == {'id', 'carrier', 'guess', 'label'}\n    return 1\n"
    code = f"def predict(row):\n    {body}"
    register(here, "train", files={"scoring.py": code})
    found = asked(here, latency="p95", max_ms=60_000, callable="scoring:predict", sample=5, runs=12, warmup=2)
    assert found.passed, found
    assert (found.details["count"], found.details["rows"], found.details["dataset"]) == (12, 5, "train@1.0.0")


def test_rows_are_objects_whatever_their_columns_are_called(here: Registry) -> None:
    add(here, "train", [{"data": 1, "row": 2}])
    code = "def predict(row):\n    assert row == {'data': 1, 'row': 2}\n    return 1\n"
    register(here, "train", files={"scoring.py": code})
    found = asked(here, latency="p50", max_ms=60_000, callable="scoring:predict", runs=1, warmup=0)
    assert found.passed, found


def test_a_version_may_say_by_a_tag_how_it_serves(here: Registry) -> None:
    add(here, "test", ROWS, ["id"])
    register(here, files={"answer.py": ANSWER.format(seconds=0)})
    here.tag("m/1", {"serve": f"{sys.executable} {{model}}/answer.py"})
    found = asked(here, latency="p99", max_ms=60_000, sample="test")
    assert found.passed
    assert found.details["count"] == 200


@pytest.mark.parametrize(
    ("code", "timeout", "source"),
    [
        ("import time; time.sleep(60)", 0.3, "the command did not answer in time, after 0 answers in 0.3 s at most"),
        (
            "input(); print(1); import sys; sys.exit('out of memory')",
            20,
            "exit status 1: 'out of memory', after 1 answer",
        ),
    ],
    ids=["hangs", "crashes"],
)
def test_a_command_that_does_not_answer_fails_and_is_not_asked_again(
    here: Registry, code: str, timeout: float, source: str
) -> None:
    add(here, "test", ROWS, ["id"])
    register(here)
    memo: dict[Any, Any] = {}
    words = [sys.executable, "-uc", code]
    for _ in range(2):
        found = asked(here, memo, latency="p50", max_ms=1000, command=words, on="test", timeout=timeout)
        assert (found.passed, found.found) == (False, "nothing")
        assert source in found.source
    assert len(memo) == 1


def test_a_command_with_nothing_to_ask_fails(here: Registry) -> None:
    register(here)
    found = asked(here, latency="p50", max_ms=1000, command="true")
    assert found.source == "no rows to ask with: the gate names no dataset, and no training data is recorded"
    assert not found.passed
    missing = asked(here, latency="p50", max_ms=1000, command="true", on="nothing")
    assert (missing.passed, missing.source) == (False, "there is no dataset nothing")


def log(registry: Registry, mode: str, latencies: list[float | None], when: datetime) -> None:
    deployment = registry.deploy("m/1", "try", mode=mode)
    times = [when + timedelta(milliseconds=at) for at in range(len(latencies))]
    rows = pl.DataFrame({"predicted_at": times, "output": ["1"] * len(times), "latency_ms": latencies})
    registry.log_predictions(rows, deployment.deployment_id)


def test_latencies_are_read_from_the_log(registry: Registry) -> None:
    register(registry)
    now = datetime.now(UTC)
    nothing = asked(registry, latency="p50", max_ms=1, **{"from": "shadow"})
    assert (nothing.found, nothing.source) == ("nothing", "m/1 has no shadow deployment")
    bare = asked(registry, latency="p50", max_ms=1)
    assert bare.source == "m/1 has no shadow or live deployment, no tag serve, and the gate names no command"
    log(registry, "shadow", [float(each) for each in range(1, 101)] + [None], now - timedelta(hours=1))
    found = asked(registry, latency="p95", max_ms=95, **{"from": "shadow"})
    assert found.passed
    assert (found.details["count"], found.details["p50"], found.details["p99"]) == (100, 50, 99)
    assert found.source == f"shadow predictions of m/1, at commit {registry.head[:12]}"
    assert not asked(registry, latency="p95", max_ms=94.9, **{"from": "shadow"}).passed
    assert asked(registry, latency="p50", max_ms=50).passed
    live = asked(registry, latency="p50", max_ms=1, **{"from": "live"})
    assert live.source == "m/1 has no live deployment"


def test_only_predictions_of_the_window_count_and_enough_of_them(here: Registry) -> None:
    register(here)
    now = datetime.now(UTC)
    log(here, "live", [1000.0] * 30, now - timedelta(days=3))
    log(here, "live", [2.0] * 15, now - timedelta(hours=2))
    recent = asked(here, latency="p50", max_ms=5, window="24h", **{"from": "live"})
    assert (recent.passed, recent.details["count"]) == (True, 15)
    assert "live predictions of m/1 of the 24h before " in recent.source
    assert not asked(here, latency="p50", max_ms=5, **{"from": "live"}).passed
    few = asked(here, latency="p95", max_ms=5, window="24h", **{"from": "live"})
    assert (few.passed, few.found) == (False, "15 times, and 20 are needed")
    assert asked(here, latency="p95", max_ms=5, window="24h", min_predictions=15, **{"from": "live"}).passed


def test_reverted_predictions_do_not_count(here: Registry) -> None:
    register(here)
    log(here, "live", [2.0] * 15, datetime.now(UTC) - timedelta(hours=2))
    assert asked(here, latency="p50", max_ms=5, **{"from": "live"}).details["count"] == 15
    here.revert(here.log(limit=1)[0].commit)
    assert asked(here, latency="p50", max_ms=5, **{"from": "live"}).found == "nothing"


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_the_smallest_that_enough_do_not_exceed(values: list[float], part: float) -> None:
    found = percentile(values, part)
    assert found in values
    assert sum(each <= found for each in values) >= part * len(values) - 1e-6
    assert sum(each < found for each in values) < part * len(values)


# -- computed numbers in a signed lake --------------------------------------------------------------------------------
def test_a_computed_number_that_somebody_added_to_the_tables_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("LAKE", "BRANCH", "ACTOR", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    with headwater.create(str(tmp_path / "lake"), actor="root", signed=True) as registry:
        add(registry, "test", ROWS, ["id"])
        register(registry)
        found = registry.evaluate("m/1", on="test", predict=guess, slices=["carrier"])
        honest = {each.slice: each.value for each in found.metrics if each.key == "accuracy"}
        gate: dict[str, Any] = {"metric": "accuracy", "on": "test", "min": 0.0, "computed": True, "min_rows": 1}
        assert asked(registry, **gate).details["value"] == honest[""]
        sliced = asked(registry, slices="carrier", **gate)
        assert sliced.passed, sliced

        def forge(tx: Any) -> None:
            for ordinal, part in enumerate(("", "carrier=AA", "colour=red")):
                row = {"key": "accuracy", "value": 0.999, "slice": part, "dataset_id": found.dataset_id}
                tx.append("metrics", ordinal=ordinal, version_id=found.version_id, source="computed", **row)

        registry._context.write("forge", forge)
        assert asked(registry, **gate).details["value"] == honest[""]
        high = {**gate, "min": 0.99}
        assert not asked(registry, **high).passed
        assert not asked(registry, slices="carrier", **high).passed
        # Without an evaluation nothing confirms a row.
        registry.revert(found.commit, force=True)
        none = asked(registry, **gate)
        assert (none.passed, none.found) == (False, "0.999, claimed")
