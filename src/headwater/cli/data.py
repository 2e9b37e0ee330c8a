"""The commands of `headwater data`: add, import-dvc, list, versions, show, pull, diff."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.base import Session, argument, group, limited, option
from headwater.cli.layout import count, moment, short, size, table
from headwater.cli.output import busy, clean, note, paint, strong
from headwater.cli.show import show_dataset

if TYPE_CHECKING:
    from headwater.model import DatasetDiff, DatasetVersion

__all__ = ["data"]


@group("data", example="headwater data add flights flights.parquet --key flight_id\nheadwater data list")
def data() -> None:
    """Add, list, show, fetch and compare versions of datasets."""


@data.group_command(
    "add",
    example="""\
headwater data add flights flights.parquet --key flight_id --description "out of New York, 2013"
headwater data add summer summer/ --from flights@1.1.0
headwater data add weather lakefs://flights/main/raw/weather.parquet""",
)
@argument("name", "NAME", complete="dataset-name")
@argument("path", "PATH", type=click.Path())
@option("--key", metavar="COL[,COL]", help="Columns that identify a row; by default those of the version before.")
@option("--bump", type=click.Choice(["major", "minor", "patch"]), help="Raise at least this part of the version.")
@option(
    "--from", "sources", metavar="DATASET", multiple=True, help="A dataset version that it was made from. Repeatable."
)
@option("--description", metavar="TEXT", help="What it is.")
def data_add(
    session: Session,
    name: str,
    path: str,
    key: str | None,
    bump: str | None,
    sources: tuple[str, ...],
    description: str | None,
) -> None:
    """Add a version of a dataset, numbered by what changed.

    PATH is a Parquet, CSV, JSON lines or Arrow file, a Delta table, or a folder of anything. The first version is
    1.0.0. Columns added, removed or retyped make a major version, rows that are only added a minor one, anything else
    that differs a patch; where nothing differs there is no new version, and a new description or derivation is kept
    with the one that is there. A time without a zone stays without one: it is not taken for UTC.

    PATH may also be lakefs://REPOSITORY/REF/PATH, of the lake's own repository, or lake://REF/PATH: data that is in the
    lake is not copied, and is read at the commit that REF is now.
    """
    columns = key.split(",") if key is not None else []
    with session.open() as registry, busy(f"adding {name}"):
        found = registry.add_dataset(name, path, key=columns, bump=bump, derived_from=sources, description=description)
    session.emit(found, lambda: _added_lines(found))


def _added_lines(found: DatasetVersion) -> Iterator[str]:
    yield strong(found.reference)
    if not found.created:
        yield "nothing is new, so there is no new version"
        return
    yield f"{paint('commit', '2')} {found.commit}"
    yield _reason(found)


def _reason(found: DatasetVersion) -> str:
    """Return what a new version has that the one before had not, and what that makes it."""
    parts = [f"{found.rows:,} rows" if found.rows is not None else "", size(found.bytes)]
    if found.base_dataset_id is None:
        return "the first version: " + ", ".join(part for part in parts if part)
    kind = "major" if found.semver.endswith(".0.0") else "minor" if found.semver.endswith(".0") else "patch"
    what = _sentence(found.added, found.removed, found.changed, found.changes or {}, found.schema is None)
    return f"{kind}: {what}"


def _sentence(
    added: int | None, removed: int | None, changed: int | None, columns: Mapping[str, Any], files: bool
) -> str:
    noun = "file" if files else "row"
    counted = [(added, "added"), (removed, "removed"), (changed, "changed")]
    parts = [f"{count(number, noun)} {verb}" for number, verb in counted if number]
    for verb in ("added", "removed", "retyped"):
        if names := columns.get(f"columns_{verb}"):
            parts.append(f"{'column' if len(names) == 1 else 'columns'} {verb}: {clean(', '.join(names))}")
    if added is None:
        parts.append("the rows can't be compared")
    return "; ".join(parts) or "the key or the description is another"


@data.group_command(
    "import-dvc",
    example="""\
headwater data import-dvc train.csv.dvc
headwater data import-dvc raw/flights.parquet.dvc --name flights --key flight_id""",
)
@argument("path", "FILE.dvc", type=click.Path())
@option("--name", metavar="NAME", help="The dataset; by default FILE without its extension, in small letters.")
@option("--out", metavar="PATH", help="Which one is meant, where FILE.dvc lists several.")
@option("--key", metavar="COL[,COL]", help="Columns that identify a row; by default those of the version before.")
@option("--bump", type=click.Choice(["major", "minor", "patch"]), help="Raise at least this part of the version.")
@option(
    "--from", "sources", metavar="DATASET", multiple=True, help="A dataset version that it was made from. Repeatable."
)
@option("--description", metavar="TEXT", help="What it is; by default what FILE.dvc says.")
def data_import_dvc(
    session: Session,
    path: str,
    name: str | None,
    out: str | None,
    key: str | None,
    bump: str | None,
    sources: tuple[str, ...],
    description: str | None,
) -> None:
    """Add what DVC tracks with a metafile as a version of a dataset.

    The bytes are those of the workspace, else of DVC's cache, else of a DVC remote that is a folder; every MD5 is
    checked. train.csv.dvc becomes the dataset train, numbered as `data add` does. The DVC hash, the paths and the Git
    commit are kept with the version. In a folder, files that DVC does not track are left out.
    """
    columns = key.split(",") if key is not None else []
    with session.open() as registry, busy(f"importing {path}"):
        found = registry.import_dvc(
            path, name, out=out, key=columns, bump=bump, derived_from=sources, description=description
        )
    session.emit(found, lambda: _added_lines(found))


@data.group_command("list", ref=True, example="headwater data list")
@limited
def data_list(session: Session, limit: int | None) -> None:
    """List the datasets, each with its newest version."""
    with session.open() as registry:
        found = registry.datasets()[:limit]

    def lines() -> Iterable[str]:
        if not found:
            note("there are no datasets yet: `headwater data add NAME PATH` makes one")
            return []
        return table(
            ("name", "newest", "rows", "size", "added (UTC)", "description"),
            [
                (each.name, each.semver, _rows(each), size(each.bytes), moment(each.recorded_at), each.description)
                for each in found
            ],
            right=("rows", "size"),
        )

    session.emit(found, lines)


def _rows(dataset: DatasetVersion) -> str:
    return f"{dataset.rows:,}" if dataset.rows is not None else ""


@data.group_command("versions", ref=True, example="headwater data versions flights")
@argument("name", "NAME", complete="dataset-name")
@limited
def data_versions(session: Session, name: str, limit: int | None) -> None:
    """List a dataset's versions, newest first."""
    with session.open() as registry:
        found = registry.dataset_versions(name)[:limit]

    def lines() -> Iterable[str]:
        return table(
            ("version", "rows", "added", "removed", "changed", "size", "added (UTC)", "actor", "commit"),
            [
                (
                    each.semver,
                    _rows(each),
                    *(f"{n:,}" if n is not None else "" for n in (each.added, each.removed, each.changed)),
                    size(each.bytes),
                    moment(each.recorded_at),
                    each.actor,
                    short(each.commit),
                )
                for each in found
            ],
            right=("rows", "added", "removed", "changed", "size"),
        )

    session.emit(found, lines)


@data.group_command("show", ref=True, example="headwater data show flights@1.1.0")
@argument("reference", "NAME@V", complete="dataset")
def data_show(session: Session, reference: str) -> None:
    """Show all about a dataset version, or the newest of a dataset."""
    with session.open() as registry:
        show_dataset(session, registry, reference)


@data.group_command("pull", ref=True, example="headwater data pull flights@1.1.0 flights/")
@argument("reference", "NAME@V", complete="dataset")
@argument("dest", "DEST", type=click.Path())
@option("--force", is_flag=True, help="Replace files in DEST that Headwater did not put there.")
def data_pull(session: Session, reference: str, dest: str, force: bool) -> None:
    """Fetch a dataset version's files into a folder, every digest checked.

    The folder changes when all the files are right, or not at all.
    """
    with session.open() as registry:
        found = registry.dataset(reference)
        with busy(f"fetching {found.reference}"):
            place = found.pull(dest, force=force)

    from headwater.model import as_json

    document = {**as_json(found), "dest": str(place)}
    session.emit(document, lambda: [f"{strong(found.reference)}: {size(found.bytes)} in {strong(place)}"])


# -- differences ------------------------------------------------------------------------------------------------------
@data.group_command("diff", ref=True, example="headwater data diff flights@1.0.0 flights@1.1.0")
@argument("left", "NAME@A", complete="dataset")
@argument("right", "NAME@B", complete="dataset")
def data_diff(session: Session, left: str, right: str) -> None:
    """Show what changed from one dataset version to another.

    Columns, counts of rows, and a few rows of each kind.
    """
    with session.open() as registry:
        with busy(f"comparing {left} with {right}"):
            found = registry.diff_datasets(left, right)
        files = registry.dataset(right).schema is None
    session.emit(found, lambda: _diff_lines(found, files))


def _diff_lines(found: DatasetDiff, files: bool) -> Iterator[str]:
    if found.bump is None:
        yield f"{strong(found.left)} and {strong(found.right)} have the same {'files' if files else 'rows'}"
        return
    columns = {f"columns_{verb}": list(getattr(found, f"columns_{verb}")) for verb in ("added", "removed", "retyped")}
    yield f"{strong(found.left)} to {strong(found.right)}: a {found.bump} change"
    yield _sentence(found.added, found.removed, found.changed, columns, files)
    details = [
        *(_painted("+", f"column {name} {kind}") for name, kind in found.columns_added.items()),
        *(_painted("-", f"column {name} {kind}") for name, kind in found.columns_removed.items()),
        *(_painted("~", f"column {name} {was} is {now}") for name, (was, now) in found.columns_retyped.items()),
        *(_painted("+", _row(each)) for each in found.added_examples),
        *(_painted("-", _row(each)) for each in found.removed_examples),
        *(_painted("~", f"{_row(was)} is {_row(now)}") for was, now in found.changed_examples),
    ]
    if details:
        yield ""
        yield from details


def _painted(sign: str, text: str) -> str:
    return f"{paint(sign, {'+': '32', '-': '31', '~': '33'}[sign])} {clean(text)}"


def _row(values: Mapping[str, Any]) -> str:
    from headwater.model import as_json

    return json.dumps(as_json(values), ensure_ascii=False)
