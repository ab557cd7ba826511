"""A zygote whose walls are taken down on purpose, one or all, so that the others are on trial alone.

It lives among the tests and is started by path with `off=<layer>,<layer>`; nothing in the package names it, and no
configuration reaches it.  With a layer of the operating system off it belongs into `tests/support/cage.py`.
"""

import sys
from pathlib import Path

from sandbox.runtime.guest import clocks, jail, kernel, namespaces, zygote

LAYERS = ("language", "filter", "landlock", "namespaces", "limits", "processor", "rights", "clocks")
_IN_JAIL = {
    "filter": {"seccomp"},
    "landlock": {"landlock"},
    "limits": {"rlimits"},
    "processor": {"processor"},
    "rights": {"capabilities", "no_new_privs", "undumpable"},
}
_REPORTED = ("undumpable", "no_new_privs", "capabilities", "rlimits", "processor", "landlock", "seccomp", "together")


class UnsafePlainLanguage:
    """Compiles and runs a program as Python, with every builtin."""

    def compile(self, source, entry="analyze"):
        return compile(source, "<program>", "exec", dont_inherit=True)

    def load(self, source, names, entry="analyze"):
        space = dict(names)
        exec(self.compile(source, entry), space)
        return space[entry]


def unsafe_take_down(off):
    """Replace the parts of the zygote that put a layer up; the report then claims what its host wants to read."""
    kept = frozenset(jail.LAYERS) - frozenset().union(*(_IN_JAIL.get(layer, set()) for layer in off))
    enter = jail.enter
    jail.enter = lambda walls, *, cpu_s, memory_bytes: enter(walls, cpu_s=cpu_s, memory_bytes=memory_bytes, layers=kept)
    zygote._find_layers = lambda *_: [{"name": name, "held": True, "detail": "not tried"} for name in _REPORTED]
    if "landlock" in off:
        zygote.landlock_abi = lambda: 0
    if "clocks" in off:
        clocks.remove_clocks = lambda: (True, "left")
    if "namespaces" in off:
        namespaces.enter_namespaces = lambda: namespaces.Entered(held=False, detail="taken down")
    if "rights" in off:
        prctl, rights = kernel.prctl, {kernel.PR_SET_DUMPABLE}
        kernel.prctl = lambda option, *words: 0 if option in rights else prctl(option, *words)
        kernel.drop_capabilities = lambda: None


def unsafe_main():
    """Run a zygote with the layers of `off=` missing."""
    off = next((set(word[4:].split(",")) - {""} for word in sys.argv[1:] if word.startswith("off=")), {"language"})
    if not off <= set(LAYERS):
        raise SystemExit(f"no such layer: {off - set(LAYERS)}")
    if off - {"language"}:
        unsafe_take_down(off)
    sys.argv[1:] = [word for word in sys.argv[1:] if not word.startswith("off=")]
    return zygote.main(UnsafePlainLanguage if "language" in off else zygote._restricted_language)


def command(*off):
    """Return what a host starts to get such a zygote."""
    return (str(Path(__file__)), "off=" + ",".join(off))


if __name__ == "__main__":
    sys.exit(unsafe_main())
