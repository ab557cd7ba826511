"""`text.format(...)` for programs: fields by place or name, never a walk into what they hold."""

from __future__ import annotations

import string
from typing import Any

from sandbox.runtime.guest.faults import Forbidden

_DEPTH_MAX = 2


class _Fields(string.Formatter):
    """Looks fields up by place or name alone."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return a value that was handed over, itself.

        Raises:
            Forbidden: the field names a part of it.
        """
        if not (field_name.isdecimal() or field_name.isidentifier()):
            raise Forbidden("a field of `format` is a place or a name; take the part first, or use an f-string")
        key: int | str = int(field_name) if field_name.isdecimal() else field_name
        return self.get_value(key, args, kwargs), key


def format_text(template: str, *args: Any, **kwargs: Any) -> str:
    """Return a text with its fields filled in."""
    return _Fields().vformat(template, args, kwargs)
