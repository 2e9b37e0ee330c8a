"""Land changes on `main` as a transaction does, against others that do the same: URL NAME COUNT."""

from __future__ import annotations

import random
import sys
import time

from headwater.errors import NotFoundError, RaceLostError
from headwater.lake.base import Lake
from headwater.lake.connect import connect


def land(lake: Lake, name: str, number: int) -> None:
    for attempt in range(1000):
        branch = f"_hw_{name}_{number}_{attempt}"
        head = lake.head("main")
        lake.create_branch(branch, head, hidden=True)
        try:
            try:
                before = lake.read(head, "contended").decode().split()
            except NotFoundError:
                before = []
            lake.put(branch, f"own/{name}/{number}", b"%d" % attempt)
            lake.put(branch, "contended", " ".join([*before, f"{name}/{number}"]).encode())
            lake.commit(branch, "change", {"change": f"{name}/{number}"})
            lake.merge(branch, "main", "land", {"change": f"{name}/{number}"})
            return
        except RaceLostError:
            time.sleep(random.uniform(0, 0.05))
        finally:
            lake.delete_branch(branch)
    raise RuntimeError("never landed")


def main(url: str, name: str, count: int) -> None:
    lake = connect(url)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(count):
        land(lake, name, number)
    lake.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
