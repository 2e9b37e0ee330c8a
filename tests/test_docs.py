"""The documents say what is so: references are up to date, and what the README tells a reader to type works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("tool", ["tables_reference.py", "sql_reference.py"])
def test_a_reference_is_up_to_date(tool: str) -> None:
    ran = subprocess.run(
        [sys.executable, f"tools/{tool}", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("script", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_executed_and_tells_nothing_of_the_machine(script: Path) -> None:
    """That its cells are the script's, and that what they assert holds, `make check-notebooks` checks."""
    notebook = json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/svg+xml" in output.get("data", {}) for output in outputs)
    text = json.dumps(outputs)
    for path in ("/tmp", "/root", "/work/", "/usr", "/var", str(ROOT), str(Path.home())):
        assert path not in text


@pytest.mark.parametrize("document", ["README.md"])
def test_what_a_reader_is_told_to_type_works(document: str, tmp_path: Path) -> None:
    """Run every `sh` and `python` block, in order, in one empty folder; `console` blocks need more than that."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    for name in ("HEADWATER_LAKE", "HEADWATER_BRANCH", "HEADWATER_ACTOR"):
        environment.pop(name, None)
    work = tmp_path / "work"
    work.mkdir()
    for language, block in blocks:
        command = ["bash", "-euo", "pipefail", "-c", block] if language == "sh" else [sys.executable, "-c", block]
        ran = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
