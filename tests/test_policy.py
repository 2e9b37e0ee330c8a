"""Policies: what a TOML text says of gates, and what is refused, with the line; no lake is needed."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.errors import InvalidInputError
from headwater.gate_live import LIVE_METRICS
from headwater.gates import EVALUATORS
from headwater.policy import Gate, parse_policy, seconds_of
from headwater.policy_options import LIVE

AUC = "[[production.gate]]\nmetric = 'auc'\n"

WHOLE = """\
[production]                     # the stage that is entered
approvals = { count = 2, role = "reviewer" }

[[production.gate]]
metric = "accuracy"
on = "fraud-test"
min = 0.92

[[production.gate]]
metric = "accuracy"
slices = ["region", "origin+carrier"]
max_regression = 0.01
confidence = 0.9
min_rows = 50

[[production.gate]]
latency = "p99"
max_ms = 50
command = ["python", "serve.py"]

[[production.gate]]
name = "fair to carriers"
bias = "demographic_parity"
groups = "carrier"
max_gap = 0.1

[[production.gate]]
data = "leakage"
against = "fraud-test@1.0.0"
key = ["id"]

[[production.gate]]
shadow = true
min_predictions = 1000
min_agreement = 0.98

[[production.gate]]
live = "accuracy"
min = 0.9
window = "24h"
at_traffic = 25

[[production.gate]]
check = "integration"

[[production.gate]]
card = true

[[production.gate]]
signature = true

[staging]
gate = [{ metric = "auc", min = 0.6 }]
"""


def gates(text: str) -> list[Gate]:
    return list(parse_policy(text).stages["production"].gates)


def only(body: str) -> Gate:
    (gate,) = gates(f"[[production.gate]]\n{body}")
    return gate


def test_a_policy_says_kind_name_line_and_options_of_each_gate() -> None:
    policy = parse_policy(WHOLE)
    production = policy.stages["production"]
    assert production.approvals is not None
    assert (production.approvals.count, production.approvals.role) == (2, "reviewer")
    assert [(gate.name, gate.kind, gate.line) for gate in production.gates] == [
        ("accuracy on fraud-test", "metric", 4),
        ("accuracy by region, carrier+origin", "regression", 9),
        ("latency p99", "latency", 16),
        ("fair to carriers", "bias", 21),
        ("data leakage against fraud-test@1.0.0", "data", 27),
        ("shadow", "shadow", 32),
        ("live accuracy", "live", 37),
        ("check integration", "check", 43),
        ("card", "card", 46),
        ("signature", "signature", 49),
    ]
    assert production.gates[0].options == {"metric": "accuracy", "on": "fraud-test", "min": 0.92}
    assert production.gates[1].options["slices"] == (("region",), ("carrier", "origin"))
    assert production.gates[4].options["key"] == ("id",)
    assert production.gates[6].at_traffic == 25
    assert [gate.name for gate in policy.stages["staging"].gates] == ["auc"]
    assert len(policy.digest) == 64
    assert policy.text == WHOLE


def test_gates_of_one_name_are_told_apart() -> None:
    found = gates(
        '[[production.gate]]\nmetric="auc"\nmin=0.7\n[[production.gate]]\nmetric="auc"\nmax=0.99\n'
        '[[production.gate]]\nmetric="auc"\nmin=0.8\nat_traffic=25\n'
    )
    assert [gate.name for gate in found] == ["auc", "auc (2)", "auc at 25 %"]


def test_a_dataset_has_gates_of_its_own() -> None:
    text = """\
[[gate]]
schema = { origin = "VARCHAR" }
[[gate]]
min_rows = 100
[[gate]]
max_nulls = { origin = 0.01 }
[[gate]]
name = "plausible"
condition = "delay >= -60"
"""
    found = parse_policy(text, dataset=True).datasets
    assert [(gate.name, gate.kind, gate.line) for gate in found] == [
        ("schema", "schema", 1),
        ("min_rows", "min_rows", 3),
        ("max_nulls", "max_nulls", 5),
        ("plausible", "condition", 7),
    ]
    assert found[2].options == {"max_nulls": {"origin": 0.01}}


GATE = "[production]\n[[production.gate]]\n"
WRONG = [
    # -- text
    ("[production\n", 1, "this is not TOML"),
    ("[production]\nx = \n", 2, "this is not TOML: invalid value"),
    ("a = '''\n", 2, "this is not TOML"),
    ("[production]\n[production]\n", 2, "this is not TOML: cannot declare"),
    ("", 1, "it names no stage"),
    # -- stages
    ("\n[prodution]\n", 2, "gates stand before no stage 'prodution'; did you mean production?"),
    ("[archived]\n", 1, "gates stand before no stage 'archived'"),
    ("production = 3\n", 1, "production has to be a table"),
    ("[production]\n", 1, "[production] asks for nothing"),
    ("[production]\n\napproval = 1\n", 3, "[production] has no key 'approval'; did you mean approvals?"),
    ("[[gate]]\nmin_rows = 3\n", 1, "[[gate]] is a dataset's"),
    ("[production]\ngate = 3\n", 2, "a gate has to be a table of its own"),
    ("[production.gate]\nmetric = 'auc'\n", 1, "a gate has to be a table of its own"),
    # -- approvals
    ("[production]\napprovals = 2\n", 2, "approvals have to be a table"),
    ("[production]\napprovals = { count = -1 }\n", 2, "count is -1, and has to be a whole number from 1 to 100"),
    ("[production]\napprovals = { count = 0 }\n", 2, "count is 0"),
    ("[production]\napprovals = { count = true }\n", 2, "count is true"),
    ("[production]\napprovals = { count = 1.5 }\n", 2, "count is 1.5"),
    ("[production]\n[production.approvals]\n\nrole = 'reviwer'\n", 4, "did you mean reviewer?"),
    ("[production]\napprovals = { cuont = 1 }\n", 2, "approvals have no key 'cuont'; did you mean count?"),
    # -- kinds and keys
    (GATE + "min = 0.9\n", 2, "a gate is of one kind, and nothing tells its kind"),
    (GATE + "metrc = 'auc'\n", 2, "nothing tells its kind; did you mean metric?"),
    (GATE + "metric = 'auc'\nlatency = 'p99'\n", 2, "it is told by metric and latency"),
    (GATE + "metric = 'auc'\n\n\nmn = 0.9\n", 6, "a gate of kind metric has no key 'mn'; did you mean min?"),
    (GATE + "metric = 'auc'\nmax_regression = 0.1\nmin = 0.9\n", 5, "a gate of kind regression has no key 'min'"),
    (GATE + "data = 'age'\nmax_days = 3\nagainst = 'x'\n", 5, "a gate of kind data = 'age' has no key 'against'"),
    (GATE + "data = 'freshness'\n", 3, "has to be one of schema, age, leakage, rows"),
    (GATE + "latency = 'p90'\nmax_ms = 5\n", 3, "has to be one of p50, p95, p99; did you mean p99?"),
    (GATE + "card = false\n", 3, "card is false, and has to be true"),
    # -- types and ranges
    (GATE + "metric = 3\nmin = 1\n", 3, "metric is 3, and has to be the name of a metric"),
    (GATE + "metric = ''\nmin = 1\n", 3, "has to be the name of a metric"),
    (GATE + "metric = 'auc'\nmin = '0.9'\n", 4, "min is '0.9', and has to be a number"),
    (GATE + "metric = 'auc'\nmin = true\n", 4, "min is true, and has to be a number"),
    (GATE + "metric = 'auc'\nmin = nan\n", 4, "min is nan, and has to be a number, and finite"),
    (GATE + "metric = 'auc'\nmin = inf\n", 4, "min is inf"),
    (GATE + f"metric = 'auc'\nmin = 1{'0' * 400}\n", 4, "has to be a number"),
    (GATE + "metric = 'auc'\nmin = 2026-11-01\n", 4, "min is 2026-11-01"),
    (GATE + "metric = 'auc'\nmax_regression = -0.1\n", 4, "max_regression is -0.1, and has to be a number from 0"),
    (GATE + "metric = 'auc'\nmin = 0.1\nmin_rows = -3\n", 5, "min_rows is -3, and has to be a whole number from 1"),
    (GATE + "metric = 'auc'\nmin = 0.1\ncomputed = 'yes'\n", 5, "computed is 'yes', and has to be true or false"),
    (GATE + "metric = 'auc'\nmin = 0.1\non = 'a@b'\n", 5, "on is 'a@b', and has to be a dataset"),
    (GATE + "metric = 'auc'\nmin = 0.1\non = 3\n", 5, "on is 3, and has to be a dataset"),
    (GATE + "metric = 'auc'\nmax_regression = 0\nslices = []\n", 5, "slices is [], and has to be a column"),
    (GATE + "metric = 'auc'\nmax_regression = 0\nslices = 'a+'\n", 5, 'columns joined as "origin+carrier"'),
    (GATE + "metric = 'auc'\nmax_regression = 0\nslices = ['a+b', 'b+a']\n", 5, "columns, each once"),
    (GATE + "metric = 'auc'\nmax_regression = 0\nslices = ['a', 'a']\n", 5, "each once"),
    (GATE + "metric = 'auc'\nmax_regression = 0\nconfidence = 1.0\n", 5, "a number above 0.5 below 1"),
    (GATE + "latency = 'p99'\nmax_ms = 0\n", 4, "max_ms is 0, and has to be a number above 0"),
    (GATE + "latency = 'p99'\nmax_ms = 5\ncommand = []\n", 5, "has to be a command"),
    (GATE + "latency = 'p99'\nmax_ms = 5\ncallable = 'os.system'\n", 5, "a Python callable: module:function"),
    (GATE + "latency = 'p99'\nmax_ms = 5\nfrom = 'logs'\n", 5, "has to be one of shadow, live"),
    (GATE + "latency = 'p99'\nmax_ms = 5\nsample = 0\n", 5, "sample is 0, and has to be a whole number from 1"),
    (GATE + "live = 'accuracy'\nmin = 0.1\nwindow = '1 day'\n", 5, "a length of time"),
    (GATE + "live = 'acuracy'\nmin = 0.1\n", 3, "live is 'acuracy', and has to be one of accuracy"),
    (GATE + "live = 'accuracy'\nmin = 0.1\nwindow = 3\n", 5, "a length of time"),
    (GATE + "shadow = true\nmin_agreement = 1.5\n", 4, "min_agreement is 1.5, and has to be a number from 0 to 1"),
    (GATE + "shadow = true\nmin_predictions = -1\n", 4, "min_predictions is -1"),
    (GATE + "data = 'schema'\nschema = 'x'\n", 4, "schema is 'x', and has to be a table of columns"),
    (GATE + "data = 'schema'\nschema = { a = 3 }\n", 4, "schema is a table, and has to be a table of columns and"),
    (GATE + "bias = 'accuracy'\ngroups = 'g'\nmax_gap = 1\npositive = [1]\n", 6, "has to be a label"),
    (GATE + "metric = 'auc'\nmin = 0.1\nname = 3\n", 5, "name is 3, and has to be the name of a gate"),
    (GATE + "metric = 'auc'\nmin = 0.1\nat_traffic = 101\n", 5, "at_traffic is 101"),
    (GATE + "metric = 'auc'\nmin = 0.1\nat_traffic = 0\n", 5, "at_traffic is 0"),
    ("[[staging.gate]]\nmetric = 'auc'\nmin = 0.1\nat_traffic = 5\n", 4, "only production has traffic"),
    # -- too little, or what can't both be
    (GATE + "metric = 'auc'\n", 2, "a gate of kind metric needs min or max"),
    (GATE + "latency = 'p99'\n", 2, "a gate of kind latency needs max_ms"),
    (GATE + "bias = 'accuracy'\nmax_gap = 0.1\n", 2, "a gate of kind bias needs groups"),
    (GATE + "shadow = true\n", 2, "a gate of kind shadow needs min_predictions or min_hours"),
    (GATE + "live = 'accuracy'\n", 2, "a gate of kind live needs min or max or max_drop"),
    (GATE + "data = 'age'\n", 2, "a gate of kind data age needs max_days"),
    (GATE + "metric = 'auc'\nmin = 0.9\nmax = 0.8\n", 5, "nothing is at least 0.9 and at most 0.8"),
    (
        GATE + "metric = 'auc'\nmin = 0.9\n[[production.gate]]\nmetric = 'auc'\nmax = 0.8\n",
        5,
        "no auc is at least 0.9 and at most 0.8, as this gate and another ask together",
    ),
    (
        GATE + "metric = 'auc'\nmin = 0.9\n[[production.gate]]\nmin = 0.9\nmetric = 'auc'\n",
        5,
        "this gate is on line 2 already",
    ),
    (
        GATE + "metric='auc'\nmin=0.9\nname='a'\n[[production.gate]]\nmetric='f1'\nmin=0.9\nname='a'\n",
        6,
        "a gate on line 2 is called 'a' too",
    ),
    (GATE + "metric = 'auc'\nmin = 0.9\nname = 'approvals'\n", 2, "'approvals' is what production's approvals are"),
    (GATE + "latency='p99'\nmax_ms=5\ncommand='x'\nfrom='live'\n", 2, "command and from is given"),
    (GATE + "latency='p99'\nmax_ms=5\nfrom='live'\nruns=3\n", 6, "runs has no meaning"),
    (GATE + "latency='p99'\nmax_ms=5\ncommand='x'\nwindow='3h'\n", 6, "window has no meaning"),
    (GATE + "latency='p99'\nmax_ms=5\nsample='a'\non='b'\n", 5, "sample and on both name a dataset"),
]


@pytest.mark.parametrize(("text", "line", "message"), WRONG)
def test_what_is_wrong_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_policy(text, source="g.toml")
    assert caught.value.message.startswith(f"g.toml:{line}: ")
    assert message in caught.value.message
    assert caught.value.exit_status == 2


WRONG_DATASET = [
    ("", 1, "it has no gate"),
    ("[production]\n", 1, "a dataset's policy has no 'production'"),
    ("[[gate]]\n", 1, "a dataset's gate is of one kind, and nothing tells its kind"),
    ("[[gate]]\nmin_rows = 1\ncondition = 'x > 1'\n", 1, "it says min_rows and condition"),
    ("[[gate]]\nmin_row = 1\n", 2, "a dataset's gate has no key 'min_row'; did you mean min_rows?"),
    ("[[gate]]\nmin_rows = -1\n", 2, "min_rows is -1"),
    (
        "[[gate]]\nmax_nulls = { a = 2 }\n",
        2,
        "max_nulls is 2 for 'a', and has to be a number from 0 to 1 for every column",
    ),
    (f"[[gate]]\nmin_rows = 0x{'f' * 5000}\n", 2, "min_rows is a number of many digits"),
    ("[[gate]]\nmax_nulls = 0.1\n", 2, "a table of columns and the greatest share of nulls"),
    ("[[gate]]\ncondition = ' '\n", 2, "a condition in SQL"),
    ("[[gate]]\ncondition = 3\n", 2, "a condition in SQL"),
]


@pytest.mark.parametrize(("text", "line", "message"), WRONG_DATASET)
def test_what_is_wrong_in_a_datasets_policy_is_refused_with_its_line(text: str, line: int, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_policy(text, source="g.toml", dataset=True)
    assert caught.value.message.startswith(f"g.toml:{line}: ")
    assert message in caught.value.message


def test_what_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="and 65,536 are allowed"):
        parse_policy("#" * 70_000)
    with pytest.raises(InvalidInputError, match="there are 201 gates, and 200 are allowed"):
        parse_policy("".join(f"[[production.gate]]\nmetric='m{i}'\nmin=1\n" for i in range(201)))
    with pytest.raises(InvalidInputError, match="nested too deeply"):
        parse_policy("a = " + "[" * 5000 + "]" * 5000)
    for odd in ("\0", "\udc80"):
        with pytest.raises(InvalidInputError, match=r"^gates\.toml:2: this is not text that can be stored"):
            parse_policy(f"# x\na{odd}")


def test_a_long_list_is_one_statement_and_told_by_its_line() -> None:
    text = AUC + "min = 1\nslices = [\n" + '"a",\n' * 12_000 + "]\n"
    with pytest.raises(InvalidInputError, match=r"gates\.toml:4: slices is \['a', .*, and has to be a column"):
        parse_policy(text)


@pytest.mark.parametrize("key", ["min", "min_rows", "positive", "confidence"])
def test_a_number_that_python_can_not_write_is_refused_with_its_line(key: str) -> None:
    text = f"{AUC}{'' if key == 'min' else 'max_regression = 1'}\n{key} = 0x{'f' * 5000}\n"
    with pytest.raises(InvalidInputError, match=rf"gates\.toml:4: {key} is a number of many digits"):
        parse_policy(text)


def test_a_mark_at_the_beginning_of_a_file_is_no_error() -> None:
    assert parse_policy(f"\ufeff{AUC}min = 1\n").stages["production"].gates[0].options["min"] == 1


def test_the_order_of_slices_makes_no_other_gate() -> None:
    gate = "[[production.gate]]\nmetric = 'auc'\nmin = 1\nslices = [{}]\n"
    with pytest.raises(InvalidInputError, match=r"gates\.toml:5: this gate is on line 1 already"):
        parse_policy(gate.format("'a', 'b'") + gate.format("'b', 'a'"))


def test_lines_are_told_through_texts_comments_and_arrays_of_several_lines() -> None:
    text = (
        '[production]\r\n# [[production.gate]] "\'\n"approvals" = { count = 1, role = """reviewer""" } # ] [\n\n'
        '[[ production . "gate" ]]\n  metric = """\\\n  auc"""\n  slices = [ # [\n    "a#b",\n    \'c]\',\n  ]\n'
        "  max_regression = 'x'\n"
    )
    with pytest.raises(InvalidInputError, match=re.escape("gates.toml:12: max_regression is 'x'")):
        parse_policy(text)


def test_a_gate_in_an_inline_array_is_told_by_its_own_line() -> None:
    with pytest.raises(InvalidInputError, match=r"gates\.toml:4: min is 'x'"):
        parse_policy("[production]\ngate = [\n  { metric = 'f1', min = 1 },\n  { metric = 'auc', min = 'x' },\n]\n")


@given(st.text(alphabet=st.sampled_from("[]{}\"'#=.,\n\\ aprodution gte12"), max_size=80))
def test_no_text_brings_anything_but_an_error_of_ours(text: str) -> None:
    for dataset in (False, True):
        with contextlib.suppress(InvalidInputError):
            parse_policy(text, dataset=dataset)


def test_a_window_is_a_length_of_time() -> None:
    assert [seconds_of(text) for text in ("90s", "30m", "24h", "7d")] == [90, 1800, 86400, 604800]
    for text in ("0h", "1", "h", "-1h", "1.5h", "24H", "99999999d"):
        with pytest.raises(InvalidInputError, match="not a length of time"):
            seconds_of(text)


def test_what_can_be_measured_of_logged_predictions_is_known_to_both() -> None:
    assert set(LIVE) == set(LIVE_METRICS)


def test_every_policy_of_the_docs_is_one() -> None:
    text = (Path(__file__).parents[1] / "docs" / "gates.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    kinds = set()
    for block in blocks:
        dataset = block.startswith("[[gate]]")
        policy = parse_policy(block, dataset=dataset)
        kinds |= {gate.kind for gate in policy.datasets}
        kinds |= {gate.kind for stage in policy.stages.values() for gate in stage.gates}
    assert kinds == {*EVALUATORS, "schema", "min_rows", "max_nulls", "condition"} - {"approvals"}
