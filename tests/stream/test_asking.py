"""What a broker may be asked for, by what its CONNACK says."""

import pytest

from plantops_cli.stream.asking import (
    MOST_FILTERS,
    in_packets,
    is_shared,
    max_packet_bytes,
    max_qos,
    unavailable,
)
from plantops_cli.stream.packets import LONGEST_PACKET_BYTES

SHARED, WILD, PLAIN = "$share/g/devices/a/telemetry", "devices/+/telemetry", "devices/a/telemetry"


@pytest.mark.parametrize(
    ("granted", "refused"),
    [
        ({}, {}),
        ({"SharedSubscriptionAvailable": 1, "WildcardSubscriptionAvailable": 1}, {}),
        ({"SharedSubscriptionAvailable": 0}, {SHARED: 0x9E}),
        ({"WildcardSubscriptionAvailable": 0}, {WILD: 0xA2}),
        ({"MaximumPacketSize": 30}, {SHARED: 0x95}),
    ],
)
def test_what_a_broker_has_said_that_it_does_not_take_is_found(
    granted: dict[str, object], refused: dict[str, int]
) -> None:
    assert unavailable(dict.fromkeys((SHARED, WILD, PLAIN), 1), granted) == refused


def test_a_broker_that_is_trusted_to_share_is_asked_whatever_it_says() -> None:
    granted = {"SharedSubscriptionAvailable": 0}
    assert unavailable({SHARED: 1}, granted, is_sharing_trusted=True) == {}


def test_a_shared_filter_is_told_from_its_first_level() -> None:
    assert is_shared("$share/g/a")
    assert not is_shared("$shared/g/a")
    assert not is_shared("a/$share/g")


@pytest.mark.parametrize(("count", "sizes"), [(1, [1]), (8, [8]), (9, [8, 1]), (20, [8, 8, 4])])
def test_no_subscribe_holds_more_filters_than_some_brokers_take(count: int, sizes: list[int]) -> None:
    filters = {f"a/{number}": number % 3 for number in range(count)}
    packets = list(in_packets(filters, {}))
    assert [len(packet) for packet in packets] == sizes
    assert max(sizes) <= MOST_FILTERS
    assert {name: qos for packet in packets for name, qos in packet.items()} == filters


@pytest.mark.parametrize("room", [34, 35, 56, 57, 300])
def test_no_subscribe_is_longer_than_the_broker_takes_and_none_shorter_than_need_be(room: int) -> None:
    # of 21 bytes each, behind 5 of the packet, or 6 of a long one
    filters = {f"devices/{number:010}": 1 for number in range(MOST_FILTERS)}
    assert {len(name) + 3 for name in filters} == {21}
    packets = list(in_packets(filters, {"MaximumPacketSize": room}))
    sizes = [5 + 21 * len(packet) + (5 + 21 * len(packet) - 2 >= 128) for packet in packets]
    assert max(sizes) <= room
    assert len(packets[0]) == min(MOST_FILTERS, (room - 5) // 21)


def test_a_filter_that_just_fits_is_asked_for() -> None:
    name = "devices/0123456789"
    assert unavailable({name: 1}, {"MaximumPacketSize": 5 + 21}) == {}
    assert unavailable({name: 1}, {"MaximumPacketSize": 5 + 20}) == {name: 0x95}


def test_without_a_word_a_broker_takes_all() -> None:
    assert max_qos({}) == 2
    assert max_packet_bytes({}) == LONGEST_PACKET_BYTES
    assert max_packet_bytes({"MaximumPacketSize": 0}) == LONGEST_PACKET_BYTES
    assert (max_qos({"MaximumQoS": 0}), max_packet_bytes({"MaximumPacketSize": 99})) == (0, 99)
