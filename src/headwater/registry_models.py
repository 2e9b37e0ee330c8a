"""Registered models and their versions, aliases and tags, as people ask a registry for them; no rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from headwater.errors import InvalidInputError
from headwater.model import Alias, ArtifactFile, Metric, Model, ModelVersion
from headwater.names import parse_model
from headwater.registry_services import Services

if TYPE_CHECKING:
    from headwater.registration import Slices
    from headwater.reproduction import Reproduction

__all__ = ["Models"]


class Models(Services):
    """The part of a registry that is about models."""

    def register(
        self,
        name: str,
        path: str | os.PathLike[str] | None = None,
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
    ) -> ModelVersion:
        """Register a version of a model; the model is registered with its first version.

        All of it becomes visible at once, or none of it. Registering the same bytes again makes a new version.

        Args:
            name: The model's name.
            path: A file, or a folder of files, of any size.
            external: Instead of a path: a URL (`file:`, `s3:`, `https:`, `oci:`) and the sha256 of the file there.
            data: Dataset versions that it was trained on, such as `flights@1.1.0`.
            metrics: Values over all rows, by key.
            slices: Values on slices: `(key, {column: value}, number)`.
            params: Parameters; kept as text.
            tags: Tags; kept as text, and may change later.
            description: What it is.
            code: A folder of the Git repository that made it; the current folder by default.
            base: The version that this one was made from.
            run: The ID of the run that made it: what it used, its code, and the newest of its metrics are recorded.

        Returns:
            The version, with the commit that it was written in.

        Raises:
            InvalidInputError: A name, key or file can't be kept, or a file changed while it was read.
            NotFoundError: There is no such path, dataset or base.
            LakeError: The lake can't be reached or written.
        """
        name, version_id = self._registration.register(
            name,
            path,
            external=external,
            data=[data] if isinstance(data, str) else list(data),
            metrics=metrics,
            slices=slices,
            params=params,
            tags=tags,
            description=description,
            code=code,
            base=base,
            run=run if run is not None else self._active_run(),
        )
        return self._versions.registered(name, version_id, self)

    def models(self) -> list[Model]:
        """Return the models that are not deleted, by name."""
        return self._versions.models()

    def model(self, name: str) -> Model:
        """Return one model.

        Raises:
            NotFoundError: There is no such model.
        """
        return self._versions.model(name)

    def versions(
        self, name: str, *, tags: Mapping[str, str] | None = None, limit: int | None = None
    ) -> list[ModelVersion]:
        """Return a model's versions that are not deleted, newest first.

        Args:
            name: The model.
            tags: Only those that have all these tags, with these values.
            limit: At most so many.

        Raises:
            NotFoundError: There is no such model.
        """
        return self._versions.list(name, self, tags=tags or {}, limit=limit)

    def get(self, reference: str) -> ModelVersion:
        """Return the version that `NAME/7` or `NAME@alias` means.

        Raises:
            NotFoundError: There is no such model, version or alias.
            InvalidInputError: It is malformed, or names no version.
            ConflictError: Two branches moved the alias, and nobody settled it yet.
        """
        # What a commit says never changes, so a version found at the head that still is the head is the answer.
        head = self.head
        at, found = self._resolved
        if at == head and reference in found:
            return found[reference]
        version = self._versions.get(reference, self)
        if at != head:
            found = {}
            self._resolved = (head, found)
        if self.head == head:
            found[reference] = version
        return version

    def resolve(self, reference: str) -> ModelVersion:
        """Return the version behind an alias. The same as `get`."""
        return self.get(reference)

    def files(self, reference: str) -> list[ArtifactFile]:
        """Return the files of a version."""
        return self._versions.files(reference)

    def metrics(self, reference: str) -> list[Metric]:
        """Return the newest values of a version's metrics, over all rows and on slices."""
        return self._versions.metrics(reference)

    def trained_on(self, reference: str) -> list[str]:
        """Return the dataset versions that a version was trained on, as references such as `flights@1.1.0`."""
        return self._versions.trained_on(reference)

    def pull(self, reference: str, dest: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Write a version's files into the folder `dest`, every digest checked, and return the folder.

        The files are written beside `dest` and renamed into place when all are right. What an earlier pull of the model
        left there is replaced; files that Headwater does not know are left alone.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            dest: The folder, made if need be.
            force: Overwrite files of others that stand in the way.

        Raises:
            IntegrityError: A file in the lake is missing, altered or too many; `dest` is as it was.
            AlreadyExistsError: A file of somebody else's stands in the way.
        """
        return self._versions.pull(reference, dest, force=force)

    def verify(self, *references: str) -> int:
        """Check every byte of model and dataset versions (by default of all) and return how many were checked.

        Raises:
            IntegrityError: A file is missing, altered or too many; the message names it.
        """
        if references:
            chosen = list(references)
        else:
            chosen = [
                *self._versions.all_references(),
                *(f"dataset:{each}" for each in self._datasets.all_references()),
            ]
        for reference in chosen:
            if self.is_dataset(reference):
                self._datasets.verify(reference)
            else:
                self._versions.verify(reference)
        return len(chosen)

    def reproduce(
        self,
        reference: str,
        dest: str | os.PathLike[str] | None = None,
        *,
        repository: str | os.PathLike[str] | None = None,
        install: bool = False,
        run: bool = True,
        force: bool = False,
        tell: Callable[[str], None] | None = None,
        echo: Callable[[bytes], None] | None = None,
    ) -> Reproduction:
        """Make a version again from its lineage alone, and compare what comes out with what was recorded.

        The code is checked out at its commit and its patch applied, each dataset version fetched, the environment
        written as pinned requirements, and the recorded command run with the recorded seeds. **That runs code that the
        lake names**: reproduce what you trust. The command sees a lake of its own, in `dest`, with the recorded
        inputs under their names and numbers; what it registers and logs lands there, whatever lake it opens.

        Args:
            reference: `NAME/7` or `NAME@alias`.
            dest: A folder that is not there, or is empty; by default `NAME-7-reproduced`.
            repository: Another clone of the code's repository: a folder or a URL.
            install: Build a virtual environment of the recorded packages, and run the command in it.
            run: Whether to run the command; else everything is put into place for it.
            force: Replace an earlier reproduction.
            tell: Is told in a sentence what is done next.
            echo: Is given what the command prints, as it comes.

        Raises:
            NotFoundError: The version, its command, its code's repository or commit, or a file of it is not there.
            LakeError: The repository can't be reached.
            IntegrityError: The patch does not apply, or an input is not what was recorded.
            AlreadyExistsError: `dest` is not empty.
            HeadwaterError: The environment can't be built, or the command failed.
        """
        return self._reproductions.reproduce(
            reference, dest, repository=repository, install=install, run=run, force=force, tell=tell, echo=echo
        )

    def is_dataset(self, reference: str) -> bool:
        """Tell a dataset from a model: by how it is written, or else by which of the two there is.

        Raises:
            InvalidInputError: There are both a model and a dataset of that name.
        """
        if reference.startswith("dataset:"):
            return True
        if reference.startswith(("model:", "models:")) or "/" in reference:
            return False
        if "@" in reference:
            return reference.rpartition("@")[2][:1].isdigit()
        name = parse_model(reference).name
        found = any(version.name == name for version in self._datasets.list())
        if not found and not self._datasets.was_there(name):
            return False
        if not any(model.name == name for model in self.models()):
            return True
        if found:
            raise InvalidInputError(
                f"{reference} is both a model and a dataset", hint=f"write model:{reference} or dataset:{reference}"
            )
        return False

    # -- aliases, tags, names -----------------------------------------------------------------------------------
    def aliases(self, name: str) -> list[Alias]:
        """Return a model's aliases, by name."""
        return self._labels.aliases(name)

    def set_alias(self, name: str, alias: str, version: int, *, reason: str | None = None) -> None:
        """Point an alias at a version.

        Raises:
            NotFoundError: There is no such model or version.
            InvalidInputError: The alias is malformed or could be taken for a version.
        """
        if isinstance(version, bool) or not isinstance(version, int):
            raise InvalidInputError(f"not a version: {version!r}", hint="a version is a whole number from 1")
        self._labels.set_alias(name, alias, version, reason=reason)

    def delete_alias(self, name: str, alias: str, *, reason: str | None = None) -> None:
        """Take an alias away.

        Raises:
            NotFoundError: The model has no such alias.
        """
        self._labels.delete_alias(name, alias, reason=reason)

    def tag(self, reference: str, tags: Mapping[str, object | None]) -> None:
        """Set tags of a model or a version; a value of None takes the tag away."""
        self._labels.tag(reference, tags)

    def describe(self, reference: str, text: str) -> None:
        """Set the description of a model or a version."""
        self._labels.describe(reference, text)

    def rename(self, name: str, new: str) -> None:
        """Give a model another name.

        Raises:
            AlreadyExistsError: The name belongs, or once belonged, to another model.
        """
        self._labels.rename(name, new)

    def delete(self, reference: str, *, reason: str | None = None) -> None:
        """Hide a version, or a model and its versions. History keeps them; their numbers stay taken.

        Raises:
            ConflictError: An alias points there, it serves somewhere, or it is one of the last three versions that were
                in production.
        """
        self._labels.delete(reference, reason=reason)

    def undelete(self, reference: str) -> None:
        """Bring back what `delete` hid.

        Raises:
            NotFoundError: It is not deleted.
        """
        self._labels.undelete(reference)
