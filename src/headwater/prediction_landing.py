"""From a segment of the prediction spool to the lake, in one transaction that notes its digest: none lands twice.

Knows segments and transactions; knows no logger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from headwater.context import Context
from headwater.errors import HeadwaterError, LakeError
from headwater.ids import texts_of_ids
from headwater.prediction_rows import constant
from headwater.prediction_segments import Contents, Segment, leftovers
from headwater.predictions import batch_of, note_batch
from headwater.transaction import Transaction

__all__ = ["land", "take_leftovers"]


def take_leftovers(context: Context) -> tuple[int, list[HeadwaterError]]:
    """Land what dead processes left in the spool, each on its own branch; return how many rows, and what went wrong."""
    rows, errors = 0, list[HeadwaterError]()
    for segment in leftovers(context.lake.spool / "predictions"):
        try:
            landed, damage = land(context, segment)
            rows += landed
            errors += [damage] if damage is not None else []
        except HeadwaterError as error:
            segment.release()
            errors.append(error)
        except (OSError, MemoryError) as error:
            # Not the segment's fault: it stays, and is tried again.
            segment.release()
            errors.append(LakeError(f"{segment.path} can't be landed now: {type(error).__name__}: {error}"))
        except Exception as error:  # whatever is in it, it must not stand in the way of the others
            aside = segment.keep_damaged()
            errors.append(
                LakeError(f"a file of the spool can't be landed, and is now {aside}: {type(error).__name__}: {error}")
            )
    return rows, errors


def land(context: Context, segment: Segment) -> tuple[int, LakeError | None]:
    """Land a segment that nobody writes to any more, unless it has landed, and delete it, or lay it aside if damaged.

    Returns:
        How many rows of it are in the lake, and what is to be said of it if it is damaged.
    """
    found = segment.read()
    about = found.about
    known = "branch" in about
    if len(found) and known:
        on = replace(context, branch=about["branch"], commit=None, ref=about["branch"], actor=about["actor"])
        on.write("log-predictions", lambda tx: _append(tx, found))
    if found.damaged or (len(found) and not known):
        aside = segment.keep_damaged()
        rows = len(found) if known else 0
        return rows, LakeError(
            f"a file of the spool is damaged: {rows:,} rows of it are in the lake, the rest in {aside}"
        )
    segment.delete()
    return len(found), None


def _append(tx: Transaction, found: Contents) -> None:
    deployment_id, version_id = found.about["deployment_id"], found.about["version_id"]
    if batch_of(tx.fold, deployment_id, found.digest) is not None or batch_of(tx.fold, "", found.digest) is not None:
        return
    if found.octets:
        tx.append_arrow("predictions", _prediction_columns(found, deployment_id, version_id))
        span = min(found.micros), max(found.micros)
        rows = len(found.octets)
        note_batch(tx, deployment_id, found.digest, rows, source="spool", version_id=version_id, span=span)
    if found.outcomes:
        # One a prediction in a transaction: the last observed stands.
        newest = {octets: (micros, label) for octets, micros, label in sorted(found.outcomes, key=lambda each: each[1])}
        tx.append_arrow("outcomes", _outcome_columns(newest))
        times = [micros for micros, _ in newest.values()]
        note_batch(tx, "", found.digest, len(newest), source="spool", version_id=None, span=(min(times), max(times)))
    tx.subject = f"deployment:{deployment_id}"
    parts = [f"{len(found.octets):,} predictions"] if found.octets else []
    parts += [f"{len(found.outcomes):,} outcomes"] if found.outcomes else []
    tx.message = f"log {' and '.join(parts)}"


def _prediction_columns(found: Contents, deployment_id: str, version_id: str) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa

    count = len(found.octets)
    octets = np.frombuffer(b"".join(found.octets), np.uint8).reshape(count, 16)
    halves = octets.view(">u8")
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    chosen = pa.array(order)
    columns: dict[str, Any] = {
        "prediction_id": texts_of_ids(octets[order]),
        "predicted_at": pa.array(np.array(found.micros, np.int64)[order]).cast(pa.timestamp("us", tz="UTC")),
        "deployment_id": constant(deployment_id, count),
        "version_id": constant(version_id, count),
        "score": pa.array(found.score, pa.float64()).take(chosen),
        "latency_ms": pa.array(found.latency_ms, pa.float64()).take(chosen),
    }
    for name, texts in zip(("external_id", "output", "input", "dataset_id", "row_key"), found.texts, strict=True):
        columns[name] = pa.array(texts, pa.binary()).cast(pa.string()).take(chosen)
    return columns


def _outcome_columns(newest: Mapping[bytes, tuple[int, bytes]]) -> dict[str, Any]:
    import numpy as np
    import pyarrow as pa

    rows = sorted(newest.items())
    octets = np.frombuffer(b"".join(each for each, _ in rows), np.uint8).reshape(len(rows), 16)
    return {
        "prediction_id": texts_of_ids(octets),
        "label": pa.array([label for _, (_, label) in rows], pa.binary()).cast(pa.string()),
        "observed_at": pa.array([at for _, (at, _) in rows], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
    }
