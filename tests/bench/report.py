"""What the bench found, as a table for a terminal and for README.md; measures nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

BEGIN, END = "<!-- results: written by bench.py --write -->", "<!-- end of results -->"

HEADINGS = ("what", "target", "Headwater", "MLflow", "MLflow ÷ Headwater", "verdict")


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        label: What is measured.
        target: The target in words; empty where the figure is there for information.
        ours: Headwater's, as it is printed.
        theirs: MLflow's, or empty.
        ratio: How many times as much MLflow takes, or another ratio; empty where there is none.
        passed: Whether the target is reached; None where there is none.
    """

    label: str
    target: str
    ours: str
    theirs: str = ""
    ratio: str = ""
    passed: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """The line's cells, in the order of HEADINGS."""
        verdict = "" if self.passed is None else "reached" if self.passed else "MISSED"
        return self.label, self.target, self.ours, self.theirs, self.ratio, verdict


def median(seconds: Iterable[float]) -> float:
    """The median."""
    return statistics.median(seconds)


def percentile(seconds: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ranked = sorted(seconds)
    return ranked[min(len(ranked) - 1, max(0, round(percent / 100 * len(ranked)) - 1))]


def shown(seconds: float) -> str:
    """A duration with three digits that matter, and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1 or unit == "µs":
            value = seconds * scale
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    raise AssertionError


def times(ratio: float) -> str:
    """How many times as much."""
    return f"{ratio:,.0f}×" if ratio >= 10 else f"{ratio:.2g}×"


def machine(mlflow: str) -> str:
    """One sentence on what it is measured with, and on how busy that has been for five minutes."""
    model = "an unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in ("headwater", "pyarrow", "duckdb", "deltalake"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {model}, {memory:.0f} GiB of memory, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {packages}, MLflow {mlflow}; load before it began {os.getloadavg()[1]:.1f}."
    )


def terminal(figures: Sequence[Figure]) -> str:
    """The table for a terminal."""
    rows = [HEADINGS, *(figure.cells for figure in figures)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown(figures: Sequence[Figure]) -> str:
    """The table for README.md."""
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(figure.cells for figure in figures)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def write(readme: Path, figures: Sequence[Figure], machine: str) -> None:
    """Put the table between the markers of README.md."""
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n{machine}\n\n{markdown(figures)}\n{END}{after}", "utf-8")
