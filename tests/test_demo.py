"""The demo of examples/flights, run as a person runs it, twice on one lake of each kind, whose contents are checked."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headwater
from headwater import Registry

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "flights" / "demo.py"
ROWS = "60000"


@pytest.fixture(params=["local", "lakefs"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where no lake is yet."""
    found = request.getfixturevalue("lakefs_url") if request.param == "lakefs" else str(tmp_path / "a lake")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return str(found)


def demo(url: str) -> str:
    command = [sys.executable, str(DEMO), "--lake", url, "--rows", ROWS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def steps(output: str) -> list[str]:
    return re.findall(r"^(\d)\. ", output, re.MULTILINE)


def commands(output: str) -> list[list[str]]:
    return [shlex.split(line) for line in output.partition("to try next:\n")[2].splitlines()]


def champions(reg: Registry) -> list[Any]:
    moves = reg.sql("SELECT to_version FROM history WHERE kind = 'alias' AND key = 'champion' ORDER BY event_id")
    return [version for (version,) in moves]


def test_the_demo_does_what_it_says_and_again(url: str) -> None:
    first = demo(url)
    assert steps(first) == list("1234567")
    assert "flights@1.0.0: " in first
    assert "flights@1.1.0: " in first
    with headwater.open(url) as reg:
        assert [version.version for version in reg.versions("flight-delay")] == [2, 1]
        assert champions(reg) == [1, 2]
        assert reg.verify() == 4  # two versions, two datasets
        new, old = reg.versions("flight-delay")
        assert new.aliases == ("champion",)
        assert new.metrics["auc"] > old.metrics["auc"] > 0.6
        assert set(new.metrics) == {"auc", "brier"}
        slices = {(metric.key, metric.slice) for metric in reg.metrics(new.reference) if metric.slice}
        assert slices == {(key, f"origin={origin}") for key in new.metrics for origin in ("EWR", "JFK", "LGA")}
        assert new.tags == {"team": "operations", "framework": "scikit-learn"}
        then = reg.at(old.commit)
        assert [version.version for version in then.versions("flight-delay")] == [1]
        assert [dataset.reference for dataset in then.datasets()] == ["flights@1.0.0"]
        assert then.verify() == 2

    again = demo(url)
    assert steps(again) == steps(first)
    assert "flights@1.0.0 holds these" in again
    assert "Nothing is new: flights@1.1.0" in again
    with headwater.open(url) as reg:
        assert [version.version for version in reg.versions("flight-delay")] == [4, 3, 2, 1]
        assert champions(reg) == [1, 2, 3, 4]
        assert [dataset.semver for dataset in reg.dataset_versions("flights")] == ["1.1.0", "1.0.0"]
        trained = reg.sql("SELECT version, semver FROM version_datasets ORDER BY version").fetchall()
        assert trained == [(1, "1.0.0"), (2, "1.1.0"), (3, "1.0.0"), (4, "1.1.0")]
        assert reg.verify() == 6

    proposed = commands(again)
    assert len(proposed) == 3
    for command in proposed:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) > 3


def test_without_a_server_it_says_so_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("LAKECTL_CREDENTIALS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    command = [sys.executable, str(DEMO), "--lake", "lakefs://127.0.0.1:9/flights"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("demo: ")
    assert len(done.stderr.splitlines()) <= 2
