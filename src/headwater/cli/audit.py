"""The command `audit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headwater.cli.base import Session, command
from headwater.cli.layout import count, fields
from headwater.cli.output import busy, clean, paint, strong
from headwater.errors import IntegrityError

if TYPE_CHECKING:
    from headwater.audit_model import Audit

__all__ = ["audit"]

_LOUD = {"override": "1;31"}
"""How notes of a kind are shown on a terminal."""


@command("audit", ref=True, example="headwater audit\nheadwater audit --ref exp-42 --json")
def audit(session: Session) -> None:
    """Read all commits and events anew, and name what is not as it should be.

    Signatures, keys and roles as of when each event landed, what events replace, what transactions say of their events,
    and the chain of commits. Nothing that this machine has cached is believed. The exit status is 5 where something was
    found; overrides are listed, and are no finding.
    """
    with session.open() as registry, busy("auditing"):
        found = registry.audit()
    session.emit(_document(found), lambda: _lines(found))
    if not found.clean:
        raise IntegrityError(
            f"the audit found {count(len(found.findings), 'thing')} in {found.ref}",
            hint="each is named above; docs/trust.md says what to do about it",
        )


def _document(found: Audit) -> dict[str, object]:
    from dataclasses import asdict

    return {"clean": found.clean, **asdict(found)}


def _lines(found: Audit) -> Iterator[str]:
    for note in found.notes:
        yield f"{paint(note.kind, _LOUD.get(note.kind, '2'))}  {clean(note.message)}"
    for finding in found.findings:
        yield f"{paint(finding.kind, '1;31')}  {clean(finding.message)}"
    trust = f"{count(found.signatures, 'signature')}, root key {found.root}" if found.signed else "not signed"
    yield from fields(
        [
            ("audited", f"{found.ref} at {strong(found.commit)}"),
            ("lake", f"{found.lake}, {trust}"),
            ("read", f"{count(found.commits, 'commit')}, {count(found.events, 'event')}"),
            ("result", paint("clean", "32") if found.clean else paint(f"{len(found.findings)} found", "1;31")),
        ]
    )
