"""All chance in a guest is a function of the job's seed."""

from __future__ import annotations

import random


def seed_process(seed: bytes) -> None:
    """Make every source of chance in the process a function of the job."""
    import numpy as np

    random.seed(int.from_bytes(seed, "big"))
    np.random.seed(np.frombuffer(seed, dtype=">u4").astype(np.uint32))  # noqa: NPY002 - the global state is what is seeded
