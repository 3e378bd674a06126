"""The run of ``check``: a look, a verdict, and its exit code."""

import sys
from dataclasses import replace

import orjson
import typer

from plantops_cli.cli.check.check_flags import CheckFlags
from plantops_cli.cli.check.contract import load_contract
from plantops_cli.cli.shared.connection import subscriber
from plantops_cli.cli.shared.exits import Exit, exit_code, explain
from plantops_cli.cli.shared.flags.display import CheckChoice, MetricsFlags
from plantops_cli.cli.shared.observers import observers_of
from plantops_cli.cli.shared.presence_keeper import PresenceKeeper
from plantops_cli.cli.shared.results import show_document, show_text
from plantops_cli.cli.shared.run import Limits, StreamRun
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.stopping import Stop, exit_for
from plantops_cli.cli.shared.wording import SILENCE, counted
from plantops_cli.errors import ConfigError, ConnectionLostError, PlantopsError
from plantops_cli.fleet.monitor import clock_offset_seconds
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.fleet.verdict import CheckStatus, Figure, Thresholds, Verdict, judge
from plantops_cli.formats.terminal import encodable, escape, json_escape
from plantops_cli.stream.status import Connecting, Status, describe

# whoever is refused has to be told as much as one whose devices are gone
_REFUSALS = (Exit.CREDENTIALS, Exit.SUBSCRIPTION)


async def run_check(flags: CheckFlags) -> int:
    """Look, say the verdict on standard output, and return its exit code.

    Args:
        flags: where the broker is, how long to look, and what is too much.
    """
    look = None
    try:
        # before the look, which takes its time and would be in vain
        thresholds = _thresholds(flags)
        look = await _look(flags)
        verdict = judge(look, thresholds)
    except PlantopsError as exc:
        verdict = _verdict_of(exc)
    if look is not None and not look.messages:
        reasons = (f"{verdict.reasons[0]}; {SILENCE}", *verdict.reasons[1:])
        verdict = replace(verdict, reasons=reasons)
    _show(verdict, look, flags.output)
    return verdict.status


def say_error(error: PlantopsError, choice: CheckChoice) -> int:
    """Say on standard output why there was no look, and return the exit code.

    Args:
        error: what stood in its way.
        choice: how to say it.
    """
    verdict = _verdict_of(error)
    _show(verdict, None, choice)
    return verdict.status


def _verdict_of(error: PlantopsError) -> Verdict:
    # a monitor reads standard output, and takes an exit code of 2 for critical
    status = CheckStatus.CRITICAL if exit_code(error) in _REFUSALS else CheckStatus.UNKNOWN
    return Verdict(status, (explain(error),), ())


def _thresholds(flags: CheckFlags) -> Thresholds:
    try:
        return Thresholds(
            warn_late=flags.warn_late,
            crit_offline=flags.crit_offline,
            min_rate=flags.min_rate,
            max_invalid=0 if flags.contract and flags.max_invalid is None else flags.max_invalid,
        )
    except ConfigError as exc:
        # the library names the argument, and the flag is called like it
        argument, _, fault = str(exc).partition(" ")
        raise ConfigError(f"--{argument.replace('_', '-')} {fault}", hint=exc.hint) from exc


async def _look(flags: CheckFlags) -> Snapshot:
    presence = Presence(
        roster=flags.roster.ids,
        offline_after_seconds=flags.offline_after_seconds,
        contract=load_contract(flags.contract) if flags.contract else None,
        clock_offset_seconds=clock_offset_seconds(),
    )
    limits = Limits(within_seconds=flags.within_seconds)
    selection = Selection(devices=flags.devices)
    mqtt = subscriber(flags.connection, qos=flags.qos, on_status=_name_address)
    keeper = PresenceKeeper(mqtt, presence)
    observers = observers_of(mqtt, keeper.monitor, MetricsFlags())
    run = StreamRun(mqtt, selection.topic_filters, keeper, limits, observers=observers)
    await run.run(keeper.follow)
    if run.reason is not Stop.TIMEOUT:
        raise typer.Exit(exit_for(run.reason, count=1, shown=0))
    outages = mqtt.health.outages
    if outages and outages[-1].ended_at is None:
        # whoever has stopped hearing cannot say who is silent
        raise ConnectionLostError(outages[-1].reason, endpoint=mqtt.options.endpoint)
    return keeper.look()


def _name_address(status: Status) -> None:
    """Say on stderr where the password goes, if a file had a say in it; the rest is in the verdict."""
    if isinstance(status, Connecting) and status.address_source is not None:
        say(describe(status))


def _show(verdict: Verdict, look: Snapshot | None, choice: CheckChoice) -> None:
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
