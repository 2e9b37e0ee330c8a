"""What a lakeFS server's answers and broken connections mean, and when a call is made again; knows no SDK."""

from __future__ import annotations

import email.utils
import http.client
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from headwater.errors import (
    ConflictError,
    GateFailedError,
    HeadwaterError,
    IntegrityError,
    InvalidInputError,
    LakeError,
    NotFoundError,
    PermissionDeniedError,
    RaceLostError,
)

__all__ = ["MEANINGS", "Fault", "Meaning", "Patience", "error_of", "lost_race", "network_fault", "status_fault"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for; all in seconds, but for the number of attempts.

    Args:
        connect: For a connection.
        read: For the next bytes of an answer.
        attempts: How often a call is made at most.
        total: After this long, no call is made again.
        pause: Before the second attempt, on average; it doubles each time.
        longest_pause: What that grows to.
    """

    connect: float = 5.0
    read: float = 60.0
    attempts: int = 5
    total: float = 120.0
    pause: float = 0.1
    longest_pause: float = 5.0

    @property
    def timeout(self) -> urllib3.Timeout:
        """The same, for urllib3."""
        return urllib3.Timeout(connect=self.connect, read=self.read)

    def before(self, attempt: int, fault: Fault, *, since: float, repeatable: bool) -> float | None:
        """Return how long to pause before an attempt (the second is 2), or None if it should not be made.

        Args:
            attempt: The attempt to be made.
            fault: What the attempt before it met.
            since: When the first attempt was made, on the monotonic clock.
            repeatable: Whether the call does no harm if the server has already done what it asks.
        """
        worth = fault.status == 0 if fault.status not in MEANINGS else MEANINGS[fault.status].passing
        if attempt > self.attempts or not worth or fault.final or not (repeatable or fault.refused):
            return None
        doubled: float = self.pause * 2 ** (attempt - 2)
        pause = min(self.longest_pause, doubled) * random.uniform(0.5, 1.5)
        pause = max(pause, fault.retry_after)
        return pause if time.monotonic() + pause - since <= self.total else None


class Fault(Exception):
    """A call that did not succeed, before it has been given a meaning.

    Args:
        status: The HTTP status, or 0 where there was no answer that could be used.
        text: What happened, or what the server says about it.
        hint: What to do about it.
        retry_after: Seconds that the server asks to be left alone for.
        refused: The server certainly did nothing.
        final: Another attempt would meet the same.
        short: The answer was whole but for its end, which the server did not send.
    """

    def __init__(
        self,
        status: int,
        text: str,
        *,
        hint: str = "",
        retry_after: float = 0.0,
        refused: bool = False,
        final: bool = False,
        short: bool = False,
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.hint = hint
        self.retry_after = retry_after
        self.refused = refused
        self.final = final
        self.short = short


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a status means: the error to raise, what it says, what to do, and whether it may pass by itself."""

    error: type[HeadwaterError]
    says: str
    hint: str = ""
    passing: bool = False


_ELSEWHERE = Meaning(LakeError, "the address redirects elsewhere, so it is not a lakeFS server's", "check the URL")
_OVERLOAD = Meaning(LakeError, "the server has too many requests", "try again later", passing=True)
_TROUBLE = Meaning(LakeError, "the server is in trouble", "look at its log, or try again later", passing=True)

MEANINGS: Mapping[int, Meaning] = {
    301: _ELSEWHERE,
    302: _ELSEWHERE,
    303: _ELSEWHERE,
    304: Meaning(LakeError, "the server says that nothing has changed, which was not asked"),
    307: _ELSEWHERE,
    308: _ELSEWHERE,
    400: Meaning(InvalidInputError, "the server does not accept it"),
    401: Meaning(
        PermissionDeniedError,
        "the server does not know these keys",
        "set LAKECTL_CREDENTIALS_ACCESS_KEY_ID and LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY, or ~/.lakectl.yaml",
    ),
    403: Meaning(PermissionDeniedError, "these keys may not do that", "ask who administers the lakeFS server"),
    404: Meaning(NotFoundError, "it is not there"),
    405: Meaning(LakeError, "the server does not know this call", "a lakeFS server of 1.60 or later is needed"),
    409: Meaning(ConflictError, "something else stands in the way", "look at what is there now, and try again"),
    410: Meaning(
        IntegrityError,
        "its bytes have been removed from the storage",
        "garbage collection rules of the repository do that; restore the storage from a copy",
    ),
    412: Meaning(GateFailedError, "a hook of the repository refuses it", "see the repository's actions in lakeFS"),
    413: Meaning(LakeError, "the server, or a proxy before it, takes no body of this size"),
    416: Meaning(IntegrityError, "it is shorter than it was"),
    420: _OVERLOAD,
    423: Meaning(RaceLostError, "another writer has locked it", "try again", passing=True),
    429: _OVERLOAD,
    500: _TROUBLE,
    501: Meaning(LakeError, "the server cannot do that with its storage"),
    502: _TROUBLE,
    503: Meaning(LakeError, "the server is not available", "try again later", passing=True),
    504: _TROUBLE,
}
"""The one table of what lakeFS's statuses mean. A caller may know better what one means to it."""

_REFUSED = frozenset({401, 403, 404, 405, 412, 413, 420, 423, 429})
_RACE = re.compile(r"predicate failed|too many (tries|attempts|retries)|conflict|locked|concurrent|try again", re.I)


def lost_race(fault: Fault) -> bool:
    """Tell whether a refused commit or merge lost to another writer: lakeFS says so with several statuses."""
    return fault.status == 409 or (fault.status in (423, 429, 500) and bool(_RACE.search(fault.text)))


def error_of(fault: Fault, what: str, *, lands: bool = False) -> HeadwaterError:
    """Return what to raise for a fault.

    Args:
        fault: The fault.
        what: What could not be done, as in "cannot …".
        lands: It is a commit or a merge, so whether it was done matters to those who look next.
    """
    meaning = MEANINGS.get(fault.status)
    if fault.status == 0:
        kind, says, hint = LakeError, fault.text, fault.hint
    elif meaning is None:
        text = f" ({fault.text})" if fault.text else ""
        kind, says, hint = LakeError, f"the server answers with status {fault.status}{text}", "check the URL"
    else:
        text = f" ({fault.text})" if fault.text else ""
        kind, says, hint = meaning.error, meaning.says + text, meaning.hint  # type: ignore[assignment]
    if lands and not fault.refused and (fault.status == 0 or fault.status >= 500):
        says += "; it is unknown whether it landed"
    return kind(f"cannot {what}: {says}", hint=hint)


def status_fault(status: int, body: bytes | str | None, headers: Mapping[str, str] | None, *, secret: str) -> Fault:
    """Return the fault for an answer with an error status; of the body only lakeFS's own message is kept."""
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    text = ""
    try:
        content = json.loads(body or "")
        text = str(content.get("message") or "") if isinstance(content, dict) else ""
    except ValueError:
        pass  # a proxy's page, a plain text: nothing that helps a person
    line = " ".join(text.split()).replace(secret, "…") if secret else " ".join(text.split())
    line = "".join(c for c in line if c.isprintable())
    shown = line if len(line) <= 200 else line[:199] + "…"
    return Fault(status, shown, retry_after=_seconds((headers or {}).get("Retry-After")), refused=status in _REFUSED)


def _seconds(value: str | None) -> float:
    """Read a Retry-After header: seconds, or a date (RFC 9110, section 10.2.3)."""
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def network_fault(error: HTTPError, endpoint: str, patience: Patience) -> Fault:
    """Return the fault for a call that got no whole answer."""
    reason: BaseException = error
    while isinstance(inner := getattr(reason, "reason", None), BaseException):
        reason = inner
    here = f"check the URL, and that a lakeFS server runs at {endpoint}"
    if isinstance(reason, NameResolutionError):
        return Fault(0, f"there is no host of the name in {endpoint}", hint=here, refused=True)
    if isinstance(reason, NewConnectionError):
        return Fault(0, f"{endpoint} cannot be reached", hint=here, refused=True)
    if isinstance(reason, ConnectTimeoutError):
        return Fault(0, f"{endpoint} does not take a connection within {patience.connect:g} s", hint=here, refused=True)
    if isinstance(reason, SSLError):
        hint = "lakefss:// is for TLS and lakefs:// for plain HTTP; " + here
        final = bool(re.search("CERTIFICATE|WRONG_VERSION", str(reason)))
        return Fault(0, f"{endpoint} makes no TLS connection that can be trusted", hint=hint, final=final)
    if isinstance(reason, ReadTimeoutError):
        return Fault(
            0, f"{endpoint} does not answer within {patience.read:g} s", hint="it may be busy: try again later"
        )
    if any(isinstance(each, IncompleteRead | http.client.IncompleteRead) for each in (reason, *reason.args)):
        return Fault(0, f"the answer of {endpoint} ended too early", hint="try again later", short=True)
    return Fault(0, f"the connection to {endpoint} broke", hint=here)
