"""A process that has loaded ``plantops`` once, and forks: each child is a ``plantops`` of its own.

Half of the time of the tests went into loading the same modules eight hundred times. A child begins where a new
interpreter would begin to run the command line: it has the caller's descriptors 0 to 2, environment, folder and
umask, a session of its own, and nothing else that is open. It may run some code instead of the command line.

Run by ``tests.support.processes`` with the descriptor of a socket; it ends when whoever has the other end does.
"""

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[2]

# what a command loads only when it needs it, from other people; loaded here for all
LOADED_LATE = ("rich.markup", "rich.table", "rich.text", "typer.rich_utils", "encodings.idna")
# these are for some only, and load much
LEFT_OUT = ("plantops_cli.__main__", "plantops_cli.demo.brokers", "plantops_cli.fastapi", "plantops_cli.metrics")


def load() -> None:
    """Import what the commands import sooner or later."""
    package = importlib.import_module("plantops_cli")
    for module in pkgutil.walk_packages(package.__path__, "plantops_cli."):
        if not module.name.startswith(LEFT_OUT):
            importlib.import_module(module.name)
    for name in LOADED_LATE:
        importlib.import_module(name)
    gc.freeze()


def read_request(connection: socket.socket) -> dict[str, Any]:
    """Read what is to be run."""
    with connection.makefile("rb") as reader:
        request: dict[str, Any] = json.loads(reader.readline())
    return request


def fork(connection: socket.socket, descriptors: list[int]) -> int:
    """Fork a child with a session of its own, tell the caller its pid and return that; in the child it is 0."""
    pid = os.fork()
    if pid == 0:
        # before all else, for whoever is told the pid may kill the whole session
        os.setsid()
        return 0
    for descriptor in descriptors:
        os.close(descriptor)
    with suppress(OSError):
        connection.sendall(pid.to_bytes(4, "big"))
    return pid


def tell_of_ends(callers: dict[int, socket.socket]) -> None:
    """Tell whoever waits for a child that has ended its exit code, and forget both."""
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            # perhaps nobody waits for it any more
            with callers.pop(pid) as connection, suppress(OSError):
                connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(4, "big", signed=True))


def wake_up_when_a_child_ends() -> int:
    """Return what can be read when a child has ended."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Make this process one that has just been started."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    os.umask(request["umask"])
    time.tzset()
    if request["code"] is None:
        sys.argv[1:] = request["arguments"]
    else:
        sys.argv = ["-c", *request["arguments"]]
        sys.path.insert(0, str(ROOT))
    if request["is_on_terminal"]:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdin = sys.__stdin__ = opened(sys.stdin, "r")  # type: ignore[misc,assignment]  # Final but for a start
    sys.stdout = sys.__stdout__ = opened(sys.stdout, "w")  # type: ignore[misc,assignment]  # like this one
    sys.stderr = sys.__stderr__ = opened(sys.stderr, "w")  # type: ignore[misc,assignment]  # and again


def opened(old: TextIO, mode: str) -> TextIO:
    """A standard stream as the interpreter opens it, on what its descriptor is now."""
    is_unbuffered = mode == "w" and bool(os.environ.get("PYTHONUNBUFFERED"))
    raw = open(old.fileno(), f"{mode}b", buffering=0 if is_unbuffered else -1, closefd=False)  # noqa: SIM115  # as long as we run
    return io.TextIOWrapper(
        raw,
        encoding=old.encoding,
        errors=old.errors,
        newline="\n" if mode == "w" else None,
        line_buffering=raw.isatty() or old is sys.stderr,
        write_through=is_unbuffered,
    )


def run(request: dict[str, Any]) -> None:
    """Run the command line of plantops, or the code that is asked for."""
    if request["code"] is None:
        from plantops_cli.__main__ import main

        main()
    exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})


def run_to_the_end(request: dict[str, Any]) -> None:
    """Run what is asked for, and end as the interpreter does, but for its last step.

    That one takes all apart that has been loaded, and so copies the whole memory: half of the time of a child. Any
    other end than with an exit code, and with all that was written gone out, is left to the interpreter.
    """
    code = 0
    try:
        run(request)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    threading._shutdown()  # type: ignore[attr-defined]  # the interpreter's own way
    atexit._run_exitfuncs()
    gc.collect()
    try:
        for stream in (sys.stdout, sys.__stdout__, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code & 0xFF)


def serve(callers: socket.socket) -> dict[str, Any] | None:
    """Fork for each caller until there are no more: in a child, what it has to run; else None.

    Args:
        callers: brings, with a byte each, a connection to a caller and the standard streams of the child.
    """
    ends = wake_up_when_a_child_ends()
    waiting = dict[int, socket.socket]()
    while True:
        ready, _, _ = select.select([callers.fileno(), ends], [], [])
        if ends in ready:
            os.read(ends, 4096)
            tell_of_ends(waiting)
        if callers.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(callers, 1, 4)
        if not data:
            return None
        connection = socket.socket(fileno=descriptors[0])
        pid = fork(connection, descriptors[1:])
        if pid == 0:
            request = read_request(connection)
            # their descriptors are about to be closed, and may be other files' when these would close them
            for inherited in (callers, connection, *waiting.values()):
                inherited.detach()
            become(request, descriptors[1:])
            return request
        waiting[pid] = connection


if __name__ == "__main__":
    load()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    if request is None:
        os._exit(0)
    run_to_the_end(request)
