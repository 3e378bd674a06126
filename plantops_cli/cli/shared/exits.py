"""Exit codes, and the boundary where every error becomes one line on stderr."""

import os
import re
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum
from errno import EACCES, ELOOP, ENOENT, ENOTDIR
from io import TextIOWrapper

import typer

from plantops_cli.addresses import is_url
from plantops_cli.cli.shared.hints import in_flags
from plantops_cli.cli.shared.room import explain_no_room, is_out_of_room
from plantops_cli.cli.shared.stderr import finish, say, silence, tell
from plantops_cli.errors import (
    BrokerError,
    BrokerFileError,
    CommandRefusedError,
    ConfigError,
    CredentialsRefusedError,
    ForeignFileError,
    OutputError,
    PlantopsError,
    ProofError,
    ReloadError,
    SubscriptionRefusedError,
    TopicError,
)
from plantops_cli.formats.terminal import escape_lines

DEBUG_FLAG = "--debug"
# write(2) never fails with these, whatever standard output is: they are of a path, perhaps of the current folder
_OF_PATHS = (EACCES, ENOENT, ENOTDIR, ELOOP)
_SURPLUS = re.compile(r"(unexpected extra argument(?:\(s\)|s)?) \((.*)\)", re.DOTALL)


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    UNREACHABLE = 3
    CREDENTIALS = 5
    SUBSCRIPTION = 6
    FILE = 7
    TOPIC = 8
    TIMEOUT = 27
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    Exit.OK: "done, or stopped by a closed pipe, or by Ctrl-C or SIGTERM while streaming without a count",
    Exit.UNEXPECTED: "standard output refused a write, no more files can be opened, or unexpected error "
    "(traceback only with `--debug`)",
    Exit.USAGE: "usage or configuration",
    Exit.UNREACHABLE: "broker unreachable, the connection was lost for good, or a reload failed",
    Exit.CREDENTIALS: "the broker refused the credentials, or `provision-user` found that it does not honour them",
    Exit.SUBSCRIPTION: "the broker refused a subscription",
    Exit.FILE: "a file (password, ACL, `mosquitto.conf`) is unusable, or that of `--to` not ours; it is untouched",
    Exit.TOPIC: "invalid topic given to `parse-topic`",
    Exit.TIMEOUT: "`-W` ran out before `-C` was met, or with no message at all",
    Exit.INTERRUPTED: "Ctrl-C before `-C` was met, or before there was anything to stop",
    Exit.TERMINATED: "SIGTERM before `-C` was met",
}

# The first class that fits decides: special ones before general ones
_CODES: tuple[tuple[type[PlantopsError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (TopicError, Exit.USAGE),
    (BrokerFileError, Exit.FILE),
    (ForeignFileError, Exit.FILE),
    (ReloadError, Exit.UNREACHABLE),
    (ProofError, Exit.CREDENTIALS),
    (CredentialsRefusedError, Exit.CREDENTIALS),
    (CommandRefusedError, Exit.CREDENTIALS),
    (SubscriptionRefusedError, Exit.SUBSCRIPTION),
    (BrokerError, Exit.UNREACHABLE),
)


def guard(
    work: Callable[[], int], *, is_debug: bool, on_error: Callable[[Exit, str], int] = lambda code, _: code
) -> int:
    """Do the work and return its exit code, or that of its error, which is said in one line on stderr.

    Args:
        work: runs a command line.
        is_debug: whether to show a traceback too.
        on_error: told the exit code and the line of an error, returns the code that the program ends with.
    """
    try:
        _check_streams()
        return work()
    except typer.TyperException as exc:
        return on_error(Exit.USAGE, complain(_usage(exc)))
    except PlantopsError as exc:
        _trace(is_debug)
        return on_error(exit_code(exc), complain(explain(exc)))
    except BrokenPipeError:
        silence(sys.stdout)
        return Exit.OK
    except SystemExit as exc:
        # rich's answer to a closed pipe, when it prints the help
        if isinstance(exc.__context__, BrokenPipeError):
            return Exit.OK
        raise
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as exc:
        _trace(is_debug)
        if is_out_of_room(exc):
            return on_error(Exit.UNEXPECTED, complain(explain_no_room(exc)))
        if exc.filename is not None or exc.errno in _OF_PATHS:
            return on_error(Exit.UNEXPECTED, complain(_explain_path(exc)))
        said = complain(f"cannot write to standard output: {exc.strerror or exc}")
        silence(sys.stdout)
        return on_error(Exit.UNEXPECTED, said)
    except Exception as exc:
        _trace(is_debug)
        hint = "" if is_debug else "; --debug shows where"
        return on_error(Exit.UNEXPECTED, complain(f"unexpected {type(exc).__name__}{hint}"))
    finally:
        finish()


def exit_code(error: PlantopsError) -> Exit:
    """Look up the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.UNEXPECTED)


def explain(error: PlantopsError) -> str:
    """Say an error and its cure in one line, in the words of the command line."""
    return in_flags(f"{error} ({error.hint})" if error.hint else str(error))


def complain(message: str) -> str:
    """Say one error on stderr, and return it; what came from elsewhere in it cannot command the terminal."""
    say(f"error: {message}")
    return message


def _explain_path(error: OSError) -> str:
    """Say what the system has against a file of which nobody spoke where it is used."""
    name = "the current folder" if error.filename is None else repr(os.fsdecode(error.filename))
    return f"cannot use {name}: {error.strerror} (check that it is there, and who may use it)"


def _usage(exc: Exception) -> str:
    context = getattr(exc, "ctx", None)
    message: str = getattr(exc, "format_message", exc.__str__)()
    surplus = _SURPLUS.search(message)
    if surplus and is_url(surplus[2]):
        return "a URL is given as an argument (the broker is given as -L URL)"
    # an argument too many may be a password
    message = _SURPLUS.sub(r"\1", message)
    where = f" ({context.command_path} --help shows the usage)" if context else ""
    return " ".join(message.split()) + where


def _trace(is_debug: bool) -> None:
    if is_debug:
        tell(escape_lines(traceback.format_exc()))


def _check_streams() -> None:
    """Make up for a closed stderr, and refuse a closed stdout; Python shows each as None.

    No character ends a text on stdout: what the encoding of the locale has not is escaped.
    """
    if sys.stderr is None:
        # print() would take None for stdout
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  # open as long as the program runs
    if sys.stdout is None:
        raise OutputError("standard output is closed", hint="send it to a file, or to /dev/null")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
