"""The shell of `headwater sql`, on a pseudo-terminal and as a script, and the formats that rows are written in."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.command_line import HEADWATER, CommandLine, run

import headwater
from headwater.query_text import statements


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an embedded lake, in which `m` has one version and `champion`."""
    for name in ("HEADWATER_LAKE", "HEADWATER_BRANCH", "HEADWATER_ACTOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    assert run("init").returncode == 0
    (tmp_path / "model.bin").write_bytes(b"model")
    with headwater.open(actor="tester") as registry:
        registry.register("m", tmp_path / "model.bin", metrics={"auc": 0.5})
        registry.set_alias("m", "champion", 1)
    return tmp_path


class Terminal:
    """A shell on a terminal, which is typed to and read as a person does."""

    def __init__(self, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*HEADWATER, "sql", *words], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""

    def until(self, text: str, seconds: float = 60) -> str:
        """Read until a text is shown, and return what was shown since the last time."""
        os.set_blocking(self._ours, False)
        begin = time.monotonic()
        since = len(self.shown)
        while text not in self.shown[since:]:
            assert time.monotonic() - begin < seconds, f"{text!r} is not in {self.shown[since:]!r}"
            try:
                part = os.read(self._ours, 65536)
            except BlockingIOError:
                time.sleep(0.02)
                continue
            except OSError:
                part = b""
            assert part, f"it ended before {text!r}: {self.shown[since:]!r}"
            self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part.decode())
        return self.shown[since:]

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(timeout=60)
        os.close(self._ours)


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def test_a_query_may_go_over_lines_and_is_timed(terminal: Terminal) -> None:
    terminal.until("main> ")
    terminal.type("SELECT name,\n")
    terminal.until("...> ")
    terminal.type("version FROM model_versions; SELECT 'a;b' AS x;\n")
    shown = terminal.until("main> ")
    assert re.search(r"1 row in \d+ ms", shown)
    assert "name  version" in shown
    assert "a;b" in shown
    terminal.type(".timer off\n.mode json\nSELECT 1 AS one;\n")
    terminal.until('"one": 1')
    terminal.type(".quit\n")
    assert terminal.process.wait(timeout=60) == 0


def test_an_error_shows_its_place_and_the_shell_goes_on(terminal: Terminal) -> None:
    terminal.until("main> ")
    terminal.type("SELECT name, nothing FROM models;\n")
    lines = terminal.until("main> ").replace("\r", "").split("\n")
    where = next(i for i, line in enumerate(lines) if line.strip() == "^")
    assert lines[where - 1][lines[where].index("^") :].startswith("nothing")
    terminal.type(".mode xml\n")
    terminal.until(".mode is table, json or csv")
    terminal.type(".nonsense\n")
    terminal.until("there is no command '.nonsense'")
    terminal.type("SELECT 41 + 1 AS sum;\n")
    terminal.until("42")


def test_control_c_stops_a_query_and_control_d_leaves(terminal: Terminal) -> None:
    terminal.until("main> ")
    terminal.type("SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b;\n")
    time.sleep(1.5)
    os.kill(terminal.process.pid, signal.SIGINT)
    terminal.until("main> ")
    terminal.type("SELECT 41 + 1 AS sum;\n")
    terminal.until("42")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=60) == 0


def test_names_are_completed(terminal: Terminal) -> None:
    terminal.until("main> ")
    terminal.type("SELE\t count(*) AS found FROM lake.model_v\t ;\n")
    assert "lake.model_versions" in terminal.until("1 row in")
    terminal.type(".tab\t\n")
    terminal.until("production_models")


def test_the_history_is_kept_for_the_next_shell(folder: Path, terminal: Terminal) -> None:
    terminal.until("main> ")
    terminal.type("SELECT 'remember me';\n")
    terminal.until("1 row in")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=60) == 0
    history = folder / "state" / "headwater" / "sql_history"
    assert "SELECT 'remember me';" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0
    again = Terminal()
    try:
        again.until("main> ")
        again.type("\x1b[A\n")
        again.until("1 row in")
        assert again.shown.count("remember me") >= 2
    finally:
        again.close()


def test_the_ref_can_be_changed(terminal: Terminal) -> None:
    terminal.until("main> ")
    terminal.type(".ref main~1\n")
    terminal.until("main~1> ")
    terminal.type("SELECT count(*) AS aliases FROM aliases;\n")
    terminal.until("0")
    terminal.type(".ref nowhere\n")
    terminal.until("there is no branch, tag or commit 'nowhere'")


# -- scripts ----------------------------------------------------------------------------------------------------------
@pytest.fixture
def cli(folder: Path) -> CommandLine:
    return CommandLine()


def test_a_script_runs_each_of_its_queries(cli: CommandLine) -> None:
    script = "SELECT 1 AS a;\n-- a comment; with a semicolon\nSELECT 'x;y' AS b\n, 2 AS c;\n\n"
    assert cli.out("sql", "--format", "csv", stdin=script).split() == ["a", "1", "b,c", "x;y,2"]
    Path("q.sql").write_text(".mode csv\nSELECT $k AS k;\n.mode json\nSELECT 2 AS two\n")
    assert cli.out("sql", "--file", "q.sql", "--param", "k=v") == 'k\nv\n[{"two": 2}]\n'
    assert cli.out("sql", stdin=".quit\nSELECT 1;") == ""


def test_a_script_ends_at_its_first_error(cli: CommandLine) -> None:
    found = cli("sql", "--format", "csv", stdin="SELECT 1 AS a; SELECT nothing; SELECT 3 AS c;", status=2)
    assert found.stdout == "a\n1\n"
    assert "nothing" in found.stderr
    for wrong in (".mode xml", ".timer maybe", ".schema", ".schema nothing", ".nonsense", ".ref nowhere"):
        cli("sql", stdin=wrong, status=1 if wrong.endswith(("nothing", "nowhere")) else 2)
    assert cli("sql", "--output", "x.csv", stdin="SELECT 1; SELECT 2", status=2).stdout == ""


def test_the_commands_of_the_shell_describe_what_there_is(cli: CommandLine) -> None:
    tables = cli.out("sql", stdin=".tables\n")
    assert re.search(r"^leaderboard\(model\) +macro", tables, re.MULTILINE)
    assert re.search(r"^lake.events +table", tables, re.MULTILINE)
    schema = cli.out("sql", stdin=".schema aliases\n")
    assert "CREATE OR REPLACE VIEW aliases" in schema
    assert re.search(r"^alias +VARCHAR", schema, re.MULTILINE)
    assert re.search(r"^event_id +VARCHAR", cli.out("sql", stdin=".schema lake.events\n"), re.MULTILINE)
    assert "CREATE OR REPLACE MACRO leaderboard" in cli.out("sql", stdin=".schema leaderboard\n")
    assert ".tables" in cli.out("sql", stdin=".help\n")
    assert cli.out("sql", stdin=".ref\n").startswith("main is commit ")
    assert cli.out("sql", "--format", "csv", stdin=".ref main~1\nSELECT count(*) AS n FROM aliases;").split()[-1] == "0"
    assert "1 row in" in cli("sql", stdin=".timer on\nSELECT 1;").stderr


def test_statements_end_at_semicolons_that_are_ones() -> None:
    text = "a; 'b;' ; \"c;\" -- d;\n; /* e; /* f; */ g; */ h; $$ i; $$; $x$ j; $$; $x$; e'k\\';'; 'l;"
    found, rest = statements(text)
    parts = ["a", "'b;'", '"c;" -- d;', "/* e; /* f; */ g; */ h", "$$ i; $$", "$x$ j; $$; $x$", "e'k\\';'"]
    assert [each.strip() for each in found] == parts
    assert rest == " 'l;"


# -- formats ----------------------------------------------------------------------------------------------------------
def test_rows_are_written_in_every_format(cli: CommandLine, folder: Path) -> None:
    query = "SELECT range AS i, 'x' || range AS s, TIMESTAMPTZ '2026-11-01 00:00:00Z' AS t FROM range(200000)"
    document = cli.json("sql", query, "--format", "parquet", "--output", "rows.parquet")
    assert document == {"output": "rows.parquet", "rows": 200_000, "columns": ["i", "s", "t"]}
    cli("sql", query, "--format", "arrow", "--output", "rows.arrow")
    cli("sql", query, "--format", "json", "--output", "rows.json")
    cli("sql", query, "--format", "csv", "--output", "rows.csv")
    with headwater.open() as registry:
        expected = registry.sql(query).arrow()
    assert pq.read_table("rows.parquet").equals(expected)
    assert pa.ipc.open_file("rows.arrow").read_all().equals(expected)
    assert [row["i"] for row in json.loads(Path("rows.json").read_text())] == list(range(200_000))
    assert len(Path("rows.csv").read_text().splitlines()) == 200_001
    streamed = cli("sql", query, "--format", "arrow").stdout_bytes
    assert pa.ipc.open_stream(streamed).read_all().equals(expected)
    assert pq.read_table(io.BytesIO(cli("sql", query, "--format", "parquet").stdout_bytes)).equals(expected)
    assert not list(folder.glob("*.part"))


def test_json_is_one_document_whatever_the_number_of_rows(cli: CommandLine) -> None:
    assert cli.json("sql", "SELECT 1 AS a WHERE false") == []
    assert len(cli.json("sql", "FROM range(150000)")) == 150_000


def test_what_a_format_cannot_hold_leaves_no_file(cli: CommandLine, folder: Path) -> None:
    Path("rows.parquet").write_bytes(b"before")
    query = "SELECT CASE WHEN range < 150000 THEN 1 ELSE error('late') END AS x FROM range(200000)"
    for form in ("parquet", "arrow", "csv", "json"):
        assert cli.error("sql", query, "--format", form, "--output", "rows.parquet", status=2)[0] == "InvalidInputError"
        assert Path("rows.parquet").read_bytes() == b"before"
    assert not list(folder.glob("*.part"))


def test_a_table_is_for_as_many_rows_as_eyes_may_want(cli: CommandLine) -> None:
    found = cli("sql", "FROM range(1000000000)", status=1)
    assert "more than 1,000,000 rows" in found.stderr
    assert found.stdout == ""


def test_stats_say_how_many_files_were_read(cli: CommandLine, tmp_path: Path) -> None:
    with headwater.open(actor="tester") as registry:
        for value in (0.1, 0.2):
            registry.register("m", tmp_path / "model.bin", metrics={"auc": value})
        version = registry.get("m/2").version_id
    found = cli("sql", f"SELECT value FROM lake.metrics WHERE version_id = '{version}'", "--stats", "--format", "csv")
    assert (found.stdout, found.stderr) == ("value\n0.1\n", "metrics: 1 of 3 files read\n")


def test_a_binary_format_is_not_for_a_terminal(folder: Path) -> None:
    shell = Terminal("SELECT 1", "--format", "parquet")
    try:
        shell.until("parquet is not for a terminal")
    finally:
        shell.close()
