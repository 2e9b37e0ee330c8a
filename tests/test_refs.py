"""Refs as people write them, well and badly: branches, tags, commits, `main~3`, `main@{time}`; on both lakes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from headwater.errors import HeadwaterError, InvalidInputError, NotFoundError
from headwater.ids import timestamp
from headwater.lake import refs
from headwater.lake.base import AT, Lake
from headwater.names import check_branch, check_tag
from headwater.registry import Registry
from headwater.state import Folds

HOUR = 3_600_000_000
START = 1_800_000_000_000_000  # 2027-01-15T08:00:00Z


def _commit(lake: Lake, micros: int, branch: str = "main") -> str:
    lake.put(branch, f"{branch}-{micros}-{lake.head(branch)[:8]}", b"x")
    return lake.commit(branch, "a change", {AT: str(micros)})


def _at(lake: Lake, text: str) -> str:
    return refs.resolve(lake, text).commit


def test_a_branch_s_time_never_goes_backwards_whatever_the_clocks_say(lake: Lake) -> None:
    first = _commit(lake, START)
    fast = _commit(lake, START + 5 * HOUR)  # by a machine whose clock is ahead
    after = _commit(lake, START + HOUR)
    late = _commit(lake, START + 6 * HOUR)
    for time, commit in {
        "2027-01-15T08:00:00Z": first,
        "2027-01-15T08:59:59.999999Z": first,
        "2027-01-15T10:30:00Z": first,  # not `after`, which comes after `fast`
        "2027-01-15T13:00:00+00:00": after,
        "2027-01-15T14:00:00+01:00": after,
        "2027-01-15 14:00": late,
        "2027-01-16": late,
    }.items():
        assert _at(lake, f"main@{{{time}}}") == commit, time
        with contextlib.closing(Folds(lake)) as folds:
            assert folds.resolve(f"main@{{{time}}}").commit == commit, time
    with contextlib.closing(Folds(lake)) as folds, pytest.raises(NotFoundError, match="had no commit yet"):
        folds.resolve("main@{2001-01-01}")
    assert _at(lake, "main@{2027-01-15T13:30:00Z}~1") == fast


def test_a_time_before_the_first_commit_says_when_that_was(lake: Lake) -> None:
    for time in ("2001-01-01", "0001-01-01", "0001-01-01T00:00:00+14:00"):
        with pytest.raises((NotFoundError, InvalidInputError)) as caught:
            _at(lake, f"main@{{{time}}}")
        assert "main" in caught.value.message or "not a time" in caught.value.message
    with pytest.raises(NotFoundError, match="had no commit yet at 2001-01-01T00:00:00") as missing:
        _at(lake, "main@{2001-01-01}")
    assert "its first is of 20" in missing.value.hint


def test_steps_beyond_the_first_commit_say_how_many_there_are(lake: Lake) -> None:
    root = lake.head("main")
    with pytest.raises(NotFoundError, match="as far as 'main~1'") as caught:
        _at(lake, "main~1")
    assert caught.value.hint == f"its first commit is 0 steps back: {root[:12]}"
    _commit(lake, START)
    assert _at(lake, "main~") == _at(lake, "main~1") == _at(lake, "main~0~1") == root
    for text in ("main~99999", "main~9999999999999999", "main~1~1"):
        with pytest.raises(NotFoundError) as caught:
            _at(lake, text)
        assert "steps back" in caught.value.hint or "step back" in caught.value.hint


def test_a_tag_is_a_ref_and_a_branch_goes_before_it(lake: Lake) -> None:
    first, second = _commit(lake, START), _commit(lake, START + HOUR)
    lake.create_tag("release-2026.11", first)
    assert refs.resolve(lake, "release-2026.11") == refs.Ref(first, None)
    assert _at(lake, "release-2026.11~1") == lake.get_commit(first).parents[0]
    assert refs.resolve(lake, "main") == refs.Ref(second, "main")
    with pytest.raises(InvalidInputError, match="only a branch can be asked for a time"):
        _at(lake, "release-2026.11@{2027-01-01}")


def test_a_tag_that_another_program_named_like_a_commit_is_no_whole_commit(lake: Lake) -> None:
    first, second = _commit(lake, START), _commit(lake, START + HOUR)
    lake.create_tag(first[:8], second)
    assert _at(lake, first[:8]) == second  # in the order branch, tag, commit
    assert _at(lake, first[:9]) == first
    assert _at(lake, first) == first


@pytest.mark.parametrize(
    ("text", "error", "hint"),
    [
        ("HEAD", NotFoundError, "main~1"),
        ("HEAD~1", NotFoundError, "main~1"),
        ("main^", NotFoundError, "main~1"),
        ("main..exp", NotFoundError, "apart"),
        ("origin/main", NotFoundError, "did you mean main"),
        ("mainn", NotFoundError, "did you mean main"),
        ("release-1", NotFoundError, "did you mean release-11"),
        ("abcd", NotFoundError, "8 digits"),
        ("abcdef1234", NotFoundError, "headwater log"),
        ("ABCDEF1234", NotFoundError, "small letters"),
        ("nothing-like-it", NotFoundError, "headwater branch"),
        ("_hw_tx_1", NotFoundError, ""),
        ("../../etc/passwd", NotFoundError, ""),
        ("ma\0in", NotFoundError, ""),
        ("é", NotFoundError, ""),
        ("main@{yesterday}", InvalidInputError, "2026-11-01T00:00:00Z"),
        ("main@{1}", InvalidInputError, "main~1 to step back"),
        ("main@1", InvalidInputError, "main@{2026"),
        ("main@{2026-01-01", InvalidInputError, ""),
        ("main~x", InvalidInputError, ""),
        ("main exp", InvalidInputError, ""),
        ("", InvalidInputError, ""),
        ("-x", NotFoundError, ""),
        ("x" * 1001, InvalidInputError, ""),
        ("x" * 900, NotFoundError, ""),
        ("\ud800", NotFoundError, ""),
    ],
)
def test_a_bad_ref_says_what_to_write(lake: Lake, text: str, error: type[HeadwaterError], hint: str) -> None:
    lake.create_tag("release-11", lake.head("main"))
    with pytest.raises(error) as caught:
        _at(lake, text)
    assert hint in caught.value.hint
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


def test_a_branch_that_is_not_there_says_what_is(lake: Lake) -> None:
    lake.create_branch("exp-42", lake.head("main"))
    lake.create_tag("release-11", lake.head("main"))
    for name, hint in {"exp-43": "did you mean exp-42?", "other": "`headwater branch`", "release-11": "a tag"}.items():
        with pytest.raises(NotFoundError, match=name) as caught:
            refs.head(lake, name)
        assert hint in caught.value.hint
    for name in ("_hw_tx_1", "a b", "../main", "", "x" * 2000, "ma\0in"):
        with pytest.raises(NotFoundError) as caught:
            refs.head(lake, name)
        assert caught.value.message.isprintable()


BAD_BRANCHES = [
    "", "-x", "--force", "a..b", "a.lock", "a/b", "../../etc/passwd", "a b", "a\0b", "é", "a~1", "a@{1}", "a^", "a:b",
    "x" * 251, "deadbeef", "DEADBEEF", "0123456789ab", "_hw_mine", "HEAD", "head", ".a", "a*", "\u202ea", "\ud800",
    "a\n",
]  # fmt: skip
BAD_TAGS = [*BAD_BRANCHES, "x" * 129, "v1", "7", "1.0.0", "v1.2", "latest", "a.", "Release", "_a"]


@pytest.mark.parametrize("name", BAD_BRANCHES)
def test_a_branch_that_would_choke_something_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="not a name for a branch") as caught:
        check_branch(name)
    assert caught.value.hint
    assert (caught.value.message + caught.value.hint).isprintable()


@pytest.mark.parametrize("name", BAD_TAGS)
def test_a_tag_that_would_choke_something_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError, match="not a name for a tag") as caught:
        check_tag(name)
    assert caught.value.hint
    assert (caught.value.message + caught.value.hint).isprintable()


def test_good_names_are_good() -> None:
    for name in ("exp-42", "main", "_mine", "7", "Exp_1", "x" * 250, "abcdef", "deadbeeg", "decade-1"):
        assert check_branch(name) == name
    for name in ("release-2026-11", "release-1.0", "a", "x" * 128, "abcdef", "deadbeef-1"):
        assert check_tag(name) == name
    with pytest.raises(InvalidInputError) as caught:
        check_branch("feature/new thing")
    assert "'feature-new-thing', say" in caught.value.hint


def test_the_views_agree_with_the_ref_where_a_clock_was_ahead(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_bytes(b"m")
    registry.register("m", path)
    registry.register("m", path)
    registry.set_alias("m", "champion", 1)
    lake = registry._context.lake
    now = max(commit.micros for commit in lake.log(registry.head))
    lake.put("main", "by-hand", b"x")
    lake.commit("main", "by a machine whose clock is ahead", {AT: str(now + 10 * HOUR)})
    # Landed after it; by its own clock, before.
    lake.create_branch("side", registry.head)
    side = registry.branch("side")
    side.set_alias("m", "champion", 2)
    rows = side.sql("SELECT position, landed_at FROM lake.commits ORDER BY position, landed_at").fetchall()
    assert [at for _, at in rows] == sorted(at for _, at in rows)
    for hours in (5, 20):
        query = f"SELECT version FROM alias_at('m', 'champion', make_timestamptz({now}) + INTERVAL {hours} HOUR)"
        moment = timestamp(now + hours * HOUR)
        then = side.at(f"side@{{{moment}}}")
        assert side.sql(query).fetchall() == [(then.resolve("m@champion").version,)]
