"""The commands about runs: `run`, `runs`, `compare`, `register --run`, `show run:`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.command_line import HEADWATER, CommandLine, run

import headwater

TRAIN = """\
import sys
import headwater
print("out", flush=True)
print("problem", file=sys.stderr, flush=True)
run = headwater.current_run()
run.log_metric("auc", 0.75, step=1)
with headwater.open() as reg:
    with reg.start_run("the same", params={"depth": 6}) as same:
        assert same.run_id == run.run_id
        open("model.bin", "wb").write(b"model")
        same.register("flight-delay", "model.bin")
    with reg.start_run("a part") as part:
        pass
    assert reg.run(part.run_id).parent_run_id == run.run_id
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def call(registry_url: str, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    Path("train.py").write_text(TRAIN)
    return CommandLine()


def test_a_command_is_recorded_and_joins_its_run(call: CommandLine, tmp_path: Path) -> None:
    ran = run(
        "run",
        "--name",
        "n",
        "--experiment",
        "e",
        "--param",
        "lr=0.1",
        "--tag",
        "t=1",
        "--",
        sys.executable,
        "train.py",
        3,
    )
    assert ran.returncode == 3, ran.stderr
    assert ran.stdout == "out\n"
    assert "problem\n" in ran.stderr
    part, info = call.json("runs")
    assert part["parent_run_id"] == info["run_id"]
    assert (info["name"], info["experiment"], info["status"], info["exit_status"]) == ("n", "e", "failed", 3)
    assert info["command"] == [sys.executable, "train.py", "3"]
    assert (info["params"], info["metrics"], info["tags"]) == ({"lr": "0.1", "depth": "6"}, {"auc": 0.75}, {"t": "1"})
    shown = call.json("run", "show", info["run_id"])
    assert shown["versions"] == ["flight-delay/1"]
    assert [file["path"] for file in shown["artifacts"]] == ["output.txt"]
    call("run", "pull", info["run_id"], tmp_path / "out")
    assert sorted((tmp_path / "out" / "output.txt").read_text().splitlines()) == ["out", "problem"]
    text = call.out("show", f"run:{info['run_id']}")
    for part_of_it in ("failed (exit status 3)", "train.py 3", "flight-delay/1", "auc", "0.75", "output.txt"):
        assert part_of_it in text
    assert call.json("show", "flight-delay/1")["metrics"] == {"auc": 0.75}


def test_a_command_that_a_signal_ends_is_killed(call: CommandLine) -> None:
    ran = run("run", "--", "sh", "-c", "kill -TERM $$")
    assert ran.returncode == 128 + signal.SIGTERM
    (info,) = call.json("runs")
    assert (info["status"], info["exit_status"]) == ("killed", 143)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(call: CommandLine, number: int) -> None:
    script = (
        "import signal, sys, time\n"
        "for each in (signal.SIGINT, signal.SIGTERM): signal.signal(each, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    words = [*HEADWATER, "run", "--", sys.executable, "-c", script]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 7
    assert call.json("runs")[0]["status"] == "failed"


def test_a_command_whose_recorder_is_killed_is_seen_as_killed(call: CommandLine) -> None:
    words = [*HEADWATER, "run", "--", "sh", "-c", "echo ready; sleep 30"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    assert call.json("runs")[0]["status"] == "running"
    process.kill()
    process.wait()
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate()
    assert call.json("runs")[0]["status"] == "killed"


def test_a_document_and_the_output_do_not_mix(call: CommandLine) -> None:
    ran = run("run", "--json", "--", "echo", "hi")
    assert json.loads(ran.stdout)["status"] == "finished"
    assert ran.stderr == "hi\n"


def test_much_output_is_kept_in_part(call: CommandLine, tmp_path: Path) -> None:
    ran = run("run", "--", sys.executable, "-c", "for i in range(3_000_000): print(i)")
    assert ran.returncode == 0
    assert ran.stdout.count("\n") == 3_000_000
    (info,) = call.json("runs")
    call("run", "pull", info["run_id"], tmp_path / "out")
    kept = (tmp_path / "out" / "output.txt").read_text()
    assert kept.startswith("0\n1\n")
    assert kept.endswith("2999998\n2999999\n")
    assert "bytes are left out" in kept
    assert len(kept) < 9_000_000


def test_nothing_is_recorded_of_a_command_that_is_not_there(call: CommandLine) -> None:
    kind, message, hint = call.error("run", "--", "nonesuch-program", status=1)
    assert (kind, message, hint) == (
        "NotFoundError", "there is no program 'nonesuch-program'", "name one, or a path to one, after --"
    )  # fmt: skip
    assert call.json("runs") == []
    for words, said in (
        (("run",), "a command is missing"),
        (("run", "--"), "a command is missing"),
        (("run", "python", "train.py"), "write --"),
        (("run", "show", "--", "x"), "stands before --"),
        (("run", "--param", "x", "--", "true"), "not a param"),
    ):
        assert said in call(*words, status=2).stderr


def test_runs_are_listed_and_compared(call: CommandLine, registry_url: str) -> None:
    assert "there are no runs" in call("runs").stderr
    ids = []
    with headwater.open(registry_url) as registry:
        for depth in (6, 7):
            with registry.start_run(f"d{depth}", experiment="e", params={"depth": depth, "same": 1}) as one:
                one.log_metric("auc", depth / 10)
            ids.append(one.run_id)
        with registry.start_run("other"):
            pass
    assert [each["name"] for each in call.json("runs", "--experiment", "e")] == ["d7", "d6"]
    assert [each["name"] for each in call.json("runs", "--where", "metrics.auc > 0.65 and params.depth = '7'")] == [
        "d7"
    ]
    assert len(call.json("runs", "--limit", "1")) == 1
    table = call.out("runs", "--experiment", "e").splitlines()
    assert "auc=0.7" in table[1]
    assert "depth=7" in table[1]
    assert "there are no such runs" in call("runs", "--experiment", "none").stderr
    assert call.error("runs", "--where", "true; drop table x", status=2)[0] == "InvalidInputError"
    lines = call.out("compare", *ids).splitlines()
    assert any(line.startswith("*") and "param depth" in line for line in lines)
    assert any(not line.startswith("*") and "param same" in line for line in lines)
    rows = {(row["kind"], row["key"]): row for row in call.json("compare", *ids)["rows"]}
    assert rows["metric", "auc"]["values"] == [0.6, 0.7]
    assert rows["metric", "auc"]["differs"]


def test_a_version_is_registered_for_a_run(call: CommandLine, registry_url: str) -> None:
    with headwater.open(registry_url) as registry, registry.start_run() as one:
        one.log_metric("auc", 0.5)
    found = call.json("register", "m", "train.py", "--run", one.run_id)
    assert found["run_id"] == one.run_id
    assert call.json("show", "m/1")["metrics"] == {"auc": 0.5}
    assert call.error("register", "m", "train.py", "--run", "deadbeef", status=1)[0] == "NotFoundError"
    assert call.error("run", "show", "deadbeef", status=1)[1] == "there is no run deadbeef"


def test_help_is_quick_and_has_an_example(call: CommandLine) -> None:
    for words in (("run",), ("run", "show"), ("run", "pull"), ("runs",), ("compare",)):
        text = call.out(*words, "--help")
        assert "Example:" in text
    began = time.perf_counter()
    assert run("run", "--help").returncode == 0
    assert time.perf_counter() - began < 30
