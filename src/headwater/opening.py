"""Opening and making registries: which lake, and whether it is one of ours that this code can read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from headwater import active, config, keys, known_lakes, marker, marking, rehearsals
from headwater.context import Context
from headwater.errors import AlreadyExistsError, LakeError, NotFoundError
from headwater.lake import connect as lakes
from headwater.lake import refs
from headwater.lake.base import REHEARSAL_PREFIX, Lake
from headwater.marker import FORMAT
from headwater.marking import MARKER
from headwater.names import shown_path
from headwater.registry import Registry
from headwater.state import Folds
from headwater.transaction import Writer

if TYPE_CHECKING:
    from headwater.run import Run

__all__ = ["FORMAT", "MARKER", "create", "current_run", "open", "open_any"]


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

    In a program that a rehearsal started (`$HEADWATER_REHEARSAL`), the rehearsal's hidden branch alone can be written.

    Raises:
        NotFoundError: No lake is named, or there is no such branch or ref.
        LakeError: The lake can't be used, isn't a registry, or was made by a newer Headwater.
    """
    return _open(config.load(lake=url, branch=branch, actor=actor), ref, named=branch)


def open_any(url: str | None = None, *, actor: str | None = None) -> Registry:
    """Open a registry as `open` does, also where the current branch is gone: for what can be done without one."""
    return _open(config.load(lake=url, actor=actor), None, named=None, lenient=True)


def _open(settings: config.Settings, ref: str | None, *, named: str | None, lenient: bool = False) -> Registry:
    lake = lakes.connect(settings.lake)
    try:
        there = marker.check(lake)
        folds = Folds(lake)
        name = settings.branch if settings.branch is not None else lake.default_branch
        writer = Writer(lake, folds, only=_rehearsal(name))
        context = Context(lake, folds, writer, name, None, name, settings.actor)
        _know(lake, context, there)
        if ref is not None and os.environ.get(config.REPRODUCE):
            # A scratch lake has no history; what was read at a ref is what is in it.
            ref = name
        if ref is not None:
            return Registry(context).at(ref)
        if settings.branch is not None and not lenient:
            try:
                refs.head(lake, name)
            except NotFoundError as error:
                if named:
                    raise
                if os.environ.get("HEADWATER_BRANCH"):
                    message, hint = f"{error.message}, which HEADWATER_BRANCH names", f"set or unset it; {error.hint}"
                else:
                    message = f"{error.message}, the current one here"
                    hint = f"`headwater switch {lake.default_branch}` goes back to the default branch"
                raise NotFoundError(message, hint=hint) from None
        return Registry(context)
    except BaseException:
        lake.close()
        raise


def create(
    url: str, *, storage_namespace: str | None = None, actor: str | None = None, signed: bool = False
) -> Registry:
    """Make a registry, or join the lakeFS repository that is there, and open it.

    Args:
        url: A folder, or `lakefs://host:port/repository`.
        storage_namespace: Where a new lakeFS repository keeps its objects, such as `s3://bucket/ml`.
        actor: Who acts.
        signed: Whether every event is signed: the actor's key, made here if there is none, enrols all others. A lake
            that is there stays as it is.

    Raises:
        AlreadyExistsError: The folder holds a lake, or the repository one that is not signed and is to be.
        PermissionDeniedError: The actor's private key can't be used.
        InvalidInputError: This process is part of a rehearsal.
        LakeError: It can't be made.
    """
    settings = config.load(lake=url, actor=actor)
    if os.environ.get(config.REPRODUCE):
        return open()
    if rehearsals.branch() is not None:
        raise rehearsals.refusal("init")
    if (there := config.followed(url)) != url:
        raise AlreadyExistsError(
            f"there is a project in {shown_path(url)} already, with the lake {there}",
            hint="--lake or HEADWATER_LAKE opens it, headwater.open(URL) in Python; or choose another folder",
        )
    try:
        lake = lakes.create(url, storage_namespace=storage_namespace)
    except AlreadyExistsError:
        # An `init` that died between the lake and its marker is taken up where it ended.
        lake = lakes.connect(url)
        if marker.found(lake) is not None:
            lake.close()
            raise
    try:
        folds = Folds(lake)
        context = Context(
            lake, folds, Writer(lake, folds), lake.default_branch, None, lake.default_branch, settings.actor
        )
        try:
            body = marker.check(lake)
            marker.check_mode(lake, body, signed=signed)
            _know(lake, context, body, remember=False)
        except LakeError:
            if marker.found(lake) is not None:
                raise
            if signed and not os.environ.get(keys.KEY) and keys.local_key(context.actor) is None:
                keys.make(context.actor, os.environ.get(keys.PASSPHRASE))
            marker.make(context, signed=signed)
            context.writer.signed = signed
        return Registry(context)
    except BaseException:
        lake.close()
        raise


def _know(lake: Lake, context: Context, there: bytes, *, remember: bool = True) -> None:
    """Make sure that a lake is the one that was at its URL before, and note whether it is signed.

    Raises:
        IntegrityError: Another lake is there, or it was made unsigned.
    """
    root = marking.root_of(there)
    known_lakes.check(lake.url, root, remember=remember)
    context.writer.signed = root is not None


def _rehearsal(branch: str) -> str | None:
    """Return the one branch that this process may write to, if a rehearsal started it or it works on one's branch."""
    if os.environ.get(config.REPRODUCE):
        return None
    return rehearsals.branch() or (branch if branch.startswith(REHEARSAL_PREFIX) else None)


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
