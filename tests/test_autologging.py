"""Autologging for scikit-learn: what is logged of a fit, and that it never breaks one."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import headwater
from headwater.registry import Registry

X = np.random.default_rng(0).random((60, 3))
Y = (X[:, 0] > 0.5).astype(int)


@pytest.fixture
def logged() -> Iterator[None]:
    headwater.autolog()
    yield
    headwater.autolog(disable=True)


def test_a_fit_logs_params_time_score_and_schema(registry: Registry, logged: None) -> None:
    with registry.start_run() as run:
        model = LogisticRegression(C=0.5).fit(X, Y)
    (info,) = registry.runs()
    assert (info.params["estimator_class"], info.params["C"]) == ("LogisticRegression", "0.5")
    assert json.loads(info.params["input_schema"]) == {"inputs": {"dtype": "float64", "columns": 3}}
    assert set(info.metrics) == {"fit_seconds", "training_score"}
    assert info.metrics["training_score"] == model.score(X, Y)
    assert run.ended


def test_the_signature_of_a_version_is_the_schema_of_the_fit(registry: Registry, logged: None) -> None:
    import pandas

    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    with registry.start_run() as run:
        model = LogisticRegression().fit(frame, Y)
        with open("model.pkl", "wb") as stream:
            pickle.dump(model, stream)
        version = run.register("m", "model.pkl")
    assert version.signature is not None
    assert json.loads(version.signature) == {"inputs": {"columns": dict.fromkeys("abc", "float64")}}


def test_of_fits_in_fits_the_outermost_is_logged(registry: Registry, logged: None) -> None:
    with registry.start_run():
        search = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [1, 2]})
        search.fit(X, Y)
        RandomForestClassifier(n_estimators=3, n_jobs=2).fit(X, Y)
    (info,) = registry.runs()
    assert info.params["estimator_class"] == "GridSearchCV"
    assert info.params["estimator__logisticregression__C"] == "1.0"
    assert info.params["RandomForestClassifier-2.n_estimators"] == "3"
    assert set(info.metrics) == {
        "fit_seconds", "training_score",
        "RandomForestClassifier-2.fit_seconds", "RandomForestClassifier-2.training_score",
    }  # fmt: skip


def test_classes_that_are_made_later_are_logged_too_and_undone(registry: Registry) -> None:
    before = LogisticRegression.fit
    hook = BaseEstimator.__init_subclass__
    headwater.autolog()
    headwater.autolog()

    class Late(ClassifierMixin, BaseEstimator):
        def __init__(self, depth: int = 3) -> None:
            self.depth = depth

        def fit(self, X: object, y: object = None) -> Late:
            return self

    try:
        with registry.start_run():
            assert isinstance(Late().fit(X), Late)
    finally:
        headwater.autolog(disable=True)
    assert registry.runs()[0].params["depth"] == "3"
    assert LogisticRegression.fit is before
    assert BaseEstimator.__init_subclass__ == hook
    with registry.start_run() as run:
        Late().fit(X)
        LogisticRegression().fit(X, Y)
    assert registry.run(run.run_id).params == {}


def test_without_a_run_a_fit_makes_one(
    registry: Registry, registry_url: str, monkeypatch: pytest.MonkeyPatch, logged: None
) -> None:
    from headwater import autologging

    monkeypatch.setenv("HEADWATER_LAKE", registry_url)
    LogisticRegression().fit(X, Y)
    autologging._registry.pop().close()
    (info,) = registry.runs()
    assert (info.name, info.status, info.tags) == ("LogisticRegression", "finished", {"autolog": "scikit-learn"})


def test_what_goes_wrong_in_logging_is_a_warning(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, logged: None
) -> None:
    monkeypatch.chdir(str(tmp_path))
    monkeypatch.delenv("HEADWATER_LAKE", raising=False)
    with pytest.warns(RuntimeWarning, match=r"headwater.autolog: NotFoundError: there is no lake here"):
        assert LogisticRegression().fit(X, Y).score(X, Y) > 0.5

    class Broken(BaseEstimator):
        def get_params(self, deep: bool = True) -> dict[str, object]:
            raise RuntimeError("no params")

        def fit(self, X: object) -> str:
            return "fitted"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Broken().fit(X) == "fitted"


def test_a_fit_that_fails_fails_as_it_would(registry: Registry, logged: None) -> None:
    with registry.start_run() as run, pytest.raises(ValueError, match="inconsistent numbers of samples"):
        LogisticRegression().fit(X, Y[:5])
    assert registry.run(run.run_id).params == {}
