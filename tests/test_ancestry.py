"""How commits stand to each other: what one side has that the other lacks, on both lakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from headwater.ancestry import commits_beyond
from headwater.fold import TX
from headwater.registry import Registry


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    return path


def _beyond(left: Registry, right: Registry) -> list[str]:
    """Return the transactions' commits that `right` has and `left` lacks."""
    context = left._context
    with context.reading() as fold:
        found = commits_beyond(context.lake, fold, right.head)
    ids = [commit.id for commit in found]
    for at, commit in enumerate(found):
        assert not set(commit.parents) & set(ids[at:])
    return [commit.id for commit in found if TX in commit.metadata]


def test_what_a_branch_has_beyond_another_is_its_own_transactions(registry: Registry, model: Path) -> None:
    registry.register("m", model)
    exp = registry.create_branch("exp")
    assert _beyond(registry, exp) == []
    mine = [exp.register("m", model).commit, exp.register("m", model).commit]
    theirs = [registry.register("m", model).commit]
    assert _beyond(registry, exp) == mine
    assert _beyond(exp, registry) == theirs
    assert _beyond(exp, registry.at("main~1")) == []
