"""The language that programs are written in: Python without the parts that need trust.

RestrictedPython rewrites a program so that each attribute, item and write goes through a guard.  This subclass allows a
few harmless things that it refuses (augmented assignment to items, type hints, `nonlocal`, `match` on values), refuses
a few that it allows, and says for each refusal what to write instead.  It is for early, readable errors; the barrier
is the operating system.
"""

from __future__ import annotations

import ast
from typing import Any, Final

from RestrictedPython.transformer import (
    INSPECT_ATTRIBUTES,
    IOPERATOR_TO_STR,
    RestrictingNodeTransformer,
    copy_locations,
)

from sandbox.runtime.guest import hints
from sandbox.runtime.guest.attributes import words
from sandbox.runtime.guest.faults import ProgramFault
from sandbox.runtime.guest.modules import LOADED, MODULE_NAMES, offered_names

MAGIC_METHODS: Final = frozenset(
    f"__{name}__"
    for name in words("""
        init post_init len contains iter next getitem setitem call repr str bool hash eq ne lt le gt ge enter exit neg
        abs add radd sub rsub mul rmul truediv rtruediv floordiv mod pow
    """)
)
_GENERIC_HINT: Final = "write it with functions, classes, loops and comprehensions"
_OFFERED_HINT: Final = "use what pandas, numpy, math and statistics offer"
_UNDERSCORE_HINT: Final = "choose a name that does not begin with an underscore"


# Types of which a pattern takes the whole value.
_WHOLE: Final = frozenset({"bool", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"})
_BASES: Final = {
    "Enum": "use a dict of constants, or `typing.Literal` texts",
    "IntEnum": "use a dict of constants",
    "StrEnum": "use a dict of constants",
    "NamedTuple": 'use `collections.namedtuple("Point", "x y")`, or a dataclass',
    "TypedDict": "leave it out: hints are not evaluated",
    "Protocol": "leave it out: hints are not evaluated",
    "BaseEstimator": "write a class of your own that holds a model",
}


class _Own(ast.Name):
    """A name that the rewriting itself has put there."""


class Policy(RestrictingNodeTransformer):
    """Rewrites a syntax tree and collects faults.

    Attributes:
        faults: what is not in the language, in the order of the source.
    """

    def __init__(self) -> None:
        super().__init__()
        self.faults: list[ProgramFault] = []

    def refuse(self, node: ast.AST, message: str, hint: str) -> None:
        """Record a fault at a node."""
        line = getattr(node, "lineno", None)
        column = getattr(node, "col_offset", None)
        self.faults.append(ProgramFault(message, hint, line, None if column is None else column + 1))

    def error(self, node: ast.AST, info: str) -> None:
        """Record what RestrictedPython itself refuses."""
        self.refuse(node, info[:1].lower() + info[1:].rstrip(".").replace('"', "`"), _GENERIC_HINT)

    def warn(self, node: ast.AST, info: str) -> None:
        """Drop warnings; nobody reads them."""

    def not_allowed(self, node: ast.AST) -> None:
        """Refuse a kind of statement."""
        words = {
            "AsyncFunctionDef": "`async`", "Await": "`await`", "AsyncFor": "`async`", "AsyncWith": "`async`",
            "TryStar": "`except*`",
            "TypeAlias": "a `type` statement",
        }  # fmt: skip
        name = type(node).__name__
        self.refuse(node, f"{words.get(name, f'`{name}`')} is not in the language", _GENERIC_HINT)

    def check_name(
        self,
        node: ast.AST,
        name: str | None,
        allow_magic_methods: bool = False,  # noqa: FBT001, FBT002 - the signature of RestrictedPython
    ) -> None:
        """Refuse names that begin with an underscore, or that guards use."""
        if name is None or name == "_" or (name == "__name__" and isinstance(getattr(node, "ctx", None), ast.Load)):
            return
        magic = allow_magic_methods and name in MAGIC_METHODS and getattr(node, "col_offset", 0) != 0
        if name.startswith("_") and not magic:
            self.refuse(node, f"the name `{name}` begins with an underscore", hints.NAMES.get(name, _UNDERSCORE_HINT))
        elif name in {"printed", "builtins"} or name.endswith("__roles__"):
            self.refuse(node, f"the name `{name}` is reserved", "choose another name")

    def visit_Name(self, node: ast.Name) -> Any:  # noqa: N802
        """Let `print` be an ordinary function; check every other name."""
        self.check_name(node, node.id)
        return node

    def visit__Own(self, node: _Own) -> Any:  # noqa: N802
        """Let the rewriting's own names be."""
        return ast.copy_location(ast.Name(node.id, ast.Load()), node)

    def visit_Attribute(self, node: ast.Attribute) -> Any:  # noqa: N802
        """Refuse by name what no type offers; leave the rest to the guard."""
        hint = hints.attribute_hint(node.attr)
        if _is_inherited_init(node):
            owner = self.visit(node.value)
            read = ast.Call(ast.Name("_inherited_", ast.Load()), [owner, ast.Constant(node.attr)], [])
            copy_locations(read, node)
            return read
        if node.attr.startswith("_"):
            self.refuse(node, f"the attribute `{node.attr}` begins with an underscore", "use the public methods")
        elif node.attr in INSPECT_ATTRIBUTES:
            self.refuse(node, f"the attribute `{node.attr}` looks into the interpreter", "leave it out")
        elif hint is not None and node.attr not in hints.AT_RUN_TIME and isinstance(node.ctx, ast.Load):
            self.refuse(node, f"`.{node.attr}` is not offered", hint)
        else:
            return super().visit_Attribute(node)
        return node

    def visit_Call(self, node: ast.Call) -> Any:  # noqa: N802
        """Route calls with `*` and `**` through the guard; names are checked where they stand."""
        wrap = any(isinstance(a, ast.Starred) for a in node.args) or any(k.arg is None for k in node.keywords)
        node = self.node_contents_visit(node)
        if wrap:
            node.args.insert(0, node.func)
            node.func = ast.copy_location(ast.Name("_apply_", ast.Load()), node.args[0])
        return node

    def visit_Import(self, node: ast.Import) -> Any:  # noqa: N802
        """Allow the offered modules only."""
        for name in node.names:
            self._check_module(node, name.name)
            self.check_name(node, name.asname)
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:  # noqa: N802
        """Allow the offered names of the offered modules only."""
        module = node.module or "."
        if node.level or not self._check_module(node, module):
            return node
        for name in node.names:
            self.check_name(node, name.asname)
            if name.name == "*":
                self.refuse(node, f"`from {module} import *` is not in the language", "name what you need")
            elif name.name not in offered_names(module):
                hint = hints.attribute_hint(name.name) or "see the list of what is offered in the reference"
                self.refuse(node, f"`{module}` does not offer `{name.name}`", hint)
        return node

    def _check_module(self, node: ast.AST, name: str) -> bool:
        package = name.split(".", maxsplit=1)[0]
        if name in LOADED:
            return True
        if name in MODULE_NAMES:
            hint = "use numpy and pandas, or have the sandbox installed with its extra `science`"
            self.refuse(node, f"`{package}` is not installed where this program runs", hint)
            return False
        default = f"write `import {package}`" if package in MODULE_NAMES else _OFFERED_HINT
        self.refuse(node, f"`import {name}` is not offered", hints.module_hint(name) or default)
        return False

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:  # noqa: N802
        """Rewrite `a[k] += v` and `a.x += v` so that reading and writing both go through their guards."""
        target = node.target
        if isinstance(target, ast.Name):
            return super().visit_AugAssign(node)
        operator = ast.Constant(IOPERATOR_TO_STR[type(node.op)])
        place: ast.expr
        if isinstance(target, ast.Subscript):
            guard, place = "_augmented_item_", self.visit(target.slice)
        else:
            if target.attr.startswith("_") or hints.attribute_hint(target.attr):
                self.refuse(node, f"the attribute `{target.attr}` cannot be assigned", _UNDERSCORE_HINT)
            guard, place = "_augmented_attribute_", ast.Constant(target.attr)
        arguments: list[ast.expr] = [self.visit(target.value), place, operator, self.visit(node.value)]
        statement = ast.Expr(ast.Call(ast.Name(guard, ast.Load()), arguments, []))
        copy_locations(statement, node)
        return statement

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:  # noqa: N802
        """Drop the hint, which is never evaluated, and keep the assignment."""
        if node.value is None:
            self.check_name(node, node.target.id if isinstance(node.target, ast.Name) else None)
            return ast.copy_location(ast.Pass(), node)
        return self.visit(ast.copy_location(ast.Assign([node.target], node.value), node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:  # noqa: N802
        """Drop hints, check names."""
        if getattr(node, "type_params", None):
            self.refuse(node, "type parameters are not in the language", "leave them out; hints are not evaluated")
        node.returns = None
        spare = [argument for argument in (node.args.vararg, node.args.kwarg) if argument is not None]
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *spare):
            argument.annotation = None
        return super().visit_FunctionDef(node)

    def inject_print_collector(self, node: ast.AST, position: int = 0) -> None:
        """Add nothing; `print` is an ordinary function here."""

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:  # noqa: N802
        """Refuse keywords and type parameters; the guard checks the bases when it is made."""
        if node.keywords or getattr(node, "type_params", None):
            self.refuse(node, "a class takes no keywords", "leave them out: `class Name:`")
            return node
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in _BASES:
                self.refuse(base, f"a class cannot be made from `{base.id}`", _BASES[base.id])
                return node
        node.decorator_list = [_as_record(decorator, node) for decorator in node.decorator_list]
        made = super().visit_ClassDef(node)
        if isinstance(made, ast.ClassDef):
            copy_locations(made, node)
        return made

    def visit_Global(self, node: ast.Global) -> Any:  # noqa: N802
        """Check the names."""
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> Any:  # noqa: N802
        """Allow, with checked names: it reaches nothing that `global` does not."""
        for name in node.names:
            self.check_name(node, name)
        return node

    def visit_Match(self, node: ast.Match) -> Any:  # noqa: N802
        """Allow; patterns are checked one by one."""
        return self.node_contents_visit(node)

    def visit_match_case(self, node: Any) -> Any:
        """Allow."""
        return self.node_contents_visit(node)

    def visit_MatchValue(self, node: ast.MatchValue) -> Any:  # noqa: N802
        """Allow constants; a dotted name would be read past the guard."""
        if any(isinstance(part, (ast.Attribute, ast.Name)) for part in ast.walk(node.value)):
            self.refuse(node, "a dotted name in a pattern is not in the language", "use `if` and `==`")
        return node

    def visit_MatchSingleton(self, node: ast.MatchSingleton) -> Any:  # noqa: N802
        """Allow None, True and False."""
        return node

    def visit_MatchMapping(self, node: ast.MatchMapping) -> Any:  # noqa: N802
        """Allow constants as keys, with a checked name for the rest."""
        if any(isinstance(part, (ast.Attribute, ast.Name)) for key in node.keys for part in ast.walk(key)):
            self.refuse(node, "a dotted name in a pattern is not in the language", "use `if` and `==`")
        self.check_name(node, node.rest)
        return self.node_contents_visit(node)

    def visit_MatchClass(self, node: ast.MatchClass) -> Any:  # noqa: N802
        """Allow `int()` and `str(name)`; other patterns would read attributes past the guard."""
        name = node.cls.id if isinstance(node.cls, ast.Name) else ""
        if not name or node.kwd_attrs or (node.patterns and (name not in _WHOLE or len(node.patterns) > 1)):
            hint = "match the kind alone, as in `case str():`, and read the parts with `.`"
            self.refuse(node, "a class pattern with parts is not in the language", hint)
            return node
        return self.node_contents_visit(node)

    def visit_MatchSequence(self, node: ast.MatchSequence) -> Any:  # noqa: N802
        """Allow."""
        return self.node_contents_visit(node)

    def visit_MatchOr(self, node: ast.MatchOr) -> Any:  # noqa: N802
        """Allow."""
        return self.node_contents_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> Any:  # noqa: N802
        """Allow, with a checked name."""
        self.check_name(node, node.name)
        return node

    def visit_MatchAs(self, node: ast.MatchAs) -> Any:  # noqa: N802
        """Allow, with a checked name."""
        self.check_name(node, node.name)
        return self.node_contents_visit(node)


def _is_inherited_init(node: ast.Attribute) -> bool:
    """Return whether this is `super().__init__`, without arguments to `super`."""
    called = node.value
    return (
        node.attr in {"__init__", "__post_init__"}
        and isinstance(node.ctx, ast.Load)
        and isinstance(called, ast.Call)
        and isinstance(called.func, ast.Name)
        and called.func.id == "super"
        and not called.args
        and not called.keywords
    )


def _as_record(decorator: ast.expr, node: ast.ClassDef) -> ast.expr:
    """Return `@dataclass` as the call that knows the fields, and any other decorator as it is."""
    named = decorator.func if isinstance(decorator, ast.Call) else decorator
    if (named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")) != "dataclass":
        return decorator
    fields = [
        part.target.id for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
    ]
    names: list[ast.expr] = [ast.Tuple([ast.Constant(name) for name in fields], ast.Load())]
    given, keywords = (decorator.args, decorator.keywords) if isinstance(decorator, ast.Call) else ([], [])
    made = ast.Call(_Own("_record_", ast.Load()), [*names, *given], keywords)
    copy_locations(made, decorator)
    return made


def check_names_known(tree: ast.Module, known: frozenset[str]) -> list[ProgramFault]:
    """Return a fault for each name that is read but bound nowhere in the program; a name bound anywhere passes."""
    bound: set[str] = set(known)
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.alias(name=name, asname=alias):
                bound.add(alias or name.split(".", maxsplit=1)[0])
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case _:
                continue
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in bound:
            hint = hints.NAMES.get(node.id, "check the spelling, or define it first")
            what = "is not offered" if node.id in hints.NAMES else "is not defined"
            if not node.id.startswith("_"):
                faults.append(ProgramFault(f"`{node.id}` {what}", hint, node.lineno, node.col_offset + 1))
    return faults


_ENTRIES: Final = {
    "analyze": ("write `def analyze(data): ...`", "`analyze` takes one argument, the data", (1,)),
    "block": ("write `def block(rows): ...`", "`block` takes the rows, and the parameters if it has any", (1, 2)),
}


def check_entry(tree: ast.Module, entry: str = "analyze") -> list[ProgramFault]:
    """Return a fault when there is no such function at the top level, or when it takes other arguments."""
    hint, takes, counts = _ENTRIES[entry]
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == entry]
    if not found:
        return [ProgramFault(f"the program has no function `{entry}`", hint)]
    arguments = found[-1].args
    others = arguments.kwonlyargs or arguments.vararg or arguments.kwarg
    if len(arguments.posonlyargs + arguments.args) not in counts or others:
        return [ProgramFault(takes, hint, found[-1].lineno, found[-1].col_offset + 1)]
    return []
