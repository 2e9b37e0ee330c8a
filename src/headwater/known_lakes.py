"""What this person's machine remembers of signed lakes, as `known_hosts` does: a lake is not lowered silently."""

from __future__ import annotations

import json
import os
from pathlib import Path

from headwater import keys
from headwater.errors import IntegrityError
from headwater.lake.objects import disk_errors
from headwater.trust import Root

__all__ = ["check", "path"]


def path() -> Path:
    """Return the file: beside the folder of keys."""
    return keys.folder().parent / "known_lakes.json"


def check(url: str, root: Root | None, *, remember: bool = True) -> None:
    """Make sure that a lake is the one that was at its URL before; remember a signed one that was not.

    Args:
        url: The lake's.
        root: What its trust begins with; None where it is not signed.
        remember: Whether one that is not known yet is noted.

    Raises:
        IntegrityError: It was signed and is not any more, or its trust begins with another key.
        LakeError: The file can't be written.
    """
    place = path()
    url = _real(url)
    known = {_real(each): what for each, what in _read(place).items()}
    said = known.get(url)
    if said is None and root is None:
        return
    mine = None if root is None else {"lake": root.lake, "root": root.public, "name": root.name}
    if said is None:
        if not remember:
            return
        with disk_errors(place.parent):
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{place.name}.{os.getpid()}.{os.urandom(4).hex()}")
            try:
                beside.write_text(json.dumps({**known, url: mine}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
                beside.replace(place)
            finally:
                beside.unlink(missing_ok=True)
    elif said != mine:
        now = "is not signed now" if mine is None else f"is signed by the key of {mine['name']} now, another lake's"
        raise IntegrityError(
            f"{url} was a lake signed by {said.get('name', 'somebody')}, and {now}",
            hint=f"ask who keeps it; if it was made anew on purpose, take its line out of {place}",
        )


def _real(url: str) -> str:
    """Return the one spelling of a URL: a folder may be called in many ways, through links too."""
    return url if "://" in url else os.path.realpath(url)


def _read(place: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{place} can't be read: {error}", hint="mend it, or delete it") from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise IntegrityError(f"{place} is not what was written", hint="mend it, or delete it")
    return found
