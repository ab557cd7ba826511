"""The parts of OpenDP that are used here.

Its `prelude` also imports scikit-learn, SciPy and pandas where they are installed: seconds, for names that nobody asks.
"""

from opendp import measurements as m
from opendp.domains import atom_domain, map_domain, vector_domain
from opendp.measures import zero_concentrated_divergence
from opendp.metrics import absolute_distance, l02inf_distance, l1_distance, l2_distance, linf_distance
from opendp.mod import enable_features

__all__ = [
    "absolute_distance",
    "atom_domain",
    "enable_features",
    "l02inf_distance",
    "l1_distance",
    "l2_distance",
    "linf_distance",
    "m",
    "map_domain",
    "vector_domain",
    "zero_concentrated_divergence",
]
