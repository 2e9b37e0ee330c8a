"""Make the virtual environment that the Makefile's targets run in: knows venv, pip and flock, and nothing of Headwater.

    python tools/bootstrap.py [--venv .venv] [--extra demo --extra dev ...]

Quick when there is nothing to do. Safe when interrupted: what was half made is made again. Safe when run twice at once:
the second waits for the first. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = "constraints.txt"
STATE = ".headwater.json"
UNFINISHED = ".headwater-unfinished"


def wanted_fingerprint() -> str:
    """Digest of everything that decides what an installation holds, apart from the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    build = [project["build-system"], project["project"], project.get("tool", {}).get("hatch")]
    locked = (ROOT / CONSTRAINTS).read_text("utf-8")
    return hashlib.sha256(json.dumps([build, locked], sort_keys=True).encode()).hexdigest()


def read_state(venv: Path) -> dict[str, object]:
    """What this script noted when it last finished with this environment; empty if it never did, or elsewhere."""
    try:
        state = json.loads((venv / STATE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and state.get("place") == str(venv) else {}


def is_usable(venv: Path) -> bool:
    """Whether this environment can be installed into: finished, in the place it was made for, with pip."""
    if (venv / UNFINISHED).exists() or (not read_state(venv) and (venv / STATE).exists()):
        return False
    probe = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([venv / "bin/python", "-c", probe], capture_output=True).returncode == 0
    except OSError:
        return False


def create(venv: Path) -> None:
    """Make an empty environment, in place of an unusable one."""
    if venv.exists():
        if not any((venv / name).exists() for name in ("pyvenv.cfg", UNFINISHED)) and any(venv.iterdir()):
            sys.exit(f"bootstrap: {venv} exists and is no virtual environment; move it away, or give another VENV=")
        discarded = venv.with_name(f"{venv.name}.discarded-{os.getpid()}")
        venv.rename(discarded)
        shutil.rmtree(discarded, ignore_errors=True)
    venv.mkdir(parents=True)
    (venv / UNFINISHED).touch()
    say(f"making {venv.name} with Python {sys.version.split()[0]}")
    if subprocess.run([sys.executable, "-m", "venv", str(venv)]).returncode != 0:
        sys.exit("bootstrap: this Python cannot make virtual environments; name another with PYTHON=")


def install(venv: Path, extras: set[str]) -> None:
    """Install Headwater, editable, with these extras, in the versions that constraints.txt names."""
    (venv / UNFINISHED).touch()
    what = f".[{','.join(sorted(extras))}]" if extras else "."
    say(f"installing {what} (a minute or two the first time)")
    # pip reads the constraints for build environments from one of these two, by its age; split at blanks: so relative
    env = os.environ | {"PIP_CONSTRAINT": CONSTRAINTS, "PIP_BUILD_CONSTRAINT": CONSTRAINTS}
    pip = [str(venv / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    done = subprocess.run([*pip, "--constraint", CONSTRAINTS, "--editable", what], cwd=ROOT, env=env)
    if done.returncode != 0:
        sys.exit(f"bootstrap: pip could not install {what} (its own words are above)")
    state = {"place": str(venv), "fingerprint": wanted_fingerprint(), "extras": sorted(extras)}
    fresh = venv / f"{STATE}.{os.getpid()}"
    fresh.write_text(json.dumps(state), "utf-8")
    fresh.replace(venv / STATE)
    (venv / UNFINISHED).unlink()


def ensure(venv: Path, extras: set[str]) -> None:
    """Bring the environment to what pyproject.toml and constraints.txt say, keeping extras installed before."""
    lock = os.open(ROOT, os.O_RDONLY)  # held until this process ends
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not is_usable(venv):
        create(venv)
    state = read_state(venv)
    before = state.get("extras")
    had = set(map(str, before)) if isinstance(before, list) else set()
    if not state or state.get("fingerprint") != wanted_fingerprint() or not extras <= had:
        install(venv, extras | had)
    # An editable install compiles nothing, and a command that compiles itself anew at each start does not feel instant.
    subprocess.run([str(venv / "bin/python"), "-m", "compileall", "-q", "src"], cwd=ROOT, check=False)


def say(message: str) -> None:
    """Tell the person who waits."""
    print(f"bootstrap: {message}", flush=True)


def main() -> None:
    """Parse the arguments and do it."""
    parser = argparse.ArgumentParser(description="Make or refresh Headwater's virtual environment.")
    parser.add_argument("--venv", type=Path, default=Path(".venv"), help="where it is (default: .venv)")
    parser.add_argument("--extra", action="append", default=[], help="an extra of pyproject.toml; may be repeated")
    arguments = parser.parse_args()
    try:
        ensure((ROOT / arguments.venv).absolute(), set(arguments.extra))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
