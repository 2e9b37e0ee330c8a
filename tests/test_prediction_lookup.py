"""One prediction among many: found by its ID, in the files that may hold it and in no others, on both lakes."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from headwater.errors import IntegrityError
from headwater.ids import new_id
from headwater.prediction_lookup import find_outcome, find_prediction, look_up
from headwater.registry import Registry
from headwater.schema import TABLES
from headwater.transaction import Transaction


def log_predictions(registry: Registry, ids: Sequence[str], *, micros: int = 1_790_000_000_000_000) -> None:
    def work(tx: Transaction) -> None:
        times = pa.array([micros + n for n in range(len(ids))], pa.int64()).cast(pa.timestamp("us", tz="UTC"))
        columns = {
            "prediction_id": pa.array(ids),
            "predicted_at": times,
            "deployment_id": pa.array(["d"] * len(ids)),
            "version_id": pa.array(["v"] * len(ids)),
            "input": pa.array([f'{{"n": {n}}}' for n in range(len(ids))]),
        }
        tx.append_arrow("predictions", columns)

    registry._context.write("predictions", work)


def test_a_prediction_is_found_in_the_one_file_that_may_hold_it(registry: Registry) -> None:
    ids = [[new_id() for _ in range(50)] for _ in range(4)]
    for each in ids:
        log_predictions(registry, each)
    context = registry._context
    with context.reading() as fold:
        found = look_up(context.lake, fold, "predictions", ids[2][7])
        assert (found.files_read, found.files_total) == (1, 4)
        (row,) = found.rows
        assert list(row) == TABLES["predictions"].names
        assert (row["prediction_id"], row["input"], row["score"]) == (ids[2][7], '{"n": 7}', None)
        assert row["predicted_at"] == 1_790_000_000_000_007
        assert find_prediction(context.lake, fold, ids[3][0]) is not None
        missing = look_up(context.lake, fold, "predictions", new_id())
        assert (missing.rows, missing.files_read, missing.files_total) == ((), 0, 4)
        assert find_prediction(context.lake, fold, "not an ID, and none '") is None


def test_only_row_groups_that_may_hold_it_are_read_and_a_likeness_is_no_match(registry: Registry) -> None:
    many = sorted(new_id() for _ in range(TABLES["predictions"].row_group + 10))
    log_predictions(registry, many)
    context = registry._context
    with context.reading() as fold:
        for wanted in (many[0], many[-1], many[TABLES["predictions"].row_group]):
            row = find_prediction(context.lake, fold, wanted)
            assert row is not None
            assert row["prediction_id"] == wanted
        # a part of an ID stands in the bytes of the column, and is the ID of nothing
        assert find_prediction(context.lake, fold, many[5][:20]) is None


def test_the_outcome_that_was_observed_last_stands(registry: Registry) -> None:
    prediction = new_id()
    for label, observed in (("late", 30), ("early", 10), ("later", 40), ("middle", 20)):
        registry._context.write(
            "outcomes",
            lambda tx, label=label, observed=observed: tx.append(
                "outcomes", prediction_id=prediction, label=label, observed_at=observed
            ),
        )
    context = registry._context
    with context.reading() as fold:
        found = find_outcome(context.lake, fold, prediction)
        assert found is not None
        assert (found["label"], found["observed_at"]) == ("later", 40)
        assert find_outcome(context.lake, fold, new_id()) is None


def test_no_predictions_at_all(registry: Registry) -> None:
    context = registry._context
    with context.reading() as fold:
        assert look_up(context.lake, fold, "predictions", new_id()).files_total == 0


def test_a_file_that_is_not_what_was_written_is_an_integrity_error(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    ids = [new_id() for _ in range(3)]
    log_predictions(registry, ids)
    context = registry._context
    real = context.lake.localize

    def damaged(ref: str, paths: Sequence[str]) -> dict[str, object]:
        found = {}
        for path, local in real(ref, paths).items():
            body = local.read_bytes()
            found[path] = local.parent / "damaged.parquet"
            found[path].write_bytes(body[: len(body) // 2])
        return found

    monkeypatch.setattr(context.lake, "localize", damaged)
    with context.reading() as fold, pytest.raises(IntegrityError, match="is not what was written"):
        find_prediction(context.lake, fold, ids[0])
