"""Numbers for eyes; knows nothing of models."""

from __future__ import annotations

__all__ = ["number"]


def number(value: float) -> str:
    """Return a metric's value with six significant digits."""
    return f"{value:.6g}"
