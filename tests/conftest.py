"""Fixtures for all tests: a real lakeFS server for the session, and `lake`, which is each kind of lake in turn."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lakefs.server import Server

if TYPE_CHECKING:
    from headwater.lake.base import Lake
    from headwater.registry import Registry

LakeFactory = Callable[[], "Lake"]


@pytest.fixture(scope="session")
def lakefs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running lakeFS server; it is built first if need be, and tests fail plainly if it cannot be."""
    with Server(tmp_path_factory.mktemp("lakefs")) as server:
        yield server


@pytest.fixture
def lakefs_url(lakefs_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a repository that is not there yet; its keys are in the environment."""
    for name, value in lakefs_server.environment.items():
        monkeypatch.setenv(name, value)
    return lakefs_server.lake(f"test-{uuid.uuid4().hex[:16]}")


@pytest.fixture(params=["local", "lakefs"])
def lake_factory(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LakeFactory]:
    """A function that makes a fresh lake of the kind at hand each time it is called."""
    # the server first: it is built in the person's own cache
    url = request.getfixturevalue("lakefs_url") if request.param == "lakefs" else ""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    made: list[Lake] = []
    if request.param == "lakefs":

        def make() -> Lake:
            from headwater.lake.lakefs import LakeFS

            fresh = f"{url}-{len(made)}"
            made.append(LakeFS.create(fresh, storage_namespace="local://" + fresh.rpartition("/")[2]))
            return made[-1]
    else:

        def make() -> Lake:
            from headwater.lake.local import LocalLake

            made.append(LocalLake.create(tmp_path / f"lake-{len(made)}"))
            return made[-1]

    yield make
    for lake in made:
        lake.close()


@pytest.fixture
def lake(lake_factory: LakeFactory) -> Lake:
    """A fresh lake, empty but for its first commit: the test runs once for each kind."""
    return lake_factory()


@pytest.fixture
def is_remote(request: pytest.FixtureRequest) -> bool:
    """Whether `lake` is on a server: for the sizes of tests, never for what they expect."""
    return "lakefs" in request.node.callspec.id


@pytest.fixture(params=["local", "lakefs"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a fresh registry, on each kind of lake in turn; the current folder is empty and no lake is set."""
    import headwater

    url = request.getfixturevalue("lakefs_url") if request.param == "lakefs" else str(tmp_path / "lake")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name in ("LAKE", "BRANCH", "ACTOR", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    namespace = "local://" + url.rpartition("/")[2] if request.param == "lakefs" else None
    headwater.create(url, storage_namespace=namespace, actor="maker").close()
    return url


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    """A fresh registry, opened by `tester`."""
    import headwater

    with headwater.open(registry_url, actor="tester") as opened:
        yield opened


@pytest.fixture(params=["local", "lakefs"])
def signed_url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a fresh signed registry, whose first admin is `root`."""
    import headwater

    url = request.getfixturevalue("lakefs_url") if request.param == "lakefs" else str(tmp_path / "lake")
    for name in ("CACHE", "STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    for name in ("LAKE", "BRANCH", "ACTOR", "RUN_ID", "KEYS", "KEY", "KEY_PASSPHRASE"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    namespace = "local://" + url.rpartition("/")[2] if request.param == "lakefs" else None
    headwater.create(url, storage_namespace=namespace, actor="root", signed=True).close()
    return url
