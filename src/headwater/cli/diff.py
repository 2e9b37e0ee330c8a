"""The command that shows what one ref has and another lacks, in the words of a registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from headwater.cli.base import Session, argument, command, option
from headwater.cli.layout import count, table
from headwater.cli.output import busy, clean, dim, paint, strong

if TYPE_CHECKING:
    import pyarrow as pa

    from headwater.diff_parts import AddedDataset, AddedRun, AddedVersion, ChangedLabel
    from headwater.diffs import Diff

__all__ = ["diff", "show_diff"]

_COLOURS = {"+": "32", "-": "31", "~": "33"}
_WORDS = {
    "models": "model",
    "model_versions": "model version",
    "runs": "run",
    "datasets": "dataset version",
    "deployments": "deployment",
}
_ROWS = {"metrics": "metric", "predictions": "prediction", "outcomes": "outcome"}


@command(
    "diff",
    example="headwater diff main exp-42\n"
    "headwater diff main                    # what this branch has and main lacks\n"
    "headwater diff main~5 main --stat\n"
    "headwater diff main@{2026-11-01T00:00:00Z}",
)
@argument("left", "A", complete="ref")
@argument("right", "[B]", required=False, complete="ref")
@option("--stat", is_flag=True, help="Print counts only, a line for each kind of thing.")
@option("--tables", is_flag=True, help="Print the raw rows of each table.")
def diff(session: Session, left: str, right: str | None, stat: bool, tables: bool) -> None:
    """Show what one branch, tag or commit has that another lacks.

    What B has and A lacks is shown; B is the current branch unless it is named. A and B are branches, tags, commits,
    main~3 or main@{TIME}; A..B is read too. New versions come with their metrics beside those of the
    model's champion at A. What A has and B lacks is counted; `headwater diff B A` shows it.
    """
    if stat and tables:
        raise click.UsageError("--stat is counts and --tables is rows: give one", click.get_current_context())
    given = _sides(left) if right is None else (left, right)
    with session.open() as registry, busy("comparing"):
        first, second = given[0] or registry.ref, given[1] or None
        if tables:
            rows = registry.diff_tables(first, second)
        else:
            found = registry.diff(first, second)
    if tables:
        session.emit(_documents(rows) if session.json else None, lambda: _raw(rows))
    else:
        session.emit(_counts(found) if stat else found, lambda: show_diff(found, stat=stat))


def _sides(text: str) -> tuple[str, str]:
    """Return A and B of `A..B`, as git has it; either may be empty, and is then where one is."""
    dots = "..." if "..." in text else ".."
    if text.strip(".") == "":
        raise click.UsageError(f"no ref is named in {text!r}", click.get_current_context())
    left, _, right = text.partition(dots)
    return left, right


def show_diff(diff: Diff, *, stat: bool = False) -> Iterator[str]:
    """Yield the lines that show a difference.

    Args:
        diff: The difference.
        stat: Counts only.
    """
    if not diff:
        same = diff.left_commit == diff.right_commit
        yield (
            f"nothing differs: {strong(diff.left)} and {strong(diff.right)} are one commit"
            if same and diff.left != diff.right
            else f"nothing differs: {strong(diff.left)} is compared with itself"
            if same
            else f"{strong(diff.right)} has nothing that {strong(diff.left)} lacks"
        )
    else:
        yield f"{strong(diff.right)} has {count(diff.transactions, 'transaction')} that {strong(diff.left)} lacks"
        yield from _stat(diff) if stat else _sections(diff)
    for text in diff.notes:
        yield clean(text)
    if diff.lacking:
        other = f"`headwater diff {clean(diff.right)} {clean(diff.left)}`"
        yield dim(f"{diff.left} has {count(diff.lacking, 'transaction')} that {diff.right} lacks: {other}")


# -- everything -------------------------------------------------------------------------------------------------------
def _sections(diff: Diff) -> Iterator[str]:
    told = 0
    for title, lines in (
        ("Models", [_line("+", each.reference, _gone(each.deleted), each.actor) for each in diff.models]),
        ("Versions", [line for each in diff.model_versions for line in _version(each)]),
        ("Changes", [line for each in diff.events for line in _change(each, diff)]),
        ("Datasets", [_line("+", each.reference, _rows_of(each), each.actor) for each in diff.datasets]),
        ("Runs", [_run(each) for each in diff.runs]),
        (
            "Deployments",
            [
                _line(
                    "+",
                    each.reference,
                    f"to {each.environment}, {each.mode}{_share(each.traffic)}{_gone(each.deleted, ', ')}",
                    each.actor,
                )
                for each in diff.deployments
            ],
        ),
    ):
        if lines:
            told += 1
            yield ""
            yield strong(title)
            yield from lines
    if rows := [count(diff.counts[name], noun) for name, noun in _ROWS.items() if diff.counts.get(name)]:
        yield ""
        yield f"{'and ' if told else ''}{', '.join(rows)}"
    elif not told:
        yield f"which change nothing that {clean(diff.left)} has otherwise"
    if diff.lacking:
        yield ""


def _line(mark: str, what: str, more: str, actor: str) -> str:
    said = f"  {more}" if more else ""
    return f"  {paint(f'{mark} {what}', _COLOURS[mark])}{clean(said)}{dim(f'  {actor}')}"


def _gone(deleted: bool, before: str = "") -> str:
    return f"{before}deleted since" if deleted else ""


def _version(version: AddedVersion) -> Iterator[str]:
    more = [*(f"@{alias}" for alias in version.aliases), *([_gone(True)] if version.deleted else [])]
    yield _line("+", version.reference, "  ".join(more), version.actor)
    if version.description:
        yield f"      {clean(version.description)}"
    compared = version.compared()
    if not compared:
        return
    from headwater.diff_parts import number_text

    if not any(other is not None for _, _, other, _ in compared):
        beside = "" if version.champion is None else f"  (none that champion /{version.champion} has)"
        yield "      " + clean("  ".join(f"{key} {number_text(value)}" for key, value, _, _ in compared) + beside)
        return
    rows = [
        (key, number_text(value), number_text(other), number_text(more, sign=True))
        for key, value, other, more in compared
    ]
    headers = ("", f"/{version.version}", f"champion /{version.champion}", "")
    for line in table(headers, rows, right=(1, 2, 3), first=False):
        yield f"      {line}"


def _change(change: ChangedLabel, diff: Diff) -> Iterator[str]:
    reason = f": {change.reason}" if change.reason else ""
    yield _line(change.mark, change.sentence + reason, "", change.actor)
    if change.conflict is not None:
        yield "      " + paint(f"{diff.left} has changed it too: a merge asks about {change.conflict}", "33")


def _rows_of(dataset: AddedDataset) -> str:
    words = [] if dataset.rows is None else [count(dataset.rows, "row")]
    if dataset.base is not None:
        changed = [
            f"{mark}{number:,}"
            for mark, number in (("+", dataset.added), ("-", dataset.removed), ("~", dataset.changed))
            if number
        ]
        words.append(f"{' '.join(changed) or 'no rows changed'} since {dataset.base}")
    return ", ".join(words) + _gone(dataset.deleted, ", ")


def _run(run: AddedRun) -> str:
    from headwater.diff_parts import number_text

    called = f"{run.name or run.run_id} of {run.experiment}"
    measured = "  ".join(f"{key} {number_text(value)}" for key, value in sorted(run.metrics.items()))
    return _line("+", called, f"{run.status}  {measured}".rstrip() + _gone(run.deleted, ", "), run.actor)


def _share(traffic: float | None) -> str:
    return "" if traffic is None else f" with {traffic:g} %"


# -- counts -----------------------------------------------------------------------------------------------------------
def _counts(diff: Diff) -> dict[str, Any]:
    changes: dict[str, int] = {}
    for each in diff.events:
        changes[each.kind] = changes.get(each.kind, 0) + 1
    return {
        "left": diff.left,
        "right": diff.right,
        "left_commit": diff.left_commit,
        "right_commit": diff.right_commit,
        "transactions": diff.transactions,
        "lacking": diff.lacking,
        **{name: len(getattr(diff, name)) for name in _WORDS},
        "events": changes,
        **{name: diff.counts.get(name, 0) for name in _ROWS},
    }


def _stat(diff: Diff) -> Iterator[str]:
    counted = _counts(diff)
    rows = [("+", counted[name], noun) for name, noun in _WORDS.items() if counted[name]]
    marks = {"tombstone": "deleted or brought back"}
    rows += [("~", number, marks.get(kind, kind)) for kind, number in counted["events"].items()]
    rows += [("+", counted[name], noun) for name, noun in _ROWS.items() if counted[name]]
    wide = max((len(f"{number:,}") for _, number, _ in rows), default=0)
    for mark, number, noun in rows:
        plural = "" if number == 1 or noun in (marks["tombstone"], "traffic") else "es" if noun == "alias" else "s"
        plural = "ies" if noun == "policy" and plural else plural
        name = noun.removesuffix("y") if plural == "ies" else noun
        yield f"  {paint(mark, _COLOURS[mark])} {number:>{wide},} {clean(name + plural)}"
    data = [each for each in diff.datasets if each.base is not None]
    if data:
        added, removed, changed = (
            sum(getattr(each, name) or 0 for each in data) for name in ("added", "removed", "changed")
        )
        yield f"    in datasets {count(added, 'row')} added, {removed:,} removed, {changed:,} changed"


# -- rows -------------------------------------------------------------------------------------------------------------
def _documents(rows: dict[str, pa.Table]) -> dict[str, list[dict[str, Any]]]:
    from headwater.cli.rows import documents

    return {name: documents(table) for name, table in rows.items()}


def _raw(rows: dict[str, pa.Table]) -> Iterable[str]:
    from headwater.cli.rows import table_lines

    if not rows:
        yield "no table has rows that differ"
    for number, (name, found) in enumerate(rows.items()):
        if number:
            yield ""
        yield f"{strong(name)}  {dim(count(len(found), 'row'))}"
        yield from table_lines(found)
