"""Which version answers which request: a stable split by a hash of the caller's key, kept fresh in the background.

docs/routing.md says how the split is made, so that a program in another language makes the same. Knows what serves;
changes nothing.
"""

from __future__ import annotations

import os
import threading
import weakref
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from headwater.context import Context
from headwater.errors import HeadwaterError, IntegrityError, InvalidInputError, NotFoundError
from headwater.lookup import model_id_of, name_of
from headwater.names import check_environment, parse_model, quote, shown
from headwater.production import CHAMPION, PRODUCTION, serving_in
from headwater.serving_model import Route, RouterStatus
from headwater.state import Fold
from headwater.tombstones import is_hidden

__all__ = ["Key", "Router", "place_of"]

Key = str | bytes | int
"""What a caller is known by: a text counts as its UTF-8, a whole number as its decimal digits."""

_SHORTEST_INTERVAL = 0.01
_PATIENCE = 5.0
"""Seconds for which `close` waits for a call of the lake to come back."""


def place_of(salt: bytes, key: Key) -> float:
    """Return where a key stands among all keys, from 0 up to and without 100, as percent of the requests.

    Args:
        salt: The UTF-8 of the model's ID and a NUL: two models split independently of each other.
        key: The key.

    Raises:
        InvalidInputError: It is of another type, or a text that has no UTF-8.
    """
    if type(key) is str:
        try:
            octets = key.encode()
        except UnicodeEncodeError:
            raise InvalidInputError(f"not a key: {shown(key)}", hint="it has half a character in it") from None
    elif isinstance(key, bytes | bytearray | memoryview):
        octets = bytes(key)
    elif isinstance(key, int) and not isinstance(key, bool):
        try:
            octets = str(int(key)).encode()
        except ValueError:
            raise InvalidInputError("not a key: a number of thousands of digits", hint="give it as a text") from None
    elif isinstance(key, str):
        return place_of(salt, str(key))
    else:
        raise InvalidInputError(
            f"not a key: {shown(repr(key))}", hint="give a text, bytes or a whole number, such as a customer's ID"
        )
    # The upper 53 bits: what an IEEE double holds exactly, in any language.
    return (int.from_bytes(sha256(salt + octets).digest()[:8], "big") >> 11) * 2.0**-53 * 100.0


class _Split:
    """How the requests of one model in one environment are split.

    Args:
        salt: What `place_of` takes.
        bounds: Where one version ends and the next begins, in percent, ascending.
        routes: One more than bounds; None where nothing answers.
        shadows: What gets copies of all requests, and, with a salt of its own, what gets copies of some.
    """

    __slots__ = ("_bounds", "_mixed", "_routes", "_salt", "_shadows", "_some", "model_id")

    def __init__(
        self,
        salt: bytes,
        bounds: Sequence[float],
        routes: Sequence[Route | None],
        shadows: Sequence[tuple[bytes, Route]],
    ) -> None:
        self._salt = salt
        self.model_id = salt.removesuffix(b"\0").decode()
        self._bounds = list(bounds)
        every = tuple(shadow for _, shadow in shadows if shadow.traffic >= 100)
        self._routes = [route and replace(route, shadows=every) for route in routes]
        self._shadows = tuple(shadows)
        self._some = any(shadow.traffic < 100 for _, shadow in shadows)
        self._mixed: dict[tuple[int, tuple[Route, ...]], Route] = {}

    def pick(self, key: Key) -> Route:
        """Return what answers a key."""
        number = bisect_right(self._bounds, place_of(self._salt, key))
        route = self._routes[number]
        if route is None:
            answering = next(each for each in self._routes if each is not None)
            raise NotFoundError(
                f"nothing of {quote(answering.name)} is live in {answering.environment}: its canaries answer"
                f" {sum(each.traffic for each in self._routes if each):g} % of the requests, and this is none of them",
                hint=f"make one live: `headwater deploy {answering.reference} --to {answering.environment}`",
            )
        if self._some:
            copied = tuple(shadow for salt, shadow in self._shadows if place_of(salt, key) < shadow.traffic)
            found = self._mixed.get((number, copied))
            if found is None:
                found = self._mixed[number, copied] = replace(route, shadows=copied)
            return found
        return route

    def stale(self, since: datetime) -> _Split:
        """Return the same, that says that it is not fresh."""
        routes = [route and replace(route, stale_since=route.stale_since or since) for route in self._routes]
        shadows = [(salt, replace(each, stale_since=each.stale_since or since)) for salt, each in self._shadows]
        return _Split(self._salt, self._bounds, routes, shadows)


class _Nothing:
    """What is known of a model that nothing answers for."""

    __slots__ = ("_error",)

    def __init__(self, error: HeadwaterError) -> None:
        self._error = error

    def pick(self, key: Key) -> Route:
        raise type(self._error)(self._error.message, hint=self._error.hint)

    def stale(self, since: datetime) -> _Nothing:
        return self


class Router:
    """Answers which version a request goes to, from memory; a thread asks the lake now and then whether it has moved.

    Safe to share between threads, and to go on with after a fork. It ends with `close`, or with its registry.

    Args:
        context: The branch whose head is followed, or a commit, which stays as it is.
        interval: Seconds from one question to the next; each costs one call of the lake while its head stays.
    """

    def __init__(self, context: Context, interval: float = 1.0) -> None:
        if not isinstance(interval, int | float) or not _SHORTEST_INTERVAL <= interval <= 86_400:
            raise InvalidInputError(
                f"not an interval: {shown(repr(interval))}", hint=f"give seconds, from {_SHORTEST_INTERVAL} to a day"
            )
        self._context = context
        self._interval = interval
        self._splits: Mapping[tuple[str, str], _Split | _Nothing] = {}
        self._inherited: Mapping[tuple[str, str], _Split | _Nothing] = {}
        self._commit: str | None = None
        self._checked: datetime | None = None
        self._error: str | None = None
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        _routers.add(self)

    def route(self, name: str, key: Key, environment: str = PRODUCTION) -> Route:
        """Return what answers a request. See `Registry.route`."""
        split = self._splits.get((name, environment))
        if split is None:
            split = self._load(name, environment)
        return split.pick(key)

    def status(self) -> RouterStatus:
        """Return how fresh the answers are."""
        error = self._error
        return RouterStatus(self._commit, self._checked, self._checked if error is not None else None, error)

    def __enter__(self) -> Router:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread; there are no answers any more."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE)
        self._splits = self._inherited = {}

    def _load(self, name: str, environment: str) -> _Split | _Nothing:
        """Read what answers for a model that was not asked about before, or not since a fork."""
        with self._lock:
            if self._stop.is_set():
                raise InvalidInputError("this router is closed", hint="ask the registry for another")
            if self._inherited:
                self._splits, self._inherited = {**self._inherited, **self._splits}, {}
                self._follow()
            found = self._splits.get((name, environment))
            if found is not None:
                return found
            with self._context.reading() as fold:
                found = _split_of(fold, name, environment)
                self._commit = fold.commit if not self._splits or self._commit == fold.commit else None
            if self._checked is None:
                self._checked = datetime.now(UTC)
            self._splits = {**self._splits, (name, environment): found}
            self._follow()
            return found

    # -- staying fresh ------------------------------------------------------------------------------------------
    def _follow(self) -> None:
        """Begin to ask the lake, where that has not begun; what a commit holds never changes."""
        if self._thread is None and self._context.commit is None:
            arguments = (weakref.ref(self), self._stop, self._interval)
            self._thread = threading.Thread(target=_poll, args=arguments, name="headwater-route", daemon=True)
            self._thread.start()

    def _refresh(self) -> None:
        """Ask the lake whether it has moved, and read again what has been asked about if so.

        Whatever fails, the answers stay those that were known last, and say so.
        """
        with self._lock:
            try:
                if self._context.lake.head(self._context.branch) != self._commit:
                    self._read_again()
            except Exception as error:
                # Serving goes on whatever this was: a server that is down, a full disk, a damaged table.
                self._note(error)
            else:
                self._checked = datetime.now(UTC)
                self._error = None

    def _read_again(self) -> None:
        failed: Exception | None = None
        with self._context.reading() as fold:
            fresh: dict[tuple[str, str], _Split | _Nothing] = {}
            for (name, environment), known in self._splits.items():
                try:
                    fresh[name, environment] = _followed(fold, name, environment, known)
                except NotFoundError as error:
                    fresh[name, environment] = _Nothing(error)
                except HeadwaterError as error:
                    failed = error
                    fresh[name, environment] = known
            self._splits = fresh
            self._commit = fold.commit
        if failed is not None:
            raise failed

    def _note(self, error: Exception) -> None:
        since = self._checked or datetime.now(UTC)
        self._splits = {which: split.stale(since) for which, split in self._splits.items()}
        self._commit = None
        self._error = error.message if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {error}"

    def _forked(self) -> None:
        """Begin anew in a child process, which has no thread, and in which the lock may be held by nobody."""
        self._lock = threading.RLock()
        closed = self._stop.is_set()
        self._stop = threading.Event()
        if closed:
            self._stop.set()
        self._thread = None
        self._inherited, self._splits = {**self._inherited, **self._splits}, {}


def _poll(owner: weakref.ref[Router], stop: threading.Event, interval: float) -> None:
    while not stop.wait(interval):
        router = owner()
        if router is None:
            return
        router._refresh()
        del router


_routers: weakref.WeakSet[Router] = weakref.WeakSet()


def _after_fork() -> None:
    for router in list(_routers):
        router._forked()


os.register_at_fork(after_in_child=_after_fork)


# -- what serves ------------------------------------------------------------------------------------------------------
def _followed(fold: Fold, name: str, environment: str, known: _Split | _Nothing) -> _Split:
    """Return how requests are split now that were asked for by a name: who renames a model stops no program.

    Raises:
        NotFoundError: Nothing that has the name serves there, nor does the model that had it.
    """
    try:
        return _split_of(fold, name, environment)
    except NotFoundError:
        if not isinstance(known, _Split) or is_hidden(fold, known.model_id):
            raise
        now = name_of(fold, known.model_id)
        if now == name:
            raise
        return _split_of(fold, quote(now), environment)


def _split_of(fold: Fold, name: str, environment: str) -> _Split:
    """Return how a model's requests are split, by what its events say.

    Raises:
        NotFoundError: There is no such model, or nothing serves there.
        InvalidInputError: It is no model's name, or no environment's.
        ConflictError: Two branches made a champion each.
    """
    ref = parse_model(name)
    if ref.version is not None or ref.alias is not None:
        raise InvalidInputError(
            f"{ref} is a version, and what answers is asked of a model", hint=f"write {quote(ref.name)}"
        )
    check_environment(environment)
    model_id = model_id_of(fold, ref.name)

    def route(entry: Mapping[str, Any], percent: float) -> Route:
        row = fold.one("SELECT version FROM versions WHERE version_id = ?", entry["version_id"])
        if row is None:
            raise IntegrityError(
                f"a version of {quote(ref.name)} that serves {environment} is not there", hint="deploy another"
            )
        return Route(
            name=ref.name,
            version=row[0],
            version_id=entry["version_id"],
            environment=environment,
            mode=entry["mode"],
            traffic=percent,
            deployment_id=entry["deployment_id"],
            commit=fold.commit,
        )

    ordered = sorted(
        serving_in(fold, model_id, environment), key=lambda each: (each["version_id"], each["deployment_id"])
    )
    live = _live(fold, model_id, environment, ordered)
    low, high = 0.0, 100.0
    below: list[tuple[float, Route | None]] = []
    above: list[tuple[float, Route | None]] = []
    canaries = [each for each in ordered if each["mode"] == "canary"]
    for number, each in enumerate(canaries):
        share = min(float(each["percent"] or 0), high - low)
        # From both ends, so that of two canaries one can grow without taking requests of the other.
        if share > 0 and number % 2 == 0:
            low += share
            below.append((low, route(each, share)))
        elif share > 0:
            above.append((high, route(each, share)))
            high -= share
    if live is None and not (below or above):
        raise NotFoundError(
            f"nothing of {quote(ref.name)} serves {environment}",
            hint=f"`headwater deploy {quote(ref.name)}/VERSION --to {environment}`",
        )
    middle = [(high, route(live, high - low) if live is not None else None)] if high > low else []
    parts = [*below, *middle, *reversed(above)]
    shadows = [
        (f"{model_id}\0{each['version_id']}\0".encode(), route(each, 100.0 if percent is None else float(percent)))
        for each in ordered
        if each["mode"] == "shadow"
        for percent in [each["percent"]]
    ]
    bounds = [bound for bound, _ in parts[:-1]]
    return _Split(f"{model_id}\0".encode(), bounds, [found for _, found in parts], shadows)


def _live(
    fold: Fold, model_id: str, environment: str, entries: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Return what is live: of two, which a merge of two branches can leave, what was deployed first."""
    found = [each for each in entries if each["mode"] == "live"]
    if found:
        return min(found, key=lambda each: str(each["deployment_id"]))
    champion = fold.value(model_id, "alias", CHAMPION) if environment == PRODUCTION else None
    if champion is None:
        return None
    return {"deployment_id": None, "version_id": champion, "mode": "live", "percent": None}
