"""Opening and making registries: which lake, and whether it is one of ours that this code can read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from headwater import active, config
from headwater.context import Context
from headwater.errors import AlreadyExistsError, IntegrityError, LakeError, NotFoundError
from headwater.ids import new_id
from headwater.lake import connect as lakes
from headwater.lake import refs
from headwater.lake.base import Lake
from headwater.registry import Registry
from headwater.schema import TABLES
from headwater.state import Folds
from headwater.transaction import Transaction, Writer

if TYPE_CHECKING:
    from headwater.run import Run

__all__ = ["FORMAT", "MARKER", "create", "current_run", "open"]

MARKER = "headwater.json"
"""Object at the root of every branch that says: this is a registry, of this format, with this ID."""

FORMAT = 1
"""The newest layout of tables and objects that this code reads and writes."""


def open(
    url: str | None = None, *, branch: str | None = None, actor: str | None = None, ref: str | None = None
) -> Registry:
    """Open a registry.

    Args:
        url: The lake: a folder or `lakefs://host:port/repository`. Else `$HEADWATER_LAKE`, else the nearest
            `.headwater/config.toml`.
        branch: The branch to work on. Else `$HEADWATER_BRANCH`, else the file's, else the lake's default.
        actor: Who acts. Else `$HEADWATER_ACTOR`, else the file's, else the operating system's user.
        ref: Read only, at this ref.

    Raises:
        NotFoundError: No lake is named, or there is no such branch or ref.
        LakeError: The lake can't be used, isn't a registry, or was made by a newer Headwater.
    """
    settings = config.load(lake=url, branch=branch, actor=actor)
    lake = lakes.connect(settings.lake)
    try:
        _check_marker(lake)
        folds = Folds(lake)
        name = settings.branch if settings.branch is not None else lake.default_branch
        context = Context(lake, folds, Writer(lake, folds), name, None, name, settings.actor)
        if ref is not None:
            return Registry(context).at(ref)
        if settings.branch is not None:
            refs.head(lake, name)
        return Registry(context)
    except BaseException:
        lake.close()
        raise


def create(url: str, *, storage_namespace: str | None = None, actor: str | None = None) -> Registry:
    """Make a registry, or join the lakeFS repository that is there, and open it.

    Args:
        url: A folder, or `lakefs://host:port/repository`.
        storage_namespace: Where a new lakeFS repository keeps its objects, such as `s3://bucket/ml`.
        actor: Who acts.

    Raises:
        AlreadyExistsError: The folder holds a lake.
        LakeError: It can't be made.
    """
    settings = config.load(lake=url, actor=actor)
    try:
        lake = lakes.create(url, storage_namespace=storage_namespace)
    except AlreadyExistsError:
        # An `init` that died between the lake and its marker is taken up where it ended.
        lake = lakes.connect(url)
        if _marker(lake) is not None:
            lake.close()
            raise
    try:
        folds = Folds(lake)
        context = Context(
            lake, folds, Writer(lake, folds), lake.default_branch, None, lake.default_branch, settings.actor
        )
        try:
            _check_marker(lake)
        except LakeError:
            if _marker(lake) is not None:
                raise

            def work(tx: Transaction) -> None:
                if _marker(lake, tx.fold.commit) is not None:
                    return
                tx.put(MARKER, json.dumps({"format": FORMAT, "lake": new_id()}).encode())
                tx.message = "make a registry"
                for name in TABLES:
                    tx.rows.setdefault(name, [])

            context.write("init", work)
        return Registry(context)
    except BaseException:
        lake.close()
        raise


def current_run() -> Run | None:
    """Return the active run of this process, or None.

    In a process that `headwater run` started it is that run (`HEADWATER_RUN_ID`), joined when it is first asked for.

    Raises:
        HeadwaterError: The lake of the run that started this process can't be opened.
    """
    run: Run | None = active.current()
    if run is not None or active.outer() is None:
        return run
    registry = open()
    run = registry.current_run()
    if run is None:  # else it stays open: the run writes to it until the process ends
        registry.close()
    return run


def _marker(lake: Lake, ref: str | None = None) -> bytes | None:
    try:
        return lake.read(lake.default_branch if ref is None else ref, MARKER)
    except NotFoundError:
        pass
    try:
        lake.get_commit(lake.head(lake.default_branch))
    except NotFoundError as error:
        raise IntegrityError(f"{lake.url} is damaged: {error.message}", hint="restore it from a copy") from error
    return None


def _check_marker(lake: Lake) -> None:
    body = _marker(lake)
    if body is None:
        raise LakeError(f"{lake.url} is not a Headwater registry", hint=f"`headwater init {lake.url}` makes it one")
    try:
        made = json.loads(body)["format"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{MARKER} of {lake.url} is not what was written") from None
    if not isinstance(made, int) or made > FORMAT:
        raise LakeError(
            f"{lake.url} was made by a newer Headwater (format {made}; this one reads up to {FORMAT})",
            hint="upgrade Headwater",
        )
