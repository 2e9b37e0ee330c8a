"""Adding a version of a dataset: numbered by what changed, with its profile, origin and derivation; finds nothing else.

The number comes from the difference to the newest version on the branch. All reading and comparing is done before the
transaction; inside of it only if another version came first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from headwater import artifacts, dataset_gates
from headwater.artifacts import LocalFile
from headwater.comparison import Candidate, as_kept, changes_of_files, difference, sentence
from headwater.content import Changes, Workbench
from headwater.context import Context
from headwater.dataset_evaluation import DatasetEvaluation, DatasetRefusedError
from headwater.errors import InvalidInputError
from headwater.ids import new_id
from headwater.model import ArtifactFile, DatasetDiff
from headwater.names import check_name, check_text, parse_dataset, quote, shown
from headwater.state import Fold
from headwater.stored import Stored, inputs_of, newest, parts, row_of
from headwater.tombstones import visible

if TYPE_CHECKING:
    from headwater.transaction import Transaction

__all__ = ["Additions", "Incoming", "Request"]

_BUMPS = ("patch", "minor", "major")


@dataclass(frozen=True, slots=True)
class Incoming:
    """Data that may become a version.

    Attributes:
        files: The files, local ones.
        single: Whether it is a file, not a folder.
        digests: The files with their digests, where these are known.
        folder: Where they lie in the lake already, if they do.
        commit: The commit at which they lie there.
        origin: Where they come from, as JSON can hold it.
    """

    files: list[LocalFile]
    single: bool
    digests: list[ArtifactFile] | None = None
    folder: str | None = None
    commit: str | None = None
    origin: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks for, checked.

    Attributes:
        key: Columns that identify a row; those of the version before where there are none.
        bump: The least part of the version that is raised.
        sources: Dataset versions that it was made from.
        run: The run that made it, from what that used.
    """

    name: str
    key: tuple[str, ...]
    bump: str | None
    sources: tuple[str, ...]
    description: str | None
    run: str | None = None

    @classmethod
    def checked(
        cls,
        name: str,
        *,
        key: Sequence[str],
        bump: str | None,
        sources: Iterable[str],
        description: str | None,
        run: str | None = None,
    ) -> Request:
        """Return a request.

        Raises:
            InvalidInputError: A part of it is malformed.
        """
        if parse_dataset(name).semver is not None:
            raise InvalidInputError(f"{shown(name)} names a version", hint="give the name; numbers are computed here")
        check_name(name, "dataset")
        if bump is not None and bump not in _BUMPS:
            raise InvalidInputError(f"not a part of a version: {shown(bump)}", hint="use major, minor or patch")
        if description is not None:
            check_text(description, "description")
        columns = (key,) if isinstance(key, str) else tuple(key)
        return cls(name, columns, bump, (sources,) if isinstance(sources, str) else tuple(sources), description, run)


class Additions:
    """The service that adds versions.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def check(self, request: Request) -> None:
        """Refuse a request before anything large is read.

        Raises:
            InvalidInputError: Nothing can be written here.
            NotFoundError: There is no such dataset to derive from.
        """
        self._context.check_writable()
        with self._context.reading() as fold:
            for source in request.sources:
                row_of(fold, source)

    def add(self, request: Request, data: Incoming) -> tuple[str, bool]:
        """Add a version where there is something new; return the number, and whether it is new."""
        with self._context.reading() as fold:
            base = newest(fold, request.name)
        with Workbench(self._context.lake.cache) as bench:
            new = Candidate(bench, data.files, single=data.single, key=request.key, digests=data.digests)
            change = self._difference(bench, base, new)
            if base is not None and change is None:
                return self._annotate(base, request), False
            try:
                return self._land(base, change, new, bench, request, data)
            except DatasetRefusedError as error:
                dataset_gates.record(self._context, error.evaluations, f"data add {quote(request.name)}")
                raise

    # -- a version that is there ------------------------------------------------------------------------------------
    def _annotate(self, base: Stored, request: Request) -> str:
        """Keep what was said of a version whose data is there already; nothing is written where nothing is new."""

        def work(tx: Transaction) -> str:
            found = Stored.of(tx.fold, row_of(tx.fold, base.version.reference))
            _annotate(tx, found, request)
            return found.version.semver

        if request.description is None and not request.sources:
            return base.version.semver
        with self._context.reading() as fold:
            if not _is_news(fold, base, request):
                return base.version.semver
        return self._context.write("data", work).result

    # -- a new version ------------------------------------------------------------------------------------------------
    def _land(
        self,
        base: Stored | None,
        found: DatasetDiff | None,
        new: Candidate,
        bench: Workbench,
        request: Request,
        data: Incoming,
    ) -> tuple[str, bool]:
        """Write the version in one transaction; return its number, and whether it is new."""
        dataset_id = new_id()
        folder = data.folder if data.folder is not None else artifacts.fold_path("datasets", dataset_id)
        profile = new.profile()
        uploads = partial(new.upload, folder) if data.folder is None else None
        memo: dict[Any, Any] = {}
        with self._context.reading() as fold:
            self._judge(fold, request, new, bench, memo)

        def work(tx: Transaction) -> tuple[str, bool]:
            before, change = newest(tx.fold, request.name), found
            if (before and before.version.dataset_id) != (base and base.version.dataset_id):
                change = self._difference(bench, before, new)
            if before is not None and change is None:
                _annotate(tx, before, request)
                return before.version.semver, False
            judged = self._judge(tx.fold, request, new, bench, memo)
            semver = self._number(tx, request, before, change, dataset_id)
            inherited = before.version.key if before else ()
            measure = new.measure(inherited)
            tx.append(
                "datasets",
                dataset_id=dataset_id,
                name=request.name,
                semver=semver,
                path=folder,
                digest=artifacts.digest_of(new.files, single=new.single),
                rows=measure.rows if measure else None,
                bytes=sum(file.size for file in new.files),
                files=[{"path": f.path, "size": f.size, "sha256": f.sha256} for f in new.files],
                format=new.format,
                schema=_text(new.schema),
                key=list(new.key_after(inherited)),
                content=measure.content if measure else None,
                base_dataset_id=before.version.dataset_id if before else None,
                added=change.added if change else None,
                removed=change.removed if change else None,
                changed=change.changed if change else None,
                changes=as_kept(change) if change else None,
                description=request.description,
                profile=_text(profile),
                origin=_text(data.origin),
                data_commit=data.commit,
            )
            for source in _source_ids(tx.fold, request):
                tx.append("lineage", source=f"dataset:{source}", relation="derived", target=f"dataset:{dataset_id}")
            if request.run is not None:
                tx.append("lineage", source=f"run:{request.run}", relation="produced", target=f"dataset:{dataset_id}")
            if judged is not None:
                dataset_gates.write(tx, judged, dataset_id)
            tx.subject = f"{quote(request.name)}@{semver}"
            tx.message = f"data add {tx.subject}" + (f": {sentence(change)}" if change else "")
            return semver, True

        return self._context.write("data", work, uploads).result

    def _judge(
        self, fold: Fold, request: Request, new: Candidate, bench: Workbench, memo: dict[Any, Any]
    ) -> DatasetEvaluation | None:
        """Ask the dataset's gates, where they are asked at once.

        Raises:
            DatasetRefusedError: One did not pass.
        """
        wanted = dataset_gates.wanted(fold, request.name) if dataset_gates.is_judged_at_once(self._context) else None
        if wanted is None:
            return None
        judged = dataset_gates.judge(request.name, new.table, bench, wanted, fold.commit, memo)
        if not judged.passed:
            raise DatasetRefusedError(
                [judged], hint="mend the data; or add it on a branch, where anything may be tried until it is merged"
            )
        return judged

    def _number(
        self, tx: Transaction, request: Request, before: Stored | None, change: DatasetDiff | None, dataset_id: str
    ) -> str:
        """Reserve the next number that the difference calls for; one that another branch has is passed over."""
        major, minor, patch = parts(before.version.semver) if before else (0, 0, 0)
        kind = max(change.bump or "patch", request.bump or "patch", key=_BUMPS.index) if change else "major"
        while True:
            if kind == "major":
                major, minor, patch = major + 1, 0, 0
            elif kind == "minor":
                minor, patch = minor + 1, 0
            else:
                patch += 1
            semver = f"{major}.{minor}.{patch}"
            if tx.claim(f"semver/{request.name}/{semver}", dataset_id) == dataset_id:
                return semver

    def _difference(self, bench: Workbench, base: Stored | None, new: Candidate) -> DatasetDiff | None:
        """Return what is new, or None where nothing is or where there is no base; nothing is read that need not be."""
        if base is None:
            new.measure()
            return None
        version = base.version
        if not new.declares(version.key) and new.has_bytes_of(base.files):
            return None
        measure, key = new.measure(version.key), new.key_after(version.key)
        changes: Changes | None = None
        if measure is None and version.schema is None:
            changes = changes_of_files(base.files, new.files)
        elif measure is not None and new.schema == version.schema and measure.content == version.content:
            changes = Changes()
        elif new.table is not None and (opened := base.opened(self._context.lake, bench)) is not None:
            changes = bench.compare(opened, new.table, key)
        found = difference(version, new.schema, key, changes, "")
        return found if found.bump is not None else None


def _text(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


# -- descriptions and derivations -------------------------------------------------------------------------------------
def _source_ids(fold: Fold, request: Request) -> list[str]:
    used = [] if request.run is None else inputs_of(fold, request.run)
    return list(dict.fromkeys([*(str(row_of(fold, each)[0]) for each in request.sources), *used]))


def _is_news(fold: Fold, stored: Stored, request: Request) -> bool:
    return _new_description(stored, request) or bool(_new_edges(fold, stored, request))


def _new_description(stored: Stored, request: Request) -> bool:
    return request.description is not None and (request.description or None) != stored.version.description


def _new_edges(fold: Fold, stored: Stored, request: Request) -> list[tuple[str, str]]:
    """Return the edges of derivation, as source and target, that are not there yet.

    Raises:
        InvalidInputError: The version would derive from itself.
    """
    target = f"dataset:{stored.version.dataset_id}"
    edges = []
    for reference in request.sources:
        source = f"dataset:{row_of(fold, reference)[0]}"
        if fold.one(_IS_UPSTREAM, target, source):
            if request.run is not None:
                continue  # a run made again what it had read, or what was made of that
            what = "itself" if source == target else f"{reference}, which was made from it"
            raise InvalidInputError(
                f"{stored.version.reference} can't be made from {what}", hint="name what it was made from"
            )
        if not fold.one(_EDGE, source, target) and (source, target) not in edges:
            edges.append((source, target))
    return edges


_IS_UPSTREAM = f"""WITH RECURSIVE down (urn) AS (VALUES (?) UNION
    SELECT l.target FROM lineage l JOIN down ON l.source = down.urn WHERE {visible("l.tx")})
    SELECT 1 FROM down WHERE urn = ? LIMIT 1"""
_EDGE = f"SELECT 1 FROM lineage l WHERE source = ? AND relation = 'derived' AND target = ? AND {visible('l.tx')}"


def _annotate(tx: Transaction, stored: Stored, request: Request) -> None:
    """Write the description and the derivation that a version does not have yet."""
    version, said = stored.version, []
    if _new_description(stored, request):
        tx.event(version.dataset_id, "description", request.description or None)
        said.append("description")
    for source, target in _new_edges(tx.fold, stored, request):
        tx.append("lineage", source=source, relation="derived", target=target)
    if "lineage" in tx.rows:
        said.append("derivation")
    tx.subject = version.reference
    tx.message = f"data add {version.reference}: the same data, new {' and '.join(said)}"
