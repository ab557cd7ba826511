"""Turn a source text into a function that runs behind guards."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from sandbox.runtime.guest.dispatch import guard_dispatch
from sandbox.runtime.guest.faults import PROGRAM_NAME, ProgramFault
from sandbox.runtime.guest.guards import BUILTIN_NAMES, program_globals
from sandbox.runtime.guest.modules import import_module
from sandbox.runtime.guest.policy import Policy, check_entry, check_names_known
from sandbox.runtime.guest.records import record


class RestrictedLanguage:
    """The language of operators' programs."""

    def __init__(self) -> None:
        guard_dispatch()

    def load(self, source: str, names: dict[str, Any], entry: str = "analyze") -> Callable[..., Any]:
        """Return the program's function.

        Args:
            source: the text.
            names: further names that the program has.
            entry: the function's name, `analyze` or `block`.

        Raises:
            ProgramFault: the first thing that is not in the language.
        """
        code = self.compile(source, entry)
        space = program_globals(import_module, names, {"_record_": record})
        exec(code, space)  # noqa: S102 - the one place where a program runs
        function: Callable[..., Any] = space[entry]
        return function

    def compile(self, source: str, entry: str = "analyze") -> Any:
        """Return the code of a program without running it.

        Raises:
            ProgramFault: the first thing that is not in the language.
        """
        try:
            tree = ast.parse(source, PROGRAM_NAME)
            missing = check_entry(tree, entry)
            policy = Policy()
            tree = policy.visit(tree)
            # After the visit, which drops hints: their names need not exist.
            unknown = check_names_known(tree, BUILTIN_NAMES)
            faults = (
                sorted([*policy.faults, *unknown], key=lambda fault: (fault.line or 0, fault.column or 0)) + missing
            )
            if faults:
                raise faults[0]
            ast.fix_missing_locations(tree)
            return compile(tree, PROGRAM_NAME, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise ProgramFault(
                f"this is not Python: {error.msg}", "check the spelling at this place", error.lineno, error.offset
            ) from None
        except (RecursionError, MemoryError, ValueError) as error:
            message = "it holds a null character" if "null" in str(error) else "it is nested too deep"
            raise ProgramFault(f"the program cannot be read: {message}", "make it simpler") from None
