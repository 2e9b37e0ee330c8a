"""The command `audit`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from headwater.cli.base import Session, command, option
from headwater.cli.layout import count, fields
from headwater.cli.output import busy, clean, paint, strong
from headwater.errors import IntegrityError

if TYPE_CHECKING:
    from headwater.audit_model import Audit

__all__ = ["audit"]

_LOUD = {"override": "1;31"}
"""How notes of a kind are shown on a terminal."""


@command("audit", ref=True, example="headwater audit\nheadwater audit --ref exp-42 --json")
@option("--all", "everything", is_flag=True, help="Read the bytes of every model and dataset version.")
def audit(session: Session, everything: bool) -> None:
    """Read all commits and events anew, and name what is wrong.

    Signatures, keys and roles as of when each event landed; what events replace; what transactions say of their
    events; the chain of commits; whether tables lost rows; what is in production, and by which gates; and the bytes of
    versions that are staged, serve, or have an alias. The exit status is 5 where something was found; overrides are
    listed, and are no finding.
    """
    with session.open() as registry, busy("auditing"):
        found = registry.audit(everything=everything)
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
            ("bytes", f"{count(found.artifacts, 'version')} read, {found.unread} not"),
            ("result", paint("clean", "32") if found.clean else paint(f"{len(found.findings)} found", "1;31")),
        ]
    )
