"""Whether a version's row is the one that was registered: its digest, and in a signed lake who signed for it.

Asks a folded state alone, and reads no bytes: whoever reads them checks them against the files' sha256.
"""

from __future__ import annotations

import json
from typing import Any

from headwater.artifacts import digest_of
from headwater.errors import IntegrityError
from headwater.model import ArtifactFile
from headwater.state import Fold

__all__ = ["check_genuine"]

_HINT = "`headwater audit` tells more; the commit before may have what was registered"


def check_genuine(fold: Fold, version_id: str, reference: str, *, vouched: bool = False) -> None:
    """Make sure that a version's row is what was registered.

    Args:
        fold: The state that has it.
        version_id: The version.
        reference: What it is called.
        vouched: Whether a signed lake has to hold a signature of its registration.

    Raises:
        IntegrityError: It is not, or nobody who may register it signed for it.
    """
    if fold.one("SELECT 1 FROM clashing WHERE version_id = ?", version_id) is not None:
        raise IntegrityError(f"{reference} is in the table of versions twice, with different content", hint=_HINT)
    text, listed = fold.one("SELECT row, files FROM versions WHERE version_id = ?", version_id)
    data: dict[str, Any] = json.loads(text)
    if data["external_url"] is None:
        files = [ArtifactFile(each["path"], each["size"], each["sha256"]) for each in json.loads(listed)]
        ways = {len(files) == 1, False}
        if not files or data["digest"] not in {digest_of(files, single=single) for single in ways}:
            raise IntegrityError(f"{reference}: its digest is not that of its files", hint=_HINT)
    if not fold.signed:
        return
    signed = {value for _, value in fold.standing(version_id, "registered")}
    if not signed:
        # A signature is over the digest too: with another one in the row, the honest event has no force either.
        refused = fold.rows(
            "SELECT json_extract(row, '$.value') FROM refused WHERE alarm AND subject = ? AND kind = 'registered'",
            version_id,
        )
        signed = {value for (value,) in refused} - {data["digest"]}
    if signed and signed != {data["digest"]}:
        raise IntegrityError(f"{reference} was registered with another digest than its row has", hint=_HINT)
    if vouched and not signed:
        raise IntegrityError(
            f"{reference} was never registered by anybody who may: no signature of its registration has force",
            hint="`headwater audit` tells more; who has the artifact registers it anew",
        )
