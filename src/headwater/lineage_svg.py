"""Lineage as a picture: boxes in layers, lines between them, and a legend, as SVG; knows no lake and no table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from unicodedata import east_asian_width

from headwater.errors import InvalidInputError
from headwater.lineage_layout import Layout, layout
from headwater.lineage_nodes import RELATIONS, Graph, Node
from headwater.lineage_text import facts_of

__all__ = ["LARGEST", "svg"]

LARGEST = 2000
"""Nodes of the largest graph that is drawn; a larger one nobody could read."""

_COLOURS = {
    "prediction": "#a83a63",
    "deployment": "#9c5218",
    "model": "#33639c",
    "run": "#566172",
    "dataset": "#27705f",
    "code": "#6d4f9a",
    "object": "#7a5f2e",
}
"""Dark enough for white letters, light enough to stand out from a black page."""

_GREY = "#8a8f98"
_CHAR = 6.7
"""Width of a letter at 11 px in any fixed-width font, rounded up."""

_WIDEST = 44
_BOX, _LINE, _GAP, _BETWEEN, _MARGIN = 62.0, 10.0, 14.0, 90.0, 16.0
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def svg(graph: Graph) -> str:
    """Return a graph as an SVG document that needs nothing else; it reads from left to right, as data flowed.

    Raises:
        InvalidInputError: It has more than `LARGEST` nodes.
    """
    if len(graph.nodes) > LARGEST:
        raise InvalidInputError(
            f"a picture of {len(graph.nodes):,} nodes can't be read", hint="ask for json, or of something less"
        )
    nodes = sorted(graph.nodes, key=lambda node: node.urn != graph.root)
    numbers = {node.urn: number for number, node in enumerate(nodes)}
    up = graph.direction == "up"
    ways = [(numbers[edge.source], numbers[edge.target]) for edge in graph.edges]
    plan = layout(len(nodes), [way[::-1] if up else way for way in ways], box=_BOX, line=_LINE, gap=_GAP)
    texts = [_texts(node) for node in nodes]
    lefts, widths, right = _columns(plan, texts, up)
    legend = _legend(graph)
    width = max(right + _MARGIN, legend[1], _MARGIN * 2 + _CHAR * 1.2 * _columns_of(_title(graph)))
    top = _MARGIN + 30
    bottom = top + max(centre + _BOX / 2 for centre in plan.centres)
    # An edge may pass below the lowest box.
    bottom = max([bottom, *(top + height + _LINE for route in plan.routes for _, height in route)])
    height = bottom + 44
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
            f' viewBox="0 0 {width:.0f} {height:.0f}" role="img"'
            ' font-family="ui-monospace, Menlo, Consolas, \'DejaVu Sans Mono\', monospace" font-size="11">',
            f"<title>{_escaped(_title(graph))}</title>",
            f'<defs><marker id="hw-arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"'
            f' orient="auto"><path d="M0 0L8 4L0 8z" fill="{_GREY}"/></marker></defs>',
            f'<text x="{_MARGIN}" y="{_MARGIN + 8}" font-size="13" font-weight="bold" fill="{_GREY}">'
            f"{_escaped(_title(graph))}</text>",
            *_edges(graph, plan, lefts, widths, top, up),
            *(
                _box(node, texts[number], lefts[plan.layers[number]], widths[plan.layers[number]],
                     top + plan.centres[number], node.urn == graph.root)
                for number, node in enumerate(nodes)
            ),
            f'<g class="legend" transform="translate({_MARGIN} {bottom + 18:.1f})">{legend[0]}</g>',
            "</svg>",
        ]
    )  # fmt: skip


def _title(graph: Graph) -> str:
    what = "what it came from" if graph.direction == "up" else "what came of it"
    return f"{_cut(graph.root, 90)}: {what}"


def _texts(node: Node) -> tuple[str, str, str, str]:
    """Return the lines of a box: kind, name, and two facts."""
    facts = [*(each for each in facts_of(node) if each not in node.label), "", ""]
    return node.kind, _cut(node.label, _WIDEST), _cut(facts[0], _WIDEST), _cut(facts[1], _WIDEST)


def _columns(plan: Layout, texts: list[tuple[str, str, str, str]], up: bool) -> tuple[list[float], list[float], float]:
    """Return where each layer begins and how wide it is, and where the last one ends. The root is right, or left."""
    count = max(plan.layers) + 1
    widths = [120.0] * count
    for layer, lines in zip(plan.layers, texts, strict=True):
        widths[layer] = max(widths[layer], 20 + _CHAR * max(map(_columns_of, lines)))
    lefts = [0.0] * count
    x = _MARGIN
    for layer in range(count - 1, -1, -1) if up else range(count):
        lefts[layer] = x
        x += widths[layer] + _BETWEEN
    return lefts, widths, x - _BETWEEN


def _edges(graph: Graph, plan: Layout, lefts: list[float], widths: list[float], top: float, up: bool) -> Iterator[str]:
    for edge, route in zip(graph.edges, plan.routes, strict=True):
        # Drawn as data flowed: out of a box on its right, into one on its left.
        passed = route[::-1] if up else route
        (first, y), *rest = passed
        x = lefts[first] + widths[first]
        path = [f"M{x:.1f} {top + y:.1f}"]
        for number, (layer, height) in enumerate(rest):
            left = lefts[layer]
            bend = max(abs(left - x) / 2, 30)
            path.append(
                f"C{x + bend:.1f} {top + y:.1f} {left - bend:.1f} {top + height:.1f} {left:.1f} {top + height:.1f}"
            )
            x, y = left, height
            if number < len(rest) - 1:
                x = left + widths[layer]
                path.append(f"L{x:.1f} {top + y:.1f}")
        said = f"{edge.source} {RELATIONS.get(edge.relation, edge.relation)} {edge.target}"
        yield (
            f'<path class="edge" d="{"".join(path)}" fill="none" stroke="{_GREY}" stroke-width="1.3"'
            f' marker-end="url(#hw-arrow)"><title>{_escaped(said)}</title></path>'
        )


def _box(node: Node, lines: tuple[str, str, str, str], left: float, width: float, centre: float, root: bool) -> str:
    top = centre - _BOX / 2
    outline = f' stroke="{_GREY}" stroke-width="3"' if root else ""
    sizes = ((14, 'font-size="9" opacity="0.85"'), (29, 'font-size="11" font-weight="bold"'), (43, ""), (56, ""))
    text = "".join(
        f'<text x="{left + 9:.1f}" y="{top + down:.1f}" {style}>{_escaped(line)}</text>'
        for (down, style), line in zip(sizes, lines, strict=True)
        if line
    )
    return (
        f'<g class="node {node.kind}" fill="#fff"><title>{_escaped(node.urn)}</title>'
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BOX:.1f}" rx="6"'
        f' fill="{_COLOURS[node.kind]}"{outline}/>{text}</g>'
    )


def _legend(graph: Graph) -> tuple[str, float]:
    """Return a sign for each kind that there is, and what they take up together."""
    x, parts = 0.0, []
    for kind, colour in _COLOURS.items():
        count = sum(node.kind == kind for node in graph.nodes)
        if count:
            said = f"{kind} ({count:,})"
            parts.append(
                f'<rect x="{x:.1f}" y="0" width="12" height="12" rx="3" fill="{colour}"/>'
                f'<text x="{x + 18:.1f}" y="10" fill="{_GREY}">{said}</text>'
            )
            x += 18 + _CHAR * len(said) + 18
    return "".join(parts), x + _MARGIN * 2


def _columns_of(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _cut(text: str, columns: int) -> str:
    if _columns_of(text) <= columns:
        return text
    while _columns_of(text) > columns - 1:
        text = text[:-1]
    return text + "…"


def _escaped(text: str) -> str:
    safe = _NOT_XML.sub("?", text)
    return safe.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
