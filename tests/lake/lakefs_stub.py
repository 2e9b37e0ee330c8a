"""A server on 127.0.0.1 that answers as it is told to: what tests of faults have instead of lakeFS."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

HEAD = "c0" * 32


@dataclass
class Reply:
    """An answer; `fault` breaks it: "reset" instead of it, "slow" before it, "short" or "stall" within its body."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


def js(content: Any, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(content).encode(), {"Content-Type": "application/json", **named})


def error(status: int, message: str = "it said no", **headers: str) -> Reply:
    return js({"message": message}, status, **headers)


def blob(body: bytes, *, etag: str = "", status: int = 200, fault: str = "") -> Reply:
    md5 = etag or hashlib.md5(body, usedforsecurity=False).hexdigest()
    return Reply(status, body, {"ETag": f'"{md5}"', "Content-Type": "application/octet-stream"}, fault)


RESET = Reply(fault="reset")
SLOW = Reply(fault="slow")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    at: float


class Stub:
    """It answers like a healthy repository `models` at commit HEAD, unless `answer` says otherwise.

    Attributes:
        answer: Takes a request and returns its reply, or None for the healthy one.
        requests: All that came, those for the repository itself left out.
    """

    def __init__(self) -> None:
        self.answer: Callable[[Request], Reply | None] = lambda request: None
        self.requests: list[Request] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True

            def reply(self) -> None:
                stub.reply(self)

            do_GET = do_POST = do_PUT = do_DELETE = reply

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"lakefs://127.0.0.1:{self.port}/models"

    def __enter__(self) -> Stub:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def queue(self, *replies: Reply | None) -> None:
        """Give these answers in turn, and the last one from then on."""
        left = list(replies)
        self.answer = lambda request: left.pop(0) if len(left) > 1 else left[0]

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        body = self._body(handler)
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, parts.path, parts.query, headers, body, time.monotonic())
        if parts.path.endswith("/repositories/models") and request.method == "GET":
            reply: Reply | None = js({"id": "models", "creation_date": 1, "default_branch": "main"})
        else:
            self.requests.append(request)
            reply = self.answer(request)
        self._send(handler, reply if reply is not None else healthy(request))

    @staticmethod
    def _body(handler: BaseHTTPRequestHandler) -> bytes:
        if handler.headers.get("Transfer-Encoding") != "chunked":
            return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        body = b""
        while size := int(handler.rfile.readline(), 16):
            body += handler.rfile.read(size)
            handler.rfile.readline()
        handler.rfile.readline()
        return body

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
        if reply.fault == "reset":
            linger = struct.pack("ii", 1, 0)  # close with RST
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.close_connection = True
            handler.connection.close()
            return
        if reply.fault == "slow":
            time.sleep(0.6)
        handler.send_response(reply.status)
        for name, value in reply.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        if reply.fault in ("short", "stall"):
            handler.wfile.write(reply.body[: len(reply.body) // 2])
            handler.close_connection = True
            time.sleep(0.6 if reply.fault == "stall" else 0)
        else:
            handler.wfile.write(reply.body)


def healthy(request: Request) -> Reply:
    """Answer as lakeFS would."""
    path = request.path.removeprefix("/api/v1/repositories/models/")
    if request.method == "GET" and path.startswith(("branches/", "tags/")):
        return js({"id": path.rpartition("/")[2], "commit_id": HEAD})
    if request.method == "GET" and path.startswith("commits/"):
        return js({"id": HEAD, "parents": [], "message": "m", "metadata": {}, "creation_date": 1})
    if request.method == "GET" and path.endswith("/objects"):
        content = b"0123456789" * 1000
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return blob(content[start:], etag=etag, status=206 if start else 200)
    if request.method == "GET" and path.endswith("/objects/stat"):
        return js({"path": "a", "size_bytes": 1, "checksum": "x", "metadata": {}})
    if request.method == "GET" and "/merge/" in path:
        return js({"base_commit_id": HEAD})
    if request.method == "GET":
        return js({"results": [], "pagination": {"has_more": False, "next_offset": ""}})
    if path.endswith("/objects"):
        md5 = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
        return js({"path": "a", "size_bytes": len(request.body), "checksum": md5}, 201)
    if path == "branches":
        return Reply(201, HEAD.encode(), {"Content-Type": "text/html"})
    if path == "tags":
        return js({"id": "t", "commit_id": HEAD}, 201)
    if path.endswith("/commits"):
        return js({"id": HEAD}, 201)
    if "/merge/" in path:
        return js({"reference": HEAD})
    return Reply(204)
