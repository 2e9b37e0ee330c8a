"""Make the environment that MLflow is measured in: outside the tree, once for each version; knows nothing of Headwater.

    python tests/bench/mlflow_env.py        prints the Python of that environment, and makes it first if need be

It lies in `${XDG_CACHE_HOME:-~/.cache}/headwater/mlflow-VERSION`. Needs only the standard library, pip and the network.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().with_name("requirements-mlflow.txt")


def wanted() -> str:
    """The version of MLflow that requirements-mlflow.txt pins."""
    for line in REQUIREMENTS.read_text("utf-8").splitlines():
        name, _, version = line.partition("==")
        if name == "mlflow":
            return version.strip()
    raise SystemExit(f"bench: {REQUIREMENTS} pins no mlflow")


def folder() -> Path:
    """Where the environment is, or will be."""
    base = os.environ.get("XDG_CACHE_HOME")
    cache = Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache"
    return cache / "headwater" / f"mlflow-{wanted()}"


def ensure() -> Path:
    """Return the environment's Python; the environment is made, or made anew, where it isn't what is wanted."""
    venv = folder()
    venv.parent.mkdir(parents=True, exist_ok=True)
    python = venv / "bin" / "python"
    stamp = venv / "headwater-bench"
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    with venv.with_name(f"{venv.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):
            if stamp.read_text("utf-8") == digest:
                return python
        print(f"bench: installing MLflow {wanted()} into {venv} (once; a minute or two)", file=sys.stderr, flush=True)
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        install = [
            str(python),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
            str(REQUIREMENTS),
        ]
        subprocess.run(install, check=True, stdout=sys.stderr)
        stamp.write_text(digest, "utf-8")
    return python


if __name__ == "__main__":
    print(ensure())
