"""How hostile programs are written down, and all of them by category."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attack:
    """A program that hands over loot only when the forbidden act went through.

    Attributes:
        source: the program.
        inside: its loot is a piece of its own process.  The walls need not stop it, because nothing lies there; the
            language should.
    """

    source: str
    inside: bool = False


LOOT = 'return {"loot": {"x": [str(loot)]}}'
PANDAS = "import pandas as pd\nimport numpy as np\n"
NATIVE = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"


def body(text: str, head: str = PANDAS) -> str:
    """Return a program whose `analyze` has these lines; `p` are its parameters."""
    lines = "".join(f"    {line}\n" for line in text.strip("\n").split("\n"))
    return f"{head}def analyze(data):\n    p = data.parameters\n{lines}"


def act(text: str, head: str = PANDAS) -> Attack:
    """Do something that must fail, then hand over `loot`."""
    return Attack(body(f"loot = 1\n{text}\n{LOOT}", head))


def plain(text: str, imports: str = "os") -> Attack:
    """Do it with modules of Python's own."""
    return act(text, f"import {imports}\n")


def native(text: str, *, check: bool = True) -> Attack:
    """Call the kernel directly; `r` is its answer."""
    failed = "if r == -1:\n    raise OSError(ctypes.get_errno(), 'refused')\nloot = r" if check else ""
    return act(f"{text}\n{failed}", NATIVE)


def inside(text: str, head: str = PANDAS) -> Attack:
    """Reach something of the interpreter, then hand over `loot`."""
    return Attack(body(f"{text}\n{LOOT}", head), inside=True)


def steal(reader: str, text: str = "", head: str = "") -> Attack:
    """Walk from an empty tuple to `os.mkdir`, each step through `reader(object, name)`."""
    walk = f"""
d = chr(95) * 2
r = {reader}
for k in r(r(r((), d + 'class' + d), d + 'base' + d), d + 'subclasses' + d)():
    if r(k, d + 'name' + d) == '_wrap_close':
        r(r(k, d + 'init' + d), d + 'globals' + d)['mkdir'](p['folder'] + '/stolen')
        loot = k
{LOOT}"""
    return Attack(body(f"{text}\n{walk}" if text else walk, head))


def frame(text: str, head: str = "") -> Attack:
    """Get a frame as `f`, by names put together at run time, then read the secret with its builtins."""
    use = (
        f"r = getattr\nd = chr(95) * 2\n{text}\nloot = r(f, 'f' + '_builtins')['op' + 'en'](p['secret']).read()\n{LOOT}"
    )
    return Attack(body(use, head))


def all_attacks() -> dict[str, dict[str, Attack]]:
    """Return every program: category -> name -> attack."""
    from tests.support import (
        hostile_hooks,
        hostile_language,
        hostile_library,
        hostile_machine,
        hostile_science,
        hostile_tricks,
    )

    attacks: dict[str, dict[str, Attack]] = {}
    for module in (
        hostile_language, hostile_library, hostile_machine, hostile_science, hostile_tricks, hostile_hooks,
    ):  # fmt: skip
        for category, programs in module.ATTACKS.items():
            attacks.setdefault(category, {}).update(programs)
    return attacks


def by_name() -> dict[str, Attack]:
    """Return every program by its name, which is unique."""
    named: dict[str, Attack] = {}
    for programs in all_attacks().values():
        assert not named.keys() & programs.keys(), named.keys() & programs.keys()
        named |= programs
    return named
