"""scikit-learn and statsmodels as programs see them: stand-ins of the listed names, where the libraries were loaded.

Loaded by the warm-up and not here: a guest that was started without them, or a machine that lacks them, offers none.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from sandbox.runtime.guest import science_names as names
from sandbox.runtime.guest.offered import Namespace, Offered
from sandbox.runtime.guest.science_calls import plain_call

Families = tuple[tuple[type, frozenset[str]], ...]


def is_loaded(package: str) -> bool:
    """Return whether the warm-up has loaded a library."""
    return sys.modules.get(package) is not None


def _kind(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _sklearn_families() -> Families:
    if not is_loaded("sklearn"):
        return ()
    return (
        (_kind("sklearn.base", "BaseEstimator"), names.ESTIMATOR),
        (_kind("sklearn.model_selection", "BaseCrossValidator"), names.SPLITTER),
    )


def _statsmodels_families() -> Families:
    if not is_loaded("statsmodels"):
        return ()
    return (
        (_kind("statsmodels.base.model", "Model"), names.MODEL),
        (_kind("statsmodels.base.model", "Results"), names.RESULTS),
        (_kind("statsmodels.base.wrapper", "ResultsWrapper"), names.RESULTS),
        (_kind("statsmodels.base._prediction_inference", "PredictionResultsBase"), names.PREDICTION),
        (_kind("statsmodels.regression._prediction", "PredictionResults"), names.PREDICTION),
        (_kind("statsmodels.iolib.summary", "Summary"), names.SUMMARY),
        (_kind("statsmodels.genmod.families", "Family"), frozenset()),
    )


FAMILIES: Final = _sklearn_families() + _statsmodels_families()
KINDS: Final = tuple(kind for kind, _ in FAMILIES)


def science_call(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a model, which checks its arguments."""
    return plain_call(name, function, KINDS)


def _class(real: Any, keywords: frozenset[str] | None = None) -> Offered:
    offered = Offered(real)
    object.__setattr__(offered, "call", plain_call(real.__name__, real, KINDS, keywords))
    return offered


def _home_of(name: str) -> str:
    # `statsmodels.api` would import plots and formulas, so its names are taken from where they are made.
    return {
        "OLS": "statsmodels.regression.linear_model",
        "WLS": "statsmodels.regression.linear_model",
        "GLM": "statsmodels.genmod.generalized_linear_model",
        "Logit": "statsmodels.discrete.discrete_model",
        "ExponentialSmoothing": "statsmodels.tsa.holtwinters",
        "add_constant": "statsmodels.tools.tools",
    }[name]


def _table(module: str) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name in names.CLASSES.get(module, ()):
        table[name] = _class(_kind(module, name))
    for name in names.FUNCTIONS.get(module, ()):
        home = _home_of(name) if module.startswith("statsmodels") else module
        table[name] = plain_call(name, _kind(home, name), KINDS, names.KEYWORDS.get(name))
    for name in names.MODELS_OFFERED.get(module, ()):
        table[name] = _class(_kind(_home_of(name), name), names.MODELS[name])
    if module == "statsmodels.api":
        kinds = {
            name: _class(_kind("statsmodels.genmod.families", name), frozenset({"alpha"})) for name in names.FAMILIES
        }
        table["families"] = Namespace("statsmodels.api.families", kinds)
    return table


def science_modules() -> Mapping[str, Namespace]:
    """Return the stand-ins of the modules whose library was loaded, by name."""
    made: dict[str, Namespace] = {}
    # Submodules first, since a module holds its own.
    for module in sorted(names.MODULES, key=lambda name: (-name.count("."), name)):
        if is_loaded(module.partition(".")[0]):
            below = {
                name[len(module) + 1 :]: made[name]
                for name in made
                if name.startswith(f"{module}.") and "." not in name[len(module) + 1 :]
            }
            made[module] = Namespace(module, {**_table(module), **below})
    if "statsmodels.api" in made:
        api = made["statsmodels.api"]
        made["statsmodels.api"] = Namespace(api.label, {**api.table, "tsa": made["statsmodels.tsa.api"]})
        root = made["statsmodels"]
        made["statsmodels"] = Namespace(root.label, {**root.table, "api": made["statsmodels.api"]})
    return made
