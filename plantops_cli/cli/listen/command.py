"""``plantops listen``: subscribe and show what the devices say."""

import typer

from plantops_cli.cli.shared import options as o
from plantops_cli.cli.shared.room import check_room


@o.with_connection()
def listen(
    filters: o.Filters = None,
    *,
    connection: o.Connection,
    ensure_user: o.EnsureUser = False,
    qos: o.Qos = 1,
    count: o.Count = None,
    timeout: o.Timeout = None,
    filter_out: o.FilterOut = None,
    device: o.Device = None,
    kind: o.KindOnly = None,
    no_retained: o.NoRetained = False,
    retained_only: o.RetainedOnly = False,
    durable: o.Durable = None,
    session_expiry: o.SessionExpiry = None,
    group: o.Group = None,
    max_packet_size: o.MaxPacketSize = 16_777_216,
    wait_for_broker: o.WaitForBroker = False,
    output: o.Output = None,
    to: o.To = None,
    rotate_size: o.RotateSize = None,
    rotate_every: o.RotateEvery = None,
    metrics_port: o.MetricsPort = None,
    metrics_per_device: o.MetricsPerDevice = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Subscribe and show each message as it comes, until stopped.

    Messages go to standard output, status and the closing summary to standard
    error. Once connected it stays: lost connections are made again.
    """
    import asyncio

    from plantops_cli.cli.listen.run import Listening, renderer
    from plantops_cli.cli.listen.to_file import file_destination
    from plantops_cli.cli.shared.connection import ConnectionFlags, subscriber
    from plantops_cli.cli.shared.observers import MetricsFlags, announce
    from plantops_cli.cli.shared.run import Limits
    from plantops_cli.cli.shared.selection import Selection

    check_room()
    selection = Selection(
        filters=filters or (),
        filter_out=filter_out or (),
        devices=device or (),
        kind=kind,
        is_retained_wanted=not no_retained,
        is_live_wanted=not retained_only,
    )
    limits = Limits(count=count, timeout_seconds=timeout, wait_for_broker=wait_for_broker, is_quiet=quiet)
    flags = ConnectionFlags(
        **connection,
        durable=durable,
        session_expiry=session_expiry,
        group=group,
        max_packet_size=max_packet_size,
    )
    destination = file_destination(to, output, rotate_size=rotate_size, rotate_every=rotate_every)
    metrics = MetricsFlags(port=metrics_port, is_per_device=metrics_per_device)
    mqtt = subscriber(flags, qos=qos, on_status=announce(is_quiet=quiet), is_login_ensured=ensure_user)
    chosen = renderer(output, selection, is_for_file=destination is not None)
    listening = Listening(mqtt, selection, chosen, limits, destination=destination, metrics=metrics)
    raise typer.Exit(asyncio.run(listening.run()))
