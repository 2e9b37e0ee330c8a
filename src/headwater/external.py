"""Artifacts that live outside the lake: what reference is kept, and how the file is fetched and checked."""

from __future__ import annotations

import contextlib
import io
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from headwater.artifacts import Wanted
from headwater.errors import IntegrityError, InvalidInputError, LakeError
from headwater.lake.base import CHUNK
from headwater.lake.objects import disk_errors
from headwater.model import ArtifactFile
from headwater.names import shown

__all__ = ["External"]


@dataclass(frozen=True, slots=True)
class External:
    """A reference to one file outside the lake."""

    url: str
    sha256: str

    SCHEMES = ("file", "s3", "https", "http", "oci")

    @classmethod
    def parse(cls, url: str, digest: str) -> External:
        """Check a URL and its digest.

        Raises:
            InvalidInputError: The scheme is unknown, the URL holds a password, or the digest is not a sha256.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in cls.SCHEMES:
            raise InvalidInputError(
                f"not a URL that can be kept: {shown(url)}", hint=f"use one of {', '.join(cls.SCHEMES)}"
            )
        if parts.password is not None:
            raise InvalidInputError("the URL holds a password", hint="leave credentials to the environment")
        digest = digest.lower().removeprefix("sha256:")
        if len(digest) != 64 or any(c not in "0123456789abcdef" for c in digest):
            raise InvalidInputError(f"not a sha256: {shown(digest)}", hint="give 64 hex digits with --sha256")
        return cls(url, digest)

    @property
    def name(self) -> str:
        """The file's name: the last part of the URL's path."""
        return Path(urllib.parse.unquote(urllib.parse.urlsplit(self.url).path)).name or "artifact"

    def open(self) -> BinaryIO:
        """Open the file where it lives.

        Raises:
            LakeError: It can't be fetched from here.
        """
        scheme = urllib.parse.urlsplit(self.url).scheme
        try:
            if scheme == "file":
                return open(urllib.request.url2pathname(urllib.parse.urlsplit(self.url).path), "rb")
            if scheme in ("http", "https"):
                return urllib.request.urlopen(self.url, timeout=60)  # type: ignore[no-any-return]
            if scheme == "s3":
                return self._open_s3()
        except (OSError, urllib.error.URLError, ValueError) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
            raise LakeError(f"{self.url} can't be fetched: {reason}", hint="check the URL") from error
        raise LakeError(f"{scheme}: URLs can't be fetched by Headwater", hint=f"fetch {self.url} with its own tool")

    def _open_s3(self) -> BinaryIO:
        from pyarrow import fs

        bucket, path = fs.FileSystem.from_uri(self.url)
        return bucket.open_input_stream(path)  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def fetched(self) -> Iterator[Wanted]:
        """Fetch the file into a temporary one, check it, and hold it as an artifact of one file.

        Raises:
            IntegrityError: It is not the file of that sha256.
            LakeError: It can't be fetched from here.
        """
        digest, size = sha256(), 0
        with tempfile.TemporaryDirectory(prefix="headwater-") as folder:
            kept = Path(folder) / "artifact"
            with self.open() as stream, disk_errors(kept), open(kept, "wb") as out:
                while chunk := stream.read(CHUNK):
                    digest.update(chunk)
                    size += len(chunk)
                    out.write(chunk)
            if digest.hexdigest() != self.sha256:
                raise IntegrityError(
                    f"{self.url} is not the file that was registered: its sha256 is {digest.hexdigest()}",
                    hint="it was changed where it lives",
                )
            files = [ArtifactFile(self.name, size, self.sha256)]
            yield Wanted(self.url, files, lambda _: io.BufferedReader(io.FileIO(kept)))
