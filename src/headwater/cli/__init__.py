"""The command line: it parses, calls the registry, and prints; it has no rules of its own."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line on the arguments of this process, and exit."""
    try:
        from headwater.cli.program import program
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    program.main()
