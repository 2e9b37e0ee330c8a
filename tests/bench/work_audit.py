"""Makes a signed lake of many events, audits it from nothing, and prints what that took as JSON.

python tests/bench/work_audit.py FOLDER LANDINGS EVENTS
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import headwater
from headwater.transaction import Transaction

MODELS, KEYS = 50, 37


def build(folder: Path, landings: int, each: int) -> None:
    """Make the lake: labels of versions, moved again and again, so that nearly every event replaces one."""
    (folder / "model.bin").write_bytes(b"model")
    with headwater.create(str(folder / "lake"), actor="root", signed=True) as registry:
        versions = [registry.register(f"m{number}", folder / "model.bin") for number in range(MODELS)]
        for landing in range(landings):

            def work(tx: Transaction, first: int = landing * each) -> None:
                for number in range(first, first + each):
                    version = versions[number % MODELS]
                    if number % 2:
                        tx.event(version.model_id, "alias", version.version_id, key=f"a{number % KEYS}")
                    else:
                        tx.event(version.version_id, "tag", str(number), key=f"t{number % KEYS}")

            registry._context.write("alias", work)


def main() -> None:
    """Build, then audit in a process that has seen nothing."""
    folder, landings, each = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("CACHE", "STATE", "CONFIG"):
        os.environ[f"XDG_{name}_HOME"] = str(folder / name.lower())
    if len(sys.argv) == 4:
        build(folder, landings, each)
        subprocess.run([sys.executable, *sys.argv, "audit"], check=True)
        return
    with headwater.open(str(folder / "lake"), actor="root") as registry:
        began, busy = time.perf_counter(), time.process_time()
        audit = registry.audit()
        found = {
            "clean": audit.clean,
            "events": audit.events,
            "seconds": time.perf_counter() - began,
            "processor": time.process_time() - busy,
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
