"""A lake beside a plain dictionary of dictionaries, driven by Hypothesis: after every step they must say the same."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from headwater.errors import AlreadyExistsError, ConflictError, NotFoundError, RaceLostError
from headwater.lake.base import Change, Lake, ObjectInfo, Strategy

Tree = dict[str, bytes]
Staged = dict[str, bytes | None]

# few paths and few contents, so that changes meet and paths hold equal bytes
PATHS = st.sampled_from(["a", "a/b", "a/c", "a0", "b", "z z", "é"])
CONTENTS = st.sampled_from([b"", b"0", b"1", b"2"])
NAMES = st.sampled_from(["dev", "exp", "tag"])
STRATEGIES: st.SearchStrategy[Strategy] = st.sampled_from(["none", "ours", "theirs"])
PICK = st.integers(0, 1000)


class Conflict(Exception):
    """What the model says where a lake says RaceLostError."""


@dataclass
class Model:
    """Commits as dictionaries, refs as entries of dictionaries."""

    trees: dict[str, Tree]
    parents: dict[str, tuple[str, ...]]
    branches: dict[str, str]
    tags: dict[str, str] = field(default_factory=dict)
    staged: dict[str, Staged] = field(default_factory=dict)

    def ancestors(self, commit: str) -> set[str]:
        seen: set[str] = set()
        todo = [commit]
        while todo:
            each = todo.pop()
            if each not in seen:
                seen.add(each)
                todo.extend(self.parents[each])
        return seen

    def merge_bases(self, left: str, right: str) -> set[str]:
        """The common ancestors that are no ancestors of another common ancestor."""
        common = self.ancestors(left) & self.ancestors(right)
        return {each for each in common if not any(each in self.ancestors(other) - {other} for other in common)}

    def merged(self, base: str, ours: str, theirs: str, strategy: Strategy) -> Tree:
        trees = [self.trees[each] for each in (base, ours, theirs)]
        result: Tree = {}
        for path in set().union(*trees):
            was, here, there = (tree.get(path) for tree in trees)
            if here == there or there == was:
                kept = here
            elif here == was:
                kept = there
            elif strategy == "none":
                raise Conflict
            else:
                kept = here if strategy == "ours" else there
            if kept is not None:
                result[path] = kept
        return result


def diff(left: Tree, right: Tree) -> list[Change]:
    changes = []
    for path in sorted(left.keys() | right.keys(), key=str.encode):
        if path not in left:
            changes.append(Change(path, "added"))
        elif path not in right:
            changes.append(Change(path, "removed"))
        elif left[path] != right[path]:
            changes.append(Change(path, "changed"))
    return changes


def infos(tree: Mapping[str, bytes]) -> list[ObjectInfo]:
    return [
        ObjectInfo(path, len(tree[path]), hashlib.sha256(tree[path]).hexdigest())
        for path in sorted(tree, key=str.encode)
    ]


class Machine(RuleBasedStateMachine):
    """The lake and the model, and what is done to both."""

    def __init__(self, make: Callable[[], Lake]) -> None:
        super().__init__()
        self.lake = make()
        first = self.lake.head("main")
        self.model = Model({first: {}}, {first: ()}, {"main": first})
        self.count = 0

    def message(self) -> str:
        self.count += 1
        return f"step {self.count}"  # else two commits could be one and the same

    def branch(self, pick: int) -> str:
        return sorted(self.model.branches)[pick % len(self.model.branches)]

    def a_commit(self, pick: int) -> str:
        commits = list(self.model.trees)  # in order of making
        return commits[pick % len(commits)]

    def land(self, branch: str, commit: str, tree: Tree, parents: tuple[str, ...]) -> None:
        assert commit not in self.model.trees
        self.model.trees[commit] = tree
        self.model.parents[commit] = parents
        self.model.branches[branch] = commit
        got = self.lake.get_commit(commit)
        assert (got.parents, got.message) == (parents, f"step {self.count}")

    @rule(pick=PICK, path=PATHS, content=CONTENTS)
    def put(self, pick: int, path: str, content: bytes) -> None:
        branch = self.branch(pick)
        self.lake.put(branch, path, content)
        self.model.staged.setdefault(branch, {})[path] = content

    @rule(pick=PICK, objects=st.dictionaries(PATHS, CONTENTS, max_size=4))
    def put_many(self, pick: int, objects: Tree) -> None:
        branch = self.branch(pick)
        self.lake.put_many(branch, objects)
        self.model.staged.setdefault(branch, {}).update(objects)

    @rule(pick=PICK, path=PATHS)
    def delete(self, pick: int, path: str) -> None:
        branch = self.branch(pick)
        self.lake.delete(branch, path)
        self.model.staged.setdefault(branch, {})[path] = None

    @rule(pick=PICK)
    def commit(self, pick: int) -> None:
        branch = self.branch(pick)
        head = self.model.branches[branch]
        changed = {**self.model.trees[head], **self.model.staged.get(branch, {})}
        tree = {path: content for path, content in changed.items() if content is not None}
        if tree == self.model.trees[head]:
            with pytest.raises(ConflictError):
                self.lake.commit(branch, self.message(), {})
            return
        commit = self.lake.commit(branch, self.message(), {"k": "v"})
        self.model.staged.pop(branch, None)
        self.land(branch, commit, tree, (head,))

    @rule(name=NAMES, pick=PICK)
    def create_branch(self, name: str, pick: int) -> None:
        commit = self.a_commit(pick)
        if name in self.model.branches or name in self.model.tags:
            with pytest.raises(AlreadyExistsError):
                self.lake.create_branch(name, commit)
        else:
            assert self.lake.create_branch(name, commit) == commit
            self.model.branches[name] = commit

    @rule(name=NAMES)
    def delete_branch(self, name: str) -> None:
        if name not in self.model.branches:
            with pytest.raises(NotFoundError):
                self.lake.delete_branch(name)
        else:
            self.lake.delete_branch(name)
            del self.model.branches[name]
            self.model.staged.pop(name, None)

    @rule(name=NAMES, pick=PICK)
    def create_tag(self, name: str, pick: int) -> None:
        commit = self.a_commit(pick)
        if name in self.model.branches or name in self.model.tags:
            with pytest.raises(AlreadyExistsError):
                self.lake.create_tag(name, commit)
        else:
            self.lake.create_tag(name, commit)
            self.model.tags[name] = commit

    @rule(name=NAMES)
    def delete_tag(self, name: str) -> None:
        if name not in self.model.tags:
            with pytest.raises(NotFoundError):
                self.lake.delete_tag(name)
        else:
            self.lake.delete_tag(name)
            del self.model.tags[name]

    @precondition(lambda self: len(self.model.branches) > 1)
    @rule(source=PICK, into=PICK, strategy=STRATEGIES)
    def merge(self, source: int, into: int, strategy: Strategy) -> None:
        target = self.branch(into)
        if not self.model.staged.get(target):
            self.merge_commit(self.model.branches[self.branch(source)], self.branch(source), target, strategy)

    @rule(source=PICK, into=PICK, strategy=STRATEGIES)
    def merge_a_commit(self, source: int, into: int, strategy: Strategy) -> None:
        target = self.branch(into)
        if not self.model.staged.get(target):
            self.merge_commit(self.a_commit(source), self.a_commit(source), target, strategy)

    def merge_commit(self, theirs: str, named: str, into: str, strategy: Strategy) -> None:
        ours = self.model.branches[into]
        base = self.lake.merge_base(ours, theirs)
        assert base in self.model.merge_bases(ours, theirs)
        if base == theirs:
            with pytest.raises(ConflictError) as caught:
                self.lake.merge(named, into, self.message(), {}, strategy=strategy)
            assert not isinstance(caught.value, RaceLostError)
            return
        try:
            tree = self.model.merged(base, ours, theirs, strategy)
        except Conflict:
            with pytest.raises(RaceLostError):
                self.lake.merge(named, into, self.message(), {}, strategy=strategy)
            return
        commit = self.lake.merge(named, into, self.message(), {}, strategy=strategy)
        self.land(into, commit, tree, (ours, theirs))

    @rule(into=PICK, objects=st.dictionaries(PATHS, CONTENTS, min_size=1, max_size=3), meanwhile=st.booleans())
    def transaction(self, into: int, objects: Tree, meanwhile: bool) -> None:
        """A hidden branch, made, filled, committed, merged and deleted, as the transaction layer does it."""
        target = self.branch(into)
        head = self.model.branches[target]
        if self.model.staged.get(target) or objects.items() <= self.model.trees[head].items():
            return
        self.lake.create_branch("_hw_tx", head, hidden=True)
        self.lake.put_many("_hw_tx", objects)
        commit = self.lake.commit("_hw_tx", self.message(), {})
        assert self.lake.head("_hw_tx") == commit
        tree = {**self.model.trees[head], **objects}
        if meanwhile:  # another writer moves the target
            mark = f"other/{self.count}"
            self.lake.put(target, mark, mark.encode())
            moved = self.lake.commit(target, self.message(), {})
            self.land(target, moved, {**self.model.trees[head], mark: mark.encode()}, (head,))
            tree[mark] = mark.encode()
        ours = self.model.branches[target]
        merged = self.lake.merge("_hw_tx", target, self.message(), {})
        self.lake.delete_branch("_hw_tx")
        self.model.trees[commit] = {**self.model.trees[head], **objects}
        self.model.parents[commit] = (head,)
        self.land(target, merged, tree, (ours, commit))

    @rule(left=PICK, right=PICK)
    def compare(self, left: int, right: int) -> None:
        one, other = self.a_commit(left), self.a_commit(right)
        assert list(self.lake.diff(one, other)) == diff(self.model.trees[one], self.model.trees[other])
        assert self.lake.merge_base(one, other) in self.model.merge_bases(one, other)

    @rule(pick=PICK)
    def look_back(self, pick: int) -> None:
        commit = self.a_commit(pick)
        log = [each.id for each in self.lake.log(commit)]
        assert len(log) == len(set(log))
        assert set(log) == self.model.ancestors(commit)
        for each in log:
            assert all(log.index(parent) > log.index(each) for parent in self.model.parents[each])
        trunk = [commit]
        while self.model.parents[trunk[-1]]:
            trunk.append(self.model.parents[trunk[-1]][0])
        assert [each.id for each in self.lake.log(commit, first_parent=True)] == trunk
        assert self.lake.read_many(commit, self.model.trees[commit]) == self.model.trees[commit]

    @rule(pick=PICK, path=PATHS)
    def look_at(self, pick: int, path: str) -> None:
        branch = self.branch(pick)
        content = self.model.trees[self.model.branches[branch]].get(path)
        if content is None:
            with pytest.raises(NotFoundError):
                self.lake.read(branch, path)
            with pytest.raises(NotFoundError):
                self.lake.stat(branch, path)
        else:
            assert self.lake.read(branch, path) == content
            assert self.lake.localize(branch, [path])[path].read_bytes() == content
            with self.lake.open(branch, path) as stream:
                assert stream.read() == content

    @invariant()
    def refs_are_the_same(self) -> None:
        assert self.lake.branches() == self.model.branches
        assert self.lake.tags() == self.model.tags

    @invariant()
    def contents_are_the_same(self) -> None:
        for branch, head in self.model.branches.items():
            assert list(self.lake.list(branch)) == infos(self.model.trees[head]), branch

    def teardown(self) -> None:
        with contextlib.suppress(AttributeError):
            self.lake.close()


def test_a_lake_does_as_a_dictionary_does(lake_factory: Callable[[], Lake], is_remote: bool) -> None:
    examples, steps = (15, 15) if is_remote else (60, 30)
    run_state_machine_as_test(
        lambda: Machine(lake_factory),  # type: ignore[arg-type]
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list[Any](HealthCheck),
        ),
    )
