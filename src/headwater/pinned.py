"""Data that lies in the lake already: which objects a URL names, at which commit, and their digests; copies nothing."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from headwater import formats
from headwater.artifacts import LocalFile, kept_name
from headwater.errors import InvalidInputError, NotFoundError
from headwater.lake.base import CHUNK, Lake, ObjectInfo
from headwater.lake.lakefs_address import Address
from headwater.lake.refs import resolve
from headwater.model import ArtifactFile
from headwater.names import shown

__all__ = ["Pinned", "find", "is_in_lake"]

_SCHEMES = ("lakefs", "lakefss", "lake")
_FORM = "write lakefs://REPOSITORY/REF/PATH, or lake://REF/PATH"


@dataclass(frozen=True, slots=True)
class Pinned:
    """Objects of the lake at a commit.

    Attributes:
        ref: The ref that was named.
        commit: What it is now.
        path: The object, or the folder.
        folder: The folder that the files' paths count from; ends in `/` unless it is the root.
        files: The files, to be read where they are local: those of a table. Others have no path.
        digests: The files of a folder of anything, with their digests; None for a table, whose files are read anyway.
        single: Whether it is one object.
    """

    ref: str
    commit: str
    path: str
    folder: str
    files: list[LocalFile]
    digests: list[ArtifactFile] | None
    single: bool


def is_in_lake(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a URL of something in a lake."""
    scheme, separator, _ = path.partition("://") if isinstance(path, str) else ("", "", "")
    return bool(separator) and scheme.lower() in _SCHEMES


def find(lake: Lake, url: str) -> Pinned:
    """Return the objects that `lakefs://REPOSITORY/REF/PATH` names, its server before them or not, or `lake://REF/PATH`.

    Raises:
        InvalidInputError: The URL is malformed, or names another lake than this.
        NotFoundError: There is no such ref, or nothing committed at the path.
    """
    ref, path = _parse(lake.url, url)
    commit = resolve(lake, ref).commit
    bare = path.removesuffix("/")
    infos: list[ObjectInfo] = []
    if not path.endswith("/"):
        with contextlib.suppress(NotFoundError):
            infos = [lake.stat(commit, bare)]
    single = bool(infos)
    if not single:
        # some tools put an empty object where a folder is
        infos = [info for info in lake.list(commit, bare + "/") if not (info.path.endswith("/") and info.size == 0)]
    if not infos:
        raise NotFoundError(
            f"there is nothing at {shown(bare)} in {shown(ref)}", hint="only what is committed there can be named"
        )
    folder = bare[: bare.rfind("/") + 1] if single else bare + "/"
    names = {info.path: kept_name(info.path.removeprefix(folder)) for info in infos}
    table = formats.format_of(list(names.values()), single=single) != formats.FILES
    local = lake.localize(commit, list(names)) if table else {}
    files = [LocalFile(names[i.path], local.get(i.path, Path()), (i.size, 0, 0, 0)) for i in infos]
    digests = None
    if not table:
        digests = [ArtifactFile(names[i.path], i.size, i.sha256 or _digest(lake, commit, i.path)) for i in infos]
    return Pinned(ref, commit, bare, folder, files, digests, single)


def _digest(lake: Lake, commit: str, path: str) -> str:
    digest = sha256()
    with lake.open(commit, path) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _parse(own: str, url: str) -> tuple[str, str]:
    """Return the ref and the path of a URL that names this lake."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "lake":
        ref, _, path = rest.partition("/")
    else:
        ref, path = _parse_lakefs(own, scheme.lower(), rest)
    segments = path.removesuffix("/").split("/")
    if not ref or not path.strip("/"):
        raise InvalidInputError("the URL names no path in the lake", hint=_FORM)
    if any(segment in ("", ".", "..") for segment in segments):
        raise InvalidInputError(f"not a path in a lake: {shown(path)}", hint=_FORM)
    return ref, path


def _parse_lakefs(own: str, scheme: str, rest: str) -> tuple[str, str]:
    if not own.startswith(("lakefs://", "lakefss://")):
        hint = "write lake://REF/PATH for data in this lake, or fetch the data and add the file"
        raise InvalidInputError("this lake is a folder, and the URL names a lakeFS repository", hint=hint)
    here = Address.parse(own)
    first, _, others = rest.partition("/")
    on_server = any(mark in first for mark in ".:@[") or (first == here.host and first != here.repository)
    repository, _, others = others.partition("/") if on_server else (first, "", others)
    if on_server:
        found = Address.parse(f"{scheme}://{first}/{repository}")
        same = (found.host, found.port, found.repository) == (here.host, here.port, here.repository)
    else:
        same = repository == here.repository
    if not same:
        raise InvalidInputError(
            f"{shown(repository)} is not the repository of this lake, {here}",
            hint="fetch the data from there and add the file, or copy it into this repository",
        )
    ref, _, path = others.partition("/")
    return ref, path
