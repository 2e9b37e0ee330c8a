"""The scratch lake of a reproduction: holds what went in, takes in what comes out; the real lake is never written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from headwater import artifacts, marker
from headwater.context import Context
from headwater.errors import IntegrityError
from headwater.ids import new_id, now_micros
from headwater.lake import connect as lakes
from headwater.lookup import models_named
from headwater.model import ArtifactFile
from headwater.names import parse_model
from headwater.recipe import Input, Measured, Recipe, measured
from headwater.schema import TABLES
from headwater.state import Folds
from headwater.transaction import Transaction, Upload, Writer

__all__ = ["Scratch"]

_OWN = ("tx", "recorded_at", "actor")


class Scratch:
    """An embedded lake for one reproduction, made where there is none; use it in a `with`.

    Args:
        place: Its folder.
        actor: Who reproduces.
    """

    def __init__(self, place: Path, actor: str) -> None:
        self._lake = lakes.create(str(place))
        folds = Folds(self._lake)
        branch = self._lake.default_branch
        self._context = Context(self._lake, folds, Writer(self._lake, folds), branch, None, branch, actor)
        self.url = self._lake.url
        self.run_id = new_id()
        self._before: set[str] = set()

    def __enter__(self) -> Scratch:
        return self

    def __exit__(self, *exception: object) -> None:
        self._context.writer.close()
        self._context.folds.close()
        self._lake.close()

    def fill(self, recipe: Recipe, folders: Mapping[str, Path]) -> None:
        """Put the inputs there under the names, numbers and IDs that they have, and a run for the command to find.

        Args:
            recipe: What was recorded.
            folders: Where the inputs' files are now, by ID.

        Raises:
            IntegrityError: A file is not what was recorded.
        """
        marker.make(self._context)
        inputs = [*recipe.datasets, *([recipe.base] if recipe.base is not None and recipe.base.row["path"] else [])]
        paths = {
            each.id: artifacts.fold_path("datasets" if each in recipe.datasets else "artifacts", each.id)
            for each in inputs
        }

        def uploads(put: Upload) -> None:
            for each in inputs:
                found, _ = artifacts.scan(folders[each.id])
                files = artifacts.upload(found, paths[each.id], put)
                if _listing(files) != {file["path"]: file["sha256"] for file in each.row["files"]}:
                    raise IntegrityError(f"{each.reference} is not what was recorded", hint="reproduce it anew")

        def work(tx: Transaction) -> None:
            for each in recipe.datasets:
                tx.claim(f"semver/{each.row['name']}/{each.row['semver']}", each.id)
                tx.append("datasets", **_copied("datasets", each, path=paths[each.id], data_commit=None))
            if recipe.base is not None:
                path = paths.get(recipe.base.id)
                name = parse_model(recipe.base.reference).name
                model_id = tx.claim(f"name/model/{name}", recipe.base.row["model_id"])
                tx.append("models", model_id=model_id)
                tx.event(model_id, "name", name)
                tx.append("model_versions", **_copied("model_versions", recipe.base, path=path, base_version_id=None))
                self._before.add(recipe.base.id)
            tx.append(
                "runs",
                run_id=self.run_id,
                name=recipe.version.reference,
                experiment="reproduction",
                command=list(recipe.command),
                folder=recipe.folder,
                code=dict(recipe.code),
                environment=dict(recipe.environment) if recipe.environment else None,
                seeds=dict(recipe.seeds),
                started_at=now_micros(),
                params=dict(recipe.params),
                tags={},
                missing=list(recipe.missing),
            )
            tx.subject = recipe.version.reference
            tx.message = f"reproduce {recipe.version.reference}"

        self._context.write("reproduce", work, uploads if inputs else None)

    def outcome(self, recipe: Recipe) -> tuple[str | None, Measured]:
        """Return the digest of the version that the command made again, if it did, and the metrics that it logged."""
        with self._context.reading() as fold:
            made = []
            for model_id in models_named(fold, recipe.version.name):
                rows = fold.rows("SELECT version_id, row FROM versions WHERE model_id = ? ORDER BY version", model_id)
                made += [(each, json.loads(text)) for each, text in rows if each not in self._before]
            if made:
                same = [each for each in made if each[1]["digest"] == recipe.version.digest]
                version_id, row = same[0] if same else made[min(recipe.position, len(made) - 1)]
                return row["digest"], measured(self._context, fold, [version_id], [row["run_id"] or self.run_id])
            runs = [each for (each,) in fold.rows("SELECT run_id FROM runs ORDER BY run_id")]
            return None, measured(self._context, fold, [], runs)


def _listing(files: Iterable[ArtifactFile]) -> dict[str, str]:
    return {file.path: file.sha256 for file in files}


def _copied(table: str, what: Input, **changes: object) -> dict[str, Any]:
    """Return a row for another lake: what is written anew by every transaction is left out."""
    row = {name: what.row.get(name) for name in TABLES[table].names if name not in _OWN}
    return {**row, **changes}
