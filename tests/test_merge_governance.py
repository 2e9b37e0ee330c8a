"""Merging under governance: what a branch decided is decided again where it is merged, or left; on both lakes."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from headwater import ConflictError, GateFailedError, NotFoundError, PermissionDeniedError, production
from headwater.conflicts import MergeConflictError
from headwater.errors import InvalidInputError
from headwater.merge_model import MergeDeniedError, MergeRefusedError
from headwater.registry import Registry

GATES = """
[[staging.gate]]
metric = "auc"
min = 0.6
[[production.gate]]
metric = "auc"
min = 0.8
"""
APPROVED = '[production]\napprovals = { count = 1, role = "reviewer" }\n'


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that is an artifact."""
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def governed(registry: Registry, model: Path) -> Registry:
    """A registry whose model `m` has version 1 in production and gates before it."""
    registry.register("m", model, metrics={"auc": 0.9})
    registry.stage("m/1", "staging")
    registry.promote("m/1", "production")
    registry.set_gates("m", GATES)
    return registry


def state(registry: Registry) -> tuple[dict[int, str], dict[int, float], int | None]:
    """Return the stages that are any, the shares in production, and the champion; all faces agree."""
    stages = {each.version: each.stage for each in registry.versions("m") if each.stage != "none"}
    shares = {each.version: each.traffic or 0.0 for each in registry.serving("production", name="m")}
    champion = next((each.version for each in registry.aliases("m") if each.alias == "champion"), None)
    with registry._context.reading() as fold:
        found = production.faces(fold, registry.model("m").model_id)
    assert len({frozenset(each) for each in found.values()}) == 1, found
    return stages, shares, champion


def promoted(registry: Registry, model: Path, auc: float, traffic: float | None = None) -> int:
    """Register a version and promote it, whatever gates say there; return its number."""
    version = registry.register("m", model, metrics={"auc": auc}).version
    registry.stage(f"m/{version}", "staging")
    registry.promote(f"m/{version}", "production", traffic=traffic)
    return version


# -- decided again ----------------------------------------------------------------------------------------------------
def test_a_promotion_on_a_branch_is_made_again_on_main(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    promoted(exp, model, 0.95)
    before = governed.head
    planned = governed.merge("exp", dry_run=True)
    assert [(each.words(), each.passed) for each in planned.replayed] == [
        ("stage m/2 staging", True),
        ("promote m/2 to production", True),
    ]
    assert planned.dry_run
    assert governed.head == before
    assert state(governed) == ({1: "production"}, {1: 100.0}, 1)

    done = governed.merge("exp")

    assert state(governed) == ({1: "archived", 2: "production"}, {2: 100.0}, 2)
    assert [(each.action, each.name, each.passed) for each in done.replayed] == [
        ("stage", "m/2", True),
        ("promote", "m/2", True),
    ]
    (gate,) = done.replayed[1].results
    assert (gate.passed, gate.found) == (True, "0.95")
    log = governed.log(limit=3)
    assert [(each.kind, each.message) for each in log] == [
        ("promote", "promote m/2 to production, was 1: merge of exp"),
        ("stage", "stage m/2 staging: merge of exp"),
        ("merge", done.words() and f"merge exp into main: {done.words()}"),
    ]
    assert [each.commit for each in log] == [done.replayed[1].commit, done.replayed[0].commit, done.commit]
    # in between nobody saw anything: one step took the branch from the one to the other
    assert governed.merge("exp").up_to_date
    assert governed.rollback("m").version == 1
    assert state(governed) == ({1: "production", 2: "archived"}, {1: 100.0}, 1)


def test_gates_loosened_on_a_branch_do_not_hold_on_main(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    exp.set_gates("m", "[[production.gate]]\nmetric = 'auc'\nmin = 0.1\n")
    promoted(exp, model, 0.7)
    (_, promotion, rule) = governed.merge("exp", dry_run=True).replayed
    assert not promotion.passed
    assert (rule.words(), rule.passed) == ("set policy:m", True)

    with pytest.raises(MergeRefusedError) as caught:
        governed.merge("exp")

    error = caught.value
    assert error.exit_status == 3
    assert error.message == (
        "what exp decided does not hold on main: promote m/2 to production:"
        " 1 gate of 1 refused m/2 for production: auc: required >= 0.8, found 0.7"
    )
    assert error.hint is not None
    assert "--ours" in error.hint
    assert state(governed) == ({1: "production"}, {1: 100.0}, 1)
    assert [each.version for each in governed.versions("m")] == [1]
    assert governed.gates("m")[0].text == GATES
    # the refusal is told
    newest = governed.log(limit=1)[0]
    assert (newest.kind, newest.message) == ("refuse", "refuse merge of exp: promote m/2 to production: auc")
    ((value,),) = governed.sql("SELECT value FROM lake.events WHERE kind = 'refusal'").fetchall()
    assert json.loads(value)["gates"] == ["auc"]
    assert json.loads(value)["source"] == "exp"


def test_ours_leaves_production_as_it_is_and_takes_the_rest(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    exp.set_gates("m", "[[production.gate]]\nmetric = 'auc'\nmin = 0.1\n")
    promoted(exp, model, 0.7)
    exp.set_alias("m", "candidate", 2)

    done = governed.merge("exp", ours=True)

    assert done.left == ("alias:m@champion", "policy:m")
    assert "alias:m@champion stays as it was: the source's was left" in done.notes
    assert done.replayed == ()
    assert state(governed) == ({1: "production"}, {1: 100.0}, 1)
    assert governed.resolve("m@candidate").version == 2
    assert governed.gates("m")[0].text == GATES
    # what was in production on the branch alone is nothing to go back to
    with pytest.raises(GateFailedError, match=r"m/2 was never in production"):
        governed.rollback("m", to=2)
    # and the version can be promoted as any other
    governed.stage("m/2", "staging")
    with pytest.raises(GateFailedError, match=r"auc: required >= 0\.8, found 0\.7"):
        governed.promote("m/2", "production")


def test_one_of_them_can_be_left_by_name(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    exp.set_gates("m", "[[production.gate]]\nmetric = 'auc'\nmin = 0.1\n")
    promoted(exp, model, 0.95)
    done = governed.merge("exp", resolve={"policy:m": "ours"})
    assert done.left == ("policy:m",)
    assert state(governed)[2] == 2
    assert governed.gates("m")[0].text == GATES
    exp2 = governed.create_branch("exp2")
    exp2.delete_gates("m")
    promoted(exp2, model, 0.1)
    with pytest.raises(InvalidInputError, match="can't be 'mine'"):
        governed.merge("exp2", resolve={"alias:m@champion": "mine"})
    with pytest.raises(InvalidInputError, match="there is no conflict 'alias:x@champion'"):
        governed.merge("exp2", resolve={"alias:x@champion": "ours"})


def test_the_new_numbers_come_along_and_count(governed: Registry, model: Path) -> None:
    governed.register("m", model, metrics={"auc": 0.5})
    exp = governed.create_branch("exp")
    with exp.start_run("again") as run:
        run.log_metric("auc", 0.99)
    version = exp.register("m", model, metrics={"auc": 0.99}).version
    exp.stage(f"m/{version}", "staging")
    exp.promote(f"m/{version}", "production", traffic=10)
    done = governed.merge("exp")
    assert [each.words() for each in done.replayed] == ["stage m/3 staging", "promote m/3 to production with 10 %"]
    assert state(governed) == ({1: "production", 3: "staging"}, {1: 90.0, 3: 10.0}, 1)


def test_stages_below_production_are_entered_again(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    exp.set_gates("m", "[[production.gate]]\nmetric = 'auc'\nmin = 0.1\n")
    for auc in (0.7, 0.5):
        number = exp.register("m", model, metrics={"auc": auc}).version
        exp.stage(f"m/{number}", "staging")
    with pytest.raises(MergeRefusedError, match=r"stage m/3 staging: 1 gate of 1 refused m/3"):
        governed.merge("exp")
    name = "stage:m/3"
    done = governed.merge("exp", resolve={name: "ours", "policy:m": "ours"})
    assert done.left == ("policy:m", name)
    assert state(governed)[0] == {1: "production", 2: "staging"}


@pytest.mark.parametrize("approved", [False, True], ids=["not approved", "approved on main"])
def test_approvals_count_on_the_branch_that_they_name(
    registry: Registry, acting: Callable[[str], Registry], model: Path, approved: bool
) -> None:
    registry.register("m", model)
    registry.stage("m/1", "staging")
    registry.promote("m/1", "production")
    registry.register("m", model)
    registry.stage("m/2", "staging")
    registry.set_gates("m", APPROVED)
    exp = registry.create_branch("exp")
    acting("rita").branch("exp").approve("m/2", "production")
    exp.promote("m/2", "production")
    if approved:
        acting("rita").approve("m/2", "production")
        registry.merge("exp")
        assert state(registry) == ({1: "archived", 2: "production"}, {2: 100.0}, 2)
    else:
        with pytest.raises(MergeRefusedError, match="approvals: required"):
            registry.merge("exp")
        assert state(registry) == ({1: "production", 2: "staging"}, {1: 100.0}, 1)


@pytest.fixture
def acting(registry: Registry, registry_url: str) -> Any:
    """Open the same lake as somebody else."""
    import headwater

    opened: list[Registry] = []

    def act(actor: str) -> Registry:
        opened.append(headwater.open(registry_url, actor=actor))
        return opened[-1]

    yield act
    for each in opened:
        each.close()


# -- canaries, rollbacks ----------------------------------------------------------------------------------------------
def test_traffic_is_given_again_and_taken_again(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    two = promoted(exp, model, 0.95, traffic=5)
    governed.merge("exp")
    assert state(governed) == ({1: "production", 2: "staging"}, {1: 95.0, 2: 5.0}, 1)
    exp.merge("main")
    exp.set_traffic("m", 25)
    three = promoted(exp, model, 0.9, traffic=10)
    assert (two, three) == (2, 3)
    governed.merge("exp")
    assert state(governed)[1] == {1: 65.0, 2: 25.0, 3: 10.0}
    exp.merge("main")
    exp.set_traffic("m", 0, version=3)
    exp.set_traffic("m", 10, version=2)
    exp.deploy("m/3", "production", mode="shadow")
    done = governed.merge("exp")
    assert [each.action for each in done.replayed] == ["traffic", "traffic", "traffic"]
    assert state(governed)[1] == {1: 90.0, 2: 10.0, 3: 100.0}
    assert [each.version for each in governed.serving("production") if each.mode == "shadow"] == [3]


def test_a_rollback_on_a_branch_is_one_on_main(governed: Registry, model: Path) -> None:
    promoted(governed, model, 0.95)
    exp = governed.create_branch("exp")
    exp.rollback("m", reason="it was worse")
    done = governed.merge("exp")
    assert [each.words() for each in done.replayed] == ["roll back to m/1"]
    assert state(governed) == ({1: "production", 2: "archived"}, {1: 100.0}, 1)
    assert governed.log(limit=1)[0].kind == "rollback"


# -- both decided -----------------------------------------------------------------------------------------------------
def test_two_promotions_are_one_conflict(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    two, three = promoted(exp, model, 0.95), promoted(governed, model, 0.97)
    with pytest.raises(MergeConflictError, match="main and exp disagree about alias:m@champion") as caught:
        governed.merge("exp")
    (conflict,) = caught.value.conflicts
    assert (conflict.ours.value, conflict.theirs.value) == (f"m/{three}", f"m/{two}")
    done = governed.merge("exp", resolve={"alias:m@champion": "theirs"})
    assert done.settled == {"alias:m@champion": "theirs"}
    assert [each.words() for each in done.replayed] == ["stage m/2 staging", "promote m/2 to production"]
    assert state(governed) == ({1: "archived", 2: "production", 3: "archived"}, {2: 100.0}, 2)


def test_what_loses_a_conflict_leaves_no_trace_in_production(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    promoted(exp, model, 0.95)
    promoted(governed, model, 0.97)
    done = governed.merge("exp", ours=True)
    assert done.settled == {"alias:m@champion": "ours"}
    assert done.replayed == ()
    assert state(governed) == ({1: "archived", 3: "production"}, {3: 100.0}, 3)


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_without_gates_a_conflict_is_settled_as_a_whole_too(registry: Registry, model: Path, side: str) -> None:
    for _ in range(3):
        registry.register("m", model)
    registry.set_alias("m", "champion", 1)
    exp = registry.create_branch("exp")
    exp.set_alias("m", "champion", 2)
    registry.set_alias("m", "champion", 3)
    with pytest.raises(MergeConflictError) as caught:
        registry.merge("exp")
    assert [each.name for each in caught.value.conflicts] == ["alias:m@champion"]
    done = registry.merge("exp", resolve={"alias:m@champion": side})
    assert done.replayed == ()
    assert state(registry)[2] == (3 if side == "ours" else 2)
    assert state(registry)[0][3 if side == "ours" else 2] == "production"


def test_canaries_alone_are_a_conflict_about_traffic(registry: Registry, model: Path) -> None:
    for _ in range(3):
        registry.register("m", model)
    registry.set_alias("m", "champion", 1)
    exp = registry.create_branch("exp")
    exp.deploy("m/2", "production", mode="canary", traffic=10)
    registry.deploy("m/3", "production", mode="canary", traffic=20)
    with pytest.raises(MergeConflictError) as caught:
        registry.merge("exp")
    (conflict,) = caught.value.conflicts
    assert conflict.name == "traffic:m@production"
    registry.merge("exp", theirs=True)
    assert state(registry)[1] == {1: 90.0, 2: 10.0}


def test_the_same_on_both_sides_is_no_conflict(registry: Registry, model: Path) -> None:
    for _ in range(2):
        registry.register("m", model)
    exp = registry.create_branch("exp")
    exp.set_alias("m", "champion", 2)
    registry.set_alias("m", "champion", 2)
    done = registry.merge("exp")
    assert done.conflicts == ()
    assert state(registry) == ({2: "production"}, {2: 100.0}, 2)
    assert len(registry.serving("production")) == 1


def test_main_is_the_authority_on_its_branches(governed: Registry, model: Path) -> None:
    exp = governed.create_branch("exp")
    promoted(governed, model, 0.95)
    governed.set_gates("m", APPROVED)
    done = exp.merge("main")
    assert done.replayed == ()
    assert state(exp) == state(governed)
    assert exp.gates("m")[0].text == APPROVED


# -- who may ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def ruled(governed: Registry, acting: Callable[[str], Registry]) -> Registry:
    """The governed registry, with an admin, a reviewer and an author who is a deployer elsewhere."""
    governed.grant("admin", "tester")
    governed.grant("reviewer", "rita", "m")
    governed.grant("author", "ann", "m")
    governed.grant("deployer", "dan", "m")
    return governed


def test_who_merges_needs_the_role(ruled: Registry, acting: Callable[[str], Registry], model: Path) -> None:
    exp = ruled.create_branch("exp")
    promoted(exp, model, 0.95)
    with pytest.raises(MergeDeniedError, match=r"promote m/2 to production: ann may not promote m") as caught:
        acting("ann").merge("exp")
    assert isinstance(caught.value, PermissionDeniedError)
    assert caught.value.exit_status == 3
    assert state(ruled) == ({1: "production"}, {1: 100.0}, 1)
    done = acting("ann").merge("exp", ours=True)
    assert done.left == ("alias:m@champion",)
    assert state(ruled) == ({1: "production"}, {1: 100.0}, 1)
    exp2 = ruled.create_branch("exp2")
    exp2.stage("m/2", "staging")
    exp2.promote("m/2", "production")
    # Whoever may promote merges a promotion, also of what somebody else had staged for it.
    acting("rita").merge("exp2")
    assert state(ruled) == ({1: "archived", 2: "production"}, {2: 100.0}, 2)


def test_rules_hold_by_an_admins_word_alone(ruled: Registry, acting: Callable[[str], Registry], model: Path) -> None:
    exp = ruled.create_branch("exp")
    exp.set_gates("m", "[[production.gate]]\nmetric = 'auc'\nmin = 0.1\n")
    exp.grant("admin", "ann")
    exp.revoke_role("reviewer", "rita", "m")
    exp.register("m", model, metrics={"auc": 0.95})
    with pytest.raises(MergeDeniedError, match=r"set policy:m: ann may not govern m"):
        acting("ann").merge("exp")
    assert [each.version for each in ruled.versions("m")] == [1]
    done = acting("ann").merge("exp", ours=True)
    assert len(done.left) == 3
    assert ruled.gates("m")[0].text == GATES
    held = {(each.role, each.name, each.pattern) for each in ruled.roles()}
    assert held == {
        ("admin", "tester", "*"),
        ("reviewer", "rita", "m"),
        ("author", "ann", "m"),
        ("deployer", "dan", "m"),
    }
    assert [each.version for each in ruled.versions("m")] == [2, 1]


def test_an_admin_takes_rules_over_by_merging(ruled: Registry, model: Path) -> None:
    exp = ruled.create_branch("exp")
    exp.set_gates("m", "[[production.gate]]\nmetric = 'auc'\nmin = 0.1\n")
    exp.grant("deployer", "dora", "m")
    exp.revoke_role("reviewer", "rita", "m")
    done = ruled.merge("exp")
    assert {each.action for each in done.replayed} == {"rule"}
    assert "0.1" in ruled.gates("m")[0].text
    held = {(each.role, each.name) for each in ruled.roles()}
    assert held == {("admin", "tester"), ("author", "ann"), ("deployer", "dan"), ("deployer", "dora")}
    # Roles are everybody's: all who decide by them wait at one fence, and it has no twin.
    fences = {each.path for each in ruled._context.lake.list("main", "fence/")}
    assert {path for path in fences if path.endswith("_all")} == {"fence/_all"}


# -- another copy of the lake ----------------------------------------------------------------------------------------
def test_what_a_copy_of_the_lake_decided_is_decided_again(governed: Registry, model: Path, tmp_path: Path) -> None:
    import headwater

    governed.push(str(tmp_path / "copy"))
    with headwater.open(str(tmp_path / "copy"), actor="ada") as copy:
        copy.delete_gates("m")
        promoted(copy, model, 0.7)
    governed.tag("m", {"went": "on"})
    before = governed.head
    with pytest.raises(MergeRefusedError, match=r"promote m/2 to production: 1 gate of 1 refused m/2"):
        governed.pull_from(str(tmp_path / "copy"))
    assert governed.head == before
    governed.pull_from(str(tmp_path / "copy"), ours=True)
    assert state(governed) == ({1: "production"}, {1: 100.0}, 1)
    assert [each.version for each in governed.versions("m")] == [2, 1]


# -- any program ------------------------------------------------------------------------------------------------------
STEPS = st.tuples(
    st.sampled_from(
        ["register", "promote", "canary", "traffic", "rollback", "gates", "alias", "shadow", "merge", "merge"]
    ),
    st.integers(0, 1),
    st.integers(1, 6),
    st.integers(0, 5),
)


@pytest.mark.timeout(600)
def test_whatever_is_merged_all_faces_agree(registry: Registry, model: Path, is_remote: bool) -> None:
    """Two branches that decide at random, and merge there and back; what is refused changes nothing but the record."""
    names = itertools.count()

    @settings(
        max_examples=2 if is_remote else 12,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list[Any](HealthCheck),
    )
    @given(st.lists(STEPS, min_size=6, max_size=8 if is_remote else 14))
    def run(program: list[tuple[str, int, int, int]]) -> None:
        name = f"m{next(names)}"
        for auc in (0.7, 0.8, 0.9):
            registry.register(name, model, metrics={"auc": auc})
        registry.set_alias(name, "champion", 1)
        exp = registry.create_branch(f"exp-{name}")
        for what, branch, number, more in program:
            at, other = (registry, exp) if branch else (exp, registry)
            before = faces_of(at, name)
            try:
                step(at, other, what, name, number, more, model)
            except (GateFailedError, MergeConflictError, ConflictError, NotFoundError):
                assert faces_of(at, name) == before
            faces_of(other, name)
        for side in ({"ours": True}, {"theirs": True}):
            with contextlib.suppress(GateFailedError, NotFoundError):
                registry.merge(f"exp-{name}", **side)  # type: ignore[arg-type]
            faces_of(registry, name)
        exp.merge("main", theirs=True)
        assert faces_of(exp, name) == faces_of(registry, name)

    run()


def step(at: Registry, other: Registry, what: str, name: str, number: int, more: int, model: Path) -> None:
    """Do one thing on a branch."""
    reference = f"{name}/{number}"
    if what == "register":
        at.register(name, model, metrics={"auc": 0.5 + more / 10})
    elif what == "promote":
        at.stage(reference, "staging")
        at.promote(reference, "production")
    elif what == "canary":
        at.stage(reference, "staging")
        at.promote(reference, "production", traffic=10 * more + 5)
    elif what == "traffic":
        at.set_traffic(name, 10 * more, version=number)
    elif what == "rollback":
        at.rollback(name)
    elif what == "gates":
        at.set_gates(name, f"[[production.gate]]\nmetric = 'auc'\nmin = {0.5 + more / 10}\n")
    elif what == "alias":
        at.set_alias(name, "champion", number)
    elif what == "shadow":
        at.deploy(reference, "production", mode="shadow")
    else:
        at.merge(other.ref, ours=more == 0, theirs=more == 1)


def faces_of(registry: Registry, name: str) -> Any:
    """Return what is in production by all faces, which agree."""
    with registry._context.reading() as fold:
        model_id = fold.one("SELECT subject FROM events WHERE kind = 'name' AND value = ?", name)[0]
        assert production.faces_agree(fold, model_id), production.faces(fold, model_id)
        shares = {each["version_id"]: each["percent"] for each in production.serving_in(fold, model_id)}
        assert sum(e["percent"] for e in production.serving_in(fold, model_id) if e["mode"] != "shadow") == 100.0
        return production.faces(fold, model_id), shares


# -- reverts ----------------------------------------------------------------------------------------------------------
def test_a_revert_is_no_way_into_production(governed: Registry, model: Path) -> None:
    promoted(governed, model, 0.95)
    governed.rollback("m")
    rollback = governed.log(limit=1)[0].commit
    before = governed.head
    for commit in (rollback, governed.get("m/1").commit):
        with pytest.raises(GateFailedError, match="a revert can't change what is in production of m") as caught:
            governed.revert(commit, force=True)
        assert caught.value.hint is not None
        assert "`headwater rollback m`" in caught.value.hint
    assert governed.head == before
    # what is not in production can be undone
    third = governed.register("m", model)
    governed.revert(third.commit)
    assert [each.version for each in governed.versions("m")] == [2, 1]


def test_without_gates_a_revert_takes_all_faces_back(registry: Registry, model: Path) -> None:
    for _ in range(2):
        registry.register("m", model)
    registry.set_alias("m", "champion", 1)
    registry.set_alias("m", "champion", 2)
    registry.revert(registry.head)
    assert state(registry) == ({1: "production"}, {1: 100.0}, 1)
    registry.revert(registry.head)
    assert state(registry) == ({1: "archived", 2: "production"}, {2: 100.0}, 2)
