"""Bringing a run's spool into the lake, each frame once, and taking in the spools of processes that died.

What has landed is an event of the same transaction (kind `landed`: subject the run, key the spool, value the number of
the last frame), so a process that dies anywhere, or two that take in one spool, lose nothing and double nothing.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headwater.context import Context
from headwater.errors import HeadwaterError, NotFoundError
from headwater.frames import Content
from headwater.ids import new_id, now_micros, timestamp
from headwater.lake.base import REHEARSAL_PREFIX, Lake
from headwater.names import counted
from headwater.spool import SUFFIX, Spool, is_owned
from headwater.tombstones import visible
from headwater.transaction import Transaction

__all__ = ["STATUSES", "Landed", "ending", "land", "make_spool", "someone_lives", "status_of", "take_in"]

STATUSES = ("running", "killed", "failed", "finished")
"""Where two branches disagree about how a run stands, the later one holds."""

_LARGEST = 128 << 20
"""Bytes of frames in one transaction; more are landed in several."""


class _UnknownRunError(NotFoundError):
    """A spool names a run that its branch does not have."""


@dataclass(slots=True)
class Landed:
    """What landing came to: how many points, and params that stand at another value already."""

    points: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def make_spool(context: Context, run_id: str, *, owner: bool, host: str | None) -> Spool:
    """Make this process's spool of a run.

    Args:
        context: The branch that it lands on, and as who.
        run_id: The run.
        owner: Whether this process began the run and will end it.
        host: The machine on which the run began.
    """
    name = f"{run_id}.{new_id()}{SUFFIX}"
    about = {"run_id": run_id, "branch": context.branch, "actor": context.actor, "owner": owner, "host": host}
    return Spool.create(_folder(context.lake) / name, about)


def _folder(lake: Lake) -> Path:
    return lake.spool / "runs"


def someone_lives(context: Context, run_id: str, besides: Path) -> bool:
    """Return whether another process of this machine takes part in a run."""
    return any(is_owned(path) for path in _folder(context.lake).glob(f"{run_id}.*{SUFFIX}") if path != besides)


def ending(status: str, *, exit_status: int | None = None, micros: int | None = None) -> dict[str, Any]:
    """Return the value of an event of kind `status`."""
    ended_at = timestamp(now_micros() if micros is None else micros)
    return {"status": status, "ended_at": ended_at, "exit_status": exit_status}


def status_of(values: list[str | None]) -> dict[str, Any]:
    """Return how a run stands, from the values of its standing events of kind `status`."""
    known = [json.loads(value) for value in values if value is not None]
    fallback = {"status": "running", "ended_at": None, "exit_status": None}
    return max(known, key=lambda each: (STATUSES.index(each["status"]), each["ended_at"]), default=fallback)


def land(context: Context, run_id: str, spool: Spool, *, otherwise: dict[str, Any] | None = None) -> Landed:
    """Bring all frames of a spool into the lake, and forget them.

    Args:
        context: The branch, and who acts.
        run_id: The run.
        spool: A spool that this process owns.
        otherwise: How the run ended if no frame says so and nobody else did; None: it goes on.

    Raises:
        NotFoundError: The branch has no such run.
        HeadwaterError: It can't be landed now; the spool is as it was.
    """
    landed = Landed()
    after = 0
    while True:
        frames = spool.frames(after, _LARGEST)
        last = frames[-1][0] if frames else after
        ended = otherwise if last >= spool.last else None
        if not frames and ended is None:
            return landed

        def work(tx: Transaction, frames: Any = frames, last: int = last, ended: Any = ended) -> Landed:
            return _land(tx, run_id, spool.path.name, frames, last, ended)

        part = context.write("run", work).result
        landed.points += part.points
        landed.refused |= part.refused
        spool.drop(last)
        after = last
        if last >= spool.last:
            return landed


def _land(
    tx: Transaction, run_id: str, spool: str, frames: list[tuple[int, bytes]], last: int, ended: dict[str, Any] | None
) -> Landed:
    if tx.fold.one("SELECT 1 FROM runs WHERE run_id = ?", run_id) is None:
        raise _UnknownRunError(f"there is no run {run_id} on this branch")
    key = spool.removesuffix(SUFFIX).rpartition(".")[2]
    done = max((int(value or 0) for _, value in tx.fold.standing(run_id, "landed", key)), default=0)
    content = Content.read(payload for number, payload in frames if number > done)
    columns = content.metrics(run_id)
    if columns is not None:
        tx.append_arrow("metrics", columns)
    landed = Landed(content.count)
    _land_params(tx, run_id, content, landed)
    for name, value in content.tags.items():
        tx.event(run_id, "tag", value, key=name)
    if content.description is not None:
        tx.event(run_id, "description", content.description)
    read = [("used", each) for each in content.inputs] + [("evaluated", each) for each in content.evaluated]
    for relation, dataset_id in read:
        edge = (f"dataset:{dataset_id}", relation, f"run:{run_id}")
        if tx.fold.one(f"{_EDGE} AND {visible('l.tx')}", *edge) is None:
            tx.append("lineage", source=edge[0], relation=edge[1], target=edge[2])
    if content.end is not None:
        ended = content.end
    elif ended is not None and tx.fold.standing(run_id, "status"):
        ended = None
    if ended is not None:
        tx.event(run_id, "status", json.dumps(ended))
    if last > done:
        tx.event(run_id, "landed", str(last), key=key)
    tx.subject = f"run:{run_id}"
    what = [counted(content.count, "point")] if content.count else []
    what += [ended["status"]] if ended is not None else []
    tx.message = f"run {run_id}: {', '.join(what) or 'changed'}"
    return landed


_EDGE = "SELECT 1 FROM lineage l WHERE source = ? AND relation = ? AND target = ?"


def _land_params(tx: Transaction, run_id: str, content: Content, landed: Landed) -> None:
    """Add params; one that stands at another value keeps it, as a call would have refused the new one."""
    if not content.params:
        return
    (text,) = tx.fold.one("SELECT row FROM runs WHERE run_id = ?", run_id)
    given = json.loads(text)["params"]
    for key, value in content.params.items():
        standing = {value for _, value in tx.fold.standing(run_id, "param", key)} or {given.get(key)}
        if standing == {None}:
            tx.event(run_id, "param", value, key=key)
        elif standing != {value}:
            landed.refused[key] = value


# -- what others left -------------------------------------------------------------------------------------------------
def take_in(context: Context, run_id: str | None = None) -> dict[str, int]:
    """Land what processes of this machine left that died, and mark their runs as killed.

    Args:
        context: The lake; each spool says which branch it belongs to, and who acted.
        run_id: Only this run; else all.

    Returns:
        Runs of which something could not be landed now, and when they died, in microseconds.
    """
    left: dict[str, int] = {}
    for spool, died in _abandoned(context.lake, run_id or "*"):
        about = spool.about
        its_run, branch, actor = about["run_id"], about["branch"], about["actor"]
        here = about["owner"] or about.get("host") == platform.node()
        over = here and not someone_lives(context, its_run, spool.path)
        view = replace(context, branch=branch, commit=None, ref=branch, actor=actor)
        try:
            land(view, its_run, spool, otherwise=ending("killed", micros=died) if over else None)
            spool.remove()
        except _UnknownRunError:
            # Its process died before the run had landed: nobody was told of it.
            spool.remove()
        except NotFoundError:
            # The branch is gone; should it come back, so does this. A rehearsal's never does.
            (spool.remove if branch.startswith(REHEARSAL_PREFIX) else spool.close)()
        except (HeadwaterError, ValueError, KeyError):
            left[its_run] = died
            spool.close()
    return left


def _abandoned(lake: Lake, run_id: str) -> Iterator[tuple[Spool, int]]:
    """Yield each spool whose owner died, owned now, and when it was last written to; the oldest first."""
    for path in sorted(_folder(lake).glob(f"{run_id}.*{SUFFIX}")):
        spool = Spool.take(path)
        if spool is None:
            continue
        died = now_micros()
        with suppress(OSError):
            died = os.stat(path).st_mtime_ns // 1000
        if not {"run_id", "branch", "actor", "owner"} <= spool.about.keys():
            # Not what was written: kept for somebody to look at, out of the way.
            with suppress(OSError):
                path.rename(path.with_suffix(".damaged"))
            spool.close()
            continue
        yield spool, died
