"""Pictures of lineage: nothing overlaps, few lines cross, text is escaped; trees and flowcharts are well formed."""

from __future__ import annotations

import itertools
import random
import re
from xml.etree import ElementTree

import pytest

from headwater.lineage import Lineage
from headwater.lineage_layout import layout
from headwater.lineage_nodes import Edge, Node
from headwater.lineage_svg import svg
from headwater.lineage_text import mermaid, tree

SVG = "{http://www.w3.org/2000/svg}"


def node(number: int, label: str = "") -> Node:
    facts = {"repository": "r", "commit": "c", "dirty": False}
    return Node(f"code:r@{number:04}", "code", str(number), label or f"code {number}", facts)


def graph(count: int, ways: list[tuple[int, int]], direction: str = "down", label: str = "") -> Lineage:
    nodes = tuple(node(number, label) for number in range(count))
    ends = [(a, b) if direction == "down" else (b, a) for a, b in ways]
    edges = tuple(Edge(nodes[a].urn, "derived", nodes[b].urn) for a, b in ends)
    return Lineage(nodes[0].urn, direction, nodes, edges)


def random_ways(count: int, more: int, seed: int) -> list[tuple[int, int]]:
    """A tree from node 0, and some edges more, forwards."""
    chance = random.Random(seed)
    ways = [(chance.randrange(max(0, n - 12), n), n) for n in range(1, count)]
    for _ in range(more):
        a, b = sorted(chance.sample(range(count), 2))
        ways.append((a, b))
    return list(dict.fromkeys(ways))


def boxes(text: str) -> list[tuple[float, float, float, float]]:
    found = []
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        if (group.get("class") or "").startswith("node"):
            rect = group.find(f"{SVG}rect")
            assert rect is not None
            x, y, width, height = (float(rect.get(name, "")) for name in ("x", "y", "width", "height"))
            found.append((x, y, x + width, y + height))
    return found


def points(path: str) -> list[tuple[float, float]]:
    """Points along a path of M, L and C, close together."""
    found: list[tuple[float, float]] = []
    for command, numbers in re.findall(r"([MLC])([^MLC]*)", path):
        values = [float(each) for each in numbers.split()]
        pairs = list(zip(values[::2], values[1::2], strict=True))
        if command == "M":
            found.append(pairs[0])
            continue
        (x0, y0) = found[-1]
        ends = [(x0, y0), *pairs] if command == "C" else [(x0, y0), (x0, y0), pairs[0], pairs[0]]
        for step in range(1, 41):
            t = step / 40
            weights = [(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3]
            found.append(tuple(sum(w * p[i] for w, p in zip(weights, ends, strict=True)) for i in (0, 1)))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("direction", ["up", "down"])
def test_at_fifty_nodes_nothing_overlaps(seed: int, direction: str) -> None:
    drawn = svg(graph(50, random_ways(50, 20, seed), direction))
    root = ElementTree.fromstring(drawn)
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    found = boxes(drawn)
    assert len(found) == 50
    for one, other in itertools.combinations(found, 2):
        apart = one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]
        assert apart, (one, other)
    for left, top, right, bottom in found:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
    for path in root.iter(f"{SVG}path"):
        if path.get("class") != "edge":
            continue
        for x, y in points(path.get("d", "")):
            assert 0 <= y <= height
            for left, top, right, bottom in found:
                assert not (left + 1 < x < right - 1 and top + 1 < y < bottom - 1), "a line runs through a box"


def test_text_fits_into_its_box() -> None:
    drawn = svg(graph(3, [(0, 1), (0, 2)], label="w" * 300))
    for group in ElementTree.fromstring(drawn).iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        if (group.get("class") or "").startswith("node") and rect is not None:
            for text in group.findall(f"{SVG}text"):
                assert len(text.text or "") * 6.6 + 18 <= float(rect.get("width", ""))


def test_crossings_are_undone_where_they_can_be() -> None:
    # two pairs that cross as they are given
    plan = layout(5, [(0, 1), (0, 2), (1, 4), (2, 3)], box=10, line=2, gap=2)
    assert (plan.centres[1] < plan.centres[2]) == (plan.centres[4] < plan.centres[3])
    assert plan.layers == (0, 1, 1, 2, 2)


def test_a_long_edge_goes_through_a_place_of_its_own() -> None:
    plan = layout(3, [(0, 1), (1, 2), (0, 2)], box=10, line=2, gap=2)
    assert plan.layers == (0, 1, 2)
    assert [layer for layer, _ in plan.routes[2]] == [0, 1, 2]
    assert abs(plan.routes[2][1][1] - plan.centres[1]) >= 8


def test_cycles_and_loops_are_drawn() -> None:
    drawn = svg(graph(3, [(0, 1), (1, 2), (2, 0), (1, 1)]))
    assert len(boxes(drawn)) == 3
    assert drawn.count('class="edge"') == 4


def test_text_is_escaped_and_there_is_a_title_and_a_legend() -> None:
    hostile = "</text><script>alert('&')</script>\x1b\x00\ufffe"
    drawn = svg(graph(2, [(0, 1)], label=hostile))
    root = ElementTree.fromstring(drawn)
    title = root.find(f"{SVG}title")
    assert title is not None
    assert title.text == "code:r@0000: what came of it"
    assert "<script" not in drawn
    assert any("</text><script>" in (text.text or "") for text in root.iter(f"{SVG}text"))
    legend = next(group for group in root.iter(f"{SVG}g") if group.get("class") == "legend")
    assert [text.text for text in legend.iter(f"{SVG}text")] == ["code (2)"]


def test_a_tree_names_again_what_it_has_shown() -> None:
    text = tree(graph(4, [(0, 1), (0, 2), (1, 3), (2, 3)]))
    assert text.splitlines() == [
        "code:r@0000",
        "│   clean",
        "├─ became code:r@0001",
        "│  │   clean",
        "│  └─ became code:r@0003",
        "│         clean",
        "└─ became code:r@0002",
        "   │   clean",
        "   └─ became code:r@0003",
        "",
        "in all: 0 predictions",
    ]


def test_a_flowchart_has_every_node_and_edge_under_names_of_its_own() -> None:
    text = mermaid(graph(3, [(0, 1), (1, 2)], label='"]; click n0 "javascript:'))
    lines = text.splitlines()
    assert lines[0] == "flowchart LR"
    assert sum("-->" in line for line in lines) == 2
    for line in lines[1:]:
        assert re.fullmatch(
            r' {4}(n\d+\S{1,2}"[\w ./:@+%,()=#;<>-]*"\S{1,2}|n\d+ -->\|"[\w ]+"\| n\d+|style n0 stroke-width:3px)', line
        ), line
        assert line.count('"') in (0, 2)
