"""What a broker may be asked for, by what its CONNACK says (MQTT 5, 3.2.2.3). Pure."""

from collections.abc import Iterator, Mapping
from typing import cast

from plantops_cli.stream.packets import LONGEST_PACKET_BYTES, packet_bytes

PACKET_TOO_LARGE = 0x95
SHARED_NOT_SUPPORTED, WILDCARDS_NOT_SUPPORTED = 0x9E, 0xA2
"""What a broker would say to what it is not even asked for (MQTT 5, 3.9.3)."""

MOST_FILTERS = 8
"""How many filters go into one SUBSCRIBE: AWS IoT Core takes no more, and hangs up on what is longer."""

_SHARED = "$share/"
# before the filters: packet identifier, and length of the properties (MQTT 5, 3.8.2)
_HEADER_BYTES = 2 + 1
# of each filter: its length, and its options
_FILTER_BYTES = 2 + 1


def is_shared(topic_filter: str) -> bool:
    """Tell whether a filter, as the broker sees it, is that of a member of a group (MQTT 5, 4.8.2).

    Args:
        topic_filter: a topic filter.
    """
    return topic_filter.startswith(_SHARED)


def unavailable(
    filters: Mapping[str, int], granted: Mapping[str, object], *, is_sharing_trusted: bool = False
) -> dict[str, int]:
    """Return what the broker has said that it does not take, and the code with which it would refuse it.

    Args:
        filters: topic filters, and the QoS of each.
        granted: the properties of the CONNACK, by paho's names.
        is_sharing_trusted: whether it is to be asked for shared subscriptions whatever it says.
    """
    refusals = {name: _refusal(name, granted, is_sharing_trusted=is_sharing_trusted) for name in filters}
    return {name: code for name, code in refusals.items() if code}


def max_qos(granted: Mapping[str, object]) -> int:
    """Return the highest QoS that the broker takes and grants (MQTT 5, 3.2.2.3.4).

    Args:
        granted: the properties of the CONNACK, by paho's names.
    """
    return cast("int", granted.get("MaximumQoS", 2))


def max_packet_bytes(granted: Mapping[str, object]) -> int:
    """Return the longest packet that the broker takes (MQTT 5, 3.2.2.3.6).

    Args:
        granted: the properties of the CONNACK, by paho's names.
    """
    # 0 is nothing that a broker may say; taken at its word, nothing could be sent
    return cast("int", granted.get("MaximumPacketSize", 0)) or LONGEST_PACKET_BYTES


def in_packets(filters: Mapping[str, int], granted: Mapping[str, object]) -> Iterator[dict[str, int]]:
    """Share filters out among so many SUBSCRIBEs that the broker takes each.

    Args:
        filters: topic filters, and the QoS of each; none is longer than ``unavailable`` lets pass.
        granted: the properties of the CONNACK, by paho's names.
    """
    room = max_packet_bytes(granted)
    packet, size = dict[str, int](), _HEADER_BYTES
    for name, qos in filters.items():
        more = _size(name)
        if packet and (len(packet) == MOST_FILTERS or packet_bytes(size + more) > room):
            yield packet
            packet, size = {}, _HEADER_BYTES
        packet[name] = qos
        size += more
    yield packet


def _refusal(topic_filter: str, granted: Mapping[str, object], *, is_sharing_trusted: bool) -> int | None:
    if is_shared(topic_filter) and not is_sharing_trusted and not granted.get("SharedSubscriptionAvailable", 1):
        return SHARED_NOT_SUPPORTED
    # + and # stand nowhere else in a valid filter
    if not {"+", "#"}.isdisjoint(topic_filter) and not granted.get("WildcardSubscriptionAvailable", 1):
        return WILDCARDS_NOT_SUPPORTED
    return (
        PACKET_TOO_LARGE if packet_bytes(_HEADER_BYTES + _size(topic_filter)) > max_packet_bytes(granted) else None
    )


def _size(topic_filter: str) -> int:
    return _FILTER_BYTES + len(topic_filter.encode())
