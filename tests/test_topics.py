import pytest
from hypothesis import given
from hypothesis import strategies as st

from plantops_cli.errors import TopicError
from plantops_cli.topics import (
    KINDS,
    MAX_TOPIC_BYTES,
    Kind,
    check_filter,
    check_topic,
    device_topic,
    matches,
    parse_device_id,
    parse_topic,
)

IDS = st.text(st.characters(codec="utf-8", exclude_characters="/+#\0"), min_size=1)
# few letters, so that filters and topics often meet
LEVELS = st.sampled_from(["", "a", "b", "$a"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = st.builds(
    lambda levels, last: "/".join([*levels, *last]),
    st.lists(LEVELS | st.just("+"), min_size=0, max_size=4),
    st.sampled_from([["#"], ["+"], ["a"]]),
)
LONGEST_ID = "x" * (MAX_TOPIC_BYTES - len("devices//telemetry"))


def slow_matches(wanted: list[str], levels: list[str]) -> bool:
    """MQTT 5, 4.7.1, level by level."""
    if wanted == ["#"]:
        return True
    if not wanted or not levels:
        return wanted == levels
    if wanted[0] not in ("+", levels[0]):
        return False
    if not levels[1:] and wanted[1:] == ["#"]:
        return True
    if not levels[1:] or not wanted[1:]:
        return levels[1:] == wanted[1:]
    return slow_matches(wanted[1:], levels[1:])


@given(IDS, st.sampled_from(KINDS))
def test_every_device_topic_parses_to_what_it_was_made_of(device_id: str, kind: Kind) -> None:
    topic = f"devices/{device_id}/{kind}"
    assert parse_topic(topic) == device_topic(topic) == (device_id, kind)
    assert parse_device_id(topic) == device_id


@given(st.text() | TOPICS.map("devices/{}".format))
def test_what_parses_is_exactly_the_device_convention(topic: str) -> None:
    found = device_topic(topic)
    assert found is None or f"devices/{found.device_id}/{found.kind}" == check_topic(topic)


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("", "empty topic"),
        ("device/abc/telemetry", "does not begin with devices/"),
        ("/devices/abc/telemetry", "does not begin with devices/"),
        ("Devices/abc/telemetry", "does not begin with devices/"),
        ("devices/abc", "has 2 levels, not 3"),
        ("devices/abc/telemetry/", "has 4 levels, not 3"),
        ("devices//telemetry", "has an empty device id"),
        ("devices/abc/status", "ends in 'status'"),
        ("devices/abc/telemetry\n", "ends in"),
        ("devices/+/telemetry", "wildcard '[+]'"),
        ("devices/a#/heartbeat", "wildcard '#'"),
        ("devices/a\0b/heartbeat", "contains NUL"),
        ("devices/\ud800/heartbeat", "is not UTF-8"),
        (f"devices/{LONGEST_ID}x/telemetry", "has 65,536 bytes; MQTT allows 65,535"),
        (f"devices/{'ü' * 40_000}/telemetry", "bytes; MQTT allows 65,535"),
    ],
)
def test_any_other_topic_is_refused_with_the_rule(topic: str, reason: str) -> None:
    with pytest.raises(TopicError, match=reason):
        parse_topic(topic)
    assert device_topic(topic) is None


def test_the_longest_topic_of_mqtt_is_allowed() -> None:
    assert parse_device_id(f"devices/{LONGEST_ID}/telemetry") == LONGEST_ID


def test_a_refused_topic_is_quoted_short_and_without_control_characters() -> None:
    with pytest.raises(TopicError) as refused:
        parse_topic("\x1b[2J\u202e" + "ü" * 10_000)
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("topic", ["a", "/", "a//b", "$SYS/x", " ", "a\nb", "日本"])
def test_mqtt_allows_these_topic_names(topic: str) -> None:
    assert check_topic(topic) == topic


@pytest.mark.parametrize("topic", ["", "a/+", "a#", "\0", "\udc80", "x" * 65_536])
def test_mqtt_rules_out_these_topic_names(topic: str) -> None:
    with pytest.raises(TopicError):
        check_topic(topic)


@pytest.mark.parametrize(
    "topic_filter", ["#", "+", "/", "a/#", "+/+/#", "/+", "a//b", "$SYS/#", "$share/g/a/#", "$share/g//a"]
)
def test_mqtt_allows_these_filters(topic_filter: str) -> None:
    assert check_filter(topic_filter) == topic_filter


@pytest.mark.parametrize(
    "topic_filter",
    [
        "",
        "a#",
        "a/#/b",
        "#/a",
        "a+",
        "+a/b",
        "devices/+bad/x",
        "a\0",
        "\ud800",
        "$share/g",
        "$share/",
        "$share/g/",
        "$share//a",
        "$share/+/a",
        "$share/g/a#",
    ],
)
def test_mqtt_rules_out_these_filters(topic_filter: str) -> None:
    with pytest.raises(TopicError):
        check_filter(topic_filter)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("#", "sport/tennis"),
        ("sport/+", "sport/"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("$SYS/#", "$SYS/broker"),
        ("$SYS/monitor/+", "$SYS/monitor/Clients"),
        ("$share/g/devices/+/telemetry", "devices/abc/telemetry"),
        ("$share/g//a", "/a"),
    ],
)
def test_the_standards_own_examples_match(topic_filter: str, topic: str) -> None:
    assert matches(topic_filter, topic)


@pytest.mark.parametrize(
    ("topic_filter", "topic"),
    [
        ("sport/+", "sport"),
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("+", "/finance"),
        ("#", "$SYS/broker"),
        ("+/monitor/Clients", "$SYS/monitor/Clients"),
        ("$share/g/#", "$SYS/broker"),
        ("sport", "Sport"),
        ("sport/tennis/#", "sport"),
    ],
)
def test_the_standards_own_counterexamples_do_not_match(topic_filter: str, topic: str) -> None:
    assert not matches(topic_filter, topic)


@given(FILTERS, TOPICS)
def test_matching_agrees_with_a_slow_reading_of_the_standard(topic_filter: str, topic: str) -> None:
    is_hidden = topic.startswith("$") and topic_filter[0] in "+#"
    expected = not is_hidden and slow_matches(topic_filter.split("/"), topic.split("/"))
    assert matches(topic_filter, topic) == expected
    assert matches(f"$share/group/{topic_filter}", topic) == expected


@given(TOPICS)
def test_a_topic_is_a_filter_that_matches_itself_alone(topic: str) -> None:
    assert matches(check_filter(topic), check_topic(topic))
    assert not matches(topic, f"{topic}x")
