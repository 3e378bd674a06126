"""``plantops listen``: subscribe and show what the devices say."""

from dataclasses import dataclass

import typer

from plantops_cli.cli.shared.command import command
from plantops_cli.cli.shared.flags import connect, display, subscribe
from plantops_cli.cli.shared.flags.connect import ConnectionFlags
from plantops_cli.cli.shared.flags.display import FileFlags, MetricsFlags
from plantops_cli.cli.shared.flags.subscribe import SessionFlags
from plantops_cli.cli.shared.room import check_room
from plantops_cli.errors import ConfigError
from plantops_cli.formats.registry import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenFlags:
    """The flags of ``listen``, in the order of its help; None, False and nothing mean: not given."""

    filters: subscribe.Filters = ()
    connection: ConnectionFlags = ConnectionFlags()
    is_login_ensured: connect.EnsureUser = False
    qos: subscribe.Qos = 1
    count: subscribe.Count = None
    timeout_seconds: subscribe.Timeout = None
    filter_out: subscribe.FilterOut = ()
    devices: subscribe.Devices = ()
    kind: subscribe.KindOnly = None
    no_retained: subscribe.NoRetained = False
    retained_only: subscribe.RetainedOnly = False
    session: SessionFlags = SessionFlags()
    wait_for_broker: subscribe.WaitForBroker = False
    output: display.Output = None
    file: FileFlags = FileFlags()
    metrics: MetricsFlags = MetricsFlags()
    is_quiet: display.Quiet = False

    def __post_init__(self) -> None:
        if self.session.durable is not None and self.qos == 0:
            raise ConfigError("--durable and --qos 0: a broker keeps nothing of QoS 0", hint="leave --qos out")
        if self.file.to is not None and self.output not in (None, Format.JSONL):
            # by which a file is known for ours when it is continued
            raise ConfigError(f"--to writes JSON lines, not --output {self.output}", hint="leave --output out")


@command()
def listen(flags: ListenFlags) -> None:
    """Subscribe and show each message as it comes, until stopped.

    Messages go to standard output, status and the closing summary to standard
    error. Once connected it stays: lost connections are made again.
    """
    import asyncio

    from plantops_cli.cli.listen.run import Listening, renderer
    from plantops_cli.cli.listen.to_file import file_destination
    from plantops_cli.cli.shared.connection import subscriber
    from plantops_cli.cli.shared.observers import announce
    from plantops_cli.cli.shared.run import Limits
    from plantops_cli.cli.shared.selection import Selection

    check_room()
    selection = Selection(
        filters=flags.filters,
        filter_out=flags.filter_out,
        devices=flags.devices,
        kind=flags.kind,
        is_retained_wanted=not flags.no_retained,
        is_live_wanted=not flags.retained_only,
    )
    limits = Limits(
        count=flags.count,
        timeout_seconds=flags.timeout_seconds,
        wait_for_broker=flags.wait_for_broker,
        is_quiet=flags.is_quiet,
    )
    destination = file_destination(flags.file)
    mqtt = subscriber(
        flags.connection,
        flags.session,
        qos=flags.qos,
        on_status=announce(is_quiet=flags.is_quiet),
        is_login_ensured=flags.is_login_ensured,
    )
    chosen = renderer(flags.output, selection, is_for_file=destination is not None)
    listening = Listening(mqtt, selection, chosen, limits, destination=destination, metrics=flags.metrics)
    raise typer.Exit(asyncio.run(listening.run()))
