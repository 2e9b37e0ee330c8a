"""Lineage as events of OpenLineage: what ran, what it read and what it made; knows no lake and no table.

A run is a run. A model version that no run made, a dataset version that was derived, and a deployment are runs too, of
jobs called `register/NAME`, `data/NAME` and `deployment/ENVIRONMENT/NAME`: their IDs are UUIDs, as a run's must be. A
model version is a dataset `models/NAME` with a facet of ours, whose schema is in `docs/openlineage/`.
See https://openlineage.io/docs/spec/object-model.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from headwater.errors import LakeError
from headwater.lineage_nodes import Graph, Node
from headwater.model import as_json

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, RunEvent

__all__ = ["MODEL_FACET", "events"]

MODEL_FACET = "https://headwater.invalid/openlineage/1-0-0/HeadwaterModelDatasetFacet.json"
"""Where the schema of the facet of model versions is named; `docs/openlineage/` has it."""

_PRODUCER = "https://headwater.invalid/headwater"
_NAMESPACE = "headwater"
_ENDS = {"finished": "COMPLETE", "failed": "FAIL", "killed": "ABORT"}


def events(graph: Graph) -> list[str]:
    """Return as JSON what happened to each thing that ran, oldest first: that it began, and how it stands or ended.

    Raises:
        LakeError: `openlineage-python` is not installed.
    """
    try:
        from openlineage.client.serde import Serde
    except ImportError as error:
        raise LakeError(
            "OpenLineage events need openlineage-python", hint="pip install 'headwater[openlineage]'"
        ) from error
    made = sorted(_Events(graph).all(), key=lambda event: (event.eventTime, event.run.runId))
    return [Serde.to_json(event) for event in made]


class _Events:
    """The events of one graph."""

    def __init__(self, graph: Graph) -> None:
        self._nodes = {node.urn: node for node in graph.nodes if not node.facts.get("unknown")}
        self._into: dict[str, list[tuple[str, Node]]] = {}
        self._out: dict[str, list[tuple[str, Node]]] = {}
        for edge in graph.edges:
            if edge.source in self._nodes and edge.target in self._nodes:
                self._into.setdefault(edge.target, []).append((edge.relation, self._nodes[edge.source]))
                self._out.setdefault(edge.source, []).append((edge.relation, self._nodes[edge.target]))

    def all(self) -> Iterator[RunEvent]:
        """Yield all events."""
        for node in self._nodes.values():
            if node.kind == "run":
                yield from self._of_run(node)
            elif node.kind == "model" and "version" in node.facts and not self._made_by_run(node):
                yield from self._of_writing(node, f"register/{node.facts['name']}")
            elif node.kind == "dataset" and self._inputs(node) and not self._made_by_run(node):
                yield from self._of_writing(node, f"data/{node.facts['name']}")
            elif node.kind == "deployment":
                yield from self._of_deployment(node)

    def _made_by_run(self, node: Node) -> bool:
        return any(relation == "produced" for relation, _ in self._into.get(node.urn, []))

    def _of_run(self, node: Node) -> Iterator[RunEvent]:
        facts = node.facts
        outputs = [self._output(there) for _, there in self._out.get(node.urn, [])]
        name = f"run/{facts['experiment']}" + (f"/{facts['name']}" if facts["name"] else "")
        yield self._event(node, name, "START", [], when=facts["started_at"])
        if facts["status"] in _ENDS:
            end = facts["ended_at"] or facts["recorded_at"]
            yield self._event(node, name, _ENDS[facts["status"]], outputs, when=max(end, facts["started_at"]))
        elif outputs:
            yield self._event(node, name, "RUNNING", outputs, when=facts["recorded_at"])

    def _of_writing(self, node: Node, name: str) -> Iterator[RunEvent]:
        # A transaction has one moment; whoever reads events expects a start and an end.
        yield self._event(node, name, "START", [])
        yield self._event(node, name, "COMPLETE", [self._output(node)])

    def _of_deployment(self, node: Node) -> Iterator[RunEvent]:
        from openlineage.client.event_v2 import OutputDataset
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        facts = node.facts
        where = f"{facts['environment']}/{facts['name']}"
        count = statistics.OutputStatisticsOutputDatasetFacet(rowCount=facts["predictions"], producer=_PRODUCER)
        made = OutputDataset(
            namespace=_NAMESPACE, name=f"predictions/{where}", outputFacets={"outputStatistics": count}
        )
        kind = "RUNNING" if facts["live"] else "COMPLETE"
        last = max(facts["last_at"] or facts["recorded_at"], facts["recorded_at"])
        yield self._event(node, f"deployment/{where}", "START", [])
        yield self._event(node, f"deployment/{where}", kind, [made], when=last)

    def _event(
        self, node: Node, job: str, kind: str, outputs: list[OutputDataset], *, when: datetime | None = None
    ) -> RunEvent:
        from openlineage.client.event_v2 import Run, RunEvent, RunState
        from openlineage.client.facet_v2 import processing_engine_run

        moment = when or node.facts["recorded_at"]
        engine = processing_engine_run.ProcessingEngineRunFacet(
            version=importlib.metadata.version("headwater"), name="headwater", producer=_PRODUCER
        )
        return RunEvent(
            eventTime=as_json(moment),
            eventType=RunState[kind],
            run=Run(runId=node.id, facets={"processing_engine": engine}),
            job=self._job(node, job),
            inputs=self._inputs(node),
            outputs=outputs,
            producer=_PRODUCER,
        )

    def _job(self, node: Node, name: str) -> Job:
        from openlineage.client.event_v2 import Job
        from openlineage.client.facet_v2 import job_type_job, source_code_location_job

        facts = node.facts
        service = node.kind == "deployment"
        facets: dict[str, Any] = {
            "jobType": job_type_job.JobTypeJobFacet(
                processingType="SERVICE" if service else "BATCH",
                integration="HEADWATER",
                jobType="MODEL" if node.kind in ("model", "deployment") else "JOB",
                producer=_PRODUCER,
            )
        }
        if facts.get("code_commit"):
            repository = facts["repository"]
            facets["sourceCodeLocation"] = source_code_location_job.SourceCodeLocationJobFacet(
                type="git",
                url=_uri(repository),
                repoUrl=repository,
                version=facts["code_commit"],
                producer=_PRODUCER,
            )
        return Job(namespace=_NAMESPACE, name=name, facets=facets)

    # -- datasets and models ------------------------------------------------------------------------------------
    def _inputs(self, node: Node) -> list[InputDataset]:
        from openlineage.client.event_v2 import InputDataset

        return [
            InputDataset(namespace=_NAMESPACE, name=_name(source), facets=self._facets(source))
            for _, source in self._into.get(node.urn, [])
            if source.kind in ("dataset", "model") and "commit" in source.facts
        ]

    def _output(self, node: Node) -> OutputDataset:
        from openlineage.client.event_v2 import OutputDataset
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        facts = node.facts
        count = statistics.OutputStatisticsOutputDatasetFacet(
            rowCount=facts.get("rows"), size=facts.get("bytes", facts.get("size")), producer=_PRODUCER
        )
        return OutputDataset(
            namespace=_NAMESPACE, name=_name(node), facets=self._facets(node), outputFacets={"outputStatistics": count}
        )

    def _facets(self, node: Node) -> dict[str, Any]:
        from openlineage.client.facet_v2 import dataset_version_dataset, datasource_dataset, schema_dataset

        facts = node.facts
        number = str(facts["semver"] if node.kind == "dataset" else facts["version"])
        where = facts.get("external_url") or f"{facts['path']}@{facts['commit']}"
        facets: dict[str, Any] = {
            "version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=number, producer=_PRODUCER),
            "dataSource": datasource_dataset.DatasourceDatasetFacet(
                name=node.urn, uri=_uri(where, "headwater:"), producer=_PRODUCER
            ),
        }
        if facts.get("schema"):
            facets["schema"] = schema_dataset.SchemaDatasetFacet(
                fields=[
                    schema_dataset.SchemaDatasetFacetFields(name=name, type=kind, ordinal_position=place)
                    for place, (name, kind) in enumerate(facts["schema"].items(), 1)
                ],
                producer=_PRODUCER,
            )
        if node.kind == "model":
            facets["headwater_model"] = _model_facet(facts)
        return facets


def _model_facet(facts: Mapping[str, Any]) -> Any:
    """Return our facet of a model version: what OpenLineage has no words for."""
    from openlineage.client.generated.base import DatasetFacet

    class HeadwaterModelDatasetFacet(DatasetFacet):
        @staticmethod
        def _get_schema() -> str:
            return f"{MODEL_FACET}#/$defs/HeadwaterModelDatasetFacet"

    names = ("name", "version", "version_id", "model_id", "commit", "stage", "aliases", "digest")
    # Every facet of OpenLineage has a `_deleted`, which means that the facet is.
    return HeadwaterModelDatasetFacet(producer=_PRODUCER).with_additional_properties(
        **{name: facts[name] for name in names}, hidden=facts["deleted"]
    )


def _name(node: Node) -> str:
    return f"{'datasets' if node.kind == 'dataset' else 'models'}/{node.facts['name']}"


def _uri(text: str, scheme: str = "") -> str:
    """Return any address as a URI: an scp-like one of Git gets its scheme, a path becomes a file's."""
    if scheme:
        return text if "://" in text else scheme + quote(text)
    if "://" in text:
        return quote(text, safe=":/?#[]@!$&'()*+,;=%~")
    host, colon, path = text.partition(":")
    if colon and "/" not in host:
        return f"ssh://{quote(host, safe='@')}/{quote(path)}"
    return "file://" + quote(text)
