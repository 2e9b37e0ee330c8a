"""What a new version of a dataset would be, and how two versions differ, in words and numbers; knows no lake."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from hashlib import file_digest
from typing import TYPE_CHECKING, Any

from headwater import artifacts, formats
from headwater.artifacts import LocalFile
from headwater.content import EXAMPLES, Changes, Measure, Opened, Workbench
from headwater.errors import InvalidInputError
from headwater.model import ArtifactFile, DatasetDiff, DatasetVersion, as_json
from headwater.names import shown

if TYPE_CHECKING:
    from headwater.transaction import Upload

__all__ = ["Candidate", "as_kept", "changes_of_files", "difference", "kept_difference", "sentence"]


class Candidate:
    """Local files that may become a version of a dataset; what is asked of them is found out once.

    Args:
        bench: Where rows are read and compared.
        found: The files, as they were found.
        single: Whether it is a file, not a folder.
        key: Columns that identify a row, as declared.
        digests: The files with their digests, where these are known; else they are read for them.
    """

    def __init__(
        self,
        bench: Workbench,
        found: list[LocalFile],
        *,
        single: bool,
        key: Sequence[str],
        digests: list[ArtifactFile] | None = None,
    ) -> None:
        self.single = single
        self.key = tuple(key)
        self._bench = bench
        self._found = found
        self._files = digests
        self._opened: tuple[Opened | None] | None = None
        self._measures: dict[tuple[str, ...], Measure] = {}
        for name in self.key:
            if self.key.count(name) > 1:
                raise InvalidInputError(f"the key names the column {shown(name)} twice", hint="name it once")

    @property
    def table(self) -> Opened | None:
        """The table that the files are; None for a folder of anything.

        Raises:
            InvalidInputError: The files can't be read, or have no such key.
        """
        if self._opened is None:
            format_ = formats.format_of([file.name for file in self._found], single=self.single)
            paths = {file.name: file.path.absolute() for file in self._found}
            what = self._found[0].name if self.single else "the folder"
            opened = None
            if format_ != formats.FILES:
                opened = self._bench.open(what, format_, paths, single=self.single)
            self._check_key(opened)
            self._opened = (opened,)
        return self._opened[0]

    def _check_key(self, opened: Opened | None) -> None:
        if self.key and opened is None:
            raise InvalidInputError("files that are no table have no key", hint="leave the key out")
        for name in self.key:
            columns = opened.table.schema if opened else {}
            if name not in columns:
                close = difflib.get_close_matches(name, columns, 1)
                hint = f"did you mean {close[0]}?" if close else f"the columns are {', '.join(list(columns)[:20])}"
                raise InvalidInputError(f"there is no column {shown(name)}, which the key names", hint=hint)

    @property
    def schema(self) -> Mapping[str, str] | None:
        """The columns and their types; None for a folder of anything."""
        return self.table.table.schema if self.table is not None else None

    @property
    def format(self) -> str:
        """The format that the files are read as."""
        return self.table.table.format if self.table is not None else formats.FILES

    @property
    def files(self) -> list[ArtifactFile]:
        """The files with their digests: those of the upload, once there was one."""
        if self._files is None:
            self._files = [_hashed(file) for file in self._found]
        return self._files

    def key_after(self, inherited: Sequence[str]) -> tuple[str, ...]:
        """Return the key as declared, else the one of the version before, if its columns are still there."""
        if self.declares(inherited):
            return self.key
        return tuple(inherited) if self.schema is not None and set(inherited) <= self.schema.keys() else ()

    def declares(self, inherited: Sequence[str]) -> bool:
        """Return whether a key was declared that is not the one of the version before."""
        return bool(self.key) and set(self.key) != set(inherited)

    def measure(self, inherited: Sequence[str] = ()) -> Measure | None:
        """Return the number and the digest of the rows; None for a folder of anything.

        Raises:
            InvalidInputError: The rows can't be read, or two of them have the same key.
        """
        if self.table is None:
            return None
        key = self.key_after(inherited)
        if key not in self._measures:
            self._measures[key] = self._bench.measure(self.table, key)
        return self._measures[key]

    def profile(self) -> Mapping[str, Any] | None:
        """Return what the values of each column are like; None for a folder of anything."""
        return self._bench.profile(self.table) if self.table is not None else None

    def has_bytes_of(self, files: Sequence[ArtifactFile]) -> bool:
        """Return whether the files are these; they are read only if their sizes allow it."""
        named = not (self.single and len(files) == 1)
        sizes = {(file.name if named else "", file.size) for file in self._found}
        if sizes != {(file.path if named else "", file.size) for file in files}:
            return False
        found = {(file.path if named else "", file.sha256) for file in self.files}
        return found == {(file.path if named else "", file.sha256) for file in files}

    def upload(self, folder: str, put: Upload) -> None:
        """Put the files into a folder of the lake."""
        self._files = artifacts.upload(self._found, folder, put)


def _hashed(file: LocalFile) -> ArtifactFile:
    try:
        with open(file.path, "rb") as stream:
            return ArtifactFile(file.name, file.size, file_digest(stream, "sha256").hexdigest())
    except OSError as error:
        raise InvalidInputError(f"{shown(file.name)} can't be read: {error.strerror}") from error


def changes_of_files(old: Sequence[ArtifactFile], new: Sequence[ArtifactFile]) -> Changes:
    """Compare two folders of anything: a file is known by its path, a single file by being the only one."""
    if len(old) == len(new) == 1:
        old = [ArtifactFile(new[0].path, old[0].size, old[0].sha256)]
    before, after = ({file.path: file for file in sorted(files, key=lambda f: f.path)} for files in (old, new))
    added = [after[path] for path in after if path not in before]
    removed = [before[path] for path in before if path not in after]
    changed = [(before[p], after[p]) for p in after if p in before and before[p].sha256 != after[p].sha256]
    return Changes(
        len(added),
        len(removed),
        len(changed),
        tuple(as_json(file) for file in added[:EXAMPLES]),
        tuple(as_json(file) for file in removed[:EXAMPLES]),
        tuple((as_json(was), as_json(now)) for was, now in changed[:EXAMPLES]),
    )


def difference(
    left: DatasetVersion, schema: Mapping[str, str] | None, key: Sequence[str], changes: Changes | None, right: str
) -> DatasetDiff:
    """Return how a version differs from what came before, and what its number has to say of it.

    Args:
        left: The version before.
        schema: The columns and types after; None for a folder of anything.
        key: The key after.
        changes: How the rows differ; None where they can't be compared.
        right: How the version after is called.
    """
    old, new = left.schema or {}, schema or {}
    added = {name: type_ for name, type_ in new.items() if name not in old}
    removed = {name: type_ for name, type_ in old.items() if name not in new}
    retyped = {name: (old[name], new[name]) for name in new if name in old and old[name] != new[name]}
    bump = None
    if changes is None or added or removed or retyped:
        bump = "major"
    elif changes.changed or changes.removed or tuple(key) != left.key:
        bump = "patch"
    elif changes.added:
        bump = "minor"
    return DatasetDiff(
        left=left.reference,
        right=right,
        bump=bump,
        key=tuple(key),
        added=changes.added if changes else None,
        removed=changes.removed if changes else None,
        changed=changes.changed if changes else None,
        columns_added=added,
        columns_removed=removed,
        columns_retyped=retyped,
        added_examples=changes.added_examples if changes else (),
        removed_examples=changes.removed_examples if changes else (),
        changed_examples=changes.changed_examples if changes else (),
    )


_KEPT = (
    "columns_added", "columns_removed", "columns_retyped", "added_examples", "removed_examples", "changed_examples"
)  # fmt: skip


def as_kept(found: DatasetDiff) -> str:
    """Return the part of a difference that is kept as JSON: columns and examples."""
    return json.dumps({name: as_json(getattr(found, name)) for name in _KEPT}, ensure_ascii=False)


def kept_difference(left: DatasetVersion, right: DatasetVersion) -> DatasetDiff:
    """Return the difference that was found when a version was added after another."""
    kept: Mapping[str, Any] = right.changes or {}
    changes = None
    if right.added is not None and right.removed is not None and right.changed is not None:
        examples = [kept.get(name, ()) for name in _KEPT[3:]]
        pairs = tuple((was, now) for was, now in examples[2])
        changes = Changes(right.added, right.removed, right.changed, tuple(examples[0]), tuple(examples[1]), pairs)
    return difference(left, right.schema, right.key, changes, right.reference)


def sentence(found: DatasetDiff) -> str:
    """Return a difference in a few words, such as `12 rows added, 3 changed; columns added: wind`."""
    counts = [f"{n:,} {verb}" for verb in ("added", "removed", "changed") if (n := getattr(found, verb))]
    parts = [", ".join(counts)] if counts else []
    for what in ("added", "removed", "retyped"):
        if names := list(getattr(found, f"columns_{what}")):
            shortened = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            parts.append(f"columns {what}: {shortened}")
    return "; ".join(parts) or "the key is another"
