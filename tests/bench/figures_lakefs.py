"""Figures on a real lakeFS server on this machine: registering alone and among sixteen, resolving and what it asks."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from figures_embedded import ALIAS, MODEL
from report import Figure, median, percentile, shown
from worker import HERE, Worker

sys.path.insert(0, str(HERE.parent / "lakefs"))
from server import Server

WRITERS = 16


class CountingProxy:
    """Passes connections on to a port of this machine, and counts the HTTP requests that go through.

    It counts request lines, so it is right for requests without a body, such as those of a resolve.
    """

    _REQUEST = re.compile(rb"^(?:GET|HEAD|PUT|POST|PATCH|DELETE) \S+ HTTP/1\.1\r\n", re.MULTILINE)

    def __init__(self, port: int) -> None:
        self.requests = 0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                for source, sink, counted in ((client, server, True), (server, client, False)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._pass, args=(source, sink, counted), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(1 << 16):
                if counted:
                    self.requests += len(self._REQUEST.findall(chunk))
                sink.sendall(chunk)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()


def measure(folder: Path, rounds: int, each: int) -> Iterator[Figure]:
    """Measure all of it on a server of its own.

    Args:
        folder: Where to work.
        rounds: How many registrations by one writer.
        each: How many by each of sixteen.
    """
    folder.mkdir(parents=True, exist_ok=True)
    artifact = folder / "model.bin"
    artifact.write_bytes(os.urandom(100_000))
    with Server(folder / "server") as server:
        environment = {**server.environment, "XDG_CACHE_HOME": str(folder / "cache")}
        at = {"model": MODEL, "path": str(artifact)}
        with Worker(sys.executable, "work_headwater.py", folder / "one", environment) as worker:
            lake = server.lake("one")
            worker.call("create", lake=lake, storage_namespace="local://one")
            worker.call("register", lake=lake, times=5, seed=0, **at)
            took = worker.call("register", lake=lake, times=rounds, seed=5, **at)
            label = f"lakeFS: register, one writer: p50 of {rounds}"
            yield Figure(label, "≤ 150 ms", shown(median(took)), passed=median(took) <= 0.150)
            yield Figure("lakeFS: the same: p95", "", shown(percentile(took, 95)))
            worker.call("move_alias", lake=lake, model=MODEL, alias=ALIAS, times=3, seed=0)
            yield from _resolving(worker, server, "one")
        yield from _crowd(folder, server, environment, at, each)


def _resolving(worker: Worker, server: Server, repository: str) -> Iterator[Figure]:
    proxy = CountingProxy(server.port)
    try:
        lake = f"lakefs://127.0.0.1:{proxy.port}/{repository}"
        at = {"lake": lake, "model": MODEL, "alias": ALIAS}
        worker.call("resolve", times=3, **at)
        before, times = proxy.requests, 50
        worker.call("resolve", times=times, **at)
        calls = (proxy.requests - before) / times
    finally:
        proxy.close()
    yield Figure("lakeFS: HTTP calls of a resolve in a warm process", "≤ 1", f"{calls:g}", passed=0 < calls <= 1)
    took = worker.call("resolve", lake=server.lake(repository), model=MODEL, alias=ALIAS, times=200)
    yield Figure("lakeFS: resolve in a warm process: p50", "", shown(median(took)))


def _crowd(
    folder: Path, server: Server, environment: dict[str, str], at: dict[str, str], each: int
) -> Iterator[Figure]:
    lake = server.lake("crowd")
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(Worker(sys.executable, "work_headwater.py", folder / f"writer-{n:02}", environment))
            for n in range(WRITERS)
        ]
        writers[0].call("create", lake=lake, storage_namespace="local://crowd")
        for writer in writers:  # each imports what it needs, and opens the lake
            writer.call("register", lake=lake, times=1, seed=0, **at)
        began = time.perf_counter()
        for number, writer in enumerate(writers):
            writer.start("register", lake=lake, times=each, seed=number * each, **at)
        took = [seconds for writer in writers for seconds in writer.finish()]
        wall = time.perf_counter() - began
        numbers = writers[0].call("numbers", lake=lake, model=MODEL)
    assert numbers == list(range(1, WRITERS * (each + 1) + 1)), "numbers are missing, or there twice"
    rate = len(took) / wall
    label = f"lakeFS: {WRITERS} writers of one model, {each} registrations each"
    yield Figure(f"{label}: in all", "≥ 8/s", f"{rate:.1f}/s", passed=rate >= 8)
    p99 = percentile(took, 99)
    yield Figure(f"{label}: p99", "≤ 10 s", shown(p99), passed=p99 <= 10)
    yield Figure(f"{label}: p50", "", shown(median(took)))
