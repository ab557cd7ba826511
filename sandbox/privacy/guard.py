"""The second line of defence: what planning has proven is checked once more where noise is drawn, and is no `assert`.

`python -O` strips asserts, and a guarantee must not rest on how the interpreter was started.  What is checked here
follows from public facts alone (a plan, a scale, a loss), so that the error tells nothing about rows.
"""

from __future__ import annotations

from sandbox.errors import PrivacyError


def broken_guard(message: str) -> PrivacyError:
    """Return the error of a check that can fail only by a mistake of ours; nothing is drawn or released then."""
    return PrivacyError(message, hint="report it with the question: nothing was released", code="privacy.guard")
