"""What the frames of a run's spool hold: points of metrics in columns, and changes as JSON; knows no file and no lake.

A payload is the length of a JSON object (32 bits), the object, padded with spaces so that what follows is aligned to
8 bytes, and columns: little-endian `int64` steps (-1 where there is none), `float64` values, `int32` numbers of series.
Every frame names its own series, so each can be read without the ones before it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NO_STEP", "Content", "Series", "changes", "columns", "points"]

Series = tuple[str, str, str | None]
"""A metric's key, the slice (empty for all rows), and the ID of the dataset version that it was measured on."""

NO_STEP = -1


def changes(**values: object) -> bytes:
    """Return a frame of changes: `params`, `tags`, `description`, `inputs`, `evaluated`, `end`."""
    return _payload(values)


def points(rows: Sequence[tuple[int, int, float]], series: Sequence[Series]) -> bytes:
    """Return a frame of points: (position in `series`, step, value)."""
    numbers = array("i", [row[0] for row in rows])
    used = sorted(set(numbers))
    position = {number: at for at, number in enumerate(used)}
    return _payload(
        {"points": len(rows), "series": [series[number] for number in used]},
        array("q", [row[1] for row in rows]).tobytes(),
        array("d", [row[2] for row in rows]).tobytes(),
        array("i", [position[number] for number in numbers]).tobytes(),
    )


def columns(series: Sequence[Series], count: int, steps: bytes | None, values: Sequence[bytes]) -> bytes:
    """Return a frame of whole columns of points, one for each series, with the same steps."""
    head = {"columns": count, "series": list(series), "steps": steps is not None}
    return _payload(head, *(() if steps is None else (steps,)), *values)


def _payload(head: object, *body: bytes) -> bytes:
    text = json.dumps(head).encode()
    text += b" " * (-(4 + len(text)) % 8)
    return b"".join([len(text).to_bytes(4, "little"), text, *body])


@dataclass(frozen=True, slots=True)
class _Piece:
    """Points one after another: of one series, or of several, whose numbers are given for each."""

    number: int | None
    steps: Any
    values: Any
    numbers: Any


@dataclass(slots=True)
class Content:
    """What frames hold together, in the order in which they were written."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str | None] = field(default_factory=dict)
    description: str | None = None
    inputs: list[str] = field(default_factory=list)
    evaluated: list[str] = field(default_factory=list)
    end: dict[str, Any] | None = None
    count: int = 0
    """How many points there are."""
    _series: dict[Series, int] = field(default_factory=dict)
    _pieces: list[_Piece] = field(default_factory=list)

    @classmethod
    def read(cls, payloads: Iterable[bytes]) -> Content:
        """Return what frames hold."""
        found = cls()
        for payload in payloads:
            found._add(payload)
        return found

    def _add(self, payload: bytes) -> None:
        size = int.from_bytes(payload[:4], "little")
        head = json.loads(payload[4 : 4 + size])
        if "points" in head or "columns" in head:
            self._add_points(head, payload, 4 + size)
            return
        for key, value in head.get("params", {}).items():
            self.params.setdefault(key, value)
        self.tags.update(head.get("tags", {}))
        self.description = head.get("description", self.description)
        self.inputs += [each for each in head.get("inputs", ()) if each not in self.inputs]
        self.evaluated += [each for each in head.get("evaluated", ()) if each not in self.evaluated]
        self.end = head.get("end", self.end)

    def _add_points(self, head: dict[str, Any], payload: bytes, at: int) -> None:
        import pyarrow as pa

        body = pa.py_buffer(payload)

        def column(type_: Any, count: int, where: int) -> Any:
            return pa.Array.from_buffers(type_, count, [None, body.slice(where, count * type_.bit_width // 8)])

        series = [self._series.setdefault(_series_of(each), len(self._series)) for each in head["series"]]
        if "points" in head:
            count = head["points"]
            steps, values = column(pa.int64(), count, at), column(pa.float64(), count, at + 8 * count)
            numbers = pa.array(series, pa.int32()).take(column(pa.int32(), count, at + 16 * count))
            self._pieces.append(_Piece(None, steps, values, numbers))
            self.count += count
            return
        count = head["columns"]
        if head["steps"]:
            steps = column(pa.int64(), count, at)
            at += 8 * count
        else:
            steps = pa.repeat(pa.scalar(NO_STEP, pa.int64()), count)
        for number in series:
            values = column(pa.float64(), count, at)
            self._pieces.append(_Piece(number, steps, values, pa.repeat(pa.scalar(number, pa.int32()), count)))
            at += 8 * count
            self.count += count

    def metrics(self, run_id: str) -> dict[str, pa.Array] | None:
        """Return the points as columns of the table `metrics`, by key and else as they were logged; None: no points.

        `ordinal` is the position among them.
        """
        if not self.count:
            return None
        import pyarrow as pa
        import pyarrow.compute as pc

        ordered = sorted(self._series, key=lambda each: (each[0], each[1], each[2] or ""))
        rank = {self._series[each]: at for at, each in enumerate(ordered)}
        mixed = any(piece.number is None for piece in self._pieces)
        pieces = self._pieces if mixed else sorted(self._pieces, key=lambda piece: rank[piece.number or 0])
        numbers, steps, values = (
            pa.concat_arrays([getattr(piece, name) for piece in pieces]) for name in ("numbers", "steps", "values")
        )
        ranks = pa.array([rank[number] for number in range(len(rank))], pa.int32()).take(numbers)
        if mixed and len(rank) > 1:
            # stable, so that the points of a series stay in the order in which they were logged
            order = pc.sort_indices(ranks, sort_keys=[("", "ascending")])
            ranks, steps, values = ranks.take(order), steps.take(order), values.take(order)
        missing = pc.equal(steps, pa.scalar(NO_STEP, pa.int64()))
        return {
            "ordinal": pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int32()), self.count), start=-1),
            "run_id": _repeated([run_id], pa.nulls(0, pa.int32()), self.count),
            "key": _repeated([each[0] for each in ordered], ranks, self.count),
            "step": pc.if_else(missing, pa.scalar(None, pa.int64()), steps),
            "value": values,
            "slice": _repeated([each[1] for each in ordered], ranks, self.count),
            "dataset_id": _repeated([each[2] for each in ordered], ranks, self.count),
            "source": _repeated(["claimed"], pa.nulls(0, pa.int32()), self.count),
        }


def _series_of(parts: Sequence[str | None]) -> Series:
    key, part, dataset_id = parts
    return key or "", part or "", dataset_id


def _repeated(values: Sequence[str | None], ranks: Any, count: int) -> Any:
    """Return `values[rank]` for each rank, or one value many times, as a dictionary-encoded array."""
    import pyarrow as pa

    distinct = list(dict.fromkeys(value for value in values if value is not None))
    if len(distinct) == 1 and None not in values:
        indices = pa.Array.from_buffers(pa.int32(), count, [None, pa.py_buffer(bytes(4 * count))])
    elif not distinct:
        return pa.nulls(count, pa.string())
    else:
        position = {value: at for at, value in enumerate(distinct)}
        mapped = [None if value is None else position[value] for value in values]
        indices = pa.array(mapped, pa.int32()).take(ranks)
    return pa.DictionaryArray.from_arrays(indices, pa.array(distinct, pa.string()))
