"""DVC's metafiles: which file or folder one names, and where that comes from; knows no lake.

The format is DVC's own (https://dvc.org/doc/user-guide/project-structure): a `.dvc` file is YAML with a list `outs`, of
which each has a path and an MD5. The MD5 of a folder ends in `.dir` and is that of a JSON list of its files. Nothing of
DVC is run or imported.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from headwater import source
from headwater.artifacts import LocalFile
from headwater.dvc_project import ANEW, Project
from headwater.errors import InvalidInputError, NotFoundError
from headwater.names import check_name, shown

__all__ = ["Tracked", "read"]

_LARGEST_METAFILE = 4 << 20
_COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a metafile tracks: files whose MD5 was checked, and where they come from.

    Attributes:
        name: What a dataset of it would be called.
        files: The files, as they were when they were read.
        single: Whether it is a file, not a folder.
        description: What the metafile says of it.
        origin: The DVC hash, paths and Git commit, as JSON can hold them.
    """

    name: str
    files: list[LocalFile]
    single: bool
    description: str | None
    origin: Mapping[str, Any]


def read(path: str | os.PathLike[str], *, out: str | None = None, name: str | None = None) -> Tracked:
    """Read a metafile and find the bytes that it names: in the workspace, else in the cache, else in a local remote.

    Args:
        path: The `.dvc` file.
        out: The path of the one that is meant, where the file lists several.
        name: What the dataset is called; by default, what the file is.

    Raises:
        NotFoundError: There is no such file, or its bytes are in none of these places.
        InvalidInputError: It is no metafile, it names nothing that can be had, or a path outside of its repository.
        IntegrityError: Bytes have another MD5 than the metafile says.
    """
    place = Path(path)
    body = _body(place)
    project = Project.around(place)
    found = project.chosen(_outs(body, place.name), out)
    tracked, single = project.files(found)
    state = source.file_state(place, body)
    root = Path(state.workdir) if state is not None else project.root
    origin = {
        "kind": "dvc",
        "file": _relative(place, root),
        "path": _relative(project.root / found.path, root),
        "md5": found.md5,
        "hash": "md5-dos2unix" if found.legacy else "md5",
        "repository": state.repository if state is not None else None,
        "commit": state.commit if state is not None else None,
        "dirty": state.dirty if state is not None else None,
    }
    return Tracked(name or _name_of(found.path, single=single), tracked, single, found.description, origin)


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(os.path.realpath(path), os.path.realpath(root))).as_posix()


def _name_of(path: str, *, single: bool) -> str:
    """Return what a dataset is called by default: the file without its extension, or the folder, in small letters."""
    name = PurePosixPath(path).name
    if single:
        for ends in (_COMPRESSIONS, None):
            stem, dot, suffix = name.rpartition(".")
            if stem and (ends is None or dot + suffix.lower() in ends):
                name = stem
    try:
        return check_name(name.lower(), "dataset")
    except InvalidInputError as error:
        raise InvalidInputError(error.message, hint="give another name with --name") from None


# -- the metafile -----------------------------------------------------------------------------------------------------
def _body(place: Path) -> bytes:
    if place.suffix != ".dvc" or "\0" in str(place):
        hint = "`dvc add FILE` writes FILE.dvc"
        raise InvalidInputError(f"{shown(place.name)} is no .dvc file", hint=hint)
    try:
        if not stat.S_ISREG(os.stat(place).st_mode):
            raise InvalidInputError(f"{shown(str(place))} is no file", hint="`dvc add FILE` writes FILE.dvc")
        with open(place, "rb") as stream:
            body = stream.read(_LARGEST_METAFILE + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {shown(str(place))}", hint="`dvc add FILE` writes FILE.dvc") from None
    except OSError as error:
        raise InvalidInputError(f"{shown(str(place))} can't be read: {error.strerror}") from error
    if len(body) > _LARGEST_METAFILE:
        raise InvalidInputError(f"{shown(place.name)} is larger than any .dvc file", hint="`dvc add` writes it anew")
    return body


def _outs(body: bytes, name: str) -> list[Mapping[str, Any]]:
    """Return the mapping `outs` of a metafile, and its `wdir` in each; every scalar is text."""
    document = _yaml(body, name)
    outs = document.get("outs") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(outs, list):
        raise InvalidInputError(f"{shown(name)} is no DVC metafile: it has no list `outs`", hint=ANEW)
    if not outs or not all(isinstance(out, dict) and isinstance(out.get("path"), str) for out in outs):
        raise InvalidInputError(f"{shown(name)} is no DVC metafile: an entry of `outs` has no path", hint=ANEW)
    wdir = document.get("wdir", ".")
    if not isinstance(wdir, str):
        raise InvalidInputError(f"{shown(name)} is no DVC metafile: its `wdir` is no path", hint=ANEW)
    return [{**out, "wdir": wdir} for out in outs]


def _yaml(body: bytes, name: str) -> Any:
    """Parse YAML into mappings, lists and text. An alias is refused: DVC writes none, and a bomb is made of them."""
    import yaml

    class Loader(yaml.BaseLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise InvalidInputError(f"{shown(name)} has a YAML alias, which DVC never writes", hint=ANEW)
            return super().compose_node(parent, index)

    try:
        return yaml.load(body, Loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{shown(name)} is no YAML{where}", hint=ANEW) from None
