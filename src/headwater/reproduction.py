"""Reproducing: making a model version again from its lineage alone, beside the lake, and comparing what comes out."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater import artifacts, environment, recipe
from headwater.config import REPRODUCE
from headwater.context import Context
from headwater.datasets import Datasets
from headwater.lake.objects import disk_errors
from headwater.model import as_json
from headwater.recipe import Recipe
from headwater.scratch import Scratch
from headwater.versions import Versions
from headwater.workplace import Workplace

__all__ = ["DATA", "MetricComparison", "Reproduction", "Reproductions"]

DATA = "HEADWATER_DATA"
"""Tells the command which folder the datasets are in: `NAME@V` each."""


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """A metric as it was recorded and as it came out; None where it is only in one of the two."""

    key: str
    slice: str
    recorded: float | None
    found: float | None
    equal: bool


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What came of reproducing a version."""

    name: str
    version: int
    version_id: str
    dest: Path
    code: Path
    data: Mapping[str, Path]
    """The folder of each dataset version, by reference."""
    requirements: Path | None
    """The recorded packages, pinned; None where none were recorded."""
    output: Path | None
    """What the command printed; None where it did not run."""
    repository: str
    commit: str
    command: tuple[str, ...]
    """The command line as it is run here."""
    folder: Path
    """Where it runs."""
    ran: bool
    seconds: float | None
    metrics: tuple[MetricComparison, ...]
    metrics_equal: bool | None
    """Whether every recorded metric came out the same, to the last bit; None where there were none or nothing ran."""
    digest: str
    digest_found: str | None
    digest_equal: bool | None
    """Whether the artifact came out the same, byte for byte; None where the command registered none."""
    differences: tuple[str, ...]
    """What was, or came out, other than recorded, a sentence each."""
    missing: tuple[str, ...]
    """What was said at registration to be missing."""


class Reproductions:
    """The service that reproduces versions.

    Args:
        context: What to work with; it is only read.
        versions: The service that fetches versions.
        datasets: The service that fetches datasets.
    """

    def __init__(self, context: Context, versions: Versions, datasets: Datasets) -> None:
        self._context = context
        self._versions = versions
        self._datasets = datasets

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
        """Make a version again. See `Registry.reproduce`."""
        say = tell if tell is not None else _silently
        what = recipe.read(self._context, reference)
        if dest is None:
            dest = re.sub(r"[^a-z0-9._-]", "_", f"{what.version.name}-{what.version.version}-reproduced")
        artifacts.check_destination(self._context.lake, dest)
        patch, packages = self._kept(what)
        place = Workplace(dest, force=force)
        source = os.fspath(repository) if repository is not None else what.code["repository"]
        say(f"checking out {what.code['commit'][:12]} of {source}")
        place.check_out(source, what.code["commit"], patch, reasons=what.missing)
        folder = place.folder(what.folder)
        folders = self._fetch(what, place, say)
        if packages is not None and what.environment is not None:
            installed = environment.capture().packages
            place.pin(what.environment["python"], what.environment["platform"], packages, installed)
            if install:
                place.install(say)
            place.compare_environment()
        command = place.command(what.command, what.code["repository"], folder, what.missing)
        digest: str | None = None
        found: recipe.Measured = {}
        seconds: float | None = None
        with Scratch(place.lake, self._context.actor) as scratch:
            say("making a lake of its own for it")
            scratch.fill(what, folders)
            variables = {
                **what.seeds,
                REPRODUCE: scratch.url,
                "HEADWATER_LAKE": scratch.url,
                "HEADWATER_RUN_ID": scratch.run_id,
                DATA: str(place.data),
            }
            if run:
                say(f"running: {' '.join(command)}")
                began = time.monotonic()
                place.run(command, folder, variables, echo)
                seconds = time.monotonic() - began
                digest, found = scratch.outcome(what)
        made = self._compared(what, place, command, folder, folders, source, seconds, digest, found)
        with disk_errors(place.report):
            place.report.write_text(json.dumps(as_json(made), indent=2) + "\n", encoding="utf-8")
        return made

    def _kept(self, what: Recipe) -> tuple[bytes | None, bytes | None]:
        """Return the patch and the list of packages, checked; before anything is made, so that nothing is left."""
        patch = packages = None
        if digest := what.code["patch"]:
            path = f"patches/{digest[-2:]}/{digest}.patch"
            patch = recipe.kept(self._context, path, digest, f"the patch of {what.version.reference}")
        if what.environment is not None and (digest := what.environment["packages"]):
            path = f"environments/{digest[-2:]}/{digest}.txt"
            packages = recipe.kept(self._context, path, digest, f"the list of packages of {what.version.reference}")
        return patch, packages

    def _fetch(self, what: Recipe, place: Workplace, say: Callable[[str], None]) -> dict[str, Path]:
        """Fetch what went in, every digest checked; return where it is, by ID."""
        folders = {}
        for each in what.datasets:
            say(f"fetching {each.reference}")
            folders[each.id] = self._datasets.pull(each.reference, place.data / _file_name(each.reference))
        if what.base is not None and what.base.row["path"] is not None:
            say(f"fetching {what.base.reference}")
            folders[what.base.id] = self._versions.pull(
                what.base.reference, place.models / _file_name(what.base.reference)
            )
        return folders

    def _compared(
        self,
        what: Recipe,
        place: Workplace,
        command: list[str],
        folder: Path,
        folders: Mapping[str, Path],
        source: str,
        seconds: float | None,
        digest: str | None,
        found: recipe.Measured,
    ) -> Reproduction:
        ran = seconds is not None
        compared = []
        for key, part in sorted(what.metrics.keys() | found.keys()) if ran else ():
            was, now = what.metrics.get((key, part)), found.get((key, part))
            compared.append(MetricComparison(key, part, was, now, _equal(was, now)))
        differences = list(place.differences)
        if not what.code["dirty"] and any("not committed" in each for each in what.missing):
            differences.append("there were changes that were not kept")
        if ran:
            differences += [_difference(each) for each in compared if not each.equal and each.recorded is not None]
            if digest is None:
                differences.append(f"the command registered no version of {what.version.name}")
            elif digest != what.version.digest:
                differences.append(f"the artifact is {digest[:12]}, and {what.version.digest[:12]} was recorded")
        recorded = [each for each in compared if each.recorded is not None]
        return Reproduction(
            name=what.version.name,
            version=what.version.version,
            version_id=what.version.version_id,
            dest=place.place,
            code=place.code,
            data={each.reference: folders[each.id] for each in what.datasets},
            requirements=place.requirements if place.requirements.exists() else None,
            output=place.output if ran else None,
            repository=source,
            commit=what.code["commit"],
            command=tuple(command),
            folder=folder,
            ran=ran,
            seconds=seconds,
            metrics=tuple(compared),
            metrics_equal=all(each.equal for each in recorded) if recorded else None,
            digest=what.version.digest,
            digest_found=digest,
            digest_equal=None if digest is None else digest == what.version.digest,
            differences=tuple(differences),
            missing=what.missing,
        )


def _difference(each: MetricComparison) -> str:
    name = f"{each.key}[{each.slice}]" if each.slice else each.key
    return f"{name} is {'missing' if each.found is None else f'{each.found!r}'}, and {each.recorded!r} was recorded"


def _equal(was: float | None, now: float | None) -> bool:
    if was is None or now is None:
        return False
    return was == now or (math.isnan(was) and math.isnan(now))


def _file_name(reference: str) -> str:
    """Return a reference as the name of a folder: as it is, unless an import brought a name that none can have."""
    name = re.sub(r"[^A-Za-z0-9._@+-]", "_", reference)
    return name if name.strip(".") else "_"


def _silently(text: Any) -> None:
    """Tell nobody."""
