from keyword import kwlist

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
    parse_pattern,
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
NAMES = st.from_regex(r"[a-z_][a-z0-9_]*", fullmatch=True).filter(lambda name: name not in kwlist)
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


@given(FILTERS)
def test_a_filter_without_braces_is_a_pattern_without_names(topic_filter: str) -> None:
    pattern = parse_pattern(topic_filter)
    assert (pattern.text, pattern.topic_filter, pattern.names) == (topic_filter, topic_filter, ())
    assert pattern.captures("any/topic") == {}


@given(st.dictionaries(NAMES, IDS, min_size=1), st.booleans(), st.data())
def test_what_a_pattern_captures_is_what_stands_where_it_has_the_name(
    values: dict[str, str], is_shared: bool, data: st.DataObject
) -> None:
    order = data.draw(st.permutations([*values, None, None]))
    text = "/".join("dull" if name is None else f"{{{name}}}" for name in order)
    topic = "/".join("dull" if name is None else values[name] for name in order)
    pattern = parse_pattern(f"$share/group/{text}" if is_shared else text)
    assert pattern.names == tuple(name for name in order if name is not None)
    assert pattern.captures(topic) == values
    assert matches(check_filter(pattern.topic_filter), topic) != (topic[0] == "$" and order[0] is not None)


@given(st.text() | st.text("{}a/+#$"))
def test_any_text_is_a_pattern_of_a_valid_filter_or_refused(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except TopicError:
        return
    assert check_filter(pattern.topic_filter).count("+") == text.count("+") + len(pattern.names)


@pytest.mark.parametrize(
    ("text", "topic_filter", "topic", "captures"),
    [
        ("devices/{device_id}/telemetry", "devices/+/telemetry", "devices/abc/telemetry", {"device_id": "abc"}),
        ("{site}/+/{room}/#", "+/+/+/#", "a/b/c/d/e", {"site": "a", "room": "c"}),
        ("{site}/#", "+/#", "a", {"site": "a"}),
        ("$share/g/{x}", "$share/g/+", "a", {"x": "a"}),
        ("$share/g//{x}/$share", "$share/g//+/$share", "/a/$share", {"x": "a"}),
        ("{x}/a", "+/a", "/a", {"x": ""}),
        ("{match}/{größe}", "+/+", "a/b", {"match": "a", "größe": "b"}),
        # Python reads a parameter that is written with the micro sign as one with the Greek letter
        ("{\u00b5}", "+", "a", {"\u03bc": "a"}),
    ],
)
def test_a_name_in_braces_captures_one_level(
    text: str, topic_filter: str, topic: str, captures: dict[str, str]
) -> None:
    pattern = parse_pattern(text)
    assert pattern.topic_filter == topic_filter
    assert matches(pattern.topic_filter, topic)
    assert pattern.captures(topic) == captures


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a/{}/b", "braces hold no name"),
        ("{class}", "'class' is a keyword of Python"),
        ("{device-id}", "'device-id' is no Python identifier"),
        ("{1st}", "'1st' is no Python identifier"),
        ("{ x }", "no Python identifier"),
        ("{\u202ex}", r"'\\u202ex' is no Python identifier"),
        ("a/{x}/{x}", "'x' is there more than once"),
        ("{\u00b5}/{\u03bc}", "is there more than once"),
        ("a/dev-{x}/b", "must be a whole level, not part of 'dev-{x}'"),
        ("{x}{y}", "must be a whole level"),
        ("{{x}}", "must be a whole level"),
        ("{x", "must be a whole level"),
        ("x}", "must be a whole level"),
        ("}x{", "must be a whole level"),
        ("{", "must be a whole level"),
        ("{x/y}", "must be a whole level"),
        ("$share/{group}/a", "a group cannot be captured"),
        ("{x}/a#", "'#' must be the whole last level"),
        ("{a+b}", "'[+]' must be a whole level"),
        ("", "empty topic filter"),
        ("$share/g", "GROUP/FILTER"),
    ],
)
def test_a_pattern_that_names_no_whole_levels_is_refused_with_the_rule(text: str, reason: str) -> None:
    with pytest.raises(TopicError, match=reason) as refused:
        parse_pattern(text)
    assert str(refused.value).isascii()
    assert refused.value.hint or not text
