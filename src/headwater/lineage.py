"""The lineage graph: what a thing came from, and what came of it; walks edges and reads no data but what rows ask for.

Every walk keeps what it has seen, so a cycle ends it, and goes level by level, so no depth is too deep.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headwater.context import Context
from headwater.errors import InvalidInputError
from headwater.lineage_facts import Facts, chunks
from headwater.lineage_nodes import Edge, Node, as_document
from headwater.lineage_roots import Start, find_start
from headwater.state import Fold
from headwater.tombstones import visible
from headwater.urns import kind_of

if TYPE_CHECKING:
    from headwater.lineage_rows import Holdings

__all__ = ["Lineage", "Tracing"]

_MANY = 10_000

Link = tuple[str, str, str]
"""Source, relation and target, by stored URN."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a thing came from, or what came of it; shows itself as a picture in a notebook and as a tree in text.

    Attributes:
        root: The URN that was asked about.
        direction: `up` for what it came from, `down` for what came of it.
        nodes: The root, then the others, nearer ones first.
        edges: What flowed from which node to which, by URN.
        totals: How many there are of each kind, the root left out; of what came of it also the predictions.
        notes: What else has to be said, a sentence each.
        files_read: Files of predictions that were read to find the root, of `files_total`.
    """

    root: str
    direction: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    totals: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files_read: int = 0
    files_total: int = 0

    def node(self, urn: str) -> Node:
        """Return the node of a URN as it is written in `nodes`.

        Raises:
            KeyError: It is not in the graph.
        """
        for each in self.nodes:
            if each.urn == urn:
                return each
        raise KeyError(urn)

    def document(self) -> dict[str, Any]:
        """Return all of it as what `json.dumps` takes, facts under the names of the tables' columns."""
        return {**as_document(self), "files_read": self.files_read, "files_total": self.files_total}

    def render(self, form: str = "tree") -> str:
        """Return it as text.

        Args:
            form: `tree`, `json`, `mermaid`, `svg` or `openlineage` (an event of OpenLineage on each line).

        Raises:
            InvalidInputError: There is no such form.
            LakeError: `openlineage` is asked for, and its package is not installed.
        """
        return render(self, form)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return self.render("tree")

    def _repr_svg_(self) -> str | None:
        from headwater.lineage_svg import LARGEST

        return self.render("svg") if len(self.nodes) <= LARGEST else None

    def _repr_html_(self) -> str | None:
        picture = self._repr_svg_()
        return f'<div style="overflow:auto">{picture}</div>' if picture is not None else None


FORMS = ("tree", "json", "mermaid", "svg", "openlineage")
"""What `Lineage.render` knows."""


def render(lineage: Lineage, form: str) -> str:
    """Return a lineage as text. See `Lineage.render`."""
    if form == "tree":
        from headwater.lineage_text import tree

        return tree(lineage)
    if form == "json":
        import json

        return json.dumps(lineage.document(), ensure_ascii=False, indent=2)
    if form == "mermaid":
        from headwater.lineage_text import mermaid

        return mermaid(lineage)
    if form == "svg":
        from headwater.lineage_svg import svg

        return svg(lineage)
    if form == "openlineage":
        from headwater.openlineage import events

        return "\n".join(events(lineage))
    raise InvalidInputError(f"there is no form {form!r} of a lineage", hint=f"the forms are {', '.join(FORMS)}")


class Tracing:
    """The service that walks the lineage.

    Args:
        context: What to work with.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def trace(self, urn: str) -> Lineage:
        """Return everything that a thing came from. See `Registry.trace`."""
        with self._context.reading() as fold:
            start = find_start(self._context, fold, urn)
            first = [(source, relation, start.key) for source, relation in start.upstream]
            first += [(owner, "holds", start.key) for owner in start.owners]
            first += [(version, "version", start.key) for version in _versions_of(fold, start.key)]
            walk = _Walk(start.key, "up")
            walk.go(lambda keys: _upstream(fold, keys), first)
            return _lineage(fold, start, walk)

    def impact(self, urn: str, rows: str | None = None) -> Lineage:
        """Return everything that came of a thing, or of some of its rows. See `Registry.impact`."""
        if rows is not None:
            return self._impact_of_rows(urn, rows)
        with self._context.reading() as fold:
            start = find_start(self._context, fold, urn)
            first = [(start.key, "part", owner) for owner in start.owners]
            first += [(start.key, "version", version) for version in _versions_of(fold, start.key)]
            walk = _Walk(start.key, "down")
            walk.go(lambda keys: _downstream(fold, keys), first)
            return _lineage(fold, start, walk)

    def _impact_of_rows(self, urn: str, condition: str) -> Lineage:
        from headwater.lineage_rows import Holdings, later_versions

        with self._context.reading() as fold:
            start = find_start(self._context, fold, urn)
            if kind_of(start.key) != "dataset":
                raise InvalidInputError(f"{urn} has no rows", hint="rows are asked of a dataset version")
            root = start.key
            # Rows may be in this version, in later ones of the dataset, and in what was derived from any of these.
            later = [(root, "later", each) for each in later_versions(fold, root)]
            every = _Walk(root, "down")
            every.go(lambda keys: _downstream(fold, keys), later)
            asked = [key for key in every.order if kind_of(key) == "dataset" and _is_known(fold, key)]
            holdings = Holdings(self._context.lake, condition)
            holdings.ask(fold, asked)

            def step(keys: list[str]) -> list[Link]:
                # What learned from a version without such rows did not learn from them.
                return _downstream(fold, [k for k in keys if kind_of(k) != "dataset" or holdings.rows.get(k)])

            walk = _Walk(root, "down")
            # A later version without such rows is not downstream of them; one that can't be asked is said to be so.
            walk.go(step, [link for link in later if holdings.rows.get(link[2], 1)])
            for key in asked:
                if holdings.rows.get(key) and key not in walk.order:
                    walk.go(step, [(root, "derived", key)])
            return _lineage(fold, start, walk, holdings)


class _Walk:
    """What was reached from a root, nearer nodes first, and along which edges."""

    def __init__(self, root: str, direction: str) -> None:
        self.direction = direction
        self.order: dict[str, None] = {root: None}
        self.links: dict[Link, None] = {}
        self._frontier = [root]
        self._idle: set[str] = set()

    def go(self, step: Callable[[list[str]], Iterable[Link]], first: Iterable[Link] = ()) -> None:
        """Walk until nothing new is reached; `step` returns the edges that go on from some nodes."""
        links: Iterable[Link] = [*first, *step(self._frontier)]
        while True:
            self._frontier = []
            for link in links:
                self.links[link] = None
                reached = link[0] if self.direction == "up" else link[2]
                # What a run made did not come of the data that it was only measured on.
                idle = self.direction == "down" and link[1] == "evaluated"
                if reached in self._idle and not idle:
                    self._idle.discard(reached)
                    self._frontier.append(reached)
                elif reached not in self.order:
                    self.order[reached] = None
                    self._idle.add(reached) if idle else self._frontier.append(reached)
            if not self._frontier:
                return
            links = step(self._frontier)


def _upstream(fold: Fold, keys: list[str]) -> list[Link]:
    """Return the edges into some nodes."""
    found: list[Link] = []
    for marks, part in chunks(keys):
        found += fold.rows(
            f"SELECT source, relation, target FROM lineage l WHERE target IN ({marks}) AND {visible('l.tx')}"
            " ORDER BY target, source",
            *part,
        )
    for marks, part in chunks(_ids(keys, "deployment")):
        found += fold.rows(
            "SELECT 'model:' || version_id, 'deployed', 'deployment:' || deployment_id FROM deployments"
            f" WHERE deployment_id IN ({marks})",
            *part,
        )
    return found


def _downstream(fold: Fold, keys: list[str]) -> list[Link]:
    """Return the edges out of some nodes."""
    found: list[Link] = []
    for marks, part in chunks(keys):
        found += fold.rows(
            f"SELECT source, relation, target FROM lineage l WHERE source IN ({marks}) AND {visible('l.tx')}"
            " ORDER BY source, target",
            *part,
        )
    for marks, part in chunks(_ids(keys, "model")):
        found += fold.rows(
            "SELECT 'model:' || version_id, 'deployed', 'deployment:' || deployment_id FROM deployments"
            f" d WHERE version_id IN ({marks}) AND {visible('d.deployment_id')} ORDER BY deployment_id",
            *part,
        )
    return found


def _is_known(fold: Fold, dataset: str) -> bool:
    return fold.one("SELECT 1 FROM datasets WHERE dataset_id = ?", dataset.partition(":")[2]) is not None


def _ids(keys: Iterable[str], kind: str) -> list[str]:
    return [key[len(kind) + 1 :] for key in keys if key.startswith(f"{kind}:")]


def _versions_of(fold: Fold, key: str) -> list[str]:
    """Return the stored URNs of a registered model's versions, newest first; none of anything else."""
    if not key.startswith("models:"):
        return []
    rows = fold.rows("SELECT version_id FROM versions WHERE model_id = ? ORDER BY version DESC", key.partition(":")[2])
    return [f"model:{each}" for (each,) in rows]


def _lineage(fold: Fold, start: Start, walk: _Walk, holdings: Holdings | None = None) -> Lineage:
    known = {start.key: start.node} if start.node is not None else {}
    with _uncollected(len(walk.order)):
        nodes = Facts(fold, start.moment).nodes(walk.order, known)
    notes: tuple[str, ...] = ()
    if start.files_total:
        notes = (f"{start.files_read:,} of {start.files_total:,} files of predictions were read",)
    if holdings is not None:
        nodes = {key: holdings.told(key, node) for key, node in nodes.items()}
        notes = holdings.notes(fold)
    edges = tuple(Edge(nodes[source].urn, relation, nodes[target].urn) for source, relation, target in walk.links)
    return Lineage(
        root=nodes[start.key].urn,
        direction=walk.direction,
        nodes=tuple(nodes.values()),
        edges=edges,
        totals=_totals(start.key, nodes, walk.direction),
        notes=notes,
        files_read=start.files_read,
        files_total=start.files_total,
    )


@contextmanager
def _uncollected(count: int) -> Iterator[None]:
    """Keep Python from looking for garbage where very many things are made of which none is any: it takes as long."""
    ours = count > _MANY and gc.isenabled()
    if ours:
        gc.disable()
    try:
        yield
    finally:
        if ours:
            gc.enable()


def _totals(root: str, nodes: Mapping[str, Node], direction: str) -> dict[str, int]:
    others = [node for key, node in nodes.items() if key != root]
    names = {"dataset": "datasets", "run": "runs", "model": "versions", "deployment": "deployments", "code": "code"}
    found = {plural: sum(node.kind == kind for node in others) for kind, plural in names.items()}
    if direction == "down":
        serving = [node for node in nodes.values() if node.kind == "deployment"]
        found["live_deployments"] = sum(bool(node.facts.get("live")) for node in serving)
        found["predictions"] = sum(node.facts.get("predictions", 0) for node in serving)
    return {name: count for name, count in found.items() if count or name in ("predictions", "live_deployments")}
