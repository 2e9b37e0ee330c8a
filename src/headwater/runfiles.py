"""Files that a run keeps in the lake: put them there, list them, fetch them; knows no metrics.

An artifact of a run is an event of kind `artifact`: subject the run, key the artifact's name, value its folder in the
lake and its files as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from headwater import artifacts
from headwater.artifacts import Wanted
from headwater.context import Context
from headwater.errors import InvalidInputError, NotFoundError
from headwater.ids import new_id
from headwater.model import ArtifactFile
from headwater.names import check_key, shown
from headwater.runinfo import find
from headwater.state import Fold
from headwater.transaction import Transaction, Upload

__all__ = ["RunFiles"]

_KIND = "artifact"


class RunFiles:
    """The service for the artifacts of runs.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def log(self, reference: str, path: str | os.PathLike[str], name: str | None = None) -> list[ArtifactFile]:
        """Keep a file or folder with a run and return its files. See `Run.log_artifact`."""
        self._context.check_writable()
        artifacts.check_outside(self._context.lake, path)
        found, single = artifacts.scan(path)
        called = _checked(name if name is not None else Path(os.path.abspath(path)).name)
        with self._context.reading() as fold:
            run_id = find(fold, reference)
        folder = artifacts.fold_path("run_artifacts", new_id())
        files: list[ArtifactFile] = []

        def upload(put: Upload) -> None:
            files[:] = artifacts.upload(found, folder, put)

        def work(tx: Transaction) -> None:
            listed = [{"path": each.path, "size": each.size, "sha256": each.sha256} for each in files]
            value = {"folder": folder, "single": single, "files": listed}
            tx.event(run_id, _KIND, json.dumps(value, ensure_ascii=False), key=called)
            tx.subject = f"run:{run_id}"
            tx.message = f"run {run_id}: artifact {called}"

        self._context.write("run", work, upload)
        return [ArtifactFile(_shown_path(called, single, each.path), each.size, each.sha256) for each in files]

    def list(self, reference: str) -> list[ArtifactFile]:
        """Return the files of a run's artifacts, by path."""
        with self._context.reading() as fold:
            return sorted((file for file, _ in _stored(fold, find(fold, reference))), key=lambda file: file.path)

    def pull(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a run's artifacts into a folder, every digest checked.

        Raises:
            NotFoundError: It has none.
        """
        context = self._context
        with context.reading() as fold:
            run_id = find(fold, reference)
            stored = {file.path: (file, where) for file, where in _stored(fold, run_id)}
            commit = fold.commit
        if not stored:
            raise NotFoundError(f"run {run_id} has no artifacts", hint="`Run.log_artifact` keeps files with a run")
        artifacts.check_destination(context.lake, dest)
        files = [file for file, _ in stored.values()]
        wanted = Wanted(f"run {run_id}", files, lambda path: context.lake.open(commit, stored[path][1]))
        return artifacts.write(wanted, dest, force=force, known=partial(_known, files))


def _known(files: Iterable[ArtifactFile]) -> list[dict[str, str]]:
    return [{file.path: file.sha256 for file in files}]


def _checked(name: str) -> str:
    check_key(name, "artifact")
    if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidInputError(f"not a name for an artifact: {shown(name)}", hint="give a plain name, such as plots")
    return name


def _shown_path(name: str, single: bool, path: str) -> str:
    return name if single else f"{name}/{path}"


def _stored(fold: Fold, run_id: str) -> list[tuple[ArtifactFile, str]]:
    """Return each file with its path under the run, and where it lies in the lake."""
    rows = fold.rows(
        "SELECT key, value FROM events WHERE standing AND subject = ? AND kind = ? ORDER BY event_id", run_id, _KIND
    )
    found: list[tuple[ArtifactFile, str]] = []
    for key, value in rows:
        kept: dict[str, Any] = json.loads(value)
        for each in kept["files"]:
            path = _shown_path(key, kept["single"], each["path"])
            found.append((ArtifactFile(path, each["size"], each["sha256"]), kept["folder"] + each["path"]))
    return found
