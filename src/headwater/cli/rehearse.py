"""The command that runs another one on a hidden branch, shows what it changed there, and throws it away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from headwater.cli.base import Command, Session, argument, command
from headwater.cli.output import emit, json_text, note
from headwater.rehearsals import REFUSED, refusal

if TYPE_CHECKING:
    from headwater.errors import HeadwaterError
    from headwater.registry import Registry, Rehearsal

__all__ = ["rehearse"]


class _Whole(Command):
    """A command whose arguments, from the first on, are another command's."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        self.context_settings = {**self.context_settings, "allow_interspersed_args": False}


class _Trial(Session):
    """A session in which commands that write find a rehearsal where they look for their registry."""

    def __init__(self, outer: Session, held: ExitStack) -> None:
        super().__init__()
        self.lake, self.branch, self.actor, self.json = outer.lake, outer.branch, outer.actor, outer.json
        self.document: object = None
        self.rehearsal: Rehearsal | None = None
        self._held = held

    @contextmanager
    def open(self) -> Iterator[Registry]:
        """Open the rehearsal, made when it is first asked for; a command that only reads gets what it always gets."""
        asking = click.get_current_context(silent=True)
        if asking is not None and any("--ref" in param.opts for param in asking.command.params):
            with super().open() as registry:
                yield registry
            return
        if self.rehearsal is None:
            registry = self._held.enter_context(super().open())
            self.rehearsal = self._held.enter_context(registry.rehearse())
        yield self.rehearsal

    def emit(self, document: object, lines: Callable[[], Iterable[str]]) -> None:
        """Print lines as ever, and keep a document: it becomes a part of ours."""
        if not self.json or self.rehearsal is None:
            super().emit(document, lines)
            return
        from headwater.model import as_json

        self.document = as_json(document)


def _commands(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    """Complete the name of the command, which is the first word."""
    from headwater.cli.program import COMMANDS

    if ctx.params.get("words"):
        return []
    found = [name for name in COMMANDS if name.startswith(incomplete) and name not in REFUSED]
    return [CompletionItem(name) for name in found]


@command(
    "rehearse",
    cls=_Whole,
    example="headwater rehearse alias set flight-delay champion 9\n"
    "headwater rehearse merge exp-42\n"
    "headwater rehearse register flight-delay model/ --json",
)
@argument("words", "COMMAND...", nargs=-1, type=click.UNPROCESSED, shell_complete=_commands)
def rehearse(session: Session, words: tuple[str, ...]) -> None:
    """Show what a command would change, and keep none of it.

    The command, with all its options, runs on a hidden branch made from the current one; then the difference is shown
    and the branch thrown away, also if the command fails or is interrupted. The exit status is the command's. No number
    and no name stays taken, and programs that the command starts can write to no other branch. What the command writes
    into files of yours stays.
    """
    outer = click.get_current_context()
    if not words:
        raise click.UsageError("a command is missing", outer)
    if words[0] in REFUSED:
        raise refusal(words[0])
    outer.exit(_run(outer, session, list(words)))


def _run(outer: click.Context, session: Session, words: list[str]) -> int:
    """Run a command in a rehearsal, show what came of it, and return the command's exit status."""
    from headwater.errors import HeadwaterError

    program = outer.find_root().command
    status = 0
    with ExitStack() as held:
        trial = _Trial(session, held)
        try:
            with program.make_context(outer.find_root().info_name, words, obj=trial) as inner:
                program.invoke(inner)
        except click.exceptions.Exit as done:
            status = done.exit_code
        except HeadwaterError as error:
            # A refusal may be recorded, and what it says of itself goes before the error.
            if trial.document is not None or (trial.rehearsal is not None and not trial.json):
                _show(trial, failed=error)
            raise
        finally:
            session.json = session.json or trial.json
        if trial.rehearsal is not None:
            _show(trial, failed=None)
    return status


def _show(trial: _Trial, *, failed: HeadwaterError | None) -> None:
    """Print what a rehearsed command changed; nothing of it is kept."""
    from headwater.cli.diff import show_diff
    from headwater.errors import ConflictError
    from headwater.model import as_json

    assert trial.rehearsal is not None
    found = trial.rehearsal.difference()
    if trial.json:
        emit(json_text({"result": trial.document, "difference": as_json(found) if found else None}))
    elif found:
        emit("", *show_diff(found))
    if not trial.json and (found or isinstance(failed, ConflictError)):
        note("nothing of it is kept: this was a rehearsal")
    elif not trial.json and failed is None:
        note("it would change nothing")
