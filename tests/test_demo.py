"""The demo of examples/flights, run as a person runs it, twice on one lake of each kind, whose contents are checked."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
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


def demo(url: str, picture: Path) -> str:
    command = [sys.executable, str(DEMO), "--lake", url, "--rows", ROWS, "--picture", str(picture)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def steps(output: str) -> list[str]:
    return re.findall(r"^(\d+)\. ", output, re.MULTILINE)


def commands(output: str) -> list[list[str]]:
    return [shlex.split(line) for line in output.partition("to try next:\n")[2].splitlines()]


def champions(reg: Registry) -> list[Any]:
    moves = reg.sql("SELECT to_version FROM history WHERE kind = 'alias' AND key = 'champion' ORDER BY event_id")
    return [version for (version,) in moves]


def test_the_demo_does_what_it_says_and_again(url: str, tmp_path: Path) -> None:
    picture = tmp_path / "picture.svg"
    first = demo(url, picture)
    assert steps(first) == [str(number) for number in range(1, 19)]
    assert ET.parse(picture).getroot().tag.endswith("svg")
    with headwater.open(url) as reg:
        kept, new, old = reg.versions("flight-delay")
        assert (new.version, old.version) == (2, 1)
        assert kept.version in (3, 4)
        assert champions(reg) == [1, 2]
        assert (kept.aliases, new.aliases) == (("challenger",), ("champion",))
        assert new.metrics["auc"] > old.metrics["auc"] > 0.6
        assert set(new.metrics) == {"auc", "brier"}
        slices = {(metric.key, metric.slice) for metric in reg.metrics(new.reference) if metric.slice}
        assert slices == {(key, f"origin={origin}") for key in new.metrics for origin in ("EWR", "JFK", "LGA")}
        assert new.tags == {"team": "operations", "framework": "scikit-learn"}
        numbers = [dataset.semver for dataset in reg.dataset_versions("flights")]
        assert numbers == ["2.0.0", "1.1.1", "1.1.0", "1.0.0"]
        assert [dataset.semver for dataset in reg.dataset_versions("september")] == ["2.0.0", "1.0.0"]
        assert reg.verify() == 9  # three versions, six dataset versions

        # what was tried on the branch is on main in one commit, both sides of the conflict are history
        assert reg.branches().keys() == {"main"}
        assert [entry.subject for entry in reg.log() if entry.kind == "merge"] == ["weather"]
        assert reg.trained_on(kept.reference) == ["flights@2.0.0"]
        rivals = reg.sql("SELECT to_version FROM history WHERE kind = 'alias' AND key = 'challenger'").fetchall()
        assert sorted(rivals) == sorted([(1,), (kept.version,), (kept.version,)])

        # what serves, and what served: one live after the canary, which the last deployment replaced
        assert [(each.mode, each.version, each.live) for each in reg.deployments()] == [
            ("live", 2, True),
            ("canary", 2, False),
            ("live", 1, False),
        ]
        logged, labelled = reg.sql("SELECT count(*), count(label) FROM predictions").fetchall()[0]
        assert logged == labelled > 4000
        assert reg.sql("SELECT count(DISTINCT prediction_id) FROM lake.predictions").fetchall() == [(logged,)]

        # a prediction leads to the data and the code, the corrected rows to both versions and all predictions
        (trace,) = (command for command in commands(first) if "trace" in command)
        lineage = reg.trace(trace[-1])
        assert {"model:flight-delay/1", "dataset:flights@1.0.0"} <= {node.urn for node in lineage.nodes}
        assert "code" in {node.kind for node in lineage.nodes}
        touched = reg.impact("dataset:flights@1.0.0", rows="origin = 'JFK' AND month = 2")
        assert touched.totals["versions"] == 4  # what was deleted learned from them too
        assert touched.totals["predictions"] == logged
        measured_on = reg.impact("dataset:september@1.0.0")
        assert not {node.urn for node in measured_on.nodes} & {"model:flight-delay/1", "model:flight-delay/2"}

        then = reg.at(old.commit)
        assert [version.version for version in then.versions("flight-delay")] == [1]
        assert [dataset.reference for dataset in then.datasets()] == ["flights@1.0.0", "september@1.0.0"]

    again = demo(url, picture)
    assert steps(again) == steps(first)
    assert "flights@1.0.0 holds these" in again
    with headwater.open(url) as reg:
        assert {6, 5, 2, 1} <= {version.version for version in reg.versions("flight-delay")}
        assert len(reg.versions("flight-delay")) == 6
        assert champions(reg) == [1, 2, 5, 6]
        assert [dataset.semver for dataset in reg.dataset_versions("flights")] == numbers
        trained = reg.sql("SELECT version, semver FROM version_datasets ORDER BY version").fetchall()
        assert [(number, data) for number, data in trained if data != "2.0.0"] == [
            (1, "1.0.0"),
            (2, "1.1.0"),
            (5, "1.0.0"),
            (6, "1.1.0"),
        ]
        assert reg.sql("SELECT count(*) FROM lake.predictions").fetchall() == [(2 * logged,)]

    proposed = commands(again)
    assert len(proposed) == 6
    for command in proposed:
        if "reproduce" in command:
            command[-1] = str(tmp_path / "made again")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        # The second half ends with a forged row, which the audit names.
        assert done.returncode == (5 if "audit" in command else 0), done.stderr
        assert len(done.stdout.splitlines()) > 3
        if "reproduce" in command:
            assert "metrics the same" in done.stdout


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
