"""What a user of a lakeFS lake meets when the server, the network or somebody else is in the way."""

from __future__ import annotations

import inspect
import io
import itertools
import json
import pkgutil
import re
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from importlib import import_module
from pathlib import Path
from typing import Any

import lakefs_sdk.api
import lakefs_sdk.exceptions
import pytest
import urllib3.exceptions
from tests.lake.lakefs_stub import HEAD, RESET, SLOW, Reply, Request, Stub, blob, error, js

from headwater.errors import (
    AlreadyExistsError,
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
from headwater.lake.lakefs import Credentials, LakeFS, Patience
from headwater.lake.lakefs_http import MEANINGS, Fault, status_fault

SECRET = "sEcReT/kEy+of=40characters"
KEYS = Credentials("AKIAEXAMPLE", SECRET)
PATIENCE = Patience(connect=0.5, read=0.3, attempts=3, total=20, pause=0.001, longest_pause=0.002)

Call = Callable[[LakeFS], Any]

COUNT = itertools.count()
READS: dict[str, Call] = {
    "head": lambda lake: lake.head("main"),
    "branches": lambda lake: lake.branches(),
    "tags": lambda lake: lake.tags(),
    "get_commit": lambda lake: lake.get_commit(HEAD),
    "find_commits": lambda lake: lake.find_commits(HEAD[:8]),
    "log": lambda lake: list(lake.log(HEAD)),
    "merge_base": lambda lake: lake.merge_base(HEAD, HEAD),
    "diff": lambda lake: list(lake.diff(HEAD, HEAD)),
    "stat": lambda lake: lake.stat(HEAD, "a"),
    "list": lambda lake: list(lake.list(HEAD)),
    "open": lambda lake: lake.open(HEAD, "a"),
    "read": lambda lake: lake.read(HEAD, "a"),
    "localize": lambda lake: lake.localize(HEAD, ["a"]),
}
WRITES: dict[str, Call] = {
    "put": lambda lake: lake.put("main", "a", b"1"),
    "put a file": lambda lake: lake.put("main", "a", io.BytesIO(bytes(2_000_000))),
    "put_many": lambda lake: lake.put_many("main", {"a": b"1"}),
    "delete": lambda lake: lake.delete("main", "a"),
    "create_branch": lambda lake: lake.create_branch("b", HEAD),
    "delete_branch": lambda lake: lake.delete_branch("b"),
    "create_tag": lambda lake: lake.create_tag("t", HEAD),
    "delete_tag": lambda lake: lake.delete_tag("t"),
    "claim": lambda lake: lake.claim("k", "v"),
    "cut": lambda lake: lake.cut("s", f"v{next(COUNT)}"),
}
LANDINGS: dict[str, Call] = {
    "commit": lambda lake: lake.commit("main", "m", {}),
    "merge": lambda lake: lake.merge("b", "main", "m", {}),
}
ALL = {**READS, **WRITES, **LANDINGS}

# statuses that mean something else to some calls
OF_A_CALL: dict[tuple[str, int], type[HeadwaterError]] = {
    ("create_branch", 409): AlreadyExistsError,
    ("create_tag", 409): AlreadyExistsError,
    ("commit", 409): RaceLostError,
    ("merge", 409): RaceLostError,
}


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


@pytest.fixture
def lake(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LakeFS]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = LakeFS.connect(stub.url, credentials=KEYS, patience=PATIENCE)
    yield opened
    opened.close()


def said(caught: pytest.ExceptionInfo[HeadwaterError]) -> str:
    """Return an error's message, having checked what every message has to be."""
    shown = caught.value
    assert "\n" not in shown.message + shown.hint
    assert len(shown.message) < 400
    assert SECRET not in "".join(traceback.format_exception(shown)) + shown.hint
    assert "HTTP response headers" not in shown.message
    return shown.message


# -- statuses ----------------------------------------------------------------------------------------------------------


def documented_statuses() -> dict[int, set[str]]:
    """Every status that the SDK's methods document, with the methods."""
    found: dict[int, set[str]] = {}
    for module in pkgutil.iter_modules(lakefs_sdk.api.__path__):
        source = inspect.getsource(import_module(f"lakefs_sdk.api.{module.name}"))
        for method in re.finditer(r"def (\w+)_with_http_info.*?_response_types_map = (\{.*?\})", source, re.DOTALL):
            for status in re.findall(r"'(\d{3})'", method[2]):
                found.setdefault(int(status), set()).add(method[1])
    return found


def test_every_status_that_the_sdk_documents_has_a_meaning() -> None:
    documented = documented_statuses()
    assert {200, 201, 404, 409, 410, 412, 416, 429, 501} <= documented.keys()
    assert "merge_into_branch" in documented[412]
    unmapped = {status: methods for status, methods in documented.items() if status >= 300 and status not in MEANINGS}
    assert unmapped == {}


def test_every_meaning_is_an_error_of_ours() -> None:
    for status, meaning in MEANINGS.items():
        assert issubclass(meaning.error, HeadwaterError), status
        assert meaning.says
        assert "\n" not in meaning.says + meaning.hint
        assert meaning.passing == (status in (420, 423, 429, 500, 502, 503, 504))


@pytest.mark.parametrize("status", [*sorted(MEANINGS), 418, 451, 507])
def test_a_status_is_the_error_of_the_table(stub: Stub, lake: LakeFS, status: int) -> None:
    stub.queue(error(status, "the words of lakeFS"))
    expected = MEANINGS[status].error if status in MEANINGS else LakeError
    for name, call in ALL.items():
        if name == "find_commits" and status == 404:
            assert call(lake) == []
            continue
        if name in ("claim", "cut") and status in (404, 412):
            continue  # they have an answer to these
        with pytest.raises(HeadwaterError) as caught:
            call(lake)
        assert type(caught.value) is OF_A_CALL.get((name, status), expected), name
        message = said(caught)
        if type(caught.value) is expected and status != 404:
            assert message.startswith("cannot "), name
            assert "the words of lakeFS" in message or status == 304, name  # a 304 has no body


@pytest.mark.parametrize(
    ("status", "exit_status"), [(401, 3), (403, 3), (404, 1), (409, 4), (410, 5), (412, 3), (423, 4), (503, 1)]
)
def test_the_exit_status_is_what_scripts_expect(stub: Stub, lake: LakeFS, status: int, exit_status: int) -> None:
    stub.queue(error(status))
    with pytest.raises(HeadwaterError) as caught:
        lake.commit("main", "m", {})
    assert caught.value.exit_status == exit_status


def test_wrong_keys_are_told_how_to_be_set(stub: Stub, lake: LakeFS) -> None:
    stub.queue(error(401, "error authenticating request"))
    with pytest.raises(PermissionDeniedError) as caught:
        lake.head("main")
    assert said(caught).startswith("cannot read branch 'main': the server does not know these keys")
    assert "LAKECTL_CREDENTIALS_ACCESS_KEY_ID" in caught.value.hint


def test_a_hook_that_refuses_is_named(stub: Stub, lake: LakeFS) -> None:
    stub.queue(error(412, "pre-merge hook aborted, run id '1': no README"))
    with pytest.raises(GateFailedError, match=r"hook of the repository refuses it .*no README"):
        lake.merge("b", "main", "m", {})
    assert len(stub.requests) == 1


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (409, ""),
        (409, "conflict found"),
        (423, "branch is locked"),
        (429, "too many tries"),
        (500, "predicate failed"),
        (500, "update branch main: too many retries"),
    ],
)
@pytest.mark.parametrize("name", ["commit", "merge"])
def test_a_lost_race_is_told_apart(stub: Stub, lake: LakeFS, name: str, status: int, message: str) -> None:
    stub.queue(error(status, message))
    with pytest.raises(RaceLostError) as caught:
        LANDINGS[name](lake)
    assert "main" in said(caught)
    assert len(stub.requests) == 1


def test_nothing_to_commit_or_merge(stub: Stub, lake: LakeFS) -> None:
    stub.queue(error(400, "commit: no changes"))
    with pytest.raises(ConflictError, match="nothing is staged on branch 'main'"):
        lake.commit("main", "m", {})

    def answer(request: Request) -> Reply:
        if request.method == "POST":
            return error(400, "update branch main: no changes")
        if "/merge/" in request.path:
            return js({"base_commit_id": HEAD})
        return js({"id": "main", "commit_id": HEAD})

    stub.answer = answer
    with pytest.raises(ConflictError, match="nothing to merge from 'b' into branch 'main'"):
        lake.merge("b", "main", "m", {})
    stub.queue(error(400, "uncommitted changes (dirty branch)"))
    with pytest.raises(ConflictError, match="'main' has staged changes"):
        lake.merge("b", "main", "m", {})
    stub.queue(error(400, "bad metadata"))
    with pytest.raises(InvalidInputError, match="bad metadata"):
        lake.commit("main", "m", {})


def test_what_a_server_says_is_shown_on_one_short_line_without_keys() -> None:
    noise = "line 1\n\x1b[31mline 2\t" + SECRET + " " + "x" * 1000
    fault = status_fault(400, json.dumps({"message": noise}), {}, secret=SECRET)
    assert fault.text.startswith("line 1")
    assert len(fault.text) <= 200
    assert SECRET not in fault.text
    assert fault.text.isprintable()
    for body in (b"<html>no</html>", b"\xff\xfe", b"[]", b"", None, b'{"message": null}', b'{"error": 1}'):
        assert status_fault(500, body, None, secret=SECRET).text == ""


# -- repeating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [420, 423, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_where_that_is_safe(stub: Stub, lake: LakeFS, status: int) -> None:
    for name, call in {**READS, **WRITES}.items():
        stub.requests.clear()
        stub.queue(error(status))
        with pytest.raises(HeadwaterError):
            call(lake)
        assert len(stub.requests) == PATIENCE.attempts, name
        stub.requests.clear()
        stub.queue(error(status), error(status), None)
        call(lake)
        assert len(stub.requests) >= PATIENCE.attempts, name


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 412, 413, 416, 418, 501])
def test_what_will_not_pass_is_not_tried_again(stub: Stub, lake: LakeFS, status: int) -> None:
    for name, call in ALL.items():
        if name in ("claim", "cut", "find_commits"):
            continue
        stub.requests.clear()
        stub.queue(error(status))
        with pytest.raises(HeadwaterError):
            call(lake)
        assert len(stub.requests) == 1, name


@pytest.mark.parametrize("name", ["commit", "merge"])
@pytest.mark.parametrize("reply", [error(500), error(502), error(503), error(504), RESET, SLOW, Reply(200, b"<html>")])
def test_a_landing_that_may_have_happened_is_not_repeated(stub: Stub, lake: LakeFS, name: str, reply: Reply) -> None:
    stub.queue(reply)
    with pytest.raises(LakeError) as caught:
        LANDINGS[name](lake)
    assert said(caught).endswith("; it is unknown whether it landed")
    assert len(stub.requests) == 1


@pytest.mark.parametrize("name", ["commit", "merge"])
@pytest.mark.parametrize("status", [420, 429])
def test_a_landing_that_was_refused_unseen_is_repeated(stub: Stub, lake: LakeFS, name: str, status: int) -> None:
    stub.queue(error(status, "slow down"), None)
    assert LANDINGS[name](lake) == HEAD
    assert len(stub.requests) == 2
    stub.queue(error(status, "slow down"))
    with pytest.raises(LakeError) as caught:
        LANDINGS[name](lake)
    assert "landed" not in said(caught)


def test_the_server_is_left_alone_for_as_long_as_it_asks(stub: Stub, lake: LakeFS) -> None:
    stub.queue(error(429, Retry_After="1"), None)
    lake.head("main")
    first, second = stub.requests
    assert second.at - first.at >= 1.0
    later = formatdate(time.time() + 100, usegmt=True)
    assert 90 < status_fault(429, b"", {"Retry-After": later}, secret="").retry_after <= 100
    for odd in ("soon", "-1", "Thu, 01 Jan 1970 00:00:00 GMT", ""):
        assert status_fault(429, b"", {"Retry-After": odd}, secret="").retry_after == 0


def test_waiting_has_an_end(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    hasty = LakeFS.connect(stub.url, credentials=KEYS, patience=Patience(attempts=100, total=0.3, pause=0.05))
    stub.queue(error(503))
    began = time.monotonic()
    with pytest.raises(LakeError):
        hasty.head("main")
    assert time.monotonic() - began < 60
    stub.queue(error(429, Retry_After="3600"))
    stub.requests.clear()
    with pytest.raises(LakeError):
        hasty.head("main")
    assert len(stub.requests) == 1
    hasty.close()


def test_pauses_grow_and_differ() -> None:
    patience = Patience(attempts=6, pause=0.1, longest_pause=1.0)
    fault = Fault(503, "")
    pauses = [
        [patience.before(attempt, fault, since=time.monotonic(), repeatable=True) or 0.0 for _ in range(200)]
        for attempt in range(2, 7)
    ]
    for each, middle in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.0], strict=True):
        assert 0.5 * middle <= min(each) < max(each) <= 1.5 * middle
        assert len(set(each)) > 100
    assert patience.before(7, fault, since=time.monotonic(), repeatable=True) is None
    assert patience.before(2, fault, since=time.monotonic(), repeatable=False) is None


# -- connections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({**READS, **WRITES}))
def test_a_broken_connection_is_mended(stub: Stub, lake: LakeFS, name: str) -> None:
    stub.queue(RESET, None)
    ALL[name](lake)
    lake._localized.clear()
    stub.queue(RESET)
    with pytest.raises(LakeError) as caught:
        ALL[name](lake)
    assert f"the connection to http://127.0.0.1:{stub.port} broke" in said(caught)


def test_a_slow_server_is_told_from_one_that_is_down(stub: Stub, lake: LakeFS) -> None:
    stub.queue(SLOW)
    with pytest.raises(LakeError, match=r"http://127.0.0.1:\d+ does not answer within 0.3 s") as caught:
        lake.head("main")
    assert len(stub.requests) == PATIENCE.attempts
    assert said(caught)


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_server_that_is_down(stub: Stub, lake: LakeFS, name: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        lake._client.sdk.base = f"http://127.0.0.1:{closed.getsockname()[1]}/api/v1"
        for api in ("branches", "commits", "experimental", "objects", "refs", "tags"):
            getattr(lake._client.sdk, api).api_client.configuration.host = lake._client.sdk.base
        with pytest.raises(LakeError) as caught:
            ALL[name](lake)
    assert "cannot be reached" in said(caught)
    assert "landed" not in caught.value.message
    assert f"http://127.0.0.1:{stub.port}" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("lakefs://127.0.0.1:{closed}/models", "cannot be reached"),
        ("lakefs://no-such-host.invalid:8000/models", "there is no host of the name"),
        ("lakefss://127.0.0.1:{stub}/models", "makes no TLS connection"),
    ],
)
def test_opening_what_is_not_there(stub: Stub, url: str, words: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        wanted = url.format(closed=closed.getsockname()[1], stub=stub.port)
        with pytest.raises(LakeError) as caught:
            LakeFS.connect(wanted, credentials=KEYS, patience=PATIENCE)
    message = said(caught)
    assert words in message
    assert wanted in message
    assert caught.value.hint


def test_a_server_that_takes_no_connection() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        patience = Patience(connect=0.2, read=0.2, attempts=2, pause=0.01)
        with pytest.raises(LakeError, match=r"within 0.2 s") as caught:
            LakeFS.connect(f"lakefs://127.0.0.1:{full.getsockname()[1]}/models", credentials=KEYS, patience=patience)
        assert said(caught)
        for each in waiting:
            each.close()


PAGES = [b"<!doctype html><title>Sign in</title>", b"", b"null", b"[]", b"{}", b"\xff\xfe\x00"]
ODD = [
    (name, page)
    for name in {**READS, **WRITES}
    for page in PAGES
    if not (name.startswith("delete") and page in (b"", b"{}"))  # as lakeFS may answer these
]


@pytest.mark.parametrize(("name", "body"), ODD)
def test_an_answer_that_is_not_lakefss(stub: Stub, lake: LakeFS, name: str, body: bytes) -> None:
    stub.queue(Reply(200, body, {"Content-Type": "text/html"}))
    with pytest.raises(LakeError) as caught:
        ALL[name](lake)
    assert "not a lakeFS server's" in said(caught)
    assert "<" not in caught.value.message
    assert len(stub.requests) <= PATIENCE.attempts


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_page_of_a_proxy_with_an_error_status(stub: Stub, lake: LakeFS, name: str) -> None:
    stub.queue(Reply(502, b"<html>\xff Bad gateway\nnginx</html>", {"Content-Type": "text/html"}))
    with pytest.raises(LakeError) as caught:
        ALL[name](lake)
    assert "the server is in trouble" in said(caught)
    assert "nginx" not in caught.value.message


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirection_is_not_followed(stub: Stub, lake: LakeFS, status: int) -> None:
    stub.queue(Reply(status, b"", {"Location": f"http://127.0.0.1:{stub.port}/login"}))
    for name in ("head", "read", "put", "commit"):
        stub.requests.clear()
        with pytest.raises(LakeError, match="redirects elsewhere"):
            ALL[name](lake)
        assert len(stub.requests) == 1


def exceptions_of(module: Any, base: type[Exception]) -> list[type[Exception]]:
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, base)]
    return sorted(set(found), key=lambda each: each.__name__)


@pytest.mark.parametrize(
    "kind",
    exceptions_of(urllib3.exceptions, urllib3.exceptions.HTTPError)
    + exceptions_of(lakefs_sdk.exceptions, lakefs_sdk.exceptions.ApiException),
)
def test_every_exception_of_the_vendors_becomes_a_fault(lake: LakeFS, kind: type[Exception]) -> None:
    raised = kind.__new__(kind, "x")
    for name in ("status", "body", "headers", "reason"):
        if issubclass(kind, lakefs_sdk.exceptions.ApiException):
            setattr(raised, name, None)
    with pytest.raises(Fault) as caught, lake._client.faults():
        raise raised
    assert caught.value.text


# -- objects -----------------------------------------------------------------------------------------------------------


def test_a_body_that_breaks_off_is_fetched_on(stub: Stub, lake: LakeFS, tmp_path: Path) -> None:
    content = b"0123456789" * 1000

    def answer(request: Request) -> Reply | None:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        if len(stub.requests) >= PATIENCE.attempts:
            return None
        return blob(content[start:], etag=etag, status=206 if start else 200, fault="short")

    etag = blob(content).headers["ETag"].strip('"')
    stub.answer = answer
    assert lake.read(HEAD, "a") == content
    assert [request.headers.get("range") for request in stub.requests] == [None, "bytes=5000-", "bytes=7500-"]
    stub.requests.clear()
    assert lake.localize(HEAD, ["a"])["a"].read_bytes() == content
    stub.requests.clear()
    with lake.open(HEAD, "a") as stream:
        assert stream.read(10) + stream.read() == content


@pytest.mark.parametrize(
    ("fault", "expected", "words"),
    [
        ("short", IntegrityError, "'a' is not what was put: the lake gives only 9 of its 10 bytes"),
        ("reset", LakeError, "cannot read 'a': the connection to http://127.0.0.1:.* broke"),
        ("stall", LakeError, "cannot read 'a': http://127.0.0.1:.* does not answer within 0.3 s"),
    ],
)
def test_a_body_that_always_breaks_off_is_given_up(
    stub: Stub, lake: LakeFS, fault: str, expected: type[HeadwaterError], words: str
) -> None:
    def answer(request: Request) -> Reply | None:
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        if start and fault == "reset":
            return RESET
        breaks = "stall" if fault == "stall" else "short"
        return blob(b"0123456789"[start:], etag="d" * 32, status=206 if start else 200, fault=breaks)

    stub.answer = answer
    for call in (READS["read"], READS["localize"]):
        with pytest.raises(expected, match=words) as caught:
            call(lake)
        assert type(caught.value) is expected
        assert said(caught)
        assert len(stub.requests) < 20
        stub.requests.clear()
    assert not [path for path in lake.cache.rglob("*") if path.is_file()]


def test_bytes_that_are_not_what_was_put(stub: Stub, lake: LakeFS) -> None:
    stub.queue(blob(b"other bytes", etag="0" * 32))
    for call in (READS["read"], READS["localize"], lambda lake: lake.open(HEAD, "a").read()):
        with pytest.raises(IntegrityError, match="'a' is not what was put: its MD5 differs") as caught:
            call(lake)
        assert said(caught)
    assert not [path for path in lake.cache.rglob("*") if path.is_file()]


def test_an_object_put_in_parts_is_checked_by_our_sha256(stub: Stub, lake: LakeFS) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("/stat"):
            return js({"path": "a", "size_bytes": 5, "checksum": "x-2", "metadata": {"headwater-sha256": "0" * 64}})
        return blob(b"bytes", etag="0123456789abcdef0123456789abcdef-2")

    stub.answer = answer
    with pytest.raises(IntegrityError, match="its sha256 differs"):
        lake.read(HEAD, "a")


def test_an_object_that_changes_between_two_fetches(stub: Stub, lake: LakeFS) -> None:
    stub.queue(blob(b"0123456789", etag="a" * 32, fault="short"), blob(b"56789", etag="b" * 32, status=206))
    with pytest.raises(IntegrityError, match="changed while it was read"):
        lake.read(HEAD, "a")


def test_an_object_that_reached_the_server_otherwise(stub: Stub, lake: LakeFS) -> None:
    for reply in (
        js({"path": "a", "size_bytes": 1, "checksum": "0" * 32}, 201),
        js({"path": "a", "size_bytes": 2, "checksum": "x"}, 201),
    ):
        stub.queue(reply)
        for source in (b"1", io.BytesIO(b"1"), io.BytesIO(bytes(2_000_000))):
            with pytest.raises(IntegrityError, match="did not reach the lake as it was sent"):
                lake.put("main", "a", source)


def test_a_file_is_sent_again_from_its_start_but_a_pipe_is_not(stub: Stub, lake: LakeFS) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    for content in (b"0123456789", b"0123456789" * 300_000):
        source = io.BytesIO(b"skipped" + content)
        source.seek(7)
        stub.requests.clear()
        stub.queue(error(503), RESET, None)
        lake.put("main", "a", source)
        assert [request.body for request in stub.requests[:3]] == [content] * 3
    lake.put("main", "a", Pipe(content))
    for reply in (error(503), error(429), error(423), RESET, SLOW):
        stub.requests.clear()
        stub.queue(reply, None)
        with pytest.raises(HeadwaterError):
            lake.put("main", "a", Pipe(content))
        assert [request.body for request in stub.requests] == [content]


def test_of_many_objects_none_is_put_after_one_has_failed(stub: Stub, lake: LakeFS) -> None:
    stub.answer = lambda request: error(403) if b"7" in request.body else None
    with pytest.raises(PermissionDeniedError):
        lake.put_many("main", {f"{i:03}": b"%d" % i for i in range(500)})
    sent = len(stub.requests)
    assert sent < 400
    time.sleep(0.1)
    assert len(stub.requests) == sent


@pytest.mark.parametrize("change", ["grows", "shrinks"])
def test_a_file_that_changes_while_it_is_read(stub: Stub, lake: LakeFS, tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 500_000)

    class Changing(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:  # type: ignore[override]
            if self.tell() > 3_000_000:
                with path.open("ab") as file:
                    file.write(b"more")
                    file.truncate(5_000_004 if change == "grows" else 4_000_000)
            return super().read(size) or b""

    with Changing(path) as source, pytest.raises(IntegrityError, match="a file changed while it was read"):
        lake.put("main", "a", source)  # type: ignore[arg-type]


# -- echoes of broken attempts -----------------------------------------------------------------------------------------


def reservations(stub: Stub, first: Reply, standing: bytes) -> None:
    """Break the first attempt to reserve anything, refuse the others, and show what stands."""
    attempts = 0

    def answer(request: Request) -> Reply | None:
        nonlocal attempts
        if request.method == "POST":
            attempts += 1
            return first if attempts == 1 else error(412, "path already exists") if attempts == 2 else None
        if request.path.endswith("/stat"):
            return error(404)
        return blob(standing)

    stub.answer = answer


def test_a_claim_knows_itself_after_a_broken_attempt(stub: Stub, lake: LakeFS) -> None:
    for first in (RESET, SLOW, error(500)):
        reservations(stub, first, b"mine")
        assert lake.claim("k", "mine") == "mine"
        reservations(stub, first, b"yours")
        assert lake.claim("k", "mine") == "yours"


def test_a_number_knows_itself_after_a_broken_attempt(stub: Stub, lake: LakeFS) -> None:
    reservations(stub, RESET, b"mine")
    assert lake.cut("s", "mine", after=6) == 7
    reservations(stub, RESET, b"yours")
    assert lake.cut("t", "mine", after=6) == 8


def test_a_number_with_ones_own_value_is_taken_all_the_same(stub: Stub, lake: LakeFS) -> None:
    reservations(stub, error(412, "path already exists"), b"mine")
    stub_answer = stub.answer
    stub.answer = lambda request: (
        error(412) if request.path.endswith("/objects") and "/1000/" in request.path else (stub_answer(request))
    )
    assert lake.cut("s", "mine", after=6) > 7


def test_a_ref_knows_itself_after_a_broken_attempt(stub: Stub, lake: LakeFS) -> None:
    for call, ours in ((lambda: lake.create_branch("b", HEAD), HEAD), (lambda: lake.create_tag("t", HEAD), None)):
        stub.queue(RESET, error(409, "already exists: not unique"), None)
        assert call() == ours
        stub.queue(RESET, error(409, "already exists: not unique"), js({"id": "b", "commit_id": "d0" * 32}))
        with pytest.raises(AlreadyExistsError):
            call()
        stub.queue(RESET, error(409, "already exists: not unique"), error(404))
        with pytest.raises(AlreadyExistsError):
            call()
        stub.queue(error(409, "already exists: not unique"), None)
        with pytest.raises(AlreadyExistsError):
            call()


def test_a_deletion_knows_itself_after_a_broken_attempt(stub: Stub, lake: LakeFS) -> None:
    for call in (lambda: lake.delete_branch("b"), lambda: lake.delete_tag("t")):
        stub.queue(RESET, error(404))
        call()
        stub.queue(error(404))
        with pytest.raises(NotFoundError):
            call()


def test_a_repository_knows_itself_after_a_broken_attempt(stub: Stub) -> None:
    stub.queue(error(404), RESET, error(409, "not unique"), js({"id": "x", "creation_date": 1, "default_branch": "m"}))
    url = f"lakefs://127.0.0.1:{stub.port}/other"
    lake = LakeFS.create(url, storage_namespace="mem://x", credentials=KEYS, patience=PATIENCE)
    assert lake.default_branch == "m"
    lake.close()
    assert [request.method for request in stub.requests] == ["GET", "POST", "POST", "GET"]
