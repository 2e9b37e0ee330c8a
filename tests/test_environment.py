"""What is recorded of the Python that is running: every package once, as pip would install it again."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

import pytest

from headwater import environment


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of packages, the only one that there is."""
    places = [str(tmp_path / "first"), str(tmp_path / "second")]
    found = metadata.distributions
    monkeypatch.setattr(metadata, "distributions", lambda: found(path=places))
    return tmp_path


def packages() -> list[str]:
    return environment.capture.__wrapped__().packages.decode().splitlines()


def put(folder: Path, name: str, head: str, origin: object = None, *, file: str = "METADATA") -> None:
    place = folder / (f"{name}.dist-info" if file == "METADATA" else f"{name}.egg-info")
    place.mkdir(parents=True)
    (place / file).write_text(head)
    if origin is not None:
        (place / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))


def test_this_python_is_recorded() -> None:
    found = environment.capture()
    assert (found.python, found.platform) == (platform.python_version(), platform.platform())
    lines = found.packages.decode().splitlines()
    assert f"pyarrow=={metadata.version('pyarrow')}" in lines
    assert lines == sorted(lines)
    assert len({line.partition("==")[0] for line in lines}) == len(lines)
    assert environment.capture() is found
    assert len(found.digest) == 64


def test_packages_are_pinned_as_they_were_installed(site: Path) -> None:
    head = "Metadata-Version: 2.1\nName: {}\nVersion: {}\nSummary: x\n\nName: liar\nVersion: 9\n"
    put(site / "first", "Plain-1.0", head.format("Plain", "1.0"))
    put(site / "first", "old-2.0", head.format("old", "2.0"), file="PKG-INFO")
    put(site / "first", "twice-1.0", head.format("twice", "1.0"))
    put(site / "second", "twice-2.0", head.format("twice", "2.0"))
    put(site / "first", "folded-1.0", "Name:\n folded\nVersion: 1.0\n\n")
    put(site / "first", "mine-0.1", head.format("mine", "0.1"), {"url": "file:///home/me", "dir_info": {}})
    git = {"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}}
    put(site / "first", "vcs-1.0", head.format("vcs", "1.0"), git)
    put(site / "first", "wheel-1.0", head.format("wheel", "1.0"), {"url": "https://example.org/w.whl"})
    put(site / "first", "secret-1.0", head.format("secret", "1.0"), {"url": "https://me:secret@example.org/s.whl"})
    for number, origin in enumerate(("not json", "[]", "{}", '{"url": 7}', '{"url": "https://x/y", "vcs_info": 3}')):
        put(site / "first", f"odd{number}-1.0", head.format(f"odd{number}", "1.0"), origin)
    assert packages() == [
        "folded==1.0",
        "mine==0.1  # from a folder of that machine",
        *(f"odd{number}==1.0" for number in range(5)),
        "old==2.0",
        "plain==1.0",
        "secret==1.0",
        "twice==1.0",
        "vcs @ git+https://example.org/x.git@abc",
        "wheel @ https://example.org/w.whl",
    ]
