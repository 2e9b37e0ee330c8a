"""Claims and numbers: given once for the whole lake, on every lake."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from headwater.lake.base import Lake

THREADS = 8
EACH = 20


def test_the_first_claim_of_a_key_stands(lake: Lake) -> None:
    assert lake.claim("models/flight-delay", "id-1") == "id-1"
    assert lake.claim("models/flight-delay", "id-2") == "id-1"
    assert lake.claim("models/flight-delay", "id-1") == "id-1"
    assert lake.claim("models/other", "id-2") == "id-2"


@pytest.mark.parametrize("key", ["with space", "a/b/c", "%2F", "é", "😀", "q?x#y"])
def test_a_key_is_kept_to_the_letter(lake: Lake, key: str) -> None:
    assert lake.claim(key, f"value of {key}") == f"value of {key}"
    assert lake.claim(key, "other") == f"value of {key}"
    assert lake.claim(key + "x", "other") == "other"


def test_numbers_are_cut_without_gap(lake: Lake) -> None:
    assert [lake.cut("models/a", f"v{i}") for i in range(5)] == [1, 2, 3, 4, 5]
    assert lake.cut("models/b", "w") == 1
    assert lake.cut("models/a", "w") == 6


def test_a_number_is_above_after(lake: Lake) -> None:
    assert lake.cut("s", "v1", after=41) == 42
    assert lake.cut("s", "v2", after=41) == 43
    assert lake.cut("s", "v3", after=999) == 1000
    assert lake.cut("s", "v4", after=1000) == 1001


def test_reservations_are_nowhere_to_be_seen(lake: Lake) -> None:
    head = lake.head("main")
    lake.claim("k", "v")
    lake.cut("s", "v")
    assert lake.branches() == {"main": head}
    assert list(lake.list("main")) == []


def test_reservations_outlive_branches_and_commits(lake: Lake) -> None:
    lake.create_branch("b", lake.head("main"))
    lake.claim("k", "v")
    assert lake.cut("s", "v") == 1
    lake.put("main", "a", b"1")
    lake.commit("main", "m", {})
    lake.delete_branch("b")
    assert lake.claim("k", "w") == "v"
    assert lake.cut("s", "w") == 2


def test_a_reservation_on_a_hidden_branch_is_final_when_it_is_merged(lake: Lake) -> None:
    lake.create_branch("_hw_1", lake.head("main"), hidden=True)
    assert lake.claim("k", "mine", on="_hw_1") == "mine"
    assert lake.cut("s", "mine", on="_hw_1") == 1
    assert lake.cut("s", "mine too", on="_hw_1") == 2
    lake.put("_hw_1", "a", b"1")
    lake.commit("_hw_1", "m", {})
    lake.merge("_hw_1", "main", "m", {})
    lake.delete_branch("_hw_1")
    assert lake.claim("k", "yours") == "mine"
    assert lake.cut("s", "yours") == 3


def test_a_look_reserves_nothing(lake: Lake) -> None:
    assert lake.claimed("k/a") is None
    assert lake.newest("s/a") == 0
    assert lake.claimed("k/a") is None
    assert lake.reservations() == {}
    lake.claim("k/a", "a value")
    lake.cut("s/a", "v", after=997)
    assert (lake.claimed("k/a"), lake.claimed("k"), lake.claimed("k/a/b")) == ("a value", None, None)
    assert (lake.newest("s/a"), lake.newest("s"), lake.newest("s/a/0"), lake.newest("s/b")) == (998, 0, 0, 0)
    for number in (999, 1000, 1001):
        assert lake.cut("s/a", f"v{number}") == number
        assert lake.newest("s/a") == number
    lake.cut("s/a", "w", after=10_000)
    assert lake.newest("s/a") == 10_001


def test_a_look_sees_what_is_final_alone(lake: Lake) -> None:
    before = lake.reservations()
    lake.create_branch("_hw_1", lake.head("main"), hidden=True)
    lake.cut("s", "mine", on="_hw_1")
    assert lake.newest("s") == len(lake.reservations()) - len(before)


def test_claims_from_many_threads_agree(lake: Lake) -> None:
    start = threading.Barrier(THREADS)

    def work(me: int) -> list[str]:
        start.wait()
        return [lake.claim(f"key-{i}", f"thread-{me}") for i in range(EACH)]

    with ThreadPoolExecutor(THREADS) as pool:
        told = list(pool.map(work, range(THREADS)))
    for i in range(EACH):
        assert len({each[i] for each in told}) == 1


def test_numbers_from_many_threads_have_neither_duplicate_nor_gap(lake: Lake) -> None:
    start = threading.Barrier(THREADS)

    def work(me: int) -> list[int]:
        start.wait()
        return [lake.cut("s", f"{me}/{i}") for i in range(EACH)]

    with ThreadPoolExecutor(THREADS) as pool:
        told = list(pool.map(work, range(THREADS)))
    for each in told:
        assert each == sorted(each)
    assert sorted(number for each in told for number in each) == list(range(1, THREADS * EACH + 1))
