"""What each key of a policy may be: one check a key, which returns the value or says what it has to be; no text."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from headwater.errors import InvalidInputError
from headwater.names import check_key, check_label, parse_dataset, shown

__all__ = [
    "KEYS_OF_DATA",
    "KEYS_OF_KIND",
    "LEADING",
    "LIVE",
    "NEEDED",
    "OF_DATASET",
    "OPTIONS",
    "WrongError",
    "near",
    "number",
    "one_of",
    "seconds_of",
    "whole",
    "word",
]


LIVE = (
    *("accuracy", "error_rate", "mae", "rmse", "mean_score"),
    *("latency_mean", "latency_p50", "latency_p95", "latency_p99"),
)
"""What can be measured of logged predictions."""


class WrongError(Exception):
    """An option is not what it has to be: in words that go after "has to be".

    Args:
        words: These words.
        value: What it is, in words, where that is not all of it.
    """

    def __init__(self, words: str, value: str | None = None) -> None:
        super().__init__(words)
        self.value = value


def number(
    least: float = -math.inf, most: float = math.inf, *, above: bool = False, below: bool = False
) -> Callable[[object], float]:
    """A finite number between two limits, which it may be too unless it has to be `above` or `below` them."""

    def check(value: object) -> float:
        words = "a number"
        if least > -math.inf:
            words += f" {'above' if above else 'from'} {least:g}"
        if most < math.inf:
            words += f" {'below' if below else 'to'} {most:g}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WrongError(words)
        try:
            found = float(value)
        except OverflowError:
            raise WrongError(words) from None
        if not math.isfinite(found):
            raise WrongError(f"{words}, and finite")
        if found < least or found > most or (above and found == least) or (below and found == most):
            raise WrongError(words)
        return found

    return check


def whole(least: int, most: int = 10**12) -> Callable[[object], int]:
    """A whole number between two limits, which it may be too."""

    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise WrongError(f"a whole number from {least}" + (f" to {most}" if most < 10**12 else ""))
        return value

    return check


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongError("true or false")
    return value


def _yes(value: object) -> bool:
    if value is not True:
        raise WrongError("true: leave the gate out where it is not wanted")
    return True


def word(what: str) -> Callable[[object], str]:
    """The name of something: 1 to 250 printable characters."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise WrongError(f"the name of a {what}")
        try:
            return check_key(value, what)
        except InvalidInputError as error:
            raise WrongError(f"the name of a {what}: {error.hint}") from None

    return check


def label(what: str) -> Callable[[object], str]:
    """The name of something that versions have: small letters, digits, dots, underscores and dashes."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise WrongError(f"the name of a {what}")
        try:
            return check_label(value, what)
        except InvalidInputError as error:
            raise WrongError(f"the name of a {what}: {error.hint}") from None

    return check


def one_of(*words: str) -> Callable[[object], str]:
    """One of some words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise WrongError(f"one of {', '.join(words)}{near(value, words)}")
        return value

    return check


def _texts(what: str) -> Callable[[object], tuple[str, ...]]:
    """A text, or a list of one or more of them, none twice."""

    def check(value: object) -> tuple[str, ...]:
        several = value if isinstance(value, list) else [value]
        found = tuple(word(what)(each) for each in several)
        if not found or len(set(found)) < len(found):
            raise WrongError(f"a {what}, or a list of {what}s, each once")
        return found

    return check


def _slices(value: object) -> tuple[tuple[str, ...], ...]:
    found = []
    for each in _texts("column")(value):
        columns = tuple(sorted(part.strip() for part in each.split("+")))
        if not all(columns) or len(set(columns)) < len(columns):
            raise WrongError('a column, a list of columns, or columns joined as "origin+carrier"')
        found.append(columns)
    if len(set(found)) < len(found):
        raise WrongError("columns, each once")
    return tuple(found)


def _dataset(value: object) -> str:
    if not isinstance(value, str):
        raise WrongError("a dataset: NAME or NAME@1.0.0")
    try:
        return str(parse_dataset(value))
    except InvalidInputError as error:
        raise WrongError(f"a dataset: {error.hint}") from None


def _command(value: object) -> tuple[str, ...] | str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, list) and value and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    raise WrongError("a command: a text, or a list of its words")


def _callable(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value):
        raise WrongError("a Python callable: module:function")
    return value


def _sample(value: object) -> str | int:
    return _dataset(value) if isinstance(value, str) else whole(1)(value)


def _positive(value: object) -> str | int | float | bool:
    if not isinstance(value, str | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise WrongError("a label")
    if isinstance(value, int) and value.bit_length() > 128:
        raise WrongError("a label, as data has them")
    return value


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(window: str) -> int:
    """Return the seconds of a window such as `90s`, `30m`, `24h` or `7d`.

    Raises:
        InvalidInputError: It is none.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,6})([smhd])", window)
    if found is None:
        raise InvalidInputError(f"not a length of time: {shown(window)}", hint="write 30m, 24h or 7d")
    return int(found[1]) * _UNITS[found[2]]


def _window(value: object) -> str:
    try:
        if isinstance(value, str):
            seconds_of(value)
            return value
    except InvalidInputError:
        pass
    raise WrongError('a length of time, such as "30m", "24h" or "7d"')


def _schema(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not value or not all(isinstance(v, str) and v for v in value.values()):
        raise WrongError('a table of columns and their types: { origin = "VARCHAR" }')
    return {word("column")(key): str(kind) for key, kind in value.items()}


def _nulls(value: object) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise WrongError("a table of columns and the greatest share of nulls: { origin = 0.01 }")
    found = {}
    for key, share in value.items():
        try:
            found[word("column")(key)] = number(0, 1)(share)
        except WrongError as wrong:
            small = isinstance(share, bool | float) or (isinstance(share, int) and share.bit_length() < 64)
            said = str(share).lower() if small else "no share"
            raise WrongError(f"{wrong} for every column", f"{said} for {shown(key)}") from None
    return found


def _condition(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 10_000:
        raise WrongError('a condition in SQL of up to 10000 characters, such as "delay >= -60"')
    return value


OPTIONS: Mapping[str, Callable[[object], Any]] = {
    "against": _dataset,
    "callable": _callable,
    "command": _command,
    "computed": _flag,
    "confidence": number(0.5, 1, above=True, below=True),
    "from": one_of("shadow", "live"),
    "groups": word("column"),
    "key": _texts("column"),
    "lower_is_better": _flag,
    "label": word("column"),
    "max": number(),
    "max_days": number(0, above=True),
    "max_drop": number(0),
    "max_gap": number(0),
    "max_ms": number(0, above=True),
    "max_regression": number(0),
    "min": number(),
    "min_agreement": number(0, 1),
    "min_hours": number(0),
    "min_predictions": whole(1),
    "min_rows": whole(1),
    "on": _dataset,
    "positive": _positive,
    "runs": whole(1, 1_000_000),
    "sample": _sample,
    "schema": _schema,
    "slices": _slices,
    "timeout": number(0, above=True),
    "warmup": whole(0, 1_000_000),
    "window": _window,
}

LEADING: Mapping[str, Callable[[object], Any]] = {
    "metric": word("metric"),
    "latency": one_of("p50", "p95", "p99"),
    "bias": word("metric"),
    "data": one_of("schema", "age", "leakage", "rows"),
    "shadow": _yes,
    "live": one_of(*LIVE),
    "check": label("check"),
    "card": _yes,
    "signature": _yes,
}

KEYS_OF_KIND: Mapping[str, tuple[str, ...]] = {
    "metric": ("on", "min", "max", "slices", "min_rows", "computed", "label", "positive"),
    "regression": (
        *("on", "max_regression", "slices", "min_rows", "confidence", "computed", "lower_is_better"),
        *("label", "positive"),
    ),
    "latency": (
        *("max_ms", "command", "callable", "sample", "on", "runs", "warmup", "timeout"),
        *("from", "window", "min_predictions"),
    ),
    "bias": ("groups", "max_gap", "on", "min_rows", "positive"),
    "data": ("schema", "max_days", "against", "key", "min_rows", "on"),
    "shadow": ("min_predictions", "min_hours", "min_agreement", "max_drop", "window"),
    "live": ("min", "max", "max_drop", "min_predictions", "window"),
    "check": (),
    "card": (),
    "signature": (),
}

NEEDED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "metric": (("min", "max"),),
    "latency": (("max_ms",),),
    "bias": (("groups",), ("max_gap",)),
    "shadow": (("min_predictions", "min_hours", "min_agreement", "max_drop"),),
    "live": (("min", "max", "max_drop"),),
    "data schema": (("schema",),),
    "data age": (("max_days",),),
    "data leakage": (("against",),),
    "data rows": (("min_rows",),),
}
"""By kind: of each group at least one has to be given."""

KEYS_OF_DATA: Mapping[str, tuple[str, ...]] = {
    "schema": ("schema", "on"),
    "age": ("max_days", "on"),
    "leakage": ("against", "key"),
    "rows": ("min_rows", "on"),
}

OF_DATASET: Mapping[str, Callable[[object], Any]] = {
    "schema": _schema,
    "min_rows": whole(1),
    "max_nulls": _nulls,
    "condition": _condition,
}


def near(value: object, words: Iterable[str]) -> str:
    """Return a question that names the word that comes near what was written; empty where none does."""
    close = difflib.get_close_matches(value, list(words), 1) if isinstance(value, str) else []
    return f"; did you mean {close[0]}?" if close else ""
