"""Artifacts: what may be registered, its digest, and the way into the lake and out of it, every byte checked."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from headwater.errors import AlreadyExistsError, IntegrityError, InvalidInputError, NotFoundError
from headwater.ids import new_id
from headwater.lake.base import CHUNK, Lake
from headwater.lake.objects import disk_errors
from headwater.model import ArtifactFile
from headwater.names import shown
from headwater.transaction import Upload

__all__ = [
    "LocalFile",
    "Wanted",
    "check_destination",
    "check_in_lake",
    "check_outside",
    "digest_of",
    "flavors_of",
    "fold_path",
    "kept_name",
    "local_file",
    "remove",
    "scan",
    "write",
]

_PICKLES = (".pkl", ".pickle", ".joblib", ".dill")
_FLAVORS = {".onnx": "onnx", ".pt": "pytorch", ".pth": "pytorch", ".safetensors": "safetensors", ".cbm": "catboost"}
_FLAVORS |= dict.fromkeys(_PICKLES, "pickle") | {".keras": "keras", ".h5": "keras", ".gguf": "gguf", ".ubj": "xgboost"}


_LONGEST_NAME = 1024


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that is going to be registered, as it was when it was found."""

    name: str
    path: Path
    identity: tuple[int, int, int, int]

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.identity[0]


def fold_path(kind: str, uuid: str) -> str:
    """Return the folder for something with that ID, sharded by the ID's end so that no folder grows large."""
    return f"{kind}/{uuid[-1]}/{uuid[-2]}/{uuid[-3]}/{uuid}/"


def digest_of(files: Iterable[ArtifactFile], *, single: bool) -> str:
    r"""Return the digest of an artifact: that of its file, or of its listing.

    The listing is what this prints, in the artifact's folder:
    `find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum`; the digest is its sha256.
    """
    files = sorted(files, key=lambda file: file.path.encode())
    if single:
        return files[0].sha256
    lines = []
    for file in files:
        escaped = file.path.replace("\\", "\\\\")
        lines.append(f"{chr(92) if escaped != file.path else ''}{file.sha256}  {escaped}\n")
    return sha256("".join(lines).encode()).hexdigest()


def flavors_of(files: Iterable[ArtifactFile]) -> list[str]:
    """Return the formats that the files' names tell of, sorted. No file is opened, least of all a pickle."""
    return sorted({_FLAVORS[ext] for file in files if (ext := os.path.splitext(file.path)[1].lower()) in _FLAVORS})


def check_outside(lake: Lake, path: str | os.PathLike[str]) -> None:
    """Refuse a path that holds an embedded lake, or lies in one: each registration would register the ones before it.

    Raises:
        InvalidInputError: It does.
    """
    root = os.path.realpath(lake.url)
    given = os.path.realpath(path)
    if os.path.isdir(root) and os.path.commonpath([root, given]) in (root, given):
        raise InvalidInputError(f"{shown(os.fspath(path))} holds the lake itself", hint="name a folder beside it")


def check_destination(lake: Lake, dest: str | os.PathLike[str]) -> None:
    """Refuse a destination inside an embedded lake.

    Raises:
        InvalidInputError: It is one.
    """
    root = os.path.realpath(lake.url)
    if os.path.isdir(root) and os.path.commonpath([root, os.path.realpath(dest)]) == root:
        raise InvalidInputError(f"{shown(os.fspath(dest))} lies in the lake itself", hint="choose another destination")


# -- into the lake ----------------------------------------------------------------------------------------------------
def scan(path: str | os.PathLike[str]) -> tuple[list[LocalFile], bool]:
    """Return the files of a file or folder, in order of name, and whether it is a single file.

    Raises:
        NotFoundError: There is nothing there.
        InvalidInputError: It is or holds a link, a device or a name that cannot be kept, or it is an empty folder.
    """
    root = Path(path)
    try:
        found = os.lstat(root)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file or folder {shown(str(root))}") from None
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{shown(str(root))} can't be read: {error}") from error
    if stat.S_ISREG(found.st_mode):
        return [local_file(root.name, root, found)], True
    if not stat.S_ISDIR(found.st_mode):
        raise InvalidInputError(f"{shown(str(root))} is {_kind(found.st_mode)}", hint="register a file or a folder")
    files = sorted(_scan(root, ""), key=lambda file: file.name.encode())
    if not files:
        raise InvalidInputError(
            f"the folder {shown(str(root))} has no files in it", hint="there is nothing to register"
        )
    return files, False


def _scan(folder: Path, prefix: str) -> Iterator[LocalFile]:
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise InvalidInputError(f"{shown(str(folder))} can't be read: {error.strerror}") from error
    if len(prefix) > _LONGEST_NAME:
        raise InvalidInputError(f"the name {shown(prefix)} can't be kept", hint="make its folders less deep")
    for each in entries:
        try:
            found = each.stat(follow_symlinks=False)
        except OSError as error:
            raise InvalidInputError(f"{shown(prefix + each.name)} can't be read: {error.strerror}") from error
        if stat.S_ISDIR(found.st_mode):
            yield from _scan(Path(each.path), f"{prefix}{each.name}/")
        elif stat.S_ISREG(found.st_mode):
            yield local_file(prefix + each.name, Path(each.path), found)
        else:
            raise InvalidInputError(
                f"{shown(prefix + each.name)} is {_kind(found.st_mode)}", hint="an artifact holds plain files only"
            )


def _kind(mode: int) -> str:
    return "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"


def local_file(name: str, path: Path, found: os.stat_result) -> LocalFile:
    """Return a file that is going to be registered, as `found` says that it is.

    Raises:
        InvalidInputError: Its name cannot be kept.
    """
    return LocalFile(kept_name(name), path, _identity(found))


def kept_name(name: str) -> str:
    """Return the path of a file under its folder, if it can be kept.

    Raises:
        InvalidInputError: It is empty or too long, has control characters, or leads out of the folder.
    """
    bad = any(ord(c) < 32 or ord(c) == 127 or 0xD800 <= ord(c) < 0xE000 for c in name) or len(name) > _LONGEST_NAME
    if bad or any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidInputError(f"the name {shown(name)} can't be kept", hint="rename the file")
    return name


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev


def upload(files: Iterable[LocalFile], folder: str, put: Upload) -> list[ArtifactFile]:
    """Stream files into a folder of the lake and return them with their digests.

    Raises:
        InvalidInputError: A file changed, or was exchanged, while it was read.
    """
    done = []
    for file in files:
        try:
            handle = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidInputError(f"{shown(file.name)} can't be read: {error.strerror}") from error
        with os.fdopen(handle, "rb", buffering=0) as stream:
            before = _identity(os.fstat(handle))
            try:
                info = put(folder + file.name, stream)
            except OSError as error:
                raise InvalidInputError(f"{shown(file.name)} can't be read: {error.strerror}") from error
            after = _identity(os.fstat(handle))
        if not before == after == file.identity or info.size != file.size or info.sha256 is None:
            raise InvalidInputError(
                f"{shown(file.name)} changed while it was read", hint="register it when it is still"
            )
        done.append(ArtifactFile(file.name, info.size, info.sha256))
    return done


# -- out of the lake --------------------------------------------------------------------------------------------------
Opener = Callable[[str], BinaryIO]
Known = Callable[[], Iterable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an artifact has to be: its files, and how to open one by its path."""

    what: str
    files: list[ArtifactFile]
    open: Opener


def check_in_lake(lake: Lake, commit: str, folder: str, what: str, files: Iterable[ArtifactFile]) -> None:
    """Compare the names and sizes of the objects under a folder with what was registered.

    Raises:
        IntegrityError: One is missing, or too many, or of another size.
    """
    expected = {folder + file.path: file.size for file in files}
    present = {info.path: info.size for info in lake.list(commit, folder)}
    for path in sorted(expected.keys() ^ present.keys()):
        problem = "is missing" if path in expected else "was never registered"
        raise IntegrityError(f"{what}: {path.removeprefix(folder)!r} {problem}", hint=_RESTORE)
    for path, size in expected.items():
        if present[path] != size:
            raise IntegrityError(
                f"{what}: {path.removeprefix(folder)!r} has {present[path]} bytes, not {size}", hint=_RESTORE
            )


_RESTORE = "pull another version, or restore the lake from a copy"


def copy(wanted: Wanted, file: ArtifactFile, out: BinaryIO | None) -> None:
    """Stream one file out of the lake, into `out` if given, and check it.

    Raises:
        IntegrityError: It is not what was registered.
    """
    digest = sha256()
    size = 0
    try:
        with wanted.open(file.path) as stream:
            while chunk := stream.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if out is not None:
                    out.write(chunk)
    except NotFoundError:
        raise IntegrityError(f"{wanted.what}: {file.path!r} is missing", hint=_RESTORE) from None
    except IntegrityError as error:
        raise IntegrityError(f"{wanted.what}: {error.message}", hint=_RESTORE) from error
    if size != file.size or digest.hexdigest() != file.sha256:
        raise IntegrityError(f"{wanted.what}: {file.path!r} is not what was registered", hint=_RESTORE)


def write(wanted: Wanted, dest: str | os.PathLike[str], *, force: bool, known: Known) -> Path:
    """Write an artifact into the folder `dest`: beside it first, checked, then renamed into place.

    A file in the way is replaced if the registry knows it, and is an error if not. What else an earlier pull left,
    whole, goes; every other file is left alone.

    Args:
        wanted: The artifact.
        dest: The folder, made if need be.
        force: Overwrite files that stand in the way.
        known: What could have been pulled there: the files of each version, as sha256 by path under the folder.

    Raises:
        IntegrityError: The artifact is not what was registered; `dest` is as it was.
        AlreadyExistsError: A file that the registry does not know stands in the way.
    """
    place = Path(os.path.realpath(dest))
    if place.exists() and not place.is_dir():
        raise AlreadyExistsError(f"{shown(str(dest))} is not a folder", hint="choose another destination")
    fresh = not place.exists()
    with disk_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        # A folder that is there may be a mount point, or somebody's current one: it is filled, never exchanged.
        beside = place.parent / f".{place.name}-{new_id()}" if fresh else place / f".headwater-{new_id()}"
        beside.mkdir()
    try:
        for file in wanted.files:
            with disk_errors(beside):
                target = beside / _safe(file.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as out:
                    copy(wanted, file, out)
        with disk_errors(place):
            if fresh:
                beside.rename(place)
            else:
                _move(beside, place, {file.path for file in wanted.files}, force=force, known=known)
    finally:
        remove(beside)
    return place


def _safe(name: str) -> str:
    """Return a file's path if it stays in its folder; the tables may come from a stranger.

    Raises:
        IntegrityError: It leads elsewhere.
    """
    parts = name.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise IntegrityError(f"the artifact has a file named {shown(name)}, which leads out of its folder")
    return name


def _move(beside: Path, place: Path, names: set[str], *, force: bool, known: Known) -> None:
    """Move checked files into a folder that is there; whatever stands in the way is found before anything moves."""
    manifests = list(known())
    possible = names.union(*manifests)
    found: dict[str, str | None] = {}
    for path in place.rglob("*"):
        if path.is_relative_to(beside) or (path.is_dir() and not path.is_symlink()):
            continue
        name = path.relative_to(place).as_posix()
        found[name] = _sha256(path) if name in possible and path.is_file() and not path.is_symlink() else None
    replaceable = {(path, digest) for files in manifests for path, digest in files.items()}
    pulled = [files for files in manifests if all(found.get(path) == digest for path, digest in files.items())]
    old = {path for files in pulled for path in files}
    folders = {parent.as_posix() for name in names for parent in PurePosixPath(name).parents} - {"."}
    blocked = {name for name in names & found.keys() if name not in old and (name, found[name]) not in replaceable}
    blocked |= (folders & found.keys()) - old
    inside = {name for name in found if name not in old and any(p.as_posix() in names for p in Path(name).parents)}
    if inside or (blocked and not force):
        raise AlreadyExistsError(
            f"{shown(min(inside or blocked))} is in {shown(place.name)} already and isn't ours to replace",
            hint="choose another destination" if inside else "choose another destination, or use --force",
        )
    for name in (old - names) | (blocked & folders):
        (place / name).unlink()
    for name in sorted((parent.as_posix() for each in old for parent in PurePosixPath(each).parents), reverse=True):
        if name != "." and not any((place / name).iterdir()):
            (place / name).rmdir()
    for name in sorted(names):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (beside / name).replace(target)


def remove(folder: Path) -> None:
    """Delete a folder and all in it, as far as that goes."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _sha256(path: Path) -> str:
    digest = sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
