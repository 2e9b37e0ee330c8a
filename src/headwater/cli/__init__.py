"""The command line: it parses, calls the registry, and prints; it has no rules of its own."""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


class _WithoutPandas:
    """An importer that says that pandas is not there.

    pyarrow and DuckDB import it where it is installed, for half a second, to ask whether a value is one of its own. In
    a process of the command line none is.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("the command line does without pandas", name=name)


def main() -> None:
    """Run the command line on the arguments of this process, and exit."""
    sys.meta_path.insert(0, _WithoutPandas)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - as long as the process
    try:
        from headwater.cli.program import program
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    program.main()
