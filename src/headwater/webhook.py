"""Posting one notification to a URL: one request, bounded in time and size, to an address that was looked at.

A name is resolved once, every address that it has is judged, and the connection is made to one of those addresses
themselves, so that a name can't mean another machine a moment later. Redirects are not followed, no proxy is asked, and
of the answer nothing counts but its status. Knows nothing of lakes.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from headwater.errors import InvalidInputError
from headwater.webhook_address import WebhookUrl, forbidden, parse_url

__all__ = ["Answer", "post", "signature"]

_LONGEST_BODY = 64 << 10
"""Bytes that are read of an answer's body, so that a polite server sees it taken."""

_LONGEST_PAUSE = 3600.0
"""Seconds for which a server is believed when it asks for a pause."""

_LATER = frozenset({408, 425, 429})
"""Statuses below 500 that may go away by themselves."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request.

    Attributes:
        outcome: `delivered`, `waiting` (trying again may help) or `failed`.
        detail: Why it was not delivered, in words that hold nothing of the answer's text.
        pause: Seconds for which the server asks not to be tried again.
    """

    outcome: str
    detail: str | None = None
    pause: float | None = None


def signature(secret: bytes, moment: int, body: bytes) -> str:
    """Return the value of `X-Headwater-Signature` of a body that is sent at a moment (seconds since 1970, UTC)."""
    digest = hmac.new(secret, b"%d." % moment + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def post(
    url: str, body: bytes, *, key: str, secret: bytes | None, allow_private: bool = False, seconds: float = 10.0
) -> Answer:
    """Post a JSON document; what goes wrong is part of the answer.

    Args:
        url: Where to.
        body: The document.
        key: The idempotency key.
        secret: What signs it, if anything.
        allow_private: Whether the address may be this machine's or a private one.
        seconds: For everything together, from the name's resolution to the end of the answer.
    """
    end = time.monotonic() + seconds
    try:
        where = parse_url(url, allow_private=allow_private)
    except InvalidInputError as error:
        return Answer("failed", error.message)
    headers = {
        "Host": where.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "User-Agent": "headwater",
        "Idempotency-Key": key,
        "Connection": "close",
    }
    if secret is not None:
        headers["X-Headwater-Signature"] = signature(secret, int(time.time()), body)
    try:
        addresses = _resolve(where, end)
        for text in addresses:
            why = forbidden(ipaddress.ip_address(text.partition("%")[0]), allow_private=allow_private)
            if why is not None:
                return Answer("waiting", f"{where.host} is at {text}: {why}")
        with _connected(where, addresses, end) as connection:
            connection.putrequest("POST", where.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            if time.monotonic() >= end:
                raise _TooLateError
            answer = _judged(response.status, response.getheader("Retry-After"))
            # What follows the status changes nothing: the server has taken the notification, or has not.
            with contextlib.suppress(OSError, http.client.HTTPException):
                response.read(_LONGEST_BODY)
            return answer
    except _TooLateError:
        return Answer("waiting", f"no answer within {seconds:g} seconds")
    except ssl.SSLCertVerificationError as error:
        return Answer("waiting", f"the certificate of {where.host} is not trusted: {error.verify_message}")
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if time.monotonic() >= end:
            return Answer("waiting", f"no answer within {seconds:g} seconds")
        return Answer("waiting", f"{where.host} can't be reached: {_said(error)}")


def _said(error: Exception) -> str:
    """Return what an error says, without what a server sent."""
    if isinstance(error, http.client.HTTPException):
        return "its answer is not HTTP"
    text = error.strerror if isinstance(error, OSError) and isinstance(error.strerror, str) else type(error).__name__
    return text.lower()[:200]


def _judged(status: int, retry_after: str | None) -> Answer:
    if 200 <= status < 300:
        return Answer("delivered")
    if status >= 500 or status in _LATER:
        return Answer("waiting", f"HTTP {status}", _pause(retry_after))
    if 300 <= status < 400:
        return Answer("failed", f"HTTP {status}: it redirects, and redirects are not followed")
    return Answer("failed", f"HTTP {status}")


def _pause(text: str | None) -> float | None:
    """Return the seconds that a `Retry-After` means (RFC 9110, section 10.2.3): a number, or a date."""
    if text is None:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return min(float(text.strip()[:9]), _LONGEST_PAUSE)
    try:
        until = parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return min(max(until - time.time(), 0.0), _LONGEST_PAUSE)


class _TooLateError(Exception):
    """The time is up."""


def _resolve(where: WebhookUrl, end: float) -> list[str]:
    """Return the addresses that a host has now; the resolver is left behind where it takes too long."""
    found: list[Any] = []

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            found.append(list(dict.fromkeys(str(row[4][0]) for row in rows)))
        except (OSError, UnicodeError) as error:
            found.append(error)

    asking = threading.Thread(target=ask, daemon=True, name="headwater-resolver")
    asking.start()
    asking.join(max(end - time.monotonic(), 0.0))
    if not found:
        raise _TooLateError
    if isinstance(found[0], Exception):
        raise found[0]
    return list(found[0])


@contextlib.contextmanager
def _connected(where: WebhookUrl, addresses: list[str], end: float) -> Iterator[http.client.HTTPConnection]:
    """Hold a connection to one of some addresses, which is cut when the time is up, whatever it is doing then."""
    plain: socket.socket | None = None
    for remaining in range(len(addresses), 0, -1):
        left = end - time.monotonic()
        if left <= 0:
            raise _TooLateError
        try:
            # An address that does not answer leaves time for the others.
            plain = socket.create_connection((addresses[-remaining], where.port), timeout=left / min(remaining, 2))
            break
        except OSError:
            if remaining == 1:
                raise
    assert plain is not None
    late = threading.Event()
    used: socket.socket = plain
    # TLS takes the socket away from its object, so what cuts it has one of its own.
    handle = plain.dup()
    # A timeout of a socket is for one read of it: who sends a byte now and then would be waited for without end.
    watch = threading.Timer(max(end - time.monotonic(), 0.0), _cut, (handle, late))
    watch.daemon = True
    watch.start()
    try:
        if where.scheme == "https":
            used = ssl.create_default_context().wrap_socket(plain, server_hostname=where.host.rstrip("."))
        connection = http.client.HTTPConnection(where.host, where.port)
        connection.sock = used
        yield connection
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise _TooLateError from None
        raise
    finally:
        watch.cancel()
        handle.close()
        used.close()


def _cut(handle: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        handle.shutdown(socket.SHUT_RDWR)
