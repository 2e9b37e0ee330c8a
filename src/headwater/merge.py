"""Merging branches: the union of their transactions, as one transaction on the target; rules of settling, no I/O.

What both branches changed to different values is listed, never guessed. The rest is a union of sets, which is
commutative, associative and idempotent (see `headwater.difference`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from headwater import dataset_gates
from headwater.ancestry import SETTLED, standing
from headwater.conflicts import Conflict, MergeConflictError, Place, Union, find_conflicts, side_for
from headwater.context import Context
from headwater.dataset_evaluation import DatasetEvaluation, DatasetRefusedError
from headwater.deletions import Settling, find_deletions, settle
from headwater.diff_words import Words
from headwater.difference import Difference, check_keys, difference
from headwater.endorsement import endorse
from headwater.errors import InvalidInputError
from headwater.fold import KIND, TX
from headwater.lake import refs
from headwater.names import check_type, counted, shown
from headwater.parted import parted_datasets
from headwater.state import Fold
from headwater.stored import Stored, row_by_id
from headwater.tombstones import is_hidden
from headwater.transaction import Transaction
from headwater.withdrawn import told, withdrawn

__all__ = ["SOURCE", "Merge", "Merges"]

SOURCE = "headwater.source"
"""Commit metadata of a merge: what was merged, as the user called it."""

_WORDS = {
    "models": "model",
    "model_versions": "version",
    "runs": "run",
    "datasets": "dataset version",
    "deployments": "deployment",
    "events": "change",
    "metrics": "metric",
    "predictions": "prediction",
    "outcomes": "outcome",
}


@dataclass(frozen=True, slots=True)
class Merge:
    """What a merge came to, or would come to.

    Attributes:
        source: What was merged, as it was named.
        target: The branch that it was merged into.
        commit: The merge's commit; None where nothing was written.
        source_commit: The commit that was merged.
        base: Where the two had parted.
        transactions: How many transactions it brought, merges not counted.
        rows: How many rows it brought, by table.
        conflicts: What both sides had changed; settled where `commit` is there.
        settled: By the conflict's name, the side that was taken.
        dry_run: Whether it was only asked for.
        changes: How many things that the target had, or their names, were set anew: what was said of new ones is no
            change.
        reverted_by: Commits of the target that undid what earlier merges of the source had brought.
        notes: What one has to know of it, in words: such reverts, and datasets that both went on from one version.
        datasets: What the target's gates found of the dataset versions that it brought.
    """

    source: str
    target: str
    commit: str | None
    source_commit: str
    base: str
    transactions: int
    rows: Mapping[str, int]
    conflicts: tuple[Conflict, ...]
    settled: Mapping[str, str]
    dry_run: bool = False
    changes: int = 0
    reverted_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    datasets: tuple[DatasetEvaluation, ...] = ()

    @property
    def up_to_date(self) -> bool:
        """Whether the target had everything already."""
        return not self.rows

    def words(self) -> str:
        """Return what it brought, such as `2 versions, 1 run`."""
        counts = {**self.rows, "events": self.changes}
        if counts.get("model_versions"):
            counts["models"] = 0
        found = [counted(counts[table], noun) for table, noun in _WORDS.items() if counts.get(table)]
        return ", ".join(found) or counted(self.transactions, "transaction")


class Merges:
    """The service that merges.

    Args:
        context: What to work with; its branch is merged into.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def merge(
        self,
        source: str,
        into: str | None = None,
        *,
        ours: bool = False,
        theirs: bool = False,
        resolve: Mapping[str, str] | None = None,
        dry_run: bool = False,
        called: str | None = None,
    ) -> Merge:
        """Merge a ref into a branch. See `Registry.merge`.

        Args:
            source: A branch, or any other ref.
            into: Another branch to merge into.
            ours: Settle conflicts as the branch that is merged into has it.
            theirs: Settle them as the source has it.
            resolve: Settle single ones.
            dry_run: Write nothing.
            called: What people call the source, if not by its ref.
        """
        given: object = resolve
        if given is not None and not isinstance(given, Mapping):
            raise InvalidInputError(
                f"not choices: {shown(repr(given))}", hint='give a side by conflict: {"alias:m@champion": "theirs"}'
            )
        check_type(source, "ref")
        target = self._target(into)
        choice = dict(resolve or {})
        if ours and theirs:
            raise InvalidInputError("a merge takes ours or theirs, not both", hint="settle one by one with --resolve")
        found = self._source(source, target)
        source = called or source
        measured: dict[Any, Any] = {}

        def decide(fold: Fold, new: Difference) -> tuple[Merge, dict[Place, Settling]]:
            check_keys(fold, new)
            union = Union(fold, new)
            chosen: dict[str, str] = {}
            decided: dict[Place, Settling | None] = {}
            conflicts: list[Conflict] = find_conflicts(union)
            for each in conflicts:
                side = side_for(each, ours=ours, theirs=theirs, resolve=choice)
                place = (each.subject, each.kind, each.key)
                decided[place] = None if side is None else Settling(side.raw, [*each.ours.events, *each.theirs.events])
                if side is not None:
                    chosen[each.name] = "ours" if side is each.ours else "theirs"
            # What is deleted and used depends on where an alias is going to point.
            deletions = find_deletions(union, decided)
            for each in deletions:
                side = side_for(each, ours=ours, theirs=theirs, resolve=choice)
                if side is not None:
                    chosen[each.name] = "ours" if side is each.ours else "theirs"
                    decided |= settle(union, each, side, decided)
            conflicts += deletions
            unknown = choice.keys() - {each.name for each in conflicts}
            if unknown:
                names = ", ".join(each.name for each in conflicts)
                raise InvalidInputError(
                    f"there is no conflict {min(unknown)!r}",
                    hint=f"there are {names}" if names else "there is none at all",
                )
            reverts = withdrawn(fold, standing(self._context.lake, fold, found, new.commits))
            wrote = [commit for commit in new.commits if commit.metadata.get(TX) in new.transactions]
            return Merge(
                source=source,
                target=target.ref,
                commit=None,
                source_commit=found,
                base=new.base,
                transactions=sum(commit.metadata.get(KIND) != "merge" for commit in wrote),
                rows=new.counts,
                conflicts=tuple(conflicts),
                settled=chosen,
                dry_run=dry_run,
                changes=len(Words(self._context.lake, fold, new).changed()),
                reverted_by=reverts,
                notes=(*told(source, reverts), *parted_datasets(fold, new)),
                datasets=self._judged(fold, new, measured),
            ), {place: event for place, event in decided.items() if event is not None}

        def work(tx: Transaction) -> Merge:
            new = difference(self._context.lake, tx.fold, found)
            result, settling = decide(tx.fold, new)
            if result.up_to_date:
                return result
            if len(result.settled) < len(result.conflicts):
                open_ones = [each for each in result.conflicts if each.name not in result.settled]
                raise MergeConflictError(open_ones, source, target.stands_for or target.ref)
            _check_datasets(result)
            tx.join(new)
            endorse(tx, self._context.folds, found)
            for (subject, kind, key), event in settling.items():
                tx.event(subject, kind, event.value, key=key, prev=event.prev, reason=f"merge of {source}")
            for change in self._context.lake.diff(new.base, found, "fence/"):
                # Whoever decided on a model here while this was merged looks again.
                fenced = change.path.rpartition("/")[2]
                if fenced == "_all":
                    tx.fence_all(always=True)
                else:
                    tx.fence(fenced)
            for each in result.datasets:
                assert each.dataset_id is not None
                dataset_gates.write(tx, each, each.dataset_id)
            tx.subject = source
            tx.message = f"merge {source} into {target.ref}: {result.words()}"
            tx.metadata = {SOURCE: source} | ({SETTLED: str(len(result.settled))} if result.settled else {})
            return result

        # Data is judged before others have to wait for this one.
        with target.reading() as fold:
            new = difference(self._context.lake, fold, found)
            if dry_run:
                return decide(fold, new)[0]
            self._judged(fold, new, measured)
        try:
            landing = target.write("merge", work)
        except DatasetRefusedError as error:
            dataset_gates.record(target, error.evaluations, f"merge {source}")
            raise
        return replace(landing.result, commit=landing.commit)

    def _judged(self, fold: Fold, new: Difference, measured: dict[Any, Any]) -> tuple[DatasetEvaluation, ...]:
        """Return what the gates of a state find of the dataset versions that are new to it, where it has any."""
        rows = new.rows.get("datasets", ())
        gates = {name: dataset_gates.wanted(fold, name) for name in {str(row["name"]) for row in rows}}
        brought = [row for row in rows if gates[row["name"]] is not None]
        if not brought:
            return ()
        found = []
        with self._context.folds.at(new.right) as there:
            for row in sorted(brought, key=lambda row: (row["name"], row["dataset_id"])):
                if not is_hidden(there, row["dataset_id"]):
                    stored = Stored.of(there, row_by_id(there, row["dataset_id"]))
                    asked = gates[row["name"]]
                    found.append(dataset_gates.judge_stored(self._context.lake, stored, asked, fold.commit, measured))
        return tuple(found)

    def _target(self, into: str | None) -> Context:
        it = self._context
        if into is None:
            it.check_writable()
            return it
        if into in it.lake.tags():
            raise InvalidInputError(f"{into!r} is a tag, which never moves", hint="merge into a branch")
        refs.head(it.lake, into)
        return replace(it, branch=into, commit=None, ref=into, stands_for="")

    def _source(self, source: str, target: Context) -> str:
        if "://" in source or source.startswith((".", "/")):
            raise InvalidInputError(
                f"{source!r} is another lake, not a branch of this one",
                hint=f"`headwater pull-from {source}` brings it",
            )
        found = self._context.folds.resolve(source)
        if found.branch == target.branch:
            raise InvalidInputError(
                f"{source!r} can't be merged into itself", hint="name another branch, or --into another one"
            )
        return found.commit


def _check_datasets(result: Merge) -> None:
    """Make sure that no gate of a dataset stands against a merge.

    Raises:
        DatasetRefusedError: One does.
    """
    refused = [each for each in result.datasets if not each.passed]
    if refused:
        raise DatasetRefusedError(
            refused, hint=f"mend the data on {result.source} and merge again: what is deleted there is not judged"
        )
