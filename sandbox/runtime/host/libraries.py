"""Which libraries a guest is started with: the plain ones, or scikit-learn and statsmodels besides.

The latter double a guest's image and with it the cost of each fork, so only programs that name them get them.
"""

from __future__ import annotations

import importlib.util
from enum import Enum
from typing import Final


class Libraries(Enum):
    """What a zygote has loaded."""

    PLAIN = "numpy and pandas"
    SCIENCE = "numpy, pandas, scikit-learn and statsmodels"


_SCIENCE: Final = ("sklearn", "statsmodels")


def libraries_of(*sources: str) -> Libraries:
    """Return what programs need: a function of their text and of what is installed here.

    A text that merely mentions a library gets it too, which costs time and nothing else.  Where neither is installed
    the plain guest says so when the program is checked.
    """
    named = any(package in source for source in sources for package in _SCIENCE)
    installed = any(importlib.util.find_spec(package) is not None for package in _SCIENCE)
    return Libraries.SCIENCE if named and installed else Libraries.PLAIN
