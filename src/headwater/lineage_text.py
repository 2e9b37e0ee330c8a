"""Lineage as text: a tree for eyes, and a flowchart for Mermaid; knows no lake and no table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from headwater.lineage_nodes import RELATIONS, Edge, Graph, Node, neighbours
from headwater.names import counted

__all__ = ["facts_of", "mermaid", "tree"]

_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SAFE = re.compile(r"[^\w ./:@+%,()=-]", re.ASCII)


# -- words ------------------------------------------------------------------------------------------------------------
def facts_of(node: Node) -> list[str]:
    """Return what there is to say of a node, the most telling first, in a few words each."""
    facts = node.facts
    if facts.get("unknown"):
        return ["nothing is known of it here"]
    return [_one_line(each) for each in _TELLERS[node.kind](facts) if each]


def _model(facts: Mapping[str, Any]) -> list[str]:
    if "version" not in facts:
        return [f"{facts['versions']:,} versions", "deleted" if facts["deleted"] else ""]
    then = f" on {_moment(facts['as_of'])}" if facts.get("as_of") else ""
    stage = facts["stage"] if facts["stage"] != "none" else ""
    names = ", ".join(facts["aliases"])
    return [
        "deleted" if facts["deleted"] else "",
        f"{' '.join(each for each in (stage, f'@{names}' if names else '') if each)}{then}" if stage or names else "",
        _commit(facts),
        f"at {facts['path'] or facts['external_url']}",
        f"sha256 {facts['digest'][:12]}",
        "code with changes" if facts.get("dirty") else "",
    ]


def _dataset(facts: Mapping[str, Any]) -> list[str]:
    matching = facts.get("matching_rows")
    return [
        counted(matching, "matching row") if matching is not None else facts.get("not_asked", ""),
        "deleted" if facts["deleted"] else "",
        f"{facts['rows']:,} rows" if facts["rows"] is not None else f"{facts['bytes']:,} bytes",
        _commit(facts),
        f"at {facts['path']}",
        f"sha256 {facts['digest'][:12]}",
    ]


def _run(facts: Mapping[str, Any]) -> list[str]:
    return [
        "deleted" if facts["deleted"] else "",
        str(facts["status"]),
        f"experiment {facts['experiment']}",
        f"began {_moment(facts['started_at'])}",
        _commit(facts),
        f"`{' '.join(facts['command'])}`" if facts["command"] else "",
        "code with changes" if facts.get("dirty") else "",
    ]


def _code(facts: Mapping[str, Any]) -> list[str]:
    dirty = facts.get("dirty")
    return [
        "" if dirty is None else "with changes that were not committed" if dirty else "clean",
        f"branch {facts['branch']}" if facts.get("branch") else "",
        f"patch {facts['patch'][:12]}" if facts.get("patch") else "",
    ]


def _deployment(facts: Mapping[str, Any]) -> list[str]:
    percent = f" {facts['percent']:g} %" if facts["percent"] is not None else ""
    count = facts["predictions"]
    return [
        "deleted" if facts["deleted"] else "",
        facts["environment"],
        f"{facts['mode']}{percent}" if facts["live"] else f"{facts['mode']}, ended",
        f"{count:,} prediction{'' if count == 1 else 's'}",
        f"since {_moment(facts['recorded_at'])}",
        _commit(facts),
    ]


def _prediction(facts: Mapping[str, Any]) -> list[str]:
    score = facts["score"]
    return [
        f"made {_moment(facts['predicted_at'])}",
        f"output {facts['output']}" if facts["output"] is not None else "",
        f"score {score:g}" if score is not None else "",
        f"external ID {facts['external_id']}" if facts["external_id"] else "",
        f"input {facts['input']}" if facts["input"] else "",
        f"row {facts['row_key']}" if facts["row_key"] else "",
    ]


def _object(facts: Mapping[str, Any]) -> list[str]:
    return [f"{facts['size']:,} bytes", f"sha256 {facts['sha256'][:12]}" if facts["sha256"] else ""]


_TELLERS = {
    "model": _model,
    "dataset": _dataset,
    "run": _run,
    "code": _code,
    "deployment": _deployment,
    "prediction": _prediction,
    "object": _object,
}


def _commit(facts: Mapping[str, Any]) -> str:
    return f"commit {facts['commit'][:12]}" if facts.get("commit") else ""


def _moment(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M:%S")


def _one_line(text: str) -> str:
    text = _HOSTILE.sub("?", text)
    return text if len(text) <= 120 else text[:119] + "…"


# -- the tree ---------------------------------------------------------------------------------------------------------
def tree(graph: Graph) -> str:
    """Return a graph as a tree of text; what was shown before is named again, and not what follows from it."""
    nodes = {node.urn: node for node in graph.nodes}
    ways = neighbours(graph)
    lines: list[str] = []
    seen: set[str] = set()
    # A stack of its own: a chain of derivations may be deeper than Python lets functions call each other.
    stack: list[tuple[str, str, str, str]] = [(graph.root, "", "", "")]
    while stack:
        urn, relation, lead, below = stack.pop()
        node = nodes[urn]
        again = urn in seen
        seen.add(urn)
        said = f"{_RELATION.get((graph.direction, relation), relation)} " if relation else ""
        follows = ways[urn]
        note = " (above)" if again and follows else ""
        lines.append(f"{lead}{said}{_one_line(urn)}{note}")
        if again:
            continue
        facts = facts_of(node)
        if facts:
            lines.append(f"{below}{'│ ' if follows else '  '}  {' · '.join(facts)}")
        for place in range(len(follows) - 1, -1, -1):
            step, there = follows[place]
            last = place == len(follows) - 1
            stack.append((there, step, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
    lines += [""] * bool(graph.notes or graph.direction == "down")
    if graph.direction == "down":
        lines.append(_sum(graph))
    return "\n".join([*lines, *(_one_line(note) for note in graph.notes)])


_RELATION = {
    ("up", "predicted"): "made by",
    ("up", "described"): "with the features of",
    ("up", "deployed"): "of",
    ("up", "produced"): "made by",
    ("up", "used"): "read",
    ("up", "evaluated"): "measured on",
    ("up", "trained"): "learned from",
    ("up", "built"): "with",
    ("up", "derived"): "made from",
    ("up", "version"): "its version",
    ("up", "holds"): "part of",
    ("down", "predicted"): "made",
    ("down", "described"): "described",
    ("down", "deployed"): "deployed as",
    ("down", "produced"): "made",
    ("down", "used"): "read by",
    ("down", "evaluated"): "measured on by",
    ("down", "trained"): "learned by",
    ("down", "built"): "made",
    ("down", "derived"): "became",
    ("down", "version"): "its version",
    ("down", "later"): "later",
    ("down", "part"): "part of",
}


def _sum(graph: Graph) -> str:
    """Return what came of the root, counted."""
    names = {"datasets": "dataset version", "runs": "run", "versions": "model version", "deployments": "deployment"}
    parts = [
        f"{count:,} {noun}{'' if count == 1 else 's'}"
        for key, noun in names.items()
        if (count := graph.totals.get(key, 0))
    ]
    if live := graph.totals.get("live_deployments", 0):
        parts.append(f"{live:,} of them live")
    count = graph.totals.get("predictions", 0)
    parts.append(f"{count:,} prediction{'' if count == 1 else 's'}")
    return "in all: " + ", ".join(parts)


# -- Mermaid ----------------------------------------------------------------------------------------------------------
_SHAPES = {
    "prediction": ("([", "])"),
    "deployment": ("{{", "}}"),
    "model": ("[", "]"),
    "run": ("(", ")"),
    "dataset": ("[(", ")]"),
    "code": ("[[", "]]"),
    "object": (">", "]"),
}


def mermaid(graph: Graph) -> str:
    """Return a graph as a flowchart of Mermaid; the IDs are ours, and labels are escaped."""
    numbers = {node.urn: f"n{place}" for place, node in enumerate(graph.nodes)}
    return "\n".join(["flowchart LR", *_mermaid_nodes(graph, numbers), *_mermaid_edges(graph.edges, numbers)])


def _mermaid_nodes(graph: Graph, numbers: Mapping[str, str]) -> Iterator[str]:
    for node in graph.nodes:
        left, right = _SHAPES[node.kind]
        text = "<br/>".join(_escaped(each) for each in [node.urn, *facts_of(node)[:2]])
        yield f'    {numbers[node.urn]}{left}"{text}"{right}'
    yield f"    style {numbers[graph.root]} stroke-width:3px"


def _mermaid_edges(edges: Any, numbers: Mapping[str, str]) -> Iterator[str]:
    for edge in edges:
        yield f'    {numbers[edge.source]} -->|"{_escaped(_words(edge))}"| {numbers[edge.target]}'


def _words(edge: Edge) -> str:
    return RELATIONS.get(edge.relation, edge.relation)


def _escaped(text: str) -> str:
    """Return text as Mermaid takes it within quotes: what may mean something to it as a number of a character."""
    return _SAFE.sub(lambda found: f"#{ord(found[0])};", _one_line(text))
