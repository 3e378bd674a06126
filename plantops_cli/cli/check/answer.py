"""What ``check`` says on standard output: a verdict, in the form that was asked for, or why there is none.

It loads no client, for it is needed where flags are refused, too.
"""

import sys

import orjson

from plantops_cli.cli.shared.exits import Exit, exit_code, explain
from plantops_cli.cli.shared.flags.display import CheckChoice
from plantops_cli.cli.shared.results import show_document, show_text
from plantops_cli.cli.shared.wording import counted
from plantops_cli.errors import PlantopsError
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.fleet.verdict import CheckStatus, Figure, Verdict
from plantops_cli.formats.terminal import encodable, escape, json_escape

# whoever is refused has to be told as much as one whose devices are gone
_REFUSALS = (Exit.CREDENTIALS, Exit.SUBSCRIPTION)


def say_error(error: PlantopsError, choice: CheckChoice) -> int:
    """Say on standard output why there was no look, and return the exit code.

    Args:
        error: what stood in its way.
        choice: how to say it.
    """
    verdict = verdict_of(error)
    show_verdict(verdict, None, choice)
    return verdict.status


def verdict_of(error: PlantopsError) -> Verdict:
    """Judge what stood in the way of a look."""
    # a monitor reads standard output, and takes an exit code of 2 for critical
    status = CheckStatus.CRITICAL if exit_code(error) in _REFUSALS else CheckStatus.UNKNOWN
    return Verdict(status, (explain(error),), ())


def show_verdict(verdict: Verdict, look: Snapshot | None, choice: CheckChoice) -> None:
    """Say a verdict on standard output, where a monitor reads.

    Args:
        verdict: what was found.
        look: what it was found in; None: there was no look.
        choice: how to say it.

    Raises:
        BrokenPipeError: the reader has gone.
        OutputError: standard output refuses it.
    """
    if choice is CheckChoice.JSON:
        document = _document(verdict, look)
        show_document(json_escape(document) if sys.stdout.isatty() else document)
    else:
        show_text(_render(verdict, look, choice))


def _document(verdict: Verdict, look: Snapshot | None) -> bytes:
    document = {
        "status": verdict.status.name.lower(),
        "code": int(verdict.status),
        "reasons": list(map(encodable, verdict.reasons)),
        "notes": list(map(encodable, verdict.notes)),
        **(look.document if look else {"summary": None, "devices": []}),
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _render(verdict: Verdict, look: Snapshot | None, choice: CheckChoice) -> str:
    if choice is CheckChoice.PROMETHEUS:
        return _prometheus(verdict)
    said = "; ".join([escape("; ".join(verdict.reasons)) or _well(look), *map(escape, verdict.notes)])
    if choice is CheckChoice.TEXT:
        figures = "".join(
            f"  {figure.name.replace('_', ' '):<14}  {figure.value:g}\n" for figure in verdict.figures
        )
        reasons = "".join(f"  {escape(reason)}\n" for reason in (*verdict.reasons, *verdict.notes))
        return f"{verdict.status.name}: {_well(look) if look else 'no look'}\n{reasons}{figures}"
    # the bar begins the performance data
    data = " ".join(map(_performance, verdict.figures))
    return f"PLANTOPS {verdict.status.name} - {said.replace('|', '/')}" + (f" | {data}\n" if data else "\n")


def _well(look: Snapshot | None) -> str:
    if look is None:
        return ""
    counts = [f"{number} {state.words}" for state, number in reversed(look.counts.items()) if number]
    rate = "" if look.rate is None else f", {look.rate:.3g} messages/s"
    return f"{counted(len(look.reports), 'device')} ({', '.join(counts) or 'none'}){rate}"


def _performance(figure: Figure) -> str:
    return f"{figure.name}={figure.value:g}{figure.unit};{figure.warning};{figure.critical};0"


def _prometheus(verdict: Verdict) -> str:
    lines = [
        "# HELP plantops_check_status Verdict of plantops check: 0 ok, 1 warning, 2 critical, 3 unknown.",
        "# TYPE plantops_check_status gauge",
        f"plantops_check_status {int(verdict.status)}",
    ]
    for figure in verdict.figures:
        name = f"plantops_check_{figure.name}" + ("_seconds" if figure.unit == "s" else "")
        lines += [f"# TYPE {name} gauge", f"{name} {figure.value:g}"]
    return "\n".join([*lines, ""])
