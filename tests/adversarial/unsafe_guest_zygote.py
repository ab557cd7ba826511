"""A zygote whose programs are plain Python: the language layer is taken off so that the walls alone are on trial.

It lives among the tests and is started by path; nothing in the package names it, and no configuration reaches it.
"""

import sys

from sandbox.runtime.guest import zygote


class UnsafePlainLanguage:
    """Compiles and runs a program as Python, with every builtin."""

    def compile(self, source):
        return compile(source, "<program>", "exec", dont_inherit=True)

    def load(self, source, names):
        space = dict(names)
        exec(self.compile(source), space)
        return space["analyze"]


if __name__ == "__main__":
    sys.exit(zygote.main(UnsafePlainLanguage))
