"""A DVC repository on this disk: its config, cache and local remotes, and files whose MD5 is checked; reads no YAML.

An object lies in the cache, and in a remote, under its MD5: at `files/md5/ab/cdef…` since DVC 3, and at `ab/cdef…`
before. No link is followed out of the repository.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import stat
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path, PurePosixPath
from typing import Any

from headwater.artifacts import LocalFile, local_file, scan
from headwater.errors import IntegrityError, InvalidInputError, NotFoundError
from headwater.names import shown

__all__ = ["ANEW", "Out", "Project"]

ANEW = "`dvc add` writes it anew"
"""What helps where a metafile is damaged."""

_LARGEST_MANIFEST = 256 << 20
_BLOCK = 1 << 20
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_TEXT = bytes(range(32, 127)) + b"\n\r\t\f\b"


@dataclass(frozen=True, slots=True)
class Out:
    """An entry of `outs`.

    Attributes:
        written: Its path as the metafile has it.
        path: Its path from the root of the repository.
        legacy: Whether DVC 2 or older hashed it: text files as if their lines ended in a line feed.
        remote: The remote that it is kept in, if not the default one.
        listed: The files of a folder, where the metafile itself lists them.
    """

    written: str
    path: str
    md5: str
    legacy: bool
    description: str | None
    remote: str | None
    listed: Any

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, not a file."""
        return self.md5.endswith(".dir") or self.listed is not None


@dataclass(frozen=True, slots=True)
class Project:
    """A DVC repository, and the folders that hold its objects.

    Attributes:
        root: The folder that holds `.dvc`, else the Git repository's, else the metafile's.
        folder: The metafile's folder.
    """

    root: Path
    folder: Path
    cache: Path
    config: Mapping[str, Mapping[str, str]]

    @classmethod
    def around(cls, metafile: Path) -> Project:
        """Return the repository that holds a metafile, else one that has neither cache nor remote.

        Raises:
            InvalidInputError: Its config can't be read.
        """
        folder = Path(os.path.realpath(metafile.parent))
        for marker in (".dvc", ".git"):
            root = next((each for each in (folder, *folder.parents) if (each / marker).is_dir()), None)
            if root is not None:
                break
        config = _config(root / ".dvc") if root is not None else {}
        root = root or folder
        cache = config.get("cache", {}).get("dir")
        return cls(root, folder, Path(cache) if cache else root / ".dvc" / "cache", config)

    def chosen(self, outs: list[Mapping[str, Any]], wanted: str | None) -> Out:
        """Return the entry that is meant."""
        paths = [each["path"] for each in outs]
        choices = ", ".join(shown(each) for each in paths[:10])
        if wanted is None and len(outs) > 1:
            raise InvalidInputError(f"the metafile lists {len(outs)} paths: {choices}", hint="name one with --out")
        if wanted is not None and wanted not in paths:
            raise NotFoundError(f"the metafile does not list {shown(wanted)}", hint=f"it lists {choices}")
        return self._out(outs[paths.index(wanted) if wanted is not None else 0])

    def _out(self, entry: Mapping[str, Any]) -> Out:
        written, digest = entry["path"], entry.get("md5", entry.get("checksum"))
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", written):
            raise InvalidInputError(
                f"{shown(written)} is not in the workspace", hint="`dvc import-url` brings it there"
            )
        # not `realpath`: the last part may be a link into the cache
        place = self.folder / entry["wdir"] / written
        place = Path(os.path.realpath(place.parent), place.name) if place.name not in ("", "..") else Path("/")
        if "\0" in written or not place.is_relative_to(self.root) or place == self.root:
            raise InvalidInputError(f"{shown(written)} lies outside of the repository", hint="move it in, and add it")
        listed = entry.get("files")
        if digest is None and listed is not None:
            digest = ""
        elif not isinstance(digest, str) or not _MD5.fullmatch(digest):
            what = "has no MD5" if digest is None else f"has {shown(str(digest))} for an MD5"
            raise InvalidInputError(f"{shown(written)} {what}", hint="`dvc commit` computes it")
        if (kind := entry.get("hash", "md5")) != "md5":
            raise InvalidInputError(f"{shown(written)} has a hash of the kind {shown(str(kind))}", hint="MD5 is read")
        text, remote = entry.get("desc"), entry.get("remote")
        return Out(
            written=written,
            path=place.relative_to(self.root).as_posix(),
            md5=digest,
            legacy="hash" not in entry,
            description=text if isinstance(text, str) and text else None,
            remote=remote if isinstance(remote, str) else None,
            listed=listed,
        )

    # -- bytes --------------------------------------------------------------------------------------------------
    def files(self, out: Out) -> tuple[list[LocalFile], bool]:
        """Return the files of an entry, every MD5 checked, and whether it is a single file."""
        place = self.root / out.path
        if not out.is_folder:
            return [self._file(out, place.name, place, out.md5)], True
        found = []
        for name, digest in self._manifest(out, place):
            found.append(self._file(out, name, place / name, digest))
        if not found:
            raise InvalidInputError(
                f"the folder {shown(out.written)} has no files in it", hint="nothing is there to add"
            )
        return sorted(found, key=lambda file: file.name.encode()), False

    def _file(self, out: Out, name: str, place: Path, digest: str) -> LocalFile:
        """Return one file: the workspace's own, if there is one and no link leads to it, else the object's."""
        if os.path.realpath(place) == str(place) and os.path.isfile(place):
            file, found = _hashed(name, place, digest, legacy=out.legacy)
            if found != digest:
                raise IntegrityError(
                    f"{shown(name)} has the MD5 {found}, and the .dvc file says {digest}",
                    hint="`dvc add` records what it is now, `dvc checkout` brings back what it was",
                )
            return file
        path = self._object(out, digest, name)
        file, found = _hashed(name, path, digest, legacy=out.legacy)
        if found != digest:
            raise IntegrityError(
                f"the object {digest} of {shown(name)} has the MD5 {found}", hint="delete it, and `dvc fetch` it again"
            )
        return file

    def _object(self, out: Out, digest: str, name: str) -> Path:
        """Return where the object of an MD5 lies.

        Raises:
            NotFoundError: It is neither in the cache nor in the remote.
        """
        remote = self._remote(out)
        for base in (self.cache, remote):
            if base is None:
                continue
            layouts = [base / "files" / "md5", base]
            for layout in reversed(layouts) if out.legacy else layouts:
                path = layout / digest[:2] / digest[2:]
                if path.is_file():
                    return Path(os.path.realpath(path))
        where = "the workspace and the cache" if remote is None else "the workspace, the cache and the remote"
        raise NotFoundError(f"{shown(name)} (MD5 {digest}) is missing from {where}", hint="`dvc pull` fetches it")

    def _remote(self, out: Out) -> Path | None:
        """Return the folder of the remote that an entry is kept in; None where none is on this machine."""
        name = out.remote or self.config.get("core", {}).get("remote")
        url = self.config.get(f'remote "{name}"', {}).get("url")
        return Path(url) if url is not None and "://" not in url else None

    def _manifest(self, out: Out, place: Path) -> Iterator[tuple[str, str]]:
        """Yield the path and the MD5 of every file of a folder."""
        if out.listed is not None:
            return _entries(out.listed, out.written)
        try:
            path = self._object(out, out.md5, f"the list of files of {out.written}")
        except NotFoundError:
            if not place.is_dir() or os.path.realpath(place) != str(place):
                raise
            return self._recomputed(out, place)
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise InvalidInputError(f"the list of files of {shown(out.written)} is too large")
        body = path.read_bytes()
        if (found := f"{md5(body, usedforsecurity=False).hexdigest()}.dir") != out.md5:
            raise IntegrityError(
                f"the list of files of {shown(out.written)} has the MD5 {found}, and the .dvc file says {out.md5}",
                hint="delete it from DVC's cache, and `dvc fetch` it again",
            )
        try:
            entries = json.loads(body)
        except (ValueError, RecursionError):
            entries = None
        return _entries(entries, out.written)

    def _recomputed(self, out: Out, place: Path) -> Iterator[tuple[str, str]]:
        """Make the list of a folder's files anew, as DVC writes it, and check that it is the one."""
        found = [
            {"md5": _hashed(file.name, file.path, "", legacy=out.legacy)[1], "relpath": file.name}
            for file in scan(place)[0]
        ]
        found.sort(key=lambda entry: entry["relpath"])
        body = json.dumps(found, sort_keys=True).encode()
        if f"{md5(body, usedforsecurity=False).hexdigest()}.dir" != out.md5:
            raise IntegrityError(
                f"the files of {shown(out.written)} are not those of the .dvc file, and its list is not in the cache",
                hint="`dvc fetch` brings the list, `dvc status` tells what differs",
            )
        return _entries(found, out.written)


def _entries(entries: Any, what: str) -> Iterator[tuple[str, str]]:
    """Yield the path and the MD5 of every entry of a manifest, whose every path stays in the folder."""
    if not isinstance(entries, list):
        raise InvalidInputError(f"the list of files of {shown(what)} is no list", hint=ANEW)
    seen: set[str] = set()
    for entry in entries:
        name, digest = (entry.get("relpath"), entry.get("md5")) if isinstance(entry, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{32}", digest):
            raise InvalidInputError(f"a file of {shown(what)} has no path or no MD5", hint=ANEW)
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in name or name in seen:
            raise InvalidInputError(
                f"a file of {shown(what)} is called {shown(name)}, which leads out of it or is there twice", hint=ANEW
            )
        seen.add(name)
    for name in seen:
        if any(parent.as_posix() in seen for parent in PurePosixPath(name).parents):
            raise InvalidInputError(f"{shown(name)} of {shown(what)} lies in what is a file", hint=ANEW)
    return ((entry["relpath"], entry["md5"]) for entry in entries)


def _config(folder: Path) -> dict[str, dict[str, str]]:
    """Return the sections of `config` and, over them, `config.local`; paths and file: URLs as absolute paths."""
    found: dict[str, dict[str, str]] = {}
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(
            interpolation=None, strict=False, default_section="", inline_comment_prefixes=("#",)
        )
        try:
            parser.read_string((folder / name).read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, configparser.Error) as error:
            raise InvalidInputError(
                f".dvc/{name} can't be read", hint="`dvc config --list` shows what is wrong"
            ) from error
        for section in parser.sections():
            values = found.setdefault(section.strip("'"), {})
            for option, value in parser.items(section):
                text = value.strip().strip("'\"")
                values[option] = _absolute(text, folder) if option in ("url", "dir") else text
    return found


def _absolute(text: str, folder: Path) -> str:
    """Return a path of a config, which counts from the config's own folder, as an absolute one; a URL as it is."""
    parts = urllib.parse.urlsplit(text)
    if parts.scheme == "file":
        return urllib.request.url2pathname(parts.path)
    return text if "://" in text else os.path.normpath(folder / os.path.expanduser(text))


# -- MD5 --------------------------------------------------------------------------------------------------------------
def _hashed(name: str, path: Path, wanted: str, *, legacy: bool) -> tuple[LocalFile, str]:
    """Return a file and its MD5: where `legacy`, the one that DVC 2 computed, unless the plain one is wanted."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(handle, "rb", buffering=0) as stream:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInputError(f"{shown(name)} is no plain file")
            digest, unix = md5(usedforsecurity=False), md5(usedforsecurity=False)
            # DVC 2 decides for each block of a mebibyte, by its beginning, whether it is text
            while chunk := _block(stream):
                digest.update(chunk)
                if legacy:
                    unix.update(chunk.replace(b"\r\n", b"\n") if _is_text(chunk[:512]) else chunk)
    except OSError as error:
        raise InvalidInputError(f"{shown(name)} can't be read: {error.strerror}") from error
    plain = digest.hexdigest()
    return local_file(name, path, found), unix.hexdigest() if legacy and plain != wanted else plain


def _block(stream: Any) -> bytes:
    parts, size = [], 0
    while size < _BLOCK and (part := stream.read(_BLOCK - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _is_text(start: bytes) -> bool:
    return b"\0" not in start and len(start.translate(None, _TEXT)) <= 0.3 * len(start)
