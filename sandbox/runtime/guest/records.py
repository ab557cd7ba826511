"""Dataclasses for programs: methods made of closures, where Python would build their text and run it.

Hints are dropped when a program is compiled, so `policy` hands the names of the fields to the decorator: it rewrites
`@dataclass` above a class into `@_record_(("x", "y"), ...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sandbox.runtime.guest.faults import Forbidden
from sandbox.runtime.guest.guards import ProgramClass

_ABSENT: Final = object()
_FIELDS: Final = "_saggar_fields"


class _Field:
    """What `field(...)` says of a field."""

    __slots__ = ("compare", "default", "factory", "shown")

    def __init__(self, default: Any, factory: Any, *, shown: bool, compare: bool) -> None:
        self.default, self.factory, self.shown, self.compare = default, factory, shown, compare

    def value(self, name: str) -> Any:
        """Return the value of a field that was not given.

        Raises:
            TypeError: it has none.
        """
        if self.factory is not None:
            return self.factory()
        if self.default is _ABSENT:
            raise TypeError(f"missing the argument `{name}`")
        return self.default


def _field(*, default: Any = _ABSENT, default_factory: Any = None, repr: bool = True, compare: bool = True) -> _Field:  # noqa: A002 - dataclasses' own name
    return _Field(default, default_factory, shown=repr, compare=compare)


def dataclass(*_: Any, **__: Any) -> Any:
    """Stand for the decorator where it is not written above a class."""
    raise Forbidden("`dataclass` is written as a decorator above a class: `@dataclass`")


def record(
    names: tuple[str, ...],
    *plain: Any,
    frozen: bool = False,
    order: bool = False,
    eq: bool = True,
    kw_only: bool = False,
) -> Callable[[Any], Any]:
    """Return the decorator that a program's `@dataclass(...)` is rewritten to."""
    if plain:
        raise Forbidden("`dataclass` takes `frozen`, `order`, `eq` and `kw_only`")

    def decorate(kind: Any) -> Any:
        if type(kind) is not ProgramClass:
            raise Forbidden("`dataclass` is for classes of the program")
        fields: dict[str, _Field] = {}
        for base in reversed(type.mro(kind)[1:]):
            fields |= vars(base).get(_FIELDS, {})
        for name in names:
            given = vars(kind).get(name, _ABSENT)
            fields[name] = given if type(given) is _Field else _Field(given, None, shown=True, compare=True)
            if type(given) is _Field:
                type.__delattr__(kind, name) if given.default is _ABSENT else setattr(kind, name, given.default)
            if type(fields[name].default) in {list, dict, set}:
                raise ValueError(f"the default of `{name}` can change; use `field(default_factory=...)`")
        setattr(kind, _FIELDS, fields)
        _equip(kind, fields, keyword_only=kw_only, equal=eq)
        if order:
            _order(kind, fields)
        if frozen:
            type.__setattr__(kind, "__setattr__", _refuse_change)
        if eq:
            type.__setattr__(kind, "__hash__", (lambda self: hash(_key(self, fields))) if frozen else None)
        return kind

    return decorate


def _key(instance: Any, fields: dict[str, _Field]) -> tuple[Any, ...]:
    return tuple(instance.__dict__[name] for name, field in fields.items() if field.compare)


def _refuse_change(_: Any, name: str, __: Any) -> None:
    raise Forbidden(f"the field `{name}` is frozen")


def _equip(kind: Any, fields: dict[str, _Field], *, keyword_only: bool, equal: bool) -> None:
    own = vars(kind)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) > (0 if keyword_only else len(fields)):
            raise TypeError(f"`{kind.__name__}` takes {len(fields)} fields")
        given = dict(zip(fields, args, strict=False))
        if given.keys() & kwargs.keys() or kwargs.keys() - fields.keys():
            raise TypeError(f"`{kind.__name__}` was given a field twice, or one that it has not")
        given |= kwargs
        for name, field in fields.items():
            self.__dict__[name] = given[name] if name in given else field.value(name)
        after = getattr(kind, "__post_init__", None)
        if after is not None:
            after(self)

    def show(self: Any) -> str:
        inner = ", ".join(f"{name}={self.__dict__[name]!r}" for name, field in fields.items() if field.shown)
        return f"{kind.__name__}({inner})"

    def same(self: Any, other: Any) -> Any:
        return _key(self, fields) == _key(other, fields) if type(other) is type(self) else NotImplemented

    if "__init__" not in own:
        kind.__init__ = init
    # The metaclass has put its own text where the class has none.
    if getattr(own.get("__repr__"), "__module__", "program") != "program" or "__repr__" not in own:
        kind.__repr__ = show
    if equal and "__eq__" not in own:
        kind.__eq__ = same


def _order(kind: Any, fields: dict[str, _Field]) -> None:
    kind.__lt__ = lambda self, other: _key(self, fields) < _key(other, fields)
    kind.__le__ = lambda self, other: _key(self, fields) <= _key(other, fields)
    kind.__gt__ = lambda self, other: _key(self, fields) > _key(other, fields)
    kind.__ge__ = lambda self, other: _key(self, fields) >= _key(other, fields)


def _fields_of(instance: Any) -> dict[str, _Field]:
    found: dict[str, _Field] | None = getattr(type(instance), _FIELDS, None)
    if found is None or type(type(instance)) is not ProgramClass:
        raise TypeError("this is no dataclass")
    return found


def _as_dict(instance: Any) -> dict[str, Any]:
    return {name: _plain(instance.__dict__[name]) for name in _fields_of(instance)}


def _plain(value: Any) -> Any:
    if type(type(value)) is ProgramClass and hasattr(type(value), _FIELDS):
        return _as_dict(value)
    if type(value) in {list, tuple}:
        return type(value)(_plain(part) for part in value)
    return {key: _plain(part) for key, part in value.items()} if type(value) is dict else value


def _as_tuple(instance: Any) -> tuple[Any, ...]:
    return tuple(_as_dict(instance).values())


def _replace(instance: Any, **changes: Any) -> Any:
    return type(instance)(**{**{name: instance.__dict__[name] for name in _fields_of(instance)}, **changes})


def record_modules() -> dict[str, Any]:
    """Return what `dataclasses` offers besides the decorator."""
    return {"field": _field, "asdict": _as_dict, "astuple": _as_tuple, "replace": _replace}
