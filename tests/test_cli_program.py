"""The program itself: help, documentation, imports, processes, signals, terminals and completion."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.command_line import HEADWATER, CommandLine, run
from tools.cli_reference import PLACE, reference

from headwater.cli.base import Command, Group, Session
from headwater.cli.program import _FROM_GIT, _OPTIONS_FROM_GIT, COMMANDS, program

HEAVY = {"pyarrow", "duckdb", "deltalake", "lakefs_sdk", "polars", "pygit2", "numpy", "pandas", "urllib3"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an embedded lake: `flight-delay/1` and `/2`, alias `champion`, dataset `flights@1.0.0`."""
    path = tmp_path_factory.mktemp("work")
    (path / "flights.csv").write_text("id\n1\n")
    for words in (
        ["init"],
        ["register", "flight-delay", "flights.csv"],
        ["register", "flight-delay", "flights.csv", "--description", "a long description " * 20],
        ["alias", "set", "flight-delay", "champion", "2"],
        ["data", "add", "flights", "flights.csv"],
    ):
        assert run(*words, cwd=path).returncode == 0
    return path


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADWATER_LAKE", "HEADWATER_BRANCH", "HEADWATER_ACTOR", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def _commands(group: Group, words: list[str]) -> Iterator[tuple[list[str], Command | Group]]:
    ctx = group.make_context("headwater", [], resilient_parsing=True, obj=Session())
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        assert isinstance(found, Command | Group)
        yield [*words, name], found
        if isinstance(found, Group):
            yield from _commands(found, [*words, name])


# -- help and documentation -------------------------------------------------------------------------------------------
def test_every_command_has_a_purpose_and_an_example() -> None:
    cli = CommandLine()
    for words, command in _commands(program, []):
        text = cli.out(*words, "--help")
        assert cli.out(*words, "-h") == text
        purpose = text.splitlines()[2].strip()
        assert re.fullmatch(r"[A-Z][^.]+\.", purpose), (words, purpose)
        assert "Example:" in text
        lines = command.example.splitlines()
        assert any(" ".join(["headwater", *words]) in line for line in lines), words
        assert all(line in text for line in lines)


def test_the_list_of_commands_says_what_the_commands_say() -> None:
    for name, (_, text) in COMMANDS.items():
        command = program.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        assert (command.help or "").splitlines()[0] == text
        assert text in CommandLine().out("--help")


def test_every_command_is_in_the_reference_which_is_up_to_date() -> None:
    assert PLACE.read_text(encoding="utf-8") == reference(), "run python tools/cli_reference.py"
    for words, _ in _commands(program, []):
        assert re.search(rf"^#+ headwater {' '.join(words)}$", reference(), re.MULTILINE)


def test_every_command_takes_the_global_options_and_readers_take_a_ref() -> None:
    reading = set()
    for words, command in _commands(program, []):
        names = {name for param in command.params for name in param.opts}
        assert {"--lake", "--branch", "--actor", "--json", "--help"} <= names, words
        if "--ref" in names:
            reading.add(" ".join(words))
    assert reading == {
        "status", "log", "sql", "models", "versions", "show", "resolve", "pull", "reproduce", "verify", "alias list",
        "data list", "data versions", "data show", "data pull", "data diff", "trace", "impact",
        "notify list", "run show", "run pull", "runs", "compare", "export", "deployments", "predictions show",
        "gates show", "gates list", "gates check", "check list", "approvals", "check-card",
        "history", "role list", "key list", "route", "audit",
    }  # fmt: skip


def test_the_version_is_printed() -> None:
    import headwater

    assert CommandLine().out("--version") == f"headwater {headwater.__version__}\n"


def _loaded(folder: Path, *words: str) -> set[str]:
    """Return the names of the modules that a process of the command line imported."""
    script = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sys.modules, file=sys.stderr))\n"
        "from headwater.cli import main\n"
        "main()\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    return set(found.stderr.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["register", "--help"],
        ["data", "add", "--help"],
        ["--version"],
        ["status"],
        ["models"],
        ["versions", "flight-delay"],
        ["alias", "list", "flight-delay"],
        ["resolve", "flight-delay@champion"],
        ["--json", "resolve", "flight-delay@champion"],
        ["log"],
        ["alias", "list", "nope"],
        ["completion", "zsh"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_for_what_is_light(folder: Path, words: list[str]) -> None:
    loaded = _loaded(folder, *words)
    assert "headwater.cli.program" in loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    if words[-1] in ("--help", "--version"):
        assert not loaded & {"headwater.registry", "headwater.model", "sqlite3", "tomllib"}


def test_pandas_is_never_imported(folder: Path) -> None:
    for words in (["show", "flight-delay/1"], ["sql", "FROM models"], ["data", "diff", "flights", "flights"]):
        loaded = _loaded(folder, *words)
        assert "headwater.cli.program" in loaded
        assert "pandas" not in loaded


# -- processes --------------------------------------------------------------------------------------------------------
def test_a_process_tells_its_status_and_keeps_its_streams_apart(folder: Path) -> None:
    done = run("resolve", "flight-delay@champion", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "flight-delay/2\n", "")
    failed = run("resolve", "flight-delay@nope", cwd=folder)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.splitlines()[0] == "error: flight-delay has no alias 'nope'"
    structured = run("resolve", "flight-delay@nope", "--json", cwd=folder)
    assert json.loads(structured.stderr)["error"]["type"] == "NotFoundError"
    assert run("resolve", cwd=folder).returncode == 2
    assert run("delete", "flight-delay/2", cwd=folder).returncode == 4
    script = Path(sys.executable).with_name("headwater")
    assert subprocess.run([script, "--version"], capture_output=True, check=True).stdout.startswith(b"headwater ")


def test_a_reader_that_goes_away_is_no_error(folder: Path) -> None:
    for words in (["sql", "SELECT * FROM range(200000)"], ["--help"], ["log"]):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "w") as stdout:
            process = subprocess.run(
                [*HEADWATER, *words], cwd=folder, stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False
            )
        assert (process.returncode, process.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here to write to")
def test_output_that_can_not_be_written_is_an_error(folder: Path) -> None:
    for words in (["models"], ["--json", "models"], ["--help"], ["sql", "SELECT * FROM range(200000)"]):
        with open("/dev/full", "w") as full:
            process = subprocess.run(
                [*HEADWATER, *words],
                cwd=folder,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
        assert process.returncode == 1
        assert "No space left on device" in process.stderr
        assert "Traceback" not in process.stderr


def test_streams_may_be_closed(folder: Path) -> None:
    command = f"'{sys.executable}' -m headwater"
    for words, status in (("models >&-", 0), ("show nope 2>&-", 1), ("--json models >&- 2>&-", 0)):
        done = subprocess.run(["sh", "-c", f"{command} {words}"], cwd=folder, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (status, b"", b"")


def test_a_stream_that_lacks_unicode_gets_escapes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    found = run("sql", "SELECT 'é→' AS x", cwd=folder)
    assert found.stdout.splitlines()[1] == "\\xe9\\u2192"
    assert json.loads(run("--json", "sql", "SELECT 'é→😀' AS x", cwd=folder).stdout) == [{"x": "é→😀"}]
    assert "nowhere\\xe9" in run("show", "nowhereé", cwd=folder).stderr


def test_an_interrupt_leaves_the_lake_as_it_was(folder: Path, tmp_path: Path) -> None:
    before = json.loads(run("--json", "status", cwd=folder).stdout)
    big = tmp_path / "big.bin"
    with open(big, "wb") as stream:
        stream.truncate(3 << 30)
    process = subprocess.Popen(
        [*HEADWATER, "register", "flight-delay", big], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _wait_until_it_reads(process.pid, big)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in error
    assert json.loads(run("--json", "status", cwd=folder).stdout) == before
    assert sum(path.stat().st_size for path in (folder / ".headwater").rglob("*") if path.is_file()) < 100_000_000
    assert run("verify", cwd=folder).returncode == 0


def _wait_until_it_reads(pid: int, path: Path) -> None:
    """Wait until a process has read some of a file."""
    for _ in range(3000):
        for handle in Path(f"/proc/{pid}/fd").iterdir() if Path("/proc/self/fdinfo").exists() else []:
            try:
                if os.readlink(handle) == str(path):
                    position = re.search(r"pos:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{handle.name}").read_text())
                    if position and int(position[1]) > 1 << 20:
                        return
            except OSError:
                continue
        time.sleep(0.005)
    raise AssertionError(f"{path} was not read")


def test_an_interrupt_of_a_query_is_status_130(folder: Path) -> None:
    query = "SELECT count(*) FROM range(100000000000) a, range(1000) b WHERE a.range % 7 = b.range % 5"
    process = subprocess.Popen([*HEADWATER, "sql", query], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in error


# -- terminals --------------------------------------------------------------------------------------------------------
def _on_a_terminal(folder: Path, *words: str) -> str:
    """Run a command whose output is a terminal of 60 columns, and return what it shows."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    process = subprocess.Popen([*HEADWATER, *words], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(ours)
    process.wait(timeout=60)
    return shown.decode().replace("\r\n", "\n")


def test_colour_and_cutting_are_for_terminals(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _on_a_terminal(folder, "versions", "flight-delay")
    assert "\x1b[1m" in shown
    assert "…" in shown
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(len(line) <= 100 for line in plain.splitlines())
    assert "\x1b[1;31merror:\x1b[0m" in _on_a_terminal(folder, "versions", "nope")
    piped = run("versions", "flight-delay", cwd=folder).stdout
    assert "\x1b" not in piped
    assert "…" not in piped
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in _on_a_terminal(folder, "versions", "flight-delay")


def test_a_shell_without_a_terminal_to_show_it_on_is_not_opened(folder: Path) -> None:
    assert "a query is missing" in _on_a_terminal(folder, "sql", "--output", "rows.csv")


# -- completion -------------------------------------------------------------------------------------------------------
BASH = r"""
eval "$("$1" -m headwater completion bash)"
headwater() { "$PYTHON" -m headwater "$@"; }
COMP_LINE="$2" COMP_POINT=${#2}
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:@'
_headwater_completion headwater
printf '%s\n' "${COMPREPLY[@]}"
"""


def _completed(folder: Path, line: str, tmp_path: Path) -> list[str]:
    """Return what bash offers for a line."""
    tool = tmp_path / "headwater"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m headwater "$@"\n')
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": sys.executable}
    found = subprocess.run(
        ["bash", "-c", BASH, "bash", sys.executable, line],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return [each for each in found.stdout.splitlines() if each]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("headwater re", ["rehearse", "revert", "register", "resolve", "reproduce", "rename"]),
        ("headwater rehearse reg", ["register"]),
        ("headwater alias ", ["set", "delete", "list"]),
        ("headwater resolve fl", ["flight-delay", "flight-delay@champion"]),
        ("headwater resolve flight-delay@", ["champion"]),
        ("headwater resolve flight-delay@ch", ["champion"]),
        ("headwater resolve flight-delay/", ["flight-delay/2", "flight-delay/1"]),
        ("headwater alias delete flight-delay ", ["champion"]),
        ("headwater alias set flight-delay champion ", ["2", "1"]),
        ("headwater data pull fl", ["flights", "flights@1.0.0"]),
        ("headwater data pull flights@", ["1.0.0"]),
        ("headwater data versions ", ["flights"]),
        ("headwater models --branch ", ["main"]),
        ("headwater log --ref m", ["main"]),
        ("headwater --branch=", ["main"]),
        ("headwater sql --format ", ["table", "json", "csv", "parquet", "arrow"]),
        ("headwater resolve nothing", []),
        ("headwater --lake /nowhere resolve fl", []),
    ],
)
def test_bash_completes_names(folder: Path, line: str, offered: list[str], tmp_path: Path) -> None:
    assert _completed(folder, line, tmp_path) == offered


def test_completion_looks_into_the_lake_that_was_named(folder: Path, tmp_path: Path) -> None:
    line = f"headwater --lake {folder / '.headwater' / 'lake'} resolve flight-delay@"
    assert _completed(tmp_path, line, tmp_path) == ["champion"]


@pytest.mark.parametrize(
    ("shell", "environment", "expected"),
    [
        (
            "zsh",
            {"COMP_WORDS": "headwater resolve flight-delay@", "COMP_CWORD": "2"},
            "plain\nflight-delay@champion\n_",
        ),
        ("fish", {"COMP_WORDS": "headwater resolve flight-", "COMP_CWORD": "flight-"}, "plain,flight-delay@champion"),
    ],
)
def test_zsh_and_fish_are_answered(folder: Path, shell: str, environment: dict[str, str], expected: str) -> None:
    variables = {**os.environ, **environment, "_HEADWATER_COMPLETE": f"{shell}_complete"}
    assert expected in run(cwd=folder, env=variables).stdout
    script = run("completion", shell, cwd=folder).stdout
    assert f"_HEADWATER_COMPLETE={shell}_complete" in script
    assert json.loads(run("--json", "completion", shell, cwd=folder).stdout)["script"].strip() == script.strip()


@pytest.mark.parametrize("word", sorted(_FROM_GIT))
def test_a_word_of_git_leads_to_a_command_that_there_is(word: str) -> None:
    kind, message, hint = CommandLine().error(word, status=2)
    assert (kind, message) == ("UsageError", f"no such command '{word}'")
    for name in re.findall(r"`headwater ([a-z-]+)", hint):
        assert name in COMMANDS


_GIT = [(name, option) for name, known in _OPTIONS_FROM_GIT.items() for each in known for option in each.split()]


@pytest.mark.parametrize(("name", "option"), [*_GIT, ("log", "-3"), ("log", "-12")])
def test_an_option_of_git_leads_to_what_there_is(name: str, option: str) -> None:
    kind, message, hint = CommandLine().error(name, option, "x", status=2)
    assert kind == "UsageError"
    first = option if option.startswith("--") else option[:2]
    assert message == f"no such option '{first}'"
    assert "--help" not in hint
    for word in re.findall(r"`headwater ([a-z-]+)", hint):
        assert word in COMMANDS
    for flag in re.findall(r"--[a-z-]+", hint):
        named = [*re.findall(r"`headwater ([a-z-]+)[^`]*" + flag, hint), name]
        commands = [program.get_command(click.Context(program), each) for each in named]
        assert any(flag in param.opts for each in commands if each is not None for param in each.params), flag


def test_only_the_command_that_git_has_it_for_knows_an_option_of_git() -> None:
    assert CommandLine().error("merge", "--abort", status=2)[2].endswith("there is nothing to abort")
    assert (
        CommandLine().error("data", "add", "--abort", status=2)[2] == "`headwater data add --help` shows how it is used"
    )
    assert CommandLine().error("log", "-n", "3", status=2)[2] == "--limit N"


def test_a_command_that_is_nearly_one_is_offered() -> None:
    assert CommandLine().error("deployy", status=2)[2] == "did you mean `headwater deploy`?"
    assert CommandLine().error("xyzzy", status=2)[2] == "`headwater --help` shows how it is used"
