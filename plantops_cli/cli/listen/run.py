"""The run of ``listen``: what comes is written, and accounted for at the end."""

import asyncio
import sys
from typing import TYPE_CHECKING

from plantops_cli.cli.listen.line_writer import LineWriter
from plantops_cli.cli.listen.listen_flags import ListenFlags
from plantops_cli.cli.listen.silence import SilenceNotice
from plantops_cli.cli.listen.to_file import file_destination
from plantops_cli.cli.shared.connection import subscriber, without_url
from plantops_cli.cli.shared.exits import Exit
from plantops_cli.cli.shared.flags.display import MetricsFlags
from plantops_cli.cli.shared.observers import announce, observers_of
from plantops_cli.cli.shared.run import Limits, StreamRun
from plantops_cli.cli.shared.selection import Selection
from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.stopping import Stop, exit_for
from plantops_cli.cli.shared.wording import never_connected
from plantops_cli.formats.registry import Format
from plantops_cli.formats.renderer import Renderer
from plantops_cli.outputs.destination import Destination
from plantops_cli.outputs.stdout import StandardOutput
from plantops_cli.stream.asking import is_shared
from plantops_cli.stream.subscriber import MQTTSubscriber

if TYPE_CHECKING:  # only who serves metrics keeps an account of the fleet
    from plantops_cli.fleet.monitor import FleetMonitor


def run_listen(flags: ListenFlags) -> Exit:
    """Listen as the flags say, and return the exit code.

    Args:
        flags: where the broker is, what is wanted of it, and where to write it.

    Raises:
        ConfigError: flags are malformed or contradict each other.
        BrokerFileError, ReloadError: the login could not be added.
        BrokerError: the first connection failed, or the stream ended for good.
        OutputError: the destination refused a write.
    """
    filters, connection = without_url(flags.filters, flags.connection)
    selection = Selection(
        filters=filters,
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
    )
    destination = file_destination(flags.file)
    # before the loop, in which Ctrl-C would not end a prompt for the password
    mqtt = subscriber(
        connection,
        flags.session,
        qos=flags.qos,
        on_status=announce(is_quiet=flags.is_quiet),
        is_login_ensured=flags.is_login_ensured,
    )
    chosen = renderer(flags.output, selection, is_for_file=destination is not None)
    listening = Listening(
        mqtt,
        selection,
        chosen,
        limits,
        destination=destination,
        metrics=flags.metrics,
        is_quiet=flags.is_quiet,
        has_group=flags.session.group is not None or any(map(is_shared, filters)),
    )
    return asyncio.run(listening.run())


class Listening:
    """One run that writes what is wanted, and says at the end what came.

    Args:
        subscriber: not yet connected.
        selection: what to subscribe to and show.
        renderer: turns messages into the bytes to write; leaves out those that are not wanted.
        limits: when to stop.
        destination: where to write; default: standard output.
        metrics: whether metrics are served.
        is_quiet: True leaves out the summary, and what silence may mean.
        has_group: whether others of a group get a part of the messages.
    """

    def __init__(
        self,
        subscriber: MQTTSubscriber,
        selection: Selection,
        renderer: Renderer,
        limits: Limits,
        *,
        destination: Destination | None = None,
        metrics: MetricsFlags | None = None,
        is_quiet: bool = False,
        has_group: bool = False,
    ) -> None:
        metrics = metrics or MetricsFlags()
        destination = destination or StandardOutput(sys.stdout.fileno())
        monitor = _monitor(subscriber) if metrics.metrics_port is not None else None
        self._count = limits.count
        self._silence = None if is_quiet else SilenceNotice(subscriber, has_group=has_group)
        self._writer = LineWriter(renderer, destination, count=limits.count, monitor=monitor)
        self._run = StreamRun(
            subscriber,
            selection.topic_filters,
            self._writer,
            limits,
            observers=(
                *observers_of(subscriber, monitor, metrics),
                *((self._silence.attending(),) if self._silence else ()),
            ),
            destination=destination,
        )

    def stop(self, reason: Stop) -> None:
        """As ``StreamRun.stop``."""
        self._run.stop(reason)

    async def run(self, *, has_signals: bool = True) -> Exit:
        """Listen until stopped, and return the exit code.

        Args:
            has_signals: as for ``StreamRun.run``.

        Raises:
            BrokerError: the first connection failed, or the stream ended for good.
            OutputError: the destination refused a write.
        """
        try:
            await self._run.run(has_signals=has_signals)
        finally:
            if self._silence:
                self._say_summary(self._silence)
        return exit_for(self._run.reason, count=self._count, shown=self._writer.summary.shown)

    def _say_summary(self, silence: SilenceNotice) -> None:
        run, health = self._run, self._run.subscriber.health
        if run.obstacle is not None:
            say(never_connected(run.obstacle, elapsed_seconds=run.elapsed_seconds))
        elif health.connection_count:
            silence.say_at_the_end()
            for line in self._writer.summary.lines(health, elapsed_seconds=run.elapsed_seconds):
                say(line)


def _monitor(subscriber: MQTTSubscriber) -> "FleetMonitor":
    from plantops_cli.fleet.monitor import FleetMonitor

    return FleetMonitor.follow(subscriber, has_handlers=False)


def renderer(choice: Format | None, selection: Selection, *, is_for_file: bool = False) -> Renderer:
    """Choose how messages are written; by default for people on a terminal, for programs elsewhere.

    Args:
        choice: the value of ``-o``, or None.
        selection: tells which messages are wanted.
        is_for_file: whether they go to a file of their own, and not to standard output.
    """
    is_terminal = sys.stdout.isatty() and not is_for_file
    chosen = choice or (Format.PRETTY if is_terminal else Format.JSONL)
    return chosen.renderer(selection.wants, is_terminal=is_terminal)
