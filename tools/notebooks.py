"""Execute the notebooks: on lakes that were made for them just now, so that what they show is what they say.

    python tools/notebooks.py [NAME...]    executes notebooks/NAME.py (or each) and writes the .ipynb beside it
    python tools/notebooks.py --check      executes each, writes nothing, and fails where an .ipynb has other cells

A notebook is a jupytext percent script; the .ipynb beside it is what people open on the web. One that opens a lake
finds the demo's; one that makes its own does so in a temporary folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"


def make_lake(folder: str) -> str:
    """Run the demo on a lake of its own, on fewer flights, and return the lake's URL."""
    url = f"{folder}/lake"
    demo = str(ROOT / "examples" / "flights" / "demo.py")
    command = [sys.executable, demo, "--lake", url, "--rows", "60000", "--picture", f"{folder}/picture.svg"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return url


def impersonal(value: Any) -> Any:
    """Return an output with no path of the machine that it was made on."""
    if isinstance(value, str):
        value = re.sub(
            re.escape(tempfile.gettempdir()) + r"/(tmp\w+|headwater-notebooks-\w+)", "/home/ann/flights", value
        )
        return value.replace(sys.executable, "python").replace(str(ROOT), "/home/ann/headwater")
    if isinstance(value, dict):
        return {key: impersonal(each) for key, each in value.items()}
    return [impersonal(each) for each in value] if isinstance(value, list) else value


def shown(output: dict[str, Any]) -> dict[str, Any]:
    """Return an output as it is kept: a thing that shows itself is not spelt out as well, with all of this machine."""
    data = output.get("data", {})
    if "text/html" in data and (found := re.match(r"\w+\(", data.get("text/plain", ""))):
        output = {**output, "data": {**data, "text/plain": f"{found[0]}…)"}}
    made: dict[str, Any] = impersonal(output)
    return made


def cells(notebook: Any) -> list[tuple[str, str]]:
    """Return kind and source of each cell."""
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def _node(output: dict[str, Any]) -> Any:
    return nbformat.from_dict(output)  # type: ignore[no-untyped-call, unused-ignore]


def _agrees(target: Path, notebook: Any) -> bool:
    if not target.exists():
        return False
    return cells(nbformat.read(target, as_version=4)) == cells(notebook)  # type: ignore[no-untyped-call, unused-ignore]


def main() -> int:
    """Do it, or check it."""
    check = "--check" in sys.argv[1:]
    named = [Path(each).stem for each in sys.argv[1:] if not each.startswith("-")]
    scripts = [each for each in sorted(FOLDER.glob("*.py")) if not named or each.stem in named]
    if missing := set(named) - {each.stem for each in scripts}:
        print(f"there is no notebook {', '.join(sorted(missing))}", file=sys.stderr)
        return 2
    stale = []
    with tempfile.TemporaryDirectory(prefix="headwater-notebooks-") as folder:
        os.environ["HEADWATER_ACTOR"] = "ann"
        if any("headwater.open()" in each.read_text(encoding="utf-8") for each in scripts):
            os.environ["HEADWATER_LAKE"] = make_lake(folder)
        for script in scripts:
            target = script.with_suffix(".ipynb")
            notebook: Any = jupytext.read(script)  # type: ignore[no-untyped-call, unused-ignore]
            if check and not _agrees(target, notebook):
                stale.append(target.name)
            notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
            if not check:
                for cell in notebook.cells:
                    cell.metadata.pop("execution", None)
                    if cell.cell_type == "code":
                        cell.outputs = [_node(shown(dict(each))) for each in cell.outputs]
                nbformat.write(notebook, target)  # type: ignore[no-untyped-call, unused-ignore]
            print(f"{script.relative_to(ROOT)}: {len(notebook.cells)} cells executed")
    if stale:
        print(f"not what their scripts say: {', '.join(stale)}; run `python tools/notebooks.py`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
