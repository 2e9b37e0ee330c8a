"""Commands about runs: `run`, `runs`, `compare`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.base import Group, Session, argument, command, limited, option, pairs
from headwater.cli.layout import count, fields, moment, paragraph, short, size, table, verdict
from headwater.cli.layout import pairs as listed
from headwater.cli.output import note, paint, strong

if TYPE_CHECKING:
    from headwater.model import RunInfo
    from headwater.registry import Registry

__all__ = ["compare", "run", "runs", "show_run"]

_COLOURS = {"finished": "32", "failed": "31", "killed": "31", "running": "33"}
_COMMAND = "headwater.command"


class _Run(Group):
    """A group of commands that is a command itself where `--` stands among its arguments."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what follows the first `--` for the callback."""
        if "--" not in args:
            return super().parse_args(ctx, args)
        at = args.index("--")
        ctx.meta[_COMMAND] = args[at + 1 :]
        rest = click.Command.parse_args(self, ctx, args[:at])
        if rest:
            raise click.UsageError(f"{' '.join(rest)!r} stands before --, where options do", ctx)
        return rest

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find a subcommand; where there is none, a command to run may have been meant."""
        if args and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"no such command {args[0]!r}; write -- before a command that is to be run", ctx)
        return super().resolve_command(ctx, args)


@click.group(
    "run",
    cls=_Run,
    invoke_without_command=True,
    example="""\
headwater run -- python train.py --depth 6
headwater run --experiment delays --param depth=6 -- python train.py
headwater run show 0192d3f1""",
)
@option("--name", metavar="NAME", help="What the run is called.")
@option("--experiment", metavar="E", default="default", show_default=True, help="The group of runs it belongs to.")
@option("--param", metavar="K=V", multiple=True, help="A parameter. Repeatable, as is the next.")
@option("--tag", metavar="K=V", multiple=True, help="A tag.")
@click.pass_context
def run(ctx: click.Context, name: str | None, experiment: str, param: tuple[str, ...], tag: tuple[str, ...]) -> None:
    """Run a command and record it as a run; or show one.

    Recorded are the command, its output, exit status, start and end, the code with what is not committed, Python and
    the installed packages. The command finds its run by HEADWATER_RUN_ID, so headwater.current_run() works in it. The
    exit status is the command's own; 128 and the signal's number where one ended it.
    """
    words = ctx.meta.get(_COMMAND)
    if words is None:
        if ctx.invoked_subcommand is None:
            raise click.UsageError("a command is missing; write it after --", ctx)
        return
    if not words:
        raise click.UsageError("a command is missing after --", ctx)
    from headwater.cli.child import run_command

    session: Session = ctx.obj
    attributes = {"experiment": experiment, "params": pairs(param, "param"), "tags": pairs(tag, "tag")}
    with session.open() as registry:
        info, status = run_command(registry, words, name, attributes, to_stderr=session.json)
    session.emit(info, list)
    if not session.json:
        note(f"run {info.run_id}: {info.status}")
    ctx.exit(status)


@run.group_command("show", ref=True, example="headwater run show 0192d3f1\nheadwater run show 0192d3f1 --json")
@argument("reference", "ID", complete="run")
def show(session: Session, reference: str) -> None:
    """Show all about a run.

    ID is the run's ID, or 8 or more characters of its beginning or end.
    """
    with session.open() as registry:
        show_run(session, registry, reference)


@run.group_command("pull", ref=True, example="headwater run pull 0192d3f1 outputs/")
@argument("reference", "ID", complete="run")
@argument("dest", "DEST", type=click.Path())
@option("--force", is_flag=True, help="Replace files in DEST that Headwater did not put there.")
def pull(session: Session, reference: str, dest: str, force: bool) -> None:
    """Fetch the files of a run, every digest checked.

    They are what it logged as artifacts, and the output of its command.
    """
    with session.open() as registry:
        info = registry.run(reference)
        place = info.pull(dest, force=force)
        files = info.artifacts()
    document = {"run_id": info.run_id, "dest": str(place), "files": files}
    session.emit(document, lambda: [f"{count(len(files), 'file')} in {strong(place)}"])


@command(
    "runs",
    ref=True,
    example="""\
headwater runs --experiment delays --limit 10
headwater runs --where "metrics.auc > 0.7 and params.depth = '6'\"""",
)
@option("--experiment", metavar="E", help="Only those of this experiment.")
@option("--where", metavar="SQL", help="Only those of which this holds: metrics.KEY, params.KEY, tags.KEY, status, ...")
@limited
def runs(session: Session, experiment: str | None, where: str | None, limit: int | None) -> None:
    """List runs, newest first.

    In a condition metrics.auc, params.depth, tags.team and metrics."val/auc" name what a run has; beside them it takes
    the columns of the view runs. Params and tags are text: params.depth = '6'. A metric that is NaN fulfils nothing.
    """
    with session.open() as registry:
        found = registry.runs(experiment, where=where, limit=limit)
        document = _documents(found) if session.json else []
        lines = [] if session.json else _run_table(found)
    if not found:
        note(
            "there are no such runs"
            if experiment or where
            else "there are no runs: `headwater run -- COMMAND` makes one; those that were reverted are not listed"
        )
    session.emit(document, lambda: lines)


def _documents(found: list[RunInfo]) -> list[Any]:
    from headwater.model import as_json

    return [as_json(each) for each in found]


def _run_table(found: list[RunInfo]) -> list[str]:
    if not found:
        return []
    from headwater.cli.numbers import number

    rows = [
        (
            each.run_id,
            each.status,
            each.experiment,
            each.name,
            moment(each.started_at),
            _duration(each),
            listed((key, number(value)) for key, value in sorted(each.metrics.items())[:4]),
            listed(sorted(each.params.items())[:6]),
        )
        for each in found
    ]
    headers = ("run", "status", "experiment", "name", "started (UTC)", "took", "metrics", "params")
    return table(headers, rows, right=("took",))


def _duration(each: RunInfo) -> str:
    if each.ended_at is None:
        return ""
    seconds = (each.ended_at - each.started_at).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def show_run(session: Session, registry: Registry, reference: str) -> None:
    """Print all about a run."""
    from headwater.model import as_json

    info = registry.run(reference)
    metrics = registry.run_metrics(info.reference)
    versions = [each.reference for each in registry.run_versions(info.reference)]
    inputs, files = info.inputs, info.artifacts()
    document = {
        **as_json(info),
        "slice_metrics": [{"key": m.key, "slice": m.slice, "value": m.value} for m in metrics if m.slice],
        "datasets": inputs,
        "versions": versions,
        "artifacts": files,
    }
    session.emit(document, lambda: _run_lines(info, metrics, inputs, versions, files))


def _run_lines(info: RunInfo, metrics: Any, inputs: list[str], versions: list[str], files: Any) -> Iterator[str]:
    import shlex

    from headwater.cli.numbers import number
    from headwater.cli.show import _code, _environment

    status = info.status + (f" (exit status {info.exit_status})" if info.exit_status else "")
    yield f"{strong(info.reference)}  {paint(status, _COLOURS.get(info.status, '0'))}"
    if info.description:
        yield from paragraph(info.description)
    yield from fields(
        [
            ("name", info.name),
            ("experiment", info.experiment),
            ("started", f"{moment(info.started_at)} UTC by {info.actor}" + (f" on {info.host}" if info.host else "")),
            ("ended", f"{moment(info.ended_at)} UTC, after {_duration(info)}" if info.ended_at else ""),
            ("part of", f"run:{info.parent_run_id}" if info.parent_run_id else ""),
            ("command", shlex.join(info.command) if info.command else ""),
            ("folder", info.folder),
            ("code", _code(info.code)),
            ("python", _environment(info.environment)),
            ("seeds", listed(info.seeds.items())),
            ("reproducible", verdict(info.missing) if info.missing is not None else ""),
            ("used", ", ".join(inputs)),
            ("made", ", ".join(versions)),
            ("params", listed(sorted(info.params.items()))),
            ("tags", listed(sorted(info.tags.items()))),
            ("commit", info.commit),
        ]
    )
    if metrics:
        yield ""
        sliced = any(each.slice for each in metrics)
        width = 4 if sliced else 3
        rows = [(each.key, number(each.value), each.step, each.slice)[:width] for each in metrics]
        yield from table(("metric", "value", "step", "on")[:width], rows, right=("value", "step"), first=False)
    if files:
        yield ""
        rows = [(size(file.size), file.sha256[:12], file.path) for file in files]
        yield from table(("size", "sha256", "file"), rows, right=("size",), first=False)


@command(
    "compare",
    ref=True,
    example="""\
headwater compare flight-delay/6 flight-delay/7
headwater compare 0192d3f1 0192d3f9 flight-delay@champion""",
)
@argument("references", "RUN_OR_VERSION...", complete="version", nargs=-1, required=True)
def compare(session: Session, references: tuple[str, ...]) -> None:
    """Put runs and model versions side by side.

    What differs is marked with a star.
    """
    with session.open() as registry:
        found = registry.compare(*references)

    def lines() -> Iterable[str]:
        from headwater.cli.numbers import number

        rows = [
            (
                "*" if row.differs else "",
                f"{row.kind} {row.key}",
                *(number(value) if isinstance(value, float) else value for value in row.values),
            )
            for row in found.rows
        ]
        heads = [
            each.reference if each.name is None else f"{each.name} {_tail(each.reference)}" for each in found.items
        ]
        yield from table(("", "", *heads), rows)

    session.emit(found, lines)


def _tail(reference: str) -> str:
    return short(reference.removeprefix("run:")) if reference.startswith("run:") else reference.rpartition("/")[2]
