"""Who stands beside a run: the person at the terminal, systemd, and Prometheus if it asks.

Each is a status listener of the subscriber of its own, or looks at it when it is asked; nobody hands a step on.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

from plantops_cli.cli.shared.flags.display import MetricsFlags
from plantops_cli.cli.shared.stderr import say
from plantops_cli.cli.shared.systemd import Notifier
from plantops_cli.stream.status import SessionLost, Status, StatusListener, describe, log_status
from plantops_cli.stream.subscriber import MQTTSubscriber

if TYPE_CHECKING:  # listen loads it only for metrics
    from plantops_cli.fleet.monitor import FleetMonitor

Observer = AbstractAsyncContextManager[None]
"""Is there as long as a run lasts."""


def announce(*, is_quiet: bool) -> StatusListener:
    """Choose who is told about each step: a person on stderr, or nobody; of lost messages everybody is warned.

    Args:
        is_quiet: whether nothing else is to be said.
    """

    def tell(status: Status) -> None:
        if isinstance(status, SessionLost):
            log_status(status)
        elif not is_quiet:
            say(describe(status))

    return tell


def observers_of(
    subscriber: MQTTSubscriber, monitor: "FleetMonitor | None", metrics: MetricsFlags
) -> Sequence[Observer]:
    """Let systemd and Prometheus know how a subscriber fares, while each of the observers lasts.

    Args:
        subscriber: not yet connected.
        monitor: keeps the account of the fleet; None: nobody does.
        metrics: whether metrics are served.
    """
    notifier = Notifier(lambda: _how_it_fares(subscriber, monitor))
    subscriber.add_status_listener(notifier.tell)
    if metrics.metrics_port is None:
        return (notifier.attending(),)
    return notifier.attending(), _serving(
        metrics.metrics_port, subscriber, monitor, is_per_device=metrics.is_per_device
    )


@asynccontextmanager
async def _serving(
    address: tuple[str, int], subscriber: MQTTSubscriber, monitor: "FleetMonitor | None", *, is_per_device: bool
) -> AsyncIterator[None]:
    # only who asks for metrics needs their library
    from plantops_cli.metrics import Metrics, serving_metrics

    async with serving_metrics(address, Metrics(subscriber, monitor, is_per_device=is_per_device)):
        yield


def _how_it_fares(subscriber: MQTTSubscriber, monitor: "FleetMonitor | None") -> str:
    said = [f"{subscriber.health.received:,} messages"]
    if monitor:
        from plantops_cli.fleet.device import DeviceState

        counts = monitor.presence.count(monitor.now)
        said += [
            f"{number:,} {state.words}"
            for state, number in counts.items()
            if number or state is DeviceState.ONLINE
        ]
    return ", ".join(said)
