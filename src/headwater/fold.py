"""Folding rows and commits into the SQLite tables of a state; knows no lake and no files but that one.

Rows come in any order and more than once with the same result, because tables are sets and an event names what it
supersedes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headwater.deltalog import TableFiles
from headwater.errors import IntegrityError
from headwater.lake.base import AT, Commit
from headwater.names import shown
from headwater.signatures import EVENTS
from headwater.spine import KIND, TX, landings_of
from headwater.verdicts import unfold_refused

__all__ = [
    "ACTOR",
    "FOLDED",
    "FORMAT",
    "KIND",
    "LANDED",
    "SCHEMA",
    "SUBJECT",
    "TX",
    "clashes",
    "entries_of",
    "fold_commits",
    "fold_files",
    "fold_rows",
    "unfold_commits",
    "unfold_events",
    "unfold_rows",
    "unfolded_columns",
    "wipe",
]

LANDED = "headwater.landed"
"""Commit metadata of a merge: the transaction that it brought to the branch."""

SUBJECT, ACTOR = "headwater.subject", "headwater.actor"

_COLUMNS = frozenset({TX, LANDED, KIND, SUBJECT, ACTOR, AT, EVENTS})

FORMAT = 9
"""The layout of a folded state; one of another layout is made anew."""

SCHEMA = f"""
CREATE TABLE info (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE logs (name TEXT PRIMARY KEY, version INTEGER, checkpoint INTEGER) WITHOUT ROWID;
CREATE TABLE files (
    name TEXT, path TEXT, size INTEGER, rows INTEGER, ranges TEXT, PRIMARY KEY (name, path)) WITHOUT ROWID;
CREATE TABLE commits (
    id TEXT PRIMARY KEY, tx TEXT, micros INTEGER, kind TEXT, subject TEXT, actor TEXT, message TEXT, parents TEXT,
    landed TEXT, landed_micros INTEGER, position INTEGER, brought TEXT, metadata TEXT,
    events TEXT);
CREATE INDEX commits_tx ON commits (tx) WHERE tx IS NOT NULL;
CREATE INDEX commits_position ON commits (position);
CREATE TABLE models (model_id TEXT PRIMARY KEY, tx TEXT, recorded_at INTEGER, actor TEXT) WITHOUT ROWID;
CREATE TABLE versions (
    version_id TEXT PRIMARY KEY, model_id TEXT, version INTEGER, tx TEXT, row TEXT, files TEXT);
CREATE TABLE clashing (version_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE INDEX versions_number ON versions (model_id, version);
CREATE TABLE datasets (dataset_id TEXT PRIMARY KEY, name TEXT, semver TEXT, tx TEXT, row TEXT, files TEXT);
CREATE INDEX datasets_name ON datasets (name, semver);
CREATE TABLE events (
    event_id TEXT PRIMARY KEY, subject TEXT, kind TEXT, key TEXT, value TEXT, prev TEXT, reason TEXT, tx TEXT,
    recorded_at INTEGER, actor TEXT, standing INTEGER, seal TEXT);
CREATE INDEX events_standing ON events (subject, kind, key) WHERE standing;
CREATE INDEX events_value ON events (kind, value) WHERE standing;
CREATE INDEX events_subject ON events (subject);
CREATE INDEX events_named ON events (subject) WHERE kind = 'name';
CREATE INDEX events_called ON events (value) WHERE kind = 'name';
CREATE INDEX events_tx ON events (tx);
CREATE INDEX events_decided ON events (kind, tx) WHERE kind IN ('approval', 'refusal', 'stage', 'traffic');
CREATE TABLE superseded (event_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE refused (
    event_id TEXT, seal TEXT, tx TEXT, reason TEXT, alarm INTEGER, stray INTEGER, subject TEXT, kind TEXT, key TEXT,
    row TEXT, PRIMARY KEY (event_id, seal)) WITHOUT ROWID;
CREATE TABLE lines (position INTEGER PRIMARY KEY, branch TEXT);
CREATE TABLE runs (run_id TEXT PRIMARY KEY, experiment TEXT, parent_run_id TEXT, tx TEXT, row TEXT);
CREATE INDEX runs_experiment ON runs (experiment);
CREATE INDEX runs_parent ON runs (parent_run_id) WHERE parent_run_id IS NOT NULL;
CREATE TABLE lineage (
    source TEXT, relation TEXT, target TEXT, tx TEXT, PRIMARY KEY (source, relation, target, tx)) WITHOUT ROWID;
CREATE INDEX lineage_target ON lineage (target);
CREATE TABLE deployments (
    deployment_id TEXT PRIMARY KEY, model_id TEXT, version_id TEXT, environment TEXT, mode TEXT, traffic REAL,
    tx TEXT, recorded_at INTEGER, actor TEXT);
CREATE INDEX deployments_version ON deployments (version_id);
CREATE TABLE batches (
    deployment_id TEXT, digest TEXT, rows INTEGER, source TEXT, version_id TEXT, first_at INTEGER, last_at INTEGER,
    tx TEXT, PRIMARY KEY (deployment_id, digest, tx)) WITHOUT ROWID;
CREATE TABLE twice (deployment_id TEXT, digest TEXT, PRIMARY KEY (deployment_id, digest)) WITHOUT ROWID;
INSERT INTO info VALUES ('format', {FORMAT});
"""

FOLDED = ("models", "model_versions", "datasets", "events", "runs", "lineage", "deployments", "batches")
"""Tables whose rows are folded."""


def wipe(connection: sqlite3.Connection) -> None:
    """Forget everything that was folded."""
    connection.execute("DELETE FROM info WHERE key <> 'format'")
    for name in (
        *("logs", "files", "commits", "models", "versions", "clashing", "datasets", "events", "superseded"),
        *("refused", "lines", "runs", "lineage", "deployments", "batches", "twice"),
    ):
        connection.execute(f"DELETE FROM {name}")


def unfold_commits(connection: sqlite3.Connection, position: int) -> set[str]:
    """Forget the commits that landed after a position, and return the transactions whose rows have to go with them."""
    those = "SELECT tx FROM commits WHERE tx IS NOT NULL AND position"
    # A history that went through another lake may have brought one transaction in two commits.
    gone = connection.execute(f"{those} > ?1 EXCEPT {those} <= ?1", (position,)).fetchall()
    connection.execute("DELETE FROM commits WHERE position > ?", (position,))
    transactions = {tx for (tx,) in gone}
    unfold_refused(connection, position, transactions)
    return transactions


def unfold_rows(connection: sqlite3.Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Take rows of a table out again, whose columns are those of `UNFOLDED`.

    Returns:
        Whether rows of other transactions may be missing now, which had the same keys.
    """
    name, key = UNFOLDED[table]
    condition = " AND ".join(f"{column} = :{column}" for column in (*key, "tx"))
    gone = connection.executemany(f"DELETE FROM {name} WHERE {condition}", rows).rowcount
    if table == "batches":
        connection.execute(
            "DELETE FROM twice WHERE (SELECT count(*) FROM batches b"
            " WHERE (b.deployment_id, b.digest) = (twice.deployment_id, twice.digest)) < 2"
        )
    return table == "models" and gone > 0


def unfold_events(connection: sqlite3.Connection, gone: Iterable[str]) -> None:
    """Take the events of transactions out again: what is folded of them, whatever rows the table still has."""
    rows = []
    for tx in gone:
        found = connection.execute("SELECT subject, kind, key, prev FROM events WHERE tx = ?", (tx,)).fetchall()
        rows += [{**dict(zip(_OF_EVENTS, each, strict=True)), "prev": json.loads(each[3])} for each in found]
        connection.execute("DELETE FROM events WHERE tx = ?", (tx,))
    _let_stand(connection, rows)


def _let_stand(connection: sqlite3.Connection, gone: Iterable[Mapping[str, Any]]) -> None:
    """Let events stand again that nothing supersedes but events that are gone."""
    freed: dict[tuple[str, str, str], set[str]] = {}
    for row in gone:
        freed.setdefault((row["subject"], row["kind"], row["key"]), set()).update(row["prev"])
    for which, events in freed.items():
        others = connection.execute("SELECT prev FROM events WHERE subject = ? AND kind = ? AND key = ?", which)
        events -= {each for (prev,) in others for each in json.loads(prev)}
        connection.executemany("DELETE FROM superseded WHERE event_id = ?", [(each,) for each in events])
        connection.executemany("UPDATE events SET standing = 1 WHERE event_id = ?", [(each,) for each in events])


UNFOLDED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "models": ("models", ("model_id",)),
    "model_versions": ("versions", ("version_id",)),
    "datasets": ("datasets", ("dataset_id",)),
    "runs": ("runs", ("run_id",)),
    "lineage": ("lineage", ("source", "relation", "target")),
    "deployments": ("deployments", ("deployment_id",)),
    "batches": ("batches", ("deployment_id", "digest")),
}
"""By table: what it is called in the folded state, and its key; of all that are folded but the events."""

_OF_EVENTS = ("subject", "kind", "key", "prev")


def unfolded_columns(table: str) -> list[str]:
    """Return the columns that `unfold_rows` needs of a table's rows."""
    return ["tx", *UNFOLDED[table][1]]


def fold_files(connection: sqlite3.Connection, name: str, found: TableFiles) -> None:
    """Note what a table consists of now."""
    connection.execute("INSERT OR REPLACE INTO logs VALUES (?, ?, ?)", (name, found.version, found.checkpoint))
    known = {path for (path,) in connection.execute("SELECT path FROM files WHERE name = ?", (name,))}
    connection.executemany(
        "DELETE FROM files WHERE name = ? AND path = ?", [(name, path) for path in known - found.files.keys()]
    )
    connection.executemany(
        "INSERT INTO files VALUES (?, ?, ?, ?, ?)",
        [
            (name, file.path, file.size, file.rows, json.dumps(file.ranges) if file.ranges else None)
            for file in found.files.values()
            if file.path not in known
        ],
    )


def fold_commits(connection: sqlite3.Connection, new: list[Commit], head: str) -> None:
    """Add commits (parents first) and say for each which first-parent commit of `head` brought it, and when."""
    by_id = {commit.id: commit for commit in new}
    row = connection.execute(
        "SELECT position, landed_micros FROM commits WHERE position = (SELECT max(position) FROM commits) LIMIT 1"
    ).fetchone()
    position, clock = (row[0] + 1, row[1] if row[0] else 0) if row is not None else (0, 0)
    landed: dict[str, tuple[str, int, int]] = {}
    for landing in landings_of(connection, new, head):
        # Machines' clocks differ; a branch's own time never goes backwards. The lake's first commit sets no clock: in a
        # copy, everything that was copied is older than it.
        now = max(clock, landing.micros)
        clock = now if landing.parents else clock
        todo = [landing.id]
        while todo:
            commit = todo.pop()
            if commit in by_id and commit not in landed:
                landed[commit] = (landing.id, now, position)
                todo += by_id[commit].parents
        position += 1
    connection.executemany(
        "INSERT OR IGNORE INTO commits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                commit.id,
                commit.metadata.get(TX),
                commit.micros,
                commit.metadata.get(KIND),
                commit.metadata.get(SUBJECT),
                commit.metadata.get(ACTOR),
                commit.message,
                " ".join(commit.parents),
                *landed.get(commit.id, (None, None, None)),
                commit.metadata.get(LANDED),
                _rest(commit),
                commit.metadata.get(EVENTS),
            )
            for commit in new
        ],
    )


def _rest(commit: Commit) -> str | None:
    """Return what the other columns do not say of a commit's metadata, as JSON; None where they say all of it."""
    rest: dict[str, str | None] = {key: value for key, value in commit.metadata.items() if key not in _COLUMNS}
    if commit.metadata.get(AT) != str(commit.micros):
        rest[AT] = commit.metadata.get(AT)
    return json.dumps(rest, ensure_ascii=False, sort_keys=True) if rest else None


def fold_rows(connection: sqlite3.Connection, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows of a table, times in microseconds; those that are there already change nothing."""
    fold = _FOLDERS.get(table)
    if fold is not None:
        fold(connection, rows)


def _fold_models(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    connection.executemany(
        "INSERT INTO models VALUES (:model_id, :tx, :recorded_at, :actor) ON CONFLICT DO UPDATE SET"
        " tx = excluded.tx, recorded_at = excluded.recorded_at, actor = excluded.actor WHERE excluded.tx < models.tx",
        rows,
    )


def _fold_versions(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    rows = list(rows)
    new = connection.executemany(
        "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?, ?, ?)",
        (
            (row["version_id"], row["model_id"], row["version"], row["tx"], _light(row), json.dumps(row["files"]))
            for row in rows
        ),
    ).rowcount
    for row in rows if new < len(rows) else ():
        model_id, number, text, files = connection.execute(
            "SELECT model_id, version, row, files FROM versions WHERE version_id = ?", (row["version_id"],)
        ).fetchone()
        there = json.loads(text) | {"model_id": model_id, "version": number, "files": json.loads(files)}
        if _content(there) != _content(row):
            connection.execute("INSERT OR IGNORE INTO clashing VALUES (?)", (row["version_id"],))


def clashes(connection: sqlite3.Connection) -> int:
    """Return how many versions have two rows of different content."""
    return int(connection.execute("SELECT count(*) FROM clashing").fetchone()[0])


_WHAT = ("model_id", "version", "digest", "size", "path", "external_url", "run_id", "actor", "recorded_at")


def _content(row: Mapping[str, Any]) -> list[Any]:
    """Return what must not differ between two rows of one version."""
    files = sorted((each["path"], each["size"], each["sha256"]) for each in row["files"])
    return [*(row[name] for name in _WHAT), files]


def _fold_datasets(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO datasets VALUES (?, ?, ?, ?, ?, ?)",
        (
            (row["dataset_id"], row["name"], row["semver"], row["tx"], _light(row), json.dumps(row["files"]))
            for row in rows
        ),
    )


def entries_of(value: str | None) -> list[dict[str, Any]]:
    """Return what an event of traffic says: who serves, and how much of the requests.

    Raises:
        IntegrityError: It is not what Headwater writes.
    """
    try:
        found = json.loads(value or "[]")
        if all(
            all(isinstance(each[key], str) for key in ("deployment_id", "version_id", "mode"))
            and isinstance(each["percent"], int | float | None)
            for each in found
        ):
            return list(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise IntegrityError(f"an event of traffic says nothing that can be read: {shown(value or '')}", hint=_FOREIGN)


_FOREIGN = "something other than Headwater wrote it: deploy anew, or revert its transaction"


def _light(row: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in row.items() if key != "files"}, ensure_ascii=False)


def _fold_events(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        event = row["event_id"]
        stands = not connection.execute("SELECT 1 FROM superseded WHERE event_id = ?", (event,)).fetchone()
        new = connection.execute(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)",
            (
                event,
                row["subject"],
                row["kind"],
                row["key"],
                row["value"],
                json.dumps(row["prev"]),
                row["reason"],
                row["tx"],
                row["recorded_at"],
                row["actor"],
                int(stands),
            ),
        ).rowcount
        if new:
            for prev in row["prev"]:
                connection.execute("INSERT OR IGNORE INTO superseded VALUES (?)", (prev,))
                connection.execute("UPDATE events SET standing = 0 WHERE event_id = ?", (prev,))


def _fold_runs(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?)",
        ((row["run_id"], row["experiment"], row["parent_run_id"], row["tx"], _light(row)) for row in rows),
    )


def _fold_lineage(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    # Each transaction's, though the edge be the same: one of them may be hidden.
    connection.executemany("INSERT OR IGNORE INTO lineage VALUES (:source, :relation, :target, :tx)", rows)


def _fold_deployments(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO deployments VALUES"
        " (:deployment_id, :model_id, :version_id, :environment, :mode, :traffic, :tx, :recorded_at, :actor)",
        rows,
    )


def _fold_batches(connection: sqlite3.Connection, rows: Iterable[Mapping[str, Any]]) -> None:
    for row in rows:
        connection.execute(
            "INSERT OR IGNORE INTO batches VALUES"
            " (:deployment_id, :digest, :rows, :source, :version_id, :first_at, :last_at, :tx)",
            row,
        )
        # Two branches may have taken in one file: of its rows, which are there twice, the first that stand count.
        key = row["deployment_id"], row["digest"]
        there = "SELECT 1 FROM batches WHERE (deployment_id, digest) = (?, ?) AND tx <> ?"
        if connection.execute(there, (*key, row["tx"])).fetchone():
            connection.execute("INSERT OR IGNORE INTO twice VALUES (?, ?)", key)


_FOLDERS: dict[str, Callable[[sqlite3.Connection, Iterable[Mapping[str, Any]]], None]] = {
    "models": _fold_models,
    "model_versions": _fold_versions,
    "datasets": _fold_datasets,
    "events": _fold_events,
    "runs": _fold_runs,
    "lineage": _fold_lineage,
    "deployments": _fold_deployments,
    "batches": _fold_batches,
}
