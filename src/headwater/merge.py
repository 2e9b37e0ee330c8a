"""Merging branches: the union of their transactions, as one transaction on the target; rules of settling, no I/O.

What both branches changed to different values is listed, never guessed. The rest is a union of sets, which is
commutative, associative and idempotent (see `headwater.difference`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from headwater import dataset_gates
from headwater.ancestry import SETTLED, standing
from headwater.conflicts import Conflict, MergeConflictError, Union
from headwater.context import Context
from headwater.dataset_evaluation import DatasetEvaluation, DatasetRefusedError
from headwater.diff_words import Words
from headwater.difference import Difference, check_keys, difference
from headwater.endorsement import endorse
from headwater.errors import InvalidInputError
from headwater.fold import KIND, TX
from headwater.lake import refs
from headwater.merge_decision import Choice, Decision, decide
from headwater.merge_model import MergeRefusedError, Replayed, refused
from headwater.names import check_type, counted, shown
from headwater.parted import parted_datasets
from headwater.protected import Protected, find_protected, touches
from headwater.replaying import Replaying, record
from headwater.state import Fold
from headwater.stored import Stored, row_by_id
from headwater.together import together
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
        replayed: What the source had decided and the target decided again, in order.
        left: Names of what the source alone had decided and the target keeps as it was.
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
    replayed: tuple[Replayed, ...] = ()
    left: tuple[str, ...] = ()

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

    def check(self) -> None:
        """Make sure that nothing stands against it but conflicts; of a merge that was done, nothing does.

        Raises:
            DatasetRefusedError: A gate of a dataset does.
            MergeRefusedError: Gates refuse what the source decided.
            MergeDeniedError: Who merges may not decide it.
        """
        _check_datasets(self)
        failed = [each for each in self.replayed if not each.passed]
        if failed:
            raise refused(failed, self.source, self.target)


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
        if ours and theirs:
            raise InvalidInputError("a merge takes ours or theirs, not both", hint="settle one by one with --resolve")
        found, branch = self._source(source, target)
        return _Merging(
            context=self._context,
            target=target,
            source=called or source,
            found=found,
            authority=branch == self._context.lake.default_branch,
            choice=Choice(ours, theirs, dict(resolve or {})),
        ).run(dry_run=dry_run)

    def _target(self, into: str | None) -> Context:
        it = self._context
        if into is None:
            it.check_writable()
            return it
        if into in it.lake.tags():
            raise InvalidInputError(f"{into!r} is a tag, which never moves", hint="merge into a branch")
        refs.head(it.lake, into)
        return replace(it, branch=into, commit=None, ref=into, stands_for="")

    def _source(self, source: str, target: Context) -> tuple[str, str | None]:
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
        return found.commit, found.branch


class _AgainError(Exception):
    """Something has to be decided again, which one transaction can't."""


@dataclass
class _Merging:
    """One merge.

    Attributes:
        context: Where it was asked for.
        target: What is merged into.
        source: What is merged, as people call it.
        found: Its commit.
        authority: Whether it is the lake's default branch, whose decisions hold wherever they are merged.
        choice: Which side is taken of what both changed.
        judged: What gates found of data in an earlier attempt.
        looked: Whether data was judged already.
        measured: What gates measured of versions in an earlier attempt.
    """

    context: Context
    target: Context
    source: str
    found: str
    authority: bool
    choice: Choice
    judged: dict[Any, Any] = field(default_factory=dict)
    looked: bool = False
    measured: dict[Any, Any] = field(default_factory=dict)

    def run(self, *, dry_run: bool) -> Merge:
        """Merge, or say what it would come to."""
        if dry_run:
            result, decision = self._look()
            result = replace(result, dry_run=True)
            ready = decision.again and len(result.settled) == len(result.conflicts) and not _refused_data(result)
            if not ready:
                return result
            return replace(together(self.target, self._trial, land=False), dry_run=True)
        try:
            with suppress(_AgainError):
                return self._alone()
            # What takes long is done while others can write.
            _, decision = self._look()
            self.looked = True
            if not decision.again:
                with suppress(_AgainError):
                    return self._alone()
            return together(self.target, self._build)
        except DatasetRefusedError as error:
            dataset_gates.record(self.target, error.evaluations, f"merge {self.source}")
            raise
        except MergeRefusedError as error:
            record(self.target, error.refused, self.source)
            raise

    def _look(self) -> tuple[Merge, Decision]:
        """Return what the merge would come to now, without writing."""
        with self.target.reading() as fold:
            return self._decide(fold, difference(self.context.lake, fold, self.found))

    def _alone(self) -> Merge:
        """Merge in one transaction, if that is all it takes."""
        landing = self.target.write("merge", lambda tx: self._work(tx, alone=True)[0])
        return replace(landing.result, commit=landing.commit)

    def _decide(self, fold: Fold, new: Difference) -> tuple[Merge, Decision]:
        """Return what the merge comes to on a state, and what has to be done for it."""
        check_keys(fold, new)
        union = Union(fold, new)
        decision = decide(union, self._protected(union), self.choice)
        reverts = withdrawn(fold, standing(self.context.lake, fold, self.found, new.commits))
        wrote = [commit for commit in new.commits if commit.metadata.get(TX) in new.transactions]
        return Merge(
            source=self.source,
            target=self.target.ref,
            commit=None,
            source_commit=self.found,
            base=new.base,
            transactions=sum(commit.metadata.get(KIND) != "merge" for commit in wrote),
            rows=new.counts,
            conflicts=decision.conflicts,
            settled=decision.settled,
            changes=len(Words(self.context.lake, fold, new).changed()),
            reverted_by=reverts,
            notes=(*told(self.source, reverts), *parted_datasets(fold, new), *_told_left(decision.left)),
            datasets=self._judged(fold, new),
            left=decision.left,
        ), decision

    def _protected(self, union: Union) -> Protected:
        if not touches(union):
            return Protected()
        with self.context.folds.at(self.found) as there:
            return find_protected(union, there, authority=self.authority)

    def _work(self, tx: Transaction, *, alone: bool) -> tuple[Merge, Decision]:
        """Unite the two; what governance protects stays as the target has it.

        Raises:
            _AgainError: Something has to be decided again, or judged first, and this transaction is alone.
        """
        new = difference(self.context.lake, tx.fold, self.found)
        if alone and not self.looked and self._gated(tx.fold, new)[0]:
            raise _AgainError
        result, decision = self._decide(tx.fold, new)
        if result.up_to_date:
            return result, decision
        if len(result.settled) < len(result.conflicts):
            open_ones = [each for each in result.conflicts if each.name not in result.settled]
            raise MergeConflictError(open_ones, self.source, self.target.stands_for or self.target.ref)
        _check_datasets(result)
        if alone and decision.again:
            raise _AgainError
        tx.join(new)
        endorse(tx, self.context.folds, self.found)
        for (subject, kind, key), event in decision.settling.items():
            # Also what stands here and the source supersedes: who judges knows this side alone.
            prev = dict.fromkeys([*event.prev, *(each for each, _ in tx.fold.standing(subject, kind, key))])
            tx.event(subject, kind, event.value, key=key, prev=list(prev), reason=f"merge of {self.source}")
        for change in self.context.lake.diff(new.base, self.found, "fence/"):
            # Whoever decided on a model here while this was merged looks again.
            tx.put(change.path, tx.tx.encode())
        for each in result.datasets:
            assert each.dataset_id is not None
            dataset_gates.write(tx, each, each.dataset_id)
        tx.subject = self.source
        tx.message = f"merge {self.source} into {self.target.ref}: {result.words()}"
        tx.metadata = {SOURCE: self.source} | ({SETTLED: str(len(result.settled))} if result.settled else {})
        return result, decision

    # -- deciding again -----------------------------------------------------------------------------------------
    def _build(self, context: Context) -> Merge:
        """Merge, then decide again what the source decided, each in a transaction of its own."""
        result = self._trial(context)
        result.check()
        return result

    def _trial(self, context: Context) -> Merge:
        landing = context.write("merge", lambda tx: self._work(tx, alone=False))
        result, decision = landing.result
        if result.up_to_date:
            return result
        replaying = Replaying(context, f"merge of {self.source}", self.measured)
        found = replaying.run(decision.replays, decision.rules)
        return replace(result, commit=landing.commit, replayed=tuple(found))

    # -- data ---------------------------------------------------------------------------------------------------
    @staticmethod
    def _gated(fold: Fold, new: Difference) -> tuple[list[Any], dict[str, dataset_gates.Wanted | None]]:
        """Return the rows of dataset versions that are new to a state which has gates for them, and those gates."""
        rows = new.rows.get("datasets", ())
        gates = {name: dataset_gates.wanted(fold, name) for name in {str(row["name"]) for row in rows}}
        return [row for row in rows if gates[row["name"]] is not None], gates

    def _judged(self, fold: Fold, new: Difference) -> tuple[DatasetEvaluation, ...]:
        """Return what the gates of a state find of the dataset versions that are new to it, where it has any."""
        brought, gates = self._gated(fold, new)
        if not brought:
            return ()
        found = []
        with self.context.folds.at(new.right) as there:
            for row in sorted(brought, key=lambda row: (row["name"], row["dataset_id"])):
                if not is_hidden(there, row["dataset_id"]):
                    stored = Stored.of(there, row_by_id(there, row["dataset_id"]))
                    asked = gates[row["name"]]
                    found.append(dataset_gates.judge_stored(self.context.lake, stored, asked, fold.commit, self.judged))
        return tuple(found)


def _check_datasets(result: Merge) -> None:
    """Make sure that no gate of a dataset stands against a merge.

    Raises:
        DatasetRefusedError: One does.
    """
    bad = _refused_data(result)
    if bad:
        raise DatasetRefusedError(
            bad, hint=f"mend the data on {result.source} and merge again: what is deleted there is not judged"
        )


def _refused_data(result: Merge) -> list[DatasetEvaluation]:
    return [each for each in result.datasets if not each.passed]


def _told_left(names: Iterable[str]) -> list[str]:
    """Return, in words, what the target keeps as it is."""
    return [f"{name} stays as it was: the source's was left" for name in names]
