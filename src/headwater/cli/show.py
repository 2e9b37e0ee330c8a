"""The command `show`: all about one thing, whatever it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from headwater.cli.base import Session, argument, command
from headwater.cli.layout import count, fields, moment, pairs, paragraph, size, table, verdict
from headwater.cli.output import dim, strong
from headwater.names import parse_model, quote
from headwater.urns import kind_of

if TYPE_CHECKING:
    from headwater.model import DatasetVersion, Metric, Model, ModelVersion
    from headwater.registry import Registry

__all__ = ["dataset_lines", "show", "show_dataset"]


@command(
    "show",
    ref=True,
    example="""\
headwater show flight-delay
headwater show flight-delay@champion
headwater show flights@1.1.0
headwater show run:0192d3f1""",
)
@argument("reference", "REF", complete="anything")
def show(session: Session, reference: str) -> None:
    """Show all about a model, version, dataset, or any URN.

    REF is flight-delay, flight-delay/7, flight-delay@champion, flights, flights@1.1.0, or a URN such as
    model:flight-delay/7, dataset:flights@1.1.0, run:ID, deployment:ID, prediction:ID, code:REPOSITORY@COMMIT or
    object:PATH@COMMIT.
    """
    with session.open() as registry:
        if reference.startswith("run:"):
            from headwater.cli.runs import show_run

            show_run(session, registry, reference)
            return
        if reference.startswith("deployment:"):
            from headwater.cli.serving import show_deployment

            show_deployment(session, registry, reference)
            return
        if reference.startswith("prediction:"):
            from headwater.cli.predictions import show_prediction

            show_prediction(session, registry, reference)
            return
        if kind_of(reference) not in ("", "model", "dataset"):
            _show_node(session, registry, reference)
            return
        if registry.is_dataset(reference):
            show_dataset(session, registry, reference)
            return
        ref = parse_model(reference)
        if ref.version is None and ref.alias is None:
            model = registry.model(reference)
            session.emit(model, lambda: _model_lines(model))
        else:
            _show_version(session, registry, registry.get(reference))


def _show_node(session: Session, registry: Registry, urn: str) -> None:
    """Print what is known of anything else that has a place in the lineage."""
    from headwater.model import as_json

    graph = registry.trace(urn)
    node = graph.node(graph.root)
    document = {**as_json(node.facts), "urn": node.urn, "kind": node.kind, "id": node.id}

    def lines() -> Iterator[str]:
        yield strong(node.urn)
        yield from fields([(name.replace("_", " "), _shown(value)) for name, value in node.facts.items()])

    session.emit(document, lines)


def _shown(value: Any) -> str:
    from datetime import datetime

    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{moment(value)} UTC"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _model_lines(model: Model) -> Iterator[str]:
    yield strong(quote(model.name))
    if model.description:
        yield from paragraph(model.description)
    newest = f", the newest {model.latest_version}" if model.latest_version is not None else ""
    yield from fields(
        [
            ("versions", f"{model.versions}{newest}"),
            ("aliases", pairs(model.aliases.items())),
            ("tags", pairs(model.tags.items())),
            ("registered", f"{moment(model.recorded_at)} UTC by {model.actor}"),
            ("commit", model.commit),
            ("id", model.model_id),
        ]
    )


# -- versions ---------------------------------------------------------------------------------------------------------
def _show_version(session: Session, registry: Registry, version: ModelVersion) -> None:
    from headwater.model import as_json

    metrics = registry.metrics(version.reference)
    files = registry.files(version.reference)
    trained_on = registry.trained_on(version.reference)
    document = {
        **as_json(version),
        "metrics": {each.key: each.value for each in metrics if not each.slice},
        "slice_metrics": [{"key": m.key, "slice": m.slice, "value": m.value} for m in metrics if m.slice],
        "datasets": trained_on,
        "files": files,
    }

    def lines() -> Iterable[str]:
        yield strong(version.reference) + (f"  {dim(' '.join(version.aliases))}" if version.aliases else "")
        if version.description:
            yield from paragraph(version.description)
        yield from fields(
            [
                ("registered", f"{moment(version.recorded_at)} UTC by {version.actor}"),
                ("signed", _NOT_REGISTERED if version.registered is False else ""),
                ("commit", version.commit),
                ("id", version.version_id),
                ("stage", version.stage if version.stage != "none" else ""),
                ("at", version.external_url),
                ("size", f"{size(version.size)} in {count(len(files), 'file')}" if files else ""),
                ("sha256", version.digest),
                ("formats", ", ".join(version.flavors)),
                ("trained on", ", ".join(trained_on)),
                ("run", version.run_id),
                ("code", _code(version.code)),
                ("python", _environment(version.environment)),
                ("reproducible", verdict(version.missing)),
                ("params", pairs(version.params.items())),
                ("tags", pairs(version.tags.items())),
            ]
        )
        if metrics:
            yield ""
            yield from _metric_lines(metrics)
        if files:
            yield ""
            rows = [(size(file.size), file.sha256[:12], file.path) for file in files]
            yield from table(("size", "sha256", "file"), rows, right=("size",), first=False)

    session.emit(document, lines)


_NOT_REGISTERED = "no: nobody who may register it signed for it, so it can't be staged, promoted or deployed"


def _metric_lines(metrics: list[Metric]) -> list[str]:
    overall = sorted(metrics, key=lambda each: (each.key, each.slice))
    sliced = any(each.slice for each in metrics)
    rows = [(each.key, f"{each.value:.6g}", each.slice)[: 3 if sliced else 2] for each in overall]
    return table(("metric", "value", "on")[: 3 if sliced else 2], rows, right=("value",), first=False)


def _code(code: Any) -> str:
    if code is None:
        return ""
    where = [code["commit"][:12]] if code["commit"] else []
    where += [code["branch"]] if code["branch"] else []
    where += [*code["tags"], *(["with changes"] if code["dirty"] else [])]
    return f"{code['repository']} ({', '.join(where)})" if where else str(code["repository"])


def _environment(environment: Any) -> str:
    return f"{environment['python']} on {environment['platform']}" if environment is not None else ""


# -- datasets ---------------------------------------------------------------------------------------------------------
def show_dataset(session: Session, registry: Registry, reference: str) -> None:
    """Print all about a dataset version, or the newest one of a dataset."""
    found = registry.dataset(reference)
    session.emit(found, lambda: dataset_lines(found))


def dataset_lines(dataset: DatasetVersion) -> Iterator[str]:
    """Yield what there is to say about a dataset version."""
    yield strong(dataset.reference)
    if dataset.description:
        yield from paragraph(dataset.description)
    counted = [(dataset.added, "added"), (dataset.removed, "removed"), (dataset.changed, "changed")]
    yield from fields(
        [
            ("rows", f"{dataset.rows:,}" if dataset.rows is not None else ""),
            ("size", size(dataset.bytes)),
            ("changes", ", ".join(f"{number:,} {what}" for number, what in counted if number is not None)),
            ("key", ", ".join(dataset.key)),
            ("derived from", ", ".join(dataset.derived_from)),
            ("origin", _origin(dataset.origin)),
            ("read at", dataset.data_commit),
            ("added", f"{moment(dataset.recorded_at)} UTC by {dataset.actor}"),
            ("commit", dataset.commit),
            ("sha256", dataset.digest),
            ("id", dataset.dataset_id),
        ]
    )
    if dataset.schema:
        yield ""
        if dataset.profile is None:
            yield from table(("column", "type"), dataset.schema.items(), first=False)
        else:
            yield from _profile_lines(dataset.schema, dataset.profile)


def _origin(origin: Any) -> str:
    """Return where a dataset came from, in a line."""
    if origin is None:
        return ""
    if origin["kind"] == "lake":
        return f"{origin['path']} of {origin['ref']} in this lake"
    at = f" at {origin['commit'][:12]}" if origin["commit"] else ""
    edited = " with changes" if origin["dirty"] else ""
    where = f" in {origin['repository']}{at}{edited}" if origin["repository"] else ""
    return f"DVC's {origin['file']} (MD5 {origin['md5']}){where}"


def _profile_lines(schema: Mapping[str, str], profile: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, type_ in schema.items():
        told = profile.get(name, {})
        least, most = (_shortened(told.get(each)) for each in ("min", "max"))
        distinct = told.get("approx_distinct")
        counted = [f"{number:,}" if number is not None else "" for number in (told.get("nulls"), distinct)]
        rows.append((name, _shortened(type_), least, most, *counted))
    return table(
        ("column", "type", "min", "max", "nulls", "≈ distinct"), rows, right=("nulls", "≈ distinct"), first=False
    )


def _shortened(value: Any) -> str:
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 32 else text[:29] + "..."
