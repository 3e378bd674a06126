"""A dozen simulated plants: what each of them publishes, and when.

Pure: time comes in as seconds since the start, chance as a seeded generator, so that a seed tells the whole story.
"""

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

DEVICE_IDS = (
    "basil-01",
    "monstera-02",
    "orchid-03",
    "fern-04",
    "cactus-05",
    "lavender-06",
    "ficus-07",
    "mint-08",
    "tomato-09",
    "aloe-10",
    "rosemary-11",
    "chili-12",
)

SILENT_DEVICE = "orchid-03"
"""The device that publishes nothing more after ``SILENT_AFTER_SECONDS``."""
SILENT_AFTER_SECONDS = 12.0

NONSENSE_DEVICE = "fern-04"
"""The device whose telemetry is ``NONSENSE`` in rotation; its heartbeat is sound."""

RETAINED_DEVICES = frozenset({"basil-01", "aloe-10"})
"""The devices that publish their heartbeat retained."""

NONSENSE: tuple[bytes, ...] = (
    b"moist enough, thanks",
    b'{"soil_moisture":41.5,"temperature":2',
    b'{"soil_moisture":NaN}',
    b"\xfe\xed\xfa\xce\x00\x80",
    b"\x1b[2J\x1b]0;all is well\x07 49 %",
    b"",
    b"[" * 1_500 + b"]" * 1_500,
    b'{"soil":{"moisture":41.5,"ph":6.4},"leaves":[12,14,9],"pests":null,"ok":true}',
)

# A day of ten minutes: whoever watches for one minute already sees light and temperature drift
_DAY_SECONDS = 600.0
_FIRMWARES = ("1.4.0", "1.4.2", "1.5.0")


class Publication(NamedTuple):
    """One message to be published.

    Attributes:
        topic: the topic name.
        payload: the payload.
        retain: True when the broker shall keep it for subscribers to come.
    """

    topic: str
    payload: bytes
    retain: bool


@dataclass(slots=True)
class _Timer:
    """When a plant publishes on one of its topics."""

    interval_seconds: float
    next_at_seconds: float


@dataclass(frozen=True, slots=True)
class _Sawtooth:
    """A value that falls steadily and is filled up again at the bottom: soil that dries, a battery in use."""

    top: float
    bottom: float
    fall_per_second: float
    start_seconds: float

    def at(self, seconds: float) -> float:
        period_seconds = (self.top - self.bottom) / self.fall_per_second
        return self.top - self.fall_per_second * ((self.start_seconds + seconds) % period_seconds)


class _Site:
    """Where a plant stands: the true values around it, drawn once."""

    def __init__(self, rng: random.Random) -> None:
        self._soil = _Sawtooth(
            top=rng.uniform(58, 74),
            bottom=rng.uniform(18, 30),
            fall_per_second=rng.uniform(0.03, 0.12),
            start_seconds=rng.uniform(0, 1_500),
        )
        self._battery = _Sawtooth(
            top=100, bottom=8, fall_per_second=rng.uniform(0.002, 0.006), start_seconds=rng.uniform(0, 20_000)
        )
        self._morning_seconds = rng.uniform(0.2, 0.3) * _DAY_SECONDS
        self._temperature = rng.uniform(18.5, 24)
        self._warming = rng.uniform(1.5, 4)
        self._humidity = rng.uniform(42, 64)
        self._noon_lux = rng.uniform(3_000, 18_000)

    def measure(self, rng: random.Random, *, at_seconds: float) -> dict[str, float]:
        """Read the sensors once, with their noise."""
        sun = math.sin(2 * math.pi * (at_seconds + self._morning_seconds) / _DAY_SECONDS)
        return {
            "soil_moisture": round(self._soil.at(at_seconds) + rng.gauss(0, 0.15), 1),
            "temperature": round(self._temperature + self._warming * sun + rng.gauss(0, 0.1), 1),
            "humidity": round(self._humidity - 2.5 * self._warming * sun + rng.gauss(0, 0.4), 1),
            "light": round(max(12.0, self._noon_lux * sun) * rng.uniform(0.97, 1.03)),
            "battery": round(self._battery.at(at_seconds), 1),
        }


class Plant:
    """One simulated device, with rhythm and readings of its own.

    Args:
        device_id: the id in its topics.
        rng: the generator that it alone draws from.
        is_retained: True when it publishes its heartbeat retained, and the first one at once.
        silent_after_seconds: when it falls silent for good.
        nonsense: telemetry payloads to send in rotation instead of readings; empty for a healthy device.
    """

    def __init__(
        self,
        device_id: str,
        rng: random.Random,
        *,
        is_retained: bool = False,
        silent_after_seconds: float = math.inf,
        nonsense: Iterable[bytes] = (),
    ) -> None:
        self.device_id = device_id
        self._rng = rng
        self._is_retained = is_retained
        self._silent_after_seconds = silent_after_seconds
        self._nonsense: Iterator[bytes] = itertools.cycle(nonsense)
        self._site = _Site(rng)
        self._booted_seconds = rng.randrange(60, 900_000)
        self._firmware = rng.choice(_FIRMWARES)
        self._sequence = itertools.count(1)
        self._telemetry = _timer(rng, 1.5, 3.0)
        self._heartbeat = _timer(rng, 4.0, 6.0)
        if is_retained:
            self._heartbeat.next_at_seconds = 0.0

    @property
    def next_at_seconds(self) -> float:
        """When it publishes next, in seconds since the start; infinity once it is silent."""
        earliest = min(self._telemetry.next_at_seconds, self._heartbeat.next_at_seconds)
        return earliest if earliest <= self._silent_after_seconds else math.inf

    def due(self, now_seconds: float) -> list[Publication]:
        """Take what it has to publish up to now, in order; a message is handed out once.

        Args:
            now_seconds: the time since the start.
        """
        found = []
        while self.next_at_seconds <= now_seconds:
            found.append(self._publish())
        return found

    def _publish(self) -> Publication:
        if self._telemetry.next_at_seconds <= self._heartbeat.next_at_seconds:
            payload = self._read(_advance(self._telemetry))
            return Publication(f"devices/{self.device_id}/telemetry", payload, retain=False)
        payload = self._beat(_advance(self._heartbeat))
        return Publication(f"devices/{self.device_id}/heartbeat", payload, retain=self._is_retained)

    def _read(self, at_seconds: float) -> bytes:
        readings = self._site.measure(self._rng, at_seconds=at_seconds)
        sound = _json({**readings, "seq": next(self._sequence), "firmware": self._firmware})
        return next(self._nonsense, sound)

    def _beat(self, at_seconds: float) -> bytes:
        return _json({"uptime_s": self._booted_seconds + int(at_seconds), "rssi": round(self._rng.gauss(-62, 4))})


def make_plants(rng: random.Random) -> tuple[Plant, ...]:
    """Make the dozen plants of the demo, among them one that falls silent and one that sends nonsense.

    Args:
        rng: the seeded generator that everything is drawn from.
    """
    return tuple(_make_plant(device_id, random.Random(rng.getrandbits(64))) for device_id in DEVICE_IDS)


def due(plants: Sequence[Plant], now_seconds: float) -> list[Publication]:
    """Take what all plants have to publish up to now, each in its own order.

    Args:
        plants: the fleet.
        now_seconds: the time since the start.
    """
    return [publication for plant in plants for publication in plant.due(now_seconds)]


def next_due(plants: Sequence[Plant]) -> float:
    """Tell when the next of the plants publishes, in seconds since the start; infinity when none ever will."""
    return min((plant.next_at_seconds for plant in plants), default=math.inf)


def _make_plant(device_id: str, rng: random.Random) -> Plant:
    return Plant(
        device_id,
        rng,
        is_retained=device_id in RETAINED_DEVICES,
        silent_after_seconds=SILENT_AFTER_SECONDS if device_id == SILENT_DEVICE else math.inf,
        nonsense=NONSENSE if device_id == NONSENSE_DEVICE else (),
    )


def _timer(rng: random.Random, shortest_seconds: float, longest_seconds: float) -> _Timer:
    interval_seconds = rng.uniform(shortest_seconds, longest_seconds)
    return _Timer(interval_seconds, rng.uniform(0, interval_seconds))


def _advance(timer: _Timer) -> float:
    at_seconds = timer.next_at_seconds
    timer.next_at_seconds += timer.interval_seconds
    return at_seconds


def _json(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()
