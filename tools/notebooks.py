"""Execute the notebooks: on a lake that the demo has just made, so that what they show is what they say.

    python tools/notebooks.py            executes each notebooks/*.py and writes the .ipynb beside it
    python tools/notebooks.py --check    executes each, writes nothing, and fails where an .ipynb has other cells

A notebook is a jupytext percent script; the .ipynb beside it is what people open on the web.
"""

from __future__ import annotations

import os
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
        return value.replace(sys.executable, "python").replace(str(ROOT), "/home/ann/headwater")
    if isinstance(value, dict):
        return {key: impersonal(each) for key, each in value.items()}
    return [impersonal(each) for each in value] if isinstance(value, list) else value


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
    scripts = sorted(FOLDER.glob("*.py"))
    stale = []
    with tempfile.TemporaryDirectory(prefix="headwater-notebooks-") as folder:
        os.environ["HEADWATER_ACTOR"] = "ann"
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
                        made = impersonal([dict(each) for each in cell.outputs])
                        cell.outputs = [_node(each) for each in made]
                nbformat.write(notebook, target)  # type: ignore[no-untyped-call, unused-ignore]
            print(f"{script.relative_to(ROOT)}: {len(notebook.cells)} cells executed")
    if stale:
        print(f"not what their scripts say: {', '.join(stale)}; run `python tools/notebooks.py`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
