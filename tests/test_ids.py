"""IDs of many rows at once: UUIDv7s in the order of time and row, the same for the same seed, others for another."""

from __future__ import annotations

import uuid

import numpy as np

from headwater.ids import ids_of_rows, is_id, micros_of, new_id


def test_ids_of_rows_are_uuids_in_order_that_hold_their_time() -> None:
    millis = np.sort(np.random.default_rng(1).integers(0, 1 << 48, 5000))
    rows = np.arange(5000)
    ids = ids_of_rows(millis, rows, "a").to_pylist()
    assert ids == sorted(ids)
    assert [micros_of(each) for each in ids] == [int(each) * 1000 for each in millis]
    for each in ids[:100]:
        assert is_id(each)
        assert (uuid.UUID(each).version, uuid.UUID(each).variant) == (7, uuid.RFC_4122)
        assert str(uuid.UUID(each)) == each


def test_rows_of_one_time_are_in_the_order_of_rows_and_seeds_do_not_meet() -> None:
    millis = np.full(100_000, 1_760_000_000_000)
    rows = np.arange(100_000)
    found = [ids_of_rows(millis, rows, seed).to_pylist() for seed in ("a", "b", "c")]
    assert all(each == sorted(each) for each in found)
    assert len({each for ids in found for each in ids}) == 300_000
    assert ids_of_rows(millis, rows, "a").to_pylist() == found[0]
    pieces = ids_of_rows(millis[:10], rows[:10], "a").to_pylist() + ids_of_rows(millis[10:], rows[10:], "a").to_pylist()
    assert pieces == found[0]


def test_what_is_an_id() -> None:
    assert is_id(new_id())
    assert not is_id(new_id().upper().replace("-", ""))
    assert not is_id(str(uuid.UUID(int=0, version=4)))
    assert not is_id("../../etc/passwd")
