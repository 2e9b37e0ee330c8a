"""Registered models and their versions: find, list, fetch and verify them; writes nothing to the lake."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headwater import artifacts
from headwater.artifacts import Wanted
from headwater.context import Context
from headwater.errors import InvalidInputError, NotFoundError
from headwater.genuine import check_genuine
from headwater.lake import refs
from headwater.lookup import (
    HIDDEN,
    VERSION_COLUMNS,
    build_model,
    build_version,
    files_of,
    is_hidden,
    known_files,
    labelled,
    labels_by_version,
    labels_of,
    model_id_of,
    models_named,
    name_of,
    version_row,
)
from headwater.model import ArtifactFile, Metric, Model, ModelVersion
from headwater.names import check_limit, parse_model, quote
from headwater.state import Fold
from headwater.tombstones import visible

__all__ = ["Versions"]

_KEPT_VERSIONS = 100_000
_SINGLY = 500
"""Up to so many versions are looked up one by one rather than with all others of their model."""


class Versions:
    """The service for registered models and versions.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._built: tuple[str, dict[str, ModelVersion]] = ("", {})

    # -- reading ------------------------------------------------------------------------------------------------
    def get(self, reference: str, owner: Any = None) -> ModelVersion:
        """Return one version."""
        ref = parse_model(reference)
        context = self._context
        # Whether what is signed has force is told by all of history.
        if context.commit is None and not context.writer.signed and context.folds.is_cold(context.branch):
            from headwater.quick import small_fold

            small = small_fold(context.lake, context.lake.head(context.branch), ref)
            if small is not None:
                # What is hidden, or not there, is told by a state that has a log.
                with contextlib.suppress(NotFoundError):
                    row = version_row(small, ref)
                    return labelled(build_version(row, ref.name, owner), labels_of(small, row[1], row[0]))
        with context.reading() as fold:
            row = version_row(fold, ref)
            return labelled(build_version(row, ref.name, owner), labels_of(fold, row[1], row[0]), signed=fold.signed)

    def list(
        self, name: str, owner: Any = None, *, tags: Mapping[str, str], limit: int | None = None
    ) -> builtins.list[ModelVersion]:
        """Return a model's versions that are not deleted, newest first."""
        check_limit(limit)
        ref = parse_model(name)
        if ref.version is not None or ref.alias is not None:
            raise InvalidInputError(f"{ref} is one version", hint=f"name the model: {quote(ref.name)}")
        with self._context.reading() as fold:
            model_id = self._model_id(fold, ref.name)
            hidden = {
                subject
                for (subject,) in fold.rows(
                    "SELECT subject FROM events WHERE standing AND kind = 'tombstone' AND value = ?", HIDDEN
                )
            }
            ids = [
                version_id
                for (version_id,) in fold.rows(
                    "SELECT version_id FROM versions WHERE model_id = ? ORDER BY version DESC", model_id
                )
                if version_id not in hidden
            ]
            if not tags:
                ids = ids[:limit]
            built = self._built_of(fold, model_id, ref.name, ids, owner)
            labels = labels_by_version(fold, model_id)
            signed = fold.signed
            found = [labelled(built[each], labels.get(each, []), signed=signed) for each in ids]
            if tags:
                found = [version for version in found if all(version.tags.get(k) == v for k, v in tags.items())]
            return found[:limit]

    def _built_of(
        self, fold: Fold, model_id: str, name: str, ids: builtins.list[str], owner: Any
    ) -> dict[str, ModelVersion]:
        """Return versions as they were registered, by ID; what was built once is kept, since it never changes."""
        if self._built[0] != name or len(self._built[1]) > _KEPT_VERSIONS:
            self._built = (name, {})
        built = self._built[1]
        missing = [each for each in ids if each not in built]
        if len(missing) > _SINGLY:
            rows = fold.rows(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE model_id = ?", model_id)
        else:
            of_one = f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?"
            rows = [fold.one(of_one, each) for each in missing]
        parsed = json.loads(f"[{','.join(row[4] for row in rows)}]")
        for row, data in zip(rows, parsed, strict=True):
            built[row[0]] = build_version(row, name, owner, data)
        return built

    def models(self) -> builtins.list[Model]:
        """Return the models that are not deleted, by name."""
        with self._context.reading() as fold:
            found = []
            for (model_id,) in fold.rows("SELECT model_id FROM models"):
                if not is_hidden(fold, model_id):
                    found.append(build_model(fold, model_id))
            return sorted(found, key=lambda model: model.name)

    def first_models(self, limit: int) -> tuple[builtins.list[Model], int]:
        """Return the first models by name that are not deleted, and how many there are."""
        with self._context.reading() as fold:
            named = fold.rows(
                "SELECT subject, min(value) FROM events e WHERE standing AND kind = 'name' AND NOT EXISTS (SELECT 1"
                " FROM events t WHERE t.standing AND t.subject = e.subject AND t.kind = 'tombstone' AND t.value = ?)"
                " GROUP BY subject ORDER BY 2, 1",
                HIDDEN,
            )
            return [build_model(fold, model_id) for model_id, _ in named[:limit]], len(named)

    def model(self, name: str) -> Model:
        """Return one model."""
        with self._context.reading() as fold:
            return build_model(fold, self._model_id(fold, parse_model(name).name))

    def _model_id(self, fold: Fold, name: str) -> str:
        """Return the ID of a model by its name; who gave a ref instead is told what that is."""
        try:
            return model_id_of(fold, name)
        except NotFoundError as error:
            meant = None if models_named(fold, name) else refs.mistaken(self._context.folds.resolve, name)
            if meant is None:
                raise
            raise NotFoundError(f"{error.message}: that is {meant[0]}", hint=meant[1]) from None

    def files(self, reference: str) -> builtins.list[ArtifactFile]:
        """Return a version's files."""
        with self._context.reading() as fold:
            row = version_row(fold, parse_model(reference))
            return files_of(fold, row[0])

    def metrics(self, reference: str) -> builtins.list[Metric]:
        """Return the newest value of every metric and slice of a version, by key and slice."""
        from headwater import points

        with self._context.reading() as fold:
            version_id = version_row(fold, parse_model(reference))[0]
            return points.newest(self._context.lake, fold, {"version_id": (version_id, version_id)})

    def trained_on(self, reference: str) -> builtins.list[str]:
        """Return the dataset versions that a version was trained on, as references, in order of name."""
        with self._context.reading() as fold:
            version_id = version_row(fold, parse_model(reference))[0]
            rows = fold.rows(
                "SELECT DISTINCT d.name, d.semver FROM lineage l JOIN datasets d ON d.dataset_id = substr(l.source, 9)"
                " WHERE l.target = ? AND l.relation = 'trained' AND l.source LIKE 'dataset:%'"
                f" AND {visible('l.tx')}",
                f"model:{version_id}",
            )
        return sorted(f"{quote(name)}@{semver}" for name, semver in rows)

    def by_ids(self, version_ids: builtins.list[str], owner: Any = None) -> builtins.list[ModelVersion]:
        """Return versions by their IDs."""
        with self._context.reading() as fold:
            found = []
            for each in version_ids:
                row = fold.one(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?", each)
                version = build_version(row, name_of(fold, row[1]), owner)
                found.append(labelled(version, labels_of(fold, row[1], each), signed=fold.signed))
            return found

    def registered(self, name: str, version_id: str, owner: Any = None) -> ModelVersion:
        """Return a version that has just landed, whatever others did to it or to its model since."""
        with self._context.reading() as fold:
            row = fold.one(f"SELECT {VERSION_COLUMNS} FROM versions v WHERE version_id = ?", version_id)
            return labelled(build_version(row, name, owner), labels_of(fold, row[1], version_id), signed=fold.signed)

    # -- fetching -----------------------------------------------------------------------------------------------
    def pull(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a version's files into a folder. See `Registry.pull`."""
        ref = parse_model(reference)
        with self._context.reading() as fold:
            row = version_row(fold, ref)
            check_genuine(fold, row[0], reference)
            commit = fold.commit
            files = files_of(fold, row[0])
            model_id = row[1]
        data = json.loads(row[4])
        artifacts.check_destination(self._context.lake, dest)

        def known() -> builtins.list[dict[str, str]]:
            with self._context.reading() as fold:
                return known_files(fold, model_id)

        if data["external_url"] is not None:
            from headwater.external import External

            with External(data["external_url"], data["digest"]).fetched() as wanted:
                fetched = {file.path: file.sha256 for file in wanted.files}
                return artifacts.write(wanted, dest, force=force, known=lambda: [*known(), fetched])
        artifacts.check_in_lake(self._context.lake, commit, data["path"], reference, files)
        wanted = Wanted(reference, files, lambda path: self._context.lake.open(commit, data["path"] + path))
        return artifacts.write(wanted, dest, force=force, known=known)

    def verify(self, reference: str) -> None:
        """Check every byte of one version.

        Raises:
            IntegrityError: Something is missing, altered or too many.
        """
        with self._context.reading() as fold:
            row = version_row(fold, parse_model(reference), deleted=True)
            check_genuine(fold, row[0], reference)
            commit = fold.commit
            files = files_of(fold, row[0])
        data = json.loads(row[4])
        if data["external_url"] is not None:
            from headwater.external import External

            with External(data["external_url"], data["digest"]).fetched():
                return
        artifacts.check_in_lake(self._context.lake, commit, data["path"], reference, files)
        wanted = Wanted(reference, files, lambda path: self._context.lake.open(commit, data["path"] + path))
        for file in files:
            artifacts.copy(wanted, file, None)

    def all_references(self) -> builtins.list[str]:
        """Return every version that is not deleted, as references."""
        with self._context.reading() as fold:
            rows = fold.rows("SELECT version_id, model_id, version FROM versions ORDER BY model_id, version")
            return [
                f"{quote(name_of(fold, model_id))}/{number}"
                for version_id, model_id, number in rows
                if not is_hidden(fold, version_id) and not is_hidden(fold, model_id)
            ]
