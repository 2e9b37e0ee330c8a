"""From a URL to a lake: the one place that knows which adapters there are, and imports the one that is asked for."""

from __future__ import annotations

import urllib.parse
from pathlib import Path

from headwater.errors import InvalidInputError
from headwater.lake.base import Lake

__all__ = ["can_be_made", "connect", "create", "folder_of", "is_remote", "is_same"]


def is_remote(url: str) -> bool:
    """Return whether a URL names a lakeFS repository."""
    return url.startswith(("lakefs://", "lakefss://"))


def is_same(left: str, right: str) -> bool:
    """Return whether two URLs name one lake."""
    if is_remote(left) != is_remote(right):
        return False
    if is_remote(left):
        from headwater.lake.lakefs_address import Address

        one, other = Address.parse(left), Address.parse(right)
        return (one.host, one.port, one.repository) == (other.host, other.port, other.repository)
    return folder_of(left).resolve() == folder_of(right).resolve()


def can_be_made(url: str) -> bool:
    """Return whether a URL names a folder that is missing, or empty, where a lake can be made."""
    if is_remote(url) or (":" in url and not url.startswith("file:")):
        return False
    folder = folder_of(url)
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def connect(url: str) -> Lake:
    """Open the lake at a URL.

    Args:
        url: A folder, `file:///...`, or `lakefs://host[:port]/repository` (`lakefss://` with TLS).

    Raises:
        LakeError: There is none, or it can't be used.
        InvalidInputError: It is not such a URL.
    """
    if is_remote(url):
        from headwater.lake.lakefs import LakeFS

        return LakeFS.connect(url)
    from headwater.lake.local import LocalLake

    return LocalLake.connect(folder_of(url))


def create(url: str, *, storage_namespace: str | None = None) -> Lake:
    """Make the lake at a URL, or join the lakeFS repository that is there.

    Raises:
        AlreadyExistsError: The folder holds a lake.
        LakeError: It can't be made.
        InvalidInputError: It is not such a URL.
    """
    if is_remote(url):
        from headwater.lake.lakefs import LakeFS

        return LakeFS.create(url, storage_namespace=storage_namespace)
    from headwater.lake.local import LocalLake

    if storage_namespace is not None:
        raise InvalidInputError("a storage namespace is for lakeFS", hint="leave it out for a lake in a folder")
    return LocalLake.create(folder_of(url))


def folder_of(url: str) -> Path:
    """Return the folder that the URL of an embedded lake names.

    Raises:
        InvalidInputError: It names none.
    """
    if "://" not in url and not url.startswith("file:"):
        return Path(url)
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise InvalidInputError(
            f"not the URL of a lake: {url!r}", hint="use a folder, file:///..., or lakefs://host:port/repository"
        )
    return Path(urllib.parse.unquote(parts.path))
