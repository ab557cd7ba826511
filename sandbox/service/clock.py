"""Where time enters."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock, in whole seconds of UTC."""

    def now(self) -> str:
        """Return UTC, `YYYY-MM-DDTHH:MM:SSZ`."""
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def monotonic_s(self) -> float:
        """Return seconds since some fixed moment."""
        return time.monotonic()

    def sleep_until_s(self, moment_s: float) -> None:
        """Return when `monotonic_s()` has reached `moment_s`."""
        while (left := moment_s - time.monotonic()) > 0:
            time.sleep(left)
