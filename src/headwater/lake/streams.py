"""Reading from any stream; knows no lake."""

from __future__ import annotations

from typing import BinaryIO

__all__ = ["read_up_to"]


def read_up_to(stream: BinaryIO, size: int) -> bytes:
    """Return the first bytes of a stream, fewer only at its end: a stream may give less than it is asked for."""
    pieces = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
