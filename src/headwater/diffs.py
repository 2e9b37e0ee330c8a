"""What one commit has that another lacks, in the words of a registry; the cost follows what was added, not the lake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headwater.ancestry import standing
from headwater.context import Context
from headwater.diff_parts import (
    AddedDataset,
    AddedDeployment,
    AddedModel,
    AddedRun,
    AddedVersion,
    ChangedLabel,
)
from headwater.difference import Difference, difference
from headwater.errors import HeadwaterError, InvalidInputError, NotFoundError
from headwater.fold import TX
from headwater.history import Graph, entry_of
from headwater.lake import refs
from headwater.model import LogEntry
from headwater.names import check_type, parse_dataset, parse_model, shown
from headwater.parted import parted_datasets
from headwater.schema import TABLES
from headwater.state import Fold
from headwater.withdrawn import told, withdrawn

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Diff", "Diffs"]


@dataclass(frozen=True, slots=True)
class Diff:
    """What the right side has that the left side lacks; shows itself as a picture and tables in a notebook.

    It is true where there is anything.
    """

    left: str
    """The left side, as it was named."""
    right: str
    left_commit: str
    right_commit: str
    transactions: int
    """How many transactions the right side has that the left side lacks; a merge counts where it settled something."""
    lacking: int
    """How many the left side has that the right side lacks."""
    models: tuple[AddedModel, ...]
    model_versions: tuple[AddedVersion, ...]
    runs: tuple[AddedRun, ...]
    datasets: tuple[AddedDataset, ...]
    deployments: tuple[AddedDeployment, ...]
    events: tuple[ChangedLabel, ...]
    """Aliases, stages, descriptions, tags, policies, traffic, deletions and all else that was set anew."""
    counts: Mapping[str, int]
    """New rows by table: all that stands above, and `metrics`, `predictions`, `outcomes`, `lineage`."""
    commits: tuple[LogEntry, ...] = field(default=(), repr=False)
    """The right side's transactions, newest first."""
    reverted_by: tuple[str, ...] = ()
    """Commits of the left side that undid what merges of the right one had brought."""
    notes: tuple[str, ...] = ()
    """What one has to know of it, in words: such reverts, and datasets that both sides went on from one version."""

    def __bool__(self) -> bool:
        return bool(self.counts)

    def changed(self, kind: str) -> list[ChangedLabel]:
        """Return what was set anew of one kind, such as `alias`, `stage` or `policy`."""
        return [each for each in self.events if each.kind == kind]

    def _repr_html_(self) -> str:
        from headwater.diff_html import page

        return page(self)


class Diffs:
    """The service for differences.

    Args:
        context: What to work with; its branch or commit is the right side where none is named.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def diff(self, left: str, right: str | None = None) -> Diff:
        """Return what one ref has that another lacks. See `Registry.diff`."""
        with self._compared(left, right) as (fold, new, names):
            return self._said(fold, new, *names)

    def tables(self, left: str, right: str | None = None) -> dict[str, pa.Table]:
        """Return the rows that one ref has and another lacks, by table. See `Registry.diff_tables`."""
        with self._compared(left, right) as (_, new, _):
            return {name: new.arrow(name) for name in TABLES if new.counts.get(name)}

    def between(self, left: str, right: str, *, names: tuple[str, str] | None = None) -> Diff:
        """Return what one commit has that another lacks.

        Args:
            left: A commit ID.
            right: A commit ID.
            names: What the two are called; by default the beginnings of their IDs.
        """
        with self._context.folds.at(left) as fold:
            new = difference(self._context.lake, fold, right)
            return self._said(fold, new, *(names or (left[:12], right[:12])))

    # -- the two sides ------------------------------------------------------------------------------------------
    @contextmanager
    def _compared(self, left: str, right: str | None) -> Iterator[tuple[Fold, Difference, tuple[str, str]]]:
        context = self._context
        found = self._resolve(left)
        if right is not None:
            other = self._resolve(right).commit
        else:
            other = context.commit or context.lake.head(context.branch)
        # A branch's own fold is brought forward; a fold of one commit would be made from nothing.
        held = context.folds.at_head(found.branch) if found.branch else context.folds.at(found.commit)
        with held as fold:
            yield fold, difference(context.lake, fold, other), (left, context.ref if right is None else right)

    def _resolve(self, ref: str) -> refs.Ref:
        check_type(ref, "ref")
        try:
            return self._context.folds.resolve(ref)
        except (InvalidInputError, NotFoundError) as error:
            hint = self._other_kind(ref)
            if hint is None:
                raise
            raise InvalidInputError(f"{shown(ref)} is {hint[0]}, and a ref is needed", hint=hint[1]) from error

    def _other_kind(self, text: str) -> tuple[str, str] | None:
        """Return what a text names instead of a ref, and what to do then; None where it names nothing."""
        with self._context.reading() as fold:
            try:
                model = parse_model(text)
                named = fold.one("SELECT 1 FROM events WHERE standing AND kind = 'name' AND value = ?", model.name)
                if named is not None and model.version is None and model.alias is None:
                    return "a model", f"`headwater versions {text}` lists its versions"
                if named is not None:
                    return "a model version", f"`headwater compare {text} ...` puts versions side by side"
            except HeadwaterError:
                pass
            try:
                dataset = parse_dataset(text)
                if fold.one("SELECT 1 FROM datasets WHERE name = ?", dataset.name) is not None:
                    what = "a dataset" if dataset.semver is None else "a dataset version"
                    return what, "`headwater data diff NAME@A NAME@B` compares versions of a dataset"
            except HeadwaterError:
                pass
        return None

    def _said(self, fold: Fold, new: Difference, left: str, right: str) -> Diff:
        from headwater.diff_words import Words

        words = Words(self._context.lake, fold, new)
        stands = standing(self._context.lake, fold, new.right, new.commits)
        reverts = withdrawn(fold, stands)
        wrote = [each for each in new.commits if each.metadata.get(TX) in new.transactions]
        shown_ids = {each.id for each in wrote}
        graph = Graph(fold)
        for each in new.commits:
            graph.add(each.id, tuple(each.parents), each.micros, each.id in shown_ids)
        _, onto = graph.contracted(shown_ids)
        return Diff(
            left=left,
            right=right,
            left_commit=fold.commit,
            right_commit=new.right,
            transactions=len(stands.ahead),
            lacking=stands.behind,
            models=tuple(words.models()),
            model_versions=tuple(words.versions()),
            runs=tuple(words.runs()),
            datasets=tuple(words.datasets()),
            deployments=tuple(words.deployments()),
            events=tuple(words.labels()),
            counts={name: new.counts[name] for name in TABLES if new.counts.get(name)},
            commits=tuple(entry_of(each, onto[each.id]) for each in reversed(wrote)),
            reverted_by=reverts,
            notes=(*told(right, reverts), *parted_datasets(fold, new)),
        )
