"""Completion of names in the shell, and the command `completion` that prints the script for it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from headwater.cli.base import Session, command
from headwater.cli.output import emit
from headwater.errors import HeadwaterError
from headwater.names import parse_model, quote

if TYPE_CHECKING:
    from headwater.registry import Registry

__all__ = ["answer", "complete", "completion"]

COMPLETE = "_HEADWATER_COMPLETE"


# -- names ------------------------------------------------------------------------------------------------------------
def complete(what: str, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
    """Return what `incomplete` may become; nothing where the lake can't be read.

    Args:
        what: `model`, `alias` or `number` (of the model that came before), `version`, `dataset`, `anything`, `branch`,
            `tag`, `run` or `ref`.
        ctx: What was typed before.
        incomplete: What was typed of it.
    """
    try:
        with ctx.ensure_object(Session).open() as registry:
            found = list(_candidates(what, registry, str(ctx.params.get("name") or ""), incomplete))
    except (HeadwaterError, OSError):
        return []
    return [CompletionItem(value) for value in found if value.startswith(incomplete) and value.isprintable()]


def _candidates(what: str, registry: Registry, name: str, incomplete: str) -> Iterable[str]:
    if what == "branch":
        yield from registry.branches()
    elif what == "tag":
        yield from (each.name for each in registry.tags())
    elif what == "ref":
        yield from registry.branches()
        yield from (each.name for each in registry.tags())
        yield from (entry.commit[:12] for entry in registry.log(limit=20))
    elif what == "run":
        yield from (run.run_id for run in registry.runs(limit=50))
    elif what == "alias":
        yield from registry.model(name).aliases
    elif what == "number":
        yield from (str(version.version) for version in registry.versions(name))
    else:
        if what in ("model", "version", "anything"):
            yield from _models(registry, what, incomplete)
        if what in ("dataset", "dataset-name", "anything"):
            yield from _datasets(registry, what, incomplete)


def _models(registry: Registry, what: str, incomplete: str) -> Iterable[str]:
    """Yield names of models; once a name is there, its aliases and versions too."""
    for model in registry.models():
        name = quote(model.name)
        if name.startswith(incomplete):
            yield name
        if what != "model" and f"{name}@".startswith(incomplete[: len(name) + 1]):
            yield from (f"{name}@{alias}" for alias in model.aliases)
        if what != "model" and incomplete.startswith(f"{name}/"):
            yield from (version.reference for version in registry.versions(str(parse_model(name))))


def _datasets(registry: Registry, what: str, incomplete: str) -> Iterable[str]:
    for dataset in registry.datasets():
        name = quote(dataset.name)
        yield name
        if what != "dataset-name" and f"{name}@".startswith(incomplete[: len(name) + 1]):
            yield from (version.reference for version in registry.dataset_versions(name))


# -- shells -----------------------------------------------------------------------------------------------------------
class _Bash(BashComplete):
    """Bash, whose words end at `@`, `=` and `:` as well: the line is cut into words again here."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == plain ]]; then
            COMPREPLY+=("$value")
        else
            compopt -o default 2>/dev/null
        fi
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def source(self) -> str:
        """Return the script."""
        return self.source_template % self.source_vars()

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and that one."""
        from click.shell_completion import split_arg_string

        line = os.environ.get("COMP_LINE", "")
        words = split_arg_string(line)[1:]
        if line[-1:].isspace() or not words:
            words.append("")
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a completion without what stands before Bash's own word."""
        breaks = "".join(c for c in os.environ.get("COMP_WORDBREAKS", "") if c in "@=:")
        _, typed = self.get_completion_args()
        kept = max((typed.rfind(c) for c in breaks), default=-1) + 1
        return f"{item.type},{item.value[kept:] if item.value.startswith(typed) else item.value}"


_SHELLS: dict[str, type[ShellComplete]] = {"bash": _Bash, "zsh": ZshComplete, "fish": FishComplete}


def answer(program: click.Command, asked: str) -> int:
    """Print the completions that a shell asked for, and return the exit status."""
    shell, _, what = asked.partition("_")
    if shell not in _SHELLS or what != "complete":
        return 2
    found = _SHELLS[shell](program, {"obj": Session()}, "headwater", COMPLETE).complete()
    if found:
        emit(found)
    return 0


@command(
    "completion",
    example="""\
eval "$(headwater completion bash)"
headwater completion fish > ~/.config/fish/completions/headwater.fish""",
)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(list(_SHELLS)))
def completion(session: Session, shell: str) -> None:
    """Print a script that completes commands and names as you type.

    Put the line of the example into ~/.bashrc or ~/.zshrc. Models, versions, aliases, datasets and branches are looked
    up in the lake as you type.
    """
    script = _SHELLS[shell](click.get_current_context().find_root().command, {}, "headwater", COMPLETE).source()
    session.emit({"shell": shell, "script": script}, lambda: [script.rstrip("\n")])
