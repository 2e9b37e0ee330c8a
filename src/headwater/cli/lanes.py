"""A graph of commits drawn as lanes of text, newest first; knows IDs and characters alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

__all__ = ["lanes"]

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_LINES = {
    0: "  ", 3: "│|", 12: "─-", 5: "╯/", 9: "╰\\", 6: "╮\\", 10: "╭/", 7: "┤|", 11: "├|", 13: "┴+", 14: "┬+", 15: "┼+",
}  # fmt: skip
"""By where lines go from a place: the character, and the one for terminals that have ASCII only."""


def lanes(rows: Iterable[tuple[str, Sequence[str]]], *, ascii: bool = False) -> Iterator[tuple[str, str | None]]:
    """Yield lines of text, each with the commit that is drawn in it, or None for what only joins lanes.

    Args:
        rows: Commits, every one before its parents, with those that it stands on; the first goes on in its lane.
        ascii: Whether the terminal has ASCII only.
    """
    waiting: list[str | None] = []
    for commit, parents in rows:
        meeting = [at for at, wanted in enumerate(waiting) if wanted == commit]
        at = meeting[0] if meeting else _free(waiting)
        if len(meeting) > 1:
            before = list(waiting)
            for other in meeting[1:]:
                waiting[other] = None
            yield _joint(before, waiting, at, meeting[1:], ascii), None
        waiting[at] = commit
        line = [" " if lane is None else "|" if ascii else "│" for lane in waiting]
        line[at] = "*" if ascii else "●"
        yield " ".join(line).rstrip(), commit
        before = list(waiting)
        waiting[at] = parents[0] if parents else None
        ends = []
        for parent in parents[1:]:
            end = waiting.index(parent) if parent in waiting else _free(waiting)
            waiting[end] = parent
            ends.append(end)
        if ends:
            yield _joint(before, waiting, at, ends, ascii), None
        while waiting and waiting[-1] is None:
            waiting.pop()


def _free(waiting: list[str | None]) -> int:
    if None not in waiting:
        waiting.append(None)
    return waiting.index(None)


def _joint(before: Sequence[str | None], after: Sequence[str | None], at: int, ends: Iterable[int], ascii: bool) -> str:
    """Return a line in which one lane is joined with others."""
    places = [0] * (2 * max(len(before), len(after)) - 1)
    for lane in range((len(places) + 1) // 2):
        places[2 * lane] |= _UP * (lane < len(before) and before[lane] is not None)
        places[2 * lane] |= _DOWN * (lane < len(after) and after[lane] is not None)
    for end in ends:
        left, right = 2 * min(at, end), 2 * max(at, end)
        places[left] |= _RIGHT
        places[right] |= _LEFT
        for place in range(left + 1, right):
            places[place] |= _LEFT | _RIGHT
    return "".join(_LINES[place][ascii] for place in places).rstrip()
