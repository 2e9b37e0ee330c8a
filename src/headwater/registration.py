"""Registering a model version: its bytes, row, metrics and lineage, all in one transaction."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from headwater import artifacts, environment, source
from headwater.context import Context
from headwater.datasets import Datasets
from headwater.errors import AlreadyExistsError, InvalidInputError, NotFoundError
from headwater.external import External
from headwater.ids import new_id
from headwater.lookup import is_hidden, models_named, name_of, version_row
from headwater.model import ArtifactFile
from headwater.names import canonical_slice, check_key, check_name, check_text, parse_model, quote, shown
from headwater.transaction import Transaction, Upload

__all__ = ["Registration", "Slices", "ensure_model"]

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
    ) -> tuple[str, str]:
        """Register a version; return its model's name and its version_id. See `Registry.register`."""
        ref = parse_model(name)
        if ref.version is not None or ref.alias is not None:
            raise InvalidInputError(f"{ref} names a version", hint=f"register under {quote(ref.name)}")
        values = _Values(
            metrics={check_key(key, "metric"): _number(key, value) for key, value in (metrics or {}).items()},
            slices=[(check_key(k, "metric"), canonical_slice(dict(s)), _number(k, v)) for k, s, v in slices],
            params=_texts(params, "param"),
            tags=_texts(tags, "tag"),
            description=None if description is None else check_text(description, "description"),
        )
        if (path is None) == (external is None):
            raise InvalidInputError("give a path, or an external URL with its sha256", hint="one of the two")
        version_id = new_id()
        folder = artifacts.fold_path("artifacts", version_id)
        self._check_new_name(ref.name)
        if code is not None and not os.path.exists(code):
            raise NotFoundError(f"there is no folder {shown(os.fspath(code))} with the code")
        lake = self._context.lake.url
        outputs = [each for each in (path, lake if os.path.isdir(lake) else None) if each is not None]
        state = source.capture(code if code is not None else os.getcwd(), outputs=outputs)
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
                row={
                    "version_id": version_id,
                    "path": folder if elsewhere is None else None,
                    "digest": elsewhere.sha256 if elsewhere else artifacts.digest_of(files, single=single),
                    "size": None if elsewhere else sum(file.size for file in files),
                    "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
                    "external_url": elsewhere.url if elsewhere else None,
                    "flavors": artifacts.flavors_of(files),
                    "missing": [*source.missing(state), source.NO_RUN],
                },
            )

        return self._context.write("register", work, uploads).result, version_id

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
        row: dict[str, Any],
    ) -> str:
        fold, version_id = tx.fold, row["version_id"]
        inputs = [self._datasets.id_of(fold, each) for each in data]
        base_id = version_row(fold, parse_model(base))[0] if base is not None else None
        model_id = ensure_model(tx, name)
        newest = fold.one("SELECT max(version) FROM versions WHERE model_id = ?", model_id)[0] or 0
        number = tx.cut(f"version/{model_id}", after=newest)
        tx.fence(model_id)
        tx.subject = f"{quote(name)}/{number}"
        tx.message = f"register {quote(name)}/{number}"
        tx.append(
            "model_versions",
            **row,
            model_id=model_id,
            version=number,
            code=self._keep_code(tx, state),
            environment=self._keep_environment(tx),
            base_version_id=base_id,
            description=values.description,
            params=values.params,
            tags=values.tags,
        )
        measured = [(key, "", value) for key, value in values.metrics.items()] + values.slices
        for ordinal, (key, part, value) in enumerate(measured):
            tx.append(
                "metrics",
                ordinal=ordinal,
                version_id=version_id,
                key=key,
                value=value,
                slice=part,
                source="claimed",
            )
        edges = [(f"dataset:{each}", "trained") for each in inputs]
        if base_id is not None:
            edges.append((f"model:{base_id}", "derived"))
        if state is not None and state.commit is not None:
            edges.append((f"code:{state.repository}@{state.commit}", "built"))
        for upstream, relation in edges:
            tx.append("lineage", source=upstream, relation=relation, target=f"model:{version_id}")
        return name

    def _keep_code(self, tx: Transaction, state: source.Code | None) -> dict[str, Any] | None:
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

    def _keep_environment(self, tx: Transaction) -> dict[str, Any]:
        found = environment.capture()
        path = f"environments/{found.digest[-2:]}/{found.digest}.txt"
        known = self._context.folds.known_objects(self._context.branch)
        if path not in known:
            try:
                self._context.lake.stat(tx.fold.commit, path)
                known.add(path)
            except NotFoundError:
                tx.put(path, found.packages)
        return {"python": found.python, "platform": found.platform, "packages": found.digest}


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


def _number(key: str, value: object) -> float:
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"metric {key!r} is not a number: {shown(repr(value))}", hint="give a float") from None


def _texts(values: Mapping[str, object] | None, what: str) -> dict[str, str]:
    return {check_key(key, what): check_text(str(value), what) for key, value in (values or {}).items()}
