"""The logger that serving code calls: into a local spool at once, into the lake in the background; never waits for it.

What `log` has returned for is in a file of this machine, where it survives the death of the process. A segment of that
spool lands in the lake in one transaction that notes its digest, so that nothing lands twice whoever tries again.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from headwater.context import Context
from headwater.errors import HeadwaterError, InvalidInputError, LakeError
from headwater.ids import is_id
from headwater.model import as_json
from headwater.names import shown
from headwater.prediction_landing import land, take_leftovers
from headwater.prediction_segments import Segment, outcome_frame, prediction_frame
from headwater.predictions import Predictions
from headwater.serving_model import Deployment, LoggerStatus

__all__ = ["PredictionLogger"]

_LONGEST_PAUSE = 30.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNFIT = (TypeError, ValueError, OverflowError, RecursionError, struct.error)
"""What a value raises that can't be kept."""

_loggers: weakref.WeakSet[PredictionLogger] = weakref.WeakSet()


class PredictionLogger:
    """Logs the predictions of one deployment. `Registry.predictions` makes one; safe to share between threads.

    Use it in a `with`, or call `close`. After a fork the child goes on in segments of its own.

    Args:
        context: Where the predictions land.
        predictions: The service that knows datasets.
        deployment: What makes the predictions.
        fsync_interval: Seconds after which what was logged survives a power cut too; 0 makes each call wait for it.
        flush_interval: Seconds after which what was logged goes to the lake.
        flush_rows: Predictions that go to the lake before that time is over.
    """

    def __init__(
        self,
        context: Context,
        predictions: Predictions,
        deployment: Deployment,
        *,
        fsync_interval: float = 1.0,
        flush_interval: float = 60.0,
        flush_rows: int = 50_000,
    ) -> None:
        if fsync_interval < 0 or flush_interval <= 0 or flush_rows < 1:
            raise InvalidInputError("intervals and rows of a logger are above 0", hint="an fsync interval may be 0")
        self.deployment = deployment
        self._context = context
        self._predictions = predictions
        self._folder = context.lake.spool / "predictions"
        self._about = {
            "deployment_id": deployment.deployment_id,
            "version_id": deployment.version_id,
            "branch": context.branch,
            "actor": context.actor,
        }
        self._fsync_interval = fsync_interval
        self._flush_interval = flush_interval
        self._flush_rows = flush_rows
        self._encode = json.JSONEncoder(
            ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain
        ).encode
        self._datasets: dict[str, bytes] = {}
        self._logged = 0
        self._landed = 0
        self._closed = False
        self._begin()
        _loggers.add(self)

    def _begin(self) -> None:
        """Begin with no segment and no thread, as after a fork."""
        self._guard = threading.Lock()
        self._news = threading.Condition()
        self._segment: Segment | None = None
        self._since = 0.0
        self._waiting: list[Segment] = []
        self._noise: list[int] = []
        self._thread: threading.Thread | None = None
        self._asked = 0
        self._answered = 0
        self._error: HeadwaterError | None = None
        self._adopted = False
        self._others: str | None = None

    def _after_fork(self) -> None:
        for segment in [*([self._segment] if self._segment else []), *self._waiting]:
            segment.release()  # the parent holds it still
        self._logged = self._landed = 0
        self._begin()

    def __enter__(self) -> PredictionLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # What went wrong is what the caller should hear of; the spool keeps what has not landed.
            with contextlib.suppress(HeadwaterError):
                self.close()

    # -- logging ------------------------------------------------------------------------------------------------
    def log(
        self,
        *,
        input: Mapping[str, Any] | str | None = None,
        output: object = None,
        score: float | None = None,
        latency_ms: float | None = None,
        external_id: object = None,
        predicted_at: datetime | None = None,
        dataset: str | None = None,
        row_key: Mapping[str, Any] | None = None,
    ) -> str:
        """Log a prediction and return its ID.

        It is in the spool when this returns, and lands in the lake within the flush interval.

        Args:
            input: The features; or the text of a JSON object.
            output: What was predicted; kept as text.
            score: How sure, or the number that was predicted.
            latency_ms: How long it took, milliseconds.
            external_id: The caller's own ID of it; kept as text.
            predicted_at: When it was made; now by default.
            dataset: Instead of an input: the dataset version that holds the features. Looked up the first time.
            row_key: And the row's key in it.

        Raises:
            InvalidInputError: Something can't be kept, such as a time without a zone, or more than 64 MiB.
            LakeError: The spool's disk is full or can't be written.
        """
        micros = time.time_ns() // 1000 if predicted_at is None else _micros(predicted_at)
        try:
            texts = (
                None if external_id is None else _text(external_id),
                None if output is None else _text(output),
                None if input is None else self._object(input),
                None if dataset is None else self._dataset(dataset),
                None if row_key is None else self._object(row_key),
            )
            high = (micros // 1000 << 16) | 0x7000 | (micros % 1000 * 4096 // 1000)
            low = self._random()
            octets = (high << 64 | low).to_bytes(16, "big")
            frame = prediction_frame(octets, micros, score, latency_ms, texts)
        except _UNFIT as error:
            if isinstance(error, HeadwaterError):
                raise
            raise _unfit("prediction", error) from error
        self._append(frame)
        text = f"{high:016x}{low:016x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def outcome(self, prediction_id: str, label: object, *, observed_at: datetime | None = None) -> None:
        """Log what proved true of a prediction, of this deployment or any other; the last observed stands.

        Raises:
            InvalidInputError: That is no prediction's ID, there is no label, or it can't be kept.
            LakeError: The spool's disk is full or can't be written.
        """
        bare = prediction_id.removeprefix("prediction:").lower()
        if not is_id(bare):
            raise InvalidInputError(f"not a prediction's ID: {shown(prediction_id)}", hint="it is a UUIDv7")
        if label is None:
            raise InvalidInputError("an outcome needs a label")
        micros = time.time_ns() // 1000 if observed_at is None else _micros(observed_at)
        try:
            frame = outcome_frame(bytes.fromhex(bare.replace("-", "")), micros, _text(label))
        except _UNFIT as error:
            if isinstance(error, HeadwaterError):
                raise
            raise _unfit("outcome", error) from error
        self._append(frame)

    def _append(self, frame: bytes) -> None:
        with self._guard:
            if self._closed:
                raise LakeError("the logger is closed", hint="make another one with `reg.predictions(deployment)`")
            segment = self._segment
            if segment is None:
                segment = self._segment = Segment.create(self._folder, self._about)
            if segment.rows == 0:
                self._since = time.monotonic()
            segment.append(frame)
            self._logged += 1
            if self._fsync_interval == 0:
                segment.sync()
            rows = segment.rows
        if self._thread is None:
            self._start()
        if rows == self._flush_rows:
            with self._news:
                self._news.notify_all()

    def _random(self) -> int:
        """Return 64 bits: those of a UUID's variant, and noise, which is fetched for many at a time."""
        try:
            return self._noise.pop()
        except IndexError:
            drawn = os.urandom(8 * 256)
            fresh = [int.from_bytes(drawn[i : i + 8], "big") >> 2 | 1 << 63 for i in range(0, len(drawn), 8)]
            last = fresh.pop()
            self._noise += fresh
            return last

    def _object(self, value: Mapping[str, Any] | str) -> bytes:
        if isinstance(value, str):
            parsed = json.loads(value)
            if not isinstance(parsed, dict):
                raise InvalidInputError(f"not a JSON object: {shown(value)}")
            value = parsed
        try:
            return self._encode(value if isinstance(value, dict) else dict(value)).encode()
        except ValueError:
            # NaN and infinities, which JSON lacks, become text; anything else fails again.
            return self._encode(as_json(json.loads(json.dumps(dict(value), default=_plain)))).encode()

    def _dataset(self, reference: str) -> bytes:
        found = self._datasets.get(reference)
        if found is None:
            found = self._datasets[reference] = self._predictions.dataset_id(reference).encode()
        return found

    # -- landing ------------------------------------------------------------------------------------------------
    def flush(self, *, wait: bool = False) -> None:
        """Send what was logged so far to the lake.

        Args:
            wait: Return when it has landed.

        Raises:
            InvalidInputError: The logger is closed, and not all has landed: the next logger lands it.
            LakeError: With `wait`: the lake can't be reached or written; what was logged stays in the spool.
        """
        if self._closed:
            self._check_landed()
            return
        with self._news:
            self._asked += 1
            asked = self._asked
            self._news.notify_all()
        self._start()
        if not wait:
            return
        with self._news:
            self._news.wait_for(lambda: self._answered >= asked or self._closed)
            answered, thread = self._answered >= asked, self._thread
        if not answered:
            # Closed meanwhile: the thread ends after what it is at, and may not have heard of this call.
            if thread is not None:
                thread.join()
            self._check_landed()
            return
        error = self._error
        if error is not None:
            raise LakeError(
                f"{self.status().waiting:,} predictions are in the spool and not in the lake: {error.message}",
                hint="they land when the lake is there again, also after a restart",
            ) from error

    def _check_landed(self) -> None:
        """See that a logger that is closed has nothing left to land."""
        if waiting := self.status().waiting:
            raise InvalidInputError(
                f"the logger is closed, and {waiting:,} predictions are in the spool and not in the lake",
                hint="they land with the next logger: make one with `reg.predictions(deployment)`",
            )

    def close(self) -> None:
        """Send what was logged to the lake and let go of the spool. What can't land now lands with the next logger.

        Raises:
            LakeError: The lake can't be reached or written; what was logged stays in the spool.
        """
        if self._closed:
            return
        try:
            if self._segment is not None or self._waiting or not self._adopted:
                self.flush(wait=True)
        finally:
            with self._guard:
                self._closed = True
            with self._news:
                self._news.notify_all()
            if self._thread is not None:
                self._thread.join()
            for segment in [*self._waiting, *([self._segment] if self._segment is not None else [])]:
                if segment.rows:
                    segment.release()
                else:
                    segment.delete()
            self._waiting, self._segment = [], None
            _loggers.discard(self)

    def status(self) -> LoggerStatus:
        """Return how far the predictions have come, and why not further."""
        with self._guard:
            return LoggerStatus(
                deployment_id=self.deployment.deployment_id,
                logged=self._logged,
                landed=self._landed,
                waiting=self._logged - self._landed,
                segments=len(self._waiting),
                error=self._error.message if self._error is not None else self._others,
                spool=str(self._folder),
            )

    def _start(self) -> None:
        with self._news:
            if self._thread is None and not self._closed:
                # A daemon: what it has not done is in the spool.
                self._thread = threading.Thread(target=self._run, name="headwater-predictions", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        retry_at = 0.0
        tick = min(self._fsync_interval or 1.0, self._flush_interval, 1.0)
        while not self._closed:
            with self._news:
                if self._asked == self._answered:
                    self._news.wait(tick)
                asked = self._asked
            now = time.monotonic()
            try:
                if not self._adopted:
                    _, failed = take_leftovers(self._context)
                    self._others = f"of a process that died: {failed[0].message}" if failed else None
                    self._adopted = True
                segment = self._segment
                if segment is not None:
                    segment.sync()
                full = segment is not None and (
                    segment.rows >= self._flush_rows or (segment.rows > 0 and now - self._since >= self._flush_interval)
                )
                if full or (asked != self._answered and segment is not None and segment.rows):
                    self._rotate()
                if self._waiting and (now >= retry_at or asked != self._answered):
                    self._land()
                error = None
                pause = retry_at = 0.0
            except HeadwaterError as failure:
                error = failure
            except OSError as failure:
                error = LakeError(f"the spool {self._folder} can't be read or written: {failure.strerror}")
            except Exception as failure:  # the thread must live on, and say so
                error = LakeError(f"landing predictions failed: {type(failure).__name__}: {failure}")
            if error is not None:
                pause = min(_LONGEST_PAUSE, max(1.0, 2 * pause))
                retry_at = time.monotonic() + pause
            with self._news:
                if error is not None or not self._waiting:
                    self._error = error
                self._answered = asked
                self._news.notify_all()

    def _rotate(self) -> None:
        """Close the segment that is written to; the next one is there before, so that no call waits for it."""
        fresh = Segment.create(self._folder, self._about)
        with self._guard:
            old, self._segment = self._segment, fresh
            if old is not None:
                self._waiting.append(old)
        if old is not None:
            old.sync()

    def _land(self) -> None:
        while self._waiting:
            segment = self._waiting[0]
            rows, damage = land(self._context, segment)
            if damage is not None:
                self._others = damage.message
            with self._guard:
                self._waiting.pop(0)
                self._landed += rows


# -- values -----------------------------------------------------------------------------------------------------------
def _micros(when: datetime) -> int:
    if when.tzinfo is None:
        raise InvalidInputError(f"{when} does not say its time zone", hint="use datetime.now(UTC)")
    passed = when - _EPOCH
    micros = (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
    if micros < 0:
        raise InvalidInputError(f"{when} is before 1970")
    return micros


def _unfit(what: str, error: Exception) -> InvalidInputError:
    why = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
    return InvalidInputError(f"the {what} can't be kept: {why}")


def _text(value: object) -> bytes:
    if not isinstance(value, str):
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, float):
            value = float.__repr__(value)
        elif isinstance(value, int):
            value = int.__repr__(value)
        else:
            value = _plain(value)
            value = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_plain)
    if "\0" in value:
        raise InvalidInputError(f"not text that can be stored: {shown(value)}")
    return value.encode()


def _plain(value: Any) -> Any:
    """Return a value of numpy, a time, or anything else as what JSON has."""
    if isinstance(value, datetime):
        return as_json(value.astimezone(UTC)) if value.tzinfo is not None else value.isoformat()
    item: Callable[[], Any] | None = getattr(value, "tolist", None) or getattr(value, "item", None)
    if item is not None:
        return item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return str(value)


def _after_fork() -> None:
    for logger in list(_loggers):
        logger._after_fork()


os.register_at_fork(after_in_child=_after_fork)
