"""Where the boxes of a layered drawing go, and the lines between them; knows nothing of what they stand for.

Layers are told by the longest way from the root, an edge that spans several of them is led through each in a place of
its own, the order within a layer is improved by barycentres, and heights by least squares. After Sugiyama, Tagawa and
Toda, "Methods for Visual Understanding of Hierarchical System Structures", 1981.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Layout", "layout"]

_SWEEPS = 12
_RELAXATIONS = 10

Way = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing: the layer of each node, its centre's height, and the heights that each edge passes, end to end.

    Attributes:
        layers: The layer of each node; the root's is 0.
        centres: The height of each node's centre.
        routes: For each edge the (layer, height) of its ends and of every layer between them.
    """

    layers: tuple[int, ...]
    centres: tuple[float, ...]
    routes: tuple[tuple[tuple[int, float], ...], ...]


def layout(count: int, edges: Sequence[Way], *, box: float, line: float, gap: float) -> Layout:
    """Return where nodes and edges go.

    Args:
        count: How many nodes; node 0 is the root.
        edges: From and to, away from the root.
        box: The height of a node.
        line: The height that is kept free for an edge that passes a layer.
        gap: What is kept free between any two of them.
    """
    layers = _layers(count, edges)
    tall = [box] * count
    at = list(layers)
    chains: list[list[int]] = []
    for left, right in edges:
        step = 1 if layers[right] > layers[left] else -1
        chain = [left]
        for layer in range(layers[left] + step, layers[right], step):
            chain.append(len(at))
            at.append(layer)
            tall.append(line)
        chains.append([*chain, right])
    rows = _ordered(at, chains)
    centres = _heights(rows, tall, gap, chains, len(at))
    routes = tuple(tuple((at[place], centres[place]) for place in chain) for chain in chains)
    return Layout(tuple(layers), tuple(centres[:count]), routes)


def _layers(count: int, edges: Sequence[Way]) -> list[int]:
    """Return the longest way from the root to each node, edges that close a cycle left out."""
    after: list[list[int]] = [[] for _ in range(count)]
    for left, right in edges:
        after[left].append(right)
    order = _finished(count, after)
    place = {node: number for number, node in enumerate(order)}
    layers = [0] * count
    for node in order:
        for there in after[node]:
            if place[there] > place[node]:
                layers[there] = max(layers[there], layers[node] + 1)
    return layers


def _finished(count: int, after: Sequence[Sequence[int]]) -> list[int]:
    """Return nodes so that edges lead forwards, but for those that close a cycle: depth first, with our own stack."""
    seen = [False] * count
    done: list[int] = []
    for start in range(count):
        if seen[start]:
            continue
        seen[start] = True
        stack = [(start, iter(after[start]))]
        while stack:
            node, rest = stack[-1]
            for there in rest:
                if not seen[there]:
                    seen[there] = True
                    stack.append((there, iter(after[there])))
                    break
            else:
                done.append(node)
                stack.pop()
    return done[::-1]


# -- order ------------------------------------------------------------------------------------------------------------
def _ordered(at: Sequence[int], chains: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return what lies in each layer, from the top, with few crossings."""
    rows: list[list[int]] = [[] for _ in range(max(at, default=0) + 1)]
    for place, layer in enumerate(at):
        rows[layer].append(place)
    before, after = _neighbours(at, chains)
    best, fewest = [list(row) for row in rows], _crossings(rows, after)
    for sweep in range(_SWEEPS):
        if not fewest:
            break
        forwards = sweep % 2 == 0
        for layer in range(1, len(rows)) if forwards else range(len(rows) - 2, -1, -1):
            beside = rows[layer - 1] if forwards else rows[layer + 1]
            where = {place: number for number, place in enumerate(beside)}
            ties = before if forwards else after
            now = {place: number for number, place in enumerate(rows[layer])}
            rows[layer].sort(key=lambda place: _mean([where[each] for each in ties[place]], now[place]))
        crossings = _crossings(rows, after)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _neighbours(at: Sequence[int], chains: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """Return what each place is tied to in the layer before its own, and in the one after."""
    before: list[list[int]] = [[] for _ in at]
    after: list[list[int]] = [[] for _ in at]
    for chain in chains:
        for one, other in itertools.pairwise(chain):
            if abs(at[one] - at[other]) == 1:
                left, right = (one, other) if at[one] < at[other] else (other, one)
                after[left].append(right)
                before[right].append(left)
    return before, after


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _crossings(rows: Sequence[Sequence[int]], after: Sequence[Sequence[int]]) -> int:
    """Return how many pairs of edges cross between neighbouring layers: inversions, counted with a Fenwick tree."""
    total = 0
    for row, beside in itertools.pairwise(rows):
        where = {place: number for number, place in enumerate(beside)}
        tree = [0] * (len(beside) + 1)
        seen = 0
        for place in row:
            ends = sorted(where[each] for each in after[place])
            for end in ends:
                index, passed = end + 1, 0
                while index:
                    passed += tree[index]
                    index &= index - 1
                total += seen - passed
            for end in ends:
                seen += 1
                index = end + 1
                while index <= len(beside):
                    tree[index] += 1
                    index += index & -index
    return total


# -- heights ----------------------------------------------------------------------------------------------------------
def _heights(
    rows: Sequence[Sequence[int]], tall: Sequence[float], gap: float, chains: Sequence[Sequence[int]], count: int
) -> list[float]:
    """Return the height of each place's centre: near those that it is tied to, and clear of those beside it."""
    ties: list[list[int]] = [[] for _ in range(count)]
    for chain in chains:
        for one, other in itertools.pairwise(chain):
            ties[one].append(other)
            ties[other].append(one)
    centres = [0.0] * count
    for row in rows:
        _settle(row, [0.0] * len(row), tall, gap, centres)
    for turn in range(_RELAXATIONS):
        for row in rows if turn % 2 else rows[::-1]:
            wanted = [_mean([centres[each] for each in ties[place]], centres[place]) for place in row]
            _settle(row, wanted, tall, gap, centres)
    top = min((centres[place] - tall[place] / 2 for row in rows for place in row), default=0.0)
    return [centre - top for centre in centres]


def _settle(
    row: Sequence[int], wanted: Sequence[float], tall: Sequence[float], gap: float, centres: list[float]
) -> None:
    """Place a layer as near to what is wanted as order and room allow: isotonic regression by pooling."""
    offsets: list[float] = []
    for number, place in enumerate(row):
        room = (tall[row[number - 1]] + tall[place]) / 2 + gap if number else 0.0
        offsets.append((offsets[-1] if offsets else 0.0) + room)
    pools: list[tuple[float, int]] = []
    for number in range(len(row)):
        pools.append((wanted[number] - offsets[number], 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (one, some), (other, more) = pools[-2:]
            pools[-2:] = [((one * some + other * more) / (some + more), some + more)]
    values = [value for value, size in pools for _ in range(size)]
    for place, value, offset in zip(row, values, offsets, strict=True):
        centres[place] = value + offset
