"""Posting to a URL: what is sent and signed, which addresses are refused however they are written, and every limit."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from tests.receiver import Receiver, Reply

from headwater import webhook
from headwater.errors import InvalidInputError
from headwater.webhook import Answer, post, signature
from headwater.webhook_address import forbidden, parse_url

SECRET = b"a secret of sixteen bytes or more"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started


def send(url: str, body: bytes = b"{}", *, seconds: float = 10.0, secret: bytes | None = None) -> Answer:
    return post(url, body, key="k1", secret=secret, allow_private=True, seconds=seconds)


# -- what is sent -----------------------------------------------------------------------------------------------------
def test_a_document_arrives_with_its_key_and_a_signature_that_the_receiver_can_check(receiver: Receiver) -> None:
    body = json.dumps({"text": "größer"}).encode()
    before = int(time.time())
    assert send(receiver.url("/hook?x=1"), body, secret=SECRET) == Answer("delivered")
    (got,) = receiver.requests
    assert (got.method, got.path, got.body) == ("POST", "/hook?x=1", body)
    assert got.headers["Idempotency-Key"] == "k1"
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["Host"] == f"127.0.0.1:{receiver.port}"
    moment, digest = (part.partition("=")[2] for part in got.headers["X-Headwater-Signature"].split(","))
    assert before <= int(moment) <= int(time.time())
    assert digest == hmac.new(SECRET, moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert signature(SECRET, int(moment), body) == got.headers["X-Headwater-Signature"]


def test_the_documented_way_to_verify_takes_what_is_sent_and_nothing_else(receiver: Receiver) -> None:
    text = (Path(__file__).parents[1] / "docs" / "notifications.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    is_genuine = names["is_genuine"]
    send(receiver.url(), b'{"event": "promoted"}', secret=SECRET)
    (got,) = receiver.requests
    said = got.headers["X-Headwater-Signature"]
    assert is_genuine(said, got.body, SECRET)
    assert not is_genuine(said, got.body + b" ", SECRET)
    assert not is_genuine(said, got.body, SECRET + b"!")
    old = int(time.time()) - 301
    assert not is_genuine(signature(SECRET, old, got.body), got.body, SECRET)
    assert not is_genuine(said.replace("t=", "t=1"), got.body, SECRET)


def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    send(receiver.url())
    assert "X-Headwater-Signature" not in receiver.requests[0].headers


# -- what answers mean ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "delivered"), (204, "delivered"), (400, "failed"), (401, "failed"), (410, "failed"), (408, "waiting"),
     (425, "waiting"), (429, "waiting"), (500, "waiting"), (503, "waiting"), (599, "waiting")],
)  # fmt: skip
def test_a_status_says_whether_to_try_again(receiver: Receiver, status: int, outcome: str) -> None:
    receiver.replies = [Reply(status)]
    found = send(receiver.url())
    assert found == Answer(outcome, None if outcome == "delivered" else f"HTTP {status}")
    assert len(receiver.requests) == 1


def test_retry_after_is_believed_up_to_an_hour(receiver: Receiver) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    for text, least, most in (
        ("7", 7, 7),
        ("999999", 3600, 3600),
        (soon, 90, 100),
        (past, 0, 0),
        ("9" * 40, 3600, 3600),
    ):
        receiver.replies = [Reply(429, {"Retry-After": text})]
        pause = send(receiver.url()).pause
        assert pause is not None
        assert least <= pause <= most, text
    for text in ("soon", "-5", "", "Sun, 99 Nov 2026"):
        receiver.replies = [Reply(503, {"Retry-After": text})]
        assert send(receiver.url()).pause is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    with Receiver() as other:
        receiver.replies = [Reply(status, {"Location": other.url("/private")})]
        found = send(receiver.url())
        assert found == Answer("failed", f"HTTP {status}: it redirects, and redirects are not followed")
        assert other.requests == []


# -- hostile servers --------------------------------------------------------------------------------------------------
def raw_server(*chunks: bytes, pause: float = 0.0, repeat: bytes = b"") -> tuple[str, socket.socket]:
    """Answer one connection with bytes as they are, then with some over and over."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                for chunk in chunks:
                    connection.sendall(chunk)
                    time.sleep(pause)
                while repeat:
                    connection.sendall(repeat)
                    time.sleep(pause)
        except OSError:
            pass

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/", listener


@pytest.mark.parametrize(
    ("first", "repeat"),
    [(b"", b""), (b"HTTP/1.1 ", b"2"), (b"HTTP/1.1 200 OK\r\nX: ", b"y"), (b"", b"HTTP/1.1 100 Continue\r\n\r\n")],
    ids=["silent", "status", "headers", "continue"],
)
def test_a_server_that_never_comes_to_an_end_is_left_in_time(first: bytes, repeat: bytes) -> None:
    url, listener = raw_server(first or b"", pause=0.05, repeat=repeat)
    if not first and not repeat:
        listener.close()
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    with listener:
        began = time.monotonic()
        found = send(url, seconds=0.4)
        assert time.monotonic() - began < 5
    assert found == Answer("waiting", "no answer within 0.4 seconds")


def test_of_a_huge_or_endless_answer_only_the_status_counts() -> None:
    url, listener = raw_server(b"HTTP/1.1 200 OK\r\n\r\n", repeat=b"x" * (1 << 16))
    with listener:
        assert send(url) == Answer("delivered")
    url, listener = raw_server(b"HTTP/1.1 200 OK\r\n\r\n", pause=0.05, repeat=b"x")
    with listener:
        assert send(url, seconds=0.4) == Answer("delivered")


@pytest.mark.parametrize(
    "answer",
    [b"\x00\xff nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000],
    ids=["noise", "status", "many", "long"],
)  # fmt: skip
def test_an_answer_that_is_not_http_is_said_without_its_text(answer: bytes) -> None:
    url, listener = raw_server(answer)
    with listener:
        found = send(url, seconds=5)
    assert found == Answer("waiting", "127.0.0.1 can't be reached: its answer is not HTTP")


def test_nobody_who_listens_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    assert send(url) == Answer("waiting", "127.0.0.1 can't be reached: connection refused")
    found = send("http://no-such-host.invalid/", seconds=3)
    assert found.outcome == "waiting"
    assert (found.detail or "").startswith(("no-such-host.invalid can't be reached: ", "no answer within"))


def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver(certificate=tmp_path) as receiver:
        url = receiver.url("/").replace("127.0.0.1", "localhost")
        found = send(url)
        assert found.outcome == "waiting"
        assert (found.detail or "").startswith("the certificate of localhost is not trusted: ")
        assert receiver.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
        assert send(url) == Answer("delivered")
        assert (send(receiver.url("/")).detail or "").startswith("the certificate of 127.0.0.1 is not trusted: ")
    assert ssl.create_default_context().minimum_version >= ssl.TLSVersion.TLSv1_2


# -- where to ---------------------------------------------------------------------------------------------------------
PRIVATE = [
    "127.0.0.1", "127.8.9.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1",
    "0", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "192.168.257", "169.254.169.254", "100.64.0.1",
    "198.18.0.1", "192.0.2.1", "240.0.0.1", "255.255.255.255", "224.0.0.1", "127.0.0.1.", "[::1]", "[::]",
    "[fe80::1]", "[fe80::1%25eth0]", "[fc00::1]", "[fd12::1]", "[fec0::1]", "[ff02::1]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a00:1]",
    "[64:ff9b:1::808:808]", "[2002:7f00:1::]", "[2002:a00:1::1]", "[2001:0:4136:e378:8000:63bf:f5ff:fffe]",
    "[2001:db8::1]", "[fd00:ec2::254]", "192.0.0.192", "192.0.0.8", "168.63.129.16", "192.88.99.1", "[5f00::1]",
    "[3fff::1]", "[::ffff:0:169.254.169.254]", "[::ffff:0:10.0.0.1]",
]  # fmt: skip


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_that_are_not_public_are_refused_in_every_notation(host: str) -> None:
    with pytest.raises(InvalidInputError, match="a webhook may not be at"):
        parse_url(f"https://{host}/")
    found = post(f"https://{host}/", b"{}", key="k", secret=None)
    assert found.outcome == "failed"


@pytest.mark.parametrize("host", ["0", "224.0.0.1", "[ff02::1]", "255.255.255.255", "169.254.169.254", "[::]",
                                  "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]",
                                  "169.254.170.23", "[fd00:ec2::23]", "[fd20:ce::254]", "168.63.129.16",
                                  "192.0.0.192", "[::ffff:0:169.254.169.254]", "[64:ff9b:1::a9fe:a9fe]",
                                  "[64:ff9b:1:a9fe:a9:fe00::]", "[64:ff9b:1:1a9:fe:a9fe::]",
                                  "[64:ff9b:1:1:a9:fea9:fe00:0]"])  # fmt: skip
def test_some_addresses_are_refused_whatever_is_allowed(host: str) -> None:
    with pytest.raises(InvalidInputError, match="a webhook may not be at"):
        parse_url(f"https://{host}/", allow_private=True)


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700:4700::1111]", "[::ffff:8.8.8.8]", "[64:ff9b::808:808]"])
def test_public_addresses_are_fine(host: str) -> None:
    assert parse_url(f"https://{host}/").port == 443
    assert forbidden(ipaddress.ip_address(host.strip("[]")), allow_private=False) is None


def test_a_translator_of_ones_own_may_be_allowed() -> None:
    assert parse_url("https://[64:ff9b:1::a00:1]/", allow_private=True).host == "64:ff9b:1::a00:1"


@pytest.mark.parametrize("url", ["https://1.1.1.1:0/", "https://example.com:00/"])
def test_port_0_is_none(url: str) -> None:
    with pytest.raises(InvalidInputError, match="not a port"):
        parse_url(url)


def test_a_name_is_judged_by_the_addresses_that_it_has(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    found = post(f"https://localhost:{receiver.port}/", b"{}", key="k", secret=None)
    assert found.outcome == "waiting"
    assert (found.detail or "").startswith("localhost is at ")
    assert (found.detail or "").endswith("that is the machine itself")
    row = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    answers = [[(*row, ("8.8.8.8", 443)), (*row, ("10.1.2.3", 443))]]
    monkeypatch.setattr(webhook.socket, "getaddrinfo", lambda *_, **__: answers[0])
    found = post("https://both.example/", b"{}", key="k", secret=None)
    assert found == Answer("waiting", "both.example is at 10.1.2.3: that is a private or reserved address")
    assert receiver.requests == []


def test_the_connection_is_made_to_the_address_that_was_judged(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that means one machine when it is judged, and another a moment later, is asked for once."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: str, *rest: object, **named: object) -> object:
        if host == "rebinding.example":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return real(host, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert send(f"http://rebinding.example:{receiver.port}/") == Answer("delivered")
    assert asked == ["rebinding.example"]
    assert receiver.requests[0].headers["Host"] == f"rebinding.example:{receiver.port}"


def test_a_resolver_that_does_not_answer_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def slow(*_: object, **__: object) -> object:
        over.wait(20)
        raise OSError

    monkeypatch.setattr(webhook.socket, "getaddrinfo", slow)
    assert send("http://slow.example/", seconds=0.2) == Answer("waiting", "no answer within 0.2 seconds")
    over.set()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/", "a webhook is posted to an https:// URL: ftp://example.com/"),
        ("file:///etc/passwd", "a webhook is posted to an https:// URL: file:///etc/passwd"),
        ("example.com/hook", "a webhook is posted to an https:// URL: example.com/hook"),
        ("https://me:pa55@example.com/", "a webhook's URL may hold no user and no password: https://example.com/"),
        ("ftp://me:pa55@example.com/", "a webhook is posted to an https:// URL: ftp://example.com/"),
        ("https://example.com@10.0.0.1/", "a webhook's URL may hold no user and no password: https://10.0.0.1/"),
        ("https://example.com/#x", "a webhook's URL has no part after #"),
        ("http://example.com/", "what is posted to http://example.com/ could be read on the way"),
        ("https:///hook", "not the name of a host: ''"),
        ("https://exa_mple..com/", "not the name of a host: 'exa_mple..com'"),
        ("https://-a.com/", "not the name of a host: '-a.com'"),
        ("https://example.com:99999/", "not a URL: 'https://example.com:99999/'"),
        ("https://example.com:x/", "not a URL: 'https://example.com:x/'"),
        ("https://[::1/", "not a URL: 'https://[::1/'"),
        ("https://example.com/a b", "not a URL: 'https://example.com/a b'"),
        ("https://example.com/\r\nX: y", r"not a URL: 'https://example.com/\r\nX: y'"),
        ("https://example.com\\@10.0.0.1/", "not a URL: "),
        ("https://exämple.com/", "not a URL: 'https://exämple.com/'"),
        ("https://example.com/" + "a" * 2000, "not a URL: "),
    ],
)
def test_urls_that_a_webhook_may_not_have(url: str, said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse_url(url)
    assert said.replace("'", "") in caught.value.message.replace("'", "").replace('"', "")
    assert "pa55" not in caught.value.message + caught.value.hint
