"""Commands about the lake itself: `init`, `status`, `log`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.base import Session, argument, command, limited, option
from headwater.cli.layout import count, fields, moment, short, table
from headwater.cli.output import dim, note, strong

if TYPE_CHECKING:
    from pathlib import Path

    from headwater.history import GraphRow
    from headwater.registry import Registry

__all__ = ["init", "log", "status"]


@command(
    "init",
    example="""\
headwater init
headwater init --signed
headwater init lakefs://127.0.0.1:8000/ml --storage-namespace s3://bucket/ml""",
)
@argument("url", "[URL]", required=False)
@option("--signed", is_flag=True, help="Sign every event; what nobody signed who may do it has no force.")
@option("--storage-namespace", metavar="NS", help="Where a new lakeFS repository keeps its objects.")
def init(session: Session, url: str | None, signed: bool, storage_namespace: str | None) -> None:
    """Make a lake in this folder, or join one on a lakeFS server.

    Without a URL the lake is embedded, in .headwater/lake. Commands given in this folder, or below it, find it through
    .headwater/config.toml. Credentials for a lakeFS server are read from LAKECTL_CREDENTIALS_ACCESS_KEY_ID and
    LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY, or from ~/.lakectl.yaml, and are never written.

    A lake is signed from the beginning or never. Your key, which is made if you have none, is its first admin's.
    """
    if url is not None and session.lake is not None and url != session.lake:
        raise click.UsageError("the lake is named twice", click.get_current_context())
    had = _local_keys() if signed else set()
    found, config = _init(url if url is not None else session.lake, storage_namespace, session, signed)
    if signed:
        for each in _local_keys() - had:
            note(f"made a key, which is the lake's first admin's: {each}")

    def lines() -> Iterable[str]:
        yield f"{strong(found['lake'])} is ready, on branch {found['ref']}; {dim(config)} says so"
        yield "Next:"
        yield "  headwater register NAME PATH     a model's first version"
        yield "  headwater data add NAME PATH     a dataset's first version"
        yield "  headwater status                 what there is"

    session.emit({**found, "config": config}, lines)


def _local_keys() -> set[str]:
    from headwater import keys

    return {public.line for public, private in keys.local_keys() if private}


def _init(url: str | None, storage_namespace: str | None, session: Session, signed: bool) -> tuple[dict[str, Any], str]:
    from pathlib import Path

    from headwater import config, create
    from headwater.errors import AlreadyExistsError
    from headwater.names import check_text

    if url is not None:
        check_text(url, "URL")
    folder = Path.cwd()
    place = folder / config.FOLDER
    kept = config.find(folder) if place.exists() else None
    joining = kept is not None and kept.parent == place and config.load(environ={}, start=folder).lake == url
    if place.exists() and not (joining and url is not None and "://" in url):
        raise AlreadyExistsError(f"{place} is there already", hint="`headwater status` shows the lake that it names")
    if url is None:
        return _embed(place, storage_namespace, session, signed), str(place / "config.toml")
    with create(url, storage_namespace=storage_namespace, actor=session.actor, signed=signed) as registry:
        opened = registry if session.branch is None else registry.branch(session.branch)
        found = opened.status()
        if not joining:
            _write(folder, url, opened)
    return found, str(place / "config.toml")


def _write(folder: Path, url: str, registry: Registry) -> None:
    """Write the configuration that names a lake, which may be a folder."""
    from pathlib import Path

    from headwater import config

    lake = url if "://" in url else str(Path(url).resolve())
    config.write(folder, lake=lake, branch=registry.ref)


def _embed(place: Path, storage_namespace: str | None, session: Session, signed: bool) -> dict[str, Any]:
    """Make `.headwater` with a lake in it, all of it at once."""
    import shutil

    from headwater import config, create, open
    from headwater.ids import new_id
    from headwater.lake.objects import disk_errors

    beside = place.with_name(f"{place.name}-{new_id()}")
    try:
        with disk_errors(place.parent):
            beside.mkdir()
        where = str(beside / place.name / "lake")
        with create(where, storage_namespace=storage_namespace, actor=session.actor, signed=signed) as made:
            branch = made.ref if session.branch is None else made.branch(session.branch).ref
            config.write(beside, lake="lake", branch=branch)
        with disk_errors(place.parent):
            # Git shall not take a lake for something to commit, nor for a change to the code.
            (beside / place.name / ".gitignore").write_text("*\n")
            (beside / place.name).rename(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    with open(str(place / "lake"), branch=session.branch, actor=session.actor) as registry:
        return registry.status()


@command("status", ref=True, example="headwater status")
def status(session: Session) -> None:
    """Show which lake and branch this is, and how much there is."""
    with session.open() as registry:
        found = registry.status()

    def labelled() -> Iterable[tuple[str, object]]:
        named = {"ref": "branch" if session.ref is None else "ref"}
        for key, value in found.items():
            if key == "ahead" and (value or found["behind"]):
                yield (
                    "compared",
                    f"{count(value, 'transaction')} ahead of the default branch, {found['behind']:,} behind",
                )
            elif key not in ("ahead", "behind"):
                yield named.get(key, key), value

    session.emit(found, lambda: fields(labelled()))


@command(
    "log",
    ref=True,
    example="headwater log flight-delay --limit 10\nheadwater log --graph --all\nheadwater log run:0192d3f1",
)
@argument("reference", "[MODELREF|DATASET|URN]", complete="anything", required=False)
@limited
@option("--graph", is_flag=True, help="Draw how branches parted and were merged.")
@option("--all", "every", is_flag=True, help="What happened on all branches.")
def log(session: Session, reference: str | None, limit: int | None, graph: bool, every: bool) -> None:
    """Show what happened, newest first.

    All that reached the current branch, or what concerns one model, version, alias, dataset, run, or any URN.
    """
    if graph:
        return _graph(session, reference, limit, every)
    with session.open() as registry:
        found = registry.log(reference, limit=limit, every_branch=every)

    def lines() -> Iterable[str]:
        if not found:
            note("nothing has happened yet")
            return []
        return table(
            ("commit", "recorded (UTC)", "actor", "what"),
            [(short(each.commit), moment(each.recorded_at), each.actor, each.message) for each in found],
        )

    session.emit(found, lines)
    return None


def _graph(session: Session, reference: str | None, limit: int | None, every: bool) -> None:
    import sys

    from headwater.cli.lanes import lanes

    with session.open() as registry:
        found = registry.log_graph(reference, limit=limit, every_branch=every)

    def lines() -> Iterable[str]:
        if not found:
            note("nothing has happened yet")
            return []
        rows = {each.entry.commit: each for each in found}
        ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
        drawn = lanes(((commit, each.onto) for commit, each in rows.items()), ascii=ascii_only)
        return table(
            ("", "commit", "recorded (UTC)", "actor", "what"),
            [(text, *(_cells(rows[commit]) if commit is not None else [None] * 4)) for text, commit in drawn],
            first=False,
        )

    session.emit([each.entry for each in found], lines)


def _cells(row: GraphRow) -> tuple[object, ...]:
    it = row.entry
    names = f"({', '.join(row.refs)}) " if row.refs else ""
    return short(it.commit), moment(it.recorded_at), it.actor, names + it.message
