"""What is recorded of the process at hand: code, environment, command line, seeds; as registration and runs keep it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwater import environment, source
from headwater.context import Context
from headwater.errors import NotFoundError
from headwater.names import shown
from headwater.transaction import Transaction

__all__ = ["code_of", "command_line", "folder_of", "keep_code", "keep_environment", "missing", "seeds"]

_SEED = re.compile(r"-?\d{1,20}|random", re.ASCII)


def code_of(
    folder: str | os.PathLike[str] | None, context: Context, made: str | os.PathLike[str] | None = None
) -> source.Code | None:
    """Return the state of the repository that holds a folder, by default the current one; None where there is none.

    Args:
        folder: The folder.
        context: What is worked with; its lake is no code, wherever it lies.
        made: What is being registered, which is no code either.

    Raises:
        NotFoundError: There is no such folder.
    """
    if folder is not None and not os.path.exists(folder):
        raise NotFoundError(f"there is no folder {shown(os.fspath(folder))} with the code")
    lake = context.lake.url
    outputs = [each for each in (made, lake if os.path.isdir(lake) else None) if each is not None]
    return source.capture(folder if folder is not None else os.getcwd(), outputs=outputs)


def missing(state: source.Code | None, command: list[str] | None) -> list[str]:
    """Return what a run in the current folder can't be reproduced without, in sentences."""
    found = source.missing(state, command=command, folder=os.getcwd())
    return [*found, *([source.NO_COMMAND] if command is None else [])]


def keep_code(tx: Transaction, state: source.Code | None) -> dict[str, Any] | None:
    """Put what was not committed into the lake, and return the value of a column `code`."""
    if state is None:
        return None
    if state.patch and state.patch_digest:
        tx.put(f"patches/{state.patch_digest[-2:]}/{state.patch_digest}.patch", state.patch)
    return {
        "repository": state.repository,
        "commit": state.commit,
        "branch": state.branch,
        "tags": list(state.tags),
        "dirty": state.dirty,
        "patch": state.patch_digest,
        "folder": state.folder,
    }


def keep_environment(tx: Transaction, context: Context) -> dict[str, Any]:
    """Put the list of installed packages into the lake unless it is there; return the value of a column."""
    found = environment.capture()
    path = f"environments/{found.digest[-2:]}/{found.digest}.txt"
    known = context.folds.known_objects(context.branch)
    if path not in known:
        try:
            context.lake.stat(tx.fold.commit, path)
            known.add(path)
        except NotFoundError:
            tx.put(path, found.packages)
    return {"python": found.python, "platform": found.platform, "packages": found.digest}


def folder_of(state: source.Code | None, code: str | os.PathLike[str] | None) -> str:
    """Return the current folder as seen from the root of the code's repository, or absolute where it is outside."""
    here = os.path.realpath(os.getcwd())
    if state is None:
        return here
    start = os.path.realpath(code if code is not None else here)
    root = os.path.normpath(os.path.join(start, *(".." for part in Path(state.folder).parts if part != ".")))
    return os.path.relpath(here, root) if os.path.commonpath([here, root]) == root else here


def command_line() -> list[str] | None:
    """Return the command line of this process, program first; None in a notebook or at a prompt.

    The interpreter is `python`, wherever it lies, and a program of its environment goes by its name, so that the
    command can be run elsewhere.
    """
    words = list(sys.orig_argv)
    if not words or hasattr(sys, "ps1") or "ipykernel" in sys.modules or not sys.argv or sys.argv[0] in ("", "-"):
        return None
    words[0] = "python" if os.path.basename(words[0]).startswith("python") else os.path.basename(words[0])
    at = next((at for at, word in enumerate(words[1:], 1) if word == sys.argv[0]), None)
    if at is not None and os.path.isabs(words[at]):
        here, given = os.getcwd(), words[at]
        if os.path.dirname(given) == os.path.join(sys.prefix, "bin"):
            return [os.path.basename(given), *words[at + 1 :]]
        if os.path.commonpath([here, given]) == here:
            words[at] = os.path.relpath(given, here)
    return words


def seeds(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of the environment that seed random numbers.

    Those are `PYTHONHASHSEED` and all whose name has SEED in it and whose value is a number: a seed phrase is a secret.
    """
    found = os.environ if environ is None else environ
    return {name: value for name, value in sorted(found.items()) if "SEED" in name.upper() and _SEED.fullmatch(value)}
