"""The run of ``check``: a look, a verdict, and its exit code."""

from dataclasses import replace

import typer

from plantops_cli.cli.check.answer import show_verdict, verdict_of
from plantops_cli.cli.check.check_flags import CheckFlags
from plantops_cli.cli.check.contract import load_contract
from plantops_cli.cli.shared.connection import subscriber
from plantops_cli.cli.shared.flags.display import MetricsFlags
from plantops_cli.cli.shared.observers import observers_of
from plantops_cli.cli.shared.presence_keeper import PresenceKeeper
from plantops_cli.cli.shared.run import Limits, StreamRun
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.stopping import Stop, exit_for
from plantops_cli.cli.shared.wording import SILENCE
from plantops_cli.errors import ConfigError, ConnectionLostError, PlantopsError
from plantops_cli.fleet.monitor import clock_offset_seconds
from plantops_cli.fleet.presence import Presence
from plantops_cli.fleet.snapshot import Snapshot
from plantops_cli.fleet.verdict import Thresholds, judge
from plantops_cli.stream.status import Connecting, Status, describe


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
        verdict = verdict_of(exc)
    if look is not None and not look.messages:
        reasons = (f"{verdict.reasons[0]}; {SILENCE}", *verdict.reasons[1:])
        verdict = replace(verdict, reasons=reasons)
    show_verdict(verdict, look, flags.output)
    return verdict.status


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
