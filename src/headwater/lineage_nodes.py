"""Nodes and edges of the lineage graph, and what a picture of one is drawn from; knows no lake and no table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from headwater.model import as_json

__all__ = ["RELATIONS", "Edge", "Graph", "Node", "as_document", "neighbours"]

RELATIONS = {
    "predicted": "made",
    "described": "has the features of",
    "deployed": "was deployed as",
    "produced": "made",
    "used": "was read by",
    "evaluated": "was measured on by",
    "trained": "was learned by",
    "built": "was run as",
    "derived": "became",
    "version": "version",
    "later": "later version",
    "holds": "holds",
    "part": "is part of",
}
"""What an edge says, from its source to its target, in words."""


@dataclass(frozen=True, slots=True)
class Node:
    """A thing with a place in the lineage.

    Attributes:
        urn: How it is written, with names and numbers.
        kind: One of `urns.KINDS`.
        id: Its ID; for code and objects the commit.
        label: A few words that tell it from others of its kind.
        facts: What is known of it, under the names of the tables' columns.
    """

    urn: str
    kind: str
    id: str
    label: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Edge:
    """That something flowed from one node to another; both by URN."""

    source: str
    relation: str
    target: str


class Graph(Protocol):
    """What is drawn: a root, everything that it came from (or that came of it), and how."""

    @property
    def root(self) -> str:
        """The URN that was asked about."""

    @property
    def direction(self) -> str:
        """`up` for what it came from, `down` for what came of it."""

    @property
    def nodes(self) -> Sequence[Node]:
        """The root and all others."""

    @property
    def edges(self) -> Sequence[Edge]:
        """What flowed from which node to which."""

    @property
    def totals(self) -> Mapping[str, int]:
        """How many there are of each kind."""

    @property
    def notes(self) -> Sequence[str]:
        """What else has to be said."""


_ORDER = ("predicted", "described", "version", "later", "deployed", "produced", "holds", "part", "derived", "built")


def neighbours(graph: Graph) -> dict[str, list[tuple[str, str]]]:
    """Return for each node where the walk goes on from it: (relation, URN), the most telling relation first."""
    found: dict[str, list[tuple[str, str]]] = {node.urn: [] for node in graph.nodes}
    for edge in graph.edges:
        here, there = (edge.target, edge.source) if graph.direction == "up" else (edge.source, edge.target)
        found[here].append((edge.relation, there))
    rank = {relation: place for place, relation in enumerate(_ORDER)}
    for each in found.values():
        each.sort(key=lambda way: rank.get(way[0], len(rank)))
    return found


def as_document(graph: Graph) -> dict[str, Any]:
    """Return a graph as what `json.dumps` takes: facts lie beside `urn`, `kind`, `id` and `label`."""
    return {
        "root": graph.root,
        "direction": graph.direction,
        "nodes": [
            {**as_json(node.facts), "urn": node.urn, "kind": node.kind, "id": node.id, "label": node.label}
            for node in graph.nodes
        ],
        "edges": [as_json(edge) for edge in graph.edges],
        "totals": dict(graph.totals),
        "notes": list(graph.notes),
    }
