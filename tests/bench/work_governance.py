"""What is measured of promotion, rollback and routing on one lake, in a process of its own; prints JSON.

python tests/bench/work_governance.py LAKE; the lake is written to.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import headwater
from headwater.registry import Registry

ROUNDS = 21
CALLS = 20_000
MODEL = "model-042"


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def each_of(calls: Callable[[int], object], count: int) -> list[float]:
    """Return the seconds that each of many calls takes."""
    return [timed(lambda n=n: calls(n)) for n in range(count)]  # type: ignore[misc]


def measured(registry: Registry) -> dict[str, Any]:
    """Promote one version after another, roll back and forth, and route and resolve meanwhile."""
    registry.status()
    found: dict[str, Any] = {}
    for number in (1, 2):
        registry.set_alias(MODEL, "champion", number)
    resolve = f"{MODEL}@champion"
    registry.resolve(resolve)
    found["resolve"] = each_of(lambda _: registry.resolve(resolve), 2_000)
    for number in range(3, 3 + ROUNDS):
        registry.stage(f"{MODEL}/{number}", "staging")
    found["promote"] = each_of(lambda n: registry.promote(f"{MODEL}/{n + 3}", "production"), ROUNDS)[1:]
    found["rollback"] = each_of(lambda _: registry.rollback(MODEL, reason="worse on JFK"), ROUNDS - 1)[1:]
    found["canary"] = each_of(
        lambda n: registry.deploy(f"{MODEL}/{n + 100}", "production", "canary", 1 + n), ROUNDS // 3
    )
    found["history"] = each_of(lambda _: registry.history(MODEL, limit=20), 5)
    with registry.router(interval=0.1) as router:
        router.route(MODEL, "somebody")
        found["route"] = each_of(lambda n: router.route(MODEL, f"customer-{n}"), CALLS)
    return found


def main() -> None:
    """Do what the command line says."""
    with headwater.open(sys.argv[1], actor="bench") as registry:
        print(json.dumps(measured(registry)))


if __name__ == "__main__":
    main()
