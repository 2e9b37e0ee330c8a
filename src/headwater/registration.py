"""Registering a model version: its bytes, row, metrics and lineage, all in one transaction."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from headwater import artifacts, capture, points, source
from headwater.context import Context
from headwater.datasets import Datasets
from headwater.errors import AlreadyExistsError, InvalidInputError
from headwater.external import External
from headwater.ids import new_id
from headwater.lookup import is_hidden, models_named, name_of, version_row
from headwater.model import ArtifactFile
from headwater.names import (
    as_number,
    as_texts,
    canonical_slice,
    check_key,
    check_name,
    check_text,
    parse_model,
    quote,
)
from headwater.runinfo import find as find_run
from headwater.state import Fold
from headwater.stored import inputs_of
from headwater.transaction import Transaction, Upload

__all__ = ["INPUT_SCHEMA", "Registration", "Slices", "ensure_model"]

INPUT_SCHEMA = "input_schema"
"""The param of a run that becomes the signature of the versions that it makes."""

Slices = Iterable[tuple[str, Mapping[str, object], float]]


class Registration:
    """The service that registers versions.

    Args:
        context: What to work with.
        datasets: The service that resolves the datasets that a version was made from.
    """

    def __init__(self, context: Context, datasets: Datasets) -> None:
        self._context = context
        self._datasets = datasets

    def register(
        self,
        name: str,
        path: str | os.PathLike[str] | None,
        *,
        external: tuple[str, str] | None = None,
        data: Iterable[str] = (),
        metrics: Mapping[str, float] | None = None,
        slices: Slices = (),
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        description: str | None = None,
        code: str | os.PathLike[str] | None = None,
        base: str | None = None,
        run: str | None = None,
    ) -> tuple[str, str]:
        """Register a version; return its model's name and its version_id. See `Registry.register`."""
        ref = parse_model(name)
        if ref.version is not None or ref.alias is not None:
            raise InvalidInputError(f"{ref} names a version", hint=f"register under {quote(ref.name)}")
        values = _Values(
            metrics={check_key(key, "metric"): as_number(key, value) for key, value in (metrics or {}).items()},
            slices=[(check_key(k, "metric"), canonical_slice(dict(s)), as_number(k, v)) for k, s, v in slices],
            params=as_texts(params, "param"),
            tags=as_texts(tags, "tag"),
            description=None if description is None else check_text(description, "description"),
        )
        if (path is None) == (external is None):
            raise InvalidInputError("give a path, or an external URL with its sha256", hint="one of the two")
        version_id = new_id()
        folder = artifacts.fold_path("artifacts", version_id)
        self._check_new_name(ref.name)
        run_id = self._run_of(run)
        # A run's code is what it was when it began, which is what has been running since.
        state = capture.code_of(code, self._context, path) if run_id is None or code is not None else None
        files: list[ArtifactFile] = []
        elsewhere: External | None = None
        single = True
        uploads = None
        if path is not None:
            artifacts.check_outside(self._context.lake, path)
            found, single = artifacts.scan(path)
            uploads = partial(_upload, found, folder, files)
        elif external is not None:
            elsewhere = External.parse(*external)

        def work(tx: Transaction) -> str:
            return self._register(
                tx,
                ref.name,
                values,
                state=state,
                data=list(data),
                base=base,
                run_id=run_id,
                row={
                    "version_id": version_id,
                    "path": folder if elsewhere is None else None,
                    "digest": elsewhere.sha256 if elsewhere else artifacts.digest_of(files, single=single),
                    "size": None if elsewhere else sum(file.size for file in files),
                    "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
                    "external_url": elsewhere.url if elsewhere else None,
                    "flavors": artifacts.flavors_of(files),
                },
            )

        return self._context.write("register", work, uploads).result, version_id

    def _run_of(self, run: str | None) -> str | None:
        if run is None:
            return None
        with self._context.reading() as fold:
            return find_run(fold, run)

    def _newest_of_run(self, tx: Transaction, run_id: str, besides: set[tuple[str, str]]) -> list[dict[str, Any]]:
        """Return the newest value of each metric of a run, for a version that it made, but for what was given anew."""
        wanted = {"run_id": (run_id, run_id), "version_id": None}
        return [
            {name: getattr(each, name) for name in ("key", "slice", "value", "step", "dataset_id", "source")}
            for each in points.newest(self._context.lake, tx.fold, wanted)
            if (each.key, each.slice) not in besides
        ]

    def _check_new_name(self, name: str) -> None:
        """Refuse a malformed name before anything is uploaded; a model that an import brought keeps the name it has."""
        try:
            check_name(name, "model")
        except InvalidInputError:
            with self._context.reading() as fold:
                if not models_named(fold, name):
                    raise

    def _register(
        self,
        tx: Transaction,
        name: str,
        values: _Values,
        *,
        state: source.Code | None,
        data: list[str],
        base: str | None,
        run_id: str | None,
        row: dict[str, Any],
    ) -> str:
        fold, version_id = tx.fold, row["version_id"]
        made = _Made.by(fold, run_id)
        inputs = list(dict.fromkeys([*(self._datasets.id_of(fold, each) for each in data), *made.inputs]))
        base_id = version_row(fold, parse_model(base))[0] if base is not None else None
        model_id = ensure_model(tx, name)
        newest = fold.one("SELECT max(version) FROM versions WHERE model_id = ?", model_id)[0] or 0
        number = tx.cut(f"version/{model_id}", after=newest)
        tx.fence(model_id)
        if tx.root is not None:
            # A row can be forged, and what is signed can't: this says which artifact was registered.
            tx.event(version_id, "registered", row["digest"])
        tx.subject = f"{quote(name)}/{number}"
        tx.message = f"register {quote(name)}/{number}"
        tx.append(
            "model_versions",
            **row,
            model_id=model_id,
            version=number,
            run_id=run_id,
            signature=made.signature,
            code=capture.keep_code(tx, state) if state is not None else made.code,
            environment=made.environment or capture.keep_environment(tx, self._context),
            base_version_id=base_id,
            description=values.description,
            params=made.params | values.params,
            tags=values.tags,
            missing=made.missing if state is None else [*source.missing(state), *made.unrunnable],
        )
        measured = [(key, "", value) for key, value in values.metrics.items()] + values.slices
        rows: list[dict[str, Any]] = [{"key": k, "slice": p, "value": v, "source": "claimed"} for k, p, v in measured]
        if run_id is not None:
            rows += self._newest_of_run(tx, run_id, besides={(key, part) for key, part, _ in measured})
        for ordinal, each in enumerate(rows):
            tx.append("metrics", ordinal=ordinal, run_id=run_id, version_id=version_id, **each)
        edges = [(f"dataset:{each}", "trained") for each in inputs]
        if run_id is not None:
            edges.append((f"run:{run_id}", "produced"))
        if base_id is not None:
            edges.append((f"model:{base_id}", "derived"))
        code = tx.rows["model_versions"][-1]["code"]
        if code is not None and code["commit"] is not None:
            edges.append((f"code:{code['repository']}@{code['commit']}", "built"))
        for upstream, relation in edges:
            tx.append("lineage", source=upstream, relation=relation, target=f"model:{version_id}")
        return name


@dataclass(frozen=True, slots=True)
class _Made:
    """What the run that made a version says of it."""

    inputs: list[str] = field(default_factory=list)
    code: dict[str, Any] | None = None
    environment: dict[str, Any] | None = None
    signature: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """What it can't be reproduced without."""
    unrunnable: list[str] = field(default_factory=lambda: [source.NO_RUN])
    """The part of it that is not about the code."""

    @classmethod
    def by(cls, fold: Fold, run_id: str | None) -> _Made:
        if run_id is None:
            return cls(missing=[*source.missing(None), source.NO_RUN])
        row = json.loads(fold.one("SELECT row FROM runs WHERE run_id = ?", run_id)[0])
        later = fold.rows(
            "SELECT key, value FROM events WHERE standing AND subject = ? AND kind = 'param' ORDER BY event_id", run_id
        )
        params: dict[str, str] = {k: v for k, v in (row["params"] | dict(later)).items() if v is not None}
        return cls(
            inputs_of(fold, run_id),
            row["code"],
            row["environment"],
            params.pop(INPUT_SCHEMA, None),
            params,
            row["missing"] if row["missing"] is not None else list(source.missing(None)),
            [source.NO_COMMAND] if not row["command"] else [],
        )


class _Values:
    """What a person gave at registration, checked."""

    def __init__(
        self,
        *,
        metrics: dict[str, float],
        slices: list[tuple[str, str, float]],
        params: dict[str, str],
        tags: dict[str, str],
        description: str | None,
    ) -> None:
        self.metrics = metrics
        self.slices = slices
        self.params = params
        self.tags = tags
        self.description = description
        if any(not part for _, part, _ in slices):
            raise InvalidInputError("a slice names no column", hint="a value over all rows is a metric")
        seen = {(key, part) for key, part, _ in slices}
        if len(seen) < len(slices):
            raise InvalidInputError("one metric is given twice for one slice", hint="give each slice once")


def ensure_model(tx: Transaction, name: str) -> str:
    """Return the ID of the model of a name, which is registered if need be; one that was deleted comes back, empty."""
    named = models_named(tx.fold, name)
    if named:
        model_id = named[0]
        if is_hidden(tx.fold, model_id):
            tx.event(model_id, "tombstone", "restored", reason="registered again")
        return model_id
    model_id = tx.claim(f"name/model/{name}", new_id())
    if tx.fold.one("SELECT 1 FROM models WHERE model_id = ?", model_id):
        now = quote(name_of(tx.fold, model_id))
        raise AlreadyExistsError(f"the name {quote(name)} belongs to model {now}", hint=f"register under {now}")
    tx.append("models", model_id=model_id)
    tx.event(model_id, "name", name)
    return model_id


def _upload(found: list[artifacts.LocalFile], folder: str, files: list[ArtifactFile], put: Upload) -> None:
    files[:] = artifacts.upload(found, folder, put)
