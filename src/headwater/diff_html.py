"""A difference as a notebook shows it: a picture of the two sides, and tables; knows no lake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from headwater.diff_parts import (
    AddedDataset,
    AddedDeployment,
    AddedModel,
    AddedRun,
    AddedVersion,
    ChangedLabel,
    number_text,
)
from headwater.hypertext import Markup, escape, frame, heading, paragraph, table
from headwater.model import LogEntry

__all__ = ["page", "svg"]

_COLOURS = {"left": "#8a8f98", "right": "#33639c", "champion": "#9c5218"}
_MOST_DOTS = 24
_MOST_MEASURES = 12
_FONT = 'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11"'


class _Diff(Protocol):
    """What is shown of a `headwater.diffs.Diff`."""

    @property
    def left(self) -> str: ...
    @property
    def right(self) -> str: ...
    @property
    def transactions(self) -> int: ...
    @property
    def lacking(self) -> int: ...
    @property
    def models(self) -> Sequence[AddedModel]: ...
    @property
    def model_versions(self) -> Sequence[AddedVersion]: ...
    @property
    def runs(self) -> Sequence[AddedRun]: ...
    @property
    def datasets(self) -> Sequence[AddedDataset]: ...
    @property
    def deployments(self) -> Sequence[AddedDeployment]: ...
    @property
    def events(self) -> Sequence[ChangedLabel]: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def commits(self) -> Sequence[LogEntry]: ...


def page(diff: _Diff) -> str:
    """Return a difference as HTML."""
    parts = [heading("difference", f"{diff.left} → {diff.right}")]
    if not diff:
        parts.append(paragraph(f"{diff.right} has nothing that {diff.left} lacks"))
    if diff or diff.lacking:
        parts.append(Markup(svg(diff)))
    if diff.models:
        rows = [(each.reference + _gone(each.deleted), each.recorded_at, each.actor) for each in diff.models]
        parts.append(table(("new model", "recorded", "actor"), rows))
    if diff.model_versions:
        parts.append(
            table(("new version", "aliases", "description", "actor", "metrics, beside the champion's"), _versions(diff))
        )
    if diff.events:
        changes = [
            (
                each.mark,
                each.sentence,
                each.actor,
                each.reason,
                f"{diff.left} has changed it too" if each.conflict else "",
            )
            for each in diff.events
        ]
        parts.append(table(("", "changed", "actor", "reason", ""), changes))
    if diff.datasets:
        data = [
            (
                each.reference + _gone(each.deleted),
                each.rows,
                each.base,
                each.added,
                each.removed,
                each.changed,
                each.actor,
            )
            for each in diff.datasets
        ]
        headers = ("new dataset version", "rows", "compared with", "added", "removed", "changed", "actor")
        parts.append(table(headers, data, right=(1, 3, 4, 5)))
    if diff.runs:
        runs = [
            (
                (each.name or each.reference) + _gone(each.deleted),
                each.experiment,
                each.status,
                each.metrics,
                each.actor,
            )
            for each in diff.runs
        ]
        parts.append(table(("new run", "experiment", "status", "metrics", "actor"), runs))
    if diff.deployments:
        deployed = [
            (each.reference + _gone(each.deleted), each.environment, each.mode, each.traffic, each.actor)
            for each in diff.deployments
        ]
        parts.append(table(("new deployment", "environment", "mode", "traffic", "actor"), deployed))
    shown = ("metrics", "predictions", "outcomes")
    if counted := [f"{diff.counts[name]:,} {name}" for name in shown if diff.counts.get(name)]:
        parts.append(paragraph(f"rows: {', '.join(counted)}"))
    return frame(*parts)


def _versions(diff: _Diff) -> Iterable[Sequence[object]]:
    for each in diff.model_versions:
        measured = [
            f"{key} {number_text(value)}" + (f" ({number_text(more, sign=True)})" if more is not None else "")
            for key, value, _, more in each.compared()
        ]
        beside = f"; champion is {each.champion}" if each.champion is not None else ""
        yield (
            each.reference + _gone(each.deleted),
            each.aliases,
            each.description,
            each.actor,
            ", ".join(measured) + beside,
        )


def _gone(deleted: bool) -> str:
    return " (deleted)" if deleted else ""


# -- the picture ------------------------------------------------------------------------------------------------------
def svg(diff: _Diff) -> str:
    """Return a picture of a difference: a dot for each transaction of either side, and candidates beside champions."""
    left, right = min(diff.lacking, _MOST_DOTS), min(len(diff.commits), _MOST_DOTS)
    measures = _measures(diff)
    start, step = 90.0, 18.0
    wide = max(480.0, start + step * (max(left, right) + 2) + 9.0 * max(len(diff.left), len(diff.right)) + 60)
    high = 70.0 + 30 * len(measures)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}"'
        f' height="{high:.0f}" role="img" {_FONT}>',
        f'<path d="M20 20 H{start + step * (left + 1):.0f}" stroke="{_COLOURS["left"]}" stroke-width="2" fill="none"/>',
        f'<circle cx="40" cy="20" r="4" fill="{_COLOURS["left"]}"><title>where they parted</title></circle>',
    ]
    if diff.commits:
        way = f"M40 20 C65 20 55 50 80 50 H{start + step * (right + 1):.0f}"
        out.append(f'<path d="{way}" stroke="{_COLOURS["right"]}" stroke-width="2" fill="none"/>')
    for number in range(left):
        out.append(f'<circle cx="{start + step * number:.0f}" cy="20" r="5" fill="{_COLOURS["left"]}"/>')
    for number, entry in enumerate(reversed(diff.commits[:_MOST_DOTS])):
        said = escape(f"{entry.actor}: {entry.message}")
        place = f'cx="{start + step * number:.0f}" cy="50"'
        out.append(f'<circle {place} r="5" fill="{_COLOURS["right"]}"><title>{said}</title></circle>')
    for name, count, dots, y in ((diff.left, diff.lacking, left, 24), (diff.right, len(diff.commits), right, 54)):
        if count or y == 24:
            text = escape(f"{name}  +{count:,}" if count else name)
            out.append(f'<text x="{start + step * (dots + 1) + 6:.0f}" y="{y}" fill="currentColor">{text}</text>')
    out += [line for number, each in enumerate(measures) for line in _measure(each, 90.0 + 30 * number, wide)]
    return "".join([*out, "</svg>"])


def _measures(diff: _Diff) -> list[tuple[str, tuple[str, float] | None, list[tuple[str, float]]]]:
    """Return, for each model and metric that can be compared: what it is, the champion's value, the candidates'."""
    found: dict[tuple[str, str], tuple[str, tuple[str, float] | None, list[tuple[str, float]]]] = {}
    for each in diff.model_versions:
        for key, value, other, _ in each.compared():
            if each.deleted or other is None or not abs(value) + abs(other) < float("inf"):
                continue
            champion = (f"/{each.champion}", other)
            found.setdefault((each.model_id, key), (f"{each.name} {key}", champion, []))[2].append(
                (f"/{each.version}", value)
            )
    return list(found.values())[:_MOST_MEASURES]


def _measure(
    measure: tuple[str, tuple[str, float] | None, list[tuple[str, float]]], y: float, wide: float
) -> list[str]:
    """Return a line on which a metric's values are dots: the champion's is hollow."""
    title, champion, candidates = measure
    points = [*([champion] if champion else []), *candidates]
    least, most = min(value for _, value in points), max(value for _, value in points)
    start, end = 230.0, wide - 30
    words = title if len(title) <= 30 else f"{title[:29]}…"
    out = [
        f'<text x="10" y="{y + 4:.0f}" fill="currentColor">{escape(words)}</text>',
        f'<path d="M{start - 8:.0f} {y:.0f} H{end + 8:.0f}" stroke="{_COLOURS["left"]}" stroke-width="0.5"/>',
    ]
    for number, (name, value) in enumerate(points):
        x = start + (end - start) * ((value - least) / (most - least) if most > least else 0.5)
        is_champion = champion is not None and number == 0
        style = (
            f'fill="none" stroke="{_COLOURS["champion"]}" stroke-width="2"'
            if is_champion
            else f'fill="{_COLOURS["right"]}"'
        )
        said = escape(f"{name} {number_text(value)}" + (" (champion)" if is_champion else ""))
        out.append(f'<circle cx="{x:.1f}" cy="{y:.0f}" r="5" {style}><title>{said}</title></circle>')
        out.append(f'<text x="{x:.1f}" y="{y - 8:.0f}" text-anchor="middle" fill="currentColor">{escape(name)}</text>')
    return out
