"""The source code in use: repository, commit, what is not committed, and what of it can't be had again; runs nothing.

The state comes from Git's index, whose record of each file's size and time spares reading the files; the patch is made
from the few that differ. The repository is somebody else's: nothing in it is ever written, not even its index.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from headwater.names import shown, shown_path

if TYPE_CHECKING:
    import pygit2

__all__ = [
    "LARGEST_PATCH",
    "NO_COMMAND",
    "NO_RUN",
    "Code",
    "FileState",
    "capture",
    "file_state",
    "missing",
    "place_of",
]

NO_RUN = "there was no run, so there is no command to run again"
"""Why a version that was registered without a run can't be reproduced."""

NO_COMMAND = "its run recorded no command line, as in a notebook, so there is nothing to run again"
"""Why a version of a run that has no command line can't be reproduced."""

LARGEST_PATCH = 10 << 20
"""Bytes of uncommitted changes that are kept, in all. What goes beyond is left out, largest files first, and named."""

_NAMED = 5
"""Files of one kind that are named one by one; the others are counted."""

_REPOSITORY = 0o160000
"""Git's mode of an entry that is a repository of its own."""

_LONGEST_PATH = 4096


@dataclass(frozen=True, slots=True)
class Code:
    """Where code came from.

    Attributes:
        repository: URL of the remote, without credentials, or else the folder.
        commit: The commit that is checked out; None before the first one.
        branch: The branch that is checked out, if one is.
        tags: Tags of the commit.
        dirty: Whether there are changes that are not committed.
        patch: Those changes, untracked files (but not ignored ones) included, as `git apply` takes them.
        folder: The folder that code runs in, seen from the root of the repository.
        missing: Why this is not enough to have the code again, in sentences; empty if it is.
        root: The repository's working tree on this machine.
    """

    repository: str
    commit: str | None
    branch: str | None
    tags: tuple[str, ...]
    dirty: bool
    patch: bytes | None
    folder: str
    missing: tuple[str, ...] = ()
    root: str = ""

    @property
    def patch_digest(self) -> str | None:
        """The sha256 of the patch, if there is one."""
        return sha256(self.patch).hexdigest() if self.patch else None


def missing(
    code: Code | None, *, command: Sequence[str] | None = None, folder: str | os.PathLike[str] = "."
) -> tuple[str, ...]:
    """Return why code can't be had again and run, in sentences without a full stop; empty if it can.

    Args:
        code: What `capture` found.
        command: The command line that is to be run again, program first.
        folder: The folder that it runs in, now.
    """
    if code is None:
        return ("the code is in no Git repository",)
    return (*code.missing, *(_unkept(code, command, os.path.realpath(folder)) if command and code.commit else ()))


def _unkept(code: Code, command: Sequence[str], folder: str) -> Iterator[str]:
    """Yield what a command line names that is there, and is neither in the repository nor in the patch."""
    import pygit2

    for word in dict.fromkeys(each.partition("=")[2] or each for each in command[1:]):
        if not word or "\0" in word or len(word) > _LONGEST_PATH or not os.path.exists(os.path.join(folder, word)):
            continue
        there = os.path.realpath(os.path.join(folder, word))
        if there.startswith(("/dev/", "/proc/")):
            continue
        if os.path.commonpath([code.root, there]) != code.root:
            yield f"the command names {shown_path(word)}, which is outside of the repository"
        elif os.path.isfile(there):
            inside = os.path.relpath(there, code.root)
            try:
                repository = pygit2.Repository(code.root)
                if inside not in repository.index and repository.path_is_ignored(inside):
                    yield f"the command names {shown_path(word)}, which Git ignores, so it is not kept"
            except (pygit2.GitError, KeyError, ValueError, OSError):
                continue


def place_of(path: str | os.PathLike[str]) -> tuple[str, str] | None:
    """Return which repository holds a path, as `Code.repository` names it, and the path from its root; None if none."""
    import pygit2

    there = os.path.realpath(path)
    try:
        found = pygit2.discover_repository(there)
        if found is None:
            return None
        repository = pygit2.Repository(found)
        if repository.is_bare:
            return None
        return _origin(repository), os.path.relpath(there, os.path.realpath(repository.workdir))
    except (pygit2.GitError, KeyError, ValueError, OSError):
        return None


def capture(
    folder: str | os.PathLike[str], *, outputs: Iterable[str | os.PathLike[str]] = (), largest: int = LARGEST_PATCH
) -> Code | None:
    """Return the state of the Git repository that holds a folder, or None where there is none.

    Args:
        folder: A folder, or a file, of the code.
        outputs: Files and folders that are not code though Git does not know them: what is being registered, the lake.
        largest: Bytes of uncommitted changes that are kept.
    """
    import pygit2

    where = os.path.realpath(folder)
    try:
        found = pygit2.discover_repository(where)
        if found is None:
            return None
    except (pygit2.GitError, KeyError, ValueError, OSError):
        return None
    try:
        repository = pygit2.Repository(found)
        if repository.is_bare:
            return None
        return _capture(repository, where, [os.path.realpath(each) for each in outputs], largest)
    except (pygit2.GitError, KeyError, ValueError, OSError) as error:
        # Somebody else's, damaged, or of a format that libgit2 does not know: a version is registered all the same.
        place = os.path.normpath(os.path.dirname(found.rstrip("/")))
        reason = f"the Git repository {shown_path(place)} can't be read: {_why(error, place)}"
        return Code(place, None, None, (), dirty=True, patch=None, folder=".", missing=(reason,))


def _why(error: Exception, place: str) -> str:
    if "owned by" in str(error):
        return f"it belongs to another user (`git config --global --add safe.directory {place}` trusts it)"
    return shown(str(error))


def _capture(repository: pygit2.Repository, where: str, outputs: list[str], largest: int) -> Code:
    import pygit2

    root = os.path.realpath(repository.workdir)
    folder = os.path.relpath(where if os.path.isdir(where) else os.path.dirname(where), root)
    reasons = []
    if (
        folder == ".."
        or folder.startswith("../")
        or os.path.commonpath([os.path.realpath(repository.path), where]) == (os.path.realpath(repository.path))
    ):
        reasons.append(
            f"the folder {shown_path(where)} is outside of the working tree of its repository, {shown_path(root)}"
        )
    if repository.head_is_unborn:
        reasons.append("the repository has no commit yet")
        return Code(_origin(repository), None, None, (), dirty=True, patch=None, folder=folder, missing=tuple(reasons))
    head = repository.head.peel(pygit2.Commit)
    reasons += _unpushed(repository, head)
    changes = _Changes(repository, head, root, outputs, largest)
    return Code(
        repository=_origin(repository),
        commit=str(head.id),
        branch=None if repository.head_is_detached else repository.head.shorthand,
        tags=_tags(repository, head),
        dirty=changes.dirty,
        patch=changes.patch,
        folder=folder,
        missing=(*reasons, *changes.reasons()),
        root=root,
    )


# -- what is not committed --------------------------------------------------------------------------------------------
class _Changes:
    """What differs from a commit: the patch, and what could not be taken into it."""

    def __init__(
        self, repository: pygit2.Repository, head: pygit2.Commit, root: str, outputs: list[str], largest: int
    ) -> None:
        from pygit2.enums import DeltaStatus, DiffOption

        self.dirty = False
        self._left: dict[str, list[str]] = {}
        flags = (
            DiffOption.INCLUDE_UNTRACKED
            | DiffOption.RECURSE_UNTRACKED_DIRS
            | DiffOption.SHOW_UNTRACKED_CONTENT
            | DiffOption.SHOW_BINARY
        )
        # In two steps by way of the index, since from a tree straight to the working tree libgit2 hashes every file.
        diff = head.tree.diff_to_index(repository.index, flags)
        diff.merge(repository.index.diff_to_workdir(flags))
        inside = [os.path.relpath(each, root) for each in outputs]
        chosen: list[tuple[int, int, str]] = []
        for number, delta in enumerate(diff.deltas):
            path = delta.new_file.path
            untracked = delta.status in (DeltaStatus.UNTRACKED, DeltaStatus.ADDED)
            if untracked and any(path == each or path.startswith(f"{each}/") or each == "." for each in inside):
                continue
            self.dirty = True
            if _REPOSITORY in (int(delta.new_file.mode), int(delta.old_file.mode)) or path.endswith("/"):
                self._leave("repository", path.rstrip("/"))
            elif delta.status == DeltaStatus.CONFLICTED:
                self._leave("conflict", path)
            else:
                chosen.append((_size(os.path.join(root, path)), number, path))
        pieces: dict[int, bytes] = {}
        held = 0
        for size, number, path in sorted(chosen):
            piece = _piece(diff, number) if held + size <= largest else None
            if piece is not None and held + len(piece) <= largest:
                pieces[number] = piece
                held += len(piece)
            else:
                self._leave("large" if held + size > largest or piece is not None else "unreadable", path, size)
        self.patch = b"".join(pieces[number] for number in sorted(pieces)) or None

    def _leave(self, kind: str, path: str, size: int | None = None) -> None:
        name = shown_path(path) + (f" ({size:,} bytes)" if size is not None and kind == "large" else "")
        self._left.setdefault(kind, []).append(name)

    def reasons(self) -> Iterator[str]:
        """Yield what was left out, in sentences."""
        for kind, paths in self._left.items():
            for path in paths[:_NAMED]:
                yield _SENTENCES[kind].format(path)
            if len(paths) > _NAMED:
                yield _SENTENCES[kind].format(f"each of {len(paths) - _NAMED} other paths")


_SENTENCES = {
    "large": "{} is not committed, and too large for the patch",
    "unreadable": "{} is not committed, and can't be read",
    "conflict": "{} is not committed, and is in a merge conflict",
    "repository": "{} is a repository of its own that differs from what is committed",
}


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def _piece(diff: pygit2.Diff, number: int) -> bytes | None:
    """Return the part of the patch about one file, or None where the file can't be read."""
    import pygit2

    try:
        patch = diff[number]
        if patch is None:
            return None
        return _quoted(patch.data, patch.delta.new_file.raw_path)
    except (pygit2.GitError, KeyError, ValueError, OSError):
        return None


def _quoted(piece: bytes, path: bytes) -> bytes:
    """Put a name that has a space into quotes, without which libgit2 can't read what it has written itself."""
    if b" " not in path or piece.startswith(b'diff --git "'):
        return piece
    lines = piece.split(b"\n")
    for number, line in enumerate(lines):
        if line.startswith(b"diff --git "):
            lines[number] = b'diff --git "a/%s" "b/%s"' % (path, path)
        elif line.startswith((b"--- a/", b"+++ b/")):
            lines[number] = b'%s"%s"' % (line[:4], line[4:])
        elif line.startswith((b"@@ ", b"GIT binary patch")):
            break
    return b"\n".join(lines)


# -- where it is from -------------------------------------------------------------------------------------------------
def _origin(repository: pygit2.Repository) -> str:
    """Return the URL of `origin` (or of the only remote) without credentials, or else the folder."""
    urls = {remote.name: remote.url for remote in repository.remotes if remote.name and remote.url}
    url = urls.get("origin") or (next(iter(urls.values())) if len(urls) == 1 else None)
    if url is None:
        return os.path.normpath(repository.workdir)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme and parts.hostname:
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        user = "git@" if parts.username == "git" else ""
        return urllib.parse.urlunsplit((parts.scheme, user + host, parts.path, "", ""))
    if "://" in url or ":" in url.partition("/")[0]:
        return str(url)
    return os.path.normpath(os.path.join(repository.workdir, url))


def _unpushed(repository: pygit2.Repository, head: pygit2.Commit) -> Iterator[str]:
    """Yield why nobody else may have a commit, going by what Git knew of its remotes when it last spoke with them."""
    import pygit2

    if not len(repository.remotes):
        yield f"the repository has no remote: commit {str(head.id)[:12]} is only on this machine"
        return
    tips = set()
    for name in _references(repository, "refs/remotes/"):
        try:
            tips.add(repository.references[name].peel(pygit2.Commit).id)
        except (pygit2.GitError, KeyError, ValueError):
            continue
    if head.id in tips:
        return
    walk = repository.walk(head.id)
    for tip in tips:
        walk.hide(tip)
    if next(walk, None) is not None:
        yield f"commit {str(head.id)[:12]} is on no branch of a remote: it was never pushed"


def _tags(repository: pygit2.Repository, head: pygit2.Commit) -> tuple[str, ...]:
    found = []
    for name in _references(repository, "refs/tags/"):
        reference = repository.references[name]
        target = reference.target
        if target == head.id or (repository.get(target) is not None and reference.peel().id == head.id):
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


def _references(repository: pygit2.Repository, prefix: str) -> list[str]:
    """Return the names of references; one that is no text belongs to nobody who could be told of it."""
    names = []
    for raw in repository.raw_listall_references():
        if raw.startswith(prefix.encode()):
            try:
                names.append(raw.decode())
            except UnicodeDecodeError:
                continue
    return names
