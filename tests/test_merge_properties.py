"""Merges beside plain sets of rows, driven by Hypothesis: random programs on random branches, on both kinds of lake.

The model is a set of rows for each branch: what an operation adds is read back from the tables, and what a merge comes
to is the union. State is told from the rows alone: an event stands where no other names it in `prev`.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import headwater
from headwater import tables
from headwater.conflicts import Conflict, MergeConflictError
from headwater.errors import HeadwaterError
from headwater.production import faces_agree
from headwater.registry import Registry
from headwater.schema import TABLES
from headwater.state import Folds

Rows = frozenset[tuple[str, str]]
"""(table, row as sorted JSON)."""

MODELS = ("alpha", "beta", "gamma")
BY_RULE = {"tombstone", "status"}
RANKS = ("running", "killed", "failed", "finished")


def rows_at(registry: Registry, commit: str) -> Rows:
    """Return every row of every table at a commit, read from what the tables' logs name; each row once, by test."""
    lake = registry._context.lake
    found: list[tuple[str, str]] = []
    for name in TABLES:
        files = tables.load(lake, commit, name).files
        for row in tables.rows(tables.read(lake, commit, name, files)):
            found.append((name, json.dumps(row, sort_keys=True, default=repr)))
    assert len(found) == len(set(found)), "a row is there twice"
    return frozenset(found)


def of(rows: Rows, table: str) -> list[dict[str, Any]]:
    return [json.loads(row) for name, row in rows if name == table]


def standing(rows: Rows) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Return the events that nothing supersedes, by (subject, kind, key), oldest first."""
    events = of(rows, "events")
    gone = {prev for event in events for prev in event["prev"]}
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for event in sorted(events, key=lambda each: str(each["event_id"])):
        if event["event_id"] not in gone:
            found.setdefault((event["subject"], event["kind"], event["key"]), []).append(event)
    return found


class World:
    """A registry with branches, the rows that each must have, and what has been done."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry = registry
        self.lake = registry._context.lake
        self.folder = folder
        self.rows: dict[str, Rows] = {"main": rows_at(registry, registry.head)}
        self.commits: list[tuple[str, Rows]] = [(registry.head, self.rows["main"])]
        self.made: dict[str, str] = {}
        self.count = 0
        self.merges = 0
        self.force = False

    # -- the operations -----------------------------------------------------------------------------------------------
    def branch(self, pick: int) -> str:
        return sorted(self.rows)[pick % len(self.rows)]

    def on(self, branch: str) -> Registry:
        return self.registry.branch(branch)

    def file(self, name: str, content: str) -> Path:
        place = self.folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
        return place

    def step(self, what: str, pick: int, one: int, other: int) -> None:
        branch = self.branch(pick)
        self.count += 1
        if what == "merge":
            self.merge(self.branch(one), branch, other)
            return
        if what == "merge_commit":
            commit, rows = self.commits[one % len(self.commits)]
            self.merge_rows(commit, rows, branch, other)
            return
        with contextlib.suppress(HeadwaterError):
            getattr(self, what)(self.on(branch), branch, one, other)
        if branch not in self.rows:
            return
        self.note(branch)

    def note(self, branch: str) -> None:
        """Take what an operation added into the model; it takes nothing away."""
        head = self.lake.head(branch)
        now = rows_at(self.registry, head)
        assert now >= self.rows[branch]
        self.rows[branch] = now
        self.commits.append((head, now))

    def fork(self, at: Registry, branch: str, one: int, other: int) -> None:
        if len(self.rows) < 5:
            name = f"b{self.count}"
            at.create_branch(name)
            self.rows[name] = self.rows[branch]

    def drop(self, at: Registry, branch: str, one: int, other: int) -> None:
        """Delete a branch whose every row another one has."""
        if branch != "main" and any(self.rows[branch] <= rows for name, rows in self.rows.items() if name != branch):
            self.lake.delete_branch(branch)
            del self.rows[branch]

    def register(self, at: Registry, branch: str, one: int, other: int) -> None:
        version = at.register(
            MODELS[one % 3],
            self.file("model.bin", f"weights {self.count}"),
            metrics={"auc": other / 7} if other % 2 else None,
            tags={"made": self.count} if other % 3 else None,
            description="words" if other % 5 == 0 else None,
        )
        self.made[version.version_id] = f"weights {self.count}"

    def pick_version(self, at: Registry, pick: int) -> Any:
        versions = [version for model in at.models() for version in at.versions(model.name)]
        return versions[pick % len(versions)] if versions else None

    def alias(self, at: Registry, branch: str, one: int, other: int) -> None:
        version = self.pick_version(at, one)
        if version is not None:
            at.set_alias(version.name, ("champion", "shadow")[other % 2], version.version)

    def unalias(self, at: Registry, branch: str, one: int, other: int) -> None:
        at.delete_alias(MODELS[one % 3], ("champion", "shadow")[other % 2])

    def tag(self, at: Registry, branch: str, one: int, other: int) -> None:
        version = self.pick_version(at, one)
        if version is not None:
            subject = version.reference if other % 2 else version.name
            at.tag(subject, {("k", "l")[one % 2]: (None, "x", "y")[other % 3]})

    def describe(self, at: Registry, branch: str, one: int, other: int) -> None:
        version = self.pick_version(at, one)
        if version is not None:
            at.describe(version.reference if other % 2 else version.name, ("this", "that")[other % 4 // 2])

    def rename(self, at: Registry, branch: str, one: int, other: int) -> None:
        models = at.models()
        if models:
            at.rename(models[one % len(models)].name, ("delta", "omega", *MODELS)[other % 5])

    def delete(self, at: Registry, branch: str, one: int, other: int) -> None:
        version = self.pick_version(at, one)
        if version is not None:
            at.delete(version.reference if other % 3 else version.name)

    def undelete(self, at: Registry, branch: str, one: int, other: int) -> None:
        numbers = [row["version"] for row in of(self.rows[branch], "model_versions")]
        at.undelete(f"{MODELS[one % 3]}/{numbers[other % len(numbers)]}" if other % 2 and numbers else MODELS[one % 3])

    def revert(self, at: Registry, branch: str, one: int, other: int) -> None:
        """Undo what the log has, a merge or another undoing among it; by force also where something depends on it."""
        entries = [each for each in at.log(limit=8) if each.kind != "init"]
        at.revert(entries[one % len(entries)].commit, force=self.force)

    def data(self, at: Registry, branch: str, one: int, other: int) -> None:
        lines = "".join(f"{number},{number * (other % 3)}\n" for number in range(other % 4))
        at.add_dataset(("flights", "weather")[one % 2], self.file("d/data.csv", f"id,value\n{lines}"), key=["id"])

    def run(self, at: Registry, branch: str, one: int, other: int) -> None:
        with at.start_run(f"run {self.count}", experiment="e", nested=False) as run:
            run.log_metric("loss", one)
            run.log_params({"depth": other % 2})

    def run_event(self, at: Registry, branch: str, one: int, other: int) -> None:
        """What a process that joined a run on another branch would write: its param, its end."""
        runs = sorted(row["run_id"] for row in of(self.rows[branch], "runs"))
        if not runs:
            return
        run_id = runs[one % len(runs)]

        def work(tx: Any) -> None:
            if other % 2:
                tx.event(run_id, "status", json.dumps({"status": RANKS[other % 4], "ended_at": None}))
            else:
                tx.event(run_id, "param", str(other % 3), key="extra")
            tx.subject, tx.message = f"run:{run_id}", "changed"

        at._context.write("run", work)

    def deploy(self, at: Registry, branch: str, one: int, other: int) -> None:
        version = self.pick_version(at, one)
        if version is not None:
            at.deploy(version.reference, "production", mode=("live", "canary", "shadow")[other % 3])

    def undeploy(self, at: Registry, branch: str, one: int, other: int) -> None:
        live = at.deployments(ended=False)
        if live:
            at.undeploy(live[one % len(live)].deployment_id)

    def predict(self, at: Registry, branch: str, one: int, other: int) -> None:
        deployments = at.deployments()
        if deployments:
            lines = "".join(f"p{other % 3}-{number},{number / 7}\n" for number in range(1 + other % 4))
            file = self.file("predictions.csv", f"id,score\n{lines}")
            at.log_predictions(file, deployments[one % len(deployments)])

    # -- merging ------------------------------------------------------------------------------------------------------
    def merge(self, source: str, target: str, choice: int) -> None:
        if source != target:
            self.merge_rows(source, self.rows[source], target, choice)

    def merge_rows(self, source: str, theirs: Rows, target: str, choice: int) -> None:
        """Merge, and compare what it came to with the union of the two sets."""
        ours = self.rows[target]
        union = ours | theirs
        at, before = self.on(target), self.lake.head(target)
        open_ones = {
            where
            for where, events in standing(union).items()
            if where[1] not in BY_RULE and len({event["value"] for event in events}) > 1
        }
        planned = at.merge(source, dry_run=True)
        found = {(each.subject, each.kind, each.key): each for each in planned.conflicts}
        # What is in production is one thing, however many faces of it two branches changed.
        assert {where for where in found if where[1] != "tombstone" and not is_face(where)} == {
            where for where in open_ones if not is_face(where)
        }
        assert len({where[0] for where in found if is_face(where)}) == len([where for where in found if is_face(where)])
        model_of = {row["version_id"]: row["model_id"] for row in of(union, "model_versions")}
        assert {where[0] for where in found if is_face(where)} <= {
            model_of.get(where[0], where[0]) for where in open_ones if is_face(where)
        }
        assert self.lake.head(target) == before
        if source in self.rows:
            self.check_swapped(source, target)
        if ours <= theirs or theirs <= ours:
            assert found == {}, "a branch that changed nothing disagrees"
        if found:
            with pytest.raises(MergeConflictError) as caught:
                at.merge(source)
            assert {each.name for each in caught.value.conflicts} <= {each.name for each in planned.conflicts}
            assert self.lake.head(target) == before
        options: dict[str, Any] = ({"ours": True}, {"theirs": True})[choice % 2]
        if choice % 3 == 0 and found:
            first = min(each.name for each in found.values())
            options = {**options, "resolve": {first: ("theirs", "ours")[choice % 2]}}
        merge = at.merge(source, **options)
        assert merge.up_to_date == (theirs <= ours)
        assert sum(merge.rows.values()) == len(theirs - ours)
        head = self.lake.head(target)
        assert (head == before) == merge.up_to_date == (merge.commit is None)
        now = rows_at(self.registry, head)
        settling = now - union
        assert now >= union, "rows were lost"
        assert {table for table, _ in settling} <= {"events"}
        assert len(of(settling, "events")) >= len(merge.settled)
        assert bool(settling) or not merge.conflicts
        assert not settling or merge.conflicts or any(is_face(where) for where in open_ones)
        self.rows[target] = now
        self.commits.append((head, now))
        self.merges += not merge.up_to_date
        stands = standing(now)
        for name, side in merge.settled.items():
            each = next(each for each in merge.conflicts if each.name == name)
            if each.kind == "tombstone":
                continue
            (event,) = stands[each.subject, each.kind, each.key]
            chosen = each.ours if side == "ours" else each.theirs
            assert event["value"] == chosen.raw or any(other.kind == "tombstone" for other in merge.conflicts)
        again = at.merge(source)
        assert again.up_to_date
        assert (again.conflicts, self.lake.head(target)) == ((), head)
        if not self.force:
            self.check_pointers(now)
            with self.registry._context.folds.at_head(target) as fold:
                assert all(faces_agree(fold, row["model_id"]) for row in of(now, "models"))

    def check_swapped(self, source: str, target: str) -> None:
        """Merged the other way round, the same is asked, with the sides in each other's place."""
        for here, there in (({}, {}), ({"ours": True}, {"theirs": True}), ({"theirs": True}, {"ours": True})):
            one = self.on(target).merge(source, dry_run=True, **here)
            other = self.on(source).merge(target, dry_run=True, **there)
            turned = [replace(each, ours=each.theirs, theirs=each.ours) for each in other.conflicts]
            assert sorted(map(unnamed, one.conflicts)) == sorted(map(unnamed, turned))

    @staticmethod
    def check_pointers(rows: Rows) -> None:
        """Nothing points at what is hidden, as nobody could have made it point there."""
        stands = standing(rows)
        hidden = {
            s for (s, kind, _), found in stands.items() if kind == "tombstone" for e in found if e["value"] == "hidden"
        }
        model_of = {row["version_id"]: row["model_id"] for row in of(rows, "model_versions")}
        for (_, kind, _), events in stands.items():
            for event in events:
                pointed = []
                if kind == "alias" and event["value"]:
                    pointed = [event["value"]]
                elif kind == "traffic":
                    pointed = [each["version_id"] for each in json.loads(event["value"] or "[]")]
                for version in pointed:
                    assert version not in hidden
                    assert model_of[version] not in hidden

    # -- what must hold at the end ------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Bring everything together from both ends, and look at all of it."""
        for branch in sorted(self.rows):
            self.check_state(branch)
        for branch in sorted(self.rows):
            self.merge(branch, "main", 1)
        for branch in sorted(self.rows):
            self.merge("main", branch, 0)
            assert self.rows[branch] == self.rows["main"], "criss-cross came to something else"
        self.check_numbers()
        self.check_folds()
        self.check_state("main")
        self.check_artifacts()

    def check_numbers(self) -> None:
        everything = frozenset[tuple[str, str]]().union(*(rows for _, rows in self.commits))
        for table, *key in (("model_versions", "model_id", "version"), ("datasets", "name", "semver")):
            rows = of(everything, table)
            assert len({tuple(row[each] for each in key) for row in rows}) == len(rows), f"a number of {table} twice"

    def check_folds(self) -> None:
        """A fold that was brought forward step by step is the one that is built anew."""
        for branch in self.rows:
            with self.registry._context.folds.at_head(branch) as fold:
                grown = dump(fold)
            fresh = Folds(self.lake)
            fresh._folder = self.folder / "state"
            with fresh.at_head(branch) as fold:
                anew = dump(fold)
            fresh.close()
            shutil.rmtree(self.folder / "state")
            assert grown == anew

    def check_state(self, branch: str) -> None:
        """What people and SQL are told is what stands, each thing once."""
        rows, at = self.rows[branch], self.on(branch)
        stands = standing(rows)
        value = {where: events[-1]["value"] for where, events in stands.items()}
        hidden = {
            s for (s, kind, _), found in stands.items() if kind == "tombstone" for e in found if e["value"] == "hidden"
        }
        versions = {row["version_id"]: row for row in of(rows, "model_versions")}
        models = {row["model_id"] for row in of(rows, "models")} - hidden
        expected = {
            value[model, "name", ""]: {
                "versions": sorted(
                    row["version"]
                    for row in versions.values()
                    if row["model_id"] == model and row["version_id"] not in hidden
                ),
                "aliases": {
                    key: versions[value[subject, kind, key]]["version"]
                    for subject, kind, key in value
                    if (subject, kind) == (model, "alias") and value[subject, kind, key]
                },
                "description": value.get((model, "description", "")),
                "tags": {k: v for (s, kind, k), v in value.items() if (s, kind) == (model, "tag") and v is not None},
            }
            for model in models
        }
        told = {
            model.name: {
                "versions": sorted(version.version for version in at.versions(model.name)),
                "aliases": dict(model.aliases),
                "description": model.description,
                "tags": dict(model.tags),
            }
            for model in at.models()
        }
        assert told == expected
        assert len(at.models()) == len(expected)
        listed = {name: [(each.alias, each.version) for each in at.aliases(name)] for name in told}
        assert listed == {name: sorted(each["aliases"].items()) for name, each in expected.items()}
        shown = at.sql("SELECT name, alias, version FROM aliases ORDER BY ALL").fetchall()
        assert shown == sorted((name, *pair) for name, pairs in listed.items() for pair in pairs)
        shown = at.sql("SELECT name, version FROM model_versions ORDER BY ALL").fetchall()
        assert shown == sorted((name, number) for name, each in expected.items() for number in each["versions"])
        shown = at.sql("SELECT name, versions, description FROM models ORDER BY name").fetchall()
        assert shown == [(name, len(each["versions"]), each["description"]) for name, each in sorted(expected.items())]
        for version in [version for name in told for version in at.versions(name)]:
            row, labels = versions[version.version_id], value
            tags = row["tags"] | {
                k: v for (s, kind, k), v in labels.items() if (s, kind) == (version.version_id, "tag")
            }
            assert dict(version.tags) == {k: v for k, v in tags.items() if v is not None}
            assert version.description == labels.get((version.version_id, "description", ""), row["description"])
        ranks = {
            run: max(
                (
                    RANKS.index(json.loads(e["value"])["status"])
                    for e in stands.get((run, "status", ""), [])
                    if e["value"] is not None  # its end was reverted: it runs, as before any event
                ),
                default=0,
            )
            for run in {row["run_id"] for row in of(rows, "runs")} - hidden
        }
        assert {run.run_id: RANKS.index(run.status) for run in at.runs()} == ranks
        assert dict(at.sql("SELECT run_id, status FROM runs").fetchall()) == {r: RANKS[n] for r, n in ranks.items()}
        serving = {
            each["deployment_id"]: each["percent"]
            for (_, kind, _), events in stands.items()
            if kind == "traffic"
            for each in json.loads(events[-1]["value"] or "[]")
        }
        assert {each.deployment_id: each.traffic for each in at.deployments(ended=False)} == serving
        for name in TABLES:
            keys = {tuple(row[each] for each in TABLES[name].key) for row in of(rows, name)}
            assert at.sql(f"SELECT count(*) FROM lake.{name}").fetchall() == [(len(keys),)], name
        versions_of = {each.reference for name in {d.name for d in at.datasets()} for each in at.dataset_versions(name)}
        assert versions_of == {
            f"{row['name']}@{row['semver']}" for row in of(rows, "datasets") if row["dataset_id"] not in hidden
        }
        unique = {
            (row["deployment_id"], row["digest"]): row["rows"] for row in of(rows, "batches") if row["tx"] not in hidden
        }
        assert at.sql("SELECT count(*) FROM predictions").fetchall() == [(sum(unique.values()),)]

    def check_artifacts(self) -> None:
        """What was registered can be read at its commit by that commit's ID, whatever became of the branch."""
        names = {}
        for row in of(self.rows["main"], "model_versions"):
            with self.registry._context.reading() as fold:
                names[row["version_id"]] = fold.one("SELECT id FROM commits WHERE tx = ?", row["tx"])[0]
        for version_id, commit in names.items():
            at = self.registry.at(commit)
            (row,) = [
                each
                for each in of(rows_at(self.registry, commit), "model_versions")
                if each["version_id"] == version_id
            ]
            body = self.lake.read(commit, row["path"] + "model.bin")
            assert body.decode() == self.made[version_id]
            assert at.head == commit


def dump(fold: Any) -> dict[str, list[Any]]:
    """Return everything that a fold says, in an order of its own."""
    names = [name for (name,) in fold.rows("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'info'")]
    return {name: sorted(fold.rows(f"SELECT * FROM {name}"), key=repr) for name in names}


OPERATIONS = {
    "fork": 3, "drop": 1, "register": 6, "alias": 5, "unalias": 1, "tag": 3, "describe": 2, "rename": 1, "delete": 3,
    "undelete": 1, "data": 2, "run": 1, "run_event": 3, "deploy": 2, "undeploy": 1, "predict": 1, "revert": 4,
    "merge": 8, "merge_commit": 2,
}  # fmt: skip
STEPS = st.tuples(
    st.sampled_from([name for name, weight in OPERATIONS.items() for _ in range(weight)]),
    st.integers(0, 1000),
    st.integers(0, 1000),
    st.integers(0, 1000),
)


@pytest.fixture
def made(registry_url: str, tmp_path: Path) -> Iterator[Callable[[], World]]:
    """A function that makes a fresh world of the kind of lake at hand."""
    opened: list[Registry] = []

    def make() -> World:
        url = f"{registry_url}-{len(opened)}"
        namespace = "local://" + url.rpartition("/")[2] if url.startswith("lakefs") else None
        opened.append(headwater.create(url, storage_namespace=namespace, actor="tester"))
        folder = tmp_path / f"world-{len(opened)}"
        folder.mkdir()
        return World(opened[-1], folder)

    yield make
    for registry in opened:
        registry.close()


@pytest.mark.timeout(900)
def test_any_program_of_branches_and_merges_comes_to_the_union(made: Callable[[], World], is_remote: bool) -> None:
    @settings(
        max_examples=2 if is_remote else 10,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(
            Phase.generate,
        ),  # to make a failing program smaller takes minutes, and one step of it is enough to go on
        suppress_health_check=list[Any](HealthCheck),
    )
    @given(st.lists(STEPS, min_size=10, max_size=14 if is_remote else 30))
    def run(program: list[tuple[str, int, int, int]]) -> None:
        world = made()
        world.register(world.registry, "main", 0, 0)
        world.note("main")
        world.fork(world.registry, "main", 0, 0)
        for step in program:
            world.step(*step)
        world.finish()

    run()


# -- tables of many files, and of large ones --------------------------------------------------------------------------
def delta_rows(registry: Registry, commit: str, table: str) -> list[str]:
    """Return the rows of a table as a stock Delta client reads them, sorted."""
    uri, options = registry._context.lake.delta(commit, f"tables/{table}")
    files = DeltaTable(uri, storage_options=options).to_pyarrow_table()
    return sorted(map(repr, files.select(["tx"]).to_pylist()))


def check_delta(registry: Registry, branch: str) -> None:
    """Check that every table opens with deltalake, and has the rows that its log names."""
    lake = registry._context.lake
    commit = lake.head(branch)
    for name in TABLES:
        files = tables.load(lake, commit, name).files
        if files:
            here = tables.read(lake, commit, name, files, ["tx"])
            assert delta_rows(registry, commit, name) == sorted(map(repr, here.to_pylist())), name


def same_rows(left: Registry, right: Registry) -> Rows:
    rows = rows_at(left, left.head)
    assert rows == rows_at(right, right.head)
    return rows


def files_of(registry: Registry, table: str) -> set[str]:
    return set(tables.load(registry._context.lake, registry.head, table).files)


def predict_much(registry: Registry, deployment: str, count: int, seed: int) -> None:
    """Log predictions whose data file is larger than 1 MiB."""

    import pyarrow as pa

    noise = random.Random(seed)
    columns = {
        "external_id": [f"{seed}-{noise.getrandbits(64):x}" for _ in range(count)],
        "score": [noise.random() for _ in range(count)],
    }
    registry.log_predictions(pa.table(columns), deployment)


def test_large_files_are_taken_as_they_are_and_merged_on(registry: Registry, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    registry.register("alpha", model)
    deployment = registry.deploy("alpha/1", "production").deployment_id
    left, right = registry.create_branch("left"), registry.create_branch("right")
    predict_much(left, deployment, 40_000, 1)
    predict_much(right, deployment, 40_000, 2)
    left.log_predictions(small(tmp_path, "l"), deployment)
    right.log_predictions(small(tmp_path, "r"), deployment)
    large = {
        name: {
            file.path
            for file in tables.load(at._context.lake, at.head, "predictions").files.values()
            if file.size > 1 << 20
        }
        for name, at in (("left", left), ("right", right))
    }
    assert all(len(found) == 1 for found in large.values())
    left_head = left.head

    left.merge("right")
    assert large["left"] | large["right"] <= files_of(left, "predictions")
    right.merge(left_head)
    same_rows(left, right)
    # a merge of what a merge had taken as it is; nothing is there twice, and what is there already is not taken again
    registry.merge("right")
    assert registry.merge("left").rows == {}
    assert large["left"] | large["right"] <= files_of(registry, "predictions")
    assert len(of(same_rows(registry, left), "predictions")) == 80_004
    assert registry.sql("SELECT count(*), count(DISTINCT prediction_id) FROM predictions").fetchall() == [
        (80_004, 80_004)
    ]
    assert registry.predictions_of(deployment) == 80_004
    for number in range(40):
        registry.log_predictions(small(tmp_path, f"m{number}"), deployment)
    left.log_predictions(small(tmp_path, "x"), deployment)
    left.merge("main")
    registry.merge("left")
    assert len(of(same_rows(registry, left), "predictions")) == 80_086
    registry._context.lake.delete_branch("right")
    check_delta(registry, "main")
    check_delta(registry, "left")


def small(folder: Path, name: str) -> Path:
    place = folder / f"{name}.csv"
    place.write_text(f"id,score\n{name}-1,0.5\n{name}-2,0.25\n")
    return place


def test_metrics_in_bulk_come_along(registry: Registry) -> None:
    exp = registry.create_branch("exp-42")
    noise = random.Random(1)
    for at in (registry, exp):
        with at.start_run("long", experiment="e", nested=False) as run:
            run.log_metrics({"step": list(range(150_000)), "loss": [noise.random() for _ in range(150_000)]})
            run.log_metric("auc", 0.5)
    large = {
        file.path for file in tables.load(exp._context.lake, exp.head, "metrics").files.values() if file.size > 1 << 20
    }
    assert large
    registry.merge("exp-42")
    assert large <= files_of(registry, "metrics")
    exp.merge("main")
    same_rows(registry, exp)
    assert registry.sql("SELECT count(*) FROM lake.metrics").fetchall() == [(300_002,)]
    check_delta(registry, "main")


def test_what_either_side_compacted_is_merged(registry: Registry, tmp_path: Path) -> None:
    """One side made one file of files that the other still has, and one side has dropped log entries of the base."""
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    registry.register("alpha", model)
    for number in range(20):
        registry.tag("alpha", {f"base{number}": number})
    exp, third = registry.create_branch("exp-42"), registry.create_branch("third")
    base = files_of(registry, "events")
    for number in range(35):
        exp.tag("alpha", {f"exp{number}": number})
    third.tag("alpha", {"third": 1})
    assert not base <= files_of(exp, "events")
    assert tables.load(exp._context.lake, exp.head, "events").checkpoint >= 50
    # into one that has the base's files still, and out of it
    third.merge("exp-42")
    assert base - files_of(third, "events") == set()
    exp.merge("third")
    tags = len(of(same_rows(third, exp), "events"))
    assert tags == 1 + 20 + 35 + 1
    for number in range(35):
        registry.tag("alpha", {f"main{number}": number})
    registry.merge("third")
    exp.merge("main")
    third.merge("exp-42")
    same_rows(third, exp)
    assert len(of(same_rows(registry, exp), "events")) == tags + 35
    assert len(registry.models()[0].tags) == tags + 34
    assert headwater.open(registry.url).models()[0].tags == registry.models()[0].tags
    for branch in ("main", "exp-42", "third"):
        check_delta(registry, branch)


@pytest.mark.timeout(900)
def test_the_order_of_merges_makes_no_difference(made: Callable[[], World], is_remote: bool) -> None:
    """Commutative and associative: as sets of rows, but for what merges settle, and in what stands."""

    @settings(
        max_examples=2 if is_remote else 5,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list[Any](HealthCheck),
    )
    @given(
        st.lists(STEPS.filter(lambda step: not step[0].startswith(("merge", "fork", "drop"))), min_size=8, max_size=14)
    )
    def run(program: list[tuple[str, int, int, int]]) -> None:
        world = made()
        for number in range(3):
            world.register(world.registry, "main", number, 0)
            world.note("main")
        for branch in ("a", "b", "c"):
            world.registry.create_branch(branch)
            world.rows[branch] = world.rows["main"]
        for step in program:
            world.step(*step)

        def merged(name: str, start: str, *others: str, side: str) -> Rows:
            world.on(start).create_branch(name)
            for other in others:
                world.on(name).merge(other, **{side: True})
            return rows_at(world.registry, world.lake.head(name))

        union = world.rows["a"] | world.rows["b"] | world.rows["c"]
        left = merged("ab", "a", "b", side="ours")
        right = merged("ba", "b", "a", side="theirs")
        assert left & union == right & union == world.rows["a"] | world.rows["b"]
        assert values(left) == values(right)
        # settled alike on both sides, it is settled
        assert world.on("ab").merge("ba").conflicts == ()
        assert merged("ab-c", "ab", "c", side="ours") & union == union
        merged("bc", "b", "c", side="ours")
        assert merged("a-bc", "a", "bc", side="ours") & union == union
        # and once everything has met, it is the same everywhere
        world.on("ab-c").merge("a-bc", ours=True)
        world.on("a-bc").merge("ab-c")
        assert same_rows(world.on("ab-c"), world.on("a-bc")) >= union

    run()


@pytest.mark.timeout(900)
def test_what_was_forced_is_the_same_both_ways(made: Callable[[], World], is_remote: bool) -> None:
    """Two branches on which things were undone while something rested on them: neither order of merging asks more."""

    @settings(
        max_examples=2 if is_remote else 6,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list[Any](HealthCheck),
    )
    @given(
        st.lists(
            STEPS.filter(
                lambda step: step[0] in ("register", "alias", "delete", "undelete", "deploy", "revert", "merge")
            ),
            min_size=8,
            max_size=16,
        )
    )
    def run(program: list[tuple[str, int, int, int]]) -> None:
        world = made()
        world.force = True
        for number in range(2):
            world.register(world.registry, "main", number, 0)
            world.note("main")
        world.registry.create_branch("exp")
        world.rows["exp"] = world.rows["main"]
        for step in program:
            world.step(*step)
        world.check_swapped("exp", "main")
        come = []
        for name, start, other, side in (("there", "main", "exp", "ours"), ("back", "exp", "main", "theirs")):
            world.registry.create_branch(name, start)
            world.on(name).merge(other, **{side: True})
            come.append(values(rows_at(world.registry, world.lake.head(name))))
        assert come[0] == come[1]

    run()


def is_face(where: tuple[str, str, str]) -> bool:
    """Return whether events of a place are about what is in production."""
    return where[1] == "stage" or where[1:] in (("alias", "champion"), ("traffic", "production"))


def unnamed(conflict: Conflict) -> str:
    """Return all that a conflict says but names: a renamed model is called what the target calls it."""
    plain = replace(conflict, name="")
    return repr(replace(plain, ours=replace(plain.ours, value=None), theirs=replace(plain.theirs, value=None)))


def values(rows: Rows) -> dict[tuple[str, str, str], set[str | None]]:
    return {where: {event["value"] for event in events} for where, events in standing(rows).items()}
