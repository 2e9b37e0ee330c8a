"""How long `headwater.source.capture` takes in repositories of several sizes: `python tests/bench/code_state.py`."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from headwater import source


def repository(place: Path, files: int) -> None:
    """Make a repository with one commit of so many files of 150 lines."""
    for number in range(files):
        path = place / f"p{number // 100}" / f"m{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"x = {number}\n" * 150)
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], cwd=place, check=True, capture_output=True)
    time.sleep(1.1)  # Git does not trust the times of files that are as young as its index
    subprocess.run(["git", "status"], cwd=place, check=True, capture_output=True)


def main() -> None:
    """Print the median of 15 calls, in milliseconds."""
    for files in (200, 5000):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            repository(place, files)
            for state in ("clean", "dirty"):
                if state == "dirty":
                    (place / "p0" / "m1.py").write_text("changed\n")
                    (place / "new.py").write_text("new\n")
                took = []
                for _ in range(15):
                    began = time.perf_counter()
                    source.capture(place)
                    took.append((time.perf_counter() - began) * 1000)
                print(f"{files:5} files, {state}: {statistics.median(took):7.2f} ms")


if __name__ == "__main__":
    main()
