"""Load scikit-learn and statsmodels before the walls go up, where they are installed, and fit a little of each.

Behind the walls there is one thread and no clock.  So what these libraries compute "in parallel" is computed in order
here, their measuring of time is given a moment that stands still, and the text of a summary bears no date.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import importlib.util
import itertools
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final, Self

from sandbox.runtime.guest import science_names

_STATSMODELS: Final = (
    "statsmodels.regression.linear_model", "statsmodels.genmod.generalized_linear_model", "statsmodels.genmod.families",
    "statsmodels.discrete.discrete_model", "statsmodels.tools.tools", "statsmodels.tsa.holtwinters",
    "statsmodels.base._prediction_inference", "statsmodels.regression._prediction", "statsmodels.iolib.summary",
)  # fmt: skip


def warm_up_science() -> tuple[str, ...]:
    """Load what is installed, take clocks and threads out of it, and exercise it; return the packages' names.

    Raises:
        ImportError: a library is installed in part.
    """
    found = tuple(name for name in science_names.DISTRIBUTIONS if importlib.util.find_spec(name) is not None)
    if "sklearn" in found:
        for name in {*science_names.CLASSES, *science_names.FUNCTIONS}:
            if name.startswith("sklearn"):
                importlib.import_module(name)
    if "statsmodels" in found:
        for name in _STATSMODELS:
            importlib.import_module(name)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in (*found, "joblib") and isinstance(module, ModuleType):
            _take_over(module.__dict__)
    warnings.simplefilter("ignore")
    if "sklearn" in found:
        _exercise_sklearn()
    if "statsmodels" in found:
        _exercise_statsmodels()
    return found


def _take_over(space: dict[str, Any]) -> None:
    time = sys.modules["time"]
    for name, value in list(space.items()):
        if value is time:
            space[name] = _STILL
        elif value is getattr(time, "time", None):
            space[name] = _still
        elif value is dt.datetime and name == "datetime" and "CallbackContext" in space:
            space[name] = _Epoch
        elif value is uuid:
            space[name] = _Numbers
    if "Parallel" in space:
        space["Parallel"] = _InOrder
    if "delayed" in space:
        space["delayed"] = _delayed


def _still() -> float:
    return 0.0


class _Still(ModuleType):
    """What these libraries find in place of the module `time`."""

    time = perf_counter = monotonic = process_time = staticmethod(_still)

    @staticmethod
    def localtime(*_: object) -> None:
        """Return no moment."""

    @staticmethod
    def strftime(*_: object) -> str:
        """Return an empty text: a summary that a program computes bears no date."""
        return ""


_STILL: Final = _Still("time")


class _Epoch:
    """What a record of progress takes for the present."""

    @staticmethod
    def now(zone: dt.tzinfo | None = None) -> dt.datetime:
        """Return the one moment that there is."""
        return dt.datetime(1970, 1, 1, tzinfo=zone)


class _Numbers:
    """What names the run of a fit: the next number, where the library would draw one."""

    UUID = uuid.UUID
    _next = itertools.count(1)

    @classmethod
    def uuid4(cls) -> uuid.UUID:
        """Return the next number."""
        return uuid.UUID(int=next(cls._next))


class _InOrder:
    """Does one task after the other, in this process; takes what `joblib.Parallel` takes."""

    def __init__(self, *_: object, return_as: str = "list", **__: object) -> None:
        self._is_list = return_as == "list"
        self.n_jobs = 1

    def __call__(self, tasks: Iterable[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]) -> Any:
        """Do the tasks."""
        done = (function(*args, **kwargs) for function, args, kwargs in tasks)
        return list(done) if self._is_list else done

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _delayed(function: Callable[..., Any]) -> Callable[..., Any]:
    def task(*args: Any, **kwargs: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        return function, args, kwargs

    return task


def _exercise_sklearn() -> None:
    """Fit each kind of model once, so that lazy imports and caches are in place before the fork."""
    import numpy as np
    import pandas as pd

    x = np.arange(40.0).reshape(20, 2) % 7
    y, label = x[:, 0] * 2 + 1, (x[:, 0] > 3).astype(int)
    given: dict[str, dict[str, Any]] = {
        "KMeans": {"n_clusters": 2, "n_init": 1}, "IsotonicRegression": {}, "PCA": {"n_components": 1},
        "GradientBoostingClassifier": {"n_estimators": 2}, "GradientBoostingRegressor": {"n_estimators": 2},
        "RandomForestClassifier": {"n_estimators": 2}, "RandomForestRegressor": {"n_estimators": 2},
    }  # fmt: skip
    frame = pd.DataFrame(x, columns=["a", "b"])
    for module, kinds in science_names.CLASSES.items():
        for name in sorted(kinds - {"Pipeline", "KFold", "StratifiedKFold"}):
            model = getattr(importlib.import_module(module), name)(**given.get(name, {}))
            target = label if "Classifier" in name or "Logistic" in name else y
            if name == "LabelEncoder":
                model.fit_transform(["a", "b"])
            else:
                model.fit(frame["a"] if name == "IsotonicRegression" else frame, target)
            with contextlib.suppress(AttributeError):
                model.predict(frame["a"] if name == "IsotonicRegression" else frame)
            repr(model)
    _exercise_selection(frame, label)


def _exercise_selection(frame: Any, label: Any) -> None:
    linear, pipeline, preprocessing, selection, metrics = (
        importlib.import_module(f"sklearn.{name}")
        for name in ("linear_model", "pipeline", "preprocessing", "model_selection", "metrics")
    )
    made = pipeline.make_pipeline(preprocessing.StandardScaler(), linear.LogisticRegression())
    selection.cross_val_score(made, frame, label, cv=2, scoring="accuracy")
    selection.cross_val_predict(made, frame, label, cv=2)
    train, test, seen, held = selection.train_test_split(frame, label, random_state=0, stratify=label)
    said = made.fit(train, seen).predict(test)
    chances = made.predict_proba(test)[:, 1]
    repr(made)
    for name in ("accuracy_score", "f1_score", "classification_report", "confusion_matrix"):
        getattr(metrics, name)(held, said)
    for name in ("roc_auc_score", "roc_curve", "precision_recall_curve", "log_loss"):
        getattr(metrics, name)(held, chances)
    metrics.silhouette_score(frame, label)


def _exercise_statsmodels() -> None:
    import numpy as np
    import pandas as pd

    ols, glm, families, logit, tools, holt = (
        importlib.import_module(name)
        for name in (
            _STATSMODELS[0],
            _STATSMODELS[1],
            _STATSMODELS[2],
            _STATSMODELS[3],
            _STATSMODELS[4],
            _STATSMODELS[5],
        )
    )
    draw = np.random.default_rng(1)
    table = pd.DataFrame({"a": draw.normal(size=40), "b": draw.normal(size=40)})
    exog = tools.add_constant(table)
    y = table["a"] * 2 + draw.normal(size=40)
    yes = (y + draw.normal(size=40) > 0).astype(int)
    results = (
        ols.OLS(y, exog).fit(),
        ols.OLS(y, exog).fit(cov_type="HC1"),
        ols.WLS(y, exog, weights=np.ones(40)).fit(),
        glm.GLM(yes, exog, family=families.Binomial()).fit(),
        glm.GLM(yes, exog, family=families.Poisson()).fit(),
        logit.Logit(yes, exog).fit(disp=0),
    )
    for result in results:
        str(result.summary())
        result.conf_int()
        result.predict(exog)
    results[0].get_prediction(exog).summary_frame()
    results[3].get_prediction(exog).summary_frame()
    series = pd.Series(np.arange(48.0) % 12 + np.arange(48.0), index=pd.date_range("2020-01-01", periods=48, freq="MS"))
    smoothed = holt.ExponentialSmoothing(
        series, trend="add", seasonal="add", seasonal_periods=12, initialization_method="estimated"
    ).fit()
    smoothed.forecast(3)
    str(smoothed.summary())
