"""Refs and history of a lakeFS repository: branches, tags, commits, logs and differences; knows no object's bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from headwater.errors import AlreadyExistsError, HeadwaterError, IntegrityError, NotFoundError
from headwater.lake.base import AT, HIDDEN_PREFIX, IMPORT_PREFIX, Change, Commit, check_lasting
from headwater.lake.copies import Copies
from headwater.lake.lakefs_client import Answer, Client, Sdk
from headwater.lake.lakefs_http import Fault
from headwater.lake.walk import commits_until

__all__ = ["LakeFSHistory", "commit_of"]


class LakeFSHistory:
    """What a lake in a lakeFS repository says of its refs and commits. See `headwater.lake.base.Lake`.

    Attributes:
        page_size: How many entries of a log, a listing or a diff are asked for at once (1 to 1,000).
    """

    page_size = 1000

    def __init__(self, client: Client, cache: Path) -> None:
        self._client = client
        self._name = client.address.repository
        self._copies = Copies(self, cache / "copies.db")

    # -- refs ---------------------------------------------------------------------------------------------------
    def head(self, branch: str) -> str:
        """Return the commit ID that a branch points at."""
        return self._client.run(
            f"read branch {branch!r}",
            lambda sdk: str(sdk.branches.get_branch(self._name, branch)["commit_id"]),
            missing=f"there is no branch {branch!r}",
            hint="`headwater branch` lists them",
        )

    def branches(self, *, hidden: bool = False) -> dict[str, str]:
        """Return every branch with its head's commit ID, in order of name; hidden ones where asked for."""
        options = {"show_hidden": True} if hidden else {}
        refs = self._refs("branches", lambda sdk: sdk.branches.list_branches, **options)
        return {name: commit for name, commit in refs.items() if hidden or not name.startswith(HIDDEN_PREFIX)}

    def tags(self) -> dict[str, str]:
        """Return every tag with its commit ID, in order of name."""
        return self._refs("tags", lambda sdk: sdk.tags.list_tags)

    def _refs(self, plural: str, method: Callable[[Sdk], Any], **options: Any) -> dict[str, str]:
        found = self._client.pages(
            f"list the {plural}",
            lambda sdk, after: method(sdk)(self._name, after=after, amount=self.page_size, **options),
            lambda each: (str(each["id"]), str(each["commit_id"])),
        )
        return dict(sorted(found))

    def create_branch(self, name: str, source: str, *, hidden: bool = False, lasting: bool = False) -> str:
        """Make a branch at commit `source` and return that commit's ID. On a server, a hidden one lasts anyway.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
            NotFoundError: There is no such commit.
            InvalidInputError: It shall be lasting and hidden, and its name is not such a one's.
        """
        if lasting:
            check_lasting(name, hidden=hidden)
        wanted = {"name": name, "source": source, "hidden": hidden}
        return self._create(
            f"branch {name!r}",
            lambda sdk: str(sdk.branches.create_branch(self._name, wanted)),
            lambda: self.head(name),
            source,
        )

    def create_tag(self, name: str, commit: str) -> None:
        """Make a tag.

        Raises:
            AlreadyExistsError: There is a branch or tag of that name.
            NotFoundError: There is no such commit.
        """
        wanted = {"id": name, "ref": commit}
        self._create(
            f"tag {name!r}",
            lambda sdk: str(sdk.tags.create_tag(self._name, wanted)["commit_id"]),
            lambda: self._tag(name),
            commit,
        )

    def _create(self, noun: str, call: Callable[[Sdk], str], look: Callable[[], str], commit: str) -> str:
        """Make a ref; one that is found after a broken attempt is ours if it is at our commit."""

        def is_ours() -> str | None:
            with suppress(NotFoundError):
                return commit if look() == commit else None
            return None

        def taken(fault: Fault) -> HeadwaterError:
            kind, _, name = noun.partition(" ")
            if "already exists" not in fault.text:  # then the name is that of the other kind
                kind = "tag" if kind == "branch" else "branch"
            return AlreadyExistsError(f"there is a {kind} {name} already", hint="choose another name")

        return self._client.run(
            f"make {noun}",
            call,
            missing=f"there is no commit {commit!r}",
            meaning={409: taken},
            echo=(409, is_ours),
        )

    def delete_branch(self, name: str) -> None:
        """Delete a branch and what is staged on it. Its commits stay readable by their IDs until collected."""
        self._delete(f"branch {name!r}", lambda sdk: sdk.branches.delete_branch(self._name, name))

    def delete_tag(self, name: str) -> None:
        """Delete a tag."""
        self._delete(f"tag {name!r}", lambda sdk: sdk.tags.delete_tag(self._name, name))

    def _delete(self, noun: str, call: Callable[[Sdk], object]) -> None:
        """Delete a ref; one that is missing after a broken attempt is the one that we deleted."""
        self._client.run(f"delete {noun}", call, missing=f"there is no {noun}", echo=(404, lambda: True))

    def find_commits(self, prefix: str) -> list[str]:
        """Return the commit whose ID begins with `prefix`; nothing if several do: lakeFS does not tell that apart."""
        if not _is_hex(prefix):
            return []
        try:
            found = self._commit(prefix).id
        except NotFoundError:
            return []
        return [found] if found.startswith(prefix) else []  # lakeFS looks for branches and tags as well

    def find_copies(self, prefix: str) -> list[str]:
        """Return at most two commits that were copied from ones with such an ID."""
        return self._copies.find(prefix, self._heads) if _is_hex(prefix) else []

    def _tag(self, name: str) -> str:
        return self._client.run(
            f"read tag {name!r}",
            lambda sdk: str(sdk.tags.get_tag(self._name, name)["commit_id"]),
            missing=f"there is no branch or tag {name!r}",
            hint="`headwater branch` and `headwater tag` list them",
        )

    def _resolve(self, ref: str) -> str:
        """Return the commit ID that a ref means: of a branch its committed head, never what is staged."""
        if len(ref) == 64 and _is_hex(ref):
            return ref
        try:
            return self.head(ref)
        except NotFoundError:
            return self._tag(ref)

    # -- history ------------------------------------------------------------------------------------------------
    def get_commit(self, commit: str) -> Commit:
        """Return one commit by its full ID.

        Raises:
            IntegrityError: The server returns another one. (How it makes an ID of a commit is not documented.)
        """
        found = self._commit(commit)
        if found.id != commit:
            raise IntegrityError(f"the server returns commit {found.id} for {commit}", hint="its data is damaged")
        return found

    def _commit(self, commit: str) -> Commit:
        return self._client.run(
            f"read commit {commit!r}",
            lambda sdk: commit_of(sdk.commits.get_commit(self._name, commit)),
            missing=f"there is no commit {commit!r}",
            hint="`headwater log` lists them",
        )

    def find_commit(self, key: str, value: str) -> Commit | None:
        """Return None: lakeFS has no way to search commits by their metadata."""
        return None

    def commits(self) -> Iterator[Commit]:
        """Yield the commits that any branch, hidden ones too, or any tag reaches."""
        seen: set[str] = set()
        for head in self._heads():
            for each in commits_until(self, head, seen.__contains__):
                seen.add(each.id)
                yield each

    def _heads(self) -> list[str]:
        """Return the commits of all branches, hidden ones too, and of all tags; those of imports first."""
        heads = self._client.pages(
            "list all branches",
            lambda sdk, after: sdk.branches.list_branches(
                self._name, after=after, amount=self.page_size, show_hidden=True
            ),
            lambda each: (str(each["id"]), str(each["commit_id"])),
        )
        ordered = sorted(heads, key=lambda each: not each[0].startswith(IMPORT_PREFIX))
        return list(dict.fromkeys([*(commit for _, commit in ordered), *self.tags().values()]))

    def log(self, commit: str, *, first_parent: bool = False) -> Iterator[Commit]:
        """Yield `commit` and its ancestors, each once, every commit before its parents; fetched page by page."""
        return self._client.pages(
            f"read the log of commit {commit!r}",
            lambda sdk, after: sdk.refs.log_commits(
                self._name, commit, after=after, amount=self.page_size, first_parent=first_parent
            ),
            commit_of,
            missing=f"there is no commit {commit!r}",
        )

    def merge_base(self, left: str, right: str) -> str:
        """Return a best common ancestor of two commits."""
        return self._client.run(
            f"find the merge base of {left!r} and {right!r}",
            lambda sdk: str(sdk.refs.find_merge_base(self._name, right, left)["base_commit_id"]),
            missing=f"there is no commit {left!r}, or no commit {right!r}",
        )

    def diff(self, left: str, right: str, prefix: str = "") -> Iterator[Change]:
        """Yield, in order of path, what differs from commit `left` to commit `right` (two-dot) under a prefix."""
        return self._client.pages(
            f"compare {left!r} with {right!r}",
            lambda sdk, after: sdk.refs.diff_refs(
                self._name, left, right, after=after, amount=self.page_size, prefix=prefix, type="two_dot"
            ),
            lambda each: Change(str(each["path"]), each["type"], int(each.get("size_bytes") or 0)),
            missing=f"there is no commit {left!r}, or no commit {right!r}",
        )


def _is_hex(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789abcdef")


def commit_of(answer: Answer) -> Commit:
    """Return a commit as the server tells it."""
    kept = answer.get("metadata") or {}
    metadata = {name: str(value) for name, value in kept.items() if not name.startswith(".lakefs.")}
    at = metadata.get(AT, "")
    micros = int(at) if at.isdecimal() else int(answer["creation_date"]) * 1_000_000
    return Commit(str(answer["id"]), tuple(answer["parents"]), str(answer["message"]), metadata, micros)
