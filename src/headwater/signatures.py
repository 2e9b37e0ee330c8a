"""What of an event is signed, the text of a signature, and the digest of an event's row; knows no lake and no roles."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from headwater.keys import Signer, Verifier, verifies

__all__ = ["EVENTS", "Signature", "digest_of", "message", "named_versions", "parse", "sign", "summary", "verify"]

EVENTS = "headwater.events"
"""Commit metadata: how many events the transaction has, and the sha256 over their digests, sorted, a line each."""

_PREFIX = b"headwater-event-1\n"
_FIELDS = ("tx", "event_id", "recorded_at", "actor", "subject", "kind", "key", "value", "reason")


@dataclass(frozen=True, slots=True)
class Signature:
    """The parts of a signature's text: `1 KEYID BRANCH BASE64`."""

    key_id: str
    branch: str
    raw: bytes


def parse(text: str | None) -> Signature | None:
    """Return what a signature's text says, or None where it is none."""
    parts = (text or "").split(" ")
    if len(parts) != 4 or parts[0] != "1":
        return None
    try:
        return Signature(parts[1], parts[2], base64.b64decode(parts[3], validate=True))
    except ValueError:
        return None


def message(row: Mapping[str, Any], lake: str, branch: str, digests: Mapping[str, str | None]) -> bytes:
    """Return what is signed of an event; the arguments are those of `sign`."""
    content = {name: row[name] for name in _FIELDS} | {
        "prev": sorted(row["prev"] or ()),
        "lake": lake,
        "branch": branch,
        "digests": dict(digests),
    }
    return _PREFIX + json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def sign(row: Mapping[str, Any], signer: Signer, *, lake: str, branch: str, digests: Mapping[str, str | None]) -> str:
    """Return the signature of an event.

    Args:
        row: The event, its time in microseconds.
        signer: The key.
        lake: The lake's own ID.
        branch: The branch that it is for, as people call it.
        digests: Of the versions that it is about, what their artifacts are.
    """
    raw = signer.sign(message(row, lake, branch, digests))
    return f"1 {signer.key_id} {branch} {base64.b64encode(raw).decode()}"


def verify(
    row: Mapping[str, Any],
    signature: Signature,
    public: bytes,
    *,
    lake: str,
    digests: Mapping[str, str | None],
    verifies: Verifier = verifies,
) -> bool:
    """Return whether a signature is one of this event, made with the private key of a public one."""
    return verifies(public, signature.raw, message(row, lake, signature.branch, digests))


def named_versions(row: Mapping[str, Any]) -> list[str]:
    """Return the IDs that may be versions' whose artifacts an event is about: its subject, and those in its value."""
    found = [str(row["subject"])]
    value = row["value"]
    if value and row["kind"] == "alias":
        found.append(value)
    if value and row["kind"] == "traffic":
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            found += [str(each["version_id"]) for each in json.loads(value)]
    return found


def digest_of(row: Mapping[str, Any]) -> str:
    """Return the sha256 of an event's row, its signature included: what a commit and an endorsement name it by."""
    content = [row[name] for name in _FIELDS] + [list(row["prev"] or ()), row["signature"]]
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def summary(digests: Iterable[str]) -> str:
    """Return what `EVENTS` says of the events that have these digests."""
    found = sorted(digests)
    lines = "".join(f"{each}\n" for each in found)
    return f"{len(found)} {hashlib.sha256(lines.encode()).hexdigest()}"
