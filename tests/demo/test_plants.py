import itertools
import json
import math
import random

import pytest

from plantops_cli.demo.plants import (
    DEVICE_IDS,
    NONSENSE,
    NONSENSE_DEVICE,
    RETAINED_DEVICES,
    SILENT_AFTER_SECONDS,
    SILENT_DEVICE,
    Publication,
    due,
    make_plants,
    next_due,
)
from plantops_cli.messages import decode_payload
from plantops_cli.topics import parse_topic

HOUR = 3_600.0
RANGES = {
    "soil_moisture": (15, 80),
    "temperature": (10, 35),
    "humidity": (20, 90),
    "light": (0, 25_000),
    "battery": (0, 100),
}


def first(seconds: float, *, seed: int = 7) -> list[Publication]:
    return due(make_plants(random.Random(seed)), seconds)


def of(publications: list[Publication], device_id: str, kind: str) -> list[Publication]:
    return [found for found in publications if found.topic == f"devices/{device_id}/{kind}"]


def readings(seed: int = 7) -> list[dict[str, float]]:
    sound = (found for found in first(HOUR, seed=seed) if found.topic.endswith("/telemetry"))
    return [json.loads(found.payload) for found in sound if NONSENSE_DEVICE not in found.topic]


def test_every_topic_is_a_device_topic_of_the_fleet() -> None:
    assert {parse_topic(found.topic).device_id for found in first(60)} == set(DEVICE_IDS)


def test_a_seed_gives_the_same_hour_again() -> None:
    assert first(HOUR, seed=3) == first(HOUR, seed=3) != first(HOUR, seed=4)


def test_what_is_published_does_not_depend_on_how_often_one_asks() -> None:
    plants = make_plants(random.Random(7))
    asked_often = [found for tick in range(601) for found in due(plants, tick / 10)]
    assert sorted(asked_often) == sorted(first(60))


@pytest.mark.parametrize("seed", range(5))
def test_readings_stay_in_range_for_an_hour(seed: int) -> None:
    for reading in readings(seed):
        assert all(low <= reading[name] <= high for name, (low, high) in RANGES.items()), reading


def test_telemetry_is_a_compact_line_with_the_same_keys_in_the_same_order() -> None:
    payloads = [found.payload for found in first(60) if b"firmware" in found.payload]
    assert all(100 <= len(payload) <= 160 for payload in payloads)
    assert {tuple(json.loads(payload)) for payload in payloads} == {(*RANGES, "seq", "firmware")}


def test_readings_drift_and_do_not_jump() -> None:
    basil = [json.loads(found.payload) for found in of(first(120), "basil-01", "telemetry")]
    steps = [abs(later["temperature"] - earlier["temperature"]) for earlier, later in itertools.pairwise(basil)]
    assert max(steps) < 1 < len({reading["temperature"] for reading in basil})


def test_soil_dries_and_is_watered_within_an_hour() -> None:
    moisture = [json.loads(found.payload)["soil_moisture"] for found in of(first(HOUR), "mint-08", "telemetry")]
    steps = [later - earlier for earlier, later in itertools.pairwise(moisture)]
    assert sum(step < 0 for step in steps) > len(steps) / 2
    assert max(steps) > 20


def test_sequence_numbers_have_no_gap() -> None:
    numbers = [json.loads(found.payload)["seq"] for found in of(first(60), "basil-01", "telemetry")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_first_message_comes_at_once() -> None:
    assert next_due(make_plants(random.Random(7))) == 0
    assert len(first(0)) == len(RETAINED_DEVICES)


def test_a_second_never_passes_in_silence() -> None:
    plants = make_plants(random.Random(7))
    assert all(due(plants, second) for second in range(60))


@pytest.mark.parametrize("kind", ["telemetry", "heartbeat"])
def test_the_silent_device_speaks_and_then_never_again(kind: str) -> None:
    assert of(first(SILENT_AFTER_SECONDS), SILENT_DEVICE, kind)
    assert of(first(HOUR), SILENT_DEVICE, kind) == of(first(SILENT_AFTER_SECONDS), SILENT_DEVICE, kind)


def test_a_silent_plant_is_never_due_again() -> None:
    (silent,) = (plant for plant in make_plants(random.Random(7)) if plant.device_id == SILENT_DEVICE)
    silent.due(HOUR)
    assert silent.next_at_seconds == math.inf
    assert next_due([silent]) == next_due([]) == math.inf


def test_nonsense_comes_in_rotation() -> None:
    payloads = [found.payload for found in of(first(60), NONSENSE_DEVICE, "telemetry")]
    assert payloads[: 2 * len(NONSENSE)] == [*NONSENSE, *NONSENSE]


def test_nonsense_holds_every_way_not_to_be_json_and_one_that_is() -> None:
    forms = [decode_payload(payload).form for payload in NONSENSE]
    assert (forms.count("binary"), forms.count("json")) == (1, 1)
    assert any(b"\x1b" in payload for payload in NONSENSE)


def test_the_nonsense_device_keeps_a_sound_heartbeat() -> None:
    for found in of(first(60), NONSENSE_DEVICE, "heartbeat"):
        assert set(json.loads(found.payload)) == {"uptime_s", "rssi"}


def test_only_heartbeats_of_some_devices_are_retained() -> None:
    retained = {parse_topic(found.topic) for found in first(60) if found.retain}
    assert retained == {(device_id, "heartbeat") for device_id in RETAINED_DEVICES}


def test_uptime_counts_seconds() -> None:
    uptimes = [json.loads(found.payload)["uptime_s"] for found in of(first(60), "basil-01", "heartbeat")]
    assert 40 <= uptimes[-1] - uptimes[0] <= 60
