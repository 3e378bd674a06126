"""Health and presence for Prometheus (extra ``metrics``).

The one importer of prometheus_client. Labels are bounded: no series for single devices, unless asked for.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from plantops_cli.errors import ConfigError
from plantops_cli.fleet.device import HEARTBEAT, TELEMETRY, DeviceReport
from plantops_cli.fleet.monitor import FleetMonitor, clock_offset_seconds
from plantops_cli.quantities import parse_address
from plantops_cli.stream.rates import Rates
from plantops_cli.stream.status import State
from plantops_cli.stream.subscriber import MQTTSubscriber

try:
    from prometheus_client import CollectorRegistry, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError as exc:
    raise ConfigError(f"metrics cannot be served: {exc}", hint="pip install 'plantops-cli[metrics]'") from exc

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("plantops.metrics")

_SCRAPE_SECONDS = 5.0


class Metrics(Collector):
    """A collector of what a subscriber and its fleet are at the moment of a scrape.

    Made in the event loop of the subscriber; scraped in any thread.

    Args:
        subscriber: whose health is shown.
        monitor: what follows it; None: no devices are counted.
        is_per_device: whether each device has series of its own.
    """

    def __init__(
        self, subscriber: MQTTSubscriber, monitor: FleetMonitor | None = None, *, is_per_device: bool = False
    ) -> None:
        self._subscriber = subscriber
        self._monitor = monitor
        self._is_per_device = is_per_device
        self._loop = asyncio.get_running_loop()

    def describe(self) -> list[Metric]:
        """Return nothing, so that nothing is collected just to be registered."""
        return []

    def collect(self) -> list[Metric]:
        """Collect, in the event loop, where nothing changes meanwhile."""
        try:
            return asyncio.run_coroutine_threadsafe(self._snapshot(), self._loop).result(_SCRAPE_SECONDS)
        except TimeoutError:
            raise TimeoutError(f"the event loop was busy for {_SCRAPE_SECONDS:g} s") from None

    async def _snapshot(self) -> list[Metric]:
        return [*self._health(), *(self._fleet(self._monitor) if self._monitor else ())]

    def _health(self) -> Iterator[Metric]:
        health = self._subscriber.health
        yield _gauge("connected", "Whether there is a connection to the broker.", health.state is State.CONNECTED)
        yield _counter("received_messages", "Messages received.", health.received)
        yield _counter("invalid_topics", "Messages passed over because their topic is no topic.", health.invalid)
        yield _counter("handler_errors", "Calls of handlers that failed.", health.handler_errors)
        yield _counter("handler_timeouts", "Calls of handlers that took too long.", health.handler_timeouts)
        yield _counter("handler_retries", "Calls of handlers that were made once more.", health.handler_retries)
        yield _counter("dead_letters", "Messages given up, and published as dead letters.", health.dead_letters)
        yield _counter(
            "invalid_payloads", "Messages that did not fit the types of a handler.", health.invalid_payloads
        )
        yield _counter(
            "reconnections", "Connections made after the first one.", max(0, health.connection_count - 1)
        )
        yield _counter("outages", "Connections lost.", health.outage_count)
        yield _counter(
            "outage_seconds", "Time without the broker, each from when it was heard last.", health.outage_seconds
        )
        yield _counter("lost_sessions", "Durable sessions that the broker had forgotten.", health.lost_sessions)
        yield _counter(
            "paused_seconds", "Time for which slow handlers or output held the stream up.", health.paused_seconds
        )
        if health.last_message_at:
            at = health.last_message_at.timestamp()
            yield _gauge("last_message_timestamp_seconds", "When the newest message was read.", at)

    def _fleet(self, monitor: FleetMonitor) -> Iterator[Metric]:
        presence = monitor.presence
        devices = GaugeMetricFamily("plantops_devices", "Devices by state.", labels=["state"])
        for state, number in presence.count(monitor.now).items():
            devices.add_metric([state.value], number)
        yield devices
        topics = GaugeMetricFamily(
            "plantops_device_topics",
            "Topics of the devices heard, by what is known of their rhythm; only one that is known can be late.",
            labels=["kind", "rhythm"],
        )
        for (kind, rhythm), number in presence.count_rhythms(monitor.now).items():
            topics.add_metric([kind, rhythm.value], number)
        yield topics
        yield _gauge(
            "retained_only_devices", "Devices known from a retained message only.", presence.retained_only_count
        )
        yield _counter("invalid_payloads", "Invalid telemetry payloads.", presence.invalid_count)
        yield _gauge("unknown_devices", "Devices heard that are not on the roster.", presence.unknown_count)
        if self._is_per_device:
            yield from self._devices(presence.reports(monitor.now))

    def _devices(self, reports: list[DeviceReport]) -> Iterator[Metric]:
        offset = clock_offset_seconds()
        state = GaugeMetricFamily(
            "plantops_device_state", "1 for the state of a device.", labels=["device_id", "state"]
        )
        messages = CounterMetricFamily("plantops_device_messages", "Messages of a device.", labels=["device_id"])
        invalid = CounterMetricFamily(
            "plantops_device_invalid_payloads", "Its invalid ones.", labels=["device_id"]
        )
        last = GaugeMetricFamily(
            "plantops_device_last_timestamp_seconds", "When a topic was heard last.", labels=["device_id", "kind"]
        )
        rhythm = GaugeMetricFamily(
            "plantops_device_rhythm",
            "1 for what is known of the rhythm of a topic.",
            labels=["device_id", "kind", "rhythm"],
        )
        retained = GaugeMetricFamily(
            "plantops_device_retained_only",
            "Whether only a retained message is known of it.",
            labels=["device_id"],
        )
        for report in reports:
            retained.add_metric([report.device_id], float(report.is_retained_only))
            state.add_metric([report.device_id, report.state.value], 1)
            messages.add_metric([report.device_id], report.messages)
            invalid.add_metric([report.device_id], report.invalid)
            for kind, known, at in (
                (TELEMETRY, report.telemetry_rhythm, report.last_telemetry),
                (HEARTBEAT, report.heartbeat_rhythm, report.last_heartbeat),
            ):
                if known:
                    rhythm.add_metric([report.device_id, kind, known.value], 1)
                if at is not None:
                    last.add_metric([report.device_id, kind], at + offset)
        yield from (state, messages, invalid, last, rhythm, retained)


@asynccontextmanager
async def serving_metrics(address: str | tuple[str, int], metrics: Metrics) -> AsyncIterator[None]:
    """Serve metrics over HTTP while the context lasts.

    Args:
        address: a port, on 127.0.0.1, or ``ADDRESS:PORT``; or both, taken apart.
        metrics: what to serve.

    Raises:
        ConfigError: the address is none, or cannot be listened on.
    """
    host, port = parse_address(address) if isinstance(address, str) else address
    registry = CollectorRegistry()
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as exc:
        raise ConfigError(
            f"no metrics can be served on {host}:{port}: {exc.strerror or exc}",
            hint="choose a free port of this machine",
        ) from exc
    requests = _FailedRequests()
    # socketserver and wsgiref would print a traceback for each, such as whenever somebody hangs up early
    if app := server.get_app():
        server.set_app(partial(requests.answer, app))
    # meant to be overridden, by a subclass and by the names of its arguments
    server.handle_error = lambda _, address: requests.tell(address[0])  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        requests.rates.tell_left_out()
        # a scrape under way needs the event loop to end
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)


class _FailedRequests:
    """Tells of requests that failed, for whoever reaches the port can make them fail."""

    def __init__(self) -> None:
        self.rates = Rates(logger)

    def tell(self, host: str) -> None:
        if (more := self.rates.ask("requests for metrics that failed")) is not None:
            logger.warning("a request for metrics of %s failed: %s%s", host, sys.exception(), more)

    def answer(
        self, app: "WSGIApplication", environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        try:
            return app(environ, start_response)
        except Exception:
            self.tell(environ["REMOTE_ADDR"])
            start_response("503 Service Unavailable", [])
            return [b""]


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"plantops_{name}", what, value=float(value))


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"plantops_{name}", what, value=float(value))
