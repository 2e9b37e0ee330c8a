"""What every command is made of: global options before or after its name, help with an example, and a session.

A session holds what the global options said, opens the registry, and prints in the form that was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from headwater.cli.output import emit, json_text

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from headwater.registry import Registry

__all__ = ["Command", "Group", "Session", "argument", "command", "completes", "group", "limited", "option", "pairs"]

Callback = TypeVar("Callback", bound=Callable[..., Any])

CONTEXT = {"help_option_names": [], "max_content_width": 100}


class Session:
    """What the global options said: which lake, branch, ref and actor, and whether to print JSON."""

    def __init__(self) -> None:
        self.lake: str | None = None
        self.branch: str | None = None
        self.actor: str | None = None
        self.ref: str | None = None
        self.json = False

    @contextmanager
    def open(self) -> Iterator[Registry]:
        """Open the registry that the options, the environment or the nearest configuration name."""
        from headwater import open

        with open(self.lake, branch=self.branch, actor=self.actor, ref=self.ref) as registry:
            try:
                yield registry
            finally:
                # A refusal is told of too, and it comes as an exception.
                if branches := registry.take_news():
                    from headwater.cli.notify import tell_news

                    tell_news(registry, branches)

    def emit(self, document: object, lines: Callable[[], Iterable[str]]) -> None:
        """Print a document as JSON, or else the lines for eyes, which are only made if they are wanted."""
        if self.json:
            from headwater.model import as_json

            emit(json_text(as_json(document)))
        else:
            emit(*lines())


# -- options ----------------------------------------------------------------------------------------------------------
def completes(what: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]:
    """Return a completer for click that looks up `what` in the registry, imported when it is asked."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        from headwater.cli.completion import complete

        return complete(what, ctx, incomplete)

    return complete


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and value is not False and param.name is not None:
        setattr(ctx.ensure_object(Session), param.name, value)


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        emit(ctx.get_help())
        ctx.exit()


def _global(*names: str, **attributes: Any) -> click.Option:
    return click.Option(names, expose_value=False, callback=_keep, **attributes)


def _ref_option() -> click.Option:
    return _global(
        "--ref",
        metavar="REF",
        help="Read at a branch, tag or commit, main~3, or main@{2026-11-01T00:00:00Z}.",
        shell_complete=completes("ref"),
    )


def _global_options() -> list[click.Parameter]:
    return [
        _global("--lake", metavar="URL", help="The lake: a folder, or lakefs://host:port/repository."),
        _global("--branch", metavar="NAME", help="The branch to work on.", shell_complete=completes("branch")),
        _global("--actor", metavar="NAME", help="Who acts."),
        _global("--json", is_flag=True, is_eager=True, help="Print one JSON document."),
        click.Option(
            ["-h", "--help"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_help,
            help="Show this text.",
        ),
    ]


class _Documented(click.Command):
    """A command with an example, and with the global options apart from its own in its help."""

    example: str
    shared: list[click.Parameter]

    def _adopt(self, example: str, ref: bool) -> None:
        self.example = example
        self.shared = _global_options()
        self.params += [_ref_option(), *self.shared] if ref else self.shared

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then the global ones."""
        for title, own in (("Options", True), ("Global options", False)):
            records = [
                record
                for param in self.params
                if isinstance(param, click.Option) and (param not in self.shared) is own
                if (record := param.get_help_record(ctx)) is not None
            ]
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Command(_Documented):
    """A command of the command line."""

    def __init__(self, name: str | None, *, example: str, ref: bool = False, **attributes: Any) -> None:
        attributes["context_settings"] = CONTEXT
        super().__init__(name, **attributes)
        self._adopt(example, ref)


class Group(_Documented, click.Group):
    """A command with subcommands."""

    def __init__(self, name: str | None, *, example: str, **attributes: Any) -> None:
        attributes["context_settings"] = CONTEXT
        super().__init__(name, **attributes)
        self._adopt(example, False)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the subcommands before the options."""
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the subcommands, in the order in which they are written."""
        return list(self.commands)

    def group_command(self, name: str, *, example: str, ref: bool = False) -> Callable[[Callable[..., Any]], Command]:
        """Return a decorator that makes a function a subcommand; it gets the session first."""

        def decorate(function: Callable[..., Any]) -> Command:
            made = command(name, example=example, ref=ref)(function)
            self.add_command(made)
            return made

        return decorate


def command(
    name: str, *, example: str, ref: bool = False, cls: type[Command] = Command
) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that makes a function a command; it gets the session first.

    Args:
        name: What users type.
        example: Lines that they could type.
        ref: Whether it reads, and so takes `--ref`.
        cls: The class of the command.
    """

    def decorate(function: Callable[..., Any]) -> Command:
        return click.command(name, cls=cls, example=example, ref=ref)(click.pass_obj(function))

    return decorate


def group(name: str, *, example: str) -> Callable[[Callable[..., Any]], Group]:
    """Return a decorator that makes a function, which does nothing, a group of commands."""
    return click.group(name, cls=Group, example=example)


def argument(name: str, metavar: str, *, complete: str = "", **attributes: Any) -> Callable[[Callback], Callback]:
    """Return a decorator that adds an argument, completed from the registry if `complete` says with what."""
    if complete:
        attributes["shell_complete"] = completes(complete)
    return click.argument(name, metavar=metavar, **attributes)


option = click.option


def limited(function: Callback) -> Callback:
    """Add `--limit N` to a command."""
    return option("--limit", metavar="N", type=click.IntRange(min=1), help="Print no more than N.")(function)


def pairs(given: Sequence[str], what: str) -> dict[str, str]:
    """Return what a repeated `KEY=VALUE` option was given as.

    Raises:
        InvalidInputError: One is not of that form, or a key is given twice.
    """
    from headwater.errors import InvalidInputError
    from headwater.names import parse_pair

    found: dict[str, str] = {}
    for text in given:
        key, value = parse_pair(text, what)
        if key in found:
            raise InvalidInputError(f"{what} {key!r} is given twice", hint="give it once")
        found[key] = value
    return found
