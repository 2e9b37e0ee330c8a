"""The program: the commands there are, imported one by one when they are called, and what becomes of an error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import click

from headwater.cli.base import Group, Session
from headwater.cli.output import PipeClosedError, clean, emit, flush, json_text, note, paint
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "NAME", "Program", "program"]

NAME = "headwater"

COMPLETE = "_HEADWATER_COMPLETE"
"""The environment variable through which a shell asks for completions."""

_SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "The lake": {
        "init": ("lake", "Make a lake in this folder, or join one on a lakeFS server."),
        "status": ("lake", "Show which lake and branch this is, and how much there is."),
        "log": ("lake", "Show what happened, newest first."),
        "sql": ("sql", "Run a query that reads, or open a shell for many."),
        "push": ("moving", "Bring the history of this lake to another lake."),
        "pull-from": ("moving", "Bring the history of another lake to this one."),
        "export": ("export", "Write everything as files that need no Headwater."),
        "gc": ("gc", "Delete what no branch, tag or row leads to any more."),
    },
    "Branches": {
        "branch": ("branches", "Make a branch of everything, delete one, or list them."),
        "switch": ("branches", "Work on another branch from now on."),
        "diff": ("diff", "Show what one branch, tag or commit has that another lacks."),
        "merge": ("merge", "Bring everything that another branch has into this one."),
        "rehearse": ("rehearse", "Show what a command would change, and keep none of it."),
        "tag": ("branches", "Give a commit a name that never moves, delete one, or list them."),
        "revert": ("revert", "Undo what a commit did; of a merge, all that it brought."),
    },
    "Models": {
        "register": ("register", "Register a version of a model, and all that is known of it."),
        "models": ("models", "List the registered models."),
        "versions": ("models", "List a model's versions, newest first."),
        "show": ("show", "Show all about a model, version, dataset, or any URN."),
        "resolve": ("resolve", "Print the version that an alias stands for."),
        "pull": ("models", "Fetch a version's files into a folder, every digest checked."),
        "reproduce": ("reproduce", "Make a version again from its lineage, and compare."),
        "verify": ("verify", "Check every byte of models and datasets in the lake."),
        "alias": ("labels", "Name versions: set, delete and list aliases."),
        "tag-model": ("labels", "Set tags of a model or a version."),
        "describe": ("labels", "Set the description of a model or a version."),
        "rename": ("labels", "Give a model another name."),
        "delete": ("labels", "Hide a version or a model, or bring it back."),
    },
    "Runs": {
        "run": ("runs", "Run a command and record it as a run; or show one."),
        "runs": ("runs", "List runs, newest first."),
        "compare": ("runs", "Put runs and model versions side by side."),
    },
    "Datasets": {
        "data": ("data", "Add, list, show, fetch and compare versions of datasets."),
    },
    "Serving": {
        "deploy": ("serving", "Deploy a version to an environment."),
        "undeploy": ("serving", "End a deployment."),
        "deployments": ("serving", "List what serves where, newest first."),
        "route": ("routing", "Show which version answers for a key."),
        "predictions": ("predictions", "Take in predictions and what proved true of them, and show one."),
    },
    "Governance": {
        "evaluate": ("evaluate", "Predict a dataset with a version, and compute its metrics."),
        "promote": ("promotion", "Let a version enter a stage, if every gate passes."),
        "stage": ("promotion", "Move a version to a stage."),
        "traffic": ("promotion", "Give a model's canary another share of production's requests."),
        "rollback": ("promotion", "Bring back the version that was in production before."),
        "gates": ("gates", "Set, show and ask the gates that stand before a stage."),
        "check": ("records", "Record a named result of a version, and list them."),
        "approve": ("records", "Say that a version may enter a stage."),
        "approvals": ("records", "List who said that a version may enter a stage."),
        "check-card": ("records", "Show what a version's card says, and what it lacks."),
        "watch": ("watch", "Look after what serves, and roll back what fails a live gate."),
        "history": ("history", "Tell the story of a model, newest first."),
        "audit": ("audit", "Read all commits and events anew, and name what is wrong."),
        "role": ("trust", "Give and take roles: viewer, author, reviewer, deployer, admin."),
        "key": ("trust", "Make, enrol, revoke and list the keys that sign."),
        "notify": ("notify", "Tell others when a model is promoted, refused or rolled back."),
    },
    "Lineage": {
        "trace": ("lineage", "Show what something came from, down to data and code."),
        "impact": ("lineage", "Show what came of something, up to its predictions."),
    },
    "Your shell": {
        "completion": ("completion", "Print a script that completes commands and names as you type."),
    },
}
COMMANDS = {name: home for section in _SECTIONS.values() for name, home in section.items()}
"""By name: the module of `headwater.cli` that the command is in, and what it does in one sentence."""

INTERRUPTED = 130
PIPE_CLOSED = 141


class Program(Group):
    """The `headwater` command, which knows its commands by name and imports one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        from importlib import import_module

        module = import_module(f"headwater.cli.{COMMANDS[cmd_name][0]}")
        found = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in their sections, without importing any."""
        wide = max(len(name) for name in COMMANDS)
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{wide}}", text) for name, (_, text) in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete the names of commands, without importing any."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=text) for name, (_, text) in COMMANDS.items() if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def main(self, args: Sequence[str] | None = None, *positional: Any, **named: Any) -> NoReturn:
        """Run the command line and exit with its status.

        Args:
            args: The arguments, by default those of the process.
            positional: Not used; click's own.
            named: Not used; click's own.
        """
        try:
            sys.exit(_run(self, list(sys.argv[1:] if args is None else args)))
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)


def _run(program: Program, args: list[str]) -> int:
    """Run a command and return the exit status; an exception that is nobody's fault but ours goes through."""
    import os

    session = Session()
    try:
        if asked := os.environ.get(COMPLETE):
            from headwater.cli.completion import answer

            return answer(program, asked)
        status = 0
        try:
            with program.make_context(NAME, args, obj=session) as ctx:
                program.invoke(ctx)
        except click.exceptions.Exit as done:
            status = done.exit_code
        flush()
        return status
    except PipeClosedError:
        return PIPE_CLOSED
    except click.Abort:
        return INTERRUPTED
    except HeadwaterError as error:
        _report(session.json, type(error).__name__, error.message, error.hint)
        return error.exit_status
    except click.exceptions.NoArgsIsHelpError as error:
        if _wants_json(session, args):
            _report(True, "UsageError", "a command is missing", _help_hint(error))
        else:
            note(error.format_message())
        return error.exit_code
    except click.UsageError as error:
        # Where we know what is meant, click's guess is not asked.
        meant = _option_from_git(error) is not None and isinstance(error, click.NoSuchOption)
        message = (error.message if meant else error.format_message()).strip().rstrip(".")
        _report(_wants_json(session, args), "UsageError", message[:1].lower() + message[1:], _help_hint(error))
        return error.exit_code


def _wants_json(session: Session, args: list[str]) -> bool:
    """Return whether JSON was asked for, even where parsing did not come to that."""
    options = args[: args.index("--")] if "--" in args else args
    return session.json or "--json" in options


_FROM_GIT = {
    "add": "`headwater register` adds a version of a model, `headwater data add` one of a dataset",
    "checkout": "`headwater switch NAME` changes the branch; a reading command takes --ref",
    "cherry-pick": "`headwater merge REF` brings a commit with all that it rests on",
    "clone": "`headwater init`, then `headwater pull-from URL`",
    "commit": "there is nothing to commit: every command that writes is one commit",
    "fetch": "`headwater pull-from URL`",
    "rebase": "`headwater merge main --into BRANCH` brings a branch up to date",
    "reflog": "`headwater log --all` shows what happened on every branch",
    "remote": "`headwater push URL`, `headwater pull-from URL`: there are no remotes",
    "reset": "`headwater revert COMMIT` undoes a transaction; nothing is ever taken out of the history",
    "restore": "`headwater revert COMMIT`, or `headwater delete NAME --undo`",
    "rm": "`headwater delete NAME` hides a model or version; history keeps it",
    "stash": "`headwater branch NAME` keeps what you try apart",
}
"""What to say to a person who knows git."""

_OPTIONS_FROM_GIT = {
    "branch": {
        "-a --all -l --list -r --remotes -v -vv": "`headwater branch` lists them all, and there are no remotes",
        "-b": "`headwater branch NAME` makes one, `headwater switch -c NAME` works on it too",
        "-c --copy": "`headwater branch NEW --from OLD`",
        "-f": "a branch moves by commands that write; `headwater branch -D NAME` deletes one",
        "-m -M --move": "make another, `headwater branch NEW --from OLD`, then `headwater branch --delete OLD`",
    },
    "diff": {
        "--cached --staged": "nothing is ever staged: every command that writes is one commit",
        "--name-only --name-status --summary": "each line begins with a name; `--stat` counts, --json is for scripts",
        "-p --patch -u": "`headwater diff REF REF` shows everything, `--tables` the raw rows",
    },
    "log": {
        "--author --committer --grep --since --until --after --before": "`headwater sql` asks `lake.commits`",
        "--decorate": "--graph names branches and tags",
        "-n --max-count": "--limit N",
        "--oneline --format --pretty": "each has one line already; --json has everything",
        "-p --patch --stat": "`headwater diff COMMIT~1 COMMIT` shows what a commit changed",
    },
    "merge": {
        "--abort --quit": "a refused merge has written nothing: there is nothing to abort",
        "--continue": "a refused merge has written nothing: merge again with --ours, --theirs or --resolve",
        "--ff --ff-only --no-ff --squash --commit": "every merge is a commit of its own, and needs no option",
        "--no-commit": "--dry-run says what would happen, `headwater rehearse merge SOURCE` shows it",
        "-m --message --edit --no-edit": "a merge writes its own message: what it brought, and from where",
        "-s --strategy -X --strategy-option": "--ours or --theirs settles everything, --resolve NAME=SIDE one thing",
    },
    "push": {
        "-f --force --force-with-lease": "nothing is ever overwritten: `headwater pull-from URL` first, then push",
        "-u --set-upstream --all --tags": "`headwater push URL` sends all branches and tags; there are no remotes",
    },
    "revert": {
        "--abort --continue --quit": "a refused revert has written nothing: there is nothing to go on with",
        "-m --mainline": "a merge is undone as a whole; --reason TEXT says why",
        "-n --no-commit": "--dry-run says what would happen",
    },
    "switch": {"-b -B -C": "`headwater switch -c NAME` makes a branch and works on it"},
    "tag": {
        "-a -m -s --annotate --message --sign": "a tag is a name alone: `headwater tag NAME REF`",
        "-f": "a tag never moves: `headwater tag --delete NAME` first",
        "-l --list -n": "`headwater tag` lists them",
    },
}
"""The same of options: by command, and by what the option may be."""


def _option_from_git(error: click.UsageError) -> str | None:
    """Return what to say of an option that git has."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return None
    name, _, command = error.ctx.command_path.rpartition(" ")
    option = error.option_name
    if name != NAME:
        return None
    if command == "log" and option[1:].isdigit():
        return "--limit N"
    known = _OPTIONS_FROM_GIT.get(command, {})
    return next((hint for names, hint in known.items() if option in names.split()), None)


def _help_hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx is not None else NAME
    if isinstance(error, click.exceptions.NoSuchCommand) and path == NAME:
        from difflib import get_close_matches

        if error.command_name in _FROM_GIT:
            return _FROM_GIT[error.command_name]
        close = get_close_matches(error.command_name, COMMANDS, 1)
        if close:
            return f"did you mean `{NAME} {close[0]}`?"
    if (known := _option_from_git(error)) is not None:
        return known
    if isinstance(error, click.NoSuchOption) and (error.option_name[1:2].isdigit() or error.option_name[1:2] == " "):
        return "write -- before an argument that begins with -"
    return f"`{path} --help` shows how it is used"


def _report(as_json: bool, kind: str, message: str, hint: str) -> None:
    if as_json:
        note(json_text({"error": {"type": kind, "message": message, "hint": hint}}, sys.stderr))
        return
    note(f"{paint('error:', '1;31', sys.stderr)} {clean(message)}")
    if hint:
        note(f"{paint('hint:', '1', sys.stderr)} {clean(hint)}")


_EXAMPLE = """\
headwater init
headwater register flight-delay model/ --metric auc=0.81 --tag team=ops
headwater alias set flight-delay champion 1
headwater pull flight-delay@champion serving/"""


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from headwater import __version__

        emit(f"{NAME} {__version__}")
        ctx.exit()


program = Program(
    NAME,
    example=_EXAMPLE,
    help="A model registry inside the data lake: one commit for metadata, artifact and data.",
    params=[
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
        )
    ],
)
