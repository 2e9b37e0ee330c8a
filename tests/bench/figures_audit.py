"""The figure of the audit: a signed lake of 100,000 events, read anew and judged in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from report import Figure, shown

HERE = Path(__file__).resolve().parent

LANDINGS, EACH = 2_000, 50
LIMIT = 30.0


def measure(folder: Path, landings: int = LANDINGS, each: int = EACH) -> Iterator[Figure]:
    """Measure the embedded lake."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE / "work_audit.py"), str(folder / "audited"), str(landings), str(each)]
    ran = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(ran.stdout)
    assert found["clean"]
    took, events = found["seconds"], found["events"]
    yield Figure(f"audit {events:,} signed events", f"< {shown(LIMIT)}", shown(took), passed=took < LIMIT)
    yield Figure("the same: processor time", "", shown(found["processor"]))
    yield Figure("the same: memory", "", f"{found['megabytes']:,.0f} MB")
