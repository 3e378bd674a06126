"""``plantops fleet``: which device is alive, late or gone."""

import typer

from plantops_cli.cli.shared import options as o
from plantops_cli.cli.shared.room import check_room


@o.with_connection(keepalive=5)
def fleet(
    *,
    connection: o.Connection,
    once: o.Once = False,
    wait: o.Wait = None,
    events: o.Events = False,
    expect: o.Expect = None,
    expect_ids: o.ExpectIds = None,
    save_roster: o.SaveRoster = None,
    offline_after: o.OfflineAfter = None,
    field: o.ValueField = None,
    seq: o.SeqField = None,
    clock: o.ClockField = None,
    qos: o.Qos = 1,
    device: o.Device = None,
    timeout: o.Timeout = None,
    wait_for_broker: o.WaitForBroker = False,
    metrics_port: o.MetricsPort = None,
    metrics_per_device: o.MetricsPerDevice = False,
    output: o.Fleet = None,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Show which device is online, late, offline, mute or without heartbeat.

    Without --once or --events this is a live board on the terminal. A topic is
    late after two of its observed intervals and silent after four; times without
    a connection of our own are held against no device.
    """
    import asyncio

    from plantops_cli.cli.fleet.run import FleetFlags, run_fleet
    from plantops_cli.cli.shared.connection import ConnectionFlags

    check_room()
    flags = FleetFlags(
        is_once=once,
        wait=wait,
        is_events=events,
        expect=expect,
        expect_ids=expect_ids,
        save_roster=save_roster,
        offline_after=offline_after,
        field=field,
        seq=seq,
        clock=clock,
        qos=qos,
        devices=tuple(device or ()),
        timeout_seconds=timeout,
        wait_for_broker=wait_for_broker,
        metrics_port=metrics_port,
        is_per_device=metrics_per_device,
        output=output,
        is_quiet=quiet,
    )
    raise typer.Exit(asyncio.run(run_fleet(flags, ConnectionFlags(**connection))))
