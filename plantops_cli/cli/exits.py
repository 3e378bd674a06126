"""Exit codes, and the boundary where every error becomes one line on stderr."""

import os
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from typing import NoReturn

from plantops_cli.errors import (
    BrokerError,
    ConfigError,
    CredentialsRefusedError,
    OutputError,
    PasswordFileError,
    PlantopsError,
    SubscriptionRefusedError,
    TopicError,
)

DEBUG_FLAG = "--debug"


class Exit(IntEnum):
    """The exit codes of every command."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    UNREACHABLE = 3
    CREDENTIALS = 5
    SUBSCRIPTION = 6
    PASSWORD_FILE = 7
    TOPIC = 8
    TIMEOUT = 27
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    Exit.OK: "done, or stopped by Ctrl-C, SIGTERM or a closed pipe while streaming without a count",
    Exit.UNEXPECTED: "unexpected error (traceback only with `--debug`)",
    Exit.USAGE: "usage or configuration",
    Exit.UNREACHABLE: "broker unreachable, or the connection was lost for good",
    Exit.CREDENTIALS: "the broker refused the credentials",
    Exit.SUBSCRIPTION: "the broker refused a subscription",
    Exit.PASSWORD_FILE: "password file problem; the file is untouched",
    Exit.TOPIC: "invalid topic given to `parse-topic`",
    Exit.TIMEOUT: "`-W` ran out before `-C` was met, or with no message at all",
    Exit.INTERRUPTED: "Ctrl-C before `-C` was met",
    Exit.TERMINATED: "SIGTERM before `-C` was met",
}

# The first class that fits decides: special ones before general ones
_CODES: tuple[tuple[type[PlantopsError], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (TopicError, Exit.USAGE),
    (PasswordFileError, Exit.PASSWORD_FILE),
    (CredentialsRefusedError, Exit.CREDENTIALS),
    (SubscriptionRefusedError, Exit.SUBSCRIPTION),
    (BrokerError, Exit.UNREACHABLE),
)


def main() -> NoReturn:
    """Run ``plantops`` with the arguments of the process, and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are said on stderr, one line each.

    Args:
        arguments: the command line without the name of the program.
    """
    import typer

    # looked for here, so that it works before the command line is understood
    is_debug = DEBUG_FLAG in arguments
    try:
        _check_streams()
        return _run(arguments, is_debug=is_debug)
    except typer.TyperException as exc:
        return _usage(exc)
    except PlantopsError as exc:
        _trace(is_debug)
        complain(explain(exc))
        return exit_code(exc)
    except BrokenPipeError:
        from plantops_cli.cli.talk import silence

        silence(sys.stdout)
        return Exit.OK
    except SystemExit as exc:
        # rich's answer to a closed pipe, when it prints the help
        if isinstance(exc.__context__, BrokenPipeError):
            return Exit.OK
        raise
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as exc:
        _trace(is_debug)
        hint = "" if is_debug else "; --debug shows where"
        complain(f"unexpected {type(exc).__name__}{hint}")
        return Exit.UNEXPECTED


def exit_code(error: PlantopsError) -> Exit:
    """Look up the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), Exit.UNEXPECTED)


def explain(error: PlantopsError) -> str:
    """Say an error and its cure in one line."""
    return f"{error} ({error.hint})" if error.hint else str(error)


def complain(message: str) -> None:
    """Say one error on stderr; what came from elsewhere in it cannot command the terminal."""
    from plantops_cli.cli.talk import say

    say(f"error: {message}")


def _run(arguments: Sequence[str], *, is_debug: bool) -> int:
    import typer

    from plantops_cli.cli.app import app
    from plantops_cli.cli.talk import show_log

    show_log(is_debug=is_debug)
    command = typer.main.get_command(app)
    if "_PLANTOPS_COMPLETE" in os.environ:
        command.main(list(arguments), prog_name="plantops")
    try:
        # not .main(): it would answer a closed pipe with exit code 1
        with command.make_context("plantops", list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as exc:
        return exc.exit_code
    return Exit.OK


def _usage(exc: Exception) -> int:
    context = getattr(exc, "ctx", None)
    message = getattr(exc, "format_message", exc.__str__)()
    if type(exc).__name__ == "NoArgsIsHelpError":
        print(message)  # noqa: T201  # the help that was asked for by saying nothing
        return Exit.OK
    where = f" ({context.command_path} --help shows the usage)" if context else ""
    complain(" ".join(message.split()) + where)
    return Exit.USAGE


def _trace(is_debug: bool) -> None:
    if is_debug:
        traceback.print_exc()


def _check_streams() -> None:
    """Make up for a closed stderr, and refuse a closed stdout; Python shows each as None."""
    if sys.stderr is None:
        # print() would take None for stdout; open as long as the program runs
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if sys.stdout is None:
        raise OutputError("standard output is closed", hint="send it to a file, or to /dev/null")
