"""Autologging for scikit-learn: what a fit was given and how it went, logged to a run without being asked."""

from __future__ import annotations

import functools
import inspect
import json
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headwater.errors import HeadwaterError, InvalidInputError
from headwater.opening import current_run, open
from headwater.registration import INPUT_SCHEMA
from headwater.registry import Registry
from headwater.run import Run

__all__ = ["autolog"]

_LONGEST = 1000
_MARK = "_headwater_wrapped"

_guard = threading.Lock()
_wrapped: list[tuple[Any, Any]] = []
_original_hook: list[Any] = []
_inside = threading.local()
_busy = threading.Lock()
_registry: list[Registry] = []
_fits: dict[str, int] = {}


def autolog(*, disable: bool = False) -> None:
    """Log every scikit-learn fit from here on: params, seconds, score on the training data, schema of the input.

    One line before the training code, whether its estimators are imported already or later:

    ```python
    headwater.autolog()
    ```

    A fit logs to the active run; without one, to a run of its own in the lake that is configured. Of fits inside fits
    (a pipeline's steps, a search's candidates) the outermost is logged, with all its params; while one is under way,
    those of other threads count as inside of it. The second fit of a run has its class and number before its keys.
    What goes wrong in logging is a warning; it never breaks a fit.

    Args:
        disable: Undo it.

    Raises:
        InvalidInputError: scikit-learn is not installed.
    """
    try:
        from sklearn.base import BaseEstimator  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise InvalidInputError("scikit-learn is not installed", hint="pip install scikit-learn") from None
    with _guard:
        _undo(BaseEstimator)
        if not disable:
            _wrap_all(BaseEstimator)


def _undo(base: Any) -> None:
    while _wrapped:
        cls, fit = _wrapped.pop()
        if getattr(cls.__dict__.get("fit"), _MARK, False):
            cls.fit = fit
    while _original_hook:
        hook = _original_hook.pop()
        if hook is None:
            del base.__init_subclass__
        else:
            base.__init_subclass__ = hook


def _wrap_all(base: Any) -> None:
    for cls in _subclasses(base, set()):
        _wrap(cls)
    inherited = "__init_subclass__" not in base.__dict__
    original = base.__init_subclass__

    def hook(cls: Any, /, **named: Any) -> None:
        # Called as if it were not there: bound to the new class, as Python would.
        getattr(original, "__func__", original)(cls, **named)
        _wrap(cls)

    _original_hook.append(None if inherited else base.__dict__["__init_subclass__"])
    base.__init_subclass__ = classmethod(hook)


def _subclasses(cls: Any, seen: set[Any]) -> Iterator[Any]:
    for each in cls.__subclasses__():
        if each not in seen:
            seen.add(each)
            yield each
            yield from _subclasses(each, seen)


def _wrap(cls: Any) -> None:
    fit = cls.__dict__.get("fit")
    if not isinstance(fit, types.FunctionType) or getattr(fit, _MARK, False):
        return

    @functools.wraps(fit)
    def logged(self: Any, *args: Any, **named: Any) -> Any:
        return _fit(fit, self, args, named)

    setattr(logged, _MARK, True)
    _wrapped.append((cls, fit))
    cls.fit = logged


def _fit(fit: Callable[..., Any], estimator: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    if getattr(_inside, "depth", 0) or not _busy.acquire(blocking=False):
        return fit(estimator, *args, **named)
    _inside.depth = 1
    try:
        before = _quietly(lambda: _params(estimator)) or {}
        began = time.perf_counter()
        fitted = fit(estimator, *args, **named)
        seconds = time.perf_counter() - began
        _quietly(lambda: _log(fit, estimator, args, named, before, seconds))
        return fitted
    finally:
        _inside.depth = 0
        _busy.release()


def _quietly(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as error:
        # whatever it is, the fit was right and goes on
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"headwater.autolog: {type(error).__name__}: {error}", RuntimeWarning, stacklevel=4)
        return None


def _params(estimator: Any) -> dict[str, str]:
    return {key: _short(repr(value) if not isinstance(value, str) else value) for key, value in _pairs(estimator)}


def _pairs(estimator: Any) -> list[tuple[str, Any]]:
    return sorted(estimator.get_params(deep=True).items())


def _short(text: str) -> str:
    text = text.replace("\0", "")
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _log(
    fit: Callable[..., Any],
    estimator: Any,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
    params: Mapping[str, str],
    seconds: float,
) -> None:
    run = _run_of()
    own = run is None
    if run is None:
        run = _own_registry().start_run(type(estimator).__name__, tags={"autolog": "scikit-learn"})
    try:
        given = inspect.signature(fit).bind(estimator, *args, **named).arguments
        x, y = given.get("X"), given.get("y")
        prefix = _prefix(run, estimator)
        _log_params(run, prefix, {**params, "estimator_class": type(estimator).__name__}, x)
        metrics = {"fit_seconds": seconds}
        score = _quietly(lambda: _score(estimator, x, y, given.get("sample_weight")))
        if score is not None:
            metrics["training_score"] = score
        run.log_metrics({prefix + key: value for key, value in metrics.items()})
    finally:
        if own:
            run.finish()


def _run_of() -> Run | None:
    try:
        return current_run()
    except HeadwaterError:
        return None


def _own_registry() -> Registry:
    if not _registry:
        _registry.append(open())
    return _registry[0]


def _prefix(run: Run, estimator: Any) -> str:
    _fits[run.run_id] = _fits.get(run.run_id, 0) + 1
    return "" if _fits[run.run_id] == 1 else f"{type(estimator).__name__}-{_fits[run.run_id]}."


def _log_params(run: Run, prefix: str, params: Mapping[str, str], x: Any) -> None:
    schema = _quietly(lambda: _schema(x))
    if schema is not None:
        params = {**params, INPUT_SCHEMA: schema}
    known = run.params
    for key, value in params.items():
        name = prefix + key
        # What the author has logged under the same key is his, and stays.
        if known.get(name, value) == value:
            run.log_param(name, value)


def _score(estimator: Any, x: Any, y: Any, weight: Any) -> float | None:
    if not hasattr(estimator, "score") or x is None:
        return None
    named = (
        {}
        if weight is None or "sample_weight" not in inspect.signature(estimator.score).parameters
        else {"sample_weight": weight}
    )
    if y is not None:
        return float(estimator.score(x, y, **named))
    alone = list(inspect.signature(estimator.score).parameters.values())
    if any(each.name == "y" and each.default is each.empty for each in alone):
        return None  # there is nothing to score against
    return float(estimator.score(x, **named))


def _schema(x: Any) -> str | None:
    """Return the columns and types of the input as JSON."""
    if x is None:
        return None
    dtypes = getattr(x, "dtypes", None)
    names = getattr(x, "columns", None)
    if names is not None and dtypes is not None:
        inputs: dict[str, Any] = {
            "columns": {str(name): str(type_) for name, type_ in zip(names, list(dtypes), strict=False)}
        }
    else:
        shape = getattr(x, "shape", None)
        columns = shape[1] if shape is not None and len(shape) > 1 else (len(x[0]) if hasattr(x[0], "__len__") else 1)
        inputs = {"dtype": str(getattr(x, "dtype", "object")), "columns": int(columns)}
    return json.dumps({"inputs": inputs}, ensure_ascii=False)
