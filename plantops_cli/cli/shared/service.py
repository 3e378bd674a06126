"""What a long run owes to its surroundings: metrics for Prometheus, and word to systemd."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from plantops_cli.cli.shared.systemd import Notifier
from plantops_cli.errors import ConfigError
from plantops_cli.fleet.monitor import Following
from plantops_cli.fleet.presence import DeviceState, Presence
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
        if presence is None and metrics_port is not None:
            presence = Presence()
        self.following = Following(presence, self._told) if presence is not None else None

    def on_status(self, status: Status) -> None:
        """Take note of a step of the connection."""
        (self.following.on_status if self.following else self._told)(status)

    @asynccontextmanager
    async def attending(self, subscriber: MQTTSubscriber) -> AsyncIterator[None]:
        """Serve and notify while the context lasts.

        Args:
            subscriber: not yet connected, with ``on_status`` of this object.

        Raises:
            ConfigError: metrics cannot be served.
        """
        self._subscriber = subscriber
        if self.following:
            self.following.attach(subscriber, is_handler=False)
        async with self._notifier.attending():
            if self._metrics_port is None:
                yield
                return
            from plantops_cli.metrics import Metrics, serving_metrics

            metrics = Metrics(subscriber, self.following, is_per_device=self._is_per_device)
            async with serving_metrics(self._metrics_port, metrics):
                yield

    def _told(self, status: Status) -> None:
        self._notifier.tell(status)
        self._tell(status)

    def _summary(self) -> str:
        said = [f"{self._subscriber.health.received:,} messages"] if self._subscriber else []
        if self.following:
            counts = self.following.presence.count(self.following.now)
            said += [
                f"{number:,} {state.words}"
                for state, number in counts.items()
                if number or state is DeviceState.ONLINE
            ]
        return ", ".join(said)
