"""What every command shares: the state directory, passphrases, the terminal, and how errors are told."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from sandbox.crypto.keys import PrivateKey
from sandbox.errors import KeyUnavailableError, SaggarError, UnavailableError

P = ParamSpec("P")
T = TypeVar("T")

EXIT_BUG = 70
EXIT_INTERRUPTED = 130

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@dataclass(slots=True)
class Session:
    """The options before the verb.

    Attributes:
        state: the state directory.
        wait_s: how long to wait for another process that writes to it, in seconds.
    """

    state: Path = Path("saggar-state")
    wait_s: float = 5.0


session = Session()


def passphrase_for(name: str) -> str:
    """Return the passphrase of key `name`: SAGGAR_PASSPHRASE_<NAME>, SAGGAR_PASSPHRASE, or a prompt.

    Raises:
        KeyUnavailableError: neither variable is set and there is nobody to ask.
    """
    variable = f"SAGGAR_PASSPHRASE_{name.upper().replace('-', '_').replace('.', '_')}"
    for candidate in (variable, "SAGGAR_PASSPHRASE"):
        if os.environ.get(candidate):
            return os.environ[candidate]
    if sys.stdin.isatty():
        return str(typer.prompt(f"passphrase of key {name}", hide_input=True))
    raise KeyUnavailableError(
        f"no passphrase was given for key `{name}`",
        hint=f"set {variable} or SAGGAR_PASSPHRASE, or run in a terminal",
        code="vault.key_unavailable.no_passphrase",
    )


def own_key(name: str, key_file: Path | None, passphrase: str | None = None) -> PrivateKey:
    """Return somebody's private key, from the state directory or from a file of their own.

    Raises:
        KeyUnavailableError: there is no such key, it is somebody else's, or the passphrase is wrong.
    """
    from sandbox.crypto.named_file import unlock_file
    from sandbox.service.compose import unlock_named

    if key_file is None:
        return unlock_named(session.state, name, passphrase or passphrase_for(name))
    try:
        raw = key_file.read_bytes()
    except OSError as error:
        raise KeyUnavailableError(
            f"key file `{key_file}` cannot be read", hint="check the path", code="vault.key_unavailable.no_file"
        ) from error
    return unlock_file(raw, passphrase or passphrase_for(name), str(key_file))


def new_passphrase(name: str) -> str:
    """Return the new passphrase of key `name`: SAGGAR_PASSPHRASE_NEW, or typed twice.

    Raises:
        KeyUnavailableError: the variable is not set and there is nobody to ask.
    """
    if os.environ.get("SAGGAR_PASSPHRASE_NEW"):
        return os.environ["SAGGAR_PASSPHRASE_NEW"]
    if sys.stdin.isatty():
        return str(typer.prompt(f"new passphrase of key {name}", hide_input=True, confirmation_prompt=True))
    raise KeyUnavailableError(
        f"no new passphrase was given for key `{name}`",
        hint="set SAGGAR_PASSPHRASE_NEW, or run in a terminal",
        code="vault.key_unavailable.no_passphrase",
    )


def print_json(data: Any) -> None:
    """Print data as JSON, and nothing else, on standard output."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def told(command: Callable[P, T]) -> Callable[P, T]:
    """Let a command's refusals be told in two lines, with the exit code of their family."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except SaggarError as error:
            refuse(error, as_json=bool(kwargs.get("as_json")))
        except MemoryError:
            refuse(_no_memory(), as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            errors.print("[yellow]stopped[/]; what was reserved by a running job is charged at the next command")
            raise SystemExit(EXIT_INTERRUPTED) from None
        except typer.Abort as abort:
            # Raised by a prompt, and prompts stand before the act: Ctrl-C, an end of input, or a no.
            if isinstance(abort.__context__, KeyboardInterrupt):
                errors.print("[yellow]stopped[/]; nothing was done")
                raise SystemExit(EXIT_INTERRUPTED) from None
            errors.print("[yellow]not confirmed[/], so nothing was done; in scripts, `--yes` asks nothing")
            raise SystemExit(1) from None
        except (typer.Exit, typer.BadParameter):
            raise
        except Exception as fault:
            if os.environ.get("SAGGAR_TRACEBACK"):
                raise
            errors.print(f"[red]fault:[/] {type(fault).__name__} inside saggar; this is our mistake, not yours")
            errors.print("[cyan]hint:[/] run again with SAGGAR_TRACEBACK=1 and report what it prints")
            raise SystemExit(EXIT_BUG) from None

    return run


def place_of(error: SaggarError) -> str:
    """Return where in a question its refusal points, in brackets; nothing for other errors."""
    line, column, found = (error.details.get(name) for name in ("line", "column", "found"))
    if line is None or column is None or not found:
        return ""
    return f" (line {line}, column {column}: {str(found).splitlines()[0][:40]})"


def refuse(error: SaggarError, *, as_json: bool) -> NoReturn:
    """Tell an error to people, and before that to programs where they asked."""
    if as_json:
        print_json({"error": error.to_dict()})
    tell(error)


def tell(error: SaggarError) -> NoReturn:
    """Print an error as people read it and end with its family's exit code."""
    told_of = escape(f"{error.message}{place_of(error)}")
    errors.print(f"[red]refused[/] [dim]{escape(error.code)}[/]  {told_of}", soft_wrap=True)
    errors.print(f"[cyan]hint:[/] {escape(error.hint)}", soft_wrap=True)
    raise SystemExit(type(error).exit_status)


def _no_memory() -> SaggarError:
    return UnavailableError(
        "there is not enough memory for this command",
        hint="what was there before still is; raise the limit (`ulimit -v`) or free memory, and run it again",
        code="service.unavailable.memory",
    )
