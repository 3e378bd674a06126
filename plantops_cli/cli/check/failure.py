"""What ``check`` answers when it could not even begin: a monitor reads standard output, and is told there."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from plantops_cli.cli.check.answer import show_verdict
from plantops_cli.cli.shared.flags.display import CheckChoice
from plantops_cli.errors import OutputError
from plantops_cli.fleet.verdict import CheckStatus, Verdict

_OUTPUT = ("-o", "--output")


def answer_failure(said: str, arguments: Sequence[str]) -> int:
    """Say on standard output why there was no look, and return the exit code.

    Args:
        said: the line that was said on stderr.
        arguments: the command line, which may not have been understood.
    """
    # to a monitor 1 is a warning and 2 is critical; what cannot be checked is unknown
    verdict = Verdict(CheckStatus.UNKNOWN, (said,), ())
    # standard output may be what failed
    if sys.stdout is not None:
        with suppress(BrokenPipeError, OutputError):
            show_verdict(verdict, None, _form(arguments))
    return verdict.status


def _form(arguments: Sequence[str]) -> CheckChoice:
    words = [part for word in arguments for part in word.split("=", 1)]
    said = next((value for flag, value in pairwise(words) if flag in _OUTPUT), "")
    return next((choice for choice in CheckChoice if choice == said), CheckChoice.NAGIOS)
