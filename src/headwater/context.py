"""What every service works with: a lake, its folded states, a branch or ref, and who acts; no rules of any noun."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from headwater.errors import InvalidInputError
from headwater.lake.base import Lake
from headwater.rehearsals import refusal
from headwater.state import Fold, Folds
from headwater.transaction import Landing, Transaction, Upload, Writer

__all__ = ["Context"]

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Context:
    """A view of a lake: a branch that can be written, or a pinned commit that can't.

    Attributes:
        branch: The branch that is read and written.
        commit: A commit ID when the view is pinned to it, else None.
        ref: What the user called the view, for messages.
        stands_for: Of a rehearsal: what its hidden branch is a copy of, as the user called it.
    """

    lake: Lake
    folds: Folds
    writer: Writer
    branch: str
    commit: str | None
    ref: str
    actor: str
    stands_for: str = ""

    @contextmanager
    def reading(self) -> Iterator[Fold]:
        """Hold the state of the branch's head, or of the pinned commit."""
        if self.commit is not None:
            with self.folds.at(self.commit) as fold:
                yield fold
        else:
            with self.folds.at_head(self.branch) as fold:
                yield fold

    def check_writable(self) -> None:
        """Make sure that the view is of a branch, before work is done whose result could not be written.

        Raises:
            InvalidInputError: The view is pinned to a commit.
        """
        if self.commit is not None:
            raise InvalidInputError(f"{self.ref!r} can be read, not written", hint="write on a branch instead")

    def check_real(self, command: str) -> None:
        """Make sure that this is no rehearsal, before something is changed that could not be thrown away with it.

        Args:
            command: What changes it, one of `rehearsals.REFUSED`.

        Raises:
            InvalidInputError: It is one.
        """
        if self.writer.only is not None:
            raise refusal(command)

    def write(
        self,
        kind: str,
        work: Callable[[Transaction], Result],
        uploads: Callable[[Upload], None] | None = None,
    ) -> Landing[Result]:
        """Run a transaction on the branch.

        Raises:
            InvalidInputError: The view is pinned to a commit.
        """
        self.check_writable()
        return self.writer.run(self.branch, kind=kind, actor=self.actor, work=work, uploads=uploads)
