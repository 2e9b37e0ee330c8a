"""What an audit came to: frozen dataclasses for what it counted, found and noted; no rules, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Audit", "Finding", "Note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as Headwater leaves it, or that nobody who may do it did."""

    kind: str
    """`forged` (an event that has no force, or that no transaction wrote), `gap` (an event is gone), `altered` (an
    event or the transaction's list of them is not what was written), `order` (what an event replaces), `history`
    (commits), `table` (rows are gone), `artifact` (bytes), `production` (its faces disagree), `promotion` (gates),
    `marker` (what the lake is), `cache` (this machine's state of the lake)."""
    subject: str
    """What it is about, as people call it."""
    message: str
    """What is wrong, in a sentence."""
    event_id: str | None = None
    tx: str | None = None
    commit: str | None = None
    """The commit that brought it, as far as that is known."""
    actor: str | None = None
    """Who did it, as the row or the commit says."""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is as it should be, and that whoever audits wants to know of."""

    kind: str
    """`override` (an admin passed over gates), `elsewhere` (events of other branches, which have no force here),
    `stranger` (another program changed tables), `uncounted` (transactions of an older Headwater), `unread` (bytes)."""
    subject: str
    """What it is about, as people call it."""
    message: str
    """In a sentence."""
    event_id: str | None = None
    commit: str | None = None
    actor: str | None = None

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit of one commit, with all that led to it, came to."""

    ref: str
    """What was audited, as the user called it."""
    commit: str
    """The commit that it was: kept elsewhere, it tells whether history was changed since."""
    lake: str
    """The lake's own ID."""
    signed: bool
    """Whether the lake is signed; else signatures and roles prove nothing, and were not asked for."""
    root: str | None
    """The ID of the key that a signed lake's trust begins with: to be compared with what the one who made it says."""
    commits: int
    """Commits in its history."""
    transactions: int
    """Those of them that hold rows."""
    events: int
    """Events in the table."""
    signatures: int
    """Signatures that were verified."""
    artifacts: int
    """Versions of models and datasets whose every byte was read."""
    unread: int
    """Versions whose bytes were not."""
    findings: tuple[Finding, ...]
    notes: tuple[Note, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def __str__(self) -> str:
        found = "clean" if self.clean else f"{len(self.findings)} found: {self.findings[0]}"
        more = " …" if len(self.findings) > 1 else ""
        signed = f", {self.signatures} signatures" if self.signed else ", not signed"
        return f"{self.commits} commits, {self.transactions} transactions, {self.events} events{signed}: {found}{more}"
