"""What ``check`` answers when it could not even begin: a monitor reads standard output, and is told there."""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from plantops_cli.cli.shared.flags.display import CheckChoice
from plantops_cli.cli.shared.results import show_text
from plantops_cli.errors import OutputError
from plantops_cli.formats.terminal import encodable, escape

# to a monitor 1 is a warning and 2 is critical; what cannot be checked is unknown
_UNKNOWN = 3
_OUTPUT = ("-o", "--output")


def answer_failure(said: str, arguments: Sequence[str]) -> int:
    """Say on standard output why there was no look, and return the exit code.

    Args:
        said: the line that was said on stderr.
        arguments: the command line, which may not have been understood.
    """
    # standard output may be what failed
    if sys.stdout is not None:
        with suppress(BrokenPipeError, OutputError):
            show_text(_render(said, _form(arguments)))
    return _UNKNOWN


def _form(arguments: Sequence[str]) -> str:
    words = [part for word in arguments for part in word.split("=", 1)]
    return next((value for flag, value in pairwise(words) if flag in _OUTPUT), "")


def _render(said: str, form: str) -> str:
    if form == CheckChoice.JSON:
        document = {"status": "unknown", "code": _UNKNOWN, "reasons": [encodable(said)]}
        return json.dumps(document | {"summary": None, "devices": []}, indent=2) + "\n"
    if form == CheckChoice.PROMETHEUS:
        return f"# TYPE plantops_check_status gauge\nplantops_check_status {_UNKNOWN}\n"
    if form == CheckChoice.TEXT:
        return f"UNKNOWN: no look\n  {escape(said)}\n"
    # the bar begins the performance data
    return f"PLANTOPS UNKNOWN - {escape(said).replace('|', '/')}\n"
