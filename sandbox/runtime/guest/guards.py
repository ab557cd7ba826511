"""The guards that a rewritten program calls: attributes, items, writes, classes, and the builtins it has."""

from __future__ import annotations

import builtins
import functools
import itertools
import operator
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import pandas as pd
from RestrictedPython.Guards import guarded_iter_unpack_sequence, guarded_unpack_sequence

from sandbox.runtime.guest import attributes, hints
from sandbox.runtime.guest.faults import Forbidden
from sandbox.runtime.guest.format_text import format_text
from sandbox.runtime.guest.offered import Namespace, Offered, unwrap
from sandbox.runtime.guest.types_offered import attributes_of, guard_method, writable_of

_MISSING: Final = object()
_INPLACE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "%=": operator.imod,
    "**=": operator.ipow, "<<=": operator.ilshift, ">>=": operator.irshift, "|=": operator.ior, "^=": operator.ixor,
    "&=": operator.iand, "//=": operator.ifloordiv, "@=": operator.imatmul,
}  # fmt: skip
_PLAIN_CONTAINERS: Final = frozenset({list, dict, Counter, OrderedDict, defaultdict, deque})
_ITEM_WRITABLE: Final = (pd.DataFrame, pd.Series, np.ndarray)
_METHODS: Final = (types.MethodType, types.BuiltinMethodType, types.FunctionType, functools.partial)
_INDEXERS: Final = frozenset({"_LocIndexer", "_iLocIndexer", "_AtIndexer", "_iAtIndexer"})


_SERIALS: Final = itertools.count(1)


def _serial(instance: Any) -> int:
    own = instance.__dict__
    if "_serial" not in own:
        own["_serial"] = next(_SERIALS)
    return int(own["_serial"])


def _describe(instance: Any) -> str:
    return f"<{type(instance).__name__} {_serial(instance)}>"


def _make_replayable(made: type, body: dict[str, Any]) -> None:
    """Replace what Python derives from addresses: the hash, which orders sets, and the default text."""
    if "__hash__" not in body and "__eq__" not in body:
        made.__hash__ = _serial  # type: ignore[method-assign, assignment]
    if "__repr__" not in body:
        made.__repr__ = _describe  # type: ignore[method-assign, assignment]


class ProgramClass(type):
    """The type of classes that a program defines; their bases are each other and plain exceptions."""

    def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> ProgramClass:
        """Make a class after checking its bases."""
        for base in bases:
            if type(base) is not cls and base not in ERRORS.values():
                raise Forbidden("a class may have exceptions and classes of the program as bases, nothing else")
        made = super().__new__(cls, name, bases, body)
        if not any(base in ERRORS.values() or type(base) is cls for base in bases):
            _make_replayable(made, body)
        return made

    def __init__(cls, name: str, bases: tuple[type, ...], body: dict[str, Any]) -> None:
        super().__init__(name, bases, body)


ERRORS: Final = {
    name: getattr(builtins, name)
    for name in sorted(
        attributes.words("""
            ArithmeticError AssertionError AttributeError Exception FloatingPointError IndexError KeyError
            LookupError MemoryError NameError NotImplementedError OverflowError RuntimeError RecursionError
            StopIteration TypeError UnicodeError ValueError ZeroDivisionError Warning UserWarning RuntimeWarning
            ImportError OSError
        """)
    )
}


def read_attribute(owner: Any, name: str, default: Any = _MISSING) -> Any:
    """Return an attribute that the type of its owner offers.

    Raises:
        Forbidden: it is not offered; an `AttributeError` that carries no object.
    """
    if type(name) is not str:
        raise Forbidden("the name of an attribute must be text")
    value = _read(owner, name)
    if value is not _MISSING:
        return value
    if default is not _MISSING:
        return default
    hint = hints.attribute_hint(name)
    kind = owner.label if isinstance(owner, (Namespace, Offered)) else type(owner).__name__
    raise Forbidden(f"`{kind}` offers no `{name}`" + (f"; {hint}" if hint else ""))


def _read(owner: Any, name: str) -> Any:
    if name.startswith("_"):
        return _MISSING
    kind = type(owner)
    if kind is Namespace or kind is Offered:
        return owner.table.get(name, _MISSING)
    if kind is super:
        return _read_inherited(owner, name)
    if kind is str and name == "format":
        return functools.partial(format_text, owner)
    if kind is ProgramClass or type(kind) is ProgramClass:
        return _read_own(owner, kind, name)
    if name not in attributes_of(owner):
        return _read_label(owner, name)
    if name == "pipe":
        return functools.partial(_pipe, owner)
    value = getattr(owner, name, _MISSING)
    return guard_method(owner, name, value) if isinstance(value, _METHODS) else value


def _read_label(owner: Any, name: str) -> Any:
    """Read a column of a table, or a row of a series, as an attribute; never the name of a method."""
    if isinstance(owner, pd.DataFrame):
        return owner[name] if not hasattr(pd.DataFrame, name) and name in owner.columns else _MISSING
    if isinstance(owner, pd.Series):
        return owner[name] if not hasattr(pd.Series, name) and name in owner.index else _MISSING
    return _MISSING


def _read_own(owner: Any, kind: type, name: str) -> Any:
    """Read from an instance or class of the program: what the program defined, and an exception's arguments."""
    classes = type.mro(owner if kind is ProgramClass else kind)
    defined = any(name in vars(each) for each in classes if type(each) is ProgramClass)
    own = kind is not ProgramClass and name in getattr(owner, "__dict__", {})
    if defined or own or (name in attributes.ERROR and isinstance(owner, BaseException)):
        return getattr(owner, name, _MISSING)
    return _MISSING


def _read_inherited(owner: Any, name: str) -> Any:
    """Read what a class of the program inherits from another: `super().method`."""
    classes = type.mro(owner.__self_class__)
    below = classes[classes.index(owner.__thisclass__) + 1 :]
    defined = any(name in vars(each) for each in below if type(each) is ProgramClass)
    return getattr(owner, name, _MISSING) if defined else _MISSING


def inherited(owner: Any, name: str) -> Any:
    """Return `super().__init__`; the name was checked when the program was compiled."""
    if type(owner) is not super:
        raise Forbidden("only `super()` has an inherited `__init__` to call")
    return getattr(owner, name)


def _pipe(owner: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(owner, *args, **kwargs)


def has_attribute(owner: Any, name: str) -> bool:
    """Return whether an attribute is offered."""
    return read_attribute(owner, name, None) is not None or _read(owner, name) is not _MISSING


class _Writer:
    """Stands for an object on the left of `=`: items may be assigned, and the few attributes that are listed."""

    __slots__ = ("_owner",)
    _owner: Any

    def __init__(self, owner: Any) -> None:
        object.__setattr__(self, "_owner", owner)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._owner[unwrap(key)] = unwrap(value)

    def __delitem__(self, key: Any) -> None:
        del self._owner[unwrap(key)]

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in writable_of(self._owner):
            raise Forbidden(f"`.{name}` of `{type(self._owner).__name__}` cannot be assigned; assign an item")
        setattr(self._owner, name, unwrap(value))

    def __delattr__(self, name: str) -> None:
        raise Forbidden(f"`.{name}` cannot be deleted")


def write_target(owner: Any) -> Any:
    """Return what stands for an object on the left of `=`.

    Raises:
        Forbidden: the object cannot be changed by a program.
    """
    kind = type(owner)
    if kind in _PLAIN_CONTAINERS or kind is ProgramClass or type(kind) is ProgramClass:
        return owner
    if isinstance(owner, (*_ITEM_WRITABLE, pd.Index)) or kind.__name__ in _INDEXERS:
        return _Writer(owner)
    raise Forbidden(f"a value of type `{kind.__name__}` cannot be changed")


def inplace(symbol: str, left: Any, right: Any) -> Any:
    """Return `left <symbol> right`."""
    return _INPLACE[symbol](left, right)


def augmented_item(owner: Any, key: Any, symbol: str, value: Any) -> None:
    """Do `owner[key] <symbol> value`."""
    target = write_target(owner)
    target[key] = inplace(symbol, owner[key], value)


def augmented_attribute(owner: Any, name: str, symbol: str, value: Any) -> None:
    """Do `owner.name <symbol> value`."""
    target = write_target(owner)
    setattr(target, name, inplace(symbol, read_attribute(owner, name), value))


def _get_item(owner: Any, key: Any) -> Any:
    return owner[unwrap(key)]


def _apply(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _is_instance(value: Any, kinds: Any) -> bool:
    return isinstance(value, _real_kinds(kinds))


def _real_kinds(kinds: Any) -> Any:
    if type(kinds) is tuple:
        return tuple(_real_kinds(kind) for kind in kinds)
    return unwrap(kinds)


def _print(*_: Any, **__: Any) -> None:
    """Print to nowhere: what leaves a program is what `analyze` returns."""


def _iterate(values: Any) -> Iterator[Any]:
    return iter(values)


def program_globals(
    import_module: Callable[..., Any], names: dict[str, Any], guards: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the global names of a fresh program; `guards` are further ones that its rewritten form calls."""
    offered = {
        name: getattr(builtins, name)
        for name in attributes.words("""
            abs all any bool bytes chr complex dict divmod enumerate filter float format frozenset hex int iter len
            list map max min next oct ord pow property range repr reversed round set slice sorted staticmethod
            classmethod str sum super tuple zip Ellipsis NotImplemented __build_class__
        """)
    }
    guarded = {
        "__import__": import_module,
        "getattr": read_attribute,
        "hasattr": has_attribute,
        "isinstance": _is_instance,
        "issubclass": lambda kind, kinds: issubclass(unwrap(kind), _real_kinds(kinds)),
        "print": _print,
    }
    return {
        "__builtins__": {**offered, **ERRORS, **guarded, **names},
        "__name__": "program",
        "__metaclass__": ProgramClass,
        "_getattr_": read_attribute,
        "_getitem_": _get_item,
        "_getiter_": _iterate,
        "_iter_unpack_sequence_": guarded_iter_unpack_sequence,
        "_unpack_sequence_": guarded_unpack_sequence,
        "_write_": write_target,
        "_inplacevar_": inplace,
        "_augmented_item_": augmented_item,
        "_augmented_attribute_": augmented_attribute,
        "_apply_": _apply,
        "_inherited_": inherited,
        **guards,
    }


BUILTIN_NAMES: Final = frozenset(program_globals(_print, {"QuestionRefused": None})["__builtins__"])
