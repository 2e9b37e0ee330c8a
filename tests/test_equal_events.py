"""Two standing events that say the same, as a merge of branches leaves them: nothing is listed twice, on both lakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from headwater.ids import new_id
from headwater.registry import Registry
from headwater.transaction import Transaction


def _stand_again(registry: Registry, kinds: tuple[str, ...]) -> None:
    """Write every standing event of some kinds once more, superseding nothing, as if another branch had."""

    def work(tx: Transaction) -> None:
        for subject, kind, key, value in tx.fold.rows("SELECT subject, kind, key, value FROM events WHERE standing"):
            if kind in kinds:
                tx.append("events", event_id=new_id(), subject=subject, kind=kind, key=key, value=value, prev=[])

    registry._context.write("twice", work)


@pytest.fixture
def twice(registry: Registry, tmp_path: Path) -> Registry:
    """A registry in which everything that can be said of a model and a version was said twice."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"weights")
    registry.register("m", path)
    registry.register("m", path)
    registry.set_alias("m", "champion", 1)
    registry.tag("m", {"team": "ops"})
    registry.tag("m/1", {"colour": "red"})
    registry.describe("m", "a model")
    registry.describe("m/1", "the first")
    _stand_again(registry, ("alias", "tag", "description", "name"))
    return registry


def test_python_lists_nothing_twice(twice: Registry) -> None:
    assert [(each.alias, each.version) for each in twice.aliases("m")] == [("champion", 1)]
    (model,) = twice.models()
    assert (model.name, model.aliases, model.description, model.tags) == (
        "m", {"champion": 1}, "a model", {"team": "ops"},
    )  # fmt: skip
    second, first = twice.versions("m")
    assert (first.version, first.aliases, first.description, first.tags) == (
        1, ("champion",), "the first", {"colour": "red"},
    )  # fmt: skip
    assert second.aliases == ()
    assert twice.resolve("m@champion").version == 1
    (node,) = [each for each in twice.trace("model:m/1").nodes if each.kind == "model"]
    facts: Mapping[str, object] = node.facts
    assert facts["aliases"] == ["champion"]


def test_no_view_shows_anything_twice(twice: Registry) -> None:
    for query, rows in {
        "SELECT name, alias, version FROM aliases": [("m", "champion", 1)],
        "SELECT name, description, tags FROM models": [("m", "a model", {"team": "ops"})],
        "SELECT version, aliases, tags FROM model_versions WHERE version = 1": [(1, ["champion"], {"colour": "red"})],
        "SELECT name, version FROM stages": [("m", 1), ("m", 2)],
        "SELECT version FROM alias_at('m', 'champion', now()::TIMESTAMPTZ + INTERVAL 1 HOUR)": [(1,)],
        "SELECT count(*) FROM history WHERE kind = 'alias'": [(2,)],
    }.items():
        assert twice.sql(query).fetchall() == rows, query


def test_an_alias_that_stands_twice_at_one_version_is_moved_like_any(twice: Registry) -> None:
    twice.set_alias("m", "champion", 1)
    twice.set_alias("m", "champion", 2)
    assert twice.log(limit=1)[0].message == "alias m@champion is version 2, was 1"
    assert [(each.alias, each.version) for each in twice.aliases("m")] == [("champion", 2)]
    _stand_again(twice, ("alias",))
    twice.delete_alias("m", "champion")
    assert twice.aliases("m") == []
