"""Several transactions that reach a branch at once, or not at all; knows commits and branches, and no rows.

They are made one after another on a lasting hidden branch, each deciding on what the one before it left. Then the
branch that they are for is moved there, if nobody else was first; else they are made again. Who reads sees all or none.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from headwater.context import Context
from headwater.errors import ConflictError, HeadwaterError, RaceLostError
from headwater.ids import new_id
from headwater.lake.base import REHEARSAL_PREFIX

__all__ = ["together"]

_ATTEMPTS = 50
_UNQUEUED = 2
"""Attempts before others are made to wait: what takes long is measured by then, and need not be again."""

Result = TypeVar("Result")


def together(context: Context, build: Callable[[Context], Result], *, land: bool = True) -> Result:
    """Run transactions on a copy of a branch, and move the branch to what they came to.

    Args:
        context: The branch.
        build: Writes, through the context that it is given; called again where another writer landed first.
        land: Whether the branch is moved; else all is thrown away, and nothing is signed.

    Returns:
        What `build` returned.

    Raises:
        ConflictError: Others kept landing first for as long as it was worth trying.
        HeadwaterError: Whatever `build` raises; nothing is written then.
    """
    context.check_writable()
    for attempt in range(_ATTEMPTS):
        queued = land and attempt >= _UNQUEUED
        with context.lake.exclusive() if queued else contextlib.nullcontext():
            try:
                return _once(context, build, land=land, queued=queued)
            except RaceLostError:
                pass
        time.sleep(random.uniform(0, min(1.0, 0.01 * 1.5**attempt)))
    raise ConflictError(
        f"other writers of branch {context.ref!r} landed first {_ATTEMPTS} times", hint="try again when it is quieter"
    )


def _once(context: Context, build: Callable[[Context], Result], *, land: bool, queued: bool) -> Result:
    lake, name = context.lake, f"{REHEARSAL_PREFIX}{new_id()}"
    head = lake.head(context.branch)
    lake.create_branch(name, head, hidden=True, lasting=True)
    stands_for = context.stands_for or context.branch
    signs_for = stands_for if land and context.writer.only is None else ""
    writer = context.writer.beside(name, signs_for=signs_for, queued=queued)
    try:
        result = build(replace(context, branch=name, writer=writer, stands_for=stands_for))
        made = lake.head(name)
        if land and made != head:
            lake.move_branch(context.branch, made, expected=head)
        return result
    finally:
        writer.close()
        with contextlib.suppress(HeadwaterError):
            lake.delete_branch(name)
        context.folds.forget(name)
