"""Settings: which lake, which branch, who acts; argument, then environment, then file. Opens no lake."""

from __future__ import annotations

import getpass
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from headwater.lake import connect
from headwater.lake.objects import disk_errors

__all__ = ["FOLDER", "REPRODUCE", "Settings", "current", "find", "followed", "load", "switch", "write"]

FOLDER = ".headwater"
REPRODUCE = "HEADWATER_REPRODUCE"
"""Names the scratch lake of a reproduction, which then stands for whatever lake, branch or ref is asked for."""

_FILE = "config.toml"
_KEYS = frozenset({"lake", "branch", "actor"})
_BRANCH = re.compile(
    r"""^([ \t]*(?:branch|"branch"|'branch')[ \t]*=[ \t]*)(?:"(?!"")(?:[^"\\\n]|\\.)*"|'(?!'')[^'\n]*')""", re.MULTILINE
)
"""The line of the file that names the branch, up to what may follow the name."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the lake is, the current branch, and who acts. `branch` is None where the lake's default is meant."""

    lake: str
    branch: str | None
    actor: str


def find(start: Path) -> Path | None:
    """Return the nearest `.headwater/config.toml`, going up from a folder, or None."""
    for folder in (start, *start.parents):
        candidate = folder / FOLDER / _FILE
        if candidate.is_file():
            return candidate
    return None


def load(
    *,
    lake: str | None = None,
    branch: str | None = None,
    actor: str | None = None,
    environ: Mapping[str, str] = os.environ,
    start: Path | None = None,
) -> Settings:
    """Return the settings that hold here.

    Args:
        lake: URL given by the caller, before `$HEADWATER_LAKE` and the file. While a reproduction runs the recorded
            command, `$HEADWATER_REPRODUCE` goes before all of them.
        branch: Branch given by the caller, before `$HEADWATER_BRANCH` and the file.
        actor: Who acts, before `$HEADWATER_ACTOR`, the file, and the operating system's user.
        environ: The environment.
        start: The folder from which the file is looked for; the current one by default.

    Raises:
        NotFoundError: Nothing names a lake.
        InvalidInputError: The file is not what `headwater init` writes, or the actor is not printable.
    """
    if scratch := environ.get(REPRODUCE):
        # Code that is run again must not write to the lake that it is run from, however it names it.
        return Settings(scratch, None, environ.get("HEADWATER_ACTOR") or _user())
    path = find(Path.cwd() if start is None else start)
    kept = _read(path) if path is not None else {}
    named = _first(lake, environ.get("HEADWATER_LAKE"))
    url = followed(named) if named is not None else _located(kept.get("lake"), path)
    if url is None:
        raise NotFoundError("there is no lake here", hint="`headwater init` makes one; or name one with --lake URL")
    # A branch that a file names belongs to the lake that the file names.
    same = url == _located(kept.get("lake"), path)
    who = _first(actor, environ.get("HEADWATER_ACTOR"), kept.get("actor")) or _user()
    if not who or who != who.strip() or len(who) > 250 or not who.isprintable():
        raise InvalidInputError(
            f"not somebody's name: {who[:80]!r}",
            hint="give --actor 1 to 250 printable characters, without blanks around them",
        )
    return Settings(url, _first(branch, environ.get("HEADWATER_BRANCH"), kept.get("branch") if same else None), who)


def followed(url: str) -> str:
    """Return the URL of the lake that a project's folder names in its `config.toml`; any other URL as it is.

    Raises:
        InvalidInputError: The file is not what `headwater init` writes.
    """
    if connect.is_remote(url) or (":" in url and not url.startswith("file:")):
        return url
    folder = Path(os.path.abspath(connect.folder_of(url)))
    path = folder / FOLDER / _FILE
    try:
        if (folder / "lake.db").exists() or not path.is_file():
            return url
    except (OSError, ValueError):
        return url
    # What that file names is a lake, and is not followed again: there is no going round in circles.
    return _located(_read(path).get("lake"), path) or url


def _first(*values: str | None) -> str | None:
    return next((value for value in values if value is not None and value != ""), None)


def _located(url: str | None, path: Path | None) -> str | None:
    """Return a URL as seen from the file: a relative folder is relative to the file's folder."""
    if url is None or path is None or "://" in url:
        return url
    return str(path.parent / url)


def _read(path: Path) -> dict[str, str]:
    try:
        kept = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} can't be read: {error}", hint="mend it, or `init` anew") from error
    if not _KEYS.issuperset(kept) or not all(isinstance(value, str) for value in kept.values()):
        raise InvalidInputError(f"{path} has something in it that isn't ours", hint="it holds lake, branch and actor")
    return kept


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def write(folder: Path, *, lake: str, branch: str) -> Path:
    """Write `.headwater/config.toml` into a folder and return its path.

    Args:
        folder: The folder that `.headwater` goes into.
        lake: The lake's URL; a folder may be relative to `.headwater`.
        branch: The current branch.

    Raises:
        AlreadyExistsError: There is one.
    """
    path = folder / FOLDER / _FILE
    if path.exists():
        raise AlreadyExistsError(f"{path} is there already", hint="use it, or delete it first")
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{_FILE}.{os.getpid()}")
        temporary.write_text(f"lake = {_toml(lake)}\nbranch = {_toml(branch)}\n", encoding="utf-8")
        temporary.rename(path)
    return path


def current(url: str, *, start: Path | None = None) -> tuple[Path, str | None] | None:
    """Return the nearest `.headwater/config.toml` and the branch it names; None if it is not there, or not this lake's.

    Args:
        url: The lake that is in use.
        start: The folder from which the file is looked for; the current one by default.
    """
    path = find(Path.cwd() if start is None else start)
    if path is None:
        return None
    kept = _read(path)
    return (path, kept.get("branch")) if _located(kept.get("lake"), path) == url else None


def switch(path: Path, branch: str) -> None:
    """Write another branch into a `config.toml`; all else in it stays as it is.

    Raises:
        InvalidInputError: The file is written in a way that can't be kept.
        LakeError: It can't be written.
    """
    path = path.resolve()
    kept = _read(path)
    with disk_errors(path.parent):
        text = path.read_bytes().decode()
        changed, count = _BRANCH.subn(lambda found: found[1] + _toml(branch), text, count=1)
        if not count:
            end = "" if not text or text.endswith("\n") else "\n"
            changed = f"{text}{end}branch = {_toml(branch)}\n"
        try:
            right = tomllib.loads(changed) == {**kept, "branch": branch}
        except tomllib.TOMLDecodeError:
            right = False
        if not right:
            raise InvalidInputError(f"{path} is written in an unusual way", hint=f'write branch = "{branch}" into it')
        temporary = path.with_name(f".{_FILE}.{os.getpid()}")
        try:
            with temporary.open("wb") as out:
                out.write(changed.encode())
                out.flush()
                os.fsync(out.fileno())
            temporary.chmod(path.stat().st_mode & 0o7777)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _toml(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
