"""The process that workers are forked from: imports read, walls up, no data, no clock.

Started by the host as `python -m sandbox.runtime.guest.zygote [science] <descriptor>`, with scikit-learn and
statsmodels when it says `science`; the descriptor is a SOCK_SEQPACKET socket on which the host asks `spawn` (with the
worker's own socket), `block`, `reap` and `bury`.  The zygote never sees a program: a program goes from the host
straight to the worker.  When the socket closes, the zygote ends, and with it, as first process of its pid namespace,
every worker.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import json
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from sandbox.runtime.guest import canary, clocks, jail, kernel, namespaces
from sandbox.runtime.guest.landlock import deny_all, landlock_abi
from sandbox.runtime.guest.science_names import DISTRIBUTIONS
from sandbox.runtime.guest.seccomp import assemble_filter, filter_digest
from sandbox.runtime.guest.spoken import Language

_KEPT_FROM: Final = 100
_REQUEST_BYTES_MAX: Final = 4096
_NAMESPACES: Final = ("user", "mnt", "net", "ipc", "uts", "pid")


def main(make_language: Callable[[], Language]) -> int:
    """Run the zygote until the host hangs up; returns the exit status."""
    _fix_addresses()
    control_fd = int(sys.argv[-1])
    before = _namespace_names()
    entered = namespaces.enter_namespaces()
    if entered.held:
        child = os.fork()
        if child > 0:
            return _wait_for(child, control_fd)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    control = socket.socket(fileno=fcntl.fcntl(control_fd, fcntl.F_DUPFD_CLOEXEC, _KEPT_FROM))
    os.close(control_fd)
    try:
        walls, language, report = _raise_walls(entered, before, make_language)
    except (OSError, ImportError, RuntimeError) as error:
        control.send(json.dumps({"failed": f"{type(error).__name__}: {error}"[:1000]}).encode())
        return 1
    control.send(json.dumps(report).encode())
    _serve(control, walls, language)
    return 0


def _fix_addresses() -> None:
    """Start over without address randomisation, once.

    Every worker is a fork of this process and so shares its layout anyway; with a fixed layout the order of a set that
    holds `None` or functions is the same in a replay as it was in the job.
    """
    query = 0xFFFFFFFF
    try:
        persona = kernel.system_call("personality", query)
        if not persona & kernel.ADDR_NO_RANDOMIZE:
            kernel.system_call("personality", persona | kernel.ADDR_NO_RANDOMIZE)
            if kernel.system_call("personality", query) & kernel.ADDR_NO_RANDOMIZE:
                os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the same command again, no shell
    except OSError:
        # Where the kernel does not offer it, programs whose order depends on addresses are not replayable.
        return


def _wait_for(child: int, control_fd: int) -> int:
    """Be the thin parent outside the pid namespace: hold nothing, wait, end."""
    os.close(control_fd)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) & 0x7F


def _namespace_names() -> dict[str, str]:
    names: dict[str, str] = {}
    for kind in _NAMESPACES:
        try:
            names[kind] = str(Path(f"/proc/self/ns/{kind}").readlink())
        except OSError:
            names[kind] = ""
    return names


def _raise_walls(
    entered: namespaces.Entered, before: dict[str, str], make_language: Callable[[], Language]
) -> tuple[jail.Walls, Language, dict[str, Any]]:
    """Import, warm up, and put on everything that is put on once; return what workers need and the report.

    Raises:
        OSError: a layer that no level can do without is refused by the kernel.
        RuntimeError: the processor is unknown, or a library started a thread.
    """
    architecture = kernel.ARCHITECTURE
    if architecture is None:
        raise RuntimeError(f"there is no table of system calls for the processor {kernel.MACHINE}")
    language = _import_everything(make_language)
    versions = _versions()
    after = _namespace_names()
    clocks_found = clocks.remove_clocks()
    image_bytes = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGESIZE")
    walls = jail.Walls(assemble_filter(architecture), landlock_abi(), image_bytes, _open_nowhere())
    root_found = _go_inside(entered, walls)
    gc.collect()
    gc.freeze()
    layers = _find_layers(walls, clocks_found, root_found)
    for kind in _NAMESPACES:
        # A pid namespace shows in its children, so the zygote is the one to look at: it must be process 1.
        left = os.getpid() == 1 if kind == "pid" else before[kind] != after[kind]
        layers.append({"name": f"{kind}_namespace", "held": entered.held and left, "detail": entered.detail})
    report = {
        "layers": layers,
        "kernel": platform.release(),
        "landlock_abi": walls.landlock_abi,
        "filter_digest": filter_digest(walls.filter_program),
        "versions": versions,
    }
    return walls, language, report


def _import_everything(make_language: Callable[[], Language]) -> Language:
    from sandbox.runtime.guest import science_warmup, warmup

    if "science" in sys.argv[1:-1]:
        warmup.warm_up(warmup.SCIENCE_LACKS)
        science_warmup.warm_up_science()
    else:
        warmup.warm_up(warmup.PLAIN_LACKS)
    # After the warm-up, which decides what pandas may load; read now, used when the files are gone.
    for name in ("worker", "block_worker"):
        importlib.import_module(f"sandbox.runtime.guest.{name}")
    language = make_language()
    _prefer_for_killing()
    threads = _thread_names()
    if len(threads) != 1:
        raise RuntimeError(f"a library started a thread, so workers cannot be forked: {', '.join(threads)}")
    return language


def _open_nowhere() -> int:
    low = os.open("/dev/null", os.O_RDWR)
    high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, _KEPT_FROM)
    os.close(low)
    return high


def _go_inside(entered: namespaces.Entered, walls: jail.Walls) -> tuple[bool, str]:
    """Leave files and rights behind; return whether the root is empty, found by looking, and how."""
    held, detail = namespaces.enter_empty_root() if entered.held else (False, entered.detail)
    held = held and not any(Path("/").iterdir())
    if entered.identity is not None:
        namespaces.become(entered.identity)
    for stream in range(3):
        os.dup2(walls.null_fd, stream)
    # After the change of account, which clears both.
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    if walls.landlock_abi > 0:
        deny_all(walls.landlock_abi)
    kernel.drop_capabilities()
    return held, detail


def _find_layers(
    walls: jail.Walls, clocks_found: tuple[bool, str], root_found: tuple[bool, str]
) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = []
    for found in canary.probe_layers(walls):
        held, detail = found.held, found.detail
        if found.name == "clocks":
            held, detail = held and clocks_found[0], f"{detail}; {clocks_found[1]}"
        layers.append({"name": found.name, "held": held, "detail": detail})
    return [*layers, {"name": "root", "held": root_found[0], "detail": root_found[1]}]


def _thread_names() -> list[str]:
    return [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]


def _versions() -> dict[str, str]:
    science = [name for package, name in DISTRIBUTIONS.items() if sys.modules.get(package) is not None]
    wanted = ["numpy", "pandas", "RestrictedPython", *science, *(["scipy"] if science else [])]
    named = {name: metadata.version(name) for name in wanted}
    return {"python": platform.python_version(), **named}


def _prefer_for_killing() -> None:
    """Tell the kernel to end guests first when the machine is out of memory, never the engine."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError:
        # Some containers mount /proc read-only; the memory limit of each worker still holds.
        return


def _serve(control: socket.socket, walls: jail.Walls, language: Language) -> None:
    """Answer the host until it hangs up."""
    children: dict[int, int] = {}
    serial = 0
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES_MAX, 2)
        if not message:
            return
        request = json.loads(message)
        if request["op"] in {"spawn", "block"}:
            serial += 1
            child = os.fork()
            if child == 0:
                # How many jobs there were, and which run beside this one, is none of its business.
                serial = 0
                children.clear()
                _work(descriptors, walls, request, language)
            for descriptor in descriptors:
                os.close(descriptor)
            children[serial] = child
            handle = os.pidfd_open(child)
            socket.send_fds(control, [json.dumps({"id": serial}).encode()], [handle])
            os.close(handle)
        elif request["op"] == "bury":
            # How a block's worker ended is not even read: it would stay in memory that the next worker inherits.
            kernel.wait_blindly(children.pop(request["id"]))
            control.send(b'{"status": 0}')
        else:
            _, status = os.waitpid(children.pop(request["id"]), 0)
            control.send(json.dumps({"status": status}).encode())


def _work(descriptors: list[int], walls: jail.Walls, request: dict[str, Any], language: Language) -> None:
    """Become a worker; never returns.  A block's worker gets its block's image besides the way out."""
    status = 70
    try:
        from sandbox.runtime.guest import block_worker, worker

        is_block = request["op"] == "block"
        image = block_worker.read_image(descriptors[1]) if is_block else b""
        high_fd = fcntl.fcntl(descriptors[0], fcntl.F_DUPFD, _KEPT_FROM)
        jail.lay_out_descriptors(high_fd, walls.null_fd)
        sys.stdin = sys.stdout = sys.stderr = None
        jail.enter(walls, cpu_s=request["cpu_s"], memory_bytes=request["memory_bytes"])
        if is_block:
            block_worker.serve_block(language, image)
        else:
            worker.serve(language)
        status = 0
    finally:
        os._exit(status)


def _restricted_language() -> Language:
    from sandbox.runtime.guest.language import RestrictedLanguage

    return RestrictedLanguage()


if __name__ == "__main__":
    sys.exit(main(_restricted_language))
