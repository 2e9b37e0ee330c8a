"""What was in production is kept: by deletion, by archiving, and by garbage collection."""

from __future__ import annotations

from pathlib import Path

import pytest

import headwater
from headwater.errors import ConflictError
from headwater.registry import Registry


@pytest.fixture
def five(registry: Registry) -> Registry:
    """A registry with model `m` of five versions of bytes of their own, all of which were in production, 5 last."""
    for number in range(1, 6):
        Path("artifact").write_bytes(bytes([number]) * 100_000)
        registry.register("m", "artifact")
        registry.set_alias("m", "champion", number)
    return registry


def govern(registry: Registry) -> None:
    """Make somebody admin of the model, which has rules then."""
    registry.grant("admin", registry.actor, "m")


def refused(registry: Registry, reference: str) -> str:
    with pytest.raises(ConflictError) as caught:
        registry.delete(reference)
    assert "headwater rollback m" in caught.value.hint or "alias" in caught.value.message
    return caught.value.message


def test_nobody_is_refused_where_there_are_no_rules(five: Registry) -> None:
    five.delete("m/4")
    assert five.rollback("m").version == 3


def test_the_last_three_that_were_in_production_are_not_deleted(five: Registry) -> None:
    govern(five)
    for number in (4, 3):
        assert "one of the last three that were in production" in refused(five, f"m/{number}")
    assert "alias 'champion' points at it" in refused(five, "m/5")
    five.delete("m/2")
    five.delete("m/1")
    five.rollback("m")
    # 5 was rolled back, and can come back; 3 is what one more rollback leads to.
    for number in (5, 3):
        assert "one of the last three" in refused(five, f"m/{number}")
    five.rollback("m")
    assert five.resolve("m@champion").version == 3
    for number in (5, 4):
        assert "one of the last three" in refused(five, f"m/{number}")
    five.rollback("m", 5)
    assert five.resolve("m@champion").version == 5


def test_what_was_never_in_production_and_a_whole_model_are_deleted_as_ever(five: Registry) -> None:
    govern(five)
    five.register("m", "artifact")
    five.delete("m/6")
    with pytest.raises(ConflictError, match="champion"):
        five.delete("m")
    five.delete_alias("m", "champion")
    assert "one of the last three" in refused(five, "m/5")
    five.delete("m")
    five.undelete("m")
    assert five.rollback("m").version == 5


def test_archived_and_deleted_versions_keep_their_bytes_through_a_collection(five: Registry, tmp_path: Path) -> None:
    exp = five.create_branch("exp")
    Path("artifact").write_bytes(b"6" * 100_000)
    exp.register("m", "artifact")
    exp.set_alias("m", "champion", 6)
    five.merge("exp")
    five.rollback("m")
    five.delete("m/1")
    five.delete_branch("exp", force=True)
    with headwater.open(five.url, actor="cleaner") as other:
        other.gc(grace=0)
    for number in (2, 3, 4, 5, 6):
        assert five.get(f"m/{number}").stage == ("production" if number == 5 else "archived")
        five.pull(f"m/{number}", tmp_path / f"pulled-{number}")
        assert (tmp_path / f"pulled-{number}" / "artifact").stat().st_size == 100_000
    five.verify("m/6")
    five.undelete("m/1")
    five.pull("m/1", tmp_path / "pulled-1")
    assert (tmp_path / "pulled-1" / "artifact").read_bytes() == bytes([1]) * 100_000
    assert five.rollback("m", 6).version == 6
    assert five.rollback("m", 3).version == 3
