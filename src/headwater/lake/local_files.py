"""What an embedded lake asks of the machine's file systems: their kind, a place for its cache, whole files."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from headwater.ids import new_id
from headwater.lake.objects import disk_errors

__all__ = ["NETWORK_FILE_SYSTEMS", "cache_elsewhere", "file_system", "write_beside"]

NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs", "glusterfs"}
)


def cache_elsewhere(root: Path) -> Path:
    """Return a folder for the cache of a lake whose own folder can't be written."""
    name = sha256(os.fsencode(root)).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / f"headwater-{os.getuid()}-{name}"
    with contextlib.suppress(FileExistsError):
        place.mkdir(mode=0o700)
    made = os.lstat(place)
    # What is folded there is believed, so nobody else may have put it there.
    if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.getuid() or made.st_mode & 0o077:
        return Path(tempfile.mkdtemp(prefix="headwater-"))
    return place


def write_beside(place: Path, body: bytes) -> None:
    """Write a file of the cache so that whoever sees it sees all of it."""
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(f".{new_id()}")
        temporary.write_bytes(body)
        temporary.chmod(0o444)
        temporary.rename(place)


def file_system(path: Path) -> str:
    """Return the type of the file system that holds a path, or an empty text where nobody tells."""
    best, kind = "", ""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            mount = left.split()[4].encode().decode("unicode_escape")
            if len(mount) >= len(best) and path.resolve().is_relative_to(mount):
                best, kind = mount, right.split()[0]
    return kind
