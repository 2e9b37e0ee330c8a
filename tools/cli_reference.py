"""Write docs/cli.md, the reference of the command line, out of the commands' own help; with --check, compare it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from headwater.cli.base import Group, Session
from headwater.cli.program import program

PLACE = Path(__file__).parents[1] / "docs" / "cli.md"

_HEAD = """\
# The command line

<!-- Written by tools/cli_reference.py from the commands' own help. -->

Every command takes these options, before or after its name:

| option | means |
|---|---|
| `--lake URL` | the lake: a folder, or `lakefs://host:port/repository`. Else `$HEADWATER_LAKE`, else what the nearest \
`.headwater/config.toml` says, going up from the current folder |
| `--branch NAME` | the branch to work on. Else `$HEADWATER_BRANCH`, else the current one |
| `--actor NAME` | who acts. Else `$HEADWATER_ACTOR`, else the configured user, else the operating system's |
| `--json` | print one JSON document |
| `-h`, `--help` | show what the command does, its options and an example |

`--json` prints one JSON document, an object or an array of objects, with the names of columns for keys. Times are ISO
8601 in UTC; a number that JSON lacks is one of the strings `NaN`, `Infinity` and `-Infinity`. An error is one or two
lines on standard error, with `--json` an object there: `{"error": {"type": ..., "message": ..., "hint": ...}}`.

| exit status | means |
|---|---|
| 0 | done |
| 1 | it could not be done: something is not there, is there already, or can't be used |
| 2 | wrong usage: a name, an option or a query that is not well formed |
| 3 | a gate, a permission or a policy refused |
| 4 | a conflict to settle |
| 5 | integrity: bytes or history are not what they were |
| 130 | interrupted; the lake is as it was |
"""


def reference() -> str:
    """Return the whole document."""
    return "\n".join([_HEAD, *_sections(program, [])])


def commands(group: Group, names: list[str]) -> Iterator[tuple[list[str], str]]:
    """Yield the words of every command below a group, and its help."""
    parent = group.make_context("headwater", [], resilient_parsing=True, obj=Session(), terminal_width=100)
    parent.info_name = " ".join(["headwater", *names])
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        assert command is not None
        with command.make_context(name, [], parent, resilient_parsing=True, terminal_width=100) as ctx:
            yield [*names, name], _without_global_options(ctx.get_help())
        if isinstance(command, Group):
            yield from commands(command, [*names, name])


def _without_global_options(text: str) -> str:
    before, _, after = text.partition("Global options:\n")
    return before + after[after.index("Example:") :]


def _sections(group: Group, names: list[str]) -> Iterator[str]:
    for words, text in commands(group, names):
        yield f"{'#' * (1 + len(words))} headwater {' '.join(words)}\n\n```text\n{text.rstrip()}\n```\n"


def main() -> int:
    """Write the document, or check it, and return the exit status."""
    text = reference()
    if "--check" not in sys.argv[1:]:
        PLACE.write_text(text, encoding="utf-8")
        return 0
    if PLACE.exists() and PLACE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PLACE} is not up to date: run python tools/cli_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
