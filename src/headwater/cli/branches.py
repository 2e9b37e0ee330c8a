"""Commands about branches and tags of the whole lake: `branch`, `switch`, `tag`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import ago, moment, short, table
from headwater.cli.output import clean, dim, note, strong

if TYPE_CHECKING:
    from headwater.branching import Branch

__all__ = ["branch", "switch", "tag"]

_STAYS = (
    "what only it had stays readable by commit ID until `headwater gc`, on a lakeFS server within its retention rules"
)


def _refuse(what: str) -> None:
    raise click.UsageError(what, click.get_current_context())


# -- branches ---------------------------------------------------------------------------------------------------------
@command(
    "branch",
    example="headwater branch exp-42 --from main~3\nheadwater branch\nheadwater branch --delete exp-42",
)
@argument("name", "[NAME]", complete="branch", required=False)
@option("--from", "source", metavar="REF", help="What it begins with; by default what the current branch has.")
@option("--delete", "-d", is_flag=True, help="Delete the branch NAME.")
@option("--force", is_flag=True, help="With --delete: also what was not merged.")
@option("-D", "both", is_flag=True, help="The same as --delete --force.")
def branch(session: Session, name: str | None, source: str | None, delete: bool, force: bool, both: bool) -> None:
    """Make a branch of everything, delete one, or list them.

    A branch is a frozen picture of all models, runs and datasets that can be changed without anybody seeing it, and
    making one takes no time, whatever the lake holds. Without NAME, all branches are listed: how many transactions each
    has that the default branch lacks (ahead), how many the default branch has that it lacks (behind), and what it has.
    """
    delete, force = delete or both, force or both
    if name is None and (delete or source is not None):
        _refuse("name the branch")
    if delete and source is not None:
        _refuse("--from is for a new branch, not for --delete")
    if force and not delete:
        _refuse("--force is for --delete")
    if name is None:
        return _list(session)
    if delete:
        return _delete(session, name, force)
    with session.open() as registry:
        made = registry.create_branch(name, source)
        found = {"name": name, "commit": made.head}
    session.emit(
        found,
        lambda: [
            f"branch {strong(name)} is at {short(found['commit'])}; {dim(f'headwater switch {name}')} works on it"
        ],
    )
    return None


def _list(session: Session) -> None:
    from headwater.branching import words
    from headwater.opening import open_any

    # Whoever stands on a branch that is gone has to see which there are.
    with open_any(session.lake, actor=session.actor) as registry:
        at = session.branch or registry.working_branch
        found = [replace(each, current=each.name == at) for each in registry.branch_list()]

    def row(each: Branch) -> tuple[object, ...]:
        mark = "*" if each.current else ""
        what = words(each.contents)
        return mark, each.name, short(each.commit), ago(each.recorded_at), each.ahead, each.behind, what

    session.emit(
        found,
        lambda: table(
            ("", "branch", "commit", "age", "ahead", "behind", "what only it has"),
            map(row, found),
            right=("ahead", "behind"),
        ),
    )
    if not any(each.current for each in found):
        note(f"the current branch, {at}, is not there")
    if not session.json:
        note(*(clean(text) for each in found for text in each.notes))


def _delete(session: Session, name: str, force: bool) -> None:
    from headwater import config
    from headwater.errors import ConflictError

    with session.open() as registry:
        kept = config.current(registry.url)
        main = registry.default_branch
        if kept is not None and kept[1] == name != main and name in registry.branches():
            raise ConflictError(f"branch {name!r} is the current one", hint=f"`headwater switch {main}` first")
        gone = registry.delete_branch(name, force=force)

    def lines() -> Iterable[str]:
        yield f"branch {strong(name)} is deleted; it was at {short(gone.commit)}"
        if gone.ahead:
            yield f"  {_STAYS};"
            yield f"  `headwater branch {name} --from {short(gone.commit)}` brings it back"

    session.emit(gone, lines)


@command("switch", example="headwater switch exp-42\nheadwater switch -c exp-43")
@argument("name", "NAME", complete="branch")
@option("--create", "-c", is_flag=True, help="Make the branch first.")
@option("--from", "source", metavar="REF", help="With --create: what it begins with.")
def switch(session: Session, name: str, create: bool, source: str | None) -> None:
    """Work on another branch from now on.

    The name is written into the nearest .headwater/config.toml. --branch and HEADWATER_BRANCH go before it.
    """
    from headwater import config, open, rehearsals
    from headwater.errors import InvalidInputError
    from headwater.opening import open_any

    if source is not None and not create:
        _refuse("--from is for --create")
    if rehearsals.branch() is not None:
        raise rehearsals.refusal("switch")
    url = config.load(lake=session.lake, actor=session.actor).lake
    kept = config.current(url)
    if kept is None:
        named = "--lake" if session.lake is not None else "HEADWATER_LAKE"
        raise InvalidInputError(
            f"no .headwater/config.toml here names the lake {url}, so there is no current branch to change",
            hint=f"it is named by {named}: name the branch with --branch or HEADWATER_BRANCH",
        )
    path, before = kept
    # Whoever stands on a branch that is gone has to be able to leave it.
    with (
        open_any(url, actor=session.actor)
        if source is not None
        else open(url, branch=session.branch if create else name, actor=session.actor)
    ) as registry:
        there = registry.create_branch(name, source) if create else registry.branch(name)
        commit = there.head
        try:
            config.switch(path, name)
        except BaseException:
            if create:
                registry.delete_branch(name)
            raise

    def lines() -> Iterable[str]:
        already = "already " if before == name and not create else ""
        yield f"{already}on branch {strong(name)}, at {short(commit)}"

    session.emit({"name": name, "commit": commit, "config": str(path)}, lines)
    over = session.branch or os.environ.get("HEADWATER_BRANCH")
    if over and over != name:
        given = "--branch" if session.branch else "HEADWATER_BRANCH"
        note(f"{given} names {over} and goes before what was written: commands still work on {over} while it is set")


# -- tags -------------------------------------------------------------------------------------------------------------
@command("tag", example="headwater tag release-2026-11\nheadwater tag before-cleanup main~3\nheadwater tag")
@argument("name", "[NAME]", complete="tag", required=False)
@argument("ref", "[REF]", complete="ref", required=False)
@option("--delete", "-d", is_flag=True, help="Delete the tag NAME.")
def tag(session: Session, name: str | None, ref: str | None, delete: bool) -> None:
    """Give a commit a name that never moves, delete one, or list them.

    A tag is a ref: `--ref release-2026-11` reads everything as it was. Without REF it names what the current branch has
    now. (Tags of models and versions are set with `headwater tag-model`.)
    """
    if delete and (name is None or ref is not None):
        _refuse("name the tag alone")
    with session.open() as registry:
        if delete and name is not None:
            commit = registry.delete_tag(name)
            session.emit(
                {"name": name, "commit": commit}, lambda: [f"tag {strong(name)} is deleted; it was at {short(commit)}"]
            )
            return
        if name is not None:
            made = registry.create_tag(name, ref)
            session.emit(made, lambda: [f"tag {strong(name)} is at {short(made.commit)}: {made.message}"])
            return
        found = registry.tags()

    def lines() -> Iterable[str]:
        if not found:
            note("there are no tags yet")
            return []
        return table(
            ("tag", "commit", "recorded (UTC)", "actor", "what"),
            [(each.name, short(each.commit), moment(each.recorded_at), each.actor, each.message) for each in found],
        )

    session.emit(found, lines)
