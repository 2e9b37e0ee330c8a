"""The command line as tests drive it: in this process through click's runner, or as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from headwater.cli.program import program

HEADWATER = [sys.executable, "-m", "headwater"]


class CommandLine:
    """Runs commands in this process; anything but the expected exit status fails the test."""

    def __init__(self) -> None:
        self._runner = CliRunner()

    def __call__(self, *arguments: object, status: int = 0, stdin: str | None = None) -> Result:
        """Run a command and return what it printed."""
        result = self._runner.invoke(program, [str(each) for each in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == status, f"{arguments}: {result.exit_code}\n{result.stdout}\n{result.stderr}"
        if status == 0:
            assert "error:" not in result.stderr
        return result

    def out(self, *arguments: object, **named: Any) -> str:
        """Return what a command prints on standard output."""
        return self(*arguments, **named).stdout

    def json(self, *arguments: object, **named: Any) -> Any:
        """Return the one document that a command prints with `--json`."""
        return json.loads(self("--json", *arguments, **named).stdout)

    def error(self, *arguments: object, status: int, **named: Any) -> tuple[str, str, str]:
        """Run a command that must fail, both ways, and return the type, the message and the hint of its error."""
        plain = self(*arguments, status=status, **named)
        assert plain.stdout == ""
        lines = plain.stderr.splitlines()
        assert 1 <= len(lines) <= 2, plain.stderr
        assert lines[0].startswith("error: ")
        assert lines[1:] == [] or lines[1].startswith("hint: ")
        assert plain.stderr.isprintable() or all(line.isprintable() for line in lines)
        structured = self("--json", *arguments, status=status, **named)
        assert structured.stdout == ""
        found = json.loads(structured.stderr)["error"]
        assert set(found) == {"type", "message", "hint"}
        assert "Traceback" not in plain.stderr
        return found["type"], found["message"], found["hint"]


def run(*arguments: object, cwd: Path | None = None, **named: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    words = [*HEADWATER, *(str(each) for each in arguments)]
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120, check=False, **named)
