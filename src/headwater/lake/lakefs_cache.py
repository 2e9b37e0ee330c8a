"""Local copies of objects that never change, kept between processes; knows neither server nor lake."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO

from headwater.errors import LakeError
from headwater.lake.base import CHUNK

__all__ = ["FileCache"]


class FileCache:
    """Read-only files named by a key that stands for their content, for ever.

    A file lies at `<kind>/<2 digits>/<62 digits>/<size><suffix>`, the digits being its key's sha256: so a copy that
    somebody has cut short or added to is seen for what it is without a look inside.

    Args:
        folder: Where they lie; may be deleted at any time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, kind: str, key: str) -> Path | None:
        """Return the file of a key if there is one and its size is right."""
        place = self._place(kind, key)
        try:
            for name in os.listdir(place):
                if self.is_whole(place / name):
                    return place / name
                (place / name).unlink(missing_ok=True)
        except OSError:
            pass  # not there, or just being deleted by somebody
        return None

    def is_whole(self, path: Path) -> bool:
        """Tell whether a file that was found or stored is there still, in its size."""
        try:
            return path.stat().st_size == int(path.stem)
        except (OSError, ValueError):
            return False

    def path(self, kind: str, key: str, size: int, *, suffix: str = "") -> Path:
        """Return where the file of a key is, or will be."""
        return self._place(kind, key) / f"{size}{suffix}"

    def store(self, kind: str, key: str, source: RawIOBase | BinaryIO, *, suffix: str = "") -> Path:
        """Copy a stream to the file of a key, whole or not at all, and return the file.

        Raises:
            LakeError: The disk does not take it.
        """
        place = self._place(kind, key)
        with _disk(self.folder):
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=place.parent, prefix="part-")
            part = Path(name)
            try:
                with os.fdopen(handle, "wb") as target:
                    while chunk := source.read(CHUNK):
                        target.write(chunk)
                path = place / f"{part.stat().st_size}{suffix}"
                part.chmod(0o444)
                place.mkdir(exist_ok=True)
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
        return path

    def make_private(self) -> None:
        """Make the folder, readable for its owner alone: it may hold what the lake guards."""
        with _disk(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)

    def _place(self, kind: str, key: str) -> Path:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / kind / digest[:2] / digest[2:]


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LakeError(
            f"the cache in {folder} cannot be written: {error.strerror or error}",
            hint="free some space, or set XDG_CACHE_HOME to a folder that can be written",
        ) from error
