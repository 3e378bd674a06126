"""What a long run owes to its surroundings: metrics for Prometheus, and word to systemd."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from plantops_cli.cli.shared.systemd import Notifier
from plantops_cli.errors import ConfigError
from plantops_cli.fleet.device import DeviceState
from plantops_cli.fleet.monitor import FleetMonitor
from plantops_cli.fleet.presence import Presence
from plantops_cli.stream.status import Status
from plantops_cli.stream.subscriber import MQTTSubscriber


class Service:
    """Follows a subscriber, and tells of it.

    Args:
        presence: the account of the fleet, or None to keep none.
        on_status: told about each step too.
        metrics_port: the value of ``--metrics-port``.
        is_per_device: the value of ``--metrics-per-device``.
    """

    def __init__(
        self,
        presence: Presence | None,
        on_status: Callable[[Status], None],
        *,
        metrics_port: str | None = None,
        is_per_device: bool = False,
    ) -> None:
        if is_per_device and metrics_port is None:
            raise ConfigError("--metrics-per-device is for --metrics-port", hint="give --metrics-port PORT")
        self._metrics_port = metrics_port
        self._is_per_device = is_per_device
        self._notifier = Notifier(self._summary)
        self._subscriber: MQTTSubscriber | None = None
        self._tell = on_status
        self._presence = Presence() if presence is None and metrics_port is not None else presence
        self.monitor: FleetMonitor | None = None

    def on_status(self, status: Status) -> None:
        """Take note of a step of the connection."""
        self._notifier.tell(status)
        self._tell(status)

    def follow(self, subscriber: MQTTSubscriber) -> FleetMonitor | None:
        """Keep the account of the fleet, if one is to be kept, with what a subscriber hears.

        Args:
            subscriber: not yet connected, with ``on_status`` of this object; its reader hands each batch on.
        """
        self._subscriber = subscriber
        if self._presence is not None:
            self.monitor = FleetMonitor.follow(subscriber, presence=self._presence, has_handlers=False)
        return self.monitor

    @asynccontextmanager
    async def attending(self, subscriber: MQTTSubscriber) -> AsyncIterator[None]:
        """Serve and notify while the context lasts.

        Args:
            subscriber: the one that is followed.

        Raises:
            ConfigError: metrics cannot be served.
        """
        async with self._notifier.attending():
            if self._metrics_port is None:
                yield
                return
            from plantops_cli.metrics import Metrics, serving_metrics

            metrics = Metrics(subscriber, self.monitor, is_per_device=self._is_per_device)
            async with serving_metrics(self._metrics_port, metrics):
                yield

    def _summary(self) -> str:
        said = [f"{self._subscriber.health.received:,} messages"] if self._subscriber else []
        if self.monitor:
            counts = self.monitor.presence.count(self.monitor.now)
            said += [
                f"{number:,} {state.words}"
                for state, number in counts.items()
                if number or state is DeviceState.ONLINE
            ]
        return ", ".join(said)
