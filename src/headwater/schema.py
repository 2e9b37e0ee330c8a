"""Every table's columns in one place: name, type, whether it may be null, and what it means; knows no storage.

A column is kept once it is released: `docs/tables.md` is generated from here and is a contract. Arrow is imported only
when a schema is asked for, so that whoever needs names alone starts fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TABLES", "Column", "Table", "arrow_schema"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, the name of its type (see `_arrow_types`), what it means, and whether it may be null."""

    name: str
    type: str
    meaning: str
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table: a grow-only set of rows, equal where their keys are equal."""

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    prune: tuple[str, ...] = ()
    """Columns whose range in each file is kept at hand, so that files which cannot hold a row are not read."""
    row_group: int = 1 << 20
    """Rows of a row group: small where single rows are looked up by ID among very many."""

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return [column.name for column in self.columns]


def _table(
    name: str,
    meaning: str,
    key: tuple[str, ...],
    *columns: Column,
    prune: tuple[str, ...] = (),
    row_group: int = 1 << 20,
) -> Table:
    common = (
        Column("tx", "string", "UUIDv7 of the transaction that wrote the row; `lake.commits` has its commit", False),
        Column("recorded_at", "timestamp", "when the transaction was made, UTC, microseconds", False),
        Column("actor", "string", "who acted", False),
    )
    return Table(name, meaning, key, common + columns, prune, row_group)


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        _table(
            "models",
            "a registered model exists; its name is an event of kind `name`",
            ("model_id",),
            Column("model_id", "string", "UUIDv7; the same for one name on every branch", False),
        ),
        _table(
            "model_versions",
            "a version of a registered model",
            ("version_id",),
            Column("version_id", "string", "UUIDv7", False),
            Column("model_id", "string", "the registered model", False),
            Column("version", "int64", "its number, cut once for the whole lake", False),
            Column("run_id", "string", "the run that made it"),
            Column("path", "string", "folder of the artifact in the lake, ends in `/`; null for an external one"),
            Column("digest", "string", "sha256 of the file, or of the folder's sorted `sha256sum` listing", False),
            Column("size", "int64", "bytes of all files together; null where an external artifact was not fetched"),
            Column("files", "files", "every file: path under `path`, size in bytes, sha256", False),
            Column("external_url", "string", "where an artifact that is not in the lake lives"),
            Column("flavors", "strings", "formats recognised in the artifact, such as `pickle` or `onnx`", False),
            Column("signature", "string", "input and output schema as JSON"),
            Column("code", "code", "the source code in use; `patch` is the sha256 of what was not committed"),
            Column("environment", "environment", "Python, platform, and sha256 of the list of installed packages"),
            Column("base_version_id", "string", "the version that this one was made from"),
            Column("description", "string", "the description given at registration; later ones are events"),
            Column("params", "map", "parameters given at registration", False),
            Column("tags", "map", "tags given at registration; later changes are events", False),
            Column("missing", "strings", "what it can't be reproduced without, a sentence each; empty where it can be"),
            prune=("version_id",),
        ),
        _table(
            "runs",
            "a run began; how it stands and ended is events of kind `status`",
            ("run_id",),
            Column("run_id", "string", "UUIDv7", False),
            Column("name", "string", "what its author calls it"),
            Column("experiment", "string", "the group of runs that it belongs to", False),
            Column("parent_run_id", "string", "the run that it is a part of"),
            Column("command", "strings", "the command line, program first; null where there is none, as in a notebook"),
            Column("folder", "string", "the folder it ran in, from the root of the code's repository, or absolute"),
            Column("code", "code", "the source code in use; `patch` is the sha256 of what was not committed"),
            Column("environment", "environment", "Python, platform, and sha256 of the list of installed packages"),
            Column("host", "string", "name of the machine"),
            Column("seeds", "map", "variables that seed random numbers, such as `PYTHONHASHSEED`", False),
            Column("started_at", "timestamp", "when it began, UTC, microseconds", False),
            Column("params", "map", "parameters given at its start; later ones are events", False),
            Column("tags", "map", "tags given at its start; later changes are events", False),
            Column("description", "string", "what it is"),
            Column("missing", "strings", "what it can't be reproduced without, a sentence each; empty where it can be"),
        ),
        _table(
            "metrics",
            "a value measured for a run or a model version",
            ("tx", "ordinal"),
            Column("ordinal", "int32", "position in the transaction, from 0", False),
            Column("run_id", "string", "the run that it was measured in"),
            Column("version_id", "string", "the model version that it was measured of"),
            Column("key", "string", "the metric's name", False),
            Column("step", "int64", "the training step, from 0; null where there are no steps"),
            Column("value", "double", "the value; may be NaN or infinite", False),
            Column("slice", "string", "`column=value,...`, columns sorted; empty for all rows together", False),
            Column("dataset_id", "string", "the dataset version that it was measured on"),
            Column("source", "string", "`claimed` by whoever logged it, or `computed` by Headwater", False),
            prune=("run_id", "version_id", "key"),
            row_group=1 << 17,
        ),
        _table(
            "datasets",
            "a dataset version",
            ("dataset_id",),
            Column("dataset_id", "string", "UUIDv7 of the dataset version", False),
            Column("name", "string", "the dataset's name", False),
            Column("semver", "string", "its semantic version, computed from the difference to its base", False),
            Column("path", "string", "folder of the data in the lake, ends in `/`", False),
            Column("digest", "string", "sha256 of the file, or of the folder's sorted `sha256sum` listing", False),
            Column("rows", "int64", "number of rows; null for a folder of anything"),
            Column("bytes", "int64", "bytes of all files together", False),
            Column("files", "files", "every file: path under `path`, size in bytes, sha256", False),
            Column("format", "string", "`parquet`, `csv`, `json`, `arrow`, `delta`; `files` that are no table", False),
            Column("schema", "string", "columns and types as a JSON object, in order; null for a folder of anything"),
            Column("key", "strings", "columns that identify a row", False),
            Column("content", "string", "digest of the multiset of rows: the sum of the MD5 of each row's text"),
            Column("base_dataset_id", "string", "the dataset version that it was compared with"),
            Column("added", "int64", "rows (files of a folder of anything) that the base lacks"),
            Column("removed", "int64", "rows of the base that are gone"),
            Column("changed", "int64", "rows whose key the base has with other values"),
            Column("changes", "string", "what changed from the base, as JSON: columns, and a few rows of each kind"),
            Column("description", "string", "what it is"),
            Column("profile", "string", "type, least, greatest, nulls and distinct values of each column, as JSON"),
            Column("origin", "string", "where it came from, as JSON: a DVC file, or a path of this lake"),
            Column("data_commit", "string", "the commit at which `path` is read, where that is not the row's own"),
        ),
        _table(
            "lineage",
            "an edge of the lineage graph; URNs hold IDs, the flow is from source to target",
            ("source", "relation", "target"),
            Column("source", "string", "URN upstream: `dataset:ID`, `run:ID`, `code:REPO@SHA`, `model:ID`", False),
            Column("relation", "string", "`trained`, `used`, `evaluated`, `produced`, `built`, `derived`, ...", False),
            Column("target", "string", "URN downstream", False),
        ),
        _table(
            "events",
            "a change of something that can change; the state is what no event supersedes",
            ("event_id",),
            Column("event_id", "string", "UUIDv7", False),
            Column("subject", "string", "ID of the model, version, run, dataset, deployment or transaction", False),
            Column("kind", "string", "`name`, `alias`, `tag`, `description`, `tombstone`, ...", False),
            Column("key", "string", "which of them: the alias, the tag's key; empty where there is one", False),
            Column("value", "string", "the new value; null takes it away"),
            Column("prev", "strings", "the events of this subject, kind and key that this one replaces", False),
            Column("reason", "string", "why, in the actor's words"),
            Column("signature", "string", "Ed25519 signature of the event's canonical content"),
        ),
        _table(
            "deployments",
            "a model version was deployed to an environment; its traffic and end are events of kind `traffic`",
            ("deployment_id",),
            Column("deployment_id", "string", "UUIDv7", False),
            Column("model_id", "string", "the registered model", False),
            Column("version_id", "string", "the model version", False),
            Column("environment", "string", "where to, such as `production`", False),
            Column("mode", "string", "`live`, `canary` or `shadow`", False),
            Column("traffic", "double", "percent of the environment's requests that it was deployed for"),
        ),
        _table(
            "predictions",
            "a prediction that a deployment made",
            ("prediction_id",),
            Column("prediction_id", "string", "UUIDv7; its time is `predicted_at`, to the millisecond", False),
            Column("predicted_at", "timestamp", "when it was made, UTC, microseconds", False),
            Column("deployment_id", "string", "the deployment that made it", False),
            Column("version_id", "string", "the model version that made it", False),
            Column("external_id", "string", "the caller's own ID of it"),
            Column("input", "string", "the features, as a JSON object"),
            Column("dataset_id", "string", "instead: the dataset version that holds the features"),
            Column("row_key", "string", "and the row's key in it, as a JSON object"),
            Column("output", "string", "what was predicted, as text"),
            Column("score", "double", "how sure, or the number that was predicted"),
            Column("latency_ms", "double", "how long it took, milliseconds"),
            prune=("prediction_id", "predicted_at", "deployment_id", "version_id"),
            row_group=1 << 15,
        ),
        _table(
            "outcomes",
            "what proved true of a prediction, known later; where there are several, the last observed stands",
            ("prediction_id", "tx"),
            Column("prediction_id", "string", "the prediction", False),
            Column("label", "string", "what was true, as text"),
            Column("observed_at", "timestamp", "when that was known, UTC, microseconds", False),
            prune=("prediction_id", "observed_at"),
            row_group=1 << 15,
        ),
        _table(
            "batches",
            "a file or spool segment of predictions or outcomes was taken in; none is taken in twice",
            ("deployment_id", "digest"),
            Column("deployment_id", "string", "the deployment; empty for outcomes", False),
            Column("digest", "string", "sha256 of the file or segment", False),
            Column("rows", "int64", "rows that it added", False),
            Column("source", "string", "the file's name, or `spool`", False),
            Column("version_id", "string", "the model version that made the predictions"),
            Column("first_at", "timestamp", "the earliest `predicted_at` or `observed_at` in it"),
            Column("last_at", "timestamp", "the latest"),
        ),
    )
}


@cache
def _arrow_types() -> dict[str, pa.DataType]:
    import pyarrow as pa

    return {
        "string": pa.string(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "timestamp": pa.timestamp("us", tz="UTC"),
        "strings": pa.list_(pa.string()),
        "map": pa.map_(pa.string(), pa.string()),
        "files": pa.list_(
            pa.struct([("path", pa.string()), ("size", pa.int64()), ("sha256", pa.string())]),
        ),
        "code": pa.struct(
            [
                ("repository", pa.string()),
                ("commit", pa.string()),
                ("branch", pa.string()),
                ("tags", pa.list_(pa.string())),
                ("dirty", pa.bool_()),
                ("patch", pa.string()),
                ("folder", pa.string()),
            ]
        ),
        "environment": pa.struct([("python", pa.string()), ("platform", pa.string()), ("packages", pa.string())]),
    }


@cache
def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of a table of `TABLES`."""
    import pyarrow as pa

    types = _arrow_types()
    return pa.schema([pa.field(c.name, types[c.type], c.nullable) for c in TABLES[table].columns])
