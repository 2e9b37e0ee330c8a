"""The source code in use: repository, commit, branch, tags, and what is not committed, read with pygit2."""

from __future__ import annotations

import os
import urllib.parse
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pygit2

__all__ = ["Code", "FileState", "capture", "file_state"]

_LARGEST_PATCH = 10 << 20


@dataclass(frozen=True, slots=True)
class Code:
    """Where code came from. `patch` is what `git diff` would show, untracked files included; None if too large."""

    repository: str
    commit: str | None
    branch: str | None
    tags: tuple[str, ...]
    dirty: bool
    patch: bytes | None
    folder: str

    @property
    def patch_digest(self) -> str | None:
        """The sha256 of the patch, if there is one."""
        return sha256(self.patch).hexdigest() if self.patch else None


def capture(folder: str | os.PathLike[str]) -> Code | None:
    """Return the state of the Git repository that holds a folder, or None where there is none."""
    import pygit2
    from pygit2.enums import DiffOption

    found = pygit2.discover_repository(os.fspath(folder))
    if found is None:
        return None
    try:
        repository = pygit2.Repository(found)
        if repository.is_bare:
            return None
        if repository.head_is_unborn:
            # Nothing to compare with, and a repository of somebody else's is never written to.
            here = os.path.relpath(folder, repository.workdir)
            return Code(_origin(repository), None, None, (), dirty=True, patch=None, folder=here)
        head = repository.head.peel(pygit2.Commit)
        flags = DiffOption.INCLUDE_UNTRACKED | DiffOption.RECURSE_UNTRACKED_DIRS | DiffOption.SHOW_UNTRACKED_CONTENT
        diff = head.tree.diff_to_workdir(flags | DiffOption.SHOW_BINARY)
        dirty = len(diff) > 0
        patch = None
        if dirty and _changed_bytes(repository.workdir, diff) <= _LARGEST_PATCH:
            text = diff.patch
            patch = text.encode("utf-8", "surrogateescape") if text is not None else None
        return Code(
            repository=_origin(repository),
            commit=str(head.id),
            branch=None if repository.head_is_detached else repository.head.shorthand,
            tags=_tags(repository, head),
            dirty=dirty,
            patch=patch,
            folder=os.path.relpath(folder, repository.workdir),
        )
    except (pygit2.GitError, KeyError, ValueError):
        return None


def _changed_bytes(workdir: str, diff: pygit2.Diff) -> int:
    total = 0
    for delta in diff.deltas:
        try:
            total += os.lstat(os.path.join(workdir, delta.new_file.path)).st_size
        except OSError:
            continue
    return total


def _origin(repository: pygit2.Repository) -> str:
    """Return the URL of `origin` without credentials, or else the folder."""
    for remote in repository.remotes:
        if remote.name == "origin" and remote.url:
            parts = urllib.parse.urlsplit(remote.url)
            if parts.scheme and parts.hostname:
                host = parts.hostname + (f":{parts.port}" if parts.port else "")
                user = "git@" if parts.username == "git" else ""
                return urllib.parse.urlunsplit((parts.scheme, user + host, parts.path, "", ""))
            return str(remote.url)
    return os.path.normpath(repository.workdir)


def _tags(repository: pygit2.Repository, head: pygit2.Commit) -> tuple[str, ...]:
    found = []
    for name in repository.references:
        if name.startswith("refs/tags/") and repository.references[name].peel(type(head)).id == head.id:
            found.append(name.removeprefix("refs/tags/"))
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class FileState:
    """Where a file stands in Git: its repository, the commit that is checked out, whether the file is other there."""

    repository: str
    workdir: str
    commit: str | None
    dirty: bool


def file_state(path: str | os.PathLike[str], body: bytes) -> FileState | None:
    """Return where a file of this content stands in the Git repository that holds it, or None where there is none."""
    import pygit2

    place = os.path.realpath(path)
    found = pygit2.discover_repository(os.path.dirname(place))
    if found is None:
        return None
    try:
        repository = pygit2.Repository(found)
        if repository.is_bare:
            return None
        if repository.head_is_unborn:
            return FileState(_origin(repository), repository.workdir, None, True)
        head = repository.head.peel(pygit2.Commit)
        try:
            kept = head.tree[os.path.relpath(place, os.path.realpath(repository.workdir)).replace(os.sep, "/")]
        except KeyError:
            kept = None
        # Git may have written the lines of a text with other ends
        same = isinstance(kept, pygit2.Blob) and kept.data.replace(b"\r\n", b"\n") == body.replace(b"\r\n", b"\n")
        return FileState(_origin(repository), repository.workdir, str(head.id), not same)
    except (pygit2.GitError, KeyError, ValueError):
        return None
